"""One attempt at one job, in whatever process: claimed, named in the log, kept alive, its end recorded.

How an attempt ends, and what follows:

    completed   its result and the end of its job were committed together
    failed      for good: the input cannot be used, or the job went wrong too often
    retry       a fault of ours, or a dead worker: tried again, after a pause that doubles each time
    paused      the disk, a setting or a server: the job is not to blame, and the run waits
    lost        somebody else has it

What a job did wrong is counted; how often it was interrupted is not. A worker that dies may have been the victim of a
neighbor: its job is then tried alone, and only deaths alone count.
"""

import errno
import logging
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from threading import Event, Thread

import numba
from sqlalchemy.exc import SQLAlchemyError
from threadpoolctl import threadpool_limits

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.leases import Failure, FailureKind
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.models import JobState
from dsa110_contimg.errors import ConfigurationError, FencedError, PipelineError, TimeLimitError, WorkerDiedError
from dsa110_contimg.monitoring.log_lines import last_lines
from dsa110_contimg.monitoring.logs import job_names, log_path
from dsa110_contimg.options import PipelineOptions, ScheduleOptions
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.reconcile import follow_conversions, follow_photometry
from dsa110_contimg.pipeline.resources import disk_fault, room
from dsa110_contimg.pipeline.timings import record_times
from dsa110_contimg.stopwatch import collecting

logger = logging.getLogger(__name__)
LONGEST_PAUSE_S = 3600.0
BEATS_PER_LEASE = 5.0
OF_THE_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE}
)
"""Errors that the next job would meet as well."""

STAGES = {
    Stage.CONVERT: "tile_stages:convert",
    Stage.SOLVE: "tile_stages:solve",
    Stage.SOLVE_CATALOGUE: "tile_stages:solve_catalogue",
    Stage.CALIBRATE: "tile_stages:calibrate",
    Stage.IMAGE: "tile_stages:image",
    Stage.MEASURE: "tile_stages:measure",
    Stage.MOSAIC: "mosaic_stages:mosaic",
    Stage.REGISTER: "mosaic_stages:register",
    Stage.CHECK: "mosaic_stages:check",
    Stage.PHOTOMETRY: "mosaic_stages:photometry",
    Stage.PUBLISH: "mosaic_stages:publish",
    Stage.VARIABILITY: "mosaic_stages:variability",
}
"""Module and function of each stage: a worker imports what its first job needs, and starts two seconds sooner."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a job ended."""

    job: Job
    result: str
    """completed, failed, retry, paused or lost."""
    seconds: float = 0.0
    error: str = ""


def function_of(stage: Stage) -> Callable[[Context, str], None]:
    """Return what a stage does."""
    found: Callable[[Context, str], None] = resolve_name(f"dsa110_contimg.pipeline.{STAGES[stage]}")
    return found


def claim(jobs: Collection[Job], owner: str, options: ScheduleOptions) -> dict[str, int]:
    """Take jobs in one transaction; return the attempts, by job id, of those that were to be had."""
    named = [(job.stage.value, job.subject) for job in jobs]
    with get_session("products") as session:
        return leases.start_jobs(session, named, owner, options.lease_s, time.time())


def execute(job: Job, owner: str, settings: Settings, options: PipelineOptions, attempt: int | None = None) -> Outcome:
    """Run a job and record how it ended; this is the edge at which every error becomes a row.

    Parameters
    ----------
    attempt
        What a claim for this owner returned; None claims here.
    """
    started = time.monotonic()
    attempt = claim([job], owner, options.schedule).get(job.job_id) if attempt is None else attempt
    if attempt is None:
        return Outcome(job, "lost")
    if options.imaging.threads:
        numba.set_num_threads(options.imaging.threads)
    context = Context(settings, options, job.job_id, attempt)
    with (
        job_names(stage=job.stage.value, subject=job.subject, attempt=attempt, owner=owner),
        _heartbeats(job.job_id, attempt, options.schedule.lease_s),
        collecting() as parts,
    ):
        result, error = _attempt(job, context)
    seconds = time.monotonic() - started
    if result == "completed":
        record_times(job, seconds, parts, now=time.time())
    return Outcome(job, result, seconds, error)


