"""The clock on the wall, which may be set while a run lasts: an hour forward is no hour that somebody waited.

Rows carry times of the wall clock, since they outlive a process and a boot; this one counts beside it with a clock
that nobody sets, and so notices a step.
"""

import logging
import time

logger = logging.getLogger(__name__)
STEP_S = 5.0
"""Slower changes are those by which a time service steers a clock."""


class Clock:
    """Compares the wall clock with one that only runs forward."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._stepped: float | None = None

    def look(self) -> None:
        """Notice whether the wall clock was set since the last look."""
        offset = time.time() - time.monotonic()
        if abs(offset - self._offset) > STEP_S:
            logger.warning("the clock was set by %+.0f s; what waits by the clock begins anew", offset - self._offset)
            self._stepped = time.monotonic()
        self._offset = offset

    def is_steady(self, seconds: float) -> bool:
        """Return whether it has not been set for so long."""
        return self._stepped is None or time.monotonic() - self._stepped >= seconds
