"""Alerts on the wire: a server that stands for Slack, a mail server, broken networks, killed senders, and secrets."""

import io
import logging
import multiprocessing
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from pydantic import SecretStr
from tests.monitoring.alert_sender import send_until_done
from tests.monitoring.conftest import NOW, SEED, TOKENS, WEBHOOK, SlackServer, at

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import Alert, list_pending, queue_alert
from dsa110_contimg.database.models import AlertHistory, AlertKind, Severity
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring.channels import Channel, configured_channels, deliver
from dsa110_contimg.monitoring.logs import configure_logs
from dsa110_contimg.monitoring.sender import send_due

CANDIDATE = Alert(AlertKind.ESE_CANDIDATE, Severity.WARNING, "J0137+3309 is a candidate", "J0137+3309")
SLACK = Channel("#ese-alerts", Severity.INFO, WEBHOOK)


def queue(number: int) -> list[str]:
    """Queue that many alerts of different sources and return their messages."""
    messages = [f"message {index:02d}" for index in range(number)]
    with get_session("products") as session:
        for index, message in enumerate(messages):
            alert = Alert(AlertKind.ESE_CANDIDATE, Severity.WARNING, message, f"J{index}")
            assert queue_alert(session, alert, now=NOW)
    return messages


def recorded() -> Counter[str]:
    """Return how often each message was recorded as delivered, and check that nothing else is."""
    with get_session("products", read_only=True) as session:
        rows = session.query(AlertHistory).all()
        assert [row.success for row in rows] == [1] * len(rows)
        assert list_pending(session) == []
        return Counter(row.message for row in rows)


def settings_with(urls: str) -> Settings:
    return Settings(alert_urls=SecretStr(urls))


def test_channels_are_read_from_the_environment_and_named_without_secrets() -> None:
    urls = [
        WEBHOOK,
        f"warning=slack://{'/'.join(TOKENS)}/#ese-alerts",
        "critical=mailto://mail.example.org:587?user=bot&pass=letmein-1234&from=bot@example.org&to=ops@example.org",
        WEBHOOK,
    ]
    channels = configured_channels(settings_with("  ".join(urls)))
    assert [channel.name for channel in channels] == ["Slack", "#ese-alerts", "ops@example.org", "Slack 2"]
    assert [channel.least for channel in channels] == [
        Severity.INFO,
        Severity.WARNING,
        Severity.CRITICAL,
        Severity.INFO,
    ]
    for text in (repr(channels), repr(settings_with(WEBHOOK)), str(channels)):
        assert not any(secret in text for secret in (*TOKENS, "letmein-1234"))
    assert configured_channels(Settings()) == []


def test_an_address_that_is_none_is_one_sentence_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(None, verbose=True)
    with pytest.raises(ConfigurationError, match="address 2 of 2") as caught:
        configured_channels(settings_with(f"{WEBHOOK} nosuch://secret-token"))
    assert "secret-token" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_slack_gets_what_happened_and_when(slack: SlackServer) -> None:
    assert deliver(SLACK, CANDIDATE, NOW) is None
    (text,) = slack.texts
    assert text.splitlines() == ["J0137+3309 is a candidate", "2025-12-17 19:33:20 UTC"]


