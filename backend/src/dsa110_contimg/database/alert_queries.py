"""Questions about what people were told: the history of alerts in pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import AlertHistory, AlertOutbox
from dsa110_contimg.database.upserts import page


@dataclass(frozen=True)
class AlertRow:
    """One message, sent or given up."""

    id: int
    sent_unix: float
    severity: str
    alert_type: str
    source_id: str
    message: str
    channel: str | None
    delivered: bool | None
    """None: it was for nobody, and the error says why."""
    error: str | None
    acknowledged_unix: float | None
    acknowledged_by: str | None
    resolved_unix: float | None


@dataclass(frozen=True)
class PendingAlertRow:
    """One message that is still to be sent."""

    created_unix: float
    severity: str
    alert_type: str
    source_id: str
    message: str
    channel: str | None
    failures: int
    error: str | None


def list_alerts(
    session: Session,
    *,
    severities: Sequence[str] = (),
    alert_type: str | None = None,
    unacknowledged: bool = False,
    since_unix: float | None = None,
    after: int | None = None,
    limit: int,
) -> list[AlertRow]:
    """Return messages, the newest first; `after` is the id of the last row of the page before."""
    query = select(AlertHistory)
    if severities:
        query = query.where(AlertHistory.severity.in_(severities))
    if alert_type is not None:
        query = query.where(AlertHistory.alert_type == alert_type)
    if unacknowledged:
        query = query.where(AlertHistory.acknowledged_at.is_(None))
    if since_unix is not None:
        query = query.where(AlertHistory.sent_at >= since_unix)
    key = None if after is None else (after,)
    return [
        _told(row) for row in session.scalars(page(query, (AlertHistory.id,), after=key, limit=limit, descending=True))
    ]


def list_standing(session: Session, *, since_unix: float, limit: int) -> list[AlertRow]:
    """Return the newest message of each source and kind that nobody has acknowledged and whose cause may last."""
    newest = (
        select(func.max(AlertHistory.id))
        .where(AlertHistory.sent_at >= since_unix, AlertHistory.alert_type != "test")
        .group_by(AlertHistory.source_id, AlertHistory.alert_type)
    )
    query = select(AlertHistory).where(
        AlertHistory.id.in_(newest), AlertHistory.acknowledged_at.is_(None), AlertHistory.resolved_at.is_(None)
    )
    return [_told(row) for row in session.scalars(query.order_by(AlertHistory.id.desc()).limit(limit))]


def list_waiting(session: Session, *, limit: int) -> list[PendingAlertRow]:
    """Return what is still to be sent, the oldest first."""
    query = select(AlertOutbox).where(AlertOutbox.recorded_at.is_(None)).order_by(AlertOutbox.id).limit(limit)
    return [
        PendingAlertRow(
            created_unix=row.created_at,
            severity=row.severity,
            alert_type=row.alert_type,
            source_id=row.source_id,
            message=row.message,
            channel=row.channel,
            failures=row.failures,
            error=row.error,
        )
        for row in session.scalars(query)
    ]


def _told(row: AlertHistory) -> AlertRow:
    return AlertRow(
        id=row.id,
        sent_unix=row.sent_at,
        severity=row.severity,
        alert_type=row.alert_type,
        source_id=row.source_id,
        message=row.message,
        channel=row.channel,
        delivered=None if row.success is None else bool(row.success),
        error=row.error_msg,
        acknowledged_unix=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        resolved_unix=row.resolved_at,
    )
