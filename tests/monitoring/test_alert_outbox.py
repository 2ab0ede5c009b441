"""The outbox: at most one alert an hour, one sender at a time, recorded once, given up after a day."""

import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.monitoring.conftest import NOW, at

from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import (
    HORIZON_S,
    Alert,
    acknowledge,
    address_alerts,
    claim_delivery,
    list_history,
    list_pending,
    postpone_delivery,
    queue_alert,
    record_delivery,
)
from dsa110_contimg.database.models import AlertHistory, AlertKind, AlertOutbox, Severity
from dsa110_contimg.monitoring.channels import Channel
from dsa110_contimg.monitoring.sender import GIVE_UP_S, MAX_FAILURES, pause_after, send_due

ALERT = Alert(AlertKind.DISK_LOW, Severity.WARNING, "little room")
SLACK = Channel("Slack", Severity.INFO, "json://127.0.0.1")
MAIL = Channel("ops@example.org", Severity.CRITICAL, "json://127.0.0.1")


def queue(*alerts: Alert, now: float = NOW) -> list[bool]:
    with get_session("products") as session:
        return [queue_alert(session, alert, now=now) for alert in alerts]


def history() -> list[tuple[str | None, int | None, str | None]]:
    with get_session("products", read_only=True) as session:
        rows = session.query(AlertHistory).order_by(AlertHistory.id).all()
        return [(row.channel, row.success, row.error_msg) for row in rows]


def pending() -> int:
    with get_session("products", read_only=True) as session:
        return len(list_pending(session))


def test_a_source_and_kind_has_one_alert_an_hour(backend: str) -> None:
    other = Alert(AlertKind.DISK_LOW, Severity.WARNING, "x", "J1")
    kind = Alert(AlertKind.QUARANTINE, Severity.WARNING, "x")
    worse = Alert(AlertKind.DISK_LOW, Severity.CRITICAL, "none left")
    assert queue(ALERT, ALERT, worse, other, kind) == [True, False, False, True, True], backend
    assert queue(ALERT, now=NOW + 3599.0) == [False]
    assert queue(ALERT, now=NOW + 3601.0) == [True]
    assert queue(ALERT, now=NOW - 100 * 86400.0) == [True], "a clock set back does not silence anything for long"


def test_of_many_that_queue_at_once_one_succeeds(backend: str) -> None:
    results: list[bool] = []
    start = threading.Barrier(6)

    def run() -> None:
        start.wait()
        results.extend(queue(ALERT))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 5 + [True], backend


def test_each_channel_takes_what_is_severe_enough_for_it(backend: str) -> None:
    queue(ALERT, Alert(AlertKind.DISK_LOW, Severity.CRITICAL, "none left", "J1"))
    sent: list[tuple[str, str]] = []

    def send(channel: Channel, alert: Alert, created_at: float) -> None:
        assert created_at == NOW
        sent.append((channel.name, alert.message))

    assert send_due([SLACK, MAIL], clock=at(NOW + 1.0), send=send) == Counter(sent=3), backend
    assert sorted(sent) == [("Slack", "little room"), ("Slack", "none left"), ("ops@example.org", "none left")]
    assert sorted(name or "" for name, success, _ in history() if success == 1) == ["Slack", "Slack", "ops@example.org"]
    assert send_due([SLACK, MAIL], clock=at(NOW + 2.0), send=send) == Counter()


def test_without_channels_alerts_are_recorded_as_told_to_nobody(backend: str) -> None:
    queue(ALERT)
    assert send_due([], clock=at(NOW)) == Counter()
    assert history() == [(None, None, "PIPELINE_ALERT_URLS is not set")], backend
    queue(ALERT, now=NOW + 4000.0)
    assert send_due([MAIL], clock=at(NOW + 4000.0)) == Counter()
    assert history()[1] == (None, None, "no channel takes alerts of severity warning")
    assert pending() == 0


@pytest.mark.usefixtures("house")
def test_what_fails_is_tried_ever_more_seldom_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(pause_after(number) for number in range(1, MAX_FAILURES)) == pytest.approx(86400.0, rel=0.1), "a day"
    monkeypatch.setattr("dsa110_contimg.monitoring.sender.MAX_FAILURES", 10)
    queue(ALERT)
    now, outcomes = NOW, Counter[str]()
    pauses: list[float] = []
    while pending() and len(pauses) < 100:
        outcomes += send_due([SLACK], clock=at(now), send=lambda *_: "no_service")
        with get_session("products", read_only=True) as session:
            due = [row.not_before for row in list_pending(session)]
        if due and due[0] is not None:
            assert send_due([SLACK], clock=at((due[0] or 0.0) - 1.0)) == Counter(), "it waits"
            pauses.append(due[0] - now)
            now = due[0]
    assert outcomes == Counter({"failed": 9, "given up": 1})
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]
    assert history() == [("Slack", 0, "no_service")]


