"""Tiles are calibrated anew, when a better bandpass has arrived than the one that they stand on.

A tile goes back to `converted`, and its jobs open again: the next run calibrates it with the bandpass that fits best
now, solves its own gains anew, since they belong to the bandpass below them, and images and measures it. Mosaics that
are made already stay; `contimg registry remake` makes their next version.
"""

import logging
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.calibration.selection import TileFacts
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.models import JobState, MSIndex
from dsa110_contimg.database.repositories import MSRepository
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.context import mid_time, pointing
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.pipeline.table_choice import choose_bandpass

logger = logging.getLogger(__name__)
STAGES = (Stage.CALIBRATE, Stage.IMAGE, Stage.MEASURE)


def recalibrate(table: str, options: CalibrationOptions) -> list[str]:
    """Have the tiles that stand on a table calibrated anew, and return their groups.

    Parameters
    ----------
    table
        Path of a bandpass, as `contimg status` names it.
    options
        What a better table has to fit.

    Raises
    ------
    PipelineError
        If no tile stands on it, or nothing better fits any of them: they stay as they are.
    """
    with get_session("products", read_only=True) as session:
        on_it = select(MSIndex).where(MSIndex.caltables.contains(table, autoescape=True)).order_by(MSIndex.mid_mjd)
        tiles = [tile for tile in session.scalars(on_it) if Path(tile.path).exists()]
    if not tiles:
        raise PipelineError(
            f"no tile on disk is calibrated with {table}: `contimg status` names tables as they are used"
        )
    better = [tile for tile in tiles if _has_better(tile, table, options)]
    if not better:
        raise PipelineError(f"nothing fits the tiles on {table} better: they stay until a transit arrives")
    with get_session("products") as session:
        return [tile.group_id or tile.path for tile in better if _reopen(session, tile)]


def _has_better(tile: MSIndex, table: str, options: CalibrationOptions) -> bool:
    choice, _rows = choose_bandpass(TileFacts(mid_time(tile), pointing(tile).dec_deg), options)
    return choice.table is not None and choice.table.path != table


def _reopen(session: Session, tile: MSIndex) -> bool:
    """Send a tile back, unless somebody works on it."""
    jobs = leases.list_jobs(session, subject=tile.group_id)
    if any(job.state == JobState.RUNNING.value for job in jobs):
        logger.warning("%s is at work: it is not calibrated anew now", tile.group_id)
        return False
    for stage in STAGES:
        leases.reopen_job(session, f"{stage}:{tile.group_id}", time.time())
    MSRepository.set_stage(session, tile.path, "converted", now=time.time(), cal_applied=0, caltables=None)
    return True
