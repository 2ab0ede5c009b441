"""Measured sources as readers ask for them: filtered, in any order, by a circle on the sky, page by page.

A source is listed when it has statistics (`variability_stats`); lists are made from `source_table`, where all of them
lie as columns. Fluxes are Jy here; the table of the database has mJy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.models import ESECandidate
from dsa110_contimg.database.source_table import COLUMNS, Place, SourceTable, order_of, source_table
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.visibilities import SkyPosition

SEPARATION = "separation_deg"
SORTS = (
    "source_id", "ra_deg", "dec_deg", "nvss_flux_jy", "n_obs", "mean_flux_jy", "chi2_nu", "sigma_deviation", "eta", "v",
    "last_mjd",
)  # fmt: skip
"""What a list can be sorted by, ascending, or with a minus sign descending; who has no value comes last."""
_MARGIN_DEG = 1e-9
_FIRST_PART = 256
_N_OBS = COLUMNS.index("n_obs")
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Marks = NDArray[np.bool_]


class SourceRow(NamedTuple):
    """One source with what its light curve says; None where the epochs are too few."""

    source_id: str
    ra_deg: float
    dec_deg: float
    nvss_flux_jy: float | None
    n_obs: int | None
    mean_flux_jy: float | None
    std_flux_jy: float | None
    min_flux_jy: float | None
    max_flux_jy: float | None
    chi2_nu: float | None
    sigma_deviation: float | None
    """Largest deviation of an epoch from its own baseline."""
    eta: float | None
    v: float | None
    last_mjd: float | None
    updated_at: float
    """Unix seconds."""
    separation_deg: float | None = None
    """From the center of the circle that was asked for."""


@dataclass(frozen=True, kw_only=True)
class SourceFilter:
    """Which sources a list holds; None asks nothing."""

    names: tuple[str, ...] | None = None
    center: SkyPosition | None = None
    radius_deg: float = 0.0
    min_eta: float | None = None
    min_v: float | None = None
    min_sigma: float | None = None
    min_chi2_nu: float | None = None
    min_flux_jy: float | None = None
    max_flux_jy: float | None = None
    min_dec_deg: float | None = None
    max_dec_deg: float | None = None
    min_n_obs: int | None = None
    candidate: bool | None = None
    """True: only those that await a person as candidates; False: only others."""


def list_sources(session: Session, wanted: SourceFilter, sort: str, after: Place | None, limit: int) -> list[SourceRow]:
    """Return the sources behind a place in a list, at most `limit`.

    Parameters
    ----------
    session
        Of `products`.
    wanted
        Which.
    sort
        One of `SORTS`, or `separation_deg` where a circle is asked for; a minus sign before it turns the order.
    after
        What `place_of` says of the last row of the page before.
    limit
        Most rows; one more than a page shows tells whether there is another.
    """
    table = source_table(session)
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    among, apart = _among(session, table, wanted), None
    if wanted.center is not None:
        apart = _distances(table, wanted.center, wanted.radius_deg)
        among &= np.isfinite(apart)
    if name == "source_id":
        rows = table.by_name(descending, after)
    elif name != SEPARATION:
        rows = table.behind(table.order(name), descending, after)
    elif apart is not None:
        inside = np.flatnonzero(among)
        rows = table.behind(order_of(apart[inside], inside), descending, after)
    else:
        return []
    return _told(table, _first(table, rows, _limits(wanted), among, limit), apart)


def place_of(row: SourceRow, sort: str) -> Place:
    """Return where a row stands in a sorted list, to go on behind it."""
    return getattr(row, sort.removeprefix("-")), row.source_id


def get_statistics(session: Session, source_id: str) -> SourceRow | None:
    """Return one source by its name in full."""
    table = source_table(session)
    found = _told(table, np.flatnonzero(table.marked([source_id])), None)
    return found[0] if found else None


def active_candidates(session: Session, names: list[str]) -> dict[str, int]:
    """Return which of some sources await a person, with the numbers of their candidates."""
    query = select(ESECandidate.source_id, ESECandidate.id).where(ESECandidate.status == "active")
    return {
        row.source_id: row.id
        for part in in_parts(names)
        for row in session.execute(query.where(ESECandidate.source_id.in_(part)))
    }


def _limits(wanted: SourceFilter) -> dict[str, tuple[float | None, float | None]]:
    """Return the least and the largest value of columns that are limited, both included."""
    asked = {
        "eta": (wanted.min_eta, None),
        "v": (wanted.min_v, None),
        "sigma_deviation": (wanted.min_sigma, None),
        "chi2_nu": (wanted.min_chi2_nu, None),
        "mean_flux_jy": (wanted.min_flux_jy, wanted.max_flux_jy),
        "dec_deg": (wanted.min_dec_deg, wanted.max_dec_deg),
        "n_obs": (wanted.min_n_obs, None),
    }
    return {name: limits for name, limits in asked.items() if limits != (None, None)}


def _among(session: Session, table: SourceTable, wanted: SourceFilter) -> Marks:
    """Return which rows have one of the names, and are a candidate or none, as asked, (n_source,)."""
    among = np.ones(len(table.names), bool) if wanted.names is None else table.marked(wanted.names)
    if wanted.candidate is not None:
        active = select(ESECandidate.source_id).where(ESECandidate.status == "active")
        among &= table.marked(session.scalars(active)) == wanted.candidate
    return among


def _first(
    table: SourceTable,
    rows: IntArray,
    limits: Mapping[str, tuple[float | None, float | None]],
    among: Marks,
    limit: int,
) -> IntArray:
    """Return the first of some rows that are marked and within limits: a page is full long before the table ends."""
    found, start, size = [np.empty(0, np.int64)], 0, _FIRST_PART
    while start < len(rows) and sum(map(len, found)) < limit:
        part = rows[start : start + size]
        kept = among[part]
        for name, (low, high) in limits.items():
            values = table.column(name)[part]
            # What has no value is within no limits: no comparison with NaN is true.
            kept &= (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
        found.append(part[kept])
        start, size = start + size, 4 * size
    return np.concatenate(found)[:limit]


def _distances(table: SourceTable, center: SkyPosition, radius_deg: float) -> FloatArray:
    """Return how far the sources in a circle lie from its center, deg, (n_source,); NaN for those that do not."""
    apart = np.full(len(table.names), np.nan)
    near = np.flatnonzero(np.abs(table.column("dec_deg") - center.dec_deg) <= radius_deg + _MARGIN_DEG)
    ra, dec = (np.radians(table.column(name)[near]) for name in ("ra_deg", "dec_deg"))
    away = np.degrees(separation(math.radians(center.ra_deg), math.radians(center.dec_deg), ra, dec))
    apart[near] = np.where(away <= radius_deg, away, np.nan)
    return apart


def _told(table: SourceTable, rows: IntArray, apart: FloatArray | None) -> list[SourceRow]:
    away = np.full(len(rows), np.nan) if apart is None else apart[rows]
    told = []
    for row, *numbers in zip(rows, *table.numbers[:, rows].tolist(), away.tolist(), strict=True):
        cells: list[Any] = [None if value != value else value for value in numbers]
        cells[_N_OBS] = None if cells[_N_OBS] is None else int(cells[_N_OBS])
        told.append(SourceRow(table.names[row], *cells))
    return told