@pytest.mark.usefixtures("house")
def test_a_channel_that_fails_holds_up_no_other() -> None:
    queue(Alert(AlertKind.DISK_LOW, Severity.CRITICAL, "none left"))
    failing = send_due(
        [SLACK, MAIL], clock=at(NOW), send=lambda channel, _a, _t: "refused" if channel is SLACK else None
    )
    assert failing == Counter(failed=1, sent=1)
    assert send_due([SLACK, MAIL], clock=at(NOW + 31.0), send=lambda *_: None) == Counter(sent=1)
    assert sorted(row[:2] for row in history() if row[0]) == [("Slack", 1), ("ops@example.org", 1)]


def test_one_sender_holds_a_delivery_and_a_late_one_changes_nothing(backend: str) -> None:
    queue(ALERT)
    with get_session("products") as session:
        address_alerts(session, {"Slack": Severity.INFO}, now=NOW)
        first = claim_delivery(session, ["Slack"], "elsewhere:1:1", 60.0, now=NOW)
        assert first is not None
        assert first.alert == ALERT
        assert claim_delivery(session, ["Slack"], "elsewhere:2:2", 60.0, now=NOW + 59.0) is None
        second = claim_delivery(session, ["Slack"], "elsewhere:2:2", 60.0, now=NOW + 61.0)
        assert second is not None
        assert second.attempt == first.attempt + 1
        assert not record_delivery(session, first, error=None, now=NOW + 62.0)
        assert not postpone_delivery(session, first, error="x", not_before=NOW)
        assert record_delivery(session, second, error=None, now=NOW + 63.0)
        assert not record_delivery(session, second, error=None, now=NOW + 64.0)
        assert claim_delivery(session, ["Slack"], "elsewhere:3:3", 60.0, now=NOW + 1e6) is None
    assert history() == [("Slack", 1, None)], backend


@pytest.mark.usefixtures("house")
def test_a_clock_that_is_set_back_by_years_delays_nothing_for_years() -> None:
    queue(ALERT)
    with get_session("products") as session:
        address_alerts(session, {"Slack": Severity.INFO}, now=NOW)
        assert claim_delivery(session, ["Slack"], "elsewhere:1:1", 60.0, now=NOW + 1e8) is not None
        assert claim_delivery(session, ["Slack"], "elsewhere:2:2", 60.0, now=NOW) is not None
        held = session.query(AlertOutbox).one()
        held.lease_expires_at, held.not_before = None, NOW + HORIZON_S - 1.0
        session.flush()
        assert claim_delivery(session, ["Slack"], "elsewhere:3:3", 60.0, now=NOW) is None


@pytest.mark.usefixtures("house")
def test_alerts_for_a_channel_that_was_taken_away_are_given_up_with_the_reason() -> None:
    queue(ALERT)
    send_due([SLACK], clock=at(NOW), send=lambda *_: "refused")
    send_due([MAIL], clock=at(NOW + GIVE_UP_S - 1.0))
    assert pending() == 1
    send_due([MAIL], clock=at(NOW + GIVE_UP_S + 1.0))
    assert pending() == 0
    assert history() == [("Slack", 0, "channel Slack is no longer in PIPELINE_ALERT_URLS")]


def test_an_alert_is_acknowledged_with_the_earlier_ones_of_its_kind(house: Path) -> None:
    other = Alert(AlertKind.QUARANTINE, Severity.WARNING, "x")
    for number, alert in enumerate((ALERT, other, ALERT, ALERT)):
        queue(alert, now=NOW + 4000.0 * number)
        send_due([], clock=at(NOW + 4000.0 * number))
    with get_session("products") as session:
        assert acknowledge(session, 3, "ada", now=NOW)
        assert not acknowledge(session, 99, "ada", now=NOW)
    with get_session("products", read_only=True) as session:
        assert [row.id for row in list_history(session, limit=9, unacknowledged=True)] == [4, 2]
        assert [row.acknowledged_by for row in list_history(session, limit=2)] == [None, "ada"]
    assert house.exists()