def _attempt(job: Job, context: Context) -> tuple[str, str]:
    """Do the work; return how it ended, and the error."""
    try:
        with threadpool_limits(context.options.imaging.threads or None):
            function_of(job.stage)(context, job.subject)
    except FencedError as fenced:
        return "lost", str(fenced)
    except ConfigurationError as trouble:
        return _end(job, context, FailureKind.OUTSIDE, str(trouble))
    except PipelineError as trouble:
        return _end(job, context, None, str(trouble))
    except MemoryError as trouble:
        return _end(job, context, FailureKind.DEATH, _sentence(trouble), traceback.format_exc())
    except Exception as trouble:  # noqa: BLE001 - the edge of the worker loop: a fault of ours is a row, too
        fault = _outside_fault(trouble, context)
        if fault is not None:
            return _end(job, context, FailureKind.OUTSIDE, f"{job.job_id} stopped: {trouble}; {fault}")
        return _end(job, context, FailureKind.ERROR, _sentence(trouble), traceback.format_exc())
    return "completed", ""


def _outside_fault(trouble: Exception, context: Context) -> str | None:
    """Return what about the machine made a job fail, or None."""
    if isinstance(trouble, OSError):
        if trouble.errno in OF_THE_MACHINE:
            return "make room or repair it"
        return room(context.settings, context.options)
    # What a library says of a disk that is full or read-only need not be an OSError.
    return disk_fault(context.settings)


def _sentence(trouble: Exception) -> str:
    return f"{type(trouble).__name__}: {trouble}"


def _end(job: Job, context: Context, kind: FailureKind | None, error: str, tail: str | None = None) -> tuple[str, str]:
    return record_failure(job, context.attempt, kind, error, tail, context.options.schedule), error


def record_death(job: Job, owner: str, death: WorkerDiedError, settings: Settings, options: PipelineOptions) -> Outcome:
    """Record how the worker of a job ended, with the last that it said; on a disk that is full none is to blame."""
    with get_session("products", read_only=True) as session:
        row = session.get(JobRow, job.job_id)
    if row is None or (row.state, row.owner) != (JobState.RUNNING.value, owner):
        return Outcome(job, "lost")
    fault = disk_fault(settings)
    error = f"{job.job_id} stopped: {death}" + (f"; {fault}" if fault is not None else "")
    tail = "\n".join(last_lines(log_path(settings), job.job_id)) or None
    # A job that ran into its time limit did that by itself, whoever was beside it.
    kind = FailureKind.ERROR if isinstance(death, TimeLimitError) else FailureKind.DEATH
    kind = kind if fault is None else FailureKind.OUTSIDE
    return Outcome(job, record_failure(job, row.attempt, kind, error, tail, options.schedule), error=error)


def record_failure(
    job: Job, attempt: int, kind: FailureKind | None, error: str, tail: str | None, options: ScheduleOptions
) -> str:
    """Write into a job's row how an attempt failed, and return its result; a kind of None is for good."""
    logger.error("%s attempt %d: %s", job.job_id, attempt, error)
    now = time.time()
    try:
        with get_session("products") as session:
            row = session.get_one(JobRow, job.job_id)
            failure = judge(kind, row.failures, row.deaths, options, now)
            leases.fail_job(session, job.job_id, attempt, failure, error=error, log_tail=tail, now=now)
    except FencedError:
        return "lost"
    if failure.for_good:
        follow_conversions()
        follow_photometry()
        return "failed"
    return "paused" if kind is FailureKind.OUTSIDE else "retry"


def judge(kind: FailureKind | None, failures: int, deaths: int | None, options: ScheduleOptions, now: float) -> Failure:
    """Return what follows from a failure, given what the job's row counted before it."""
    if kind is None:
        return Failure(FailureKind.ERROR, for_good=True)
    if kind is FailureKind.OUTSIDE:
        return Failure(kind, not_before=now + options.retry_s)
    before, limit = (failures, options.max_failures) if kind is FailureKind.ERROR else (deaths, options.max_deaths)
    if before is None:
        return Failure(kind)
    if before + 1 >= limit:
        return Failure(kind, for_good=True)
    return Failure(kind, not_before=now + min(options.retry_s * 2.0**before, LONGEST_PAUSE_S))


@contextmanager
def _heartbeats(job_id: str, attempt: int, lease_s: float) -> Iterator[None]:
    """Extend the lease of an attempt until the block ends."""
    ended = Event()
    thread = Thread(target=_beat, args=(ended, job_id, attempt, lease_s), name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat(ended: Event, job_id: str, attempt: int, lease_s: float) -> None:
    while not ended.wait(lease_s / BEATS_PER_LEASE):
        try:
            with get_session("products") as session:
                leases.heartbeat(session, job_id, attempt, lease_s, time.time())
        except FencedError:
            return
        except (PipelineError, SQLAlchemyError) as trouble:
            logger.warning("the lease of %s could not be extended: %s", job_id, trouble)
