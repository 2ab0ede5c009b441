"""The loop and its edge: errors become rows, leases hold, what a killed process left is made good."""

import os
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, init_databases, leases, reset_engines
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import Image, IngestQueue, MSIndex, Photometry
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.registry_rows import get_data
from dsa110_contimg.database.repositories import ImageRepository, PhotometryRepository, ms_index_upsert
from dsa110_contimg.errors import CalibrationError, ConfigurationError, PipelineError
from dsa110_contimg.formats.scratch import scratch_path
from dsa110_contimg.options import PhotometryOptions, PipelineOptions, ResourceOptions, ScheduleOptions
from dsa110_contimg.pipeline import attempt, runner
from dsa110_contimg.pipeline.chores import Chore
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.executors import InlineCrew
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.reconcile import reconcile, release_dead_owners, remove_scratch

GONE = f"{socket.gethostname()}:{os.getpid()}:1"
"""This process id with another start time: an earlier process that had it."""
JOB = Job(Stage.IMAGE, "2025-10-01T08:49:00")
OPTIONS = PipelineOptions(schedule=ScheduleOptions(retry_s=0.01))
Work = Callable[[Context, str], None]
pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    (tmp_path / "incoming").mkdir()
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("NVSS J000000.0+000000", 0.0, 0.0, 1.0, None)])
    return tmp_path


def execute(monkeypatch: pytest.MonkeyPatch, work: Work, job: Job = JOB) -> runner.Outcome:
    monkeypatch.setattr(attempt, "function_of", lambda _stage: work)
    return runner.execute(job, this_process(), Settings(), OPTIONS)


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_a_function(stage: Stage) -> None:
    assert callable(attempt.function_of(stage))


def row_of(job: Job = JOB) -> JobRow:
    with get_session("products", read_only=True) as session:
        return session.get_one(JobRow, job.job_id)


def raising(error: Exception) -> Work:
    def work(_context: Context, _subject: str) -> None:
        raise error

    return work


def index_tile(context: Context, subject: str) -> None:
    with context.commit() as session:
        ms_index_upsert(session, f"/ms/{subject}.ms", group_id=subject, stage="failed")


def take_over(context: Context) -> None:
    """Let another process have the job, as after a lease that ran out."""
    with get_session("products") as session:
        assert leases.expire_lease(session, context.job_id, context.attempt, time.time())
    with get_session("products") as session:
        assert leases.claim_job(session, context.job_id, "elsewhere:1:1", 60.0, time.time()) == context.attempt + 1


@pytest.mark.parametrize(
    ("error", "result", "state"),
    [
        (CalibrationError("no bandpass"), "failed", "failed"),
        (ConfigurationError("no catalogue"), "paused", "pending"),
        (OSError(28, "No space left on device"), "paused", "pending"),
        (ValueError("a fault of ours"), "retry", "pending"),
    ],
)
def test_every_error_becomes_a_row(monkeypatch: pytest.MonkeyPatch, error: Exception, result: str, state: str) -> None:
    outcome = execute(monkeypatch, raising(error))
    row = row_of()
    assert (outcome.result, row.state, row.attempt) == (result, state, 1)
    assert str(error) in (row.error or "")
    assert ("Traceback" in (row.log_tail or "")) == (result == "retry")


def test_a_fault_of_ours_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for _ in range(4):
        results.append(execute(monkeypatch, raising(ValueError("again"))).result)
        time.sleep(0.03)
    assert results == ["retry", "retry", "failed", "lost"]
    assert row_of().attempt == 3


def test_a_result_and_the_end_of_its_job_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute(monkeypatch, index_tile).result == "completed"
    row = row_of()
    assert (row.state, row.error, row.lease_expires_at) == ("completed", None, None)
    with get_session("products", read_only=True) as session:
        assert session.get(MSIndex, f"/ms/{JOB.subject}.ms") is not None
    assert execute(monkeypatch, raising(ValueError("never called"))).result == "lost"


