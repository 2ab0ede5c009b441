"""What arrives while the pipeline runs: asked each turn, it costs nothing while nothing comes.

The folder may go (a mount is lost, a disk is changed) and come back: meanwhile nothing is taken for gone, the trouble
is told once, and the first listing after it makes up for what was missed.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dsa110_contimg.errors import FolderAwayError
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline.incoming import Watcher, tells_of_changes
from dsa110_contimg.pipeline.ingest import Intake, ScanReport

logger = logging.getLogger(__name__)


class Arrivals:
    """The files that arrive in a folder.

    Parameters
    ----------
    folder
        The incoming folder.
    options
        How often it is listed.
    wake
        Called, from another thread, as soon as something has come.
    notices
        Whether the file system tells of new files; None asks it.
    """

    def __init__(
        self,
        folder: Path,
        options: ConversionOptions,
        wake: Callable[[], None] = lambda: None,
        *,
        notices: bool | None = None,
    ) -> None:
        self._intake, self._options = Intake(folder, options), options
        told = tells_of_changes(folder) if notices is None else notices
        self._watcher = Watcher(folder, wake) if told else None
        self._starts, self._listed = 0, False
        self._next_listing = self._next_look = 0.0
        self.trouble: str | None = None
        """Why the folder cannot be listed at present."""

    def __enter__(self) -> Self:
        if self._watcher is not None:
            self._watcher.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.__exit__(kind, error, trace)

    @property
    def next_look_s(self) -> float:
        """Seconds until there may be something to do although nobody told of it."""
        due = min(self._next_listing, self._next_look) if self._intake.waits else self._next_listing
        return max(due - time.monotonic(), 0.0)

    def collect(self) -> ScanReport:
        """Record what has come since the last call, and return it.

        Raises
        ------
        ConfigurationError
            If the folder could not be listed even once, or a database cannot be used.
        """
        now = time.monotonic()
        names = self._told()
        try:
            return self._look(names, now)
        except BaseException:
            # The names are told once: a listing finds them again.
            self._next_listing = 0.0
            raise

    def _look(self, names: set[str], now: float) -> ScanReport:
        if now >= self._next_listing or (names and self.trouble is not None):
            return self._list(names, now)
        if names or (self._intake.waits and now >= self._next_look):
            self._next_look = now + self._options.poll_s
            return self._intake.scan(names, whole=False)
        return ScanReport()

    def _told(self) -> set[str]:
        if self._watcher is None:
            return set()
        if self._watcher.starts != self._starts:
            self._starts, self._next_listing = self._watcher.starts, 0.0
        return self._watcher.take()

    def _list(self, names: set[str], now: float) -> ScanReport:
        watched = self._watcher is not None and self._watcher.watching
        self._next_listing = now + (self._options.relist_s if watched else self._options.poll_s)
        self._next_look = now + self._options.poll_s
        try:
            report = self._intake.scan(names)
        except FolderAwayError as error:
            if not self._listed:
                raise
            self._note(str(error), now)
            return ScanReport()
        self._listed = True
        if self._intake.emptied:
            self._note(f"incoming folder {self._intake.folder} is empty, but held files: mount what belongs there", now)
        else:
            self._note(None, now)
        return report

    def _note(self, trouble: str | None, now: float) -> None:
        """Say once that the folder is away, and once that it is back."""
        if trouble is not None:
            self._next_listing = now + self._options.poll_s
            if self.trouble is None:
                logger.error("%s; nothing new is taken until it is back", trouble)
        elif self.trouble is not None:
            logger.info("the incoming folder is back")
        self.trouble = trouble
