"""Questions about the flow: what was done in each hour, when the newest image was made, what the newest rows are.

`marks` tells by a few numbers whether a database has anything new, so that somebody who watches need not ask for all.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import (
    AlertHistory,
    Caltable,
    DataProduct,
    ESECandidate,
    HDF5FileIndex,
    Image,
    IngestQueue,
    Job,
    JobState,
    Mosaic,
    MSIndex,
    Quarantine,
    QueueCount,
    TransientCandidate,
    VariabilityStats,
    WorkCount,
)
from dsa110_contimg.telescope import TILE_SECONDS

HOUR_S = 3600.0
FINISHED = "photometry_complete"


@dataclass(frozen=True)
class HourRow:
    """What came and what was done in one hour."""

    start_unix: float
    arrived: int
    """Groups whose first file came."""
    finished: int
    """Tiles whose measurement ended."""

    @property
    def times_sky(self) -> float:
        """How many times faster than the sky it was."""
        return self.finished * TILE_SECONDS / HOUR_S


@dataclass(frozen=True)
class Newest:
    """When the newest of each kind was made (unix s); None before the first."""

    image_unix: float | None
    mosaic_unix: float | None
    tile_stage_unix: float | None


def hours(ingest: Session, products: Session, *, now: float, number: int) -> list[HourRow]:
    """Return the last hours, the oldest first; the last one ends now."""
    begin = now - number * HOUR_S
    came = ingest.scalars(
        select(IngestQueue.received_at).where(IngestQueue.received_at >= begin, IngestQueue.received_at < now)
    )
    done = products.scalars(
        select(MSIndex.stage_updated_at).where(
            MSIndex.stage == FINISHED, MSIndex.stage_updated_at >= begin, MSIndex.stage_updated_at < now
        )
    )
    arrived, finished = _binned(came, begin), _binned((one for one in done if one is not None), begin)
    return [HourRow(begin + place * HOUR_S, arrived[place], finished[place]) for place in range(number)]


def _binned(times: Iterable[float], begin: float) -> Counter[int]:
    return Counter(int((one - begin) // HOUR_S) for one in times)


def newest(session: Session) -> Newest:
    """Return when the newest image and mosaic were made; the session is of `products`."""
    return Newest(
        image_unix=session.scalar(select(func.max(Image.created_at)).where(Image.type == "image")),
        mosaic_unix=session.scalar(select(func.max(Mosaic.created_at))),
        tile_stage_unix=session.scalar(select(func.max(MSIndex.stage_updated_at)).where(MSIndex.stage == FINISHED)),
    )


def failed_jobs_since(session: Session, since_unix: float) -> int:
    """Return the number of jobs that failed for good after a time and stand so."""
    query = select(func.count()).where(Job.state == JobState.FAILED.value, Job.updated_at >= since_unix)
    return session.scalar(query) or 0


def failed_groups_since(session: Session, since_unix: float) -> int:
    """Return the number of groups that failed after a time and stand so; the session is of `ingest`."""
    query = select(func.count()).where(IngestQueue.state == "failed", IngestQueue.last_update >= since_unix)
    return session.scalar(query) or 0


def images_since(session: Session, since_unix: float) -> int:
    """Return the number of images of tiles that were made after a time."""
    query = select(func.count()).where(Image.type == "image", Image.created_at >= since_unix)
    return session.scalar(query) or 0


def count_sources(session: Session) -> int:
    """Return the number of sources that have a light curve."""
    return session.scalar(select(func.count()).select_from(VariabilityStats)) or 0


Marks = dict[str, tuple[float | int | str | None, ...]]
"""By subject a few numbers that change when it does."""


def products_marks(session: Session) -> Marks:
    """Return the marks of `products`."""
    return {
        "jobs": _counted(session, WorkCount, "jobs"),
        "tiles": _counted(session, WorkCount, "ms_index"),
        "mosaics": (*_counted(session, WorkCount, "mosaic_groups"), session.scalar(select(func.max(Mosaic.id)))),
        "candidates": (
            session.scalar(select(func.max(ESECandidate.id))),
            session.scalar(select(func.count()).where(ESECandidate.status == "active")),
            session.scalar(select(func.max(TransientCandidate.id))),
        ),
        "alerts": (
            session.scalar(select(func.max(AlertHistory.id))),
            session.scalar(select(func.max(AlertHistory.acknowledged_at))),
        ),
    }


def ingest_marks(session: Session) -> Marks:
    """Return the marks of `ingest`."""
    newest_group = session.scalar(select(func.max(IngestQueue.group_id)))
    refused = session.scalar(select(func.count()).select_from(Quarantine))
    changed = session.scalar(select(func.max(IngestQueue.last_update)).where(IngestQueue.state == "collecting"))
    return {"queue": (*_counted(session, QueueCount, "ingest_queue"), newest_group, refused, changed)}


def cal_registry_marks(session: Session) -> Marks:
    """Return the marks of `cal_registry`."""
    active = session.scalar(select(func.count()).where(Caltable.active == 1))
    return {"calibration": (session.scalar(select(func.max(Caltable.id))), active)}


def data_registry_marks(session: Session) -> Marks:
    """Return the marks of `data_registry`."""
    query = select(DataProduct.status, func.count()).group_by(DataProduct.status).order_by(DataProduct.status)
    return {"publishing": tuple(part for row in session.execute(query) for part in row)}


def hdf5_marks(session: Session) -> Marks:
    """Return the marks of `hdf5`."""
    return {"files": (session.scalar(select(func.max(HDF5FileIndex.timestamp_mjd))),)}


def _counted(
    session: Session, counts: type[QueueCount | WorkCount], table: str
) -> tuple[float | int | str | None, ...]:
    """Return the numbers that the database keeps of a table, in a fixed order."""
    query = select(counts.kind, counts.state, counts.number).where(counts.table_name == table)
    return tuple(part for row in session.execute(query.order_by(counts.kind, counts.state)) for part in row)
