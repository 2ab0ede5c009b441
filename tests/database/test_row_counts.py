"""The numbers that the database keeps are those of a full count, whatever happens to the rows."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_contimg.database import get_session, reset_engines
from dsa110_contimg.database.session import get_engine
from dsa110_contimg.database.upgrades import Target, upgrade
from dsa110_contimg.monitoring import census

JOBS = ("pending", "running", "completed", "failed", "waiting")
GROUPS = ("collecting", "pending", "in_progress", "completed", "failed")
TILES = ("converted", "calibrated", "imaged", "photometry_complete", None)
KEYS = st.sampled_from(["a", "b", "c", "d"])
Counts = dict[tuple[str, str], int]

INSERTS = {
    "jobs": "INSERT INTO jobs (job_id, stage, subject, state, created_at, updated_at)"
    " VALUES (:key, :kind, 's', :state, 1, 1)",
    "ms_index": "INSERT INTO ms_index (path, stage) VALUES (:key, :state)",
    "ingest_queue": "INSERT INTO ingest_queue (group_id, state, received_at, last_update) VALUES (:key, :state, 1, 1)",
}
KEY = {"jobs": "job_id", "ms_index": "path", "ingest_queue": "group_id"}
STATE = {"jobs": "state", "ms_index": "stage", "ingest_queue": "state"}
CHANGES = {
    "enter": "{insert} ON CONFLICT DO NOTHING",
    "enter or move": "{insert} ON CONFLICT ({key}) DO UPDATE SET {state} = excluded.{state}",
    "move": "UPDATE {table} SET {state} = :state WHERE {key} = :key",
    "move all": "UPDATE {table} SET {state} = :state WHERE {key} >= :key",
    "touch": "UPDATE {table} SET {state} = {state} WHERE {key} = :key",
    "rename": "UPDATE {table} SET {key} = '{table}' WHERE {key} = :key"
    " AND NOT EXISTS (SELECT 1 FROM {table} WHERE {key} = '{table}')",
    "remove": "DELETE FROM {table} WHERE {key} = :key",
    "remove all": "DELETE FROM {table}",
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(INSERTS)),
        st.sampled_from(sorted(CHANGES)),
        KEYS,
        st.integers(0, 4),
        st.sampled_from(["convert", "image"]),
        st.sampled_from(["commit", "commit", "commit", "roll back"]),
    ),
    max_size=25,
)


def database_of(table: str) -> str:
    return "ingest" if table == "ingest_queue" else "products"


def change(session: Session, table: str, how: str, key: str, number: int, kind: str) -> None:
    states = {"jobs": JOBS, "ms_index": TILES, "ingest_queue": GROUPS}[table]
    names = {"table": table, "key": KEY[table], "state": STATE[table], "insert": INSERTS[table]}
    told = {"key": key, "state": states[number], "kind": kind}
    statement = CHANGES[how].format(**names)
    session.execute(text(statement), {name: value for name, value in told.items() if f":{name}" in statement})


def counted_in_full() -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for table in INSERTS:
        kind = "stage" if table == "jobs" else "''"
        query = f"SELECT {kind}, coalesce({STATE[table]}, 'unknown'), count(*) FROM {table} GROUP BY 1, 2"
        with get_session(database_of(table), read_only=True) as session:
            found[table] = {(one, two): number for one, two, number in session.execute(text(query))}
    return found


def kept() -> dict[str, Counts]:
    with get_session("products", read_only=True) as products, get_session("ingest", read_only=True) as ingest:
        tiles = {("", stage): number for stage, number in census.progress(products, 2.0).tiles.items()}
        groups = {("", state): number for state, number in census.arrivals(ingest, 2.0).groups.items()}
        return {"jobs": census.jobs(products), "ms_index": tiles, "ingest_queue": groups}


def clear() -> None:
    for table in INSERTS:
        with get_session(database_of(table)) as session:
            session.execute(text(f"DELETE FROM {table}"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_changes_keeps_the_counts(
    backend: str, steps: list[tuple[str, str, str, int, str, str]]
) -> None:
    assert backend
    clear()
    assert not any(kept().values())
    for table, how, key, number, kind, end in steps:
        with get_session(database_of(table)) as session:
            change(session, table, how, key, number, kind)
            if end == "roll back":
                session.rollback()
    assert kept() == counted_in_full()


def lose_triggers() -> None:
    with get_engine("products").begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER count_ms_index_update")
        else:
            connection.exec_driver_sql("DROP TRIGGER count_ms_index ON ms_index")
        connection.exec_driver_sql("UPDATE ms_index SET stage = 'imaged'")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'products_0005'")


def forget() -> None:
    """Make the database one of the version before, which counts nothing."""
    with get_engine("products").begin() as connection:
        for table in ("jobs", "ms_index", "mosaic_groups"):
            if connection.dialect.name == "sqlite":
                for moment in ("insert", "update", "delete"):
                    connection.exec_driver_sql(f"DROP TRIGGER count_{table}_{moment}")
            else:
                connection.exec_driver_sql(f"DROP FUNCTION count_{table}() CASCADE")
        connection.exec_driver_sql("DROP TABLE work_counts")
        connection.exec_driver_sql("UPDATE ms_index SET stage = 'imaged'")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'products_0005'")


@pytest.mark.parametrize("before", [forget, lose_triggers])
def test_an_upgrade_counts_what_is_there(house: object, before: Callable[[], None]) -> None:
    assert house
    with get_session("products") as session:
        for key, number in (("a", 0), ("b", 0), ("c", 4)):
            change(session, "ms_index", "enter", key, number, "")
            change(session, "jobs", "enter", key, number, "image")
    before()
    reset_engines()
    upgrade(Target("products"))
    assert kept()["ms_index"] == {("", "imaged"): 3}
    assert kept()["jobs"] == {("image", "pending"): 2, ("image", "waiting"): 1}
    with get_session("products") as session:
        change(session, "ms_index", "move", "a", 3, "")
    assert kept() == counted_in_full()
