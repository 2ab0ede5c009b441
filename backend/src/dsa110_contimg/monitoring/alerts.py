"""What people should be told now: a pure function of the rows, and the little that reads and queues.

Two sorts of causes. An *event* happened (a file refused, a job failed, a candidate flagged): it is told once, with
all others of its kind since the last alert. A *condition* lasts (a disk is low, no calibrator came): it is told when
it begins, when it gets worse, and every day until somebody acknowledges it or it ends.

A cause that lies in another database than the outbox is told from its row, so that it cannot be lost: an alert is due
until it is queued. Rows get their time before they are committed; so events are looked at when they are a minute old.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dsa110_contimg.database.alert_outbox import Alert
from dsa110_contimg.database.models import AlertKind, Severity
from dsa110_contimg.database.models.alerts import SYSTEM
from dsa110_contimg.monitoring.backlog import Backlog
from dsa110_contimg.monitoring.disks import GB, LOW_FACTOR, Disk

SETTLE_S = 60.0
REPEAT_S = 24 * 3600.0
BACKUP_LATE_S = 36 * 3600.0
BACKUP_LOST_S = 72 * 3600.0
TRANSIT_LATE_S = 12 * 3600.0
BEHIND_GROUPS = 12
"""An hour of the sky."""
BEHIND_S = 2 * 3600.0
CLEAR_LATE_S = 24 * 3600.0
LISTED = 20
"""Names that one message lists."""


@dataclass(frozen=True)
class LastAlert:
    """The last alert of one source and kind."""

    created_at: float
    severity: Severity
    message: str
    open: bool = True
    """Its cause is not known to have ended."""
    acknowledged: bool = False


@dataclass(frozen=True)
class Candidate:
    """An active candidate that was flagged lately."""

    source_id: str
    flagged_at: float
    significance: float
    flag_type: str


@dataclass(frozen=True)
class Event:
    """Something that failed, by its name."""

    name: str
    reason: str


@dataclass(frozen=True)
class AlertState:
    """Everything that decides what people are told."""

    now: float
    backlog: Backlog
    floor_bytes: int = 0
    disks: Sequence[Disk] = ()
    candidates: Sequence[Candidate] = ()
    quarantined: Sequence[Event] = ()
    """Files refused since the last alert about such."""
    failed_jobs: Sequence[Event] = ()
    """Jobs that failed for good since the last alert about such."""
    failed_products: Sequence[Event] = ()
    """Products whose publication stands as failed."""
    awaiting_transit: Sequence[str] = ()
    """Groups that have waited too long for a calibrator's transit."""
    first_group_at: float | None = None
    """When the first group ever came (unix s)."""
    last_backup_at: float | None = None
    last: Mapping[tuple[str, AlertKind], LastAlert] = field(default_factory=dict)
    """The last alert by source and kind."""


def alerts_due(state: AlertState) -> list[Alert]:
    """Return the alerts that are due now."""
    lasting = [alert for alert in conditions(state) if _is_news(alert, state)]
    return [*_candidates(state), *_events(state), *_failed_products(state), *lasting]


def conditions(state: AlertState) -> list[Alert]:
    """Return what is wrong at this moment, told already or not."""
    checks = (_disk_low, _falling_behind, _calibrator_missing, _backup_failed)
    return [alert for check in checks if (alert := check(state)) is not None]


CONDITIONS = (
    AlertKind.DISK_LOW,
    AlertKind.FALLING_BEHIND,
    AlertKind.CALIBRATOR_MISSING,
    AlertKind.BACKUP_FAILED,
    AlertKind.PUBLISH_FAILED,
)


def ended(state: AlertState) -> list[AlertKind]:
    """Return the conditions that were told and are no longer true."""
    lasting = {alert.kind for alert in conditions(state)}
    if state.failed_products:
        lasting.add(AlertKind.PUBLISH_FAILED)
    return [
        kind
        for kind in CONDITIONS
        if kind not in lasting and (last := state.last.get((SYSTEM, kind))) is not None and last.open
    ]


def _is_news(alert: Alert, state: AlertState) -> bool:
    last = state.last.get((alert.source_id, alert.kind))
    if last is None or not last.open or alert.severity.rank > last.severity.rank:
        return True
    return not last.acknowledged and state.now - last.created_at >= REPEAT_S


def _candidates(state: AlertState) -> Iterator[Alert]:
    for found in state.candidates:
        last = state.last.get((found.source_id, AlertKind.ESE_CANDIDATE))
        if last is None or last.created_at < found.flagged_at:
            yield candidate_alert(found)


