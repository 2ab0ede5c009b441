"""backup, restore, clean and doctor, as a person uses them."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dsa110_contimg.cli import main as cli_main
from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database.session import database_path
from dsa110_contimg.housekeeping import presence


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Contimg = Callable[..., Result]


@pytest.fixture
def contimg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Contimg]:
    """Run a command in this process, as its console script does."""
    handlers = list(logging.root.handlers)

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["contimg", *(str(word) for word in words)])
        code: object = 0
        try:
            cli_main.main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return Result(code, captured.out, captured.err)

    yield call
    logging.root.handlers[:] = handlers


def one_sentence(result: Result, *parts: object) -> None:
    assert result.code == 1
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert [part for part in parts if str(part) not in result.err] == [], result.err


def test_the_doctor_of_nothing_says_what_to_do_and_makes_nothing(contimg: Contimg, root: Path) -> None:
    ended = contimg("doctor", "--json")
    told = {line["name"]: line for line in json.loads(ended.out)}
    assert ended.code == 1
    for name in DATABASES:
        assert told[f"database {name}"]["grade"] == "error"
        assert "contimg init" in told[f"database {name}"]["way_out"]
    assert list(root.iterdir()) == []
    lines = contimg("doctor").out.splitlines()
    assert len(lines) == len(told) + 1, "two folders hold databases, under one name"
    assert all(line.split()[0] in ("ok", "warning", "error") for line in lines)


def test_a_damaged_database_is_restored(contimg: Contimg, house: Path) -> None:
    (made,) = json.loads(contimg("backup", "--json").out)
    assert {copy["database"] for copy in made["copies"]} == set(DATABASES)
    name = Path(made["folder"]).name
    assert contimg("backup", "--list").out.startswith(made["folder"])
    assert [item["folder"] for item in json.loads(contimg("backup", "--list", "--json").out)] == [made["folder"]]
    database_path("products").write_bytes(b"damaged" * 1000)
    one_sentence(contimg("backup", "--to", house / "other"), database_path("products"))
    assert contimg("backup", "--to", house / "other", "--list").out == "no backups\n"
    with presence.running(Settings()):
        one_sentence(contimg("restore", name, "--yes"), "a pipeline runs", "--force")
    one_sentence(contimg("restore", "nosuch", "--yes"), "contimg backup --list")
    one_sentence(contimg("restore", name, "--yes", "--database", "nosuch"), "nosuch")
    ended = contimg("restore", name, "--database", "products", "--yes")
    assert ended.code == 0, ended.err
    assert f"restored products from {made['folder']}" in ended.out
    assert "a damaged file was set aside" in ended.out
    assert ended.out.endswith("now run `contimg init`, then start the pipeline again\n")
    done = json.loads(contimg("restore", made["folder"], "--database", "hdf5", "--yes", "--json").out)
    assert done["databases"] == ["hdf5"]
    assert Path(done["before"]).is_dir()


def test_without_an_answer_nothing_is_restored(
    contimg: Contimg, house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert house.exists()
    (made,) = json.loads(contimg("backup", "--json").out)
    before = database_path("products").read_bytes()
    monkeypatch.setattr("typer.confirm", lambda *_words, **_options: sys.exit(1))
    assert contimg("restore", made["folder"]).code == 1
    assert database_path("products").read_bytes() == before
    assert capsys.readouterr().out == ""


def test_clean_says_what_it_would_do(contimg: Contimg, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_MIN_FREE_GB", "0")
    (house / "stage" / "images").mkdir(parents=True)
    stranger = house / "stage" / "images" / "thesis.fits"
    stranger.write_text("mine")
    (house / "state" / "logs").mkdir()
    old = house / "state" / "logs" / "contimg.jsonl.1"
    old.write_text("line\n")
    ended = contimg("clean", "--dry-run", "--log-days", "0")
    assert ended.code == 0
    assert "logs" in ended.out
    assert f"unknown: 1 file that no row names, which stay: {stranger}" in ended.out
    assert old.exists()
    told = json.loads(contimg("clean", "--log-days", "0", "--json").out)
    assert [item["path"] for item in told["removed"]] == [str(old)]
    assert (told["dry_run"], told["failed"], told["unknown"]) == (False, {}, [str(stranger)])
    assert not old.exists()
    assert stranger.exists()
    assert contimg("clean").out.startswith("nothing may go")
    assert contimg("clean", "--ms-days", "many").code == 2
    assert contimg("clean", "--keep-days", "-1").code == 2
