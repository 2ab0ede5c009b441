"""The loop: scan, decide, submit, record.

`contimg run --once`, the daemon, Dask and the functions that the specification names all decide by `jobs.next_jobs`
and come through `attempt.execute`.

A daemon ends only when it is told to. Whatever keeps it from going on (a disk without room, a database server that is
away, a folder that has gone) pauses it: it says why, in the log, in its notice and by an alert, lets running jobs end,
and looks again. With `once` the run ends instead.
"""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from sqlalchemy.exc import SQLAlchemyError

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.alert_outbox import Alert, queue_alert
from dsa110_contimg.database.models import AlertKind, Severity
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.errors import PipelineError, WorkerDiedError
from dsa110_contimg.housekeeping import presence
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline.arrivals import Arrivals
from dsa110_contimg.pipeline.attempt import Outcome, claim, execute, record_death
from dsa110_contimg.pipeline.catalogs import require_catalog
from dsa110_contimg.pipeline.chores import Chore, chores_of, make_room, start_due
from dsa110_contimg.pipeline.clock import Clock
from dsa110_contimg.pipeline.executors import Crew, InlineCrew, PoolCrew
from dsa110_contimg.pipeline.ingest import ScanReport, bootstrap_directory, close_groups, offer_groups
from dsa110_contimg.pipeline.jobs import Job, Stage, next_jobs
from dsa110_contimg.pipeline.notices import Notice, tell, withdraw
from dsa110_contimg.pipeline.reconcile import reconcile, release_orphans, remove_scratch
from dsa110_contimg.pipeline.resources import Machine, admit, fit_to_data, room, time_limit_s
from dsa110_contimg.pipeline.schedule import choose
from dsa110_contimg.pipeline.state import form_mosaic_groups, held_jobs, jobs_that_killed, load_state, running_jobs
from dsa110_contimg.pipeline.stopping import StopRequest

__all__ = ["Outcome", "RunSummary", "execute", "run"]
logger = logging.getLogger(__name__)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
POLL_S = 5.0
IDLE_S = 15.0
"""Between whole turns of a daemon with nothing to do, which new files and ended jobs end."""
HELD_POLL_S = 0.5
"""Between looks at jobs that another runner works on, or that wait for their next attempt."""
SHORTEST_S = 1.0
NOTICE_S = 15.0
TROUBLE = (PipelineError, OSError, SQLAlchemyError)
Report = Callable[[Outcome | None, list[Job]], None]


