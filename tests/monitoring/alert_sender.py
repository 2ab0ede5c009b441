"""A sender in a process of its own, which may be killed at a chosen point or at any moment."""

import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apprise.plugins.slack import NotifySlack
from sqlalchemy.orm import Session

from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import list_pending
from dsa110_contimg.monitoring import sender
from dsa110_contimg.monitoring.channels import Channel, deliver
from dsa110_contimg.monitoring.logs import configure_logs


class Countdown:
    """Kills this process at the n-th point that it passes."""

    def __init__(self, points: int | None) -> None:
        self.left = points

    def point(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def send_until_done(environment: dict[str, str], webhook: str, channel: Channel, kill_at: int | None) -> None:
    """Send what is due until nothing waits; with `kill_at` die at that point: around a commit or around a send."""
    os.environ.update(environment)
    sys.stderr = io.StringIO()
    configure_logs(None)
    NotifySlack.webhook_url = webhook
    NotifySlack.request_rate_per_sec = 0
    countdown = Countdown(kill_at)

    @contextmanager
    def counted(name: str, **options: Any) -> Iterator[Session]:
        with get_session(name, **options) as session:
            yield session
            countdown.point()
        countdown.point()

    def send(target: Channel, *rest: Any) -> str | None:
        countdown.point()
        error = deliver(target, *rest)
        countdown.point()
        return error

    sender.get_session = counted  # type: ignore[attr-defined, assignment]
    for _ in range(500):
        sender.send_due([channel], limit=3, send=send)
        with get_session("products", read_only=True) as session:
            if not list_pending(session):
                return
        time.sleep(0.01)
