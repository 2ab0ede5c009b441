"""Attempts in real workers: who is to blame for a death, leases that hold, jobs that hang, disks that are full."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, init_databases, leases, reset_engines
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import IngestQueue
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.options import PipelineOptions, ResourceOptions, ScheduleOptions
from dsa110_contimg.pipeline import attempt, runner
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.executors import PoolCrew
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.state import held_jobs

T = TypeVar("T")
QUICK = ScheduleOptions(retry_s=0.01)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    (tmp_path / "incoming").mkdir()
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("NVSS J000000.0+000000", 0.0, 0.0, 1.0, None)])
    return tmp_path


def add_groups(*names: str) -> None:
    with get_session("ingest") as session:
        for name in names:
            path = f"/in/{name}_sb00.hdf5"
            ingest_queue.record_subband(session, group_id=name, subband_idx=0, path=path, file_size=1, now=time.time())
            ingest_queue.mark_pending(session, name)


def rows() -> dict[str, JobRow]:
    with get_session("products", read_only=True) as session:
        return {row.subject: row for row in session.query(JobRow)}


def work(context: Context, subject: str) -> None:
    """Do as the subject's name says."""
    with get_session("ingest") as session:
        ingest_queue.claim_group(session, subject)
    if subject.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    if subject.startswith("hangs") and context.attempt == 1:
        time.sleep(600.0)
    with context.commit() as session:
        ms_index_upsert(session, f"/ms/{subject}.ms", group_id=subject, stage="failed")


def with_own_work(execute: Callable[..., T], *arguments: object) -> T:
    """Run an attempt in a worker whose stages are the function above."""
    attempt.function_of = lambda _stage: work  # type: ignore[assignment]
    return execute(*arguments)


class OwnWork(PoolCrew):
    """Workers that do the work of this file."""

    def submit(self, work: Callable[..., T], *args: object, time_limit_s: float | None = None) -> "Future[T]":
        return super().submit(with_own_work, work, *args, time_limit_s=time_limit_s)


def run(options: PipelineOptions) -> runner.RunSummary:
    return runner.run(Settings(), options, once=True, crew=OwnWork(2))


def test_a_group_that_kills_its_workers_is_quarantined_and_no_innocent_with_it() -> None:
    innocents = [f"innocent{number}" for number in range(4)]
    add_groups("poison", *innocents)
    summary = run(PipelineOptions(schedule=QUICK))
    found = rows()
    poison = found.pop("poison")
    assert (poison.state, poison.attempt, poison.deaths, poison.failures) == ("failed", 4, 3, 0)
    assert "SIGKILL" in (poison.error or "")
    assert [(row.state, row.attempt, row.deaths) for row in found.values()] == [("completed", 1, None)] * 4
    assert summary.exit_code == 1
    with get_session("ingest", read_only=True) as session:
        states = {row.group_id: (row.state, row.error_message) for row in session.query(IngestQueue)}
    assert states["poison"] == ("failed", poison.error)
    assert {states[name][0] for name in innocents} == {"completed"}


def test_a_job_that_hangs_is_stopped_and_done_by_another_worker() -> None:
    add_groups("hangs", "innocent")
    summary = run(PipelineOptions(schedule=QUICK, resources=ResourceOptions(time_limit_factor=1e-3)))
    assert summary.exit_code == 0
    stopped = [outcome for outcome in summary.outcomes if outcome.result == "retry"]
    assert [outcome.job.subject for outcome in stopped] == ["hangs"]
    assert "time limit" in stopped[0].error
    row = rows()["hangs"]
    assert (row.state, row.attempt, row.failures, row.deaths) == ("completed", 2, 1, None)


def test_a_lease_is_extended_while_its_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def long_work(context: Context, subject: str) -> None:
        for _ in range(12):
            time.sleep(0.1)
            seen.append(bool(held_jobs(time.time())))
        work(context, subject)

    monkeypatch.setattr(attempt, "function_of", lambda _stage: long_work)
    options = PipelineOptions(schedule=ScheduleOptions(lease_s=0.5))
    assert attempt.execute(Job(Stage.CONVERT, "g"), "elsewhere:1:1", Settings(), options).result == "completed"
    assert seen == [True] * 12


@pytest.mark.parametrize(
    ("error", "result", "failures"),
    [
        (OSError(28, "No space left on device"), "paused", 0),
        (OSError(30, "Read-only file system"), "paused", 0),
        (FileNotFoundError(2, "No such file"), "retry", 1),
        (MemoryError("no memory for an image"), "retry", 0),
    ],
)
def test_a_full_disk_is_nobodys_fault(
    monkeypatch: pytest.MonkeyPatch, error: Exception, result: str, failures: int
) -> None:
    def trouble(_context: Context, _subject: str) -> None:
        raise error

    monkeypatch.setattr(attempt, "function_of", lambda _stage: trouble)
    options = PipelineOptions(schedule=QUICK, resources=ResourceOptions(free_space_floor_gb=0.0))
    for folder in (Settings().stage, Settings().products):
        folder.mkdir(exist_ok=True)
    outcome = attempt.execute(Job(Stage.IMAGE, "g"), this_process(), Settings(), options)
    row = rows()["g"]
    assert (outcome.result, row.state, row.failures) == (result, "pending", failures)
    assert row.deaths == (0 if isinstance(error, MemoryError) else None)


def test_a_clock_that_was_set_back_holds_no_job_for_ever() -> None:
    now = time.time()
    with get_session("products") as session:
        leases.start_jobs(session, [("image", "g")], "elsewhere:1:1", 300.0, now + 86400.0)
    assert held_jobs(now) == set()
    with get_session("products") as session:
        assert leases.start_jobs(session, [("image", "g")], "me", 300.0, now) == {"image:g": 2}
    assert held_jobs(now) == {"image:g"}
