"""The verdict: what facts say, in words that name the thing and the way out."""

import sqlite3
from dataclasses import replace

import pytest

from dsa110_contimg.config import current_settings
from dsa110_contimg.database import reset_engines
from dsa110_contimg.database.alert_outbox import Alert
from dsa110_contimg.database.flow_queries import Newest
from dsa110_contimg.database.models import AlertKind, Severity
from dsa110_contimg.database.session import database_path
from dsa110_contimg.monitoring.backlog import Backlog
from dsa110_contimg.pipeline.health import Facts, examine, judge
from dsa110_contimg.pipeline.notices import Notice

NOW = 1_766_000_000.0
FLOW = Backlog({}, {}, 0, None, 0, 0.0, 0, 0.0, None, 0.0, None)
RUN = Notice("vm:1:2", NOW - 1000.0, NOW - 5.0, slots=2)
WELL = Facts(
    now=NOW, runs=[RUN], backlog=FLOW, newest=Newest(NOW - 600.0, NOW - 4000.0, NOW - 500.0),
    newest_data_unix=NOW - 400.0, newest_file_unix=NOW - 90.0,
)  # fmt: skip


def abouts(facts: Facts) -> list[str]:
    return [reason.about for reason in judge(facts).reasons]


def test_all_is_well() -> None:
    told = judge(WELL)
    assert (told.severity, told.reasons) == (None, [])
    assert told.summary.startswith("Healthy")


@pytest.mark.parametrize(
    ("facts", "about", "severity", "words"),
    [
        (replace(WELL, newest_data_unix=NOW + 7200.0), "clock", Severity.CRITICAL, "2 hours in the future"),
        (replace(WELL, newest_data_unix=NOW + 61.0), "clock", Severity.CRITICAL, "61 seconds in the future"),
        (replace(WELL, newest_file_unix=NOW - 7300.0), "telescope idle", Severity.WARNING, "2 hours ago"),
        (replace(WELL, runs=[]), "no run", Severity.WARNING, "start `contimg run`"),
        (replace(WELL, runs=[], backlog=replace(FLOW, waiting=7)), "no run", Severity.CRITICAL, "7 groups and tiles"),
        (replace(WELL, runs=[replace(RUN, paused="the disk is full")]), "run paused", Severity.CRITICAL, "is full"),
        (replace(WELL, runs=[replace(RUN, told_at=NOW - 900.0)]), "silent run", Severity.WARNING, "15 minutes"),
        (replace(WELL, failed_jobs=1, failed_groups=2), "failed work", Severity.WARNING, "1 job and 2 groups failed"),
        (replace(WELL, held_groups=[("2025-12-24T03:18:05", 3)]), "missing subbands", Severity.WARNING, "3 of 16"),
        (replace(WELL, newest=Newest(NOW - 90000.0, None, None)), "no new image", Severity.WARNING, "25 hours"),
        (replace(WELL, unreadable={"products": "x is away: run `contimg init`"}), "database products",
         Severity.CRITICAL, "X is away"),
        (replace(WELL, newest_file_unix=None), "no data yet", Severity.INFO, "contimg demo"),
        (replace(WELL, conditions=[Alert(AlertKind.DISK_LOW, Severity.WARNING, "2 GB are free")]), "disk low",
         Severity.WARNING, "2 GB are free"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong(facts: Facts, about: str, severity: Severity, words: str) -> None:
    told = judge(facts)
    (reason,) = told.reasons
    assert (reason.about, reason.severity, told.severity) == (about, severity, severity)
    assert words in reason.sentence
    assert about in told.summary
    assert reason.page.startswith("/")


@pytest.mark.parametrize(
    "facts",
    [
        replace(WELL, newest_data_unix=NOW + 59.0),
        replace(WELL, newest_file_unix=NOW - 3500.0),
        replace(WELL, newest=Newest(NOW - 86000.0, None, None)),
        replace(WELL, newest=Newest(None, None, None)),
        replace(WELL, runs=[replace(RUN, told_at=NOW - 100.0)]),
    ],
)
def test_what_is_within_its_limits_is_no_reason(facts: Facts) -> None:
    assert judge(facts).reasons == []


def test_the_worst_comes_first_and_names_the_verdict() -> None:
    facts = replace(WELL, failed_jobs=1, newest_data_unix=NOW + 600.0, newest=Newest(NOW - 90000.0, None, None))
    assert abouts(facts) == ["clock", "failed work", "no new image"]
    assert judge(facts).summary == "Act now: clock."


def test_an_idle_telescope_explains_that_no_image_comes() -> None:
    facts = replace(WELL, newest_file_unix=NOW - 90000.0, newest=Newest(NOW - 90000.0, None, None))
    told = {reason.about: reason.sentence for reason in judge(facts).reasons}
    assert "no data came, either" in told["no new image"]


@pytest.mark.usefixtures("house")
def test_an_empty_installation_says_what_to_do_next() -> None:
    told = examine(current_settings())
    assert {reason.about for reason in told.reasons} >= {"no run", "no data yet"}
    assert not [reason for reason in told.reasons if reason.about.startswith("database")]


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize("name", ["products", "ingest", "cal_registry", "hdf5", "data_registry", "calibrators"])
def test_a_missing_database_is_a_reason_and_stops_no_other(name: str) -> None:
    database_path(name).unlink()
    reset_engines()
    told = {reason.about: reason for reason in examine(current_settings()).reasons}
    reason = told[f"database {name}"]
    assert reason.severity is Severity.CRITICAL
    assert "does not exist: run `contimg init`" in reason.sentence
    assert "database products" not in told or name == "products"


@pytest.mark.usefixtures("house")
def test_a_database_of_an_older_version_is_named() -> None:
    path = database_path("products")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'products_0001'")
    connection.close()
    reset_engines()
    told = {reason.about: reason.sentence for reason in examine(current_settings()).reasons}
    assert "older" in told["database products"]
    assert "while somebody migrates it" in told["database products"]


@pytest.mark.usefixtures("house")
def test_a_file_that_is_no_database_is_named() -> None:
    database_path("hdf5").write_bytes(b"no database" * 1000)
    reset_engines()
    told = {reason.about: reason.sentence for reason in examine(current_settings()).reasons}
    assert "not a SQLite database" in told["database hdf5"]
