"""Calibration: which tables hold when, drawn as windows and listed; and a page for each table with every antenna."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from dsa110_contimg import naming
from dsa110_contimg.api import caltables as api
from dsa110_contimg.api.databases import CalRegistry
from dsa110_contimg.api.paging import MAX_PAGE, Paged
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.dashboard.drawings import flag_kind, timeline
from dsa110_contimg.dashboard.panels import Panel, panel
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database import caltable_queries
from dsa110_contimg.pipeline.caltable_figures import AntennaSolutions, TableFigures
from dsa110_contimg.telescope import unix_to_mjd

router = APIRouter(prefix="/calibration")
SPANS = {"2d": 2.0, "7d": 7.0, "30d": 30.0}


class Wanted(Paged):
    """What the page lists; an empty field of its form asks for nothing."""

    type: str | None = None
    active: str | None = None
    at: Storable | None = None
    span: str = "7d"
    end: Storable | None = None


class OfTable(Paged):
    """Which antenna a table's page shows along the band."""

    antenna: Storable | None = None


@dataclass(frozen=True)
class Span:
    """The time that the drawing shows."""

    name: str
    start_mjd: float
    end_mjd: float


@router.get("")
def calibration(request: Request, registry: CalRegistry, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Show the windows of validity and the list of tables."""
    now = time.time()
    kind = next((one for one in api.TYPES if one == wanted.type), None)
    at = _number(wanted.at)
    asked = api.Caltables.model_validate(
        {
            "type": kind,
            "active": {"yes": True, "no": False}.get(wanted.active or ""),
            "valid_at_mjd": at,
            "cursor": wanted.cursor,
            "limit": wanted.limit,
        }
    )
    span = _span(caltable_queries.newest_mid_mjd(registry), _number(wanted.end), wanted.span, unix_to_mjd(now))
    windows = caltable_queries.list_windows(registry, start_mjd=span.start_mjd, end_mjd=span.end_mjd, limit=MAX_PAGE)
    context: dict[str, Any] = {
        "now": now,
        "now_mjd": unix_to_mjd(now),
        "wanted": wanted,
        "types": api.TYPES,
        "at": at,
        "span": span,
        "spans": list(SPANS),
        "drawing": timeline(windows, span.start_mjd, span.end_mjd, unix_to_mjd(now)) if windows else None,
        "counts": caltable_queries.count_active(registry),
        "tables": api.tables_page(registry, asked),
    }
    return page(request, "calibration/list.html", fragment="live", **context)


def _span(newest_mjd: float | None, end_mjd: float | None, name: str, now_mjd: float) -> Span:
    """Return the days to draw: those until now, or until the newest table if that is older, or until a time asked."""
    days = SPANS.get(name, SPANS["7d"])
    if end_mjd is None:
        end_mjd = now_mjd + 1.0
        if newest_mjd is not None and abs(now_mjd - newest_mjd) > days:
            end_mjd = newest_mjd + 0.25 * days
    return Span(name if name in SPANS else "7d", end_mjd - days, end_mjd)


def _number(text: str | None) -> float | None:
    """Return an MJD that somebody typed, or None for what is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 30000.0 <= value <= 90000.0 else None


@router.get("/{table_id}")
def table(request: Request, registry: CalRegistry, table_id: int, wanted: Annotated[OfTable, Query()]) -> HTMLResponse:
    """Show one table: in numbers, antenna by antenna, and one antenna along the band."""
    row, path = api.find_table(registry, table_id)
    figures = panel(lambda: api.figures_of(path))
    antenna = wanted.antenna
    if antenna is None and figures.value is not None and (figures.value.channels > 1 or figures.value.times > 1):
        antenna = next((one.antenna for one in figures.value.antennas if one.flagged < 1.0), None)
    solutions: Panel[AntennaSolutions] = Panel() if antenna is None else panel(lambda: api.antenna_of(path, antenna))
    context: dict[str, Any] = {
        "now": time.time(),
        "row": row,
        "set": caltable_queries.list_set(registry, row.set_name),
        "figures": figures,
        "charts": [] if figures.value is None else _overview(figures.value),
        "antenna": antenna,
        "solutions": solutions,
        "lines": [] if solutions.value is None else _lines(solutions.value),
        "picture": _has_picture(path),
        "flag_kind": flag_kind,
    }
    return page(request, "calibration/table.html", **context)


def _has_picture(path: Path) -> bool:
    return naming.page_of_caltable(path).is_file()


_POLS = ("first polarization", "second polarization")
_PHASES = [-180.0, 180.0]
_QUANTITIES = {
    "amplitude": ("amplitude", "Median amplitude of each antenna", None),
    "phase_deg": ("phase (deg)", "Phase of each antenna", _PHASES),
    "delay_ns": ("delay (ns)", "Delay of each antenna", None),
    "snr": ("signal-to-noise ratio", "Median signal-to-noise ratio of each antenna", None),
}


@dataclass(frozen=True)
class Chart:
    """One chart and its name."""

    id: str
    title: str
    data: dict[str, object]


def _overview(figures: TableFigures) -> list[Chart]:
    """Return charts of each quantity against the antennas, in the order of the table."""
    charts = []
    for name, (label, title, limits) in _QUANTITIES.items():
        columns = [getattr(one, name) for one in figures.antennas]
        number = max((len(column) for column in columns), default=0)
        if number:
            series = [
                {"label": _POLS[pol], "values": [column[pol] if pol < len(column) else None for column in columns]}
                for pol in range(min(number, len(_POLS)))
            ]
            x = {"label": "antenna (place in the table)", "values": list(range(1, len(columns) + 1))}
            charts.append(Chart(f"of-{name}", title, _chart(x, label, series, limits)))
    flagged = [{"label": "flagged (%)", "values": [100.0 * one.flagged for one in figures.antennas]}]
    x = {"label": "antenna (place in the table)", "values": list(range(1, len(figures.antennas) + 1))}
    charts.append(
        Chart("of-flags", "Flagged fraction of each antenna", _chart(x, "flagged (%)", flagged, [0.0, 105.0]))
    )
    return charts


def _lines(solutions: AntennaSolutions) -> list[Chart]:
    """Return charts of one antenna along the band, or along time."""
    along = "frequency (MHz)" if solutions.axis == "frequency_mhz" else "MJD"
    charts = []
    for name, (label, _title, limits) in _QUANTITIES.items():
        values = getattr(solutions, name)
        if values:
            series = [{"label": _POLS[pol], "values": one} for pol, one in enumerate(values[: len(_POLS)])]
            chart = _chart({"label": along, "values": solutions.x}, label, series, limits)
            charts.append(Chart(f"one-{name}", f"{label.capitalize()} of {solutions.antenna}", chart))
    return charts


def _chart(
    x: Mapping[str, object], label: str, series: Sequence[Mapping[str, object]], limits: list[float] | None
) -> dict[str, object]:
    y: dict[str, object] = {"label": label}
    return {"kind": "points", "x": x, "y": y if limits is None else y | {"range": limits}, "series": series}
