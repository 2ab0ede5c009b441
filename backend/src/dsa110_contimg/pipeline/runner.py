"""The loop: scan, decide, submit, record; and one job in a worker.

`contimg run --once`, the daemon and the functions that the specification names all come through `execute`.
"""

import logging
import time
import traceback
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name

import numba
from threadpoolctl import threadpool_limits

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.models import JobState
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.errors import ConfigurationError, FencedError, PipelineError
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline.catalogs import require_catalog
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.executors import Crew
from dsa110_contimg.pipeline.ingest import ScanReport, bootstrap_directory, close_groups, offer_groups
from dsa110_contimg.pipeline.jobs import Job, Stage, next_jobs
from dsa110_contimg.pipeline.reconcile import follow_conversions, follow_photometry, reconcile, remove_scratch
from dsa110_contimg.pipeline.state import form_mosaic_groups, held_jobs, load_state

logger = logging.getLogger(__name__)
LEASE_S = 3600.0
MAX_ATTEMPTS = 3
POLL_S = 5.0
HELD_POLL_S = 0.5
"""Between looks at jobs that another runner works on."""

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


def function_of(stage: Stage) -> Callable[[Context, str], None]:
    """Return what a stage does."""
    found: Callable[[Context, str], None] = resolve_name(f"dsa110_contimg.pipeline.{STAGES[stage]}")
    return found


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
    require_catalog()
    owner, summary = this_process(), RunSummary()
    remove_scratch(settings)
    running: dict[Future[Outcome], Job] = {}
    next_scan, paused = 0.0, False
    with Crew(workers) as crew:
        while True:
            if time.monotonic() >= next_scan:
                _scan(summary, settings, options, once=once)
                next_scan = float("inf") if once else time.monotonic() + POLL_S
            reconcile(options.photometry)
            due = _due(options, once=once)
            report(None, due)
            if not paused:
                for job in _free(due, running.values())[: workers - len(running)]:
                    running[crew.submit(execute, job, owner, settings, options)] = job
            ended = _collect(running, crew, owner)
            for outcome in ended:
                summary.outcomes.append(outcome)
                _add_refused(summary.scan, outcome.job)
                report(outcome, due)
                paused = paused or outcome.result == "paused"
            if not running and (paused or (once and not due)):
                return summary
            if not running and all(outcome.result == "lost" for outcome in ended):
                time.sleep(HELD_POLL_S if once else POLL_S)


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
            function_of(job.stage)(context, job.subject)
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
    if result != "completed" and not _record_failure(job, attempt, error, tail, retry=result != "failed"):
        result = "lost"
    return Outcome(job, result, time.monotonic() - started, error)


def _scan(summary: RunSummary, settings: Settings, options: PipelineOptions, *, once: bool) -> None:
    """Enter the files that have come, and offer the groups that wait for no more."""
    _merge(summary.scan, bootstrap_directory(settings.incoming, options.conversion))
    if once:
        close_groups()
    else:
        offer_groups(options.conversion, time.time())


def _free(due: list[Job], running: Collection[Job]) -> list[Job]:
    """Return the due jobs that nobody works on, here or in another runner."""
    held = held_jobs(time.time())
    return [job for job in due if job not in running and job.job_id not in held]


def _collect(running: dict[Future[Outcome], Job], crew: Crew, owner: str) -> list[Outcome]:
    """Wait a while for jobs to end; take them off the running ones and return how they ended."""
    done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
    broken = any(isinstance(future.exception(), BrokenExecutor) for future in done)
    if broken:
        done, _ = wait(running)
    outcomes = []
    for future in done:
        job = running.pop(future)
        killed = isinstance(future.exception(), BrokenExecutor)
        outcomes.append(_worker_killed(job, owner) if killed else future.result())
    if broken:
        crew.renew()
    return outcomes


def _worker_killed(job: Job, owner: str) -> Outcome:
    """Record that the worker of a job was killed; nobody knows by whose fault, so each job of the pool counts one."""
    with get_session("products", read_only=True) as session:
        row = session.get(JobRow, job.job_id)
    if row is None or (row.state, row.owner) != (JobState.RUNNING.value, owner):
        return Outcome(job, "lost")
    error = f"{job.job_id} stopped because a worker process was killed: is there enough memory for all workers?"
    result = "failed" if row.attempt >= MAX_ATTEMPTS else "retry"
    recorded = _record_failure(job, row.attempt, error, "", retry=result == "retry")
    return Outcome(job, result if recorded else "lost", error=error)


def _due(options: PipelineOptions, *, once: bool) -> list[Job]:
    """Return the jobs that are due, after forming the mosaic groups that the tiles allow."""
    state = load_state(end_of_data=once)
    jobs = next_jobs(state, options.calibration, options.mosaic)
    if not (once and any(job.stage is Stage.CONVERT for job in jobs)) and form_mosaic_groups(
        options.mosaic, end_of_data=once
    ):
        jobs = next_jobs(load_state(end_of_data=once), options.calibration, options.mosaic)
    return jobs


def _record_failure(job: Job, attempt: int, error: str, tail: str, *, retry: bool) -> bool:
    """Write a failure into the job's row; False if a newer attempt owns it, whose business this is not."""
    logger.error("%s attempt %d: %s", job.job_id, attempt, error)
    try:
        with get_session("products") as session:
            leases.fail_job(session, job.job_id, attempt, error, tail, now=time.time(), retry=retry)
    except FencedError:
        return False
    if not retry:
        follow_conversions()
        follow_photometry()
    return True


def _merge(total: ScanReport, scan: ScanReport) -> None:
    for name in ("recorded", "repeated", "unfinished", "quarantined"):
        getattr(total, name).extend(getattr(scan, name))


def _add_refused(scan: ScanReport, job: Job) -> None:
    """Let the files that were refused while their group was converted count like those that the scan refused."""
    if job.stage is Stage.CONVERT:
        with get_session("ingest", read_only=True) as session:
            paths = [Path(row.path) for row in ingest_queue.list_quarantine(session, job.subject)]
        scan.quarantined.extend(path for path in paths if path not in scan.quarantined)
