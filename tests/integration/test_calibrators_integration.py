"""The calibrators leave products.sqlite3: migrated, deployed, failed in the middle, and rolled back.

The programs run as a person runs them: the migration by its path, the deployment script in a project root. A stand-in
for Python lets a step fail, or ends the script in it; otherwise it is the real one.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dsa110_contimg.database.backup import back_up, restore
from dsa110_contimg.database.calibrators import get_bandpass_calibrators, register_bandpass_calibrator
from dsa110_contimg.database.migrate_calibrators import main, migrate, plan_migration
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.sqlite_library import has_wal_reset_bug

REPOSITORY = Path(__file__).parents[2]
MIGRATION = REPOSITORY / "backend" / "src" / "dsa110_contimg" / "database" / "migrate_calibrators.py"
SCRIPT = REPOSITORY / "scripts" / "deploy_calibrators_migration.sh"
OLD_TABLE = """
CREATE TABLE ms_index (path TEXT PRIMARY KEY, status TEXT);
INSERT INTO ms_index VALUES ('/stage/a.ms', 'ok');
CREATE TABLE bandpass_calibrators (calibrator_name TEXT PRIMARY KEY, ra_deg REAL NOT NULL, dec_deg REAL NOT NULL,
    dec_range_min REAL NOT NULL, dec_range_max REAL NOT NULL, registered_at REAL NOT NULL, registered_by TEXT,
    status TEXT DEFAULT 'active', notes TEXT, mood TEXT);
