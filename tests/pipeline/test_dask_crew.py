"""A Dask cluster does what a pool does, and refuses what would do something else."""

import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from tests.dask_cluster import Cluster, running, until, worker_processes

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, init_databases, leases
from dsa110_contimg.errors import CalibrationError, ConfigurationError, FencedError, TimeLimitError, WorkerDiedError
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline import dask_crew, dask_worker
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.dask_crew import DaskCrew
from dsa110_contimg.pipeline.dask_worker import Terms, pack
from dsa110_contimg.pipeline.executors import Crew

JOB = "image:2025-10-01T00:00:00"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("installation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(root))
        for folder in ("incoming", "stage", "products", "state"):
            (root / folder).mkdir()
        init_databases()
        yield root


@pytest.fixture(scope="module")
def cluster(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), {"PIPELINE_ROOT": str(root)}) as cluster:
        cluster.add_worker()
        cluster.add_worker()
        yield cluster


@pytest.fixture
def crew(cluster: Cluster) -> Iterator[DaskCrew]:
    for worker in [worker for worker in cluster.workers if worker.poll() is not None]:
        cluster.workers.remove(worker)
    while len(cluster.workers) < 2:
        cluster.add_worker()
    with DaskCrew(cluster.address, Settings()) as crew:
        until(lambda: crew.slots == 2)
        yield crew


def fail(message: str) -> None:
    raise CalibrationError(message)


def parents_until(path: str) -> int:
    """Return who began this, the Dask worker, when a file has come."""
    Path(f"{path}.{os.getppid()}").touch()
    until(Path(path).exists)
    return os.getppid()


def attempt(ready: str, go: str) -> int | None:
    """Claim a job, wait, and commit it as a stage does."""
    with get_session("products") as session:
        token = leases.claim_job(session, JOB, "run", 3600.0, now=time.time())
    if token is None:
        return None
    Path(ready).touch()
    until(Path(go).exists)
    with Context(Settings(), PipelineOptions(), JOB, token).commit():
        return token


def test_results_and_errors_come_back(crew: Crew) -> None:
    assert [future.result() for future in [crew.submit(abs, -number) for number in range(8)]] == list(range(8))
    with pytest.raises(CalibrationError, match="no bandpass"):
        crew.submit(fail, "no bandpass").result()
    assert len(crew.submit(bytes, 10_000_000).result()) == 10_000_000


def test_a_worker_process_that_dies_is_told_with_its_cause(crew: Crew, cluster: Cluster) -> None:
    with pytest.raises(WorkerDiedError, match="killed by SIGKILL"):
        crew.submit(signal.raise_signal, signal.SIGKILL).result()
    with pytest.raises(TimeLimitError, match="after 1 s"):
        crew.submit(time.sleep, 600.0, time_limit_s=1.0).result()
    assert all(worker.poll() is None for worker in cluster.workers)


