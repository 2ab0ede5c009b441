"""Is it healthy? One verdict with its reasons, each a sentence that names the thing and the way out.

`judge` is a pure function of facts; `load_facts` reads them, and a database that cannot be read is itself a fact. What
the alerts call a condition (a low disk, falling behind, no calibrator, no backup) is one here, in the same words.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import flow_queries, inventory_queries, queue_queries
from dsa110_contimg.database.alert_outbox import Alert
from dsa110_contimg.database.flow_queries import Newest
from dsa110_contimg.database.models import QueueState, Severity
from dsa110_contimg.database.session import get_session
from dsa110_contimg.housekeeping.database_checks import check_standing
from dsa110_contimg.housekeeping.findings import Grade
from dsa110_contimg.monitoring.alerts import conditions
from dsa110_contimg.monitoring.backlog import Backlog
from dsa110_contimg.monitoring.watch import load_alert_state
from dsa110_contimg.options import CalibrationOptions, ConversionOptions
from dsa110_contimg.pipeline.notices import Notice, read_notices

HOUR_S, DAY_S = 3600.0, 86400.0
CLOCK_APART_S = 60.0
SILENT_S = 120.0
"""A run that has said nothing for so long may hang, or its machine is gone."""
IDLE_S = 3600.0
LISTED = 3
LOOKED_AT = 50
NEEDED = ("ingest", "products", "cal_registry", "data_registry")


@dataclass(frozen=True)
class Reason:
    """Why something is not as it should be."""

    severity: Severity
    about: str
    """One word or two, for a heading."""
    sentence: str
    page: str
    """Where a person sees more."""


@dataclass(frozen=True)
class Health:
    """The verdict: as bad as its worst reason; without any, all is well."""

    severity: Severity | None
    summary: str
    reasons: list[Reason]
    checked_unix: float


@dataclass(frozen=True)
class Facts:
    """What decides the verdict."""

    now: float
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Databases that cannot be read, and why."""
    conditions: Sequence[Alert] = ()
    runs: Sequence[Notice] = ()
    backlog: Backlog | None = None
    failed_jobs: int = 0
    """In the last 24 hours, and still so."""
    failed_groups: int = 0
    newest: Newest | None = None
    newest_data_unix: float | None = None
    """When the sky of the newest file was observed."""
    newest_file_unix: float | None = None
    """When it was first seen."""
    held_groups: Sequence[tuple[str, int]] = ()
    """Groups that have waited longer than they should for subbands, and how many they have."""


def examine(settings: Settings, *, now: float | None = None) -> Health:
    """Return the verdict now."""
    return judge(load_facts(settings, time.time() if now is None else now))


def judge(facts: Facts) -> Health:
    """Return the verdict on facts, its worst reasons first."""
    reasons = sorted(
        [*_databases(facts), *_clock(facts), *_runs(facts), *_conditions(facts), *_failures(facts), *_data(facts)],
        key=lambda reason: -reason.severity.rank,
    )
    worst = reasons[0].severity if reasons else None
    return Health(worst, _summary(worst, reasons), reasons, facts.now)


def _summary(worst: Severity | None, reasons: Sequence[Reason]) -> str:
    if worst is None:
        return "Healthy: data arrive and are processed, and nothing failed in the last 24 hours."
    told = [reason.about for reason in reasons if reason.severity is worst]
    names = ", ".join(dict.fromkeys(told))
    return {
        Severity.CRITICAL: f"Act now: {names}.",
        Severity.WARNING: f"Look today: {names}.",
        Severity.INFO: f"Working, and worth knowing: {names}.",
    }[worst]


def _databases(facts: Facts) -> Iterator[Reason]:
    for name, why in facts.unreadable.items():
        yield Reason(Severity.CRITICAL, f"database {name}", f"{why[:1].upper()}{why[1:]}.", "/health")


def _clock(facts: Facts) -> Iterator[Reason]:
    ahead = (facts.newest_data_unix or 0.0) - facts.now
    if ahead > CLOCK_APART_S:
        sentence = (
            f"The newest file's sky lies {_span(ahead)} in the future: the clock of this machine or of the correlator "
            "is wrong. Compare both with a time server (`timedatectl`, `chronyc tracking`)."
        )
        yield Reason(Severity.CRITICAL, "clock", sentence, "/inventory")


def _runs(facts: Facts) -> Iterator[Reason]:
    waiting = 0 if facts.backlog is None else facts.backlog.waiting
    if not facts.runs and "ingest" not in facts.unreadable:
        severity = Severity.CRITICAL if waiting else Severity.WARNING
        what = f"{waiting} groups and tiles wait, and " if waiting else ""
        sentence = f"{what}nothing processes them" if waiting else "No run of the pipeline is alive"
        yield Reason(severity, "no run", f"{sentence[:1].upper()}{sentence[1:]}: start `contimg run`.", "/queue")
    for run in facts.runs:
        if run.paused is not None:
            yield Reason(
                Severity.CRITICAL, "run paused", f"The run {run.owner} starts nothing: {run.paused}.", "/queue"
            )
        silent = facts.now - run.told_at
        if silent > SILENT_S:
            sentence = f"The run {run.owner} has said nothing for {_span(silent)}: it hangs, or its machine is gone."
            yield Reason(Severity.WARNING, "silent run", sentence, "/queue")