@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_that_was_overtaken_changes_nothing(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    def work(context: Context, subject: str) -> None:
        take_over(context)
        if fails:
            raise ValueError("too late")
        index_tile(context, subject)

    assert execute(monkeypatch, work).result == "lost"
    row = row_of()
    assert (row.state, row.owner, row.attempt, row.error) == ("running", "elsewhere:1:1", 2, None)
    with get_session("products", read_only=True) as session:
        assert session.get(MSIndex, f"/ms/{JOB.subject}.ms") is None


@pytest.mark.parametrize(
    ("owner", "released"),
    [(GONE, True), (this_process(), False), ("elsewhere:1:1", False)],
    ids=["gone", "alive", "elsewhere"],
)
def test_only_the_jobs_of_owners_that_are_gone_are_released(owner: str, released: bool) -> None:
    with get_session("products") as session:
        job_id = leases.ensure_job(session, JOB.stage, JOB.subject, now=time.time())
        assert leases.claim_job(session, job_id, owner, 60.0, time.time()) == 1
    assert release_dead_owners() == ([JOB.job_id] if released else [])
    assert release_dead_owners() == []
    with get_session("products") as session:
        claimed = leases.claim_job(session, JOB.job_id, this_process(), 60.0, time.time())
    assert claimed == (2 if released else None)


def add_group(group_id: str) -> None:
    with get_session("ingest") as session:
        path = f"/in/{group_id}_sb00.hdf5"
        ingest_queue.record_subband(session, group_id=group_id, subband_idx=0, path=path, file_size=1, now=time.time())
        ingest_queue.mark_pending(session, group_id)


def group_row(group_id: str) -> IngestQueue:
    with get_session("ingest", read_only=True) as session:
        return session.get_one(IngestQueue, group_id)


def end_job(job: Job, *, error: str | None = None) -> None:
    with get_session("products") as session:
        job_id = leases.ensure_job(session, job.stage, job.subject, now=time.time())
        token = leases.claim_job(session, job_id, GONE, 60.0, time.time())
        assert token is not None
        if error is None:
            leases.complete_job(session, job_id, token, time.time())
        else:
            failure = leases.Failure(leases.FailureKind.ERROR, for_good=True)
            leases.fail_job(session, job_id, token, failure, error=error, log_tail=None, now=time.time())


def test_the_ingest_queue_follows_tiles_and_failures() -> None:
    for group_id in ("done", "broken", "working"):
        add_group(group_id)
        with get_session("ingest") as session:
            assert ingest_queue.claim_group(session, group_id)
    with get_session("products") as session:
        ms_index_upsert(session, "/ms/done.ms", group_id="done", stage="converted", calibrator="3C48")
    end_job(Job(Stage.CONVERT, "done"))
    end_job(Job(Stage.CONVERT, "broken"), error="it lacks subbands")
    for _ in range(2):
        reconcile(PhotometryOptions())
        row = group_row("done")
        assert (row.state, row.has_calibrator, row.calibrators) == ("completed", 1, '["3C48"]')
        row = group_row("broken")
        assert (row.state, row.error_message) == ("failed", "it lacks subbands")
        assert group_row("working").state == "in_progress"


def test_a_group_whose_conversion_died_before_it_took_the_group_fails_with_it() -> None:
    for group_id in ("stillborn", "waiting"):
        add_group(group_id)
    end_job(Job(Stage.CONVERT, "stillborn"), error="its worker process was killed by SIGSEGV")
    reconcile(PhotometryOptions())
    row = group_row("stillborn")
    assert (row.state, row.error_message) == ("failed", "its worker process was killed by SIGSEGV")
    assert group_row("waiting").state == "pending"


def test_an_image_that_is_made_anew_is_no_longer_removed() -> None:
    def make() -> None:
        with get_session("products") as session:
            ms_index_upsert(session, "/ms/a.ms", stage="imaged")
            ImageRepository.add(session, path="/i/a.fits", ms_path="/ms/a.ms", type="image", created_at=1.0)

    make()
    with get_session("products") as session:
        session.execute(update(Image).values(removed_at=2.0))
    make()
    with get_session("products", read_only=True) as session:
        assert session.scalars(select(Image.removed_at)).all() == [None]


def register(root: Path, name: str, photometry: str) -> sqlite3.Connection:
    path = root / "stage" / "mosaics" / f"{name}.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"pixels")
    connection = ensure_data_registry_db(Settings().database("data_registry"))
    register_data_instance(connection, "mosaic", name, path)
    connection.execute("UPDATE data_registry SET photometry_status = ? WHERE data_id = ?", (photometry, name))
    return connection


@pytest.mark.parametrize(("error", "status"), [(None, "completed"), ("no pixels", "failed")])
def test_the_photometry_gate_follows_its_job(root: Path, error: str | None, status: str) -> None:
    with closing(register(root, "m1", "running")) as connection:
        reconcile(PhotometryOptions())
        assert get_data(connection, "m1").photometry_status == "running"
        end_job(Job(Stage.PHOTOMETRY, "m1"), error=error)
        reconcile(PhotometryOptions())
        assert get_data(connection, "m1").photometry_status == status


def test_rows_follow_a_mosaic_whoever_published_it(root: Path) -> None:
    stage, published = root / "stage" / "mosaics", root / "products" / "mosaics"
    with get_session("products") as session:
        ms_index_upsert(session, "/ms/1.ms", stage="imaged")
        MosaicRepository.store(
            session,
            path=str(stage / "m1.fits"),
            name="m1",
            reference_ms="/ms/1.ms",
            created_at=0.0,
            start_mjd=1.0,
            end_mjd=2.0,
            noise_path=str(stage / "m1-noise.fits"),
        )
        session.add(Image(path=str(stage / "m1-noise.fits"), ms_path="/ms/1.ms", type="noise"))
        flux: dict[str, str | float] = {"image_path": str(stage / "m1.fits"), "source_id": "s", "peak_jyb": 1.0}
        PhotometryRepository.store(session, [{**flux, "ra_deg": 1.0, "dec_deg": 2.0, "measured_at": 0.0}])
    with closing(register(root, "m1", "completed")) as connection:
        connection.execute(
            "UPDATE data_registry SET status = 'published', published_path = ?", (str(published / "m1.fits"),)
        )
    for _ in range(2):
        reconcile(PhotometryOptions())
        with get_session("products", read_only=True) as session:
            mosaic = MosaicRepository.get_by_name(session, "m1")
            assert mosaic is not None
            assert (mosaic.path, mosaic.noise_path) == (str(published / "m1.fits"), str(published / "m1-noise.fits"))
            paths = {image.path for image in session.query(Image)}
            assert paths == {str(published / "m1.fits"), str(published / "m1-noise.fits")}
            assert [row.image_path for row in session.query(Photometry)] == [str(published / "m1.fits")]


def test_scratch_goes_when_its_writer_is_gone(root: Path) -> None:
    folder = root / "stage" / "ms" / "science" / "2025-10-01"
    folder.mkdir(parents=True)
    own = scratch_path(folder / "own.ms")
    pid = f".{os.getpid()}-"
    gone, elsewhere = (Path(str(own).replace(pid, f".{2**22 + 5}-")), Path(str(own).replace(socket.gethostname(), "x")))
    for path in (own, gone, elsewhere, folder / "2025-10-01T00:00:00.ms"):
        (path / "ANTENNA").mkdir(parents=True)
    image = root / "stage" / "images" / gone.name
    image.parent.mkdir()
    image.touch()
    assert remove_scratch(Settings()) == [gone, image]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [own.name, elsewhere.name, "2025-10-01T00:00:00.ms"]
    )
    assert remove_scratch(Settings()) == []


