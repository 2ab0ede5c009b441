"""What a run does beside its jobs: alerts, backups, log files, and, if asked for, making room and a HiPS of the sky.

Each chore has a thread of its own while it works, so that a mail server that does not answer holds up no backup, and
neither of them a job. What goes wrong in one is logged, and tried again when it is due again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread

from sqlalchemy.exc import SQLAlchemyError

from dsa110_contimg.config import Settings
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.housekeeping import backups, cleaning
from dsa110_contimg.housekeeping.backups import BackupOptions
from dsa110_contimg.housekeeping.retention import RetentionOptions
from dsa110_contimg.monitoring import channels, sender, watch
from dsa110_contimg.monitoring.logs import log_path, rotate_logs
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline.sky import make_sky_when_due

logger = logging.getLogger(__name__)
MINUTE_S = 60.0
HOUR_S = 3600.0
BACKUP_RETRY_S = 900.0
"""How often a run asks whether a backup is due, and so tries again one that failed."""


@dataclass
class Chore:
    """Something that is done from time to time."""

    name: str
    every_s: float
    work: Callable[[], object]
    due: float = 0.0
    """Not before this time (monotonic s)."""
    thread: Thread | None = None

    def start_if_due(self, now: float) -> None:
        """Begin it in a thread, unless it is not due or still at work."""
        if now < self.due or (self.thread is not None and self.thread.is_alive()):
            return
        self.due = now + self.every_s
        self.thread = Thread(target=self._do, name=self.name, daemon=True)
        self.thread.start()

    def _do(self) -> None:
        try:
            self.work()
        except (PipelineError, OSError, SQLAlchemyError) as trouble:
            logger.error("%s: %s", self.name, trouble)  # noqa: TRY400 - the sentence says it all


def chores_of(settings: Settings, options: PipelineOptions) -> list[Chore]:
    """Return the chores of a run."""

    def tell() -> None:
        watch.raise_alerts(settings, options.calibration, now=time.time())
        rotate_logs(log_path(settings))

    found = [
        Chore("alerts", MINUTE_S, tell),
        Chore("messages", MINUTE_S, lambda: sender.send_due(channels.configured_channels(settings))),
        Chore(
            "backups",
            BACKUP_RETRY_S,
            lambda: backups.back_up_when_due(settings.backups, BackupOptions(), now=time.time()),
        ),
    ]
    if options.products.nightly_hips:
        found.append(Chore("hips", HOUR_S, lambda: make_sky_when_due(settings, options.products, now=time.time())))
    if options.schedule.clean:
        found.append(Chore("clean", HOUR_S, lambda: make_room(settings)))
    return found


def make_room(settings: Settings) -> None:
    """Remove what nothing needs any more, by the rules of `contimg clean`."""
    done = cleaning.clean(settings, RetentionOptions(), BackupOptions(), now=time.time())
    logger.info("removed %d files by rule, %.1f GB", len(done.removed), done.bytes / 1e9)


def start_due(chores: Sequence[Chore]) -> None:
    """Begin the chores that are due."""
    for chore in chores:
        chore.start_if_due(time.monotonic())
