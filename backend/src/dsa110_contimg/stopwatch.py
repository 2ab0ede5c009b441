"""Seconds that the parts of a step take, gathered by whoever wants them.

A step marks its parts with `timed`; a caller that opened `collecting` around it finds their seconds, summed by name.
Where nobody collects, nothing is kept. Collections do not mix between threads.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[dict[str, float] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[dict[str, float]]:
    """Yield a mapping that fills with the seconds of the parts that end in the block."""
    parts: dict[str, float] = {}
    token = _collected.set(parts)
    try:
        yield parts
    finally:
        _collected.reset(token)


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Add the seconds of the block to a part, also where it raises."""
    began = time.perf_counter()
    try:
        yield
    finally:
        parts = _collected.get()
        if parts is not None:
            parts[part] = parts.get(part, 0.0) + time.perf_counter() - began
