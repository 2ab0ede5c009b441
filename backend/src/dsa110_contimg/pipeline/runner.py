"""The loop: scan, decide, submit, record; and one job in a worker.

`contimg run --once`, the daemon and the functions that the specification names all come through `execute`.
"""

import logging
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from ctypes import CDLL
from dataclasses import dataclass, field
from multiprocessing import get_context

import numba
from sqlalchemy import select
from threadpoolctl import threadpool_limits

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.models import IngestQueue, JobState
from dsa110_contimg.database.ownership import is_gone, this_process
from dsa110_contimg.errors import ConfigurationError, FencedError, PipelineError
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline import mosaic_stages, tile_stages
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.jobs import Job, Stage, next_jobs
from dsa110_contimg.pipeline.state import form_mosaic_groups, load_state
from dsa110_contimg.pipeline.streaming_converter import ScanReport, bootstrap_directory, close_groups

logger = logging.getLogger(__name__)
LEASE_S = 3600.0
MAX_ATTEMPTS = 3
POLL_S = 5.0
PR_SET_PDEATHSIG = 1

STAGES: dict[Stage, Callable[[Context, str], None]] = {
    Stage.CONVERT: tile_stages.convert,
    Stage.SOLVE: tile_stages.solve,
    Stage.SOLVE_CATALOGUE: tile_stages.solve_catalogue,
    Stage.CALIBRATE: tile_stages.calibrate,
    Stage.IMAGE: tile_stages.image,
    Stage.MEASURE: tile_stages.measure,
    Stage.MOSAIC: mosaic_stages.mosaic,
    Stage.REGISTER: mosaic_stages.register,
    Stage.CHECK: mosaic_stages.check,
    Stage.PHOTOMETRY: mosaic_stages.photometry,
    Stage.PUBLISH: mosaic_stages.publish,
    Stage.VARIABILITY: mosaic_stages.variability,
}


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a job ended."""

    job: Job
    result: str
    """completed, failed, retry, paused or lost (somebody else has it)."""
    seconds: float = 0.0
    error: str = ""


@dataclass
class RunSummary:
    """What a run did."""

    scan: ScanReport = field(default_factory=ScanReport)
    outcomes: list[Outcome] = field(default_factory=list)

    def ended(self, result: str) -> list[Outcome]:
        """Return the outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.result == result]

    @property
    def exit_code(self) -> int:
        """Return 1 if a file was refused, or a job failed or could not go on; else 0."""
        return int(bool(self.scan.quarantined or self.ended("failed") or self.ended("paused")))


