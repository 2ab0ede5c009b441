"""A Dask worker's side of a cluster: a foreman whose worker processes do the jobs.

Dask brings a job to a machine and its outcome back, and does no more. Each of its workers is started with this module
(`contimg worker`, or `dask worker --no-nanny --preload dsa110_contimg.pipeline.dask_worker`) and keeps a PoolCrew, as a
run without Dask does: time limits, memory and log lines are the same, and what kills a job is told by name.

A worker does nothing for a run that it does not agree with on versions, databases and folders.
"""

import logging
import pickle
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from dsa110_contimg import __version__
from dsa110_contimg.config import DATABASES, Settings, current_settings
from dsa110_contimg.database.server import parse_url
from dsa110_contimg.errors import ConfigurationError, PipelineError, WorkerDiedError
from dsa110_contimg.pipeline.executors import PoolCrew

try:
    import distributed
except ModuleNotFoundError as missing:
    raise ConfigurationError("Dask is not installed: pip install 'dsa110-contimg[dask]'") from missing

logger = logging.getLogger(__name__)
PACKAGES = ("distributed", "ducc0", "numba", "numpy", "scipy")
"""Those on which the bits of a result or the words between machines depend."""
_crews: dict[str, PoolCrew] = {}
"""By the id of the Dask worker, several of which may live in one process."""


@dataclass(frozen=True)
class Terms:
    """What a run and its workers must agree on."""

    contimg: str
    python: str
    packages: str
    databases: str
    incoming: Path
    stage: Path
    products: Path
    token: Path | None = None
    """A file that the run has put into the staging area: whoever sees it has the same files."""

    @classmethod
    def of(cls, settings: Settings) -> "Terms":
        """Return the terms of this process."""
        if settings.database_url is None:
            files = ", ".join(str(settings.database(name)) for name in DATABASES)
            databases = f"files of {socket.gethostname()} ({files})"
        else:
            url = parse_url(settings.database_url)
            databases = f"{url.host or url.query.get('host', '')}:{url.port or ''}/{url.database}"
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        folders = (settings.incoming, settings.stage, settings.products)
        return cls(__version__, platform.python_version(), packages, databases, *folders)

    def disagreement(self, ours: "Terms", place: str) -> str | None:
        """Return in what a worker's terms differ from these, those of the run; None if they agree."""
        for field in fields(self):
            wanted, found = getattr(self, field.name), getattr(ours, field.name)
            if field.name != "token" and wanted != found:
                return f"{place} has {field.name} {found}, the run has {wanted}: give both the same installation"
        if self.token is not None and not self.token.exists():
            return f"{place} does not see the run's files in {self.stage}: that must be one shared file system"
        return None


def dask_setup(worker: "distributed.Worker") -> None:
    """Engage worker processes, as many as the Dask worker has threads; Dask calls this."""
    if current_process().daemon:
        raise ConfigurationError("a Dask worker below a nanny may start no processes: start it with --no-nanny")
    _crews[worker.id] = PoolCrew(worker.state.nthreads)


def dask_teardown(worker: "distributed.Worker") -> None:
    """Stop the worker processes; Dask calls this."""
    _crews.pop(worker.id).close(stop=True)


def introduce(dask_worker: "distributed.Worker", terms: Terms) -> str | None:
    """Return why a Dask worker cannot do the jobs of a run, or None."""
    place = f"the Dask worker {dask_worker.address} on {socket.gethostname()}"
    if dask_worker.id not in _crews:
        return f"{place} is none of the pipeline's: start it with `contimg worker`"
    return terms.disagreement(Terms.of(current_settings()), place)


def do(terms: Terms, packed: bytes, time_limit_s: float | None) -> bytes:
    """Have a job done by a worker process of this Dask worker.

    Returns
    -------
    bytes
        A pickled pair: whether it succeeded, and what came back or what it raised. A worker that disagrees with the run
        does nothing and leaves.
    """
    worker = distributed.get_worker()
    trouble = introduce(worker, terms)
    if trouble is not None:
        logger.error(trouble)
        worker.loop.add_callback(worker.close, reason="it disagrees with the run")
        return pickle.dumps((False, WorkerDiedError(trouble)))
    try:
        return _crews[worker.id].submit(_do_packed, packed, time_limit_s=time_limit_s).result()
    except PipelineError as error:
        return pickle.dumps((False, error))


def stop_jobs(dask_worker: "distributed.Worker") -> None:
    """Stop what a Dask worker's processes do, at once."""
    dask_teardown(dask_worker)
    dask_setup(dask_worker)


def pack(work: Callable[..., Any], *args: object) -> bytes:
    """Return work and what it is given as bytes, which only the process that does it opens."""
    public = (without_secrets(value) for value in args)
    return pickle.dumps((work, tuple(public)))


def without_secrets(value: object) -> object:
    """Return a value without what no worker needs to know: the addresses of alerts."""
    return value.model_copy(update={"alert_urls": None}) if isinstance(value, Settings) else value


def _do_packed(packed: bytes) -> bytes:
    work, args = pickle.loads(packed)
    return pickle.dumps((True, work(*args)))


async def join(address: str, jobs: int, patience_s: float) -> "distributed.Worker":
    """Return a Dask worker of this process that has joined a scheduler, and does so many jobs at once."""
    # Memory and time are limited for each job, which Dask cannot see into.
    worker = distributed.Worker(
        address, nthreads=jobs, memory_limit=0, preload=[__name__], dashboard=False, death_timeout=patience_s
    )
    await worker
    return worker
