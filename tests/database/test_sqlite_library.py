"""One process, one SQLite library, whichever is imported first (S0's snippets in both orders)."""

import subprocess
import sys
from pathlib import Path

import pytest

from dsa110_contimg.sqlite_library import choose, has_wal_reset_bug

SNIPPET = """
from pathlib import Path
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database import get_session, init_databases, MSIndex
import sqlite3
import sqlalchemy.dialects.sqlite.pysqlite as dialect
conn = ensure_data_registry_db(Path("state/data_registry.sqlite3"))
register_data_instance(conn, data_type="mosaic", data_id="m1", stage_path="stage/m1.fits", auto_publish=True)
conn.close()
conn = sqlite3.connect("state/data_registry.sqlite3")
conn.row_factory = sqlite3.Row
row = conn.cursor().execute("SELECT * FROM data_registry").fetchone()
assert isinstance(row, sqlite3.Row) and row["data_id"] == "m1"
try:
    conn.execute("SELECT nothing FROM nowhere")
except sqlite3.Error as error:
    assert isinstance(error, sqlite3.OperationalError)
conn.close()
init_databases()
with get_session("products") as session:
    session.add(MSIndex(path="/a.ms"))
    session.commit()
    assert session.query(MSIndex).one().path == "/a.ms"
assert dialect.SQLiteDialect_pysqlite.import_dbapi().connect is sqlite3.connect
print(sqlite3.connect.__module__ or "", sqlite3.Connection.__module__, sqlite3.sqlite_version)
"""


@pytest.mark.parametrize(
    ("first", "library"),
    [
        ("import dsa110_contimg\n", "pysqlite3"),
        ("import sqlalchemy.dialects.sqlite\n", "pysqlite3"),
        ("import sqlite3\n", "sqlite3"),
    ],
)
def test_both_orders_of_import(tmp_path: Path, first: str, library: str) -> None:
    pytest.importorskip("pysqlite3")
    environment = {"PIPELINE_ROOT": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", first + SNIPPET],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2].split(".")[0] == library, done.stdout
    affected = has_wal_reset_bug(tuple(int(n) for n in done.stdout.split()[-1].split(".")))
    assert ("two processes write" in done.stderr) == affected


def test_affected_versions() -> None:
    assert has_wal_reset_bug((3, 40, 1))
    assert has_wal_reset_bug((3, 51, 2))
    assert not has_wal_reset_bug((3, 51, 3))
    assert not has_wal_reset_bug((3, 53, 4))


def test_choosing_again_changes_nothing() -> None:
    before = sys.modules["sqlite3"]
    assert choose() == choose()
    assert sys.modules["sqlite3"] is before
