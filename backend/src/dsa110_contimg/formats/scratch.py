"""A file appears under its final name only when it is whole.

It is written beside the target under a name of this attempt alone, flushed to disk, and renamed: a reader sees
the old file or the new one, and a killed writer leaves at most a `.partial` file.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a scratch path that becomes *target*, on disk, only if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield scratch
        _flush(scratch)
        scratch.replace(target)
        _flush(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
