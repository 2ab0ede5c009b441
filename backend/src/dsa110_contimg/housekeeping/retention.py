"""What may be removed: a pure function of rows and files.

A file is *needed* until a moment, or without an end:

    Measurement Set, image of a tile    until the last mosaic of the tile is published, superseded or has failed for
                                        good; without an end while the tile is not measured, a job is open, or a
                                        neighbor in time may still form a mosaic with it
    calibration table                   until its validity has ended, and so has the need for every tile that used it
    plot                                until its mosaic is published, as above

It goes `*_days` after that moment. When the disk is short it goes before its age, the oldest first, but never
before `keep_days`: so long every mosaic can be made again. What the registry or a mosaic names, what no row names,
and what lies outside the staging area is never planned.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from dsa110_contimg.housekeeping.holdings import Group, Holdings, Kind, Table, Tile
from dsa110_contimg.options import MosaicOptions, option

DAY_S = 86400.0
TILE_IMAGES = ("image", "pbcor", "beam")
"""Images of a tile that its mosaics are made of."""
INTERMEDIATE = ("residual", "rms", "background", "dirty", "psf", "model")
"""Images of a tile that nothing is made of."""
UNCALIBRATED = (None, "pending", "converting", "converted")
LEAST_REACH_S = 3600.0
"""Data that wait hold the tiles this near to them in time, or further where mosaics are longer."""
LONGEST_GAP_S = 720.0
"""Tiles of one mosaic are never so far apart."""


@dataclass(frozen=True, kw_only=True)
class RetentionOptions:
    """How long things are kept after nothing needs them any more."""

    keep_days: float = option(2.0, "Nothing that a mosaic was made of goes before, however short the disk is.")
    ms_days: float = option(7.0, "Days that Measurement Sets are kept.")
    intermediate_days: float = option(7.0, "Days that residual images and their like are kept.")
    tile_image_days: float = option(60.0, "Days that images of tiles are kept.")
    caltable_days: float = option(90.0, "Days that calibration tables are kept after they hold no more.")
    plot_days: float = option(90.0, "Days that plots in the staging area are kept.")
    log_days: float = option(30.0, "Days that rotated log files are kept.")
    spare_factor: float = option(1.5, "Data go before their age below this many times the free-space floor.")


class Need(NamedTuple):
    """Until when something is needed (unix s; None: without an end), and why."""

    until: float | None
    why: str


@dataclass(frozen=True)
class Removal:
    """One file that may go."""

    kind: Kind
    path: str
    bytes: int
    needed_until: float
    why: str


@dataclass(frozen=True)
class Plan:
    """What goes, what stays and why, and what nobody knows."""

    removals: tuple[Removal, ...]
    kept: dict[str, int]
    """Reasons, and how many files each of them keeps."""
    unknown: tuple[str, ...]
    """Files that no row names; they stay."""
    short_bytes: float
    """Room that is lacking even then."""


def plan(holdings: Holdings, options: RetentionOptions) -> Plan:
    """Return what may be removed now."""
    candidates, kept = _candidates(holdings)
    ages = {
        Kind.MS: options.ms_days,
        Kind.INTERMEDIATE: options.intermediate_days,
        Kind.TILE_IMAGE: options.tile_image_days,
        Kind.CALTABLE: options.caltable_days,
        Kind.PLOT: options.plot_days,
        Kind.LOG: options.log_days,
    }
    removals, young = list[Removal](), list[Removal]()
    for item in candidates:
        least_days = 0.0 if item.kind is Kind.LOG else options.keep_days
        age_days = max(ages.get(item.kind, 0.0), least_days)
        ripe = item.kind in _AGELESS or holdings.now_unix - item.needed_until >= age_days * DAY_S
        (removals if ripe else young).append(item)
    short = holdings.short_bytes - sum(item.bytes for item in removals)
    for item in sorted(young, key=lambda item: (item.needed_until, item.path)):
        old_enough = holdings.now_unix - item.needed_until >= options.keep_days * DAY_S
        if short > 0.0 and old_enough and item.kind in _MAKES_ROOM:
            removals.append(item)
            short -= item.bytes
        else:
            kept[f"younger than its age: {item.why}"] += 1
    return Plan(tuple(removals), dict(kept), _unknown(holdings), max(short, 0.0))


_AGELESS = (Kind.SCRATCH, Kind.BACKUP)
_MAKES_ROOM = (Kind.MS, Kind.INTERMEDIATE, Kind.TILE_IMAGE)


def _candidates(holdings: Holdings) -> tuple[list[Removal], Counter[str]]:
    """Return every file whose need has an end, and the reasons of the others."""
    items, kept = list[Removal](), Counter[str]()
    guarded = Guarded(holdings.protected)
    for kind, path, need in Needs(holdings).all():
        file = holdings.files.get(path)
        if file is None:
            continue
        if guarded.holds(path):
            kept["the registry or a mosaic names it"] += 1
        elif need.until is None:
            kept[need.why] += 1
        else:
            items.append(Removal(kind, path, file.bytes, need.until, need.why))
    for path, (kind, file) in holdings.leftovers.items():
        items.append(Removal(kind, path, file.bytes, file.modified_unix, _LEFTOVER[kind]))
    return items, kept


_LEFTOVER = {
    Kind.SCRATCH: "its process is gone",
    Kind.BACKUP: "a newer backup takes its place",
    Kind.LOG: "rotated away",
}


class Needs:
    """Until when each thing is needed, worked out once for all of them."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._times = {tile.path: tile.mid_unix for tile in holdings.tiles if tile.mid_unix is not None}
        self.reach_s = self._reach()
        self.of_groups = {group.group_id: group_need(group, holdings) for group in holdings.groups}
        self.last_settled_unix = self._last_settled()
        self._waiting = sorted([*holdings.waiting_unix, *self._unplaced()])
        self.of_tiles = {tile.path: self.tile_need(tile) for tile in holdings.tiles}
        self._users: dict[str, list[Tile]] = {}
        for tile in holdings.tiles:
            for path in tile.caltables:
                self._users.setdefault(path, []).append(tile)
        self._uncalibrated = [tile for tile in holdings.tiles if tile.stage in UNCALIBRATED]

    def all(self) -> Iterable[tuple[Kind, str, Need]]:
        """Yield every file that a row names and that may ever go."""
        holdings, no_tile = self.holdings, Need(None, "its tile is not known")
        for path, need in self.of_tiles.items():
            yield Kind.MS, path, need
        for picture in holdings.pictures:
            if picture.type in TILE_IMAGES or picture.type in INTERMEDIATE:
                kind = Kind.TILE_IMAGE if picture.type in TILE_IMAGES else Kind.INTERMEDIATE
                yield kind, picture.path, self.of_tiles.get(picture.ms_path, no_tile)
        for table in holdings.tables:
            yield Kind.CALTABLE, table.path, self.table_need(table)
        for plot in holdings.plots:
            yield Kind.PLOT, plot.path, self.of_groups.get(plot.group_id, Need(plot.created_unix, "of no mosaic group"))

    def tile_need(self, tile: Tile) -> Need:
        """Return until when the files of a tile are needed."""
        if tile.stage != "photometry_complete":
            return Need(None, f"its tile is {tile.stage or 'of no known stage'}")
        if tile.busy:
            return Need(None, "a job of its tile is open")
        if tile.mid_unix is None or tile.measured_unix is None:
            return Need(None, "its tile has no time")
        if self._some_wait(tile.mid_unix - self.reach_s, tile.mid_unix + self.reach_s):
            return Need(None, "data nearby wait and may form a mosaic with it")
        needs = [self.of_groups[group.group_id] for group in self.holdings.groups_of.get(tile.path, ())]
        if not needs:
            # It waits for no mosaic, or it would have counted as its own neighbor.
            return Need(tile.measured_unix, "later mosaics were made without it")
        ends = [tile.measured_unix]
        for need in needs:
            if need.until is None:
                return need
            ends.append(need.until)
        return Need(max(ends), needs[-1].why)

    def table_need(self, table: Table) -> Need:
        """Return until when a calibration table is needed."""
        waits = [tile for tile in self._uncalibrated if _holds_for(table, tile)]
        ends = [table.end_unix]
        for tile in [*self._users.get(table.path, ()), *waits]:
            need = self.of_tiles[tile.path]
            if need.until is None:
                return Need(None, f"it calibrates a tile: {need.why}")
            ends.append(need.until)
        if self._some_wait(table.start_unix, table.end_unix):
            return Need(None, "data of its time wait")
        return Need(max(ends), "it holds no more")

    def _reach(self) -> float:
        """Return how far from a tile data may wait that still form a mosaic with it: longer than any mosaic is."""
        times = [self._times_of(group) for group in self.holdings.groups]
        longest = max((max(found) - min(found) for found in times if found), default=0.0)
        return max(LEAST_REACH_S, longest + LONGEST_GAP_S)

    def _times_of(self, group: Group) -> list[float]:
        return [self._times[path] for path in group.members if path in self._times]

    def _last_settled(self) -> float:
        """Return the time of the last tile of a mosaic that needs nothing any more."""
        settled = [group for group in self.holdings.groups if self.of_groups[group.group_id].until is not None]
        return max((time for group in settled for time in self._times_of(group)), default=float("-inf"))

    def _unplaced(self) -> Iterable[float]:
        """Return the times of tiles that are in no mosaic group and may still join one.

        No group is planned past data that are still to be converted, and what is left over of a run of tiles is less
        than the shortest mosaic.
        """
        waiting_since = min(self.holdings.waiting_unix, default=float("inf"))
        fewest = min([MosaicOptions().min_tiles, *(len(group.members) for group in self.holdings.groups)])
        for run in self._runs():
            free = [time for path, time in run if path not in self.holdings.groups_of]
            for time in free:
                late = time >= min(self.last_settled_unix - self.reach_s, waiting_since)
                if late or len(free) >= fewest:
                    yield time

    def _runs(self) -> Iterable[list[tuple[str, float]]]:
        """Return the tiles that follow each other without a gap, with their times."""
        lost = {tile.path for tile in self.holdings.tiles if tile.stage == "failed"}
        run = list[tuple[str, float]]()
        for path, time in sorted(self._times.items(), key=itemgetter(1)):
            if path in lost:
                continue
            if run and time - run[-1][1] > MosaicOptions().max_gap_min * 60.0:
                yield run
                run = []
            run.append((path, time))
        yield run

    def _some_wait(self, start_unix: float, end_unix: float) -> bool:
        return bisect_left(self._waiting, start_unix) < bisect_right(self._waiting, end_unix)


