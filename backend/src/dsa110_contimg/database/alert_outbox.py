"""Alerts on their way to people: the table `alert_outbox`, and what became of them in `alert_history`.

    queue ──address──► one row per channel ──claim──► sent ──record──► a row of alert_history
                               ▲                        │
                               └────────postpone────────┘

An alert is queued in the transaction of its cause: either both are there or neither. A claim is one UPDATE with a
lease; its `attempt` is the fencing token. Who claimed and died before recording is followed by another sender: a
message may go out twice. It is recorded once, because recording closes the row in the same transaction.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Float,
    String,
    and_,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.models import AlertHistory, AlertKind, AlertOutbox, Severity
from dsa110_contimg.database.models.alerts import SYSTEM
from dsa110_contimg.database.ownership import is_gone

QUIET_S = 3600.0
"""At most one alert of a source and kind in this time."""
HORIZON_S = 2 * QUIET_S
"""No lease and no pause is longer: a time further ahead was written before the clock was set back."""


@dataclass(frozen=True)
class Alert:
    """Something that people should know."""

    kind: AlertKind
    severity: Severity
    message: str
    """One sentence or two that name the thing and the way out."""
    source_id: str = SYSTEM


@dataclass(frozen=True)
class Delivery:
    """One alert for one channel, claimed by this process."""

    outbox_id: int
    attempt: int
    failures: int
    alert: Alert
    created_at: float
    channel: str


def queue_alert(session: Session, alert: Alert, *, now: float) -> bool:
    """Enter an alert, to be sent after this transaction; False if its source and kind had one within the hour."""
    told = exists().where(
        AlertOutbox.source_id == alert.source_id,
        AlertOutbox.alert_type == alert.kind.value,
        AlertOutbox.created_at.between(now - QUIET_S, now + QUIET_S),
    )
    values: dict[str, ColumnElement[str] | ColumnElement[float]] = {
        "source_id": literal(alert.source_id, String),
        "alert_type": literal(alert.kind.value, String),
        "severity": literal(alert.severity.value, String),
        "message": literal(alert.message, String),
        "created_at": literal(now, Float),
    }
    row = select(*values.values()).where(~told)
    queued = session.execute(insert(AlertOutbox).from_select(list(values), row).returning(AlertOutbox.id)).first()
    return queued is not None


def _passed(column: InstrumentedAttribute[float | None], now: float) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= now, column > now + HORIZON_S)


def address_alerts(session: Session, channels: Mapping[str, Severity], *, now: float) -> None:
    """Give each new alert its channels, by the least severity that each takes; record what no channel takes."""
    new = select(AlertOutbox).where(AlertOutbox.recorded_at.is_(None), AlertOutbox.channel.is_(None))
    for row in session.scalars(new.order_by(AlertOutbox.id)).all():
        severity = Severity(row.severity)
        takers = [name for name, least in channels.items() if severity.rank >= least.rank]
        if not takers:
            why = f"no channel takes alerts of severity {severity}" if channels else "PIPELINE_ALERT_URLS is not set"
            row.recorded_at, row.error = now, why
            record_message(session, _alert_of(row), None, success=None, error=why, now=now)
            continue
        row.channel = takers[0]
        same = {name: getattr(row, name) for name in ("source_id", "alert_type", "severity", "message", "created_at")}
        session.add_all(AlertOutbox(channel=name, **same) for name in takers[1:])
    session.flush()


def claim_delivery(
    session: Session, channels: Collection[str], owner: str, lease_s: float, *, now: float
) -> Delivery | None:
    """Take the oldest alert that may be sent to one of the channels now; None when there is none."""
    first = (
        select(func.min(AlertOutbox.id))
        .where(
            AlertOutbox.recorded_at.is_(None),
            AlertOutbox.channel.in_(channels),
            _passed(AlertOutbox.not_before, now),
            _passed(AlertOutbox.lease_expires_at, now),
        )
        .scalar_subquery()
    )
    row = session.scalars(
        update(AlertOutbox)
        .where(AlertOutbox.id == first)
        .values(owner=owner, attempt=AlertOutbox.attempt + 1, lease_expires_at=now + lease_s)
        .returning(AlertOutbox),
        execution_options={"populate_existing": True, "synchronize_session": False},
    ).one_or_none()
    if row is None or row.channel is None:
        return None
    return Delivery(row.id, row.attempt, row.failures, _alert_of(row), row.created_at, row.channel)


def _own(delivery: Delivery) -> ColumnElement[bool]:
    return and_(
        AlertOutbox.id == delivery.outbox_id,
        AlertOutbox.attempt == delivery.attempt,
        AlertOutbox.recorded_at.is_(None),
    )


def record_delivery(session: Session, delivery: Delivery, *, error: str | None, now: float) -> bool:
    """Enter how a delivery ended, once; False if another sender has it or has recorded it."""
    closed = session.execute(
        update(AlertOutbox)
        .where(_own(delivery))
        .values(recorded_at=now, owner=None, lease_expires_at=None, error=error)
        .returning(AlertOutbox.id)
    ).first()
    if closed is None:
        return False
    record_message(session, delivery.alert, delivery.channel, success=error is None, error=error, now=now)
    return True


def postpone_delivery(session: Session, delivery: Delivery, *, error: str, not_before: float) -> bool:
    """Let a delivery that failed be tried again at a time; False if another sender has it."""
    kept = session.execute(
        update(AlertOutbox)
        .where(_own(delivery))
        .values(
            failures=AlertOutbox.failures + 1, not_before=not_before, owner=None, lease_expires_at=None, error=error
        )
        .returning(AlertOutbox.id)
    ).first()
    return kept is not None


def free_dead(session: Session) -> None:
    """Let others send what senders of this machine held that no longer run."""
    held = select(AlertOutbox.id, AlertOutbox.owner, AlertOutbox.attempt).where(
        AlertOutbox.recorded_at.is_(None), AlertOutbox.owner.is_not(None)
    )
    for number, owner, attempt in session.execute(held).all():
        if is_gone(owner):
            session.execute(
                update(AlertOutbox)
                .where(AlertOutbox.id == number, AlertOutbox.attempt == attempt)
                .values(owner=None, lease_expires_at=None)
            )


def give_up_unaddressable(session: Session, channels: Collection[str], *, older_than: float, now: float) -> None:
    """Record as undelivered the old alerts for channels that are no longer configured."""
    lost = select(AlertOutbox).where(
        AlertOutbox.recorded_at.is_(None),
        AlertOutbox.channel.is_not(None),
        AlertOutbox.channel.not_in(channels),
        AlertOutbox.created_at < older_than,
    )
    for row in session.scalars(lost).all():
        row.error = f"channel {row.channel} is no longer in PIPELINE_ALERT_URLS"
        row.recorded_at = now
        record_message(session, _alert_of(row), row.channel, success=False, error=row.error, now=now)


def record_message(
    session: Session, alert: Alert, channel: str | None, *, success: bool | None, error: str | None, now: float
) -> None:
    """Enter a message in the history; success None means that it was for nobody, and the error says why."""
    session.execute(
        insert(AlertHistory).values(
            source_id=alert.source_id,
            alert_type=alert.kind.value,
            severity=alert.severity.value,
            message=alert.message,
            sent_at=now,
            channel=channel,
            success=None if success is None else int(success),
            error_msg=error,
        )
    )


def _alert_of(row: AlertOutbox) -> Alert:
    return Alert(AlertKind(row.alert_type), Severity(row.severity), row.message, row.source_id)


def list_pending(session: Session) -> list[AlertOutbox]:
    """Return what is still to be sent, the oldest first."""
    query = select(AlertOutbox).where(AlertOutbox.recorded_at.is_(None)).order_by(AlertOutbox.id)
    return list(session.scalars(query))


def list_history(session: Session, *, limit: int, unacknowledged: bool = False) -> list[AlertHistory]:
    """Return the messages that were sent or given up, the newest first."""
    query = select(AlertHistory).order_by(AlertHistory.id.desc()).limit(limit)
    if unacknowledged:
        query = query.where(AlertHistory.acknowledged_at.is_(None))
    return list(session.scalars(query))


def acknowledge(session: Session, alert_id: int, by: str, *, now: float) -> bool:
    """Note that a person has seen an alert, and all unseen ones of its source and kind; False if there is none."""
    row = session.get(AlertHistory, alert_id)
    if row is None:
        return False
    session.execute(
        update(AlertHistory)
        .where(
            AlertHistory.source_id == row.source_id,
            AlertHistory.alert_type == row.alert_type,
            AlertHistory.id <= alert_id,
            AlertHistory.acknowledged_at.is_(None),
        )
        .values(acknowledged_at=now, acknowledged_by=by)
    )
    return True


def resolve(session: Session, kinds: Sequence[AlertKind], *, now: float) -> None:
    """Note that the causes of these kinds are gone."""
    session.execute(
        update(AlertHistory)
        .where(
            AlertHistory.source_id == SYSTEM,
            AlertHistory.alert_type.in_([kind.value for kind in kinds]),
            AlertHistory.resolved_at.is_(None),
        )
        .values(resolved_at=now)
    )