def run_once(workers: int = 1) -> runner.RunSummary:
    return runner.run(Settings(), OPTIONS, once=True, workers=workers)


def test_a_run_with_nothing_to_do_ends() -> None:
    assert run_once().exit_code == 0


@pytest.mark.parametrize(
    ("work", "results", "code"),
    [
        (index_tile, ["completed", "completed"], 0),
        (raising(CalibrationError("bad")), ["failed", "failed"], 1),
        (raising(ValueError("bad")), ["retry", "retry", "failed", "retry", "retry", "failed"], 1),
        (raising(OSError(28, "full")), ["paused"], 1),
    ],
)
def test_once_ends_and_its_exit_code_tells_how(
    monkeypatch: pytest.MonkeyPatch, work: Work, results: list[str], code: int
) -> None:
    for group_id in ("g1", "g2"):
        add_group(group_id)
    monkeypatch.setattr(attempt, "function_of", lambda _stage: work)
    summary = run_once()
    assert ([outcome.result for outcome in summary.outcomes], summary.exit_code) == (results, code)


def test_a_run_takes_over_from_a_runner_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    add_group("g1")
    job = Job(Stage.CONVERT, "g1")
    with get_session("products") as session:
        leases.ensure_job(session, job.stage, job.subject, now=time.time())
        leases.claim_job(session, job.job_id, GONE, 3600.0, time.time())
    monkeypatch.setattr(attempt, "function_of", lambda _stage: index_tile)
    assert [outcome.result for outcome in run_once().outcomes] == ["completed"]
    assert row_of(job).attempt == 2


def race(root: Path, log: Path) -> None:
    """Run one of two runners; each job that it does is a line in the log."""
    os.environ["PIPELINE_ROOT"] = str(root)

    def work(context: Context, subject: str) -> None:
        with log.open("a") as lines:
            lines.write(f"{subject} {os.getpid()}\n")
        time.sleep(0.05)
        index_tile(context, subject)

    pytest.MonkeyPatch().setattr(attempt, "function_of", lambda _stage: work)
    assert run_once().exit_code == 0


def test_two_runners_share_the_jobs_and_each_is_done_once(root: Path, tmp_path: Path) -> None:
    groups = [f"g{number:02d}" for number in range(20)]
    for group_id in groups:
        add_group(group_id)
    log = tmp_path / "log"
    context = get_context("spawn")
    runners = [context.Process(target=race, args=(root, log)) for _ in range(2)]
    for process in runners:
        process.start()
    for process in runners:
        process.join(60)
        assert process.exitcode == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(subject for subject, _pid in lines) == groups
    assert len({pid for _subject, pid in lines}) == 2


@pytest.mark.parametrize(("own", "floor_gb"), [(0.0, 0.0), (7.5, 7.5), (None, 50.0)])
def test_alerts_and_cleaning_follow_the_floor_of_the_run(
    monkeypatch: pytest.MonkeyPatch, own: float | None, floor_gb: float
) -> None:
    told: list[float] = []

    def chores(settings: Settings, _options: PipelineOptions) -> list[Chore]:
        told.append(settings.min_free_gb)
        raise PipelineError("that is enough")

    monkeypatch.setattr(runner, "require_catalog", lambda: None)
    monkeypatch.setattr(runner, "chores_of", chores)
    with pytest.raises(PipelineError, match="enough"):
        runner.run(
            Settings(),
            PipelineOptions(resources=ResourceOptions(free_space_floor_gb=own)),
            once=False,
            crew=InlineCrew(),
        )
    assert told == [floor_gb]
