"""Leases on units of work: the table `jobs` of products.

    pending ──claim──► running ──complete──► completed
       ▲                  ├──fail──► failed
       ├──────retry───────┤
       └──wake── waiting ◄┘

A claim is one UPDATE: the row count says who won. Each claim raises `attempt`, the fencing token: whoever holds
an older one has lost the job and can change nothing (FencedError). A result is committed in the transaction
that checks the token.
"""

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from dsa110_contimg.database.models import Job, JobState
from dsa110_contimg.errors import FencedError


def ensure_job(session: Session, stage: str, subject: str, priority: int = 0, *, now: float) -> str:
    """Record that a stage is due for a subject and return the job id 'stage:subject'; idempotent."""
    job_id = f"{stage}:{subject}"
    session.execute(
        insert(Job)
        .values(job_id=job_id, stage=stage, subject=subject, priority=priority, created_at=now, updated_at=now)
        .on_conflict_do_nothing()
    )
    return job_id


def _may_be_claimed(now: float) -> ColumnElement[bool]:
    due = or_(Job.not_before.is_(None), Job.not_before <= now)
    return or_(
        and_(Job.state == JobState.PENDING.value, due),
        and_(Job.state == JobState.WAITING.value, Job.not_before.is_not(None), due),
        and_(Job.state == JobState.RUNNING.value, Job.lease_expires_at < now),
    )


def claim_job(session: Session, job_id: str, owner: str, lease_s: float, now: float) -> int | None:
    """Take a job that is due, or whose owner's lease ran out.

    Returns
    -------
    int or None
        The attempt, which every later call must show; None when the job is not to be had.
    """
    return session.scalar(
        update(Job)
        .where(Job.job_id == job_id, _may_be_claimed(now))
        .values(
            state=JobState.RUNNING.value,
            owner=owner,
            attempt=Job.attempt + 1,
            lease_expires_at=now + lease_s,
            heartbeat_at=now,
            error=None,
            updated_at=now,
        )
        .returning(Job.attempt)
    )


def _change_own(session: Session, job_id: str, attempt: int, **values: object) -> None:
    changed = session.execute(
        update(Job)
        .where(Job.job_id == job_id, Job.attempt == attempt, Job.state == JobState.RUNNING.value)
        .values(**values)
        .returning(Job.job_id)
    ).first()
    if changed is None:
        raise FencedError(f"attempt {attempt} of job {job_id} no longer owns it: a newer attempt does, or it has ended")


def heartbeat(session: Session, job_id: str, attempt: int, lease_s: float, now: float) -> None:
    """Extend the lease of a running attempt."""
    _change_own(session, job_id, attempt, heartbeat_at=now, lease_expires_at=now + lease_s)


def check_token(session: Session, job_id: str, attempt: int) -> None:
    """Raise FencedError unless the attempt still owns its job; call it in the transaction of the result."""
    held = select(Job.attempt, Job.state).where(Job.job_id == job_id).with_for_update()
    row = session.execute(held).first()
    if row is None or (row.attempt, row.state) != (attempt, JobState.RUNNING.value):
        raise FencedError(f"attempt {attempt} of job {job_id} no longer owns it: a newer attempt does, or it has ended")


def complete_job(session: Session, job_id: str, attempt: int, now: float) -> None:
    """Record that the result is committed."""
    _change_own(
        session, job_id, attempt, state=JobState.COMPLETED.value, lease_expires_at=None, error=None, updated_at=now
    )


def fail_job(
    session: Session, job_id: str, attempt: int, error: str, log_tail: str | None, now: float, *, retry: bool
) -> None:
    """Record a failure: for good, or to be tried again."""
    state = JobState.PENDING if retry else JobState.FAILED
    _change_own(
        session,
        job_id,
        attempt,
        state=state.value,
        lease_expires_at=None,
        error=error,
        log_tail=log_tail,
        updated_at=now,
    )


def postpone_job(
    session: Session, job_id: str, attempt: int, reason: str, not_before: float | None, now: float
) -> None:
    """Let a running job wait for something; it wakes at `not_before` (unix s), or by `wake_job`."""
    _change_own(
        session,
        job_id,
        attempt,
        state=JobState.WAITING.value,
        lease_expires_at=None,
        error=reason,
        not_before=not_before,
        updated_at=now,
    )


def _restart(session: Session, job_id: str, origins: list[JobState], now: float) -> bool:
    row = session.execute(
        update(Job)
        .where(Job.job_id == job_id, Job.state.in_([state.value for state in origins]))
        .values(state=JobState.PENDING.value, not_before=None, error=None, updated_at=now)
        .returning(Job.job_id)
    ).first()
    return row is not None


def wake_job(session: Session, job_id: str, now: float) -> bool:
    """Make a waiting job pending; False unless it waited."""
    return _restart(session, job_id, [JobState.WAITING], now)


def reopen_job(session: Session, job_id: str, now: float) -> bool:
    """Make an ended job pending again, because its inputs changed; False unless it had ended."""
    return _restart(session, job_id, [JobState.COMPLETED, JobState.FAILED], now)


def expire_lease(session: Session, job_id: str, attempt: int, now: float) -> bool:
    """Let others take over from an owner that is known to be gone; False unless that attempt still ran."""
    row = session.execute(
        update(Job)
        .where(Job.job_id == job_id, Job.attempt == attempt, Job.state == JobState.RUNNING.value)
        .values(lease_expires_at=now - 1.0, updated_at=now)
        .returning(Job.job_id)
    ).first()
    return row is not None


def list_jobs(session: Session, *, state: JobState | None = None, subject: str | None = None) -> list[Job]:
    """Return jobs, the most urgent first."""
    query = select(Job).order_by(Job.priority.desc(), Job.job_id)
    if state is not None:
        query = query.where(Job.state == state.value)
    if subject is not None:
        query = query.where(Job.subject == subject)
    return list(session.scalars(query))