@pytest.mark.slow
def test_a_dask_worker_that_dies_takes_its_own_job_only(crew: DaskCrew, cluster: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    jobs = [crew.submit(parents_until, str(go)) for _ in range(2)]
    until(lambda: len(list(tmp_path.glob("go.*"))) == 2)
    victim, neighbor = cluster.workers
    processes = worker_processes(victim)
    victim.kill()
    until(lambda: any(job.done() for job in jobs))
    go.touch()
    (dead,) = [job for job in jobs if job.exception() is not None]
    (alive,) = [job for job in jobs if job is not dead]
    with pytest.raises(WorkerDiedError, match=r"its Dask worker tcp://.* ended, or was cut off, in the middle of it"):
        dead.result()
    assert alive.result() == neighbor.pid
    until(lambda: not any(psutil.pid_exists(pid) for pid in processes))
    assert crew.slots == 1
    assert crew.submit(abs, -3).result() == 3
    assert len(list(tmp_path.glob("go.*"))) == 2, "Dask has done a job again by itself"


def test_a_job_that_runs_twice_is_claimed_or_committed_once(crew: Crew, tmp_path: Path) -> None:
    with get_session("products") as session:
        leases.ensure_job(session, "image", JOB.partition(":")[2], now=time.time())
    first = crew.submit(attempt, str(tmp_path / "first"), str(tmp_path / "go"))
    until((tmp_path / "first").exists)
    assert crew.submit(attempt, str(tmp_path / "refused"), str(tmp_path / "go")).result() is None
    with get_session("products") as session:
        assert leases.expire_lease(session, JOB, 1, now=time.time())
    second = crew.submit(attempt, str(tmp_path / "second"), str(tmp_path / "second"))
    assert second.result() == 2
    (tmp_path / "go").touch()
    with pytest.raises(FencedError):
        first.result()


@pytest.mark.slow
def test_stopping_leaves_no_job_behind(cluster: Cluster, crew: DaskCrew, tmp_path: Path) -> None:
    other = DaskCrew(cluster.address, Settings())
    job = other.submit(parents_until, str(tmp_path / "never"))
    until(lambda: len(list(tmp_path.glob("never.*"))) == 1)
    processes = [pid for worker in cluster.workers for pid in worker_processes(worker)]
    other.close(stop=True)
    until(lambda: not any(psutil.pid_exists(pid) for pid in processes))
    assert isinstance(job.exception(timeout=30.0), WorkerDiedError)
    assert crew.submit(abs, -3).result() == 3
    assert list((Settings().stage).glob(".cluster*")) != []
    crew.close()
    assert list((Settings().stage).glob(".cluster*")) == []


@pytest.mark.slow
def test_a_worker_ends_in_order(crew: DaskCrew, cluster: Cluster) -> None:
    assert crew.submit(abs, -3).result() == 3
    victim = cluster.workers[0]
    processes = worker_processes(victim)
    victim.terminate()
    assert victim.wait(30.0) == 0, cluster.log(victim)
    assert not any(psutil.pid_exists(pid) for pid in processes)
    until(lambda: crew.slots == 1)


@pytest.mark.slow
def test_a_worker_that_comes_later_with_other_folders_is_sent_away(
    crew: DaskCrew, cluster: Cluster, tmp_path: Path
) -> None:
    stranger = cluster.add_worker(PIPELINE_STAGE_DIR=str(tmp_path))
    until(lambda: crew.slots == 3)
    jobs = [crew.submit(time.sleep, 0.5) for _ in range(6)]
    errors = [job.exception() for job in jobs]
    assert all(error is None or isinstance(error, WorkerDiedError) for error in errors)
    assert stranger.wait(30.0) == 0
    assert f"has stage {tmp_path}, the run has {Settings().stage}" in cluster.log(stranger).replace("\n", " ")
    until(lambda: crew.slots == 2)


@pytest.mark.parametrize("folder", ["incoming", "products", "stage"])
def test_a_run_does_not_begin_with_workers_elsewhere(
    folder: str, crew: DaskCrew, cluster: Cluster, tmp_path: Path
) -> None:
    del crew
    settings = Settings().model_copy(update={f"{folder}_dir": tmp_path})
    with pytest.raises(ConfigurationError, match=rf"the Dask worker tcp://.* has {folder} .*, the run has {tmp_path}"):
        DaskCrew(cluster.address, settings)


@pytest.mark.slow
def test_a_foreign_worker_is_refused(crew: DaskCrew, cluster: Cluster) -> None:
    foreign = cluster.add_foreign_worker()
    with pytest.raises(ConfigurationError, match=r"none of the pipeline's: start it with `contimg worker`"):
        DaskCrew(cluster.address, Settings())
    foreign.kill()
    foreign.wait()
    until(lambda: crew.slots == 2)


def test_terms_differ_in_every_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Terms.of(Settings())
    assert ours.disagreement(Terms.of(Settings()), "w") is None
    for name in ("contimg", "python", "packages", "databases"):
        other = Terms(**{**vars(ours), name: "other"})
        assert ours.disagreement(other, "w") == (
            f"w has {name} other, the run has {getattr(ours, name)}: give both the same installation"
        )
    seen = Terms(**{**vars(ours), "token": root / "nowhere"})
    assert "one shared file system" in str(seen.disagreement(ours, "w"))
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert "has databases files of elsewhere" in str(ours.disagreement(Terms.of(Settings()), "w"))
    server = Settings(database_url="postgresql+psycopg://me:secret@db:5433/contimg")
    assert Terms.of(server).databases == "db:5433/contimg"


def test_no_worker_learns_where_alerts_go() -> None:
    packed = pack(vars, Settings(alert_urls=SecretStr("slack://token-that-is-secret")))
    assert b"token-that-is-secret" not in packed


def test_without_a_scheduler_or_workers_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_crew, "CONNECT_S", 1.0)
    with pytest.raises(ConfigurationError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*dask scheduler"):
        DaskCrew("tcp://127.0.0.1:9", Settings(root=tmp_path))
    with pytest.raises(ConfigurationError, match="no Dask scheduler answers at nonsense://x"):
        DaskCrew("nonsense://x", Settings(root=tmp_path))
    (tmp_path / "stage").mkdir()
    with (
        running(tmp_path, {}) as empty,
        pytest.raises(ConfigurationError, match=r"no worker has come .* within 1 s: start some with `contimg worker"),
    ):
        DaskCrew(empty.address, Settings(root=tmp_path), first_worker_s=1.0)


def test_without_dask_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    for module in (dask_worker, dask_crew):
        with pytest.raises(ConfigurationError, match=r"pip install 'dsa110-contimg\[dask\]'"):
            importlib.reload(module)


@pytest.mark.slow
def test_a_scheduler_that_ends_and_comes_back(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_crew, "CONNECT_S", 2.0)
    with running(tmp_path, {"PIPELINE_ROOT": str(root)}) as brief:
        brief.add_worker()
        crew = DaskCrew(brief.address, Settings())
        job = crew.submit(parents_until, str(tmp_path / "never"))
        until(lambda: len(list(tmp_path.glob("never.*"))) == 1)
        processes = worker_processes(brief.workers[0])
        brief.scheduler.kill()
        with pytest.raises(WorkerDiedError, match="went away in the middle of it"):
            job.result(timeout=30.0)
        assert crew.slots == 1
        with pytest.raises(ConfigurationError, match="no Dask scheduler answers"):
            crew.submit(abs, -3)
        assert brief.workers[0].wait(30.0) == 0, brief.log(brief.workers[0])
        until(lambda: not any(psutil.pid_exists(pid) for pid in processes))
        brief.scheduler.wait()
        brief.start_scheduler(brief.address.rpartition(":")[2])
        brief.add_worker()
        assert crew.submit(abs, -3).result() == 3
        crew.close()
