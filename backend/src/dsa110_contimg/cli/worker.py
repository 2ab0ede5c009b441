"""`contimg worker`: a machine joins the Dask cluster of a run."""

import asyncio
import signal
from typing import Annotated

import typer

from dsa110_contimg.config import Settings
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline.resources import Machine, fit_to_data, jobs_that_fit

JOIN_S = 60.0


def worker(
    address: Annotated[str, typer.Argument(help="Address of the Dask scheduler, such as tcp://HOST:8786.")],
    jobs: Annotated[int, typer.Option(help="Jobs at once; 0 takes as many as memory and cores hold.", min=0)] = 0,
) -> None:
    """Do jobs of `contimg run --dask` on this machine, until it is stopped or the scheduler ends.

    Its environment must be that of the run: the same database server and the same folders. Jobs that run when it is
    stopped are done again elsewhere.

    Example: contimg worker tcp://127.0.0.1:8786 --jobs 2
    """
    settings = Settings()
    if jobs == 0:
        jobs = jobs_that_fit(Machine.read(), fit_to_data(PipelineOptions(), settings.incoming))
    typer.echo(f"looking for the scheduler at {address}, for {JOIN_S:.0f} s at most", err=True)
    asyncio.run(_work(address, jobs))


async def _work(address: str, jobs: int) -> None:
    from dsa110_contimg.pipeline import dask_worker

    loop = asyncio.get_running_loop()
    try:
        worker = await dask_worker.join(address, jobs, JOIN_S)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"no Dask scheduler answers at {address} ({error}): start it with `dask scheduler`, and check the address"
        ) from error
    typer.echo(f"{worker.address} does {jobs} {'job' if jobs == 1 else 'jobs'} at once")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    ended = [asyncio.ensure_future(waiting) for waiting in (stopped.wait(), worker.finished())]
    await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
    await worker.close(reason="stopped")
