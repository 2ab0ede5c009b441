"""Which tables calibrate a tile, and which state its calibration is in: pure functions of rows.

A table may be applied to a tile if, in this order,

    its window holds at the tile's time (both ends included),
    it was solved on the tile's strip of declination,
    it has solutions of enough of the tile's antennas,
    it covers the tile's band.

Of those that may, a calibrator's come before the catalogue's; then the nearest in time wins, and of equals the newest.
What a row does not tell (strip, antennas or band) is never assumed to fit, but for antennas and band of old rows: the
table itself is looked at again when it is applied.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import SUBBAND_WIDTH_HZ

CATALOGUE = "catalogue"
GROUP_DAYS = 1.0 / 24.0
"""The tiles of a mosaic group lie within an hour of the one that it was solved on."""
Band = tuple[float, float]


class CalibrationState(StrEnum):
    """How well a tile's bandpass is founded."""

    ANCHORED = "anchored"
    """A bandpass that a flux calibrator's transit gave may be applied."""
    CATALOGUE_ANCHORED = "catalogue_anchored"
    """Only a bandpass solved against the catalogue may be applied; a transit that arrives supersedes it."""
    STALE = "stale"
    """The strip has bandpasses, but none holds at the tile's time."""
    AWAITING_TRANSIT = "awaiting_transit"
    """No bandpass of the strip fits the tile."""


@dataclass(frozen=True)
class TableFacts:
    """What a row of the registry says about a table."""

    path: str
    start_mjd: float
    end_mjd: float
    mid_mjd: float
    dec_deg: float | None
    created_at: float = 0.0
    flux_anchor: str | None = None
    antennas: frozenset[str] = frozenset()
    """Names of those with solutions; empty: not recorded."""
    band_hz: Band | None = None
    """Lowest and highest channel; None: not recorded."""


@dataclass(frozen=True)
class TileFacts:
    """What a table has to fit."""

    mjd: float
    dec_deg: float
    antennas: frozenset[str] = frozenset()
    """Names of those in the data; empty: not looked at yet."""
    band_hz: Band | None = None
    """Lowest and highest channel; None: not looked at yet."""


@dataclass(frozen=True)
class Choice:
    """The table to apply, if any, and why each other one may not be."""

    table: TableFacts | None
    state: CalibrationState
    refused: dict[str, str] = field(default_factory=dict)
    """Path to reason, the nearest in time first."""

    @property
    def reason(self) -> str:
        """One clause: which table is chosen, or why there is none."""
        if self.table is not None:
            anchor = self.table.flux_anchor or "an unrecorded anchor"
            return f"{self.table.path}, on the scale of {anchor}"
        nearest = next(iter(self.refused.items()), None)
        return "no bandpass was ever solved" if nearest is None else f"the nearest, {nearest[0]}, {nearest[1]}"


def choose(tables: Iterable[TableFacts], tile: TileFacts, options: CalibrationOptions) -> Choice:
    """Return the table of one kind that a tile is calibrated with, and the state that follows."""
    ranked = sorted(tables, key=lambda t: (t.flux_anchor == CATALOGUE, abs(t.mid_mjd - tile.mjd), -t.created_at))
    reasons = {table.path: refusal(table, tile, options) for table in ranked}
    best = next((table for table in ranked if reasons[table.path] is None), None)
    nearest_first = sorted(ranked, key=lambda table: abs(table.mid_mjd - tile.mjd))
    refused = {t.path: reason for t in nearest_first if (reason := reasons[t.path]) is not None}
    return Choice(best, _state(best, ranked, tile, options), refused)


def _state(
    best: TableFacts | None, tables: Iterable[TableFacts], tile: TileFacts, options: CalibrationOptions
) -> CalibrationState:
    if best is not None:
        catalogue = best.flux_anchor == CATALOGUE
        return CalibrationState.CATALOGUE_ANCHORED if catalogue else CalibrationState.ANCHORED
    outdated = any(same_strip(t.dec_deg, tile, options) and not holds(t, tile.mjd) for t in tables)
    return CalibrationState.STALE if outdated else CalibrationState.AWAITING_TRANSIT


