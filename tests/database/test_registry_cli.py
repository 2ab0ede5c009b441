"""The registry's commands: what they print, change and refuse, with their exit codes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dsa110_contimg.database import cli
from dsa110_contimg.database.data_registry import (
    finalize_data,
    get_data,
    list_data,
    list_links,
    list_tags,
    publish_data_instance,
)
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.errors import PublishError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

FIELDS = {"data_id", "data_type", "status", "blockers", "qa_status", "publish_error", "published_path", "retry_at"}


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line of an error."""
        assert (self.out, self.err.count("\n")) == ("", 1), self
        return self.err


class Commands(NamedTuple):
    """Runs commands on one registry."""

    registry: Registry
    capsys: pytest.CaptureFixture[str]

    def __call__(self, command: str, *words: str | Path) -> Answer:
        self.capsys.readouterr()
        database = self.registry.root / "state" / "data_registry.sqlite3"
        code = cli.main([command, "--db", str(database), *map(str, words)])
        return Answer(code, *self.capsys.readouterr())


@pytest.fixture
def run(registry_file: Registry, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(registry_file, capsys)


def test_as_the_specification_prints_them(run: Commands, registry_file: Registry) -> None:
    registry_file.add()
    shown = run("status", "--data-id", "m1")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("m1: staging mosaic\n")
    assert "[ ] QA           pending" in shown.out
    base = ("--products-base", str(registry_file.root / "archive"))
    published = run("publish", "--data-id", "m1", *base, "--json")
    path = Path(published.json["published_path"])
    assert path == registry_file.root / "archive" / "mosaics" / "m1.fits"
    assert path.exists()


def test_show_prints_exactly_the_report(run: Commands, registry_file: Registry) -> None:
    registry_file.add()
    report = describe_product(registry_file.conn, "m1")
    assert run("show", "m1", "--json").json == report
    assert run("status", "--data-id=m1", "--json").json == report
    assert run("show", "m1").out == run("status", "--data-id", "m1").out


def test_list_and_its_filters(run: Commands, registry_file: Registry) -> None:
    for name in ("m1", "m2", "m3"):
        registry_file.add(name)
    run("publish", "m1")
    run("tag", "m2", "paper1")
    assert [row["data_id"] for row in run("list", "--json").json] == ["m1", "m2", "m3"]
    assert [row["data_id"] for row in run("list", "--status", "published", "--json").json] == ["m1"]
    assert [row["data_id"] for row in run("list", "--tag", "paper1", "--json").json] == ["m2"]
    assert run("list", "--type", "image").out == "nothing\n"
    (entry,) = run("list", "--status", "published", "--json").json
    assert entry.keys() >= FIELDS
    assert entry["blockers"] == []
    lines = run("list").out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["product", "type", "status"],
        ["m1", "mosaic", "published"],
        ["m2", "mosaic", "staging"],
        ["m3", "mosaic", "staging"],
    ]
    assert "QA is 'pending', not 'passed'" in lines[2], "a reason is not cut where there is no terminal"
    assert "'film' is no data type" in run("list", "--type", "film").sentence


def test_a_warning_needs_a_signature(run: Commands, registry_file: Registry) -> None:
    source = registry_file.add()
    finalize_data(registry_file.conn, "m1", "warning", "validated", roots=registry_file.roots)
    refused = run("publish", "m1")
    assert refused.code == 1
    assert "its QA is 'warning': say who wants it and why" in refused.sentence
    assert source.exists()
    signed = run("publish", "m1", "--by", "ana", "--reason", "calibrator field", "--mode", "copy")
    assert signed.code == 0
    assert "publication: ana, " in signed.out
    assert "although its QA is 'warning': calibrator field" in signed.out
    assert source.exists()


