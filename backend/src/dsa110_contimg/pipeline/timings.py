"""What a group cost and where the dishes looked: rows of performance_metrics and pointing_history.

    conversion_time    reading the subbands, turning them to one phase center and writing the Measurement Set
    k, bp, g           the parts of a solve; g of most groups is that of their own phases, made as they are calibrated
    imaging_time       the image job; photometry_time the measure job
    total_time         all completed jobs of the group

Each is the latest attempt's that was completed. `concat_time` stays NULL: subbands are never concatenated, each is
written into its place in the band. One pointing a tile: the meridian at the middle of its data.
"""

import logging
import math
from collections.abc import Mapping

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from dsa110_contimg import telescope
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import IngestQueue, PerformanceMetrics, PointingHistory
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.visibilities import SkyPosition

logger = logging.getLogger(__name__)
WRITER = "direct-subband"
STEPS = {
    Stage.CONVERT: "conversion_time",
    Stage.IMAGE: "imaging_time",
    Stage.MEASURE: "photometry_time",
}
PARTS = {"K": "k_solve_time", "BP": "bp_solve_time", "G": "g_solve_time"}
"""Parts that calibration times, and their columns."""


def record_times(job: Job, seconds: float, parts: Mapping[str, float], *, now: float) -> bool:
    """Add a completed job to what its group cost; False for a job that is no group's.

    Parameters
    ----------
    job, seconds
        What was completed, and how long it took.
    parts
        What `stopwatch.collecting` found meanwhile.
    now
        Unix time.
    """
    columns = {PARTS[part]: spent for part, spent in parts.items() if part in PARTS}
    if job.stage in STEPS:
        columns[STEPS[job.stage]] = seconds
    row = insert(PerformanceMetrics).values(
        group_id=job.subject, writer_type=WRITER, total_time=seconds, recorded_at=now, **columns
    )
    total = func.coalesce(PerformanceMetrics.total_time, 0.0) + row.excluded.total_time
    told = {name: row.excluded[name] for name in ("recorded_at", *columns)} | {"total_time": total}
    try:
        with get_session("ingest") as session:
            if session.get(IngestQueue, job.subject) is None:
                return False
            session.execute(row.on_conflict_do_update(index_elements=["group_id"], set_=told))
    except (SQLAlchemyError, ConfigurationError) as error:
        # The job is done whether or not its cost is known.
        logger.warning("the time of %s is not recorded: %s", job.job_id, error)
        return False
    return True


def pointing_row(center: SkyPosition, dec_app_deg: float, mid_mjd: float, field_name: str) -> PointingHistory:
    """Return where the dishes looked in the middle of a tile.

    Parameters
    ----------
    center
        The meridian then, ICRS.
    dec_app_deg
        The apparent declination to which the dishes are set.
    mid_mjd
        The middle of the tile (UTC).
    field_name
        The tile's field.
    """
    latitude_deg = math.degrees(telescope.TEE_LATITUDE_RAD)
    return PointingHistory(
        timestamp=telescope.mjd_to_unix(mid_mjd),
        mjd=mid_mjd,
        ra_deg=center.ra_deg,
        dec_deg=center.dec_deg,
        alt_deg=90.0 - abs(latitude_deg - dec_app_deg),
        az_deg=180.0 if dec_app_deg <= latitude_deg else 0.0,
        lst_hours=float(telescope.lst_deg(mid_mjd)[0]) / 15.0,
        field_name=field_name,
    )
