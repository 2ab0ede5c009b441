"""Who does the jobs: this process, or a pool of processes that end when it does, however it ends.

A pool whose worker was killed (by a person, or by the kernel for want of memory) is broken for good: the crew
says so by `BrokenExecutor` from the futures, and is usable again after `renew`.
"""

import os
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from ctypes import CDLL
from multiprocessing import get_context
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from dsa110_contimg.memory import keep_freed_memory

P = ParamSpec("P")
T = TypeVar("T")
PR_SET_PDEATHSIG = 1


class Crew:
    """A number of workers; 1 runs each job at once in this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = self._make()

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have work done and return its future."""
        if self._pool is None:
            future: Future[T] = Future()
            future.set_result(work(*args, **kwargs))
            return future
        try:
            return self._pool.submit(work, *args, **kwargs)
        except BrokenExecutor:
            self.renew()
            return self._pool.submit(work, *args, **kwargs)

    def renew(self) -> None:
        """Replace a broken pool."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._make()

    def _make(self) -> Executor | None:
        if self.workers == 1:
            return None
        context = get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, initializer=_start_worker, initargs=(os.getpid(),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Ask the kernel to end this worker when its parent ends (Linux); end now if the parent already has."""
    keep_freed_memory()
    CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
