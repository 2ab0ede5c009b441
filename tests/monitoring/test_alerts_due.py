"""What people are told: a pure function of the rows, and the rows that feed it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.monitoring.conftest import NOW

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import Alert, address_alerts, list_pending, queue_alert
from dsa110_contimg.database.models import (
    AlertHistory,
    AlertKind,
    Caltable,
    DataProduct,
    ESECandidate,
    IngestQueue,
    Job,
    MSIndex,
    Quarantine,
    Severity,
    VariabilityStats,
)
from dsa110_contimg.database.repositories import CandidateRepository
from dsa110_contimg.monitoring.alerts import (
    REPEAT_S,
    AlertState,
    Candidate,
    Event,
    LastAlert,
    alerts_due,
    ended,
)
from dsa110_contimg.monitoring.backlog import backlog
from dsa110_contimg.monitoring.census import Arrivals, Progress
from dsa110_contimg.monitoring.disks import Disk
from dsa110_contimg.monitoring.watch import load_alert_state, raise_alerts
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import unix_to_mjd

HOUR = 3600.0
OPTIONS = CalibrationOptions()
QUIET = AlertState(now=NOW, backlog=backlog(Arrivals(), Progress(), NOW), floor_bytes=int(50e9))
BEHIND = backlog(
    Arrivals(groups={"pending": 40}, hour=12, day=280, oldest_received_at=NOW - 3 * HOUR),
    Progress(hour=10, day=240),
    NOW,
)
CONDITIONS = {
    AlertKind.DISK_LOW: replace(QUIET, disks=[Disk("incoming", None), Disk("stage", int(70e9))]),
    AlertKind.FALLING_BEHIND: replace(QUIET, backlog=BEHIND),
    AlertKind.CALIBRATOR_MISSING: replace(QUIET, awaiting_transit=["2025-12-24T03:18:05"]),
    AlertKind.BACKUP_FAILED: replace(QUIET, last_backup_at=NOW - 40 * HOUR),
    AlertKind.PUBLISH_FAILED: replace(QUIET, failed_products=[Event("mosaic_a", "disk full")]),
}
EVENTS = {
    AlertKind.QUARANTINE: replace(QUIET, quarantined=[Event("/in/x_sb03.hdf5", "cut short")]),
    AlertKind.SYSTEM_ERROR: replace(QUIET, failed_jobs=[Event("image:g1", "CLEAN diverges")]),
    AlertKind.ESE_CANDIDATE: replace(QUIET, candidates=[Candidate("J0137+3309", NOW - 5.0, 7.25, "ese")]),
}


def kinds(alerts: Sequence[Alert]) -> list[AlertKind]:
    return [alert.kind for alert in alerts]


def told(state: AlertState, age_s: float, **changes: object) -> AlertState:
    """Return the state after its one alert was told some time ago."""
    (alert,) = alerts_due(state)
    last = LastAlert(state.now - age_s, alert.severity, alert.message, **changes)  # type: ignore[arg-type]
    return replace(state, last={(alert.source_id, alert.kind): last})


def test_all_is_well() -> None:
    assert alerts_due(QUIET) == []
    assert ended(QUIET) == []


@pytest.mark.parametrize(("kind", "state"), {**CONDITIONS, **EVENTS}.items(), ids=str)
def test_a_cause_is_told_with_its_name_and_the_way_out(kind: AlertKind, state: AlertState) -> None:
    (alert,) = alerts_due(state)
    assert alert.kind is kind
    assert alert.severity is Severity.WARNING
    assert alert.source_id == ("J0137+3309" if kind is AlertKind.ESE_CANDIDATE else "system")
    named = {
        AlertKind.DISK_LOW: "`contimg clean --dry-run` says what may go",
        AlertKind.FALLING_BEHIND: "40 groups and tiles wait, the oldest group for 3.0 hours: groups arrive as fast",
        AlertKind.CALIBRATOR_MISSING: "2025-12-24T03:18:05",
        AlertKind.BACKUP_FAILED: "the last backup is 40 hours old: run `contimg backup`",
        AlertKind.PUBLISH_FAILED: "1 product cannot be published: mosaic_a. The first: disk full",
        AlertKind.QUARANTINE: "1 file was refused: /in/x_sb03.hdf5. The first: cut short",
        AlertKind.SYSTEM_ERROR: "image:g1",
        AlertKind.ESE_CANDIDATE: "(ese, 7.2 sigma)",
    }
    assert named[kind] in alert.message


@pytest.mark.parametrize(("kind", "state"), CONDITIONS.items(), ids=str)
def test_a_condition_is_told_once_a_day_until_it_is_acknowledged_or_ends(kind: AlertKind, state: AlertState) -> None:
    assert alerts_due(told(state, 2 * HOUR)) == []
    assert kinds(alerts_due(told(state, REPEAT_S))) == [kind]
    assert alerts_due(told(state, REPEAT_S, acknowledged=True)) == []
    assert kinds(alerts_due(told(state, 2 * HOUR, open=False))) == [kind], "it ended, and has begun again"
    assert ended(told(state, HOUR)) == []
    over = replace(QUIET, last=told(state, HOUR).last)
    assert ended(over) == [kind]
    assert ended(replace(QUIET, last=told(state, HOUR, open=False).last)) == []


def test_what_gets_worse_is_told_again_also_when_acknowledged() -> None:
    low = told(CONDITIONS[AlertKind.DISK_LOW], HOUR, acknowledged=True)
    (alert,) = alerts_due(replace(low, disks=[Disk("stage", int(49e9))]))
    assert alert.severity is Severity.CRITICAL
    assert "pauses until there is room" in alert.message
    late = told(CONDITIONS[AlertKind.BACKUP_FAILED], HOUR)
    (alert,) = alerts_due(replace(late, last_backup_at=NOW - 73 * HOUR))
    assert alert.severity is Severity.CRITICAL


def test_a_further_product_is_told_though_the_first_is_acknowledged() -> None:
    state = told(CONDITIONS[AlertKind.PUBLISH_FAILED], 2 * HOUR, acknowledged=True)
    (alert,) = alerts_due(replace(state, failed_products=[*state.failed_products, Event("mosaic_b", "no")]))
    assert "2 products cannot be published: mosaic_a, mosaic_b" in alert.message


def test_a_candidate_is_told_once_and_again_when_it_is_flagged_anew() -> None:
    state = told(EVENTS[AlertKind.ESE_CANDIDATE], 0.0)
    assert alerts_due(state) == []
    again = replace(state, candidates=[replace(state.candidates[0], flagged_at=NOW + 1.0)])
    assert kinds(alerts_due(again)) == [AlertKind.ESE_CANDIDATE]


def test_a_long_list_is_cut_and_says_so() -> None:
    events = [Event(f"job:{index}", "why") for index in range(33)]
    (alert,) = alerts_due(replace(QUIET, failed_jobs=events))
    assert alert.message.startswith("33 jobs failed for good: job:0, ")
    assert "job:19 and 13 more. The first: why" in alert.message
    assert "job:20" not in alert.message


@pytest.mark.parametrize(
    "state",
    [
        replace(QUIET, disks=[Disk("stage", int(100e9))]),
        replace(QUIET, disks=[Disk("stage", None)]),
        replace(QUIET, backlog=replace(BEHIND, waiting=11)),
        replace(QUIET, backlog=replace(BEHIND, oldest_wait_s=HOUR)),
        replace(QUIET, backlog=replace(BEHIND, clear_s=23 * HOUR)),
        replace(QUIET, last_backup_at=NOW - 35 * HOUR),
        replace(QUIET, first_group_at=NOW - 35 * HOUR),
    ],
)
def test_what_is_near_a_threshold_is_not_told(state: AlertState) -> None:
    assert alerts_due(state) == []


def test_a_house_that_has_worked_without_any_backup_is_told() -> None:
    (alert,) = alerts_due(replace(QUIET, first_group_at=NOW - 37 * HOUR))
    assert alert.message.startswith("there is no backup: run `contimg backup`")


def add_causes() -> None:
    """Put one cause of each kind of event into the rows, and tiles that wait for a transit or do not."""
    with get_session("ingest") as session:
        session.add(IngestQueue(group_id="g1", state="pending", received_at=NOW - HOUR, last_update=NOW))
        session.add(Quarantine(path="/in/x_sb03.hdf5", reason="cut short", quarantined_at=NOW - 100.0))
        session.add(Quarantine(path="/in/old_sb03.hdf5", reason="old", quarantined_at=NOW - 30 * HOUR))
    with get_session("products") as session:
        times = {"created_at": NOW - HOUR, "updated_at": NOW - 200.0}
        session.add(
            Job(job_id="image:g1", stage="image", subject="g1", state="failed", error="CLEAN diverges", **times)
        )
        session.add(Job(job_id="calibrate:lost", stage="calibrate", subject="lost", state="failed", **times))
        session.add(VariabilityStats(source_id="J0137+3309", ra_deg=1.0, dec_deg=2.0, updated_at=NOW))
        session.flush()
        seen = {"source_id": "J0137+3309", "significance": 7.0, "flag_type": "ese", "flagged_at": NOW - 3.0}
        session.add(ESECandidate(**seen, status="active"))
        tiles = {"waits": (16.2, 20.0), "covered": (16.2, 14.0), "recent": (16.2, 1.0), "lost": (16.2, 20.0)}
        for name, (dec, age_h) in tiles.items():
            where = {"pointing_ra_deg": 1.0, "pointing_dec_deg": dec, "mid_mjd": unix_to_mjd(NOW - age_h * HOUR)}
            session.add(MSIndex(path=f"/ms/{name}", group_id=name, stage="converted", **where))
        old = {"mid_mjd": unix_to_mjd(NOW - 400 * HOUR), "pointing_dec_deg": 16.2, "stage_updated_at": NOW - HOUR}
        session.add(MSIndex(path="/ms/archive", group_id="archive", stage="converted", **old))
    with get_session("cal_registry") as session:
        window = {"valid_start_mjd": unix_to_mjd(NOW - 15 * HOUR), "valid_end_mjd": unix_to_mjd(NOW)}
        table = {"set_name": "s", "path": "/c/bp", "table_type": "BP", "order_index": 1, "created_at": NOW}
        session.add(Caltable(**table, **window, dec_deg=16.3))
    with get_session("data_registry") as session:
        paths = {"base_path": "/stage", "stage_path": "/stage/a", "created_at": NOW, "staged_at": NOW}
        session.add(
            DataProduct(data_type="mosaic", data_id="mosaic_a", status="failed", publish_error="disk full", **paths)
        )


def test_every_cause_in_the_rows_is_queued_once(backend: str, root: Path) -> None:
    settings = Settings(min_free_gb=0.0)
    add_causes()
    state = load_alert_state(settings, OPTIONS, NOW)
    assert list(state.awaiting_transit) == ["waits"]
    queued = raise_alerts(settings, OPTIONS, now=NOW)
    wanted = {
        AlertKind.ESE_CANDIDATE,
        AlertKind.QUARANTINE,
        AlertKind.SYSTEM_ERROR,
        AlertKind.PUBLISH_FAILED,
        AlertKind.CALIBRATOR_MISSING,
    }
    assert set(kinds(queued)) == wanted, backend
    assert len(queued) == len(wanted)
    by_kind = {alert.kind: alert.message for alert in queued}
    assert "old_sb03" not in by_kind[AlertKind.QUARANTINE], "a day is as far back as a first look goes"
    assert by_kind[AlertKind.SYSTEM_ERROR].startswith("2 jobs failed for good: calibrate:lost, image:g1.")
    assert raise_alerts(settings, OPTIONS, now=NOW + 60.0) == []
    assert raise_alerts(settings, OPTIONS, now=NOW + 2 * HOUR) == []
    assert root.exists()


@pytest.mark.usefixtures("house")
def test_events_within_the_hour_are_told_together_after_it_and_none_twice() -> None:
    """The last of them got its time before an alert and was committed after it."""
    settings = Settings(min_free_gb=0.0)
    happened = {"/in/a": 0.0, "/in/b": 30.0, "/in/c": 700.0, "/in/d": 3640.0, "/in/e": 3690.0}
    committed = {"/in/a": 0, "/in/b": 30, "/in/c": 700, "/in/d": 3700, "/in/e": 3730}
    told_at: dict[int, str] = {}
    for moment in (0, 30, 60, 90, 700, 3600, 3700, 3730, 3800, 7200, 7400, 9000, 11_100):
        with get_session("ingest") as session:
            for name in [name for name, when in committed.items() if when == moment]:
                session.add(Quarantine(path=name, reason="cut short", quarantined_at=NOW + happened[name]))
        for alert in raise_alerts(settings, OPTIONS, now=NOW + moment):
            told_at[moment] = alert.message.split(": ")[1].split(". ")[0]
    assert told_at == {60: "/in/a", 3700: "/in/b, /in/c, /in/d", 7400: "/in/e"}


@pytest.mark.usefixtures("house")
def test_a_condition_that_ended_is_resolved_in_the_history() -> None:
    low, plenty = Settings(min_free_gb=1e9), Settings(min_free_gb=0.0)
    settings_state = Settings().state
    assert settings_state.exists()
    assert kinds(raise_alerts(low, OPTIONS, now=NOW)) == [AlertKind.DISK_LOW]
    with get_session("products") as session:
        address_alerts(session, {}, now=NOW)
    assert raise_alerts(low, OPTIONS, now=NOW + 2 * HOUR) == []
    raise_alerts(plenty, OPTIONS, now=NOW + 3 * HOUR)
    with get_session("products", read_only=True) as session:
        (row,) = session.query(AlertHistory).all()
        assert row.resolved_at == NOW + 3 * HOUR
    assert kinds(raise_alerts(low, OPTIONS, now=NOW + 4 * HOUR)) == [AlertKind.DISK_LOW]


@pytest.mark.usefixtures("house")
def test_a_candidate_whose_transaction_is_retried_is_told_once() -> None:
    def flag(broken: bool, when: float) -> None:
        with get_session("products") as session:
            if session.get(VariabilityStats, "J0137+3309") is None:
                session.add(VariabilityStats(source_id="J0137+3309", ra_deg=24.4, dec_deg=33.2, updated_at=when))
                session.flush()
            CandidateRepository.flag(session, source_id="J0137+3309", significance=7.0, flag_type="ese", now=when)
            if broken:
                raise ZeroDivisionError

    settings = Settings(min_free_gb=0.0)
    with pytest.raises(ZeroDivisionError):
        flag(broken=True, when=NOW - 5.0)
    assert AlertKind.ESE_CANDIDATE not in kinds(raise_alerts(settings, OPTIONS, now=NOW))
    for attempt in range(2):
        flag(broken=False, when=NOW + attempt)
    told = [alert for step in range(4) for alert in raise_alerts(settings, OPTIONS, now=NOW + 60.0 + 2 * HOUR * step)]
    assert kinds(told).count(AlertKind.ESE_CANDIDATE) == 1


@pytest.mark.usefixtures("house")
def test_an_alert_and_its_cause_are_both_there_or_neither() -> None:
    def flag(broken: bool) -> None:
        with get_session("products") as session:
            session.add(VariabilityStats(source_id=f"J{broken}", ra_deg=1.0, dec_deg=2.0, updated_at=NOW))
            alert = Alert(AlertKind.ESE_CANDIDATE, Severity.WARNING, "look", f"J{broken}")
            assert queue_alert(session, alert, now=NOW)
            if broken:
                raise ZeroDivisionError

    flag(broken=False)
    with pytest.raises(ZeroDivisionError):
        flag(broken=True)
    with get_session("products", read_only=True) as session:
        assert [row.source_id for row in session.query(VariabilityStats)] == ["JFalse"]
        assert [row.source_id for row in list_pending(session)] == ["JFalse"]
