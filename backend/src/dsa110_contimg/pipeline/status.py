"""What is there, what waits, what failed and why: the same answer for a person, a program and a test.

Only what is open is read; what is finished is counted. So the answer takes as long after a year as after a day.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from dsa110_contimg.calibration.selection import CalibrationState, TileFacts
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.criteria import MAX_ATTEMPTS, publish_blockers
from dsa110_contimg.database.models import (
    DataProduct,
    IngestQueue,
    Job,
    JobState,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    ProductStatus,
    QACheck,
    Quarantine,
    QueueState,
    SubbandFile,
)
from dsa110_contimg.database.product_report import next_step
from dsa110_contimg.database.registry_rows import ProductRow, find_rows, open_registry
from dsa110_contimg.errors import PipelineError, PublishError
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.backlog import Backlog, Failure, backlog, last_failures
from dsa110_contimg.monitoring.log_lines import last_lines
from dsa110_contimg.monitoring.logs import log_path
from dsa110_contimg.options import CalibrationOptions, ConversionOptions
from dsa110_contimg.pipeline.jobs import awaiting_transit
from dsa110_contimg.pipeline.notices import Notice, read_notices
from dsa110_contimg.pipeline.state import load_state
from dsa110_contimg.pipeline.table_choice import choose_bandpass, doubtful_tables
from dsa110_contimg.telescope import N_SUBBANDS

ON_THE_WAY = {status.value for status in ProductStatus if status not in ("published", "retracted")}
LOG_LINES = 15
NO_REASON = "no reason recorded"


@dataclass
class Overview:
    """The state of one installation, or of one thing in it."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Table by table, rows by state."""
    backlog: Backlog | None = None
    runs: list[Notice] = field(default_factory=list)
    """What each run says about itself, of which `paused` says why it starts nothing."""
    running: dict[str, str] = field(default_factory=dict)
    """Jobs, who does them and for how long."""
    waiting: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    last_failures: list[Failure] = field(default_factory=list)
    """The newest ones of every kind, each with what to do about it."""
    quarantined: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, str] = field(default_factory=dict)
    """Tables that are superseded or anchored to the catalogue, and what follows for the tiles that they calibrated."""
    not_published: dict[str, str] = field(default_factory=dict)
    """Products, what blocks them, and what comes next."""
    details: list[str] = field(default_factory=list)
    """Lines about the subject that was asked for."""


def overview(subject: str | None = None) -> Overview:
    """Return the state of everything, or of what carries the subject's name.

    Raises
    ------
    PipelineError
        If nothing carries that name.
    """
    view, now = Overview(runs=read_notices(Settings())), time.time()
    with (
        get_session("ingest", read_only=True) as ingest,
        get_session("products", read_only=True) as products,
        get_session("data_registry", read_only=True) as registry,
    ):
        arrivals, progress = census.arrivals(ingest, now), census.progress(products, now)
        view.counts = {"groups": dict(arrivals.groups), "tiles": dict(progress.tiles)}
        view.counts["mosaic groups"] = census.mosaic_groups(products)
        view.counts["candidates"] = census.candidates(products)
        view.counts["products"] = census.counts(registry, DataProduct.status, ProductStatus.PUBLISHED.value)
        view.backlog = backlog(arrivals, progress, now)
        view.last_failures = last_failures(ingest, products, registry)
        _add_groups(view, ingest, now)
        _add_jobs(view, products, now)
        view.calibration = doubtful_tables(products, CalibrationOptions())
        if subject is not None:
            view.details += [*_group_lines(ingest, subject), *_tile_lines(products, subject)]
            view.details += _details(products, subject, now)
    if view.counts["tiles"].get("converted"):
        for tile in awaiting_transit(load_state(end_of_data=False), CalibrationOptions()):
            choice, _rows = choose_bandpass(TileFacts(tile.mid_mjd, tile.dec_deg), CalibrationOptions())
            stale = " (stale)" if choice.state is CalibrationState.STALE else ""
            view.waiting[tile.group_id] = f"awaiting_transit{stale}: no bandpass is valid for it yet; {choice.reason}"
    if subject is not None or view.counts["products"].keys() & ON_THE_WAY:
        _add_products(view, subject)
    if subject is not None and not view.details:
        raise PipelineError(f"nothing is called {subject}: `contimg status` lists what there is")
    view.details[:0] = [subject] if subject is not None else []
    return view


def _add_groups(view: Overview, session: Session, now: float) -> None:
    for group in session.scalars(select(IngestQueue).where(IngestQueue.state == QueueState.COLLECTING.value)):
        left = spoken_time(group.last_update + ConversionOptions().wait_s - now)
        here = len(_subbands(session, group.group_id))
        view.waiting[group.group_id] = f"{here} of {N_SUBBANDS} subbands have come, it waits {left} more for the others"
    for group in session.scalars(select(IngestQueue).where(IngestQueue.state == QueueState.FAILED.value)):
        view.failed[group.group_id] = group.error_message or NO_REASON
    for refused in session.scalars(select(Quarantine).order_by(Quarantine.path)):
        view.quarantined[refused.path] = refused.reason


def _add_jobs(view: Overview, session: Session, now: float) -> None:
    opened = (JobState.PENDING.value, JobState.RUNNING.value, JobState.WAITING.value, JobState.FAILED.value)
    for job in session.scalars(select(Job).where(Job.state.in_(opened)).order_by(Job.job_id)):
        if job.state == JobState.FAILED.value:
            view.failed[job.job_id] = job.error or NO_REASON
        elif job.state == JobState.RUNNING.value:
            view.running[job.job_id] = _running(job, now)
        elif job.error:
            view.waiting[job.job_id] = _next_attempt(job, now)


