"""Failed work is opened again, when somebody has repaired the cause: what the next run then does is decided as ever."""

import logging
import time

from sqlalchemy import ColumnElement, or_, select

from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.models import IngestQueue, Job, JobState, QueueState
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.pipeline.jobs import Stage

logger = logging.getLogger(__name__)


def reopen(name: str) -> list[str]:
    """Open a failed job, or all failed jobs of a group or mosaic, and return what was opened.

    Raises
    ------
    PipelineError
        If nothing of that name has failed.
    """
    opened = _reopen(or_(Job.job_id == name, Job.subject == name), IngestQueue.group_id == _group_of(name))
    if not opened:
        raise PipelineError(f"nothing that has failed is called {name}: `contimg status` lists what has")
    return opened


def reopen_all() -> list[str]:
    """Open everything that has failed, and return what that was."""
    return _reopen(Job.job_id.is_not(None), IngestQueue.group_id.is_not(None))


def _group_of(name: str) -> str:
    """Return the group that a name means: itself, or that of its conversion."""
    return name.removeprefix(f"{Stage.CONVERT}:")


def _reopen(jobs: ColumnElement[bool], groups: ColumnElement[bool]) -> list[str]:
    # The jobs first: after a kill in between the group is failed still, and opened by the next call.
    with get_session("products") as session:
        failed = session.scalars(select(Job.job_id).where(Job.state == JobState.FAILED.value, jobs)).all()
        opened = [job_id for job_id in failed if leases.reopen_job(session, job_id, time.time())]
    with get_session("ingest") as session:
        closed = select(IngestQueue.group_id).where(IngestQueue.state == QueueState.FAILED.value, groups)
        opened += [group for group in session.scalars(closed).all() if ingest_queue.reopen_group(session, group)]
    for name in opened:
        logger.info("%s is open again", name)
    return opened
