"""Databases made by the printed DDL alone become those of this version, with every row."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from tests.database.printed_tables import contents, make_as_printed, shape

from dsa110_contimg.config import DATABASES
from dsa110_contimg.database import create_all, get_session, init_databases, reset_engines
from dsa110_contimg.database.migrations import migrate_products_db
from dsa110_contimg.database.models import ESECandidate
from dsa110_contimg.database.session import database_path
from dsa110_contimg.database.upgrades import Target, upgrade
from dsa110_contimg.errors import ConfigurationError

PRINTED = ("ingest", "cal_registry", "products", "data_registry", "master_sources")
CHOICES = {
    ("ingest_queue", "state"): ["collecting", "pending", "in_progress", "completed", "failed"],
    ("caltables", "table_type"): ["K", "BP", "G"],
    ("ese_candidates", "status"): ["investigated", "dismissed"],
}
PARENTS = {("photometry", "image_path"): ("images", "path"), ("images", "ms_path"): ("ms_index", "path")}
PARENTS |= {("ese_candidates", "source_id"): ("variability_stats", "source_id")}
PARENTS |= {(table, "group_id"): ("ingest_queue", "group_id") for table in ("subband_files", "performance_metrics")}


def execute(path: Path, statements: Iterable[str]) -> None:
    with closing(sqlite3.connect(path)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()


def rows_of(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(query).fetchall()


def fill(path: Path, rng: random.Random, n_rows: int) -> None:
    """Put rows into every table, in columns of every type, with some of them NULL."""
    with closing(sqlite3.connect(path)) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted((t for t in tables if not t.startswith("sqlite_")), key=lambda t: t in {"photometry"}):
            for i in range(n_rows):
                row = {}
                for _, name, kind, not_null, default, key in conn.execute(f"PRAGMA table_info({table})"):
                    if (name == "id" and key) or (not not_null and not key and rng.random() < 0.2):
                        continue
                    value: object = {"REAL": rng.uniform(-1e9, 1e9), "INTEGER": rng.randrange(2**40)}.get(
                        kind, f"{name} {i}"
                    )
                    if (table, name) in CHOICES:
                        value = rng.choice(CHOICES[table, name])
                    row[name] = value if (table, name) not in PARENTS else f"{PARENTS[table, name][1]} {i}"
                    assert default is None or not_null or kind
                marks = ", ".join("?" * len(row))
                conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
        conn.commit()


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with five databases made by the printed DDL, made once."""
    folder = tmp_path_factory.mktemp("printed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(folder))
        for name in PRINTED:
            make_as_printed(database_path(name), name)
    return folder / "state"


@pytest.fixture
def old(root: Path, printed: Path) -> Path:
    """A state folder with a copy of them."""
    shutil.copytree(printed, root / "state")
    return root / "state"


def backups(state: Path, name: str) -> list[Path]:
    return sorted(state.glob(f"backups/*/{name}.sqlite3.backup"))


@pytest.mark.parametrize("name", PRINTED)
def test_every_row_is_kept_and_upgraded_equals_fresh(
    old: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    path = database_path(name)
    fill(path, random.Random(seed), 40)
    if name == "products":
        execute(path, ["DELETE FROM photometry WHERE id > 35"])
    before, columns = contents(path), {}
    with closing(sqlite3.connect(path)) as conn:
        for table in before:
            columns[table] = ", ".join(row[1] for row in conn.execute(f"PRAGMA table_info({table})"))
    told = upgrade(Target(name))
    after = {table: rows_of(path, f"SELECT {columns[table]} FROM {table}") for table in before}
    assert {table: sorted(rows, key=repr) for table, rows in after.items()} == before
    assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows_of(path, "PRAGMA foreign_key_check") == []
    (copy,) = backups(old, name)
    assert contents(copy) == before
    assert told[0] == f"{path}: a verified backup is {copy}"
    assert not any("left out" in sentence or "refer" in sentence for sentence in told)
    assert upgrade(Target(name)) == []
    assert backups(old, name) == [copy]
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / "fresh"))
    create_all(name)
    assert shape(path) == shape(database_path(name))


