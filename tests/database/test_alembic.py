"""Alembic's commands for each of the seven databases, as printed and on databases that are not what they seem."""

import io
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from alembic.config import CommandLine, Config
from tests.database.printed_tables import contents, shape

import dsa110_contimg
from dsa110_contimg.config import DATABASES
from dsa110_contimg.database import create_all, init_databases, reset_engines
from dsa110_contimg.database.models import ProductsBase
from dsa110_contimg.database.session import database_path
from dsa110_contimg.database.standing import revisions_of
from dsa110_contimg.database.upgrades import Target, upgrade
from dsa110_contimg.errors import ConfigurationError

PACKAGE = Path(dsa110_contimg.__file__).parent


class Answer(NamedTuple):
    """What a command printed."""

    code: int
    out: str
    err: str


Alembic = Callable[..., Answer]


@pytest.fixture
def command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alembic:
    """Run `DATABASE=name alembic ...` in the package's folder, in this process."""
    assert root.exists()
    monkeypatch.chdir(PACKAGE)

    def run(name: str, *words: str) -> Answer:
        monkeypatch.setenv("DATABASE", name)
        program, printed, code = CommandLine("alembic"), io.StringIO(), 0
        options = program.parser.parse_args(words)
        capsys.readouterr()
        try:
            program.run_cmd(Config("alembic.ini", cmd_opts=options, stdout=printed), options)
        except SystemExit as stop:
            code = int(str(stop.code))
        captured = capsys.readouterr()
        return Answer(code, printed.getvalue() + captured.out, captured.err)

    return run


@pytest.mark.parametrize("name", DATABASES)
def test_the_printed_commands(command: Alembic, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = revisions_of(name).get_current_head()
    assert command(name, "upgrade", "head").code == 0
    path = database_path(name)
    assert command(name, "current") == Answer(0, f"{head} (head)\n", "")
    assert command(name, "check").out == "No new upgrade operations detected.\n"
    files = set(PACKAGE.glob("database/migrations/versions/*/*.py"))
    answer = command(name, "revision", "--autogenerate", "-m", "Add new column")
    assert answer == Answer(0, "Nothing to do: the database has the tables of the models.\n", "")
    assert set(PACKAGE.glob("database/migrations/versions/*/*.py")) == files
    others = [other for other in DATABASES if other != name]
    assert not any(re.search(rf"\b{other}_\d{{4}}", command(name, "history").out) for other in others)
    before = path.read_bytes()
    assert command(name, "upgrade", "head") == Answer(0, "", "")
    assert path.read_bytes() == before
    assert not (path.parent / "backups").exists()
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / "fresh"))
    create_all(name)
    assert shape(path) == shape(database_path(name)), "the revisions and the models differ: write a revision"


@pytest.mark.parametrize("name", ["wrong", ""])
def test_a_wrong_name_is_a_sentence(command: Alembic, name: str) -> None:
    for words in (("upgrade", "head"), ("current",), ("revision", "--autogenerate", "-m", "x")):
        answer = command(name, *words)
        assert answer.code != 0
        assert f"set DATABASE to one of {', '.join(DATABASES)}" in answer.out + answer.err
        assert "Traceback" not in answer.out + answer.err


def test_looking_makes_no_file(command: Alembic, root: Path) -> None:
    answer = command("products", "current")
    assert answer.code != 0
    assert "products.sqlite3 does not exist: run `contimg init`" in answer.out + answer.err
    assert list(root.rglob("*.sqlite3")) == []


DEVELOPER = """
import os, sys
from alembic.config import main
main(["revision", "--autogenerate", "-m", "Add new column"])
main(["upgrade", "head"])
main(["revision", "--autogenerate", "-m", "again"])
from dsa110_contimg.database import create_all
os.environ["PIPELINE_ROOT"] = sys.argv[1]
create_all("products")
"""


def test_a_change_of_the_models_becomes_a_revision(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "source" / "dsa110_contimg"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "DATABASE": "products", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*words: str | Path) -> str:
        result = subprocess.run(
            [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True, timeout=100
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    assert upgrade(Target("products")) == []
    path = database_path("products")
    execute(
        path,
        "INSERT INTO ms_index (path) VALUES ('/a.ms')",
        "INSERT INTO images (path, ms_path, created_at, type) VALUES ('/a.fits', '/a.ms', 1, 'image')",
    )
    versions = copy / "database" / "migrations" / "versions" / "products"
    before = len(list(versions.glob("*.py")))
    images, history = copy / "database" / "models" / "products.py", copy / "database" / "models" / "sky_history.py"
    column = "    observer: Mapped[str | None] = mapped_column(server_default=text(\"'me'\"))\n"
    change(images, "    bandwidth_mhz: Mapped", f"{column}    bandwidth_mhz: Mapped")
    index = """Index("idx_images_mosaics", "path", sqlite_where=text("type = 'mosaic'")),"""
    change(images, 'Index("idx_images_type", "type"),', f'Index("idx_images_type", "type"),{index}')
    change(images, "    ms_path: Mapped[str] =", "    ms_path: Mapped[str | None] =")
    change(history, '"SELECT * FROM light_curves"', '"SELECT source_id, mjd FROM light_curves"')
    said = run("-c", DEVELOPER, tmp_path / "fresh")
    assert said.count("Generating") == said.count("Nothing to do") == 1, said
    assert len(list(versions.glob("*.py"))) == before + 1
    assert len(list(root.glob("state/backups/*/products.sqlite3.backup"))) == said.count("a verified backup is") == 1
    upgraded = shape(path)
    assert upgraded == shape(tmp_path / "fresh" / "state" / path.name)
    assert "ms_pathTEXT" in upgraded["table", "images", "images"]
    assert ("index", "idx_images_mosaics", "images") in upgraded
    assert "source_id" in " ".join(upgraded["view", "photometry_timeseries", "photometry_timeseries"])
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT path, observer FROM images").fetchall() == [("/a.fits", "me")]
    # The package as it is does not know that revision, until it is taken back.
    with pytest.raises(ConfigurationError, match="was made by a newer version of contimg"):
        upgrade(Target("products"))
    run("-m", "alembic", "downgrade", "-1")
    assert upgrade(Target("products")) == []
    (row,) = contents(path)["images"]
    assert row[:3] == (1, "/a.fits", "/a.ms")
    assert len(row) == len(ProductsBase.metadata.tables["images"].columns)


def change(path: Path, old: str, new: str) -> None:
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new, 1))


