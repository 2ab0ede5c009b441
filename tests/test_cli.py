"""The command line: versions, help, examples that work, and errors of one sentence with the right exit code."""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from tests.commands import COMMANDS, parse_call

from dsa110_contimg import __version__
from dsa110_contimg.cli import main as cli_main
from dsa110_contimg.database.session import reset_engines
from dsa110_contimg.monitoring.logs import configure_logs

CATALOG = "name,ra_deg,dec_deg,flux_jy,flux_err_jy\nA,24.4,33.1,1.0,0.03\nB,25.0,33.2,0.2,0.006\n"


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Contimg = Callable[..., Result]


@pytest.fixture
def contimg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Contimg]:
    """Run the command in this process, as its console script does; an exception that escapes fails the test."""

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
    configure_logs(None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root of its own for folders and databases."""
    reset_engines()
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / "root"))
    yield tmp_path / "root"
    reset_engines()


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Take back the handlers that a command adds."""
    before, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = before, level


def one_sentence(result: Result, *parts: object) -> str:
    """Return the single line that a command printed as its error, after checking that it names all the parts."""
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.strip()]
    if result.code == 2:
        lines = [line for line in lines if line.startswith("Error: ")]
    assert len(lines) == 1, result.err
    for part in parts:
        assert str(part) in lines[0], f"{part!r} is not named in {lines[0]!r}"
    return lines[0]


def test_the_version_is_printed(contimg: Contimg) -> None:
    assert contimg("--version") == Result(0, f"contimg {__version__}\n", "")