def test_conflicts_are_repaired_by_rule_and_reported(old: Path) -> None:
    execute(
        database_path("ingest"),
        [
            "INSERT INTO ingest_queue (group_id, state, received_at, last_update) VALUES ('g1', 'processing', 1, 1)",
            "INSERT INTO ingest_queue (group_id, state, received_at, last_update) VALUES ('g2', 'completed', 1, 1)",
            "INSERT INTO subband_files VALUES (1, 'g1', 0, '/in/a.hdf5', 5, 30.0)",
            "INSERT INTO subband_files VALUES (2, 'g2', 0, '/in/a.hdf5', 6, 20.0)",
            "INSERT INTO subband_files VALUES (3, 'g2', 1, '/in/b.hdf5', 7, 10.0)",
        ],
    )
    source = "INSERT INTO variability_stats (source_id, ra_deg, dec_deg, updated_at) VALUES"
    flag = "INSERT INTO ese_candidates (id, source_id, flagged_at, significance, flag_type, status, notes) VALUES"
    flux = (
        "INSERT INTO photometry (id, image_path, source_id, ra_deg, dec_deg, peak_jyb, measured_at, mjd) VALUES"
        " ({}, '/m.fits', 's1', 1, 2, {}, {}, 60000)"
    )
    execute(
        database_path("products"),
        [
            f"{source} ('s1', 1, 2, 3), ('s2', 1, 2, 3)",
            f"{flag} (1, 's1', 100, 6, 'variability', 'active', 'look'), (2, 's1', 300, 7, 'user', 'active', NULL),"
            " (3, 's1', 200, 8, 'user', 'active', NULL), (4, 's2', 1, 5, 'user', 'active', NULL),"
            " (5, 's1', 900, 9, 'user', 'investigated', NULL)",
            flux.format(1, 0.5, 50),
            flux.format(2, 0.7, 40),
            "CREATE TABLE bandpass_calibrators (id INTEGER PRIMARY KEY, calibrator_name TEXT)",
            "INSERT INTO bandpass_calibrators VALUES (1, '3C286')",
        ],
    )
    execute(
        database_path("cal_registry"),
        ["INSERT INTO caltables VALUES (1, 'bp', '/cal/a', 'bandpass', 1, 60000, 60001, 5, 1)"],
    )
    told: list[str] = []
    init_databases(told.append)

    queue = rows_of(database_path("ingest"), "SELECT group_id, state FROM ingest_queue ORDER BY group_id")
    assert queue == [("g1", "in_progress"), ("g2", "completed")]
    assert rows_of(database_path("ingest"), "SELECT id, file_path FROM subband_files") == [
        (1, "/in/a.hdf5"),
        (3, "/in/b.hdf5"),
    ]
    products = database_path("products")
    states = rows_of(products, "SELECT id, status, notes, dismissed_at IS NULL FROM ese_candidates ORDER BY id")
    note = "dismissed by the upgrade: a newer candidate is active"
    assert states == [
        (1, "dismissed", f"look; {note}", 0),
        (2, "active", None, 1),
        (3, "dismissed", note, 0),
        (4, "active", None, 1),
        (5, "investigated", None, 1),
    ]
    assert rows_of(products, "SELECT id, peak_jyb FROM photometry") == [(1, 0.5)]
    assert rows_of(products, "SELECT calibrator_name FROM bandpass_calibrators") == [("3C286",)]
    assert rows_of(database_path("cal_registry"), "SELECT table_type FROM caltables") == [("BP",)]

    report = "\n".join(told)
    for sentence in (
        "ingest_queue: the state of group g1 is now in_progress, was processing",
        "subband_files: left out 1 rows that have a newer one of the same file_path: /in/a.hdf5",
        "ese_candidates: candidate 1 of s1 was dismissed: a newer one is active",
        "ese_candidates: candidate 3 of s1 was dismissed: a newer one is active",
        "photometry: left out 1 rows that have a newer one of the same image_path, source_id: /m.fits + s1",
        "caltables: the type of /cal/a is now BP, was bandpass",
        "1 rows of photometry refer to rows of images that do not exist; they were kept",
    ):
        assert report.count(sentence) == 1, sentence
    assert all(len(backups(old, name)) == 1 for name in PRINTED)
    (folder,) = old.glob("backups/*")
    assert sorted(copy.name for copy in folder.iterdir()) == sorted(f"{name}.sqlite3.backup" for name in PRINTED)
    # What was left out is in the backup.
    assert len(rows_of(backups(old, "ingest")[0], "SELECT * FROM subband_files")) == 3
    with get_session("products", read_only=True) as session:
        assert session.query(ESECandidate).filter_by(status="active").count() == 2


