"""Does a pipeline run here? A lock says so, and it ends with its process, however that ends.

Every run holds the lock of the state folder together with the others; who replaces databases holds it alone. So a
restore finds out that a run is idle between two files, which no row tells, and no run starts in the middle of it.
On several machines the lock reaches as far as the file system of the state folder carries locks; jobs that run
elsewhere are known by their rows.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import DataProduct, Job, JobState, ProductStatus
from dsa110_contimg.database.ownership import is_gone
from dsa110_contimg.errors import ConfigurationError

LOCK_NAME = "run.lock"


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Hold the run lock together with other runs.

    Raises
    ------
    ConfigurationError
        If databases are being replaced at this moment.
    """
    with _locked(settings.state / LOCK_NAME, fcntl.LOCK_SH) as got:
        if not got:
            raise ConfigurationError(f"databases in {settings.state} are being restored: run again when that has ended")
        yield


@contextmanager
def alone(settings: Settings) -> Iterator[bool]:
    """Hold the run lock alone, as far as that can be had, and say whether it was: False while a run holds it."""
    with _locked(settings.state / LOCK_NAME, fcntl.LOCK_EX) as got:
        yield got


def is_running(settings: Settings) -> bool:
    """Return whether a run holds the lock."""
    path = settings.state / LOCK_NAME
    if not path.exists():
        return False
    # Whoever may only read can ask, too.
    with _held(path, os.O_RDONLY, fcntl.LOCK_EX) as got:
        return not got


def owners(now: float) -> list[str]:
    """Return who holds a lease on a job or a product and may be alive."""
    with get_session("products", read_only=True) as session:
        held = Job.state == JobState.RUNNING.value, Job.lease_expires_at >= now
        found = set(session.scalars(select(Job.owner).where(*held)))
    with get_session("data_registry", read_only=True) as session:
        publishing = DataProduct.status == ProductStatus.PUBLISHING.value, DataProduct.lease_expires_at >= now
        found |= set(session.scalars(select(DataProduct.owner).where(*publishing)))
    return sorted(owner for owner in found if owner is not None and not is_gone(owner))


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held(path, os.O_RDWR | os.O_CREAT, kind) as got:
        yield got


@contextmanager
def _held(path: Path, access: int, kind: int) -> Iterator[bool]:
    descriptor = os.open(path, access | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