def test_the_installed_command_works_as_a_process(root: Path) -> None:
    program = Path(sys.executable).with_name("contimg")
    missing = root / "missing.csv"
    done = subprocess.run([program, "catalog", "import", "csv", missing], capture_output=True, text=True, check=False)
    one_sentence(Result(done.returncode, done.stdout, done.stderr), missing)
    assert done.returncode == 1


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_parses_and_explains_every_option(words: tuple[str, ...], contimg: Contimg) -> None:
    shown = contimg(*words, "--help")
    assert shown.code == 0
    assert "Example: " in shown.out
    example = re.search(r"^Example: (.+)$", COMMANDS[words].help or "", re.M)
    assert example, "the example belongs on a line of its own"
    call = [word for word in shlex.split(example[1]) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    assert call[0] == "contimg"
    assert tuple(call[1 : 1 + len(words)]) == words, "the example is one of this command"
    parse_call(call[1:])
    assert [p.name for p in COMMANDS[words].params if p.name != "help" and not p.help] == []


def test_help_of_the_whole_names_every_command(contimg: Contimg) -> None:
    shown = contimg("--help").out
    assert [words[0] for words in COMMANDS if words[0] not in shown] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_wrong_usage(words: tuple[str, ...], contimg: Contimg) -> None:
    result = contimg(*words, "--nosuch")
    assert result.code == 2
    one_sentence(result, "--nosuch")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("nosuch",), ("nosuch",)),
        (("run", "--workers", "0"), ("--workers", "1")),
        (("run", "--once", "--overlap", "12"), ("--overlap", "12", "10")),
        (("run", "--tiles", "many"), ("--tiles", "integer")),
        (("image",), ("ms",)),
        (("catalog", "import", "nosuch", "x.csv"), ("nosuch", "nvss", "csv")),
        (("simulate", "out", "--days", "1,x"), ("--days", "1,x")),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_usage_is_one_sentence(
    words: tuple[str, ...], parts: tuple[str, ...], contimg: Contimg, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    result = contimg(*words)
    assert result.code == 2
    sentence = one_sentence(result)
    assert [part for part in parts if part.lower() not in sentence.lower()] == []
    assert not root.exists()


def test_init_can_be_repeated_and_says_what_it_made(contimg: Contimg, root: Path) -> None:
    first = contimg("init")
    assert first.code == 0
    made = [Path(line) for line in first.out.splitlines()]
    assert {root / name for name in ("incoming", "stage", "products", "state")} <= set(made)
    assert all(path.exists() for path in made)
    assert len(list((root / "state").rglob("*.sqlite3"))) == 7
    assert contimg("init") == first


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("words", [("init",), ("run", "--once")], ids=" ".join)
def test_an_unwritable_folder_is_one_sentence(
    words: tuple[str, ...], contimg: Contimg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PIPELINE_STAGE_DIR", str(tmp_path / "file" / "stage"))
    result = contimg(*words)
    assert result.code == 1
    one_sentence(result, tmp_path / "file" / "stage", "PIPELINE_ROOT")


def test_products_inside_the_stage_folder_are_refused(
    contimg: Contimg, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_PRODUCTS_DIR", str(root / "stage" / "products"))
    result = contimg("init")
    assert result.code == 1
    one_sentence(result, root / "stage" / "products", "inside")


@pytest.mark.parametrize("survey", ["nvss", "csv"])
def test_a_missing_catalogue_is_one_sentence(survey: str, contimg: Contimg, root: Path) -> None:
    path = root / f"missing.{survey.replace('nvss', 'fits')}"
    result = contimg("catalog", "import", survey, path)
    assert result.code == 1
    one_sentence(result, path)


@pytest.mark.usefixtures("root")
def test_a_damaged_catalogue_replaces_nothing_and_bad_rows_are_told(contimg: Contimg, tmp_path: Path) -> None:
    from dsa110_contimg.database import get_session
    from dsa110_contimg.database.models import Source

    good, bad, mixed = (tmp_path / f"{name}.csv" for name in ("good", "bad", "mixed"))
    good.write_text(CATALOG)
    bad.write_text(CATALOG.replace("flux_jy", "flux"))
    assert contimg("catalog", "import", "csv", good) == Result(0, f"2 sources from {good}\n", "")
    result = contimg("catalog", "import", "csv", bad)
    assert result.code == 1
    one_sentence(result, bad, "lacks the column flux_jy")

    def stored() -> list[str]:
        with get_session("master_sources", read_only=True) as session:
            return sorted(row.source_id for row in session.query(Source))

    assert stored() == ["A", "B"]
    mixed.write_text(CATALOG.replace("0.2,", "bright,") + "".join(f"C{i},1,91,1,\n" for i in range(20)))
    lines = contimg("catalog", "import", "csv", mixed).out.splitlines()
    assert lines[:4] == [
        f"1 sources from {mixed}",
        "21 more could not be used:",
        "  line 3: flux_jy is 'bright', not a number",
        "  line 4: dec_deg is 91, which no source can have",
    ]
    assert lines[-1] == "  and 11 more"
    assert stored() == ["A"]
    assert contimg("catalog", "import", "sumss", good).code == 2


@pytest.mark.usefixtures("root")
def test_catalogues_are_searched(contimg: Contimg, tmp_path: Path) -> None:
    path = tmp_path / "sky.csv"
    path.write_text(CATALOG + "south,200.5,-30.25,0.5,\n")
    contimg("catalog", "import", "csv", path)
    lines = contimg("catalog", "query", "200.5", "-30.25", "0.1").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["catalogue", "source"], ["CSV", "south"], ["MASTER", "south"]]
    found = json.loads(contimg("catalog", "query", "200.5", "-30.25", "0.1", "--catalog", "master", "--json").out)
    assert [(entry["source_id"], entry["flux_jy"], entry["freq_ghz"]) for entry in found] == [("south", 0.5, 1.4)]
    assert json.loads(contimg("catalog", "query", "200.5", "-30.25", "0.1", "--min-flux-jy", "0.6", "--json").out) == []
    for words in (("nan", "0", "1"), ("0", "-91", "1"), ("0", "0", "-1"), ("0", "0", "1", "--catalog", "sumss")):
        result = contimg("catalog", "query", *words)
        assert result.code == 1
        one_sentence(result)


@pytest.mark.usefixtures("root")
def test_status_before_init_says_what_to_do(contimg: Contimg) -> None:
    result = contimg("status")
    assert result.code == 1
    one_sentence(result, "contimg init")


@pytest.mark.usefixtures("root")
def test_status_of_an_empty_installation(contimg: Contimg) -> None:
    contimg("init")
    view = json.loads(contimg("status", "--json").out)
    assert {"groups", "tiles", "products"} <= set(view["counts"])
    assert [rows for rows in view["counts"].values() if rows] == []
    assert view["failed"] == view["quarantined"] == {}
    result = contimg("status", "nothing")
    assert result.code == 1
    one_sentence(result, "nothing")


@pytest.mark.usefixtures("root")
def test_a_run_over_nothing_does_nothing_and_says_so(contimg: Contimg, tmp_path: Path) -> None:
    (tmp_path / "sky.csv").write_text(CATALOG)
    contimg("catalog", "import", "csv", tmp_path / "sky.csv")
    result = contimg("run", "--once", "--json")
    assert result.code == 0
    summary = json.loads(result.out)
    assert summary["exit_code"] == 0
    assert summary["jobs"]["completed"] == summary["jobs"]["failed"] == 0
    assert summary["errors"] == {}


def test_a_refused_file_makes_the_exit_code_one_and_is_in_status(contimg: Contimg, root: Path, tmp_path: Path) -> None:
    (tmp_path / "sky.csv").write_text(CATALOG)
    contimg("catalog", "import", "csv", tmp_path / "sky.csv")
    bad = root / "incoming" / "2025-10-01T08:43:12_sb03.hdf5"
    bad.write_bytes(b"this is no HDF5 file" * 100)
    long_ago = 1.7e9
    os.utime(bad, (long_ago, long_ago))
    result = contimg("run", "--once")
    assert result.code == 1
    assert bad.name in result.out
    assert "Traceback" not in result.err
    assert bad.exists()
    view = json.loads(contimg("status", "--json").out)
    assert list(view["quarantined"]) == [str(bad)]
    assert "HDF5" in view["quarantined"][str(bad)]


def test_what_is_no_measurement_set_is_one_sentence(contimg: Contimg, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.ms", tmp_path):
        result = contimg("image", path, "--out", tmp_path / "images")
        assert result.code == 1
        one_sentence(result, path)
    assert not (tmp_path / "images").exists()


@pytest.mark.usefixtures("root")
def test_simulate_and_demo_refuse_what_they_cannot_write(contimg: Contimg, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    for words, named in (
        (("simulate", tmp_path / "file" / "out", "--antennas", "4"), tmp_path / "file" / "out"),
        (("simulate", tmp_path / "out", "--sky", tmp_path / "no.fits"), tmp_path / "no.fits"),
        (("simulate", tmp_path / "out", "--antennas", "1000"), "antennas"),
        (("demo", "--out", tmp_path / "full"), tmp_path / "full"),
    ):
        result = contimg(*words)
        assert result.code == 1
        one_sentence(result, named)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_verbose_logs_to_standard_error(contimg: Contimg, root: Path) -> None:
    logging.root.handlers[:] = []
    result = contimg("--verbose", "init")
    assert result.code == 0
    assert logging.root.level == logging.INFO
    assert all(line.startswith(str(root)) for line in result.out.splitlines())


def test_a_fault_of_ours_is_not_hidden(contimg: Contimg, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    app = typer.Typer()
    app.command()(broken)
    monkeypatch.setattr(cli_main, "app", app)
    with pytest.raises(ZeroDivisionError):
        contimg()