class Inbox:
    """Takes every message."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, _server: SMTP, _session: object, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.messages.append(([str(address) for address in envelope.rcpt_tos], envelope.content))
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[Inbox, int]]:
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield inbox, port
    controller.stop()


def test_mail_arrives_at_every_address(mail: tuple[Inbox, int]) -> None:
    inbox, port = mail
    url = f"mailto://127.0.0.1:{port}?from=bot@example.org&to=ops@example.org,pi@example.org&mode=insecure"
    (channel,) = configured_channels(settings_with(url))
    assert channel.name == "ops@example.org, pi@example.org"
    assert deliver(channel, CANDIDATE, NOW) is None
    assert sorted(address for people, _ in inbox.messages for address in people) == [
        "ops@example.org",
        "pi@example.org",
    ]
    message = message_from_bytes(inbox.messages[0][1])
    assert message["Subject"] == "DSA-110 warning: ese candidate"
    part = next(part for part in message.walk() if part.get_content_type() == "text/plain")
    assert b"J0137+3309 is a candidate" in part.get_payload(decode=True)


@pytest.mark.usefixtures("house")
def test_a_network_that_fails_only_delays(slack: SlackServer) -> None:
    slack.answers = [500, 404, 500]
    queue(1)
    now, outcomes = NOW, list[Counter[str]]()
    while not outcomes or outcomes[-1] != Counter(sent=1):
        outcomes.append(send_due([SLACK], clock=at(now)))
        now += 4000.0
        assert len(outcomes) < 10
    assert outcomes[:3] == [Counter(failed=1)] * 3
    assert recorded() == slack.counts() == Counter({"message 00": 1})


def test_no_secret_is_in_the_history_or_the_log_when_sending_fails(
    house: Path, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack.answers = [404]
    before = list(logging.root.handlers)
    configure_logs(house / "state" / "contimg.jsonl", verbose=True, stream=(terminal := io.StringIO()))
    queue(1)
    assert send_due([SLACK], clock=at(NOW)) == Counter(failed=1)
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", "http://127.0.0.1:9/services")
    assert send_due([SLACK], clock=at(NOW + 4000.0)) == Counter(failed=1), "nobody listens"
    for handler in [handler for handler in logging.root.handlers if handler not in before]:
        logging.root.removeHandler(handler)
        handler.close()
    told = (house / "state" / "contimg.jsonl").read_text()
    assert "alert ese_candidate to #ese-alerts: failed" in told
    rows = (house / "state" / "products.sqlite3").read_bytes()
    log = (house / "state" / "products.sqlite3-wal").read_bytes() if list(house.rglob("products*-wal")) else b""
    for token in TOKENS:
        assert token not in told + terminal.getvalue()
        assert token.encode() not in rows + log


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """A server of processes that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["dsa110_contimg", "tests.monitoring.alert_sender", "dsa110_contimg.monitoring.logs"]
    )
    return context


def start(context: ForkServerContext, slack: SlackServer, kill_at: int | None = None) -> ForkServerProcess:
    named = ("PIPELINE_ROOT", "PIPELINE_DATABASE_URL")
    environment = {name: os.environ[name] for name in named if name in os.environ}
    process = context.Process(target=send_until_done, args=(environment, slack.url, SLACK, kill_at))
    process.start()
    return process


def test_a_sender_killed_at_every_point_in_turn_loses_and_doubles_no_record(
    house: Path, slack: SlackServer, processes: ForkServerContext
) -> None:
    messages, killed = queue(3), 0
    for point in range(40):
        process = start(processes, slack, kill_at=point % 13)
        process.join(30.0)
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        killed += 1
    assert process.exitcode == 0
    counts = slack.counts()
    print(f"killed {killed} times, {counts.total()} messages for {len(messages)} alerts")
    assert killed >= 8
    assert counts.total() > len(messages), "none was killed between a send and its record"
    assert set(counts) == set(messages)
    assert recorded() == Counter(messages)
    assert house.exists()


def test_senders_killed_at_random_lose_and_double_no_record(
    backend: str, slack: SlackServer, processes: ForkServerContext
) -> None:
    print(f"seed {SEED}")
    rng, messages = random.Random(SEED), queue(25)
    kills = 0
    while kills < 12:
        pair = [start(processes, slack) for _ in range(2)]
        victim = rng.choice(pair)
        victim.join(rng.uniform(0.02, 0.3))
        kills += victim.is_alive()
        victim.kill()
        for process in pair:
            if process is not victim and (kills >= 12 or rng.random() < 0.5):
                process.kill()
            process.join()
        with get_session("products", read_only=True) as session:
            if not list_pending(session):
                break
    last = start(processes, slack)
    last.join(60.0)
    assert last.exitcode == 0
    print(f"{backend}: killed {kills} times, {slack.counts().total()} messages for {len(messages)} alerts")
    assert kills >= 1
    assert set(slack.counts()) == set(messages)
    assert recorded() == Counter(messages)


@pytest.mark.usefixtures("house")
def test_two_senders_at_once_send_nothing_twice(slack: SlackServer, processes: ForkServerContext) -> None:
    messages = queue(12)
    pair = [start(processes, slack) for _ in range(2)]
    for process in pair:
        process.join(60.0)
    assert [process.exitcode for process in pair] == [0, 0]
    assert slack.counts() == recorded() == Counter(messages)
