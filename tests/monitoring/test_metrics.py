"""The figures for Prometheus are those of the rows, whoever is asked and whatever cannot be read."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, text
from tests.monitoring.conftest import NOW, Truth, fill

from dsa110_contimg.config import DATABASES, current_settings
from dsa110_contimg.database import get_engine, get_session
from dsa110_contimg.database.alert_outbox import Alert, queue_alert
from dsa110_contimg.database.models import AlertKind, Severity
from dsa110_contimg.monitoring.disks import measure_disks
from dsa110_contimg.monitoring.metrics import render

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(now: float = NOW) -> Series:
    """Return every sample by name and labels."""
    families = text_string_to_metric_families(render(now=now).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((f"contimg_{name}", frozenset(labels.items())))


def test_every_count_is_that_of_the_rows(backend: str) -> None:
    truth = fill(120)
    with get_session("products") as session:
        queue_alert(session, Alert(AlertKind.TEST, Severity.INFO, "hello"), now=NOW)
    series = scrape()
    for state, number in truth.groups.items():
        assert value(series, "groups", state=state) == number
    for stage, number in truth.tiles.items():
        assert value(series, "tiles", stage=stage) == number
    for (stage, state), number in truth.jobs.items():
        assert value(series, "jobs", stage=stage, state=state) == number
    for (kind, status), number in truth.products.items():
        assert value(series, "products", type=kind, status=status) == number
    assert value(series, "products", type="mosaic", status="retracted") == 0
    for status, number in truth.candidates.items():
        assert value(series, "candidates", status=status) == number
    for window, name in ((3600.0, "1h"), (86400.0, "24h")):
        assert value(series, "groups_arrived", window=name) == truth.arrived[window]
        assert value(series, "tiles_finished", window=name) == truth.finished[window]
    unfinished = sum(truth.tiles[stage] for stage in ("converted", "calibrated", "imaged"))
    assert value(series, "backlog") == truth.groups["pending"] + truth.groups["in_progress"] + unfinished
    assert value(series, "quarantined_files") == truth.quarantined
    assert value(series, "alerts_pending", channel="unaddressed") == 1
    recent = sorted(truth.conversion[-100:])
    assert value(series, "step_seconds", step="conversion", percentile="50") == pytest.approx(recent[len(recent) // 2])
    assert value(series, "step_seconds", step="total", percentile="50") is None
    for name in DATABASES:
        assert value(series, "database_up", database=name) == 1
        assert (value(series, "database_bytes", database=name) or 0) > 4096, backend


@pytest.mark.usefixtures("filled")
def test_ages_follow_the_clock_and_nothing_is_kept_in_the_process() -> None:
    first, later = scrape(), scrape(NOW + 1000.0)
    for name in ("oldest_waiting_seconds", "behind_sky_seconds"):
        assert value(later, name) == pytest.approx((value(first, name) or 0.0) + 1000.0)
    again = scrape()
    assert {key: again[key] for key in first if "disk_free" not in key[0]} == {
        key: number for key, number in first.items() if "disk_free" not in key[0]
    }


@pytest.mark.usefixtures("house")
def test_what_is_not_known_has_no_sample() -> None:
    series = scrape()
    for name in ("oldest_waiting_seconds", "behind_sky_seconds", "last_backup_timestamp_seconds"):
        assert value(series, name) is None
    assert value(series, "disk_free_bytes", area="incoming") is None, "the folder does not exist"
    assert (value(series, "disk_free_bytes", area="state") or 0) > 0
    assert value(series, "disk_floor_bytes") == 50e9
    assert value(series, "groups", state="failed") == 0
    assert value(series, "time_to_clear_seconds") == 0


def test_a_database_that_cannot_be_read_takes_only_its_own_figures_with_it(filled: Truth, house: Path) -> None:
    (house / "state" / "ingest.sqlite3").write_bytes(b"this is no database" * 1000)
    (house / "state" / "hdf5.sqlite3").unlink()
    series = scrape()
    up = {name: value(series, "database_up", database=name) for name in DATABASES}
    assert up == {name: float(name not in ("ingest", "hdf5")) for name in DATABASES}
    assert value(series, "tiles", stage="imaged") == filled.tiles["imaged"]
    assert value(series, "groups", state="pending") is None
    assert value(series, "backlog") is None


def test_the_last_backup_is_told(house: Path) -> None:
    folder = house / "state" / "backups" / "backup_20251217_000000"
    folder.mkdir(parents=True)
    told = '"why": "daily", "engine": "sqlite", "version": "1", "host": "h", "engine_version": "3"'
    (folder / "manifest.json").write_text(f'{{"made_unix": {NOW - 500.0}, {told}, "copies": []}}')
    assert value(scrape(), "last_backup_timestamp_seconds") == NOW - 500.0
    (folder / "manifest.json").write_text("{")
    assert value(scrape(), "last_backup_timestamp_seconds") is None


def test_a_folder_that_disappeared_has_no_room(house: Path) -> None:
    (house / "stage").mkdir()
    assert [disk.free_bytes is None for disk in measure_disks(current_settings()) if disk.area == "stage"] == [False]
    (house / "stage").rmdir()
    assert [disk.free_bytes is None for disk in measure_disks(current_settings()) if disk.area == "stage"] == [True]


@pytest.mark.usefixtures("filled")
def test_a_scrape_reads_indexes_and_not_tables() -> None:
    """However many groups there are: what has no index would be read row by row."""
    asked: list[tuple[str, str, object]] = []
    for name in ("ingest", "products", "data_registry"):
        engine = get_engine(name, read_only=True)

        def note(_c: object, _k: object, sql: str, values: object, _x: object, _m: bool, name: str = name) -> None:
            asked.append((name, sql, values))

        event.listen(engine, "before_cursor_execute", note)
    scrape()
    plans = []
    for name, sql, values in [entry for entry in asked if entry[1].startswith(("SELECT", "WITH"))]:
        with get_session(name, read_only=True) as session:
            rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()  # type: ignore[arg-type]
        plans += [(sql, row[3]) for row in rows if row[3].startswith(("SCAN", "SEARCH"))]
    assert len(plans) >= 12
    small = ("quarantine", "performance_metrics", "idx_outbox_open")
    slow = [
        (sql, plan)
        for sql, plan in plans
        if "INDEX" not in plan or (plan.startswith("SCAN") and "COVERING" not in plan)
        if not any(f" {name}" in plan for name in small)
    ]
    assert slow == []
    # Of what grows with every group only what failed, or is of the last day, is gone through.
    growing = ("jobs", "ms_index", "ingest_queue")
    through = [(sql, plan) for sql, plan in plans if any(f" {name} " in f"{plan} " for name in growing)]
    assert len(through) >= 4
    assert [one for one in through if "=?" not in one[1] and ">?" not in one[1]] == []
    with get_session("products", read_only=True) as session:
        plan = session.execute(text("EXPLAIN QUERY PLAN SELECT count(*) FROM jobs WHERE owner = 'x'")).all()
    assert "INDEX" not in plan[0][3], "a plan without an index can be seen"
