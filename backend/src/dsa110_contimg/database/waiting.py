"""How long a statement waits for what another process has locked.

Work can wait, half a minute. A question that somebody asked the server is answered sooner, if only by saying that the
database is locked: all of its statements together wait no longer than `in_a_hurry` lets them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOCK_TIMEOUT_S = 30.0
QUESTION_S = 2.5
_LEAST_S = 0.1
"""What is left when the time is over: a lock of a moment is none."""
_ends: ContextVar[float | None] = ContextVar("ends", default=None)


@contextmanager
def in_a_hurry(seconds: float = QUESTION_S) -> Iterator[None]:
    """Let all statements of a block together wait so long for locks."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def lock_wait_s() -> float:
    """Return how long the next statement may wait."""
    ends = _ends.get()
    return LOCK_TIMEOUT_S if ends is None else max(ends - time.monotonic(), _LEAST_S)
