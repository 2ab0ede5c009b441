"""Who does the jobs: this process, or worker processes that end when it does, however it ends.

Each worker has a pipe and one job at a time. A worker that dies (a person, the kernel for want of memory, a fault in
a library) or is stopped at its time limit takes nothing with it but its own job, whose future raises
WorkerDiedError with the cause; the next job finds a new worker.
"""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import CDLL
from multiprocessing import connection, get_context
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from dsa110_contimg.config import current_settings
from dsa110_contimg.errors import ConfigurationError, TimeLimitError, WorkerDiedError
from dsa110_contimg.memory import keep_freed_memory, return_freed_memory
from dsa110_contimg.monitoring.logs import configure_logs, log_path
from dsa110_contimg.processes import out_of_memory_kills

T = TypeVar("T")
PR_SET_PDEATHSIG = 1
GRACE_S = 5.0
"""A worker that is told to end may take this long before it is killed."""
STARTS = 4
"""A worker that ends each time before it takes work cannot be started: something is wrong with the installation."""
_SPAWN = get_context("spawn")


class Crew(Protocol):
    """A number of workers."""

    @property
    def slots(self) -> int:
        """Jobs that it does at once."""

    def submit(self, work: Callable[..., T], *args: object, time_limit_s: float | None = None) -> "Future[T]":
        """Have work done and return its future."""

    def close(self, *, stop: bool = False) -> None:
        """End the workers: when their jobs have ended, or at once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """Closes a crew at the end of a block; an exception stops its workers at once."""

    def close(self, *, stop: bool = False) -> None:
        """End the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(stop=kind is not None)


class InlineCrew(Closing):
    """Does each job at once in this process, which nobody can stop at a time limit."""

    @property
    def slots(self) -> int:
        """One: whoever submits does it."""
        return 1

    def submit(self, work: Callable[..., T], *args: object, time_limit_s: float | None = None) -> "Future[T]":
        """Do work and return its future, which is done."""
        del time_limit_s
        future: Future[T] = Future()
        future.set_result(work(*args))
        return future


class PoolCrew(Closing):
    """Worker processes of this machine."""

    def __init__(self, workers: int) -> None:
        self._workers = [_Worker() for _ in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")

    @property
    def slots(self) -> int:
        """Jobs that it does at once: one in each process."""
        return len(self._workers)

    def submit(self, work: Callable[..., T], *args: object, time_limit_s: float | None = None) -> "Future[T]":
        """Have work done by the next idle worker; what it is given and returns is pickled."""
        return self._threads.submit(self._do, work, args, time_limit_s)

    def close(self, *, stop: bool = False) -> None:
        """End the workers: when their jobs have ended, or at once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if stop:
            for worker in self._workers:
                worker.stop()
        self._threads.shutdown()
        for worker in self._workers:
            worker.end()

    def _do(self, work: Callable[..., T], args: Sequence[object], time_limit_s: float | None) -> T:
        worker = self._idle.get()
        try:
            return worker.do(work, args, time_limit_s)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Any = None
        self._starting = Lock()
        self._stopped = False

    def do(self, work: Callable[..., T], args: Sequence[object], time_limit_s: float | None) -> T:
        """Return what work returns, or raise what it raises."""
        for _ in range(STARTS):
            if self._has_begun(work, args):
                break
            self._start()
        else:
            raise ConfigurationError("worker processes end as soon as they start: their error output says why")
        kills_before = out_of_memory_kills()
        try:
            ready = connection.wait([self._pipe, self._process.sentinel], time_limit_s)
            if not ready:
                self.kill()
                raise TimeLimitError(f"it was stopped after {time_limit_s:.0f} s, its time limit")
            succeeded, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            starved = (out_of_memory_kills() or 0) > (kills_before or 0)
            raise WorkerDiedError(cause_of_death(self._process.exitcode, starved=starved)) from None
        if succeeded:
            result: T = value
            return result
        raise value

    def _has_begun(self, work: Callable[..., T], args: Sequence[object]) -> bool:
        """Hand work over; False if there is no process, or it ended before it took the work."""
        if self._process is None:
            return False
        try:
            self._pipe.send((work, args))
            return bool(self._pipe.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            return False

    def stop(self) -> None:
        """Kill the process, whatever the thread that waits for it does, and let none follow it."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def kill(self) -> None:
        """Kill the process and wait until it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def end(self) -> None:
        """Let the process end by itself, else stop it."""
        if self._process is not None:
            self._pipe.close()
            self._process.join(GRACE_S)
            self.kill()
            self._process.close()
            self._process = None

    def _start(self) -> None:
        with self._starting:
            if self._stopped:
                raise WorkerDiedError("its worker process was stopped before it took the job")
            self.end()
            self._pipe, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
            process.start()
            self._process = process
            theirs.close()


def cause_of_death(exit_code: int, *, starved: bool) -> str:
    """Say in words how a worker ended, by its exit code (negative: the signal) and whether memory had run out."""
    if exit_code >= 0:
        return f"its worker process ended by itself with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    if starved and name == "SIGKILL":
        return "its worker process was killed (SIGKILL) because the machine was out of memory"
    return f"its worker process was killed by {name}"


def start_worker() -> None:
    """Set up a process that does jobs: an interrupt from the keyboard is its parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    settings = current_settings()
    configure_logs(log_path(settings) if settings.state.is_dir() else None)


def _work(pipe: Any, parent: int) -> None:  # noqa: ANN401 - multiprocessing does not export its pipes' type
    """Do what comes through the pipe until it is closed; the kernel ends this process when its parent ends (Linux)."""
    CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    start_worker()
    while True:
        try:
            work, args = pipe.recv()
        except EOFError:
            return
        pipe.send(True)
        try:
            answer = (True, work(*args))
        except Exception as error:  # noqa: BLE001 - the edge of the worker: its caller gets every error
            answer = (False, error)
        pipe.send(answer)
        del answer
        return_freed_memory()
