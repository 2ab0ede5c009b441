"""Home: is it healthy, is there anything interesting, what came out last. Each part stands by itself."""

import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.health import verdict
from dsa110_contimg.config import current_settings
from dsa110_contimg.dashboard.panels import panel
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.dashboard.sources import candidate_link
from dsa110_contimg.dashboard.words import notice_kind
from dsa110_contimg.database import (
    alert_queries,
    candidate_queries,
    flow_queries,
    inventory_queries,
    mosaic_queries,
    queue_queries,
    tile_queries,
)
from dsa110_contimg.database.alert_queries import AlertRow
from dsa110_contimg.database.candidate_queries import NEW, VARIABLE, CandidateRow
from dsa110_contimg.database.image_queries import SkyFilter
from dsa110_contimg.database.mosaic_queries import MosaicRow
from dsa110_contimg.database.tile_queries import TileRow
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.backlog import backlog
from dsa110_contimg.monitoring.throughput import step_times, throughput
from dsa110_contimg.pipeline.notices import read_notices
from dsa110_contimg.telescope import unix_to_mjd

router = APIRouter()
DAY_S, WEEK_S = 86400.0, 7 * 86400.0
RECENT_TILES, RECENT_MOSAICS, SHOWN, LOOKED_AT = 10, 6, 6, 500


@dataclass(frozen=True)
class Work:
    """What goes through the pipeline."""

    groups: dict[str, int]
    tiles: dict[str, int]
    waiting: int
    clear_s: float | None
    clear_reason: str | None
    behind_sky_s: float | None
    times_sky_hour: float
    times_sky_day: float
    images_day: int
    solves: tuple[int, int]
    """Completed and failed."""
    sources: int
    last_image_unix: float | None


@router.get("/")
def home(request: Request) -> HTMLResponse:
    """Show the state of everything."""
    now = time.time()
    health = verdict()
    context: dict[str, Any] = {
        "now": now,
        "health": health,
        "kind": notice_kind(health.severity),
        "work": panel(lambda: _work(now)),
        "data": panel(lambda: _data_of_day(now)),
        "tiles": panel(_recent_tiles),
        "stuck": panel(_failed_stages),
        "mosaics": panel(_recent_mosaics),
        "candidates": panel(lambda: _candidates(now)),
        "alerts": panel(lambda: _alerts(now)),
        "link": candidate_link,
    }
    return page(request, "home.html", fragment="live", **context)


def _work(now: float) -> Work:
    with reading("ingest") as ingest, reading("products") as products:
        arrived, progress = census.arrivals(ingest, now), census.progress(products, now)
        flow = backlog(arrived, progress, now)
        slots = sum(run.slots for run in read_notices(current_settings()))
        rate = throughput(progress, step_times(ingest), slots)
        jobs = census.jobs(products)
        newest = flow_queries.newest(products)
        return Work(
            groups=dict(arrived.groups),
            tiles=dict(progress.tiles),
            waiting=flow.waiting,
            clear_s=flow.clear_s,
            clear_reason=flow.clear_reason,
            behind_sky_s=flow.behind_sky_s,
            times_sky_hour=rate.last_hour,
            times_sky_day=rate.last_day,
            images_day=flow_queries.images_since(products, now - DAY_S),
            solves=(jobs.get(("solve", "completed"), 0), jobs.get(("solve", "failed"), 0)),
            sources=flow_queries.count_sources(products),
            last_image_unix=newest.image_unix,
        )


def _data_of_day(now: float) -> int:
    with reading("hdf5") as session:
        return inventory_queries.bytes_since(session, unix_to_mjd(now - DAY_S))


def _recent_tiles() -> list[TileRow]:
    with reading("products") as session:
        return tile_queries.list_tiles(session, limit=RECENT_TILES)


def _failed_stages() -> dict[str, str]:
    """Return the stage that failed for good of those groups whose newest jobs did."""
    with reading("products") as session:
        failed = queue_queries.list_jobs(session, state="failed", limit=LOOKED_AT)
    return {job.subject: job.stage for job in failed}


def _recent_mosaics() -> list[MosaicRow]:
    with reading("products") as session:
        return mosaic_queries.list_mosaics(session, SkyFilter(), sort="-created", limit=RECENT_MOSAICS)


@dataclass(frozen=True)
class Interesting:
    """Candidates that await a person."""

    active: int
    new_today: int
    shown: list[CandidateRow]


def _candidates(now: float) -> Interesting:
    with reading("products") as session:
        # The two kinds have significances of their own: neither may hide the other.
        shown = [
            row
            for kind in (VARIABLE, NEW)
            for row in candidate_queries.list_candidates(session, kind, "active", "-significance", None, SHOWN // 2)
        ]
        counts = candidate_queries.count_by_status(session)
        return Interesting(
            active=sum(states["active"] for states in counts.values()),
            new_today=candidate_queries.count_since(session, now - DAY_S),
            shown=shown,
        )


def _alerts(now: float) -> list[AlertRow]:
    with reading("products") as session:
        return alert_queries.list_standing(session, since_unix=now - WEEK_S, limit=SHOWN)
