"""`contimg alerts`: what was told to people, what still waits, and whether the channels work."""

import dataclasses
import getpass
import json
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from dsa110_contimg.config import current_settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import Alert, acknowledge, list_history, list_pending, record_message
from dsa110_contimg.database.models import AlertHistory, AlertKind, AlertOutbox, Severity
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring.channels import configured_channels, deliver

app = typer.Typer(help="Alerts to people: list, test, acknowledge.", no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One alert, as it is listed; an alert that is still to be sent has no number."""

    state: str
    time_unix: float
    severity: str
    alert_type: str
    source_id: str
    channel: str | None
    message: str
    id: int | None = None
    error: str | None = None
    acknowledged_by: str | None = None
    failures: int = 0
    """Attempts that failed, of an alert that is still to be sent."""
    next_try_unix: float | None = None


@app.command("list")
def list_alerts(
    number: Annotated[int, typer.Option("--number", "-n", help="How many of those that were sent.", min=1)] = 20,
    unacknowledged: Annotated[bool, typer.Option("--new", help="Only those that nobody has acknowledged.")] = False,
    as_json: Json = False,
) -> None:
    """List the alerts that wait to be sent, and the last ones that were sent or could not be.

    Example: contimg alerts list --new
    """
    with get_session("products", read_only=True) as session:
        entries = [_waiting(row) for row in list_pending(session)]
        entries += [_told(row) for row in list_history(session, limit=number, unacknowledged=unacknowledged)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        typer.echo(_line(entry))
    if not entries:
        typer.echo("no alerts")


@app.command()
def test(as_json: Json = False) -> None:
    """Send a test message to every channel of PIPELINE_ALERT_URLS, at once, and say what came of it.

    The exit code is 1 if a channel did not take it.

    Example: contimg alerts test
    """
    channels = configured_channels(current_settings())
    if not channels:
        raise ConfigurationError("no channel is configured: set PIPELINE_ALERT_URLS to a Slack webhook or mailto://")
    now = time.time()
    alert = Alert(AlertKind.TEST, Severity.INFO, f"{getpass.getuser()} tries this channel: nothing is wrong")
    errors: dict[str, str | None] = {}
    for channel in channels:
        errors[channel.name] = error = deliver(channel, alert, now)
        with get_session("products") as session:
            record_message(session, alert, channel.name, success=error is None, error=error, now=now)
    if as_json:
        typer.echo(json.dumps(errors, indent=2))
    else:
        for name, error in errors.items():
            typer.echo(f"{name}: {error or 'sent'}")
    raise typer.Exit(int(any(errors.values())))


@app.command("acknowledge")
def acknowledge_alert(
    alert_id: Annotated[int, typer.Argument(metavar="ALERT_ID", help="Its number in `contimg alerts list`.")],
    by: Annotated[str, typer.Option(help="Who has seen it; your login name by default.")] = "",
) -> None:
    """Say that somebody has seen an alert and the earlier ones of its kind; a lasting cause is not told again.

    Example: contimg alerts acknowledge 17
    """
    with get_session("products") as session:
        found = acknowledge(session, alert_id, by or getpass.getuser(), now=time.time())
    if not found:
        raise ConfigurationError(f"there is no alert {alert_id}: `contimg alerts list` shows the numbers")
    typer.echo(f"alert {alert_id} is acknowledged")


def _waiting(row: AlertOutbox) -> Entry:
    entry = _entry(row, "waits" if row.error is None else "failed, tried again", row.created_at)
    return dataclasses.replace(entry, error=row.error, failures=row.failures, next_try_unix=row.not_before)


def _told(row: AlertHistory) -> Entry:
    entry = _entry(row, {1: "sent", 0: "given up", None: "recorded only"}[row.success], row.sent_at)
    return dataclasses.replace(entry, id=row.id, error=row.error_msg, acknowledged_by=row.acknowledged_by)


def _entry(row: AlertOutbox | AlertHistory, state: str, time_unix: float) -> Entry:
    about = (row.severity, row.alert_type, row.source_id, row.channel, row.message)
    return Entry(state, time_unix, *about)


def _moment(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)


def _line(entry: Entry) -> str:
    moment = _moment(entry.time_unix)
    number = "-" if entry.id is None else str(entry.id)
    where = f" to {entry.channel}" if entry.channel else ""
    tries = (
        f"{entry.failures} failed, next try after {_moment(entry.next_try_unix):%H:%M:%S}"
        if entry.next_try_unix
        else ""
    )
    notes = [entry.error, tries, entry.acknowledged_by and f"seen by {entry.acknowledged_by}"]
    note = "; ".join(text for text in notes if text)
    head = f"{number:>5s} {moment:%Y-%m-%d %H:%M:%S} {entry.severity:8s} {entry.alert_type} [{entry.state}{where}]"
    return f"{head} {entry.message}{f' ({note})' if note else ''}"
