"""Leases on units of work: the table `jobs` of products.

    pending ──claim──► running ──complete──► completed
       ▲                  ├──fail──► failed
       ├──────retry───────┤
       └──wake── waiting ◄┘

A claim is one statement: what it returns says who won. Each claim raises `attempt`, the fencing token: whoever holds
an older one has lost the job and can change nothing (FencedError). A result is committed in the transaction
that checks the token.

An attempt may end without any fault of its job: a killed process, a restart, a full disk. So two counts of their own
say what a job did wrong: `failures`, errors that it raised, and `deaths`, workers that ended while it ran; NULL until
the first one, which happened in company and so counts as 0. From then on the job runs alone, and each death is its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BindParameter, and_, bindparam, false, func, not_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.models import Job, JobState
from dsa110_contimg.errors import FencedError

_RECORD = insert(Job).on_conflict_do_nothing()


def ensure_job(session: Session, stage: str, subject: str, priority: int = 0, *, now: float) -> str:
    """Record that a stage is due for a subject and return the job id 'stage:subject'; idempotent."""
    job_id = f"{stage}:{subject}"
    told = {"job_id": job_id, "stage": stage, "subject": subject, "priority": priority}
    session.connection().execute(_RECORD, told | {"created_at": now, "updated_at": now})
    return job_id


HORIZON_S = 7200.0
"""No lease and no pause is longer: a time further ahead was written before the clock was set back."""
SKEW_S = 60.0
"""The clocks of two machines differ by less: a row that was written further ahead is from before such a step, too."""
_NOW: BindParameter[float] = bindparam("now")
_HORIZON: BindParameter[float] = bindparam("horizon")
_DUE = or_(
    Job.not_before.is_(None),
    Job.not_before <= _NOW,
    Job.not_before > _HORIZON,
    Job.updated_at > _HORIZON - (HORIZON_S - SKEW_S),
)
_LEASE_S = Job.lease_expires_at - Job.heartbeat_at
_OVER = or_(
    Job.lease_expires_at < _NOW,
    Job.lease_expires_at > _HORIZON,
    # An owner that lives shows itself within a lease, by the new time.
    and_(Job.heartbeat_at - _LEASE_S > _NOW, Job.heartbeat_at > _HORIZON - (HORIZON_S - SKEW_S)),
)
_MAY_BE_CLAIMED = or_(
    and_(Job.state == JobState.PENDING.value, _DUE),
    and_(Job.state == JobState.WAITING.value, Job.not_before.is_not(None), _DUE),
    and_(Job.state == JobState.RUNNING.value, _OVER),
)
_TAKEN = {
    "state": JobState.RUNNING.value,
    "owner": bindparam("owner"),
    "lease_expires_at": bindparam("lease"),
    "heartbeat_at": _NOW,
    "error": None,
    "updated_at": _NOW,
}
_CLAIM = (
    update(Job)
    .where(Job.job_id.in_(bindparam("jobs", expanding=True)), _MAY_BE_CLAIMED)
    .values(attempt=Job.attempt + 1, **_TAKEN)
    .returning(Job.job_id, Job.attempt)
)


def claim_jobs(session: Session, job_ids: Iterable[str], owner: str, lease_s: float, now: float) -> dict[str, int]:
    """Take recorded jobs that are due, or whose owner's lease ran out, each for itself.

    Returns
    -------
    dict
        Of each job that was to be had the attempt, which every later call must show.
    """
    told = {"owner": owner, "lease": now + lease_s, "now": now, "horizon": now + HORIZON_S}
    attempts: dict[str, int] = {}
    for part in in_parts(job_ids):
        attempts.update(iter(session.connection().execute(_CLAIM, told | {"jobs": part})))
    return attempts


def claim_job(session: Session, job_id: str, owner: str, lease_s: float, now: float) -> int | None:
    """Take one job and return the attempt; None when it is not to be had."""
    return claim_jobs(session, [job_id], owner, lease_s, now).get(job_id)


def held_jobs(session: Session, now: float) -> set[str]:
    """Return the open jobs that may not be claimed now."""
    unfinished = Job.state.in_([state.value for state in (JobState.PENDING, JobState.RUNNING, JobState.WAITING)])
    held = select(Job.job_id).where(unfinished, not_(func.coalesce(_MAY_BE_CLAIMED, false())))
    return set(session.scalars(held, {"now": now, "horizon": now + HORIZON_S}))


def start_jobs(
    session: Session, jobs: Iterable[tuple[str, str]], owner: str, lease_s: float, now: float
) -> dict[str, int]:
    """Record and take jobs, named by stage and subject, in one transaction; return the attempts of those got."""
    named = {f"{stage}:{subject}": (stage, subject) for stage, subject in jobs}
    told = {"priority": 0, "created_at": now, "updated_at": now}
    records = [{"job_id": name, "stage": stage, "subject": subject, **told} for name, (stage, subject) in named.items()]
    if records:
        session.connection().execute(_RECORD, records)
    return claim_jobs(session, named, owner, lease_s, now)


class FailureKind(StrEnum):
    """Whose fault the end of an attempt was."""

    ERROR = "error"
    """The job raised an error."""
    DEATH = "death"
    """Its worker ended in the middle of it."""
    OUTSIDE = "outside"
    """The disk, a setting or a server: the job is not to blame, and nothing is counted."""


@dataclass(frozen=True)
class Failure:
    """What follows from an attempt that ended without a result."""

    kind: FailureKind
    for_good: bool = False
    not_before: float | None = None
    """When it may be tried again (unix s); None: at once."""


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
    session: Session, job_id: str, attempt: int, failure: Failure, *, error: str, log_tail: str | None, now: float
) -> None:
    """Record how an attempt failed: for good, or to be tried again."""
    state = JobState.FAILED if failure.for_good else JobState.PENDING
    values: dict[str, object] = {
        "state": state.value,
        "lease_expires_at": None,
        "not_before": failure.not_before,
        "error": error,
        "log_tail": log_tail,
        "updated_at": now,
    }
    if failure.kind is FailureKind.ERROR:
        values["failures"] = Job.failures + 1
    elif failure.kind is FailureKind.DEATH:
        values["deaths"] = func.coalesce(Job.deaths + 1, 0)
    _change_own(session, job_id, attempt, **values)


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
        .values(state=JobState.PENDING.value, not_before=None, error=None, failures=0, deaths=None, updated_at=now)
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