def _holds_for(table: Table, tile: Tile) -> bool:
    return tile.mid_unix is None or table.start_unix <= tile.mid_unix <= table.end_unix


def group_need(group: Group, holdings: Holdings) -> Need:
    """Return until when what a mosaic is made of is needed."""
    if group.mosaic_id is None:
        if group.failed_unix is not None:
            return Need(group.failed_unix, "its mosaic failed for good")
        return Need(None, "its mosaic is not yet made")
    product = holdings.products.get(group.mosaic_id)
    if product is None:
        return Need(None, "its mosaic is not yet registered")
    if product.status == "published":
        return Need(product.settled_unix, "its mosaic is published")
    if product.status == "retracted":
        why = "its mosaic is superseded" if product.superseded else "its mosaic is retracted and may be made again"
        return Need(product.settled_unix if product.superseded else None, why)
    if product.status in ("staging", "validated") and product.rejected:
        return Need(product.settled_unix, "its mosaic is rejected")
    return Need(None, "its mosaic is not yet published")


class Guarded:
    """Paths, and all that lies in or above them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._above = frozenset(parent for path in self._paths for parent in _parents(path))

    def holds(self, path: str) -> bool:
        """Return whether a path is one of them, lies in one, or contains one."""
        return path in self._paths or path in self._above or any(parent in self._paths for parent in _parents(path))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def _unknown(holdings: Holdings) -> tuple[str, ...]:
    named = {tile.path for tile in holdings.tiles} | {picture.path for picture in holdings.pictures}
    named |= {table.path for table in holdings.tables} | {plot.path for plot in holdings.plots}
    guarded = Guarded(holdings.protected)
    return tuple(sorted(path for path in holdings.files if path not in named and not guarded.holds(path)))
