"""Read the rows that decide what people are told, and queue what is due: for a loop that asks every minute."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, and_, exists, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import Alert, queue_alert, resolve
from dsa110_contimg.database.models import (
    AlertHistory,
    AlertKind,
    AlertOutbox,
    Caltable,
    DataProduct,
    ESECandidate,
    IngestQueue,
    Job,
    JobState,
    MSIndex,
    ProductStatus,
    Quarantine,
    Severity,
)
from dsa110_contimg.database.models.alerts import SYSTEM
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.housekeeping.backups import list_backups
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.alerts import (
    SETTLE_S,
    TRANSIT_LATE_S,
    AlertState,
    Candidate,
    Event,
    LastAlert,
    alerts_due,
    ended,
)
from dsa110_contimg.monitoring.backlog import NO_REASON, backlog
from dsa110_contimg.monitoring.disks import floor_bytes, measure_disks
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import unix_to_mjd

MEMORY_S = 7 * 86400.0
"""Candidates and alerts that are older are not looked at: a new installation over old rows does not flood people."""
FIRST_LOOK_S = 86400.0
LOOKED_AT = 1000


def raise_alerts(settings: Settings, options: CalibrationOptions, *, now: float) -> list[Alert]:
    """Queue the alerts that are due, note which conditions have ended, and return what was queued."""
    state = load_alert_state(settings, options, now)
    due, over = alerts_due(state), ended(state)
    if not due and not over:
        return []
    with get_session("products") as session:
        queued = [alert for alert in due if queue_alert(session, alert, now=now)]
        resolve(session, over, now=now)
    return queued


def load_alert_state(settings: Settings, options: CalibrationOptions, now: float) -> AlertState:
    """Read everything that `alerts.alerts_due` looks at."""
    with get_session("ingest", read_only=True) as ingest, get_session("products", read_only=True) as products:
        last = last_alerts(products, now)
        flow = backlog(census.arrivals(ingest, now), census.progress(products, now), now)
        refused = _is_news(Quarantine.quarantined_at, last, AlertKind.QUARANTINE, now)
        failed = _is_news(Job.updated_at, last, AlertKind.SYSTEM_ERROR, now)
        return AlertState(
            now=now,
            backlog=flow,
            floor_bytes=floor_bytes(settings),
            disks=measure_disks(settings),
            candidates=_candidates(products, now),
            quarantined=[
                Event(row.path, row.reason)
                for row in ingest.scalars(select(Quarantine).where(refused).order_by(Quarantine.path).limit(LOOKED_AT))
            ],
            failed_jobs=[
                Event(row.job_id, row.error or NO_REASON)
                for row in products.scalars(
                    select(Job).where(Job.state == JobState.FAILED.value, failed).order_by(Job.job_id).limit(LOOKED_AT)
                )
            ],
            failed_products=_failed_products(),
            awaiting_transit=_awaiting_transit(products, options, now),
            first_group_at=ingest.scalar(select(func.min(IngestQueue.received_at))),
            last_backup_at=last_backup_at(settings),
            last=last,
        )


def last_backup_at(settings: Settings) -> float | None:
    """Return when the databases were last backed up (unix s), or None if no sound set of backups exists."""
    try:
        backups = list_backups(settings.backups)
    except ConfigurationError:
        return None
    return backups[0].made_unix if backups else None


def last_alerts(session: Session, now: float) -> dict[tuple[str, AlertKind], LastAlert]:
    """Return the last alert of each source and kind, as far back as matters."""
    newest = (
        select(func.max(AlertOutbox.id))
        .where(AlertOutbox.created_at > now - MEMORY_S)
        .group_by(AlertOutbox.source_id, AlertOutbox.alert_type)
    )
    told = _last_told(session)
    found = {}
    for row in session.scalars(select(AlertOutbox).where(AlertOutbox.id.in_(newest))):
        history = told.get((row.source_id, row.alert_type)) if row.recorded_at is not None else None
        found[row.source_id, AlertKind(row.alert_type)] = LastAlert(
            created_at=row.created_at,
            severity=Severity(row.severity),
            message=row.message,
            open=history is None or history.resolved_at is None,
            acknowledged=history is not None and history.acknowledged_at is not None,
        )
    return found


def _last_told(session: Session) -> dict[tuple[str, str], AlertHistory]:
    newest = select(func.max(AlertHistory.id)).where(AlertHistory.source_id == SYSTEM).group_by(AlertHistory.alert_type)
    rows = session.scalars(select(AlertHistory).where(AlertHistory.id.in_(newest)))
    return {(row.source_id, row.alert_type): row for row in rows}


def _is_news(
    column: InstrumentedAttribute[float], last: Mapping[tuple[str, AlertKind], LastAlert], kind: AlertKind, now: float
) -> ColumnElement[bool]:
    """Return which events had not settled at the last alert of their kind, and have by now."""
    told = last.get((SYSTEM, kind))
    since = now - FIRST_LOOK_S if told is None else told.created_at - SETTLE_S
    return and_(column > since, column <= now - SETTLE_S)


def _candidates(session: Session, now: float) -> list[Candidate]:
    active = (
        select(ESECandidate)
        .where(ESECandidate.status == "active", ESECandidate.flagged_at > now - MEMORY_S)
        .order_by(ESECandidate.flagged_at, ESECandidate.id)
    )
    return [
        Candidate(row.source_id, row.flagged_at, row.significance, row.flag_type) for row in session.scalars(active)
    ]


def _failed_products() -> list[Event]:
    failed = select(DataProduct).where(DataProduct.status == ProductStatus.FAILED.value).order_by(DataProduct.id)
    with get_session("data_registry", read_only=True) as session:
        return [Event(row.data_id, row.publish_error or NO_REASON) for row in session.scalars(failed.limit(LOOKED_AT))]


def _awaiting_transit(session: Session, options: CalibrationOptions, now: float) -> Sequence[str]:
    """Return the groups whose tile was observed and converted long ago and for which no bandpass is valid."""
    tile, job = aliased(MSIndex), aliased(Job)
    given_up = exists().where(job.job_id == literal("calibrate:") + tile.group_id, job.state == JobState.FAILED.value)
    # A tile that comes from an archive, or after the machine was down, has not waited yet.
    late_since, converted = now - TRANSIT_LATE_S, func.coalesce(tile.stage_updated_at, 0.0)
    late = (
        select(tile)
        .where(tile.stage == "converted", tile.mid_mjd < unix_to_mjd(late_since), converted < late_since, ~given_up)
        .order_by(tile.mid_mjd)
        .limit(LOOKED_AT)
    )
    tiles = session.scalars(late).all()
    if not tiles:
        return []
    with get_session("cal_registry", read_only=True) as registry:
        return [row.group_id or row.path for row in tiles if not _is_covered(registry, row, options)]


def _is_covered(registry: Session, tile: MSIndex, options: CalibrationOptions) -> bool:
    strip: ColumnElement[bool] = func.abs(Caltable.dec_deg - tile.pointing_dec_deg) <= options.dec_tolerance_deg
    valid = select(Caltable.id).where(
        Caltable.table_type == "BP",
        Caltable.active == 1,
        Caltable.valid_start_mjd <= tile.mid_mjd,
        Caltable.valid_end_mjd >= tile.mid_mjd,
        strip,
    )
    return registry.scalar(valid.limit(1)) is not None
