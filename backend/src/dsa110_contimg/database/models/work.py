"""products.sqlite3, third part: units of work, and what quality assurance measured."""

from enum import StrEnum

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from dsa110_contimg.database.models.base import ZERO, one_of
from dsa110_contimg.database.models.products import ProductsBase
from dsa110_contimg.database.models.row_counts import RowCounts, count_rows


class JobState(StrEnum):
    """Where a unit of work stands."""

    PENDING = "pending"
    """Nobody works on it; it may be claimed once not_before has passed."""
    RUNNING = "running"
    """An owner works on it until its lease runs out."""
    COMPLETED = "completed"
    """Its result is committed."""
    FAILED = "failed"
    """It failed for good; error says why."""
    WAITING = "waiting"
    """It waits for something named in error, such as a calibrator's transit."""


class Verdict(StrEnum):
    """What one quality check says."""

    PASSED = "passed"
    """Within both thresholds."""
    WARNING = "warning"
    """Beyond the warning threshold."""
    FAILED = "failed"
    """Beyond the failure threshold."""
    UNMEASURED = "unmeasured"
    """No value could be measured; reason says why."""


class Job(ProductsBase):
    """One unit of work: a stage and its subject. `attempt` is the fencing token."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", JobState, "ck_state"),
        Index("idx_jobs_state", "state", "priority"),
        Index("idx_jobs_subject", "subject"),
        Index("idx_jobs_state_stage", "state", "stage", "updated_at"),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    stage: Mapped[str]
    subject: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    priority: Mapped[int] = mapped_column(server_default=ZERO)
    owner: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default=ZERO)
    lease_expires_at: Mapped[float | None]
    heartbeat_at: Mapped[float | None]
    not_before: Mapped[float | None]
    error: Mapped[str | None]
    log_tail: Mapped[str | None]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    failures: Mapped[int] = mapped_column(server_default=ZERO)
    deaths: Mapped[int | None]


class QACheck(ProductsBase):
    """One measured value of one subject, its thresholds and the verdict."""

    __tablename__ = "qa_checks"
    __table_args__ = (
        one_of("verdict", Verdict, "ck_verdict"),
        UniqueConstraint("subject", "name"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    name: Mapped[str]
    value: Mapped[float | None]
    threshold_warning: Mapped[float | None]
    threshold_failure: Mapped[float | None]
    verdict: Mapped[str]
    reason: Mapped[str | None]
    measured_at: Mapped[float]


class WorkCount(RowCounts, ProductsBase):
    """How many jobs, tiles and mosaic groups are in which state; triggers keep it."""

    __tablename__ = "work_counts"


count_rows(
    ProductsBase.metadata,
    "work_counts",
    ("jobs", "state", "stage"),
    ("ms_index", "stage", None),
    ("mosaic_groups", "status", None),
)
