"""`contimg alerts`: list, test, acknowledge."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.monitoring.conftest import NOW, SlackServer, at
from typer.testing import CliRunner

from dsa110_contimg.cli.alerts import app
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import Alert, queue_alert
from dsa110_contimg.database.models import AlertKind, Severity
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring.channels import configured_channels
from dsa110_contimg.monitoring.sender import send_due

pytestmark = pytest.mark.usefixtures("house")
URL = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def call(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def add(kind: AlertKind, message: str, now: float, *, send: bool) -> None:
    with get_session("products") as session:
        assert queue_alert(session, Alert(kind, Severity.WARNING, message), now=now)
    if send:
        send_due([], clock=at(now))


def test_alerts_are_listed_and_acknowledged() -> None:
    assert call("list") == (0, "no alerts\n")
    add(AlertKind.DISK_LOW, "little room", NOW, send=True)
    add(AlertKind.QUARANTINE, "1 file was refused", NOW, send=False)
    lines = call("list")[1].splitlines()
    assert lines[0].endswith("quarantine [waits] 1 file was refused")
    assert lines[1].startswith("    1 2025-12-17 19:33:20 warning  disk_low [recorded only] little room")
    assert "PIPELINE_ALERT_URLS is not set" in lines[1]
    assert call("acknowledge", "1", "--by", "ada") == (0, "alert 1 is acknowledged\n")
    entries = json.loads(call("list", "--json")[1])
    assert [(entry["id"], entry["acknowledged_by"]) for entry in entries] == [(None, None), (1, "ada")]
    assert len(json.loads(call("list", "--new", "--json")[1])) == 1
    with pytest.raises(ConfigurationError, match="there is no alert 7: `contimg alerts list`"):
        call("acknowledge", "7")


def test_what_could_not_be_sent_yet_says_when_it_is_tried_again(slack: SlackServer) -> None:
    add(AlertKind.DISK_LOW, "little room", NOW, send=False)
    slack.answers = [503]
    send_due(configured_channels(Settings(alert_urls=SecretStr(URL))), clock=at(NOW))
    (line,) = call("list")[1].splitlines()
    assert "[failed, tried again to Slack]" in line
    assert line.endswith("1 failed, next try after 19:33:50)")
    (entry,) = json.loads(call("list", "--json")[1])
    assert (entry["failures"], entry["next_try_unix"]) == (1, NOW + 30.0)


def test_every_channel_is_tried_and_the_outcome_is_recorded(
    slack: SlackServer, monkeypatch: pytest.MonkeyPatch, house: Path
) -> None:
    monkeypatch.setenv("PIPELINE_ALERT_URLS", f"{URL} critical={URL}")
    assert call("test") == (0, "Slack: sent\nSlack 2: sent\n")
    slack.answers = [200, 403]
    code, out = call("test", "--json")
    assert code == 1
    errors = json.loads(out)
    assert errors["Slack"] is None
    assert "403" in errors["Slack 2"]
    entries = json.loads(call("list", "--json")[1])
    assert [entry["state"] for entry in entries] == ["given up", "sent", "sent", "sent"]
    assert slack.counts().total() == 3
    assert house.exists()


def test_without_a_channel_the_way_out_is_named() -> None:
    with pytest.raises(ConfigurationError, match="set PIPELINE_ALERT_URLS"):
        call("test")
