"""How fast the pipeline is: seconds of each step, tiles in each hour against the sky, and the noise of its images."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_contimg.api.databases import Ingest, Products
from dsa110_contimg.config import current_settings
from dsa110_contimg.database import flow_queries, tile_queries
from dsa110_contimg.database.flow_queries import HourRow
from dsa110_contimg.database.tile_queries import NoisePoint
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.throughput import StepTime, Throughput, step_times, throughput
from dsa110_contimg.pipeline.notices import read_notices
from dsa110_contimg.telescope import unix_to_mjd

router = APIRouter(prefix="/performance", tags=["performance"])
HOURS, LONGEST_HOURS = 48, 24 * 14
DAYS, LONGEST_DAYS = 30.0, 400.0
NOISE_POINTS = 1000


class Hour(BaseModel):
    """One hour's work."""

    start_unix: float
    arrived: int = Field(description="Groups whose first file came.")
    finished: int = Field(description="Tiles whose measurement ended.")
    times_sky: float = Field(description="How many times faster than the sky.")


class Performance(BaseModel):
    """How fast the pipeline is."""

    throughput: Throughput = Field(description="Times faster than the sky.")
    steps: list[StepTime] = Field(description="Seconds of each step, of the last 100 groups.")
    hours: list[Hour] = Field(description="The oldest first; the last one ends now.")


@router.get("")
def get_performance(
    ingest: Ingest,
    products: Products,
    hours: Annotated[int, Query(ge=1, le=LONGEST_HOURS, description="How many hours are told.")] = HOURS,
) -> Performance:
    """Return seconds by step, the rate of each of the last hours, and how fast that is against the sky."""
    return measure(ingest, products, hours)


def measure(ingest: Session, products: Session, hours: int = HOURS) -> Performance:
    """Return how fast the pipeline is now."""
    now = time.time()
    steps = step_times(ingest)
    slots = sum(run.slots for run in read_notices(current_settings()))
    return Performance(
        throughput=throughput(census.progress(products, now), steps, slots),
        steps=steps,
        hours=[_hour(row) for row in flow_queries.hours(ingest, products, now=now, number=hours)],
    )


def _hour(row: HourRow) -> Hour:
    return Hour(start_unix=row.start_unix, arrived=row.arrived, finished=row.finished, times_sky=row.times_sky)


@router.get("/noise")
def get_noise(
    products: Products,
    days: Annotated[float, Query(gt=0.0, le=LONGEST_DAYS, description="How far back from the end.")] = DAYS,
    end_mjd: Annotated[float | None, Query(ge=30000.0, le=90000.0, description="The end (UTC); else now.")] = None,
) -> list[NoisePoint]:
    """Return the noise of tile images beside the thermal noise, in order of time; of many the newest 1000."""
    end = unix_to_mjd(time.time()) if end_mjd is None else end_mjd
    return tile_queries.noise_over_time(products, start_mjd=end - days, end_mjd=end, limit=NOISE_POINTS)
