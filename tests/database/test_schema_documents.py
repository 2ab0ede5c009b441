"""Fresh databases hold every table, column, index and view that the documents print."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.database.printed_tables import DECIDED, NAME_OF, TABLES_OF, printed_ddl, sql_blocks

from dsa110_contimg.database import Caltable, create_all
from dsa110_contimg.database.data_registry import ensure_data_registry_db
from dsa110_contimg.database.models.cal_registry import TABLE_TYPES
from dsa110_contimg.database.session import database_path
from dsa110_contimg.naming import ORDER_INDEX

Column = tuple[str, str, int, str | None, int]


def columns(conn: sqlite3.Connection, table: str) -> dict[str, Column]:
    rows = conn.execute(f"PRAGMA table_xinfo({table})").fetchall()
    return {row[1]: (row[1], row[2], row[3], row[4], row[5]) for row in rows}


def indexes(conn: sqlite3.Connection, table: str) -> dict[str, tuple[bool, bool, tuple[str, ...]]]:
    """Return explicit indexes by name, and automatic ones (UNIQUE) by their columns: unique, partial, columns."""
    found = {}
    for row in conn.execute(f"PRAGMA index_list({table})").fetchall():
        names = tuple(r[2] for r in conn.execute(f"PRAGMA index_info('{row[1]}')").fetchall())
        found[row[1] if row[3] == "c" else f"unique{names}"] = (bool(row[2]), bool(row[4]), names)
    return found


@pytest.fixture
def fresh(house: Path) -> Iterator[dict[str, sqlite3.Connection]]:
    connections = {path.stem: sqlite3.connect(path) for path in house.rglob("*.sqlite3")}
    assert len(connections) == 7
    yield connections
    for connection in connections.values():
        connection.close()


@pytest.mark.parametrize("document", ["S0_data_registry.md", "S1_database_schema.md", None])
def test_every_printed_or_decided_object_exists(fresh: dict[str, sqlite3.Connection], document: str | None) -> None:
    printed = sqlite3.connect(":memory:")
    printed.executescript(printed_ddl(document) if document else DECIDED)
    objects = printed.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    tables = [name for kind, name in objects if kind in {"table", "view"}]
    assert len(tables) >= 3
    for table in tables:
        ours = fresh[NAME_OF.get(table, "products")]
        found = columns(ours, table)
        for name, kind, not_null, default, key in columns(printed, table).values():
            assert name in found, f"{table}.{name} is missing"
            _, our_kind, our_not_null, our_default, our_key = found[name]
            assert (our_kind, our_default, our_key) == (kind, default, key), f"{table}.{name}"
            # SQLite lets NULL into a primary key that does not forbid it; ours forbids it.
            assert our_not_null == not_null or key, f"{table}.{name}"
        missing = indexes(printed, table).items() - indexes(ours, table).items()
        assert not missing, f"{table}: {missing}"
        printed_keys = {row[2:5] for row in printed.execute(f"PRAGMA foreign_key_list({table})")}
        assert printed_keys <= {row[2:5] for row in ours.execute(f"PRAGMA foreign_key_list({table})")}, table
        assert ("AUTOINCREMENT" in sql_of(printed, table)) == ("AUTOINCREMENT" in sql_of(ours, table))
    printed.close()


def sql_of(conn: sqlite3.Connection, name: str) -> str:
    return str(conn.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0])


def test_printed_views_select_the_same(fresh: dict[str, sqlite3.Connection]) -> None:
    views = re.findall(r"CREATE VIEW IF NOT EXISTS (\w+) AS\s*(.*?);", printed_ddl("S1_database_schema.md"), re.DOTALL)
    assert len(views) == 2
    for name, query in views:
        ours = sql_of(fresh["master_sources"], name).split(" AS ", 1)[1]
        assert " ".join(ours.split()) == " ".join(query.split())


def test_the_data_registry_is_the_same_by_both_ways(root: Path) -> None:
    raw = ensure_data_registry_db(root / "raw.sqlite3")
    create_all("data_registry")
    orm = sqlite3.connect(database_path("data_registry"))
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    rows = raw.execute(query).fetchall()
    assert rows == orm.execute(query).fetchall()
    assert {row[1] for row in rows} >= set(TABLES_OF["data_registry"])
    raw.close()
    orm.close()


def test_values_that_are_none_are_refused(fresh: dict[str, sqlite3.Connection]) -> None:
    queue = "INSERT INTO ingest_queue (group_id, state, received_at, last_update) VALUES ('g', ?, 1, 1)"
    caltable = (
        "INSERT INTO caltables (set_name, path, table_type, order_index, valid_start_mjd, valid_end_mjd, created_at)"
        " VALUES ('s', ?1, ?1, 0, 1, 2, 3)"
    )
    for database, statement in (("ingest", queue), ("cal_registry", caltable)):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            fresh[database].execute(statement, ("nonsense",))
    for table_type in TABLE_TYPES:
        fresh["cal_registry"].execute(caltable, (table_type,))
    assert set(TABLE_TYPES) == set(ORDER_INDEX)
    rows = fresh["cal_registry"].execute(str(select(Caltable.valid_from_mjd, Caltable.valid_until_mjd))).fetchall()
    assert rows == [(1.0, 2.0)] * len(TABLE_TYPES)


@pytest.mark.parametrize(
    ("database", "table", "some"),
    [
        ("products", "mosaic_groups", {"ms_paths", "bpcal_solved", "mosaic_path"}),
        ("products", "mosaic_group_members", {"position", "is_new"}),
        ("products", "jobs", {"attempt", "lease_expires_at", "not_before", "log_tail"}),
        ("products", "qa_checks", {"threshold_warning", "verdict", "reason"}),
        ("products", "photometry_missing", {"image_path", "source_id", "reason"}),
        ("products", "light_curves", {"in_lightcurve", "peak_jyb"}),
        ("products", "photometry_timeseries", {"source_id", "mjd"}),
        ("products", "variability_stats", {"eta_metric", "v_metric"}),
        ("ingest", "quarantine", {"path", "group_id", "reason", "quarantined_at"}),
        ("cal_registry", "caltables", {"status", "refant", "flux_anchor", "dec_deg", "superseded_by"}),
        ("data_registry", "data_registry", {"owner", "attempt", "lease_expires_at", "sha256", "retract_reason"}),
        ("master_sources", "strict_references", {"source_id", "snr_nvss"}),
    ],
)
def test_decided_tables(fresh: dict[str, sqlite3.Connection], database: str, table: str, some: set[str]) -> None:
    assert some <= set(columns(fresh[database], table))


def test_reference_views_accept_an_unknown_spectral_index(fresh: dict[str, sqlite3.Connection]) -> None:
    conn = fresh["master_sources"]
    rows = [("a", 8.0, None), ("b", 12.0, -0.7), ("c", 60.0, -2.0), ("d", 70.0, None), ("e", 6.0, -0.7)]
    for source, snr, alpha in rows:
        conn.execute(
            "INSERT INTO sources (source_id, ra_deg, dec_deg, s_nvss, snr_nvss, alpha) VALUES (?, 0, 0, 1, ?, ?)",
            (source, snr, alpha),
        )
    chosen = {
        view: {row[0] for row in conn.execute(f"SELECT source_id FROM {view}")}
        for view in ("good_references", "final_references", "strict_references")
    }
    assert chosen == {
        "good_references": {"a", "b", "d"},
        "final_references": {"b", "d"},
        "strict_references": {"d"},
    }


def test_printed_queries_run(fresh: dict[str, sqlite3.Connection]) -> None:
    for document, database in (("S0_data_registry.md", "data_registry"), ("S1_database_schema.md", "products")):
        queries = [block for block in sql_blocks(document) if "CREATE" not in block]
        assert len(queries) >= 3
        for query in queries:
            fresh[database].executescript(query)