@dataclass
class RunSummary:
    """What a run did."""

    scan: ScanReport = field(default_factory=ScanReport)
    """With `once`; a daemon keeps no lists."""
    arrived: Counter[str] = field(default_factory=Counter)
    """Of a daemon: how many files came, by what became of them."""
    outcomes: list[Outcome] = field(default_factory=list)
    """With `once`."""
    counts: Counter[str] = field(default_factory=Counter)
    """Outcomes by result."""
    paused: str | None = None
    """With `once`: why it ended before everything was done."""
    standing: list[str] = field(default_factory=list)
    """With `once`: jobs that had failed for good before this run, and stand so."""

    def ended(self, result: str) -> list[Outcome]:
        """Return the outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.result == result]

    def n_files(self, kind: str) -> int:
        """Return how many files the scans found of one kind."""
        return len(getattr(self.scan, kind)) + self.arrived[kind]

    @property
    def exit_code(self) -> int:
        """Return 1 if a file was refused, a job failed now or earlier, or the run could not go on; else 0."""
        return int(bool(self.scan.quarantined or self.ended("failed") or self.paused or self.standing))


def run(
    settings: Settings,
    options: PipelineOptions,
    *,
    once: bool,
    workers: int = 1,
    crew: Crew | None = None,
    report: Report = lambda _outcome, _due: None,
) -> RunSummary:
    """Process the incoming folder until nothing is left to do, or until it is told to stop.

    Parameters
    ----------
    settings, options
        Folders and stage options.
    once
        End when nothing is left: no further files are expected.
    workers
        Processes of this machine; with `once`, 1 runs in this one.
    crew
        Other workers, which take the place of these.
    report
        Called with each outcome and the jobs that are due.
    """
    require_catalog()
    floor_gb = options.resources.free_space_floor_gb
    if floor_gb is not None:
        # Alerts and cleaning follow the floor at which this run pauses.
        settings = settings.model_copy(update={"min_free_gb": floor_gb})
    if crew is None:
        crew = InlineCrew() if once and workers == 1 else PoolCrew(workers)
    with presence.running(settings), crew, StopRequest() as stop:
        loop = _Loop(settings, fit_to_data(options, settings.incoming), crew, stop, report, once=once)
        try:
            with nullcontext() if once else loop.arrivals:
                return loop.run()
        finally:
            withdraw(settings, loop.owner)


class _Loop:
    """One run: what it has in hand, and what it waits for."""

    def __init__(
        self, settings: Settings, options: PipelineOptions, crew: Crew, stop: StopRequest, report: Report, *, once: bool
    ) -> None:
        self.settings, self.options, self.crew, self.stop, self.report = settings, options, crew, stop, report
        self.once, self.owner, self.summary = once, this_process(), RunSummary()
        self.is_local = isinstance(crew, InlineCrew | PoolCrew)
        self.running: dict[Future[Outcome], Job] = {}
        self.chores: list[Chore] = [] if once else chores_of(settings, options)
        self.wake, self.started_at, self.clock = Event(), time.time(), Clock()
        self.arrivals = Arrivals(settings.incoming, options.conversion, self.wake.set)
        self.scanned = False
        self.next_notice = self.resume = self.rests_until = 0.0
        self.paused: str | None = None
        self.waits: str | None = None

    def run(self) -> RunSummary:
        """Take turns until there is nothing left to do, or the run is told to stop."""
        remove_scratch(self.settings)
        due: list[Job] = []
        while not self.stop.asked:
            start_due(self.chores)
            try:
                due = self._turn()
            except TROUBLE as trouble:
                if self.once:
                    raise
                self._pause(room(self.settings, self.options) or str(trouble))
            self._tell()
            ended = self._collect(due)
            if self.once and not self.running and (self.paused or not due):
                break
            if not self.running and not any(outcome.result != "lost" for outcome in ended):
                self._sleep(self._patience(due))
        self._end()
        return self.summary

    def _patience(self, due: list[Job]) -> float:
        """Return how long to wait when nothing runs."""
        if self.once:
            return HELD_POLL_S
        return POLL_S if due or self.paused else min(IDLE_S, max(self.arrivals.next_look_s, SHORTEST_S))

    def _turn(self) -> list[Job]:
        """Look at everything once, and start what may start; return what is due."""
        news = self._scan()
        if not news and time.monotonic() < self.rests_until:
            return []
        self._offer()
        release_orphans(self.owner, {job.job_id for job in self.running.values()})
        reconcile(self.options.photometry)
        due = self._due()
        self.report(None, due)
        self._look_for_room()
        if self.paused is None and not self.stop.asked:
            self._start(due)
        idle = not (due or self.running or self.paused)
        self.rests_until = time.monotonic() + IDLE_S if idle else 0.0
        return due

    def _scan(self) -> bool:
        """Enter the files that have come, and return whether there are any."""
        if not self.once:
            self.clock.look()
            found = self.arrivals.collect()
            # An unfinished file is looked at many times.
            self.summary.arrived.update(
                {kind: len(paths) for kind, paths in vars(found).items() if kind != "unfinished"}
            )
            return found.has_news
        if not self.scanned:
            self.summary.scan = bootstrap_directory(self.settings.incoming, self.options.conversion)
            close_groups()
            self.scanned = True
        return True

    def _offer(self) -> None:
        """Offer the groups that wait for no more."""
        if self.once:
            return
        conversion = self.options.conversion
        # What lies in a folder that is away may be what a group waits for.
        patient = self.arrivals.trouble is not None or not self.clock.is_steady(conversion.wait_s)
        offer_groups(conversion, time.time(), only_whole=patient)

    def _due(self) -> list[Job]:
        """Return the jobs that are due, after forming the mosaic groups that the tiles allow."""
        jobs = self._next()
        converting = any(job.stage is Stage.CONVERT for job in jobs)
        if not (self.once and converting) and form_mosaic_groups(self.options.mosaic, end_of_data=self.once):
            jobs = self._next()
        return jobs

    def _next(self) -> list[Job]:
        state = load_state(end_of_data=self.once)
        if self.once:
            now = {outcome.job.job_id for outcome in self.summary.outcomes}
            failed = [job_id for job_id, how in state.finished.items() if how == "failed"]
            self.summary.standing = sorted(set(failed) - now)
        newest_first = self.options.schedule.newest_first
        return next_jobs(state, self.options.calibration, self.options.mosaic, newest_first=newest_first)

    def _look_for_room(self) -> None:
        """Pause below the free-space floor, and go on when the reason of a pause may have gone."""
        guarded = not self.once or self.options.resources.free_space_floor_gb is not None
        short = room(self.settings, self.options) if guarded else None
        if short is not None:
            if self._is_new(short) and self.options.schedule.clean:
                make_room(self.settings)
            self._pause(short, AlertKind.DISK_LOW)
        elif self.paused is not None and not self.once and time.monotonic() >= self.resume:
            logger.warning("the run goes on")
            self.paused, self.next_notice = None, 0.0

    def _start(self, due: list[Job]) -> None:
        """Hand the next jobs to workers: claimed here in one transaction, or by those of a cluster themselves."""
        held, running = held_jobs(time.time()) if due else set(), self.running.values()
        if not self.clock.is_steady(self.options.schedule.lease_s):
            held |= running_jobs()
        free = [job for job in due if job not in running and job.job_id not in held]
        if not free:
            self.waits = None
            return
        machine = Machine.read() if self.is_local else Machine.cluster()

        def fits(job: Job, beside: Collection[Job]) -> str | None:
            return admit(job, beside, machine, self.options)

        before = self.waits
        chosen, self.waits = choose(free, running, self.crew.slots, jobs_that_killed(), fits)
        if self.waits not in (None, before):
            logger.info("%s", self.waits)
        attempts = claim(chosen, self.owner, self.options.schedule) if self.is_local else {}
        for job in chosen:
            if not self.is_local or job.job_id in attempts:
                self._submit(job, attempts.get(job.job_id))

    def _submit(self, job: Job, attempt: int | None) -> None:
        limit = time_limit_s(job.stage, self.options.resources)
        future = self.crew.submit(execute, job, self.owner, self.settings, self.options, attempt, time_limit_s=limit)
        self.running[future] = job
        future.add_done_callback(lambda _done: self.wake.set())

    def _collect(self, due: list[Job]) -> list[Outcome]:
        """Wait a while for jobs to end; take them off the running ones and return how they ended."""
        if self.running:
            self._sleep(POLL_S)
        ended = []
        for future in [future for future in self.running if future.done()]:
            outcome = self._outcome_of(future, self.running.pop(future))
            self._note(outcome)
            self.report(outcome, due)
            ended.append(outcome)
        return ended

    def _outcome_of(self, future: Future[Outcome], job: Job) -> Outcome:
        try:
            return future.result()
        except WorkerDiedError as death:
            return self._dead(job, death)
        except TROUBLE as trouble:
            # Its end could not be recorded: the row still says that it runs, until the orphans are released.
            return Outcome(job, "paused", error=str(trouble))

    def _dead(self, job: Job, death: WorkerDiedError) -> Outcome:
        try:
            # What the dead worker wrote may be what filled the disk: it counts before it goes.
            outcome = record_death(job, self.owner, death, self.settings, self.options)
            remove_scratch(self.settings)
        except TROUBLE as trouble:
            return Outcome(job, "paused", error=str(trouble))
        return outcome

    def _note(self, outcome: Outcome) -> None:
        self.summary.counts[outcome.result] += 1
        if self.once:
            self.summary.outcomes.append(outcome)
            _add_refused(self.summary.scan, outcome.job)
        if outcome.result == "paused":
            self._pause(outcome.error)

    def _pause(self, reason: str, kind: AlertKind = AlertKind.SYSTEM_ERROR) -> None:
        """Start nothing for a while, and say why."""
        self.resume = time.monotonic() + self.options.schedule.pause_s
        is_new, self.paused = self._is_new(reason), reason
        if not is_new:
            return
        self.next_notice = 0.0
        logger.error("the run pauses: %s", reason)
        if self.once:
            self.summary.paused = reason
            return
        source = {} if kind is AlertKind.DISK_LOW else {"source_id": "pipeline"}
        try:
            with get_session("products") as session:
                queue_alert(
                    session, Alert(kind, Severity.CRITICAL, f"the run pauses: {reason}", **source), now=time.time()
                )
        except TROUBLE as trouble:
            logger.warning("nobody is told that the run pauses: %s", trouble)

    def _is_new(self, reason: str) -> bool:
        """Return whether a reason to pause is another one, and not the same with other figures."""
        return self.paused is None or _NUMBER.sub("", reason) != _NUMBER.sub("", self.paused)

    def _tell(self) -> None:
        """Write the notice of a run that lasts."""
        if self.once or time.monotonic() < self.next_notice:
            return
        self.next_notice = time.monotonic() + NOTICE_S
        running = sorted(job.job_id for job in self.running.values())
        waits = self.waits or self.arrivals.trouble
        notice = Notice(self.owner, self.started_at, time.time(), self.crew.slots, running, self.paused, waits)
        tell(self.settings, notice)

    def _sleep(self, seconds: float) -> None:
        """Wait until a job has ended, something has come, the run is told to stop, or the time is over."""
        if any(future.done() for future in self.running):
            return
        self.stop.wait(self.wake, seconds)
        self.wake.clear()

    def _end(self) -> None:
        """Give running jobs their time, stop those that need more, and let others have them at once."""
        deadline = time.monotonic() + self.options.schedule.stop_s
        while self.running and not self.stop.urgent and time.monotonic() < deadline:
            self._collect([])
        if self.running:
            logger.warning("stopped in the middle: %s", ", ".join(job.job_id for job in self.running.values()))
            self.crew.close(stop=True)
            self.running.clear()
        try:
            release_orphans(self.owner, set())
            remove_scratch(self.settings)
        except TROUBLE as trouble:
            logger.warning("the next run takes over what this one held: %s", trouble)


def _add_refused(scan: ScanReport, job: Job) -> None:
    """Let the files that were refused while their group was converted count like those that the scan refused."""
    if job.stage is Stage.CONVERT:
        with get_session("ingest", read_only=True) as session:
            paths = [Path(row.path) for row in ingest_queue.list_quarantine(session, job.subject)]
        scan.quarantined.extend(path for path in paths if path not in scan.quarantined)
