"""Where things stand in drawings: places on a picture from times, positions and counts.

Each drawing is inline SVG in its template, in units of its view box; what it shows stands in a table beside it too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from dsa110_contimg.database.caltable_queries import CaltableRow
from dsa110_contimg.pipeline.caltable_figures import AntennaFigures

WIDTH = 960.0
LEFT, RIGHT = 56.0, 12.0
ROW, BAR = 26.0, 16.0
AXIS = 26.0
HEAD = 18.0
"""Room for a word above the first row."""
MOST_ROWS = 4
MIN_BAR = 4.0
"""A short window is still to be seen and clicked."""


@dataclass(frozen=True)
class Bar:
    """One window of validity."""

    table: CaltableRow
    x: float
    y: float
    width: float
    mid: float
    """Where the solution lies."""


@dataclass(frozen=True)
class Tick:
    """A time on the axis."""

    x: float
    mjd: float


@dataclass(frozen=True)
class Timeline:
    """Windows of validity in rows, one or more for each type."""

    width: float
    height: float
    bars: list[Bar]
    ticks: list[Tick]
    labels: list[tuple[str, float]]
    """Type and height of each first row."""
    now_x: float | None


def timeline(tables: Sequence[CaltableRow], start_mjd: float, end_mjd: float, now_mjd: float) -> Timeline:
    """Return windows as bars: rows by type, as few as hold them without overlap, at most four for a type."""

    def place(mjd: float) -> float:
        share = (mjd - start_mjd) / (end_mjd - start_mjd)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    bars, labels, top = [], [], HEAD
    kinds = sorted({(table.order_index, table.table_type) for table in tables})
    for _order, kind in kinds:
        labels.append((kind, top + BAR - 3.0))
        ends: list[float] = []
        for table in (one for one in tables if one.table_type == kind):
            x = place(table.valid_start_mjd)
            width = max(place(table.valid_end_mjd) - x, MIN_BAR)
            row = next((number for number, end in enumerate(ends) if end <= x), None)
            if row is None and len(ends) < MOST_ROWS:
                row = len(ends)
                ends.append(0.0)
            elif row is None:
                row = ends.index(min(ends))
            ends[row] = x + width + 1.0
            bars.append(Bar(table, x, top + row * ROW, width, place(table.mid_mjd)))
        top += max(len(ends), 1) * ROW + 4.0
    now_x = place(now_mjd) if start_mjd <= now_mjd <= end_mjd else None
    return Timeline(WIDTH, top + AXIS, bars, _ticks(start_mjd, end_mjd, place), labels, now_x)


def _ticks(start: float, end: float, place: Callable[[float], float]) -> list[Tick]:
    step = next((one for one in (0.25, 0.5, 1.0, 2.0, 5.0, 7.0, 14.0, 30.0, 60.0) if (end - start) / one <= 9.0), 90.0)
    first = math.ceil(start / step) * step
    number = int((end - first) / step) + 1
    times = [first + index * step for index in range(number)]
    return [Tick(place(mjd), mjd) for mjd in times]


@dataclass(frozen=True)
class Dish:
    """One antenna on the map."""

    x: float
    y: float
    figures: AntennaFigures
    kind: str
    """How much of it is flagged: good, warning or bad."""


@dataclass(frozen=True)
class ArrayMap:
    """The antennas that have a place, north up and east to the right."""

    size: float
    dishes: list[Dish]
    meters: float
    """Of the scale bar."""
    bar: float
    """Its length on the picture."""


MAP, MARGIN = 480.0, 24.0
CORE_M = 500.0
"""The core of the array lies within so much of its median antenna."""


def flag_kind(flagged: float) -> str:
    """Return how bad a flagged fraction is."""
    return "bad" if flagged >= 0.999 else "warning" if flagged >= 0.2 else "good"


def array_map(antennas: Sequence[AntennaFigures]) -> ArrayMap | None:
    """Return the antennas as dots, or None if none has a place."""
    placed = [(one, one.east_m, one.north_m) for one in antennas if one.east_m is not None and one.north_m is not None]
    if not placed:
        return None
    east, north = [e for _one, e, _north in placed], [n for _one, _east, n in placed]
    span = max(max(east) - min(east), max(north) - min(north), 1.0)
    scale = (MAP - 2.0 * MARGIN) / span
    middle_e, middle_n = 0.5 * (max(east) + min(east)), 0.5 * (max(north) + min(north))
    dishes = [
        Dish(0.5 * MAP + (e - middle_e) * scale, 0.5 * MAP - (n - middle_n) * scale, one, flag_kind(one.flagged))
        # The worst lie on top.
        for one, e, n in sorted(placed, key=lambda place: place[0].flagged)
    ]
    meters = 10.0 ** math.floor(math.log10(span / 2.0))
    return ArrayMap(MAP, dishes, meters, meters * scale)


def core_map(antennas: Sequence[AntennaFigures]) -> ArrayMap | None:
    """Return the antennas of the core as dots, or None if they are all that there are."""
    placed = [one for one in antennas if one.east_m is not None and one.north_m is not None]
    if not placed:
        return None
    east, north = median(one.east_m or 0.0 for one in placed), median(one.north_m or 0.0 for one in placed)
    core = [one for one in placed if math.hypot((one.east_m or 0.0) - east, (one.north_m or 0.0) - north) <= CORE_M]
    return array_map(core) if 2 <= len(core) < len(placed) else None


def level(number: int, most: int) -> int:
    """Return how full a cell of a heat map is, 0 (nothing) to 4 (all)."""
    if number <= 0 or most <= 0:
        return 0
    return 4 if number >= most else 1 + int(3.0 * number / most)
