"""What is there, what waits, what failed and why: the same answer for a person, a program and a test."""

import time
from dataclasses import dataclass, field

from sqlalchemy import func, select

from dsa110_contimg.database import get_session
from dsa110_contimg.database.criteria import MAX_ATTEMPTS, publish_blockers
from dsa110_contimg.database.models import ESECandidate, IngestQueue, Job, MosaicGroup, MSIndex, QACheck, Quarantine
from dsa110_contimg.database.product_report import next_step
from dsa110_contimg.database.registry_rows import ProductRow, list_data, open_registry
from dsa110_contimg.errors import PipelineError, PublishError
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.jobs import awaiting_transit
from dsa110_contimg.pipeline.state import load_state


@dataclass
class Overview:
    """The state of one installation, or of one thing in it."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Table by table, rows by state."""
    waiting: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
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
    view = Overview()
    with get_session("ingest", read_only=True) as session:
        states = session.execute(select(IngestQueue.state, func.count()).group_by(IngestQueue.state))
        view.counts["groups"] = dict(iter(states))
        for group in session.scalars(select(IngestQueue).where(IngestQueue.state == "failed")):
            view.failed[group.group_id] = group.error_message or "no reason recorded"
        for refused in session.scalars(select(Quarantine).order_by(Quarantine.path)):
            view.quarantined[refused.path] = refused.reason
    with get_session("products", read_only=True) as session:
        stages = session.execute(select(MSIndex.stage, func.count()).group_by(MSIndex.stage))
        view.counts["tiles"] = {stage or "unknown": count for stage, count in stages}
        groups = session.execute(select(MosaicGroup.status, func.count()).group_by(MosaicGroup.status))
        view.counts["mosaic groups"] = dict(iter(groups))
        candidates = select(ESECandidate.status, func.count()).group_by(ESECandidate.status)
        view.counts["candidates"] = {s or "unknown": n for s, n in session.execute(candidates)}
        for job in session.scalars(select(Job).where(Job.state == "failed").order_by(Job.job_id)):
            view.failed[job.job_id] = job.error or "no reason recorded"
        if subject is not None:
            view.details += _details(session.scalars(select(Job).where(Job.subject == subject)).all(), subject)
            for check in session.scalars(select(QACheck).where(QACheck.subject == subject).order_by(QACheck.name)):
                view.details.append(f"  check {check.name}: {check.verdict} ({check.reason})")
    for tile in awaiting_transit(load_state(end_of_data=False), CalibrationOptions()):
        view.waiting[tile.group_id] = "awaiting_transit: no bandpass is valid for it yet"
    _add_products(view, subject)
    if subject is not None and not view.details:
        raise PipelineError(f"nothing is called {subject}: `contimg status` lists what there is")
    return view


def _details(jobs: object, subject: str) -> list[str]:
    lines = []
    for job in jobs:  # type: ignore[attr-defined]
        note = f": {job.error}" if job.error else ""
        lines.append(f"  {job.stage}: {job.state}, attempt {job.attempt}{note}")
    return [f"\n{subject}", *lines] if lines else []


def _add_products(view: Overview, subject: str | None) -> None:
    with open_registry() as connection:
        rows = list_data(connection)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
        if row.status not in {"published", "retracted"}:
            view.not_published[row.data_id] = _why_not(row)
        if row.data_id == subject:
            note = f" ({row.retract_reason})" if row.retract_reason else ""
            view.details.append(f"  {row.status}: {row.published_path or row.stage_path}{note}")
    view.counts["products"] = counts


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
