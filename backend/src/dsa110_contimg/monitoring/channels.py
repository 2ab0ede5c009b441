"""Where alerts go: Slack, e-mail, or anything else that apprise can reach.

PIPELINE_ALERT_URLS holds addresses, separated by blanks; what stands before one is the least severity that it takes:

    warning=https://hooks.slack.com/services/T000/B000/XXXX  critical=mailto://mail.example.org?from=...&to=...

An address is a secret. A channel's name is what people may read: '#ese-alerts', 'ops@example.org', or the service.
"""

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import apprise
from apprise.logger import LogCapture

from dsa110_contimg.config import Settings
from dsa110_contimg.database.alert_outbox import Alert
from dsa110_contimg.database.models import Severity
from dsa110_contimg.errors import ConfigurationError

SEND_TIMEOUT_S = 60.0
"""Longer than any attempt: apprise waits 4 s for a connection and 4 s for an answer, 15 s for a mail server."""
_WORD = re.compile(rf"(?:({'|'.join(Severity)})=)?(\S+)")
_MIN_SECRET = 6
_NOTE = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}


@dataclass(frozen=True)
class Channel:
    """One address to which alerts go."""

    name: str
    least: Severity
    url: str = field(repr=False)


def configured_channels(settings: Settings) -> list[Channel]:
    """Return the channels of PIPELINE_ALERT_URLS, each with a name of its own.

    Raises
    ------
    ConfigurationError
        If an address is none that apprise understands; the sentence does not show it.
    """
    words = settings.alert_urls.get_secret_value().split() if settings.alert_urls else []
    channels: list[Channel] = []
    seen: Counter[str] = Counter()
    for place, word in enumerate(words, 1):
        match = _WORD.fullmatch(word)
        assert match is not None, "a word has no blanks"
        with LogCapture():  # What it complains of is an address.
            service = apprise.Apprise.instantiate(match[2], suppress_exceptions=True)
        if service is None:
            raise ConfigurationError(
                f"address {place} of {len(words)} in PIPELINE_ALERT_URLS is no Slack webhook, mailto:// address or"
                " other address of apprise: write [info=|warning=|critical=]ADDRESS, separated by blanks"
            )
        name = _name(service)
        seen[name] += 1
        number = f" {seen[name]}" if seen[name] > 1 else ""
        channels.append(Channel(f"{name}{number}", Severity(match[1] or Severity.INFO), match[2]))
    return channels


def _name(service: apprise.NotifyBase) -> str:
    """Return whom a service reaches, else what it is; nothing else of an address is public."""
    parts = unquote(urlsplit(service.url(privacy=True)).path).split("/")
    people = [part for part in parts if part.startswith("#") or ("@" in part and "..." not in part)]
    return ", ".join(people) or str(service.service_name)


def deliver(channel: Channel, alert: Alert, created_at: float) -> str | None:
    """Send an alert; return None when the channel took it, else why not, without the address."""
    sender = apprise.Apprise()
    sender.add(channel.url)
    moment = datetime.fromtimestamp(created_at, UTC)
    with LogCapture(level=logging.WARNING, fmt="%(message)s") as told:
        sent = sender.notify(
            title=f"DSA-110 {alert.severity}: {alert.kind.replace('_', ' ')}",
            body=f"{alert.message}\n{moment:%Y-%m-%d %H:%M:%S} UTC",
            notify_type=_NOTE[alert.severity],
            body_format=apprise.NotifyFormat.TEXT,
        )
        reason = " ".join(told.getvalue().split())
    return None if sent else hide_secrets(reason or "the service gave no reason", channel)


def hide_secrets(text: str, channel: Channel) -> str:
    """Return a text without the parts of a channel's address that could be secret."""
    address = urlsplit(channel.url)
    parts = [*unquote(address.path).split("/"), address.username or "", address.password or "", address.netloc]
    for part in sorted(set(parts), key=len, reverse=True):
        if len(part) >= _MIN_SECRET and part not in channel.name:
            text = text.replace(part, "***")
    return text