class InlineExecutor(Executor):
    """Run each job at once in this process."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN003, ANN201
        """Run and return a finished future."""
        future: Future[Outcome] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def run(
    settings: Settings,
    options: PipelineOptions,
    *,
    once: bool,
    workers: int = 1,
    report: Callable[[Outcome | None, list[Job]], None] = lambda _outcome, _due: None,
) -> RunSummary:
    """Process the incoming folder until nothing is left to do, or for ever.

    Parameters
    ----------
    settings, options
        Folders and stage options.
    once
        End when nothing is left: no further files are expected.
    workers
        Processes; 1 runs in this one.
    report
        Called with each outcome and the jobs that are due.
    """
    owner = this_process()
    summary = RunSummary()
    release_dead_owners()
    executor: Executor = InlineExecutor()
    if workers > 1:
        executor = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_die_with_parent)
    with executor:
        running: dict[Future[Outcome], Job] = {}
        next_scan = 0.0
        while True:
            if time.monotonic() >= next_scan:
                _merge(summary.scan, bootstrap_directory(settings.incoming, options.conversion))
                if once:
                    close_groups()
                next_scan = float("inf") if once else time.monotonic() + POLL_S
            due = _due(options, once=once)
            report(None, due)
            busy = set(running.values())
            for job in [job for job in due if job not in busy][: workers - len(running)]:
                running[executor.submit(execute, job, owner, settings, options)] = job
            if not running:
                if once:
                    return summary
                time.sleep(POLL_S)
                continue
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                outcome = future.result()
                summary.outcomes.append(outcome)
                report(outcome, due)
                if outcome.result == "paused":
                    return summary


def execute(job: Job, owner: str, settings: Settings, options: PipelineOptions) -> Outcome:
    """Claim a job, run it, record how it ended; this is the edge at which every error becomes a row."""
    started = time.monotonic()
    with get_session("products") as session:
        leases.ensure_job(session, job.stage, job.subject, now=time.time())
        attempt = leases.claim_job(session, job.job_id, owner, LEASE_S, now=time.time())
    if attempt is None:
        return Outcome(job, "lost")
    if options.imaging.threads:
        numba.set_num_threads(options.imaging.threads)
    context = Context(settings, options, job.job_id, attempt)
    result, error, tail = "completed", "", ""
    try:
        with threadpool_limits(options.imaging.threads or None):
            STAGES[job.stage](context, job.subject)
    except FencedError as fenced:
        return Outcome(job, "lost", error=str(fenced))
    except ConfigurationError as trouble:
        result, error = "paused", str(trouble)
    except PipelineError as trouble:
        result, error = "failed", str(trouble)
    except OSError as trouble:
        result, error = "paused", f"{job.job_id} stopped: {trouble}; make room or repair it and run again"
    except Exception as trouble:  # noqa: BLE001 - the edge of the worker loop: a fault of ours is a row, too
        result = "failed" if attempt >= MAX_ATTEMPTS else "retry"
        error, tail = f"{type(trouble).__name__}: {trouble}", traceback.format_exc()
    if result != "completed":
        _record_failure(job, attempt, error, tail, retry=result != "failed")
    return Outcome(job, result, time.monotonic() - started, error)


def release_dead_owners() -> list[str]:
    """Let the jobs of processes of this host that no longer live be claimed again; return their ids."""
    with get_session("products") as session:
        orphans = [row for row in leases.list_jobs(session, state=JobState.RUNNING) if is_gone(row.owner)]
        return [row.job_id for row in orphans if leases.expire_lease(session, row.job_id, row.attempt, now=time.time())]


def _due(options: PipelineOptions, *, once: bool) -> list[Job]:
    """Return the jobs that are due, after forming the mosaic groups that the tiles allow."""
    state = load_state(end_of_data=once)
    jobs = next_jobs(state, options.calibration, options.mosaic)
    if not (once and any(job.stage is Stage.CONVERT for job in jobs)) and form_mosaic_groups(
        options.mosaic, end_of_data=once
    ):
        jobs = next_jobs(load_state(end_of_data=once), options.calibration, options.mosaic)
    return jobs


def _record_failure(job: Job, attempt: int, error: str, tail: str, *, retry: bool) -> None:
    logger.error("%s attempt %d: %s", job.job_id, attempt, error)
    with get_session("products") as session:
        leases.fail_job(session, job.job_id, attempt, error, tail, now=time.time(), retry=retry)
    if job.stage is Stage.CONVERT and not retry:
        with get_session("ingest") as session:
            ingest_queue.fail_group(session, job.subject, error, now=time.time())


def _merge(total: ScanReport, scan: ScanReport) -> None:
    for name in ("recorded", "repeated", "unfinished", "quarantined"):
        getattr(total, name).extend(getattr(scan, name))


def _die_with_parent() -> None:
    """Ask the kernel to end this worker when the process that made it ends, however it ends (Linux)."""
    CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def failed_groups() -> dict[str, str]:
    """Return the groups that failed for good, with their errors."""
    with get_session("ingest", read_only=True) as session:
        rows = session.scalars(select(IngestQueue).where(IngestQueue.state == "failed"))
        return {row.group_id: row.error_message or "" for row in rows}
