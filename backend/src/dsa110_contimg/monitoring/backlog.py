"""Whether the pipeline keeps up, and what failed last.

With B groups and tiles still to be done, R finished and A arriving in an hour, the backlog is gone after

    B / (R - A)  hours,

if R > A; otherwise never, and the answer says so. The last hour counts; if nothing was finished in it, the last day.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import (
    DataProduct,
    IngestQueue,
    Job,
    JobState,
    ProductStatus,
    Quarantine,
    QueueState,
)
from dsa110_contimg.monitoring.census import HOUR_S, Arrivals, Progress
from dsa110_contimg.monitoring.remedies import FailureKind, remedy

DAY_H = 24.0
NO_REASON = "no reason was recorded"


@dataclass(frozen=True)
class Backlog:
    """What is still to be done, how fast it is done, and when it is gone."""

    queue: dict[str, int]
    """Groups by state."""
    tiles: dict[str, int]
    """Tiles by stage."""
    waiting: int
    """Groups to convert and tiles to calibrate, image or measure."""
    oldest_wait_s: float | None
    """Since when the oldest group has waited for its conversion; None if none waits."""
    finished_last_hour: int
    finished_per_hour_last_day: float
    arrived_last_hour: int
    arrived_per_hour_last_day: float
    behind_sky_s: float | None
    """How long ago the sky of the newest measured tile was observed; None before the first."""
    clear_s: float | None
    """Seconds until the backlog is gone, or None."""
    clear_reason: str | None
    """Why there is no such time."""


@dataclass(frozen=True)
class Failure:
    """Something that failed for good, and the way out."""

    kind: FailureKind
    name: str
    failed_at: float | None
    """When (unix s); None where the row does not say."""
    error: str
    remedy: str


def backlog(arrivals: Arrivals, progress: Progress, now: float) -> Backlog:
    """Return where the pipeline stands against the telescope: a pure function of counts."""
    waiting = arrivals.queued + progress.unfinished
    oldest, newest = arrivals.oldest_received_at, progress.newest_unix
    clear_s, reason = time_to_clear(waiting, arrivals, progress)
    return Backlog(
        queue=dict(arrivals.groups),
        tiles=dict(progress.tiles),
        waiting=waiting,
        oldest_wait_s=None if oldest is None else max(now - oldest, 0.0),
        finished_last_hour=progress.hour,
        finished_per_hour_last_day=progress.day / DAY_H,
        arrived_last_hour=arrivals.hour,
        arrived_per_hour_last_day=arrivals.day / DAY_H,
        behind_sky_s=None if newest is None else max(now - newest, 0.0),
        clear_s=clear_s,
        clear_reason=reason,
    )


def time_to_clear(waiting: int, arrivals: Arrivals, progress: Progress) -> tuple[float | None, str | None]:
    """Return the seconds until nothing waits, or None and why there is no such time."""
    if waiting == 0:
        return 0.0, None
    if progress.day == 0:
        return None, "no tile was finished in the last day"
    done, come, span = (
        (float(progress.hour), float(arrivals.hour), "hour")
        if progress.hour
        else (progress.day / DAY_H, arrivals.day / DAY_H, "day")
    )
    if done <= come:
        return None, f"groups arrive as fast as tiles are finished: {come:.1f} against {done:.1f} an hour (last {span})"
    return waiting / (done - come) * HOUR_S, None


def last_failures(ingest: Session, products: Session, registry: Session, *, limit: int = 10) -> list[Failure]:
    """Return the newest failures of every kind, the newest first."""
    found = [*_groups(ingest, limit), *_files(ingest, limit), *_jobs(products, limit), *_products(registry, limit)]
    return sorted(found, key=lambda failure: failure.failed_at or 0.0, reverse=True)[:limit]


def _failure(kind: FailureKind, name: str, failed_at: float | None, error: str | None) -> Failure:
    told = error or NO_REASON
    return Failure(kind, name, failed_at, told, remedy(kind, told))


def _groups(session: Session, limit: int) -> list[Failure]:
    failed = select(IngestQueue).where(IngestQueue.state == QueueState.FAILED.value)
    rows: Sequence[IngestQueue] = session.scalars(failed.order_by(IngestQueue.last_update.desc()).limit(limit)).all()
    return [_failure(FailureKind.GROUP, row.group_id, row.last_update, row.error_message) for row in rows]


def _files(session: Session, limit: int) -> list[Failure]:
    rows = session.scalars(select(Quarantine).order_by(Quarantine.quarantined_at.desc()).limit(limit))
    return [_failure(FailureKind.FILE, row.path, row.quarantined_at, row.reason) for row in rows]


def _jobs(session: Session, limit: int) -> list[Failure]:
    failed = select(Job).where(Job.state == JobState.FAILED.value).order_by(Job.updated_at.desc()).limit(limit)
    return [_failure(FailureKind.JOB, row.job_id, row.updated_at, row.error) for row in session.scalars(failed)]


def _products(session: Session, limit: int) -> list[Failure]:
    """The registry does not say when a publication failed: the newest rows come first."""
    failed = select(DataProduct).where(DataProduct.status == ProductStatus.FAILED.value)
    rows = session.scalars(failed.order_by(DataProduct.id.desc()).limit(limit))
    return [_failure(FailureKind.PRODUCT, row.data_id, None, row.publish_error) for row in rows]
