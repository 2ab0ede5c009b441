"""Workers die in every way there is; only their own jobs notice."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import psutil
import pytest

from dsa110_contimg.errors import CalibrationError, TimeLimitError, WorkerDiedError
from dsa110_contimg.pipeline.executors import InlineCrew, PoolCrew, cause_of_death


@pytest.fixture(scope="module")
def crew() -> Iterator[PoolCrew]:
    with PoolCrew(2) as crew:
        yield crew


def fail(message: str) -> None:
    raise CalibrationError(message)


def exhaust_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
    bytearray(1 << 29)


def sleep_beside(path: str, seconds: float) -> int:
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()


class Late:
    """What takes long to arrive in another process, as work whose modules are imported there."""

    def __init__(self, pid_file: Path, seconds: float) -> None:
        self.pid_file, self.seconds = pid_file, seconds

    def __reduce__(self) -> tuple[object, ...]:
        return sleep_beside, (str(self.pid_file), self.seconds)


def test_results_and_errors_come_back(crew: PoolCrew) -> None:
    assert [future.result() for future in [crew.submit(abs, -number) for number in range(20)]] == list(range(20))
    with pytest.raises(CalibrationError, match="no bandpass"):
        crew.submit(fail, "no bandpass").result()
    assert InlineCrew().submit(abs, -3).result() == 3


def test_a_large_result_comes_back(crew: PoolCrew) -> None:
    assert len(crew.submit(bytes, 10_000_000).result()) == 10_000_000


@pytest.mark.parametrize(
    ("deadly", "cause"),
    [
        ((signal.raise_signal, signal.SIGKILL), "killed by SIGKILL"),
        ((os.abort,), "killed by SIGABRT"),
        ((os._exit, 3), "exit code 3"),
    ],
    ids=["killed", "aborted", "ended"],
)
def test_a_death_is_told_to_its_own_job_only(
    crew: PoolCrew, tmp_path: Path, deadly: tuple[object, ...], cause: str
) -> None:
    neighbor = crew.submit(sleep_beside, str(tmp_path / "pid"), 0.3)
    with pytest.raises(WorkerDiedError, match=cause):
        crew.submit(*deadly).result()  # type: ignore[arg-type]
    assert neighbor.result() == int((tmp_path / "pid").read_text())
    assert crew.submit(abs, -3).result() == 3


def test_want_of_memory_is_an_error_or_a_death_with_a_cause() -> None:
    with PoolCrew(1) as crew, pytest.raises(MemoryError):
        crew.submit(exhaust_memory).result()
    assert cause_of_death(-signal.SIGKILL, starved=True).endswith("because the machine was out of memory")
    assert "memory" not in cause_of_death(-signal.SIGKILL, starved=False)
    assert "memory" not in cause_of_death(-signal.SIGSEGV, starved=True)


def test_a_worker_that_hangs_is_stopped(crew: PoolCrew, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hung = crew.submit(sleep_beside, str(pid_file), 600.0, time_limit_s=1.0)
    quick = [crew.submit(abs, -number, time_limit_s=30.0) for number in range(5)]
    with pytest.raises(TimeLimitError, match="after 1 s"):
        hung.result()
    assert [future.result() for future in quick] == list(range(5))
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    with PoolCrew(1) as crew:
        pid = crew.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        assert crew.submit(os.getpid).result() != pid


def test_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    files = len(list(Path("/proc/self/fd").iterdir()))
    for stop in (False, True):
        crew = PoolCrew(1)
        pids = [crew.submit(os.getpid).result()]
        running = crew.submit(sleep_beside, str(tmp_path / "pid"), 600.0 if stop else 0.2)
        waiting: Future[int] = crew.submit(abs, -1)
        while not running.running():
            time.sleep(0.01)
        time.sleep(0.2)
        crew.close(stop=stop)
        assert not any(psutil.pid_exists(pid) for pid in pids)
        if stop:
            with pytest.raises(WorkerDiedError):
                running.result()
        with pytest.raises(CancelledError):
            waiting.result()
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 1


def test_a_worker_that_is_stopped_while_it_takes_work_is_not_replaced(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    crew = PoolCrew(1)
    arriving = crew.submit(abs, Late(pid_file, 3.0))
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.01)
    crew.close(stop=True)
    with pytest.raises(WorkerDiedError, match="stopped before it took the job"):
        arriving.result()
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_a_crew_that_is_stopped_before_its_worker_has_started_starts_none(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    crew = PoolCrew(1)
    starting = crew.submit(sleep_beside, str(pid_file), 3.0)
    crew.close(stop=True)
    with pytest.raises((CancelledError, WorkerDiedError)):
        starting.result()
    assert not pid_file.exists()


PARENT = """
import os, sys, time
from dsa110_contimg.pipeline.executors import PoolCrew
if __name__ == "__main__":
    crew = PoolCrew(2)
    print(*[crew.submit(os.getpid).result() for _ in range(2)], flush=True)
    time.sleep(60)
"""


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    deadline = time.monotonic() + 5.0
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in pids)