def test_what_somebody_added_stays(old: Path) -> None:
    path = database_path("products")
    execute(
        path,
        [
            "ALTER TABLE ms_index ADD COLUMN observer TEXT",
            "CREATE INDEX mine ON ms_index(observer)",
            "CREATE TABLE log (what TEXT)",
            "CREATE TRIGGER watch AFTER INSERT ON ms_index BEGIN INSERT INTO log VALUES (new.path); END",
            "CREATE VIEW bright AS SELECT source_id FROM photometry WHERE peak_jyb > 1",
            "CREATE VIEW light_curves AS SELECT 1",
            "INSERT INTO ms_index (path, observer) VALUES ('/a.ms', 'me')",
            "INSERT INTO qa_artifacts (id, group_id, name, path, created_at) VALUES (9, 'g', 'n', 'p', 1)",
            "DELETE FROM qa_artifacts",
        ],
    )
    assert old.exists()
    assert any(
        "kept columns of ms_index that this version does not know: observer" in s for s in upgrade(Target("products"))
    )
    execute(path, ["INSERT INTO ms_index (path) VALUES ('/b.ms')"])
    assert rows_of(path, "SELECT path, observer FROM ms_index") == [("/a.ms", "me"), ("/b.ms", None)]
    assert rows_of(path, "SELECT * FROM log") == [("/a.ms",), ("/b.ms",)]
    assert rows_of(path, "SELECT * FROM bright") == rows_of(path, "SELECT * FROM light_curves") == []
    names = {row[0] for row in rows_of(path, "SELECT name FROM sqlite_master")}
    assert "mine" in names
    # An id that was given once is never given again.
    execute(path, ["INSERT INTO qa_artifacts (group_id, name, path, created_at) VALUES ('g', 'n', 'p', 1)"])
    assert rows_of(path, "SELECT id FROM qa_artifacts") == [(10,)]


def test_a_row_without_a_rule_is_named_and_nothing_is_changed(old: Path) -> None:
    path = database_path("cal_registry")
    execute(path, ["INSERT INTO caltables VALUES (7, 'x', '/cal/x', 'mystery', 1, 1, 2, 5, 1)"])
    before, definitions = contents(path), shape(path)
    with pytest.raises(
        ConfigurationError, match=r"the row of caltables with id 7, path /cal/x stands against the rule"
    ):
        upgrade(Target("cal_registry"))
    assert (contents(path), shape(path)) == (before, definitions)
    assert old.exists()


def test_a_full_disk_is_a_sentence_and_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database_path("ingest")
    bytes_before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(
            ConfigurationError, match=r"ingest\.sqlite3 cannot be upgraded: it needs .* MB for a backup"
        ):
            upgrade(Target("ingest"))
    assert path.read_bytes() == bytes_before
    (old / "backups").write_text("not a folder")
    with pytest.raises(ConfigurationError, match=r"backup .*ingest\.sqlite3\.backup cannot be written"):
        upgrade(Target("ingest"))
    assert shape(path) != {}
    assert "alembic_version" not in contents(path)