INSERT INTO bandpass_calibrators VALUES ('3C286', 202.7845, 30.5092, 25, 35, 1.7e9, 'ann', 'active', NULL, 'fine');
INSERT INTO bandpass_calibrators VALUES ('3C48', 24.4221, 33.1598, 30, 36, 1.6e9, NULL, 'broken', 'flares', NULL);
INSERT INTO bandpass_calibrators VALUES ('3C999', 400.0, 33.0, 30, 36, 1.6e9, NULL, 'active', NULL, NULL);
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of an old installation, whose databases are not in WAL mode."""
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    folder = tmp_path / "state"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "products.sqlite3")) as connection:
        connection.executescript(OLD_TABLE)
    return folder


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, and what the tables are."""
    with closing(sqlite3.connect(path)) as connection:
        schema = connection.execute("SELECT name, type, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for name, kind, _sql in schema if kind == "table"]
        return {"": schema, **{name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}}


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT calibrator_name FROM bandpass_calibrators ORDER BY 1")]


def arguments(state: Path, *more: str) -> list[str]:
    databases = state / "products.sqlite3", state / "calibrators.sqlite3"
    return ["--products-db", str(databases[0]), "--calibrators-db", str(databases[1]), *more]


def run_script(*words: str, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": str(python)}
    return subprocess.run(
        [str(SCRIPT), *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def stand_in(folder: Path, step: str, action: str) -> Path:
    """Return a Python that does something else when the script comes to a step."""
    patterns = {"tests": "*-m\\ pytest*", "verify": "*--dry-run*", "migrate": "*--backup-dir*"}
    count = folder / "dry-runs"
    # The first dry run is the check, the second the verification.
    once = f'echo x >> "{count}"; [ "$(wc -l < "{count}")" -eq 2 ] && ' if step == "verify" else ""
    path = folder / "python"
    path.write_text(
        f'#!/bin/bash\nif [[ "$*" == {patterns[step]} ]]; then {once}{{ {action}; }}; fi\nexec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return path


def test_by_path_as_printed_dry_then_real_then_again(state: Path) -> None:
    products = (state / "products.sqlite3").read_bytes()
    command = [sys.executable, str(MIGRATION), *arguments(state)]
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True, timeout=60)
    assert "2 calibrators would be copied, 0 known already, 1 refused" in dry.stdout
    assert [path.name for path in state.iterdir()] == ["products.sqlite3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "2 calibrators copied, 0 known already, 1 refused" in done.stdout
    assert "refused: calibrator 3C999: ra_deg is 400.0" in done.stdout
    assert names(state / "calibrators.sqlite3") == ["3C286", "3C48"]
    (row,) = get_bandpass_calibrators(dec_deg=30.0, status="active")
    assert (row.registered_at, row.registered_by, row.dec_range_max) == (1.7e9, "ann", 35.0)
    (row,) = get_bandpass_calibrators(status="inactive")
    assert (row.calibrator_name, row.notes) == ("3C48", "flares (status was 'broken')")
    assert (state / "products.sqlite3").read_bytes() == products
    (folder,) = (state / "backups").iterdir()
    assert len(folder.name) == len("YYYYMMDD_HHMMSS")
    assert sorted(path.name for path in folder.iterdir()) == ["calibrators.sqlite3.backup", "products.sqlite3.backup"]
    assert dump(folder / "products.sqlite3.backup") == dump(state / "products.sqlite3")
    assert names(folder / "calibrators.sqlite3.backup") == []
    # What has been told since then is newer than the old table.
    register_bandpass_calibrator("3C286", 202.7845, 30.5092, flux_jy=15.0, dec_range_max=40.0)
    before = dump(state / "calibrators.sqlite3")
    plan, second = migrate(state / "products.sqlite3", state / "calibrators.sqlite3")
    assert (plan.new, plan.known, len(plan.refused)) == ((), ("3C286", "3C48"), 1)
    assert dump(state / "calibrators.sqlite3") == before
    assert second != folder


@pytest.mark.parametrize("old", ["absent", "empty", "no tables at all"])
def test_no_calibrators_is_a_success(state: Path, old: str, capsys: pytest.CaptureFixture[str]) -> None:
    change = {"absent": "DROP TABLE bandpass_calibrators", "empty": "DELETE FROM bandpass_calibrators"}
    with closing(sqlite3.connect(state / "products.sqlite3")) as connection:
        connection.executescript(change.get(old, "DROP TABLE bandpass_calibrators; DROP TABLE ms_index; VACUUM"))
    assert main(arguments(state, "--dry-run")) == 0
    assert main(arguments(state)) == 0
    assert "0 calibrators copied" in capsys.readouterr().out
    assert names(state / "calibrators.sqlite3") == []


def test_old_rows_may_lack_columns(state: Path) -> None:
    with closing(sqlite3.connect(state / "products.sqlite3")) as connection:
        connection.executescript(
            "DROP TABLE bandpass_calibrators; CREATE TABLE bandpass_calibrators (calibrator_name, ra_deg, dec_deg);"
            "INSERT INTO bandpass_calibrators VALUES ('3C295', 212.8, 52.2), ('x', 'here', 52.2), (NULL, 1.0, 1.0)"
        )
    plan, _folder = migrate(state / "products.sqlite3", state / "calibrators.sqlite3")
    assert [row["calibrator_name"] for row in plan.new] == ["3C295"]
    assert [reason.split(":")[0] for reason in plan.refused] == [
        "calibrator x",
        "calibrator None lacks calibrator_name",
    ]
    (row,) = get_bandpass_calibrators()
    assert (row.dec_range_min, row.flux_jy, row.registered_by) == (None, None, "migrate_calibrators")


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _not_sqlite(path: Path) -> None:
    path.write_bytes(b"not a database" * 500)


def _damaged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE IF NOT EXISTS filler (x); CREATE INDEX i ON filler (x);")
        connection.executemany("INSERT INTO filler VALUES (?)", [("y" * 500,)] * 200)
        connection.commit()
    content = bytearray(path.read_bytes())
    content[-60000:-20000] = b"\x00" * 40000
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE moz_places (id)")


def _foreign_table(path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE bandpass_calibrators (id, colour)")


@pytest.mark.parametrize(
    ("which", "damage", "sentence"),
    [
        ("products", _missing, "does not exist: check --products-db"),
        ("products", _not_sqlite, "is not a SQLite database"),
        ("products", _damaged, "is damaged"),
        ("products", _foreign, "belongs to another program (it has the table moz_places)"),
        ("products", _foreign_table, "lacks the column calibrator_name"),
        ("calibrators", _not_sqlite, "is not a SQLite database"),
        ("calibrators", _damaged, "is damaged"),
        ("calibrators", _foreign, "belongs to another program"),
    ],
)
def test_a_bad_database_is_one_sentence_and_nothing_changes(
    state: Path, which: str, damage: Callable[[Path], None], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(state / f"{which}.sqlite3")
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    for more in ((), ("--dry-run",)):
        assert main(arguments(state, *more)) == 1
        told = capsys.readouterr()
        assert sentence in told.err
        assert (told.err.count("\n"), told.out) == (1, "")
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


def test_one_file_cannot_be_both(state: Path) -> None:
    with pytest.raises(ConfigurationError, match="is named as both databases"):
        plan_migration(state / "products.sqlite3", state / "products.sqlite3")


def test_a_backup_is_one_moment_while_another_process_writes(tmp_path: Path) -> None:
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        pytest.skip("this SQLite cannot be written by two processes")
    path = tmp_path / "a.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE a (n); CREATE TABLE b (n)")
    writer = (
        "import dsa110_contimg, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=30)\nn = 0\n"
        "while True:\n    n += 1\n    with c:\n        c.execute('INSERT INTO a VALUES (?)', (n,))\n"
        "        c.execute('INSERT INTO b VALUES (?)', (n,))\n    if n == 1: print('writing', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for i in range(5):
                copy = back_up(path, tmp_path / f"backup{i}")
                assert [p.name for p in copy.parent.iterdir()] == ["a.sqlite3.backup"]
                with closing(sqlite3.connect(copy)) as connection:
                    (a,), (b,) = (connection.execute(f"SELECT max(n) FROM {t}").fetchone() for t in "ab")
                assert a == b
        finally:
            process.kill()


def test_restoring_is_seen_by_those_who_have_it_open(state: Path, tmp_path: Path) -> None:
    products = state / "products.sqlite3"
    copy = back_up(products, tmp_path / "backups")
    before = dump(products)
    with closing(sqlite3.connect(products)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; DELETE FROM ms_index; DROP TABLE bandpass_calibrators;")
        # A log that is not the copy's own would be played onto a file that is copied over.
        assert products.with_name("products.sqlite3-wal").stat().st_size > 0
        restore(copy, products)
        assert connection.execute("SELECT path FROM ms_index").fetchall() == [("/stage/a.ms",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert dump(products) == before
    _not_sqlite(products)
    restore(copy, products)
    assert dump(products) == before
    _not_sqlite(copy)
    with pytest.raises(ConfigurationError, match="is not a SQLite database"):
        restore(copy, products)
    with pytest.raises(ConfigurationError, match="does not exist"):
        restore(tmp_path / "none", products)
    assert dump(products) == before


def test_of_a_damaged_database_there_is_no_backup(state: Path, tmp_path: Path) -> None:
    _damaged(state / "products.sqlite3")
    with pytest.raises(ConfigurationError, match=r"products\.sqlite3 is damaged \("):
        back_up(state / "products.sqlite3", tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_that_cannot_be_written_is_one_sentence(state: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"backup .* cannot be written"):
        back_up(state / "products.sqlite3", tmp_path / "backups")


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@needs_bash
def test_deployed_for_real_and_rolled_back(state: Path, tmp_path: Path) -> None:
    before = dump(state / "products.sqlite3")
    # The tests that the script runs are these: a stand-in says that they have passed.
    python = stand_in(tmp_path, "tests", 'echo "ran: $*"; exit 0')
    done = run_script(python=python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Calibrators migrated: 2" in done.stdout
    for name in (
        "integration/test_calibrators_integration.py",
        "database/test_calibrators_db.py",
        "database/test_catalog_query.py",
        "database/test_skymodel_storage.py",
    ):
        assert f"tests/{name}" in done.stdout
        assert (REPOSITORY / "tests" / name).is_file()
    assert "Calibrators migrated: 2" in next((state / "logs").iterdir()).read_text()
    assert names(state / "calibrators.sqlite3") == ["3C286", "3C48"]
    (backup,) = (state / "backups").iterdir()
    with closing(sqlite3.connect(state / "products.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM bandpass_calibrators")
    undone = run_script("--rollback", str(backup))
    assert undone.returncode == 0, undone.stderr
    assert dump(state / "products.sqlite3") == before
    assert names(state / "calibrators.sqlite3") == []


@pytest.fixture
def known_before(state: Path) -> list[dict[str, list[tuple[object, ...]]]]:
    """What both databases hold before a deployment; the new one has a calibrator already."""
    register_bandpass_calibrator("3C147", 85.65, 49.85, notes="was here before")
    return [dump(state / "calibrators.sqlite3"), dump(state / "products.sqlite3")]


@needs_bash
@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("tests", "Step 'tests' failed. Rolled back"),
        ("migrate", "Step 'migrate' failed before anything was changed"),
    ],
)
def test_a_failure_in_the_middle_is_undone(
    state: Path, tmp_path: Path, known_before: object, step: str, told: str
) -> None:
    done = run_script(python=stand_in(tmp_path, step, "exit 1"))
    output = done.stdout + done.stderr
    assert told in output
    assert "Done" not in output
    assert done.returncode == 1, output
    assert [dump(state / "calibrators.sqlite3"), dump(state / "products.sqlite3")] == known_before


@needs_bash
def test_a_script_that_is_ended_in_the_middle_undoes_what_it_did(
    state: Path, tmp_path: Path, known_before: object
) -> None:
    environment = {**os.environ, "PYTHON": str(stand_in(tmp_path, "verify", "echo ready > ready; sleep 1"))}
    with subprocess.Popen([str(SCRIPT)], env=environment, stdout=subprocess.PIPE, text=True) as script:
        try:
            deadline = time.monotonic() + 100.0
            while not (tmp_path / "ready").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert names(state / "calibrators.sqlite3") == ["3C147", "3C286", "3C48"]
            script.terminate()
            output, _ = script.communicate(timeout=100)
        finally:
            script.kill()
    assert script.returncode == 143, output
    assert "Step 'verify' failed. Rolled back" in output
    assert [dump(state / "calibrators.sqlite3"), dump(state / "products.sqlite3")] == known_before


@needs_bash
def test_the_script_says_what_is_missing(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "elsewhere"))
    done = run_script("--skip-tests")
    assert done.returncode == 1
    assert f"there is no {tmp_path / 'elsewhere'}" in done.stdout + done.stderr
    monkeypatch.delenv("PIPELINE_STATE_DIR")
    _not_sqlite(state / "products.sqlite3")
    done = run_script("--skip-tests")
    assert done.returncode == 1
    assert "is not a SQLite database" in done.stdout + done.stderr
    assert not (state / "calibrators.sqlite3").exists()
    done = run_script("--rollback", str(tmp_path))
    assert done.returncode == 1
    assert "does not hold products.sqlite3.backup" in done.stderr
    assert run_script("--roll-back").returncode == 2
