"""ingest.sqlite3: groups of subband files on their way in, and files that were refused."""

from enum import StrEnum

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from dsa110_contimg.database.models.base import COLUMN_TYPES, ZERO, one_of
from dsa110_contimg.database.models.row_counts import RowCounts, count_rows


class QueueState(StrEnum):
    """Where a group of subband files stands."""

    COLLECTING = "collecting"
    """Files are still arriving."""
    PENDING = "pending"
    """Complete, or no longer waited for: a worker may claim it."""
    IN_PROGRESS = "in_progress"
    """A worker converts it."""
    COMPLETED = "completed"
    """Its Measurement Set exists and is indexed."""
    FAILED = "failed"
    """It cannot be converted; error_message says why."""

    @classmethod
    def parse(cls, value: str) -> "QueueState":
        """Return the state of a name; 'processing' is another word for in_progress."""
        return cls.IN_PROGRESS if value == "processing" else cls(value)


class IngestBase(DeclarativeBase):
    """The tables of ingest.sqlite3."""

    type_annotation_map = COLUMN_TYPES


class IngestQueue(IngestBase):
    """One group of 16 subband files."""

    __tablename__ = "ingest_queue"
    __table_args__ = (
        one_of("state", QueueState, "ck_ingest_state"),
        Index("idx_ingest_state", "state"),
        Index("idx_ingest_received", "received_at"),
    )

    group_id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    received_at: Mapped[float]
    last_update: Mapped[float]
    expected_subbands: Mapped[int | None] = mapped_column(server_default=text("16"))
    has_calibrator: Mapped[int | None]
    calibrators: Mapped[str | None]
    retry_count: Mapped[int | None] = mapped_column(server_default=ZERO)
    error_message: Mapped[str | None]

    @validates("state")
    def _canonical_state(self, _key: str, value: str) -> str:
        return QueueState.parse(value).value


class SubbandFile(IngestBase):
    """One subband file of a group."""

    __tablename__ = "subband_files"
    __table_args__ = (
        UniqueConstraint("group_id", "subband_idx"),
        Index("idx_subband_group", "group_id"),
        Index("idx_subband_path", "file_path", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"))
    subband_idx: Mapped[int]
    file_path: Mapped[str]
    file_size: Mapped[int | None]
    discovered_at: Mapped[float]


class PerformanceMetrics(IngestBase):
    """Seconds spent on one group, stage by stage."""

    __tablename__ = "performance_metrics"
    __table_args__ = (Index("idx_perf_group", "group_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("ingest_queue.group_id"), unique=True)
    writer_type: Mapped[str | None]
    conversion_time: Mapped[float | None]
    concat_time: Mapped[float | None]
    k_solve_time: Mapped[float | None]
    bp_solve_time: Mapped[float | None]
    g_solve_time: Mapped[float | None]
    imaging_time: Mapped[float | None]
    photometry_time: Mapped[float | None]
    total_time: Mapped[float | None]
    recorded_at: Mapped[float]


class Quarantine(IngestBase):
    """A file that was refused, and why."""

    __tablename__ = "quarantine"

    path: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str | None]
    reason: Mapped[str]
    quarantined_at: Mapped[float]


class QueueCount(RowCounts, IngestBase):
    """How many groups are in which state; triggers keep it."""

    __tablename__ = "queue_counts"


count_rows(IngestBase.metadata, "queue_counts", ("ingest_queue", "state", None))
