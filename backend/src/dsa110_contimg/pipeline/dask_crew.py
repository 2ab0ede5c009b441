"""Workers of a Dask cluster, on many machines: `contimg run --dask tcp://HOST:PORT`.

The run decides and submits; a job is claimed by the worker that does it, in the run's name. Dask neither tries again
nor resubmits: what becomes of a job is decided by its row alone. Should Dask run one twice all the same (a worker that
was cut off, an outcome that was lost with its worker), the second claim is refused, or the first attempt is fenced.

Dask carries out whatever it is sent: its ports belong on a private network, or behind TLS.
"""

import logging
import pickle
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from dsa110_contimg.config import Settings
from dsa110_contimg.errors import ConfigurationError, WorkerDiedError
from dsa110_contimg.formats.scratch import scratch_path
from dsa110_contimg.pipeline.dask_worker import Terms, do, introduce, pack, stop_jobs
from dsa110_contimg.pipeline.executors import Closing

try:
    import distributed
except ModuleNotFoundError as missing:
    raise ConfigurationError("Dask is not installed: pip install 'dsa110-contimg[dask]'") from missing

logger = logging.getLogger(__name__)
T = TypeVar("T")
CONNECT_S = 20.0
FIRST_WORKER_S = 60.0
"""A run waits this long for the first worker."""


class DaskCrew(Closing):
    """The Dask workers that a scheduler has, which may come and go.

    Raises
    ------
    ConfigurationError
        If the scheduler does not answer, no worker comes, or a worker has other versions, databases or folders.
    """

    def __init__(self, address: str, settings: Settings, *, first_worker_s: float = FIRST_WORKER_S) -> None:
        self._address, self._first_worker_s, self._slots = address, first_worker_s, 1
        self._tasks: dict[object, Any] = {}
        self._token = scratch_path(settings.stage / "cluster")
        self._terms = replace(Terms.of(settings), token=self._token)
        self._client = _connect(address)
        self._token.touch()
        try:
            self._engage()
        except ConfigurationError:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """Jobs that the workers of this moment do at once; without a scheduler, what they did when there was one."""
        if self._client.status == "running":
            before, self._slots = self._slots, sum(self._client.nthreads().values())
            if self._slots == 0 < before:
                logger.warning("the Dask scheduler %s has no worker left: jobs wait", self._address)
        return self._slots

    def submit(self, work: Callable[..., T], *args: object, time_limit_s: float | None = None) -> "Future[T]":
        """Have work done by any worker; what it is given and returns is pickled.

        Raises
        ------
        ConfigurationError
            If the scheduler is gone, and has not come back.
        """
        if self._client.status != "running":
            self._rejoin()
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()
        packed = pack(work, *args)
        task = self._client.submit(
            do, self._terms, packed, time_limit_s, key=f"contimg-{uuid.uuid4().hex}", pure=False, retries=0
        )
        self._tasks[task.key] = task
        task.add_done_callback(partial(self._pass_on, answer))
        return answer

    def close(self, *, stop: bool = False) -> None:
        """Leave the cluster, whose workers stay; with `stop`, what they do for this run ends at once."""
        if stop and self._client.status == "running":
            self._client.run(stop_jobs, on_error="ignore")
        self._client.close()
        self._token.unlink(missing_ok=True)

    def _engage(self) -> None:
        """Wait for a worker, and see whether all of them can do the jobs."""
        try:
            self._client.wait_for_workers(1, timeout=self._first_worker_s)
        except TimeoutError:
            raise ConfigurationError(
                f"no worker has come to the Dask scheduler {self._address} within {self._first_worker_s:.0f} s:"
                f" start some with `contimg worker {self._address}`"
            ) from None
        for place, trouble in self._client.run(introduce, terms=self._terms, on_error="return").items():
            if isinstance(trouble, Exception):
                raise ConfigurationError(f"the Dask worker {place} cannot run this version: {trouble}") from trouble
            if trouble is not None:
                raise ConfigurationError(trouble)
        self._client.run_on_scheduler(_never_resubmit)

    def _rejoin(self) -> None:
        """Go on with a scheduler that was started again."""
        self._client.close()
        self._client = _connect(self._address)
        self._engage()

    def _pass_on(self, answer: "Future[T]", task: Any) -> None:  # noqa: ANN401 - Dask's futures have no type to name
        """Give Dask's answer to who waits for it, with Dask's errors in our words."""
        try:
            succeeded, value = pickle.loads(task.result())
        except distributed.scheduler.KilledWorker as death:
            place = death.last_worker.address
            answer.set_exception(WorkerDiedError(f"its Dask worker {place} ended, or was cut off, in the middle of it"))
        except (CancelledError, OSError):
            answer.set_exception(WorkerDiedError(f"the Dask scheduler {self._address} went away in the middle of it"))
        except Exception as error:  # noqa: BLE001 - the edge of the worker: its caller gets every error
            answer.set_exception(error)
        else:
            (answer.set_result if succeeded else answer.set_exception)(value)
        finally:
            self._tasks.pop(task.key, None)


def _connect(address: str) -> "distributed.Client":
    try:
        return distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, and check the address"
        ) from error


def _never_resubmit(dask_scheduler: "distributed.Scheduler") -> None:
    dask_scheduler.allowed_failures = 0