def test_the_named_function_upgrades_a_named_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "elsewhere" / "products.sqlite3"
    make_as_printed(path, "products")
    execute(path, ["INSERT INTO ms_index (path, stage) VALUES ('/a.ms', 'converted')"])
    for _ in range(2):
        migrate_products_db(path)
    assert rows_of(path, "SELECT path, stage, cal_applied FROM ms_index") == [("/a.ms", "converted", 0)]
    printed = capsys.readouterr().out
    assert printed.count(f"✓ Migrated {path}") == 2
    assert printed.count("a verified backup is") == 1
    assert len(list(path.parent.glob("backups/*/products.sqlite3.backup"))) == 1
    reset_engines()


KILLED = textwrap.dedent("""
    import os, shutil, signal, sys
    from pathlib import Path
    from dsa110_contimg.database import session, upgrades

    source, path = Path(sys.argv[1]), Path(sys.argv[2])
    plain_connect, seen = session.connect, 0

    def connect(file, **how):
        connection = plain_connect(file, **how)
        def count(statement):
            global seen
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)
        if file == path:
            connection.set_trace_callback(count)
        return connection

    session.connect = connect
    last = 0
    for end in map(int, sys.argv[3:]):
        child = os.fork()
        if child == 0:
            last = end
            shutil.copy(source, path.with_name(f"{end}.sqlite3"))
            path = path.with_name(f"{end}.sqlite3")
            upgrades.upgrade(upgrades.Target("products", path))
            os._exit(0)
        print(end, os.waitpid(child, 0)[1])
""")


def test_a_killed_upgrade_leaves_the_old_tables_or_the_new(old: Path, tmp_path: Path) -> None:
    path = database_path("products")
    fill(path, random.Random(5), 20)
    old_rows, old_shape = contents(path), shape(path)
    ends = [8, 45, 80, 150, 220, 300, 100_000]
    result = subprocess.run(
        [sys.executable, "-c", KILLED, path, tmp_path / "x.sqlite3", *map(str, ends)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    codes = {int(line.split()[0]): int(line.split()[1]) for line in result.stdout.splitlines()}
    assert [codes[end] for end in ends] == [9] * (len(ends) - 1) + [0], result.stderr
    upgraded = tmp_path / f"{ends[-1]}.sqlite3"
    for end in ends[:-1]:
        file = tmp_path / f"{end}.sqlite3"
        assert rows_of(file, "PRAGMA integrity_check") == [("ok",)]
        assert (contents(file), shape(file)) == (old_rows, old_shape), end
        upgrade(Target("products", file))
        assert shape(file) == shape(upgraded)
        assert contents(file) == contents(upgraded)
    assert old.exists()
    reset_engines()


TOGETHER = """
import os, sys, time
from pathlib import Path
from dsa110_contimg.database import init_databases, upgrades

def wait_for_the_other(path):
    seen = Path(sys.argv[1])
    (seen / f"{path.name}.{os.getpid()}").touch()
    while len(list(seen.glob(f"{path.name}.*"))) < 2:
        time.sleep(0.01)

# Called between the first look at a database and the lock on it.
upgrades._must_have_room = wait_for_the_other
init_databases(print)
"""


def test_two_at_once_both_succeed(old: Path, root: Path) -> None:
    fill(database_path("products"), random.Random(6), 50)
    n_rows = len(contents(database_path("products"))["photometry"])
    (root / "seen").mkdir()
    command = [sys.executable, "-c", TOGETHER, str(root / "seen")]
    environment = {**os.environ, "PIPELINE_ROOT": str(root)}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert all(len(backups(old, name)) == 1 for name in PRINTED)
    assert len(contents(database_path("products"))["photometry"]) == n_rows
    for name in DATABASES:
        assert upgrade(Target(name)) == []
    assert sum(out.count("a verified backup is") for out, _ in ends) == len(PRINTED)