def _running(job: Job, now: float) -> str:
    taken_over = "" if (job.lease_expires_at or 0.0) >= now else "; its owner gave no sign, another takes it over"
    return f"attempt {job.attempt} for {spoken_time(now - job.updated_at)} by {job.owner}{taken_over}"


def _next_attempt(job: Job, now: float) -> str:
    left = (job.not_before or now) - now
    when = f"in {spoken_time(left)}" if left > 0 else "when it is its turn"
    alone = ", alone, because a worker has died in it" if job.deaths is not None else ""
    return f"attempt {job.attempt + 1} {when}{alone}: {job.error}"


def spoken_time(seconds: float) -> str:
    """Return a time span as people say it."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def _details(session: Session, subject: str, now: float) -> list[str]:
    """Return lines about the jobs, checks and last words of one subject, or of one job by its id."""
    jobs = session.scalars(select(Job).where(Job.subject == subject).order_by(Job.created_at)).all()
    one = session.get(Job, subject)
    found = list(jobs) if one is None else [one]
    lines = [line for job in found for line in _history(job, now)]
    checks = session.scalars(select(QACheck).where(QACheck.subject == subject).order_by(QACheck.name))
    lines += [f"  check {check.name}: {check.verdict} ({check.reason})" for check in checks]
    if found:
        said = last_lines(log_path(Settings()), subject, limit=LOG_LINES)
        lines += [f"  log {line}" for line in said]
    return lines


def _subbands(session: Session, group_id: str) -> set[int]:
    return set(session.scalars(select(SubbandFile.subband_idx).where(SubbandFile.group_id == group_id)))


def _group_lines(session: Session, subject: str) -> Iterator[str]:
    """Yield lines about the files of a group, or about a refused file by its path or name."""
    group = session.get(IngestQueue, subject)
    if group is not None:
        lacking = [f"sb{index:02d}" for index in range(N_SUBBANDS) if index not in _subbands(session, subject)]
        without = f" without {', '.join(lacking)}" if lacking else ""
        note = f": {group.error_message}" if group.error_message else ""
        yield f"  group: {group.state}, {N_SUBBANDS - len(lacking)} of {N_SUBBANDS} subbands{without}{note}"
    named = or_(
        Quarantine.group_id == subject,
        Quarantine.path == subject,
        Quarantine.path.endswith(f"/{subject}", autoescape=True),
    )
    refusals = list(session.scalars(select(Quarantine).where(named)))
    if group is not None:
        tolerance_s = ConversionOptions().group_tolerance_s
        refusals += ingest_queue.list_quarantine(session, subject, tolerance_s=tolerance_s)
    for _path, refused in sorted({row.path: row for row in refusals}.items()):
        known = "" if refused.path in refused.reason else f"{refused.path}: "
        yield f"  refused: {known}{refused.reason}"


def _tile_lines(session: Session, subject: str) -> Iterator[str]:
    """Yield lines about where a tile is, or what a mosaic group consists of."""
    for tile in session.scalars(select(MSIndex).where(MSIndex.group_id == subject)):
        yield f"  tile: {tile.stage}, {tile.path}{' (removed by rule)' if tile.removed_at is not None else ''}"
    group = session.get(MosaicGroup, subject)
    if group is not None:
        members = select(MosaicGroupMember).where(MosaicGroupMember.group_id == subject)
        tiles = [Path(row.ms_path).stem for row in session.scalars(members.order_by(MosaicGroupMember.position))]
        made = f"; makes {group.mosaic_id}" if group.mosaic_id is not None else ""
        yield f"  mosaic group: {group.status}, {len(tiles)} tiles: {', '.join(tiles)}{made}"


def _history(job: Job, now: float) -> Iterator[str]:
    moment = datetime.fromtimestamp(job.updated_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    counted = f", {job.failures} errors" if job.failures else ""
    counted += f", {job.deaths} workers died in it alone" if job.deaths is not None else ""
    held = f" ({_running(job, now)})" if job.state == JobState.RUNNING.value else ""
    note = f": {job.error}" if job.error else ""
    yield f"  {job.stage}: {job.state}, attempt {job.attempt}{counted}, {moment}{held}{note}"
    yield from (f"    | {line}" for line in (job.log_tail or "").splitlines())


def _add_products(view: Overview, subject: str | None) -> None:
    with open_registry() as connection:
        for row in find_rows(connection, DataProduct.status.in_(ON_THE_WAY)):
            view.not_published[row.data_id] = _why_not(row)
        for row in find_rows(connection, DataProduct.data_id == subject) if subject is not None else ():
            note = f" ({row.retract_reason})" if row.retract_reason else ""
            view.details.append(f"  {row.status}: {row.published_path or row.stage_path}{note}")


def _why_not(row: ProductRow) -> str:
    """Return what keeps a product from being published, and what happens next or has to be done."""
    try:
        step = next_step(row, time.time())
    except PublishError as damaged:
        return str(damaged)
    if row.status == "failed":
        return f"failed {row.publish_attempts or 0} of {MAX_ATTEMPTS} times: {row.publish_error}; {step}"
    blockers = [] if step.startswith("it waits") else publish_blockers(row)
    return "; ".join([*blockers, step])
