"""Observing: where the dishes look now and next, which calibrators come, how the antennas do, and the past."""

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from dsa110_contimg.api.caltables import figures_of
from dsa110_contimg.api.databases import reading
from dsa110_contimg.dashboard.drawings import ArrayMap, array_map, core_map, flag_kind
from dsa110_contimg.dashboard.panels import panel
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database import caltable_queries, pointing_queries
from dsa110_contimg.database.caltable_queries import CaltableRow
from dsa110_contimg.database.pointing_queries import PointingRow
from dsa110_contimg.pipeline.caltable_figures import AntennaFigures
from dsa110_contimg.pipeline.sky_now import Look, Transit, looks, next_transits, strip_now

router = APIRouter()
SPANS = {"24h": 86400.0, "7d": 7 * 86400.0, "30d": 30 * 86400.0}
POINTS, LISTED = 9000, 24
TRANSIT_DAYS, TRANSITS = 3.0, 12


class Wanted(BaseModel):
    """How far back the history goes."""

    span: str = "7d"


@dataclass(frozen=True)
class Sky:
    """Where the dishes look."""

    strip_deg: float
    looks: list[Look]
    transits: list[Transit]


@dataclass(frozen=True)
class Array:
    """How the antennas did in the newest bandpass."""

    table: CaltableRow
    maps: list[tuple[str, ArrayMap]]
    """What each shows, and the map."""
    antennas: list[AntennaFigures]
    lost: int


@dataclass(frozen=True)
class History:
    """Where the dishes looked in a span, which ends at the newest pointing if that is long ago."""

    rows: list[PointingRow]
    chart: dict[str, object] | None


@router.get("/observing")
def observing(request: Request, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Show where the telescope looks."""
    now = time.time()
    span = wanted.span if wanted.span in SPANS else "7d"
    context: dict[str, Any] = {
        "now": now,
        "span": span,
        "spans": list(SPANS),
        "sky": panel(lambda: _sky(now)),
        "array": panel(_array),
        "history": panel(lambda: _history(now, SPANS[span])),
        "flag_kind": flag_kind,
    }
    return page(request, "observing.html", fragment="live", **context)


def _sky(now: float) -> Sky:
    strip = strip_now()
    return Sky(strip, looks(strip, now), next_transits(strip, now, TRANSIT_DAYS)[:TRANSITS])


def _array() -> Array | None:
    """Return the newest active bandpass, antenna by antenna; None if there is none."""
    with reading("cal_registry") as session:
        newest = caltable_queries.list_tables(session, table_type="BP", active=True, limit=1)
        found = caltable_queries.find_table(session, newest[0].id) if newest else None
    if found is None:
        return None
    row, path = found
    antennas = figures_of(path).antennas
    worst = sorted(antennas, key=lambda one: (-one.flagged, one.antenna))
    drawn = (("The whole array", array_map(antennas)), ("Its core", core_map(antennas)))
    maps = [(title, one) for title, one in drawn if one is not None]
    return Array(row, maps, worst, sum(one.flagged >= 0.999 for one in antennas))


def _history(now: float, span_s: float) -> History:
    with reading("products") as session:
        newest = pointing_queries.list_pointings(session, limit=1)
        if not newest:
            return History([], None)
        end = now if now - newest[0].time_unix < span_s else newest[0].time_unix
        rows = pointing_queries.list_pointings(session, start_unix=end - span_s, limit=POINTS, descending=True)
    return History(rows[:LISTED], _chart(rows[::-1]))


def _chart(rows: list[PointingRow]) -> dict[str, object]:
    return {
        "kind": "points",
        "x": {"label": "time (UTC)", "values": [row.time_unix for row in rows], "time": True},
        "y": {"label": "declination (deg)"},
        "series": [{"label": "declination", "values": [row.dec_deg for row in rows]}],
    }