def refusal(table: TableFacts, tile: TileFacts, options: CalibrationOptions) -> str | None:
    """Return why a table may not be applied to a tile, or None if it may."""
    if not same_strip(table.dec_deg, tile, options):
        there = "an unrecorded declination" if table.dec_deg is None else f"declination {table.dec_deg:.2f}"
        return f"is of another strip: {there}, not {tile.dec_deg:.2f}"
    if not holds(table, tile.mjd):
        away = min(abs(tile.mjd - table.start_mjd), abs(tile.mjd - table.end_mjd)) * 24.0
        return f"does not hold at its time: {away:.1f} h outside the window"
    common = common_fraction(table.antennas, tile.antennas)
    if common is not None and common < options.min_common_antennas:
        return f"has solutions of {common:.0%} of its antennas, and {options.min_common_antennas:.0%} are needed"
    if table.band_hz is not None and tile.band_hz is not None and not _covers(table.band_hz, tile.band_hz):
        return f"covers {_spoken(table.band_hz)}, and the tile {_spoken(tile.band_hz)}"
    return None


def holds(table: TableFacts, mjd: float) -> bool:
    """Return whether a table's window holds at a time, both ends included."""
    return table.start_mjd <= mjd <= table.end_mjd


def same_strip(dec_deg: float | None, tile: TileFacts, options: CalibrationOptions) -> bool:
    """Return whether a declination is known and that of a tile's strip."""
    return dec_deg is not None and abs(dec_deg - tile.dec_deg) <= options.dec_tolerance_deg


def common_fraction(solved: Collection[str], present: Collection[str]) -> float | None:
    """Return the fraction of the present antennas that have solutions; None where either is not known."""
    if not solved or not present:
        return None
    return len(set(solved) & set(present)) / len(set(present))


def superseded_by(new: TableFacts, old: Iterable[TableFacts], options: CalibrationOptions) -> list[TableFacts]:
    """Return the catalogue-anchored tables whose place a calibrator's table takes.

    Those are the ones of its strip for whose mosaic group it holds. A catalogue solve supersedes nothing.
    """
    if new.flux_anchor in (None, "none", CATALOGUE) or new.dec_deg is None:
        return []
    tile_like = TileFacts(new.mid_mjd, new.dec_deg)
    return [
        table
        for table in old
        if table.flux_anchor == CATALOGUE
        and same_strip(table.dec_deg, tile_like, options)
        and holds(new, table.mid_mjd - GROUP_DAYS)
        and holds(new, table.mid_mjd + GROUP_DAYS)
    ]


def better_span(table: TableFacts, rival: TableFacts, options: CalibrationOptions) -> tuple[float, float] | None:
    """Return the times (MJD) at which `choose` takes another table of the strip before one; None if at none."""
    if table.dec_deg is None or not same_strip(rival.dec_deg, TileFacts(table.mid_mjd, table.dec_deg), options):
        return None
    rank, rivals = (t.flux_anchor == CATALOGUE for t in (table, rival))
    low, high = rival.start_mjd, rival.end_mjd
    if rank == rivals:
        middle = 0.5 * (table.mid_mjd + rival.mid_mjd)
        if rival.mid_mjd == table.mid_mjd:
            return (low, high) if rival.created_at > table.created_at else None
        low, high = (max(low, middle), high) if rival.mid_mjd > table.mid_mjd else (low, min(high, middle))
    return (low, high) if rank >= rivals and low <= high else None


def _covers(table: Band, tile: Band) -> bool:
    """Return whether a table reaches both ends of a band, within half a subband: channels may be of other widths."""
    slack = 0.5 * SUBBAND_WIDTH_HZ
    return table[0] <= tile[0] + slack and table[1] >= tile[1] - slack


def _spoken(band: Band) -> str:
    return f"{band[0] / 1e6:.1f} to {band[1] / 1e6:.1f} MHz"
