"""How many rows are in which state: never by reading the rows.

Groups, tiles, jobs and mosaic groups are counted by the database as they change (`database.models.row_counts`); the
fewer products and candidates along an index. So an answer takes as long after ten years as after a day.

Everything that the monitoring shows comes from here, so that `contimg status`, the metrics and the alerts agree.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import distinct, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.models import (
    AlertOutbox,
    DataProduct,
    ESECandidate,
    IngestQueue,
    Job,
    JobState,
    MSIndex,
    PerformanceMetrics,
    Quarantine,
    QueueCount,
    QueueState,
    WorkCount,
)
from dsa110_contimg.telescope import mjd_to_unix

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
QUEUED = (QueueState.PENDING.value, QueueState.IN_PROGRESS.value)
UNFINISHED = ("converted", "calibrated", "imaged")
FINISHED = "photometry_complete"
TILE_JOBS = ("calibrate", "image", "measure")
RECENT_GROUPS = 100
STEPS = {
    name.removesuffix("_time"): name
    for name in (
        *("conversion_time", "concat_time", "k_solve_time", "bp_solve_time", "g_solve_time"),
        *("imaging_time", "photometry_time", "total_time"),
    )
}
"""Steps of a group and their columns in performance_metrics."""


@dataclass(frozen=True)
class Arrivals:
    """What `ingest` knows about the flow of groups."""

    groups: Mapping[str, int] = field(default_factory=dict)
    """Groups by state."""
    hour: int = 0
    """Groups whose first file came within the last hour."""
    day: int = 0
    oldest_received_at: float | None = None
    """When the oldest group that waits for its conversion came (unix s); None if none waits."""

    @property
    def queued(self) -> int:
        """Groups that wait for their conversion or are in it."""
        return sum(self.groups.get(state, 0) for state in QUEUED)


@dataclass(frozen=True)
class Progress:
    """What `products` knows about the flow of tiles."""

    tiles: Mapping[str, int] = field(default_factory=dict)
    """Tiles by stage."""
    lost: int = 0
    """Tiles that failed for good on their way."""
    hour: int = 0
    """Tiles whose measurement ended within the last hour."""
    day: int = 0
    newest_unix: float | None = None
    """When the sky of the newest measured tile was observed (unix s)."""

    @property
    def unfinished(self) -> int:
        """Tiles on their way to their measurement."""
        return max(sum(self.tiles.get(stage, 0) for stage in UNFINISHED) - self.lost, 0)


def counts(session: Session, column: InstrumentedAttribute[Any], most: str) -> dict[str, int]:
    """Return the number of rows by state, of which `most` is the one that nearly all rows are in.

    The others are counted along the index of the column, and that one is what remains of all rows: counting without a
    condition takes a tenth of the time of counting by state.
    """
    found: Counter[str] = Counter()
    for others in (column < most, column > most, column.is_(None)):
        rows = session.execute(select(column, func.count()).where(others).group_by(column))
        found.update({str(value or "unknown"): number for value, number in rows})
    rest = (session.scalar(select(func.count()).select_from(column.class_)) or 0) - found.total()
    return dict(found) | ({most: rest} if rest > 0 else {})


def _kept(session: Session, counts: type[QueueCount | WorkCount], table: str) -> dict[tuple[str, str], int]:
    """Return the numbers that the database keeps of a table, by kind and state."""
    query = select(counts.kind, counts.state, counts.number).where(counts.table_name == table, counts.number != 0)
    return {(kind, state): number for kind, state, number in session.execute(query)}


def _by_state(session: Session, counts: type[QueueCount | WorkCount], table: str) -> dict[str, int]:
    return {state: number for (_kind, state), number in _kept(session, counts, table).items()}


def _number(session: Session, column: InstrumentedAttribute[Any], *conditions: Any) -> int:  # noqa: ANN401
    return session.scalar(select(func.count(column)).where(*conditions)) or 0


def arrivals(session: Session, now: float) -> Arrivals:
    """Count groups in the ingest database."""
    queue = IngestQueue
    return Arrivals(
        groups=_by_state(session, QueueCount, "ingest_queue"),
        hour=_number(session, queue.received_at, queue.received_at > now - HOUR_S),
        day=_number(session, queue.received_at, queue.received_at > now - DAY_S),
        oldest_received_at=session.scalar(select(func.min(queue.received_at)).where(queue.state.in_(QUEUED))),
    )


def progress(session: Session, now: float) -> Progress:
    """Count tiles in the products database."""

    def finished(since: float) -> int:
        return _number(session, MSIndex.stage, MSIndex.stage == FINISHED, MSIndex.stage_updated_at > since)

    newest = session.scalar(select(func.max(MSIndex.mid_mjd)).where(MSIndex.stage == FINISHED))
    failed = select(func.count(distinct(Job.subject))).where(
        Job.state == JobState.FAILED.value, Job.stage.in_(TILE_JOBS)
    )
    return Progress(
        tiles=_by_state(session, WorkCount, "ms_index"),
        lost=session.scalar(failed) or 0,
        hour=finished(now - HOUR_S),
        day=finished(now - DAY_S),
        newest_unix=None if newest is None else mjd_to_unix(newest),
    )


def jobs(session: Session) -> dict[tuple[str, str], int]:
    """Return the number of jobs by stage and state."""
    return _kept(session, WorkCount, "jobs")


def mosaic_groups(session: Session) -> dict[str, int]:
    """Return the number of mosaic groups by status."""
    return _by_state(session, WorkCount, "mosaic_groups")


def candidates(session: Session) -> dict[str, int]:
    """Return the number of candidates by status."""
    return counts(session, ESECandidate.status, "active")


def pending_alerts(session: Session) -> dict[str, int]:
    """Return the number of alerts that are still to be sent, by channel ('' before they are addressed)."""
    open_rows = (
        select(AlertOutbox.channel, func.count()).where(AlertOutbox.recorded_at.is_(None)).group_by(AlertOutbox.channel)
    )
    return {channel or "": number for channel, number in session.execute(open_rows)}


def products(session: Session) -> dict[tuple[str, str], int]:
    """Return the number of products by type and status."""
    pair = (DataProduct.data_type, DataProduct.status)
    query = select(*pair, func.count()).group_by(*pair)
    return {(kind, status): number for kind, status, number in session.execute(query)}


def quarantined(session: Session) -> int:
    """Return the number of refused files."""
    return _number(session, Quarantine.path)


def step_seconds(session: Session) -> dict[str, list[float]]:
    """Return the seconds that each step took for the groups recorded last; a step that nobody measured is absent."""
    latest = select(PerformanceMetrics).order_by(PerformanceMetrics.id.desc()).limit(RECENT_GROUPS)
    rows = session.scalars(latest).all()
    found = {
        step: sorted(value for row in rows if (value := getattr(row, name)) is not None) for step, name in STEPS.items()
    }
    return {step: values for step, values in found.items() if values}


def schema_bytes(session: Session) -> int:
    """Return the size of a database that is a schema of a server, with its indexes."""
    size = text(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
        " WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
    )
    return int(session.execute(size).scalar_one())
