"""products.sqlite3, fourth part: messages to people that are still to be sent.

A row of `alert_outbox` is written in the transaction of its cause. It is addressed (one row for each channel that
takes it), sent, and recorded in `alert_history`; a recorded row stays, and says when its cause was last told.
"""

from enum import StrEnum

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dsa110_contimg.database.models.base import ZERO, one_of
from dsa110_contimg.database.models.products import ProductsBase

SYSTEM = "system"
"""The source_id of an alert that is about no source."""


class Severity(StrEnum):
    """How soon a person should look, in rising order."""

    INFO = "info"
    """Worth knowing."""
    WARNING = "warning"
    """Look today."""
    CRITICAL = "critical"
    """Look now: data are lost or about to be."""

    @property
    def rank(self) -> int:
        """The place in rising order."""
        return list(Severity).index(self)


class AlertKind(StrEnum):
    """What an alert is about; the first three are the specification's."""

    ESE_CANDIDATE = "ese_candidate"
    """A light curve awaits a person."""
    CALIBRATOR_MISSING = "calibrator_missing"
    """Tiles have waited long for a calibrator's transit."""
    SYSTEM_ERROR = "system_error"
    """A job failed for good, or a database cannot be read."""
    DISK_LOW = "disk_low"
    """A folder's disk is near or below the floor at which the pipeline pauses."""
    FALLING_BEHIND = "falling_behind"
    """Groups arrive faster than they are processed."""
    QUARANTINE = "quarantine"
    """Files were refused."""
    PUBLISH_FAILED = "publish_failed"
    """A product could not be published."""
    BACKUP_FAILED = "backup_failed"
    """There is no recent backup of the databases."""
    TEST = "test"
    """A person tries the channels."""


class AlertOutbox(ProductsBase):
    """An alert that is still to be sent, or was. `attempt` is the fencing token."""

    __tablename__ = "alert_outbox"
    __table_args__ = (
        one_of("severity", Severity, "ck_alert_severity"),
        Index("idx_outbox_cause", "source_id", "alert_type", "created_at"),
        Index(
            "idx_outbox_open",
            "id",
            sqlite_where=text("recorded_at IS NULL"),
            postgresql_where=text("recorded_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[str]
    alert_type: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[float]
    channel: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default=ZERO)
    failures: Mapped[int] = mapped_column(server_default=ZERO)
    not_before: Mapped[float | None]
    owner: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    error: Mapped[str | None]
    recorded_at: Mapped[float | None]