def candidate_alert(found: Candidate) -> Alert:
    """Return the alert about a candidate."""
    message = (
        f"{found.source_id} is a candidate ({found.flag_type}, {found.significance:.1f} sigma): look at its light curve"
    )
    return Alert(AlertKind.ESE_CANDIDATE, Severity.WARNING, message, found.source_id)


def _events(state: AlertState) -> Iterator[Alert]:
    kinds = (
        (AlertKind.QUARANTINE, "file was refused", "files were refused", state.quarantined),
        (AlertKind.SYSTEM_ERROR, "job failed for good", "jobs failed for good", state.failed_jobs),
    )
    for kind, one, many, events in kinds:
        if events:
            yield Alert(kind, Severity.WARNING, _listed(events, one, many))


def _failed_products(state: AlertState) -> Iterator[Alert]:
    """The registry does not say when a publication failed: a product that the last message named has been told."""
    if not state.failed_products:
        return
    last = state.last.get((SYSTEM, AlertKind.PUBLISH_FAILED))
    message = _listed(state.failed_products, "product cannot be published", "products cannot be published")
    alert = Alert(AlertKind.PUBLISH_FAILED, Severity.WARNING, message)
    untold = last is not None and any(event.name not in last.message for event in state.failed_products)
    if untold or _is_news(alert, state):
        yield alert


def _listed(events: Sequence[Event], one: str, many: str) -> str:
    names = ", ".join(event.name for event in events[:LISTED])
    more = f" and {len(events) - LISTED} more" if len(events) > LISTED else ""
    what = one if len(events) == 1 else many
    return f"{len(events)} {what}: {names}{more}. The first: {events[0].reason}. See `contimg status`"


def _disk_low(state: AlertState) -> Alert | None:
    known = [(disk.free_bytes, disk.area) for disk in state.disks if disk.free_bytes is not None]
    if not known:
        return None
    free, area = min(known)
    if free >= LOW_FACTOR * state.floor_bytes:
        return None
    paused = free < state.floor_bytes
    what = "the pipeline pauses until there is room" if paused else "the pipeline will pause below the floor"
    floor = f"the floor is {state.floor_bytes / GB:.1f} GB"
    found = f"{free / GB:.1f} GB are free below the {area} folder and {floor}"
    message = f"{found}: {what}. `contimg clean --dry-run` says what may go"
    return Alert(AlertKind.DISK_LOW, Severity.CRITICAL if paused else Severity.WARNING, message)


def _falling_behind(state: AlertState) -> Alert | None:
    flow = state.backlog
    if flow.waiting < BEHIND_GROUPS or (flow.oldest_wait_s or 0.0) < BEHIND_S:
        return None
    if flow.clear_s is not None and flow.clear_s <= CLEAR_LATE_S:
        return None
    when = flow.clear_reason or f"at this rate they are done in {(flow.clear_s or 0.0) / 3600.0:.0f} hours"
    hours = (flow.oldest_wait_s or 0.0) / 3600.0
    message = f"{flow.waiting} groups and tiles wait, the oldest group for {hours:.1f} hours: {when}"
    return Alert(AlertKind.FALLING_BEHIND, Severity.WARNING, message)


def _calibrator_missing(state: AlertState) -> Alert | None:
    waiting = state.awaiting_transit
    if not waiting:
        return None
    number = "1 tile has" if len(waiting) == 1 else f"{len(waiting)} tiles have"
    message = (
        f"{number} waited more than {TRANSIT_LATE_S / 3600.0:.0f} hours for a calibrator's transit, "
        f"the first is {waiting[0]}: register a calibrator or a calibration table for this strip"
    )
    return Alert(AlertKind.CALIBRATOR_MISSING, Severity.WARNING, message)


def _backup_failed(state: AlertState) -> Alert | None:
    since = state.last_backup_at if state.last_backup_at is not None else state.first_group_at
    if since is None or state.now - since < BACKUP_LATE_S:
        return None
    age_h = (state.now - since) / 3600.0
    what = f"the last backup is {age_h:.0f} hours old" if state.last_backup_at is not None else "there is no backup"
    severity = Severity.CRITICAL if state.now - since >= BACKUP_LOST_S else Severity.WARNING
    return Alert(AlertKind.BACKUP_FAILED, severity, f"{what}: run `contimg backup` and read what it says")
