"""Health: the verdict with all of its reasons, rates, times of the stages, noise, disks, and what people were told."""

import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, RedirectResponse

from dsa110_contimg.api import alerts as alerts_api
from dsa110_contimg.api.access import Operator
from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.health import verdict
from dsa110_contimg.api.performance import NOISE_POINTS, Performance, measure
from dsa110_contimg.api.queue import QueueSummary, summarize
from dsa110_contimg.api.storage import StorageReport, get_storage
from dsa110_contimg.dashboard.panels import panel
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.dashboard.words import notice_kind
from dsa110_contimg.database import alert_queries, tile_queries
from dsa110_contimg.database.alert_queries import AlertRow, PendingAlertRow
from dsa110_contimg.database.tile_queries import NoisePoint
from dsa110_contimg.telescope import mjd_to_unix, unix_to_mjd

router = APIRouter(prefix="/health")
NOISE_DAYS = {"7d": 7.0, "30d": 30.0, "1y": 366.0}
LISTED = 30


class Wanted(BaseModel):
    """How far back the noise is shown."""

    noise: str = "30d"


@router.get("")
def health(request: Request, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Show how the pipeline is."""
    now = time.time()
    told = verdict()
    span = wanted.noise if wanted.noise in NOISE_DAYS else "30d"
    context: dict[str, Any] = {
        "now": now,
        "health": told,
        "kind": notice_kind(told.severity),
        "queue": panel(_summary),
        "performance": panel(_performance),
        "noise": panel(lambda: _noise(now, NOISE_DAYS[span])),
        "noise_span": span,
        "noise_spans": list(NOISE_DAYS),
        "storage": panel(_storage),
        "alerts": panel(_alerts),
    }
    context["now"] = time.time()
    context["rates"] = None if context["performance"].value is None else _rates(context["performance"].value)
    return page(request, "health.html", fragment="live", **context)


def _summary() -> QueueSummary:
    with reading("ingest") as ingest, reading("products") as products, reading("data_registry") as registry:
        return summarize(ingest, products, registry)


def _performance() -> Performance:
    with reading("ingest") as ingest, reading("products") as products:
        return measure(ingest, products)


def _storage() -> StorageReport:
    return get_storage()


def _alerts() -> tuple[list[AlertRow], list[PendingAlertRow]]:
    with reading("products") as session:
        return alert_queries.list_alerts(session, limit=LISTED), alert_queries.list_waiting(session, limit=LISTED)


def _rates(performance: Performance) -> dict[str, object]:
    hours = performance.hours
    return {
        "kind": "line",
        "x": {"label": "time (UTC)", "values": [hour.start_unix for hour in hours], "time": True},
        "y": {"label": "in one hour"},
        "series": [
            {"label": "groups that came", "values": [hour.arrived for hour in hours]},
            {"label": "tiles finished", "values": [hour.finished for hour in hours]},
        ],
    }


def _noise(now: float, days: float) -> dict[str, object] | None:
    """Return the noise of tiles against time; without any lately, that of the days before the newest."""
    end = unix_to_mjd(now)
    with reading("products") as session:
        points = tile_queries.noise_over_time(session, start_mjd=end - days, end_mjd=end, limit=NOISE_POINTS)
        if not points:
            newest = tile_queries.noise_over_time(session, start_mjd=0.0, end_mjd=end, limit=1)
            if newest:
                last = newest[0].mid_mjd
                points = tile_queries.noise_over_time(session, start_mjd=last - days, end_mjd=last, limit=NOISE_POINTS)
    return _noise_chart(points) if points else None


def _noise_chart(points: list[NoisePoint]) -> dict[str, object]:
    return {
        "kind": "points",
        "x": {"label": "time (UTC)", "values": [mjd_to_unix(one.mid_mjd) for one in points], "time": True},
        "y": {"label": "noise (mJy/beam)"},
        "series": [
            {
                "label": "measured",
                "values": [1e3 * one.noise_jy for one in points],
                "href": [f"/queue/{one.group_id}" for one in points],
            },
            {
                "label": "thermal",
                "values": [None if one.thermal_jy is None else 1e3 * one.thermal_jy for one in points],
            },
        ],
    }


@router.post("/alerts/{alert_id}/acknowledge")
def acknowledge(alert_id: int, user: Operator) -> RedirectResponse:
    """Note that somebody has seen an alert, and show the page again."""
    alerts_api.note_seen(alert_id, user)
    return RedirectResponse("/health#alerts", HTTPStatus.SEE_OTHER)
