"""Which of the due jobs start now: a pure function of what is due, what runs and what there is room for."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from dsa110_contimg.pipeline.jobs import Job


class Start(NamedTuple):
    """The jobs to start, and why the next one waits, if anything but its turn keeps it."""

    jobs: list[Job]
    waits: str | None = None


def choose(
    due: Sequence[Job],
    running: Collection[Job],
    slots: int,
    killers: Collection[str],
    admit: Callable[[Job, Collection[Job]], str | None],
) -> Start:
    """Return the jobs that start now, in their order: none overtakes one that waits for room.

    Parameters
    ----------
    due
        Jobs that nobody holds, the most urgent first.
    running
        Jobs that run.
    slots
        Jobs that run at once.
    killers
        Ids of jobs in which a worker has died: such a job runs alone.
    admit
        Says why a job does not fit beside others, or None.
    """
    chosen: list[Job] = []
    if any(job.job_id in killers for job in running):
        return Start(chosen, "a job in which a worker has died runs alone")
    for job in due:
        beside = [*running, *chosen]
        if len(beside) >= slots:
            return Start(chosen)
        if job.job_id in killers:
            if beside:
                return Start(chosen, f"{job.job_id} waits until it can run alone: a worker has died in it")
            return Start([job])
        why = admit(job, beside)
        if why is not None:
            return Start(chosen, why)
        chosen.append(job)
    return Start(chosen)