def failing(registry: Registry, data_id: str) -> tuple[Path, bytes]:
    """Let the publication of a product that passed everything fail."""
    source = registry.add(data_id)
    content = source.read_bytes()
    source.unlink()
    registry.sql(
        "UPDATE data_registry SET qa_status = 'passed', validation_status = 'validated',"
        " finalization_status = 'finalized' WHERE data_id = ?",
        data_id,
    )
    with pytest.raises(PublishError):
        publish_data_instance(registry.conn, data_id, mode="copy", roots=registry.roots)
    return source, content


def test_retry_one(run: Commands, registry_file: Registry) -> None:
    registry_file.add("whole")
    assert "whole is staging, not failed: there is nothing to retry" in run("retry", "whole").sentence
    source, content = failing(registry_file, "m1")
    refused = run("retry", "--data-id", "m1")
    assert refused.code == 1
    assert refused.sentence.startswith(f"error: {source} does not exist")
    shown = run("show", "m1").out
    assert "2 failed; after 3 none is made by itself" in shown
    assert "it is tried again by itself after" in shown
    source.write_bytes(content)
    assert run("retry", "m1").code == 0
    row = get_data(registry_file.conn, "m1")
    assert (row.status, row.publish_attempts, row.publish_mode) == ("published", 2, "copy")


def test_retry_with_reset_counts_anew(run: Commands, registry_file: Registry) -> None:
    failing(registry_file, "m1")
    registry_file.sql("UPDATE data_registry SET publish_attempts = 7")
    assert run("retry", "m1", "--reset").code == 1
    row = get_data(registry_file.conn, "m1")
    assert (row.status, row.publish_attempts) == ("failed", 1)


def test_retry_all(run: Commands, registry_file: Registry) -> None:
    assert run("retry", "--all") == Answer(0, "nothing\n", "")
    sources = dict(failing(registry_file, name) for name in ("m1", "m2", "m3"))
    registry_file.sql("UPDATE data_registry SET publish_attempts = 3 WHERE data_id = 'm3'")
    first, *others = sources
    first.write_bytes(sources[first])
    assert run("retry", "--all").code == 1
    assert {row.data_id: (row.status, row.publish_attempts) for row in list_data(registry_file.conn)} == {
        "m1": ("published", 1),
        "m2": ("failed", 2),
        "m3": ("failed", 3),
    }
    for source in others:
        source.write_bytes(sources[source])
    answer = run("retry", "--all", "--reset", "--json")
    assert answer.code == 0
    assert [(row["data_id"], row["status"], row["publish_attempts"]) for row in answer.json] == [
        ("m2", "published", 0),
        ("m3", "published", 0),
    ]


def test_recover_finishes_what_a_crash_left(run: Commands, registry_file: Registry) -> None:
    registry_file.add()
    assert run("recover") == Answer(0, "nothing\n", "")
    registry_file.sql("UPDATE data_registry SET status = 'publishing', attempt = 1, owner = 'elsewhere:1:1'")
    (done,) = run("recover", "--json").json
    assert (done["data_id"], done["status"]) == ("m1", "published")


def test_verify_tells_what_is_wrong(run: Commands, registry_file: Registry) -> None:
    for name in ("m1", "m2"):
        registry_file.add(name)
        run("publish", name)
    sound = run("verify")
    assert (sound.code, sound.out) == (
        0,
        "2 sound, 0 retracted and sound, 0 changed, 0 missing, 0 unverified, 0 unknown\n",
    )
    path = Path(get_data(registry_file.conn, "m1").published_path or "")
    path.chmod(0o644)
    path.write_bytes(b"another content")
    wrong = run("verify")
    assert wrong.code == 1
    assert f"changed: {path} of product m1 is not what was published" in wrong.out
    report = run("verify", "--json")
    assert (report.code, report.json["intact"], len(report.json["sound"])) == (1, False, 1)
    registry_file.sql("UPDATE data_registry SET published_at = 1.0 WHERE data_id = 'm1'")
    assert run("verify", "--since", "2020-01-01").code == 0
    assert run("verify", "--since", "yesterday").code == 2