def places(path: Path) -> None:
    """A browser's bookmarks."""
    execute(path, "CREATE TABLE moz_places (id INTEGER PRIMARY KEY, url TEXT)", "CREATE TABLE moz_meta (key TEXT)")


def gallery(path: Path) -> None:
    """Somebody else's table of the same name."""
    execute(path, "CREATE TABLE images (id INTEGER PRIMARY KEY, url TEXT)", "INSERT INTO images VALUES (1, 'cat')")


def sibling(path: Path) -> None:
    """Another of the seven."""
    upgrade(Target("ingest", path))


def newer(path: Path) -> None:
    """Made by a later version."""
    upgrade(Target("products", path))
    execute(path, "UPDATE alembic_version SET version_num = 'products_9999'")


def noise(path: Path) -> None:
    """No database at all."""
    path.write_bytes(bytes(range(256)) * 40)


def torn(path: Path) -> None:
    """Half of an old installation."""
    execute(path, "CREATE TABLE ms_index (path TEXT PRIMARY KEY, stage TEXT)")
    execute(path, *(f"INSERT INTO ms_index VALUES ('/ms/{i:04d}.ms', 'converted')" for i in range(500)))
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(bytes(9000))


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (places, r"is not ours \(it holds moz_meta, moz_places\), not products"),
        (gallery, r"is not a products database: its table images lacks created_at, ms_path, path"),
        (sibling, r"is the database ingest, not products"),
        (newer, r"was made by a newer version of contimg \(its revision products_9999 is unknown here\)"),
        (noise, r"is not a SQLite database"),
        (torn, r"is damaged"),
    ],
    ids=["foreign", "foreign_with_our_name", "sibling", "newer", "noise", "torn"],
)
def test_what_is_not_ours_is_a_sentence_and_stays(
    command: Alembic, root: Path, make: Callable[[Path], None], sentence: str
) -> None:
    path = database_path("products")
    path.parent.mkdir(parents=True)
    make(path)
    reset_engines()
    before = path.read_bytes()
    for words in (("upgrade", "head"), ("current",), ("revision", "--autogenerate", "-m", "x")):
        answer = command("products", *words)
        if make is torn and words[0] != "upgrade":
            continue
        assert answer.code != 0, words
        assert re.search(sentence, answer.out + answer.err), answer
        assert (answer.out + answer.err).count("\n") == 1, answer
    with pytest.raises(ConfigurationError, match=sentence):
        init_databases()
    assert path.read_bytes() == before
    assert not [p for p in (root / "state").rglob("*.backup") if p.stat().st_size]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that another user may not write")
def test_a_file_that_cannot_be_written_is_a_sentence() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "products.sqlite3"
        execute(
            path, "CREATE TABLE ms_index (path TEXT PRIMARY KEY, stage TEXT)", "INSERT INTO ms_index VALUES ('/a', 'x')"
        )
        path.chmod(0o644)
        before = path.read_bytes()
        script = (
            "import os, sys; from pathlib import Path\n"
            "from dsa110_contimg.database.upgrades import Target, upgrade\n"
            "from dsa110_contimg.errors import ConfigurationError\n"
            "os.setuid(65534)\n"
            "try: upgrade(Target('products', Path(sys.argv[1])))\n"
            "except ConfigurationError as error: sys.exit(str(error))\n"
        )
        result = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=100)
        assert result.returncode == 1
        assert (
            result.stderr == f"database {path} cannot be written: check the permissions of the file and of its folder\n"
        )
        assert path.read_bytes() == before
        assert [file.name for file in Path(folder).iterdir()] == [path.name]


def test_an_unstamped_database_of_this_version_is_only_stamped(root: Path) -> None:
    path = Path(create_all("products"))
    before = contents(path), shape(path)
    assert upgrade(Target("products")) == []
    assert contents(path).pop("alembic_version") == [(revisions_of("products").get_current_head(),)]
    assert shape(path) == before[1]
    assert not (root / "state" / "backups").exists()


def test_several_at_once_on_nothing(root: Path) -> None:
    script = "from dsa110_contimg.database import init_databases; init_databases()"
    several = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=100)[1] for process in several]
    assert [process.returncode for process in several] == [0] * 3, errors
    for name in DATABASES:
        assert contents(database_path(name))["alembic_version"] == [(revisions_of(name).get_current_head(),)]
    assert not (root / "state" / "backups").exists()