def _conditions(facts: Facts) -> Iterator[Reason]:
    pages = {"calibrator_missing": "/observing", "falling_behind": "/queue"}
    for alert in facts.conditions:
        about = alert.kind.value.replace("_", " ")
        sentence = f"{alert.message[:1].upper()}{alert.message[1:]}."
        yield Reason(alert.severity, about, sentence, pages.get(alert.kind.value, "/health"))


def _failures(facts: Facts) -> Iterator[Reason]:
    parts = [(facts.failed_jobs, "job"), (facts.failed_groups, "group")]
    told = [f"{number} {name}{'s' if number > 1 else ''}" for number, name in parts if number]
    if told:
        sentence = f"{' and '.join(told)} failed for good in the last 24 hours: each says why, and what to do."
        yield Reason(Severity.WARNING, "failed work", sentence[:1].upper() + sentence[1:], "/queue#failures")


def _data(facts: Facts) -> Iterator[Reason]:
    if facts.newest is None or facts.unreadable.keys() & {"ingest", "hdf5"}:
        return
    seen = facts.newest_file_unix
    if seen is None:
        sentence = (
            "No file has ever come: `contimg demo` makes some, or set PIPELINE_INCOMING_DIR to where they arrive."
        )
        yield Reason(Severity.INFO, "no data yet", sentence, "/inventory")
        return
    idle = facts.now - seen
    if idle > IDLE_S:
        sentence = (
            f"The telescope is idle: the last file came {_span(idle)} ago. Is it observing, and the disk mounted?"
        )
        yield Reason(Severity.WARNING, "telescope idle", sentence, "/inventory")
    yield from _images(facts, facts.newest, idle)
    for group, here in facts.held_groups[:LISTED]:
        sentence = f"Group {group} has {here} of 16 subbands and waits for the others: is a correlator node down?"
        yield Reason(Severity.WARNING, "missing subbands", sentence, f"/queue/{group}")


def _images(facts: Facts, newest: Newest, idle: float) -> Iterator[Reason]:
    since = newest.image_unix
    if since is not None and facts.now - since > DAY_S:
        why = "no data came, either" if idle > DAY_S else "data came: see where the newest groups stand"
        sentence = f"No new image for {_span(facts.now - since)}: {why}."
        yield Reason(Severity.WARNING, "no new image", sentence, "/queue")


def _span(seconds: float) -> str:
    for size, unit in ((DAY_S, "days"), (HOUR_S, "hours"), (60.0, "minutes")):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} seconds"


def load_facts(settings: Settings, now: float) -> Facts:
    """Read what decides the verdict; what cannot be read is left out and named."""
    unreadable = dict(_unreadable())
    told: dict[str, object] = {"runs": read_notices(settings)}
    if not unreadable.keys() & set(NEEDED):
        state = load_alert_state(settings, CalibrationOptions(), now)
        told |= {"conditions": conditions(state), "backlog": state.backlog}
    if "products" not in unreadable:
        with get_session("products", read_only=True) as session:
            told["newest"] = flow_queries.newest(session)
            told["failed_jobs"] = flow_queries.failed_jobs_since(session, now - DAY_S)
    if "ingest" not in unreadable:
        with get_session("ingest", read_only=True) as session:
            told["failed_groups"] = flow_queries.failed_groups_since(session, now - DAY_S)
            told["held_groups"] = _held(session, now)
    if "hdf5" not in unreadable:
        with get_session("hdf5", read_only=True) as session:
            fresh = inventory_queries.freshness(session)
        told |= {"newest_data_unix": fresh.newest_data_unix, "newest_file_unix": fresh.newest_indexed_unix}
    return Facts(now=now, unreadable=unreadable, **told)  # type: ignore[arg-type]


def _unreadable() -> Iterator[tuple[str, str]]:
    for name in DATABASES:
        finding = check_standing(name)
        if finding.grade is Grade.ERROR:
            yield name, f"{finding.found}: {finding.way_out}; while somebody migrates it, wait until that has ended"


def _held(session: Session, now: float) -> list[tuple[str, int]]:
    late = now - ConversionOptions().wait_s
    collecting = queue_queries.list_groups(session, state=QueueState.COLLECTING.value, limit=LOOKED_AT)
    return [(group.group_id, group.subbands) for group in collecting if group.updated_unix < late]
