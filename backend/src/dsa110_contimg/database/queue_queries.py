"""Questions about the queue: groups with how far they are, units of work, and files that were refused.

Lists come in pages, found by the sort key of the last row of the page before. A group's id is the time of its sky, so
that the order of ids is the order of time.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import IngestQueue, Job, PerformanceMetrics, Quarantine, SubbandFile
from dsa110_contimg.database.upserts import page
from dsa110_contimg.telescope import N_SUBBANDS


@dataclass(frozen=True)
class GroupRow:
    """One group of subband files on its way in."""

    group_id: str
    state: str
    subbands: int
    """Subbands that are here."""
    expected_subbands: int
    received_unix: float
    updated_unix: float
    retries: int
    calibrators: list[str] | None
    """Calibrators in the beam; None: nobody has looked yet."""
    error: str | None


@dataclass(frozen=True)
class SubbandRow:
    """One file of a group, by its name."""

    subband: int
    file_name: str
    size_bytes: int | None
    discovered_unix: float


@dataclass(frozen=True)
class RefusedRow:
    """A file that was refused, and why."""

    path: str
    group_id: str | None
    reason: str
    refused_unix: float


@dataclass(frozen=True)
class JobRow:
    """One unit of work."""

    job_id: str
    stage: str
    subject: str
    state: str
    attempts: int
    failures: int
    owner: str | None
    created_unix: float
    updated_unix: float
    not_before_unix: float | None
    lease_expires_unix: float | None
    error: str | None
    log_tail: str | None


@dataclass(frozen=True)
class StepTimes:
    """Seconds that one group cost; None where a step was not timed."""

    conversion_s: float | None
    k_solve_s: float | None
    bp_solve_s: float | None
    g_solve_s: float | None
    imaging_s: float | None
    photometry_s: float | None
    total_s: float | None
    recorded_unix: float


_HERE = (
    select(func.count(SubbandFile.id))
    .where(SubbandFile.group_id == IngestQueue.group_id)
    .correlate(IngestQueue)
    .scalar_subquery()
)


def list_groups(
    session: Session,
    *,
    state: str | None = None,
    prefix: str | None = None,
    after: str | None = None,
    limit: int,
    descending: bool = True,
) -> list[GroupRow]:
    """Return groups by the time of their sky, the newest first unless told otherwise.

    Parameters
    ----------
    session
        Of `ingest`.
    state
        Only groups in this state.
    prefix
        Only groups whose id begins so, such as a day.
    after
        The group id of the last row of the page before.
    """
    query = select(IngestQueue, _HERE)
    if state is not None:
        query = query.where(IngestQueue.state == state)
    if prefix:
        # The bound is for the index, which LIKE does not use.
        starts = IngestQueue.group_id.startswith(prefix, autoescape=True)
        query = query.where(IngestQueue.group_id >= prefix, starts)
    key = None if after is None else (after,)
    found = session.execute(page(query, (IngestQueue.group_id,), after=key, limit=limit, descending=descending))
    return [_group(row, here) for row, here in found]


def find_group(session: Session, group_id: str) -> GroupRow | None:
    """Return one group, or None if nobody knows it."""
    found = session.execute(select(IngestQueue, _HERE).where(IngestQueue.group_id == group_id)).first()
    return None if found is None else _group(found[0], found[1])


def _group(row: IngestQueue, here: int) -> GroupRow:
    return GroupRow(
        group_id=row.group_id,
        state=row.state,
        subbands=here,
        expected_subbands=row.expected_subbands or N_SUBBANDS,
        received_unix=row.received_at,
        updated_unix=row.last_update,
        retries=row.retry_count or 0,
        calibrators=None if row.has_calibrator is None else parse_names(row.calibrators),
        error=row.error_message,
    )


def parse_names(text: str | None) -> list[str]:
    """Return the names in a JSON list; a list of objects gives their `name`; what cannot be read gives none."""
    try:
        told = json.loads(text or "[]")
    except ValueError:
        return []
    entries = told if isinstance(told, list) else []
    return [str(one.get("name", "")) if isinstance(one, dict) else str(one) for one in entries]


def list_subbands(session: Session, group_id: str) -> list[SubbandRow]:
    """Return the files of a group by subband."""
    query = select(SubbandFile).where(SubbandFile.group_id == group_id).order_by(SubbandFile.subband_idx)
    return [
        SubbandRow(row.subband_idx, row.file_path.rpartition("/")[2], row.file_size, row.discovered_at)
        for row in session.scalars(query)
    ]


def find_times(session: Session, group_id: str) -> StepTimes | None:
    """Return what a group cost, or None if nothing was timed."""
    row = session.scalar(select(PerformanceMetrics).where(PerformanceMetrics.group_id == group_id))
    if row is None:
        return None
    return StepTimes(
        conversion_s=row.conversion_time,
        k_solve_s=row.k_solve_time,
        bp_solve_s=row.bp_solve_time,
        g_solve_s=row.g_solve_time,
        imaging_s=row.imaging_time,
        photometry_s=row.photometry_time,
        total_s=row.total_time,
        recorded_unix=row.recorded_at,
    )


def list_refused(session: Session, *, after: str | None = None, limit: int) -> list[RefusedRow]:
    """Return refused files by path."""
    key = None if after is None else (after,)
    rows = session.scalars(page(select(Quarantine), (Quarantine.path,), after=key, limit=limit))
    return [RefusedRow(row.path, row.group_id, row.reason, row.quarantined_at) for row in rows]


def list_jobs(
    session: Session,
    *,
    state: str | None = None,
    stage: str | None = None,
    subject: str | None = None,
    after: str | None = None,
    limit: int,
    descending: bool = True,
) -> list[JobRow]:
    """Return units of work by their id, which is their stage and subject; the session is of `products`."""
    query = select(Job)
    wanted = ((Job.state, state), (Job.stage, stage), (Job.subject, subject))
    query = query.where(*(column == value for column, value in wanted if value is not None))
    key = None if after is None else (after,)
    return [
        _job(row) for row in session.scalars(page(query, (Job.job_id,), after=key, limit=limit, descending=descending))
    ]


def jobs_of(session: Session, subjects: Sequence[str]) -> dict[str, list[JobRow]]:
    """Return the jobs of each of some subjects in the order in which they were created."""
    found: dict[str, list[JobRow]] = {subject: [] for subject in subjects}
    for row in session.scalars(select(Job).where(Job.subject.in_(subjects)).order_by(Job.created_at, Job.job_id)):
        found[row.subject].append(_job(row))
    return found


def find_job(session: Session, job_id: str) -> JobRow | None:
    """Return one unit of work, or None."""
    row = session.get(Job, job_id)
    return None if row is None else _job(row)


def _job(row: Job) -> JobRow:
    return JobRow(
        job_id=row.job_id,
        stage=row.stage,
        subject=row.subject,
        state=row.state,
        attempts=row.attempt,
        failures=row.failures,
        owner=row.owner,
        created_unix=row.created_at,
        updated_unix=row.updated_at,
        not_before_unix=row.not_before,
        lease_expires_unix=row.lease_expires_at,
        error=row.error,
        log_tail=row.log_tail,
    )