def test_tag_and_link(run: Commands, registry_file: Registry) -> None:
    for name in ("m1", "m2"):
        registry_file.add(name)
    assert run("tag", "m1", "paper1", "--json").json["tags"] == ["paper1"]
    assert run("tag", "m1", "paper1", "--remove").code == 0
    assert list_tags(registry_file.conn, "m1") == []
    assert "m1 has no tag 'paper1'" in run("tag", "m1", "paper1", "--remove").sentence
    assert "replaces m1" in run("link", "m1", "m2", "supersedes").out
    assert list_links(registry_file.conn, "m1") == [("m1", "m2", "supersedes")]
    assert "m1 comes from" not in run("show", "m1").out
    assert "m2 comes from m1 itself" in run("link", "m2", "m1", "derived_from").sentence
    assert run("link", "m1", "m2", "inspires").code == 2


def test_provenance_is_a_document(run: Commands, registry_file: Registry, tmp_path: Path) -> None:
    registry_file.add()
    printed = run("provenance", "m1").json
    assert "dsa110:product/m1" in printed["entity"]
    out = tmp_path / "provenance.json"
    assert run("provenance", "m1", "--out", out).out == f"{out}\n"
    assert json.loads(out.read_text(encoding="utf-8")) == printed
    assert str(tmp_path / "no") in run("provenance", "m1", "--out", tmp_path / "no" / "x.json").sentence


@pytest.mark.parametrize(
    "words",
    [
        ("show", "m9"),
        ("publish", "m9"),
        ("retry", "m9"),
        ("tag", "m9", "x"),
        ("link", "m9", "m1", "supersedes"),
        ("provenance", "m9"),
    ],
    ids=" ".join,
)
def test_an_unknown_product_is_one_sentence(run: Commands, registry_file: Registry, words: tuple[str, ...]) -> None:
    registry_file.add()
    before = list_data(registry_file.conn)
    answer = run(*words)
    assert answer.code == 1
    assert answer.sentence == "error: there is no product 'm9' in the registry: see `contimg registry list`\n"
    assert list_data(registry_file.conn) == before


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("show",),
        ("explode",),
        ("list", "--colour", "red"),
        ("list", "--status", "nowhere"),
        ("publish", "m1", "--mode", "teleport"),
        ("retry",),
        ("retry", "m1", "--all"),
        ("status", "--data-id"),
    ],
    ids=" ".join,
)
def test_wrong_usage(words: tuple[str, ...], root: Path) -> None:
    assert cli.main(words) == 2
    assert list(root.iterdir()) == []


def test_a_registry_that_is_missing_or_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite3"
    assert cli.main(["list", "--db", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"error: registry {path} does not exist: name it with --db, or run `contimg init`\n"
    )
    assert not path.exists()
    path.write_bytes(b"no database" * 1000)
    assert cli.main(["list", "--db", str(path)]) == 1
    assert "is not a SQLite database" in capsys.readouterr().err


def test_on_a_server(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.add()
    assert cli.main(["list", "--status", "staging", "--json"]) == 0
    assert [row["data_id"] for row in json.loads(capsys.readouterr().out)] == ["m1"]
    for words in (["publish", "m1"], ["tag", "m1", "x"], ["verify"], ["recover"], ["show", "m1"]):
        assert cli.main(words) == 0, capsys.readouterr().err
    assert get_data(registry.conn, "m1").status == "published"


def test_as_a_module(registry_file: Registry) -> None:
    registry_file.add()
    database = registry_file.root / "state" / "data_registry.sqlite3"
    command = [sys.executable, "-m", "dsa110_contimg.database.cli", "publish", "--db", str(database)]
    done = subprocess.run([*command, "--data-id", "m1"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("m1: published mosaic\n")
    with closing(sqlite3.connect(database)) as conn:
        assert conn.execute("SELECT status FROM data_registry").fetchall() == [("published",)]
    again = subprocess.run([*command, "--data-id", "m2"], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.count("\n") == 1
