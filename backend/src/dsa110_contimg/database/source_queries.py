"""Measured sources as readers ask for them: filtered, in any order, by a circle on the sky, page by page.

A source is listed when it has statistics (`variability_stats`). Its rows are read in the order of an index, so that a
page costs the same wherever it is. A circle of any size goes the same way: the rows are read in parts, and those that
lie in its box but not in it are left out, until the page is full. Only the order by distance needs all of a circle.

Fluxes are Jy here; the table has mJy.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.catalog_query import ra_intervals
from dsa110_contimg.database.models import ESECandidate, VariabilityStats
from dsa110_contimg.database.ordering import Limits, Order, Place, Query, ordered, ordered_within
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.visibilities import SkyPosition

MJY_PER_JY = 1000.0
SEPARATION = "separation_deg"
_PART = 500
"""Rows read at once on the way through a circle."""
_MARGIN_DEG = 1e-9
_Stats = VariabilityStats


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


_COLUMNS: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    _Stats.source_id,
    _Stats.ra_deg,
    _Stats.dec_deg,
    (_Stats.nvss_flux_mjy / MJY_PER_JY).label("nvss_flux_jy"),
    _Stats.n_obs,
    (_Stats.mean_flux_mjy / MJY_PER_JY).label("mean_flux_jy"),
    (_Stats.std_flux_mjy / MJY_PER_JY).label("std_flux_jy"),
    (_Stats.min_flux_mjy / MJY_PER_JY).label("min_flux_jy"),
    (_Stats.max_flux_mjy / MJY_PER_JY).label("max_flux_jy"),
    _Stats.chi2_nu,
    _Stats.sigma_deviation,
    _Stats.eta_metric.label("eta"),
    _Stats.v_metric.label("v"),
    _Stats.last_mjd,
    _Stats.updated_at,
)
SORTS: dict[str, InstrumentedAttribute[Any]] = {
    "source_id": _Stats.source_id,
    "ra_deg": _Stats.ra_deg,
    "dec_deg": _Stats.dec_deg,
    "nvss_flux_jy": _Stats.nvss_flux_mjy,
    "n_obs": _Stats.n_obs,
    "mean_flux_jy": _Stats.mean_flux_mjy,
    "chi2_nu": _Stats.chi2_nu,
    "sigma_deviation": _Stats.sigma_deviation,
    "eta": _Stats.eta_metric,
    "v": _Stats.v_metric,
    "last_mjd": _Stats.last_mjd,
}
"""What a list can be sorted by, ascending, or with a minus sign descending."""
_WITHOUT_INDEX = {"ra_deg", "nvss_flux_jy", "n_obs", "mean_flux_jy", "eta", "v"}
"""Each further index would make every epoch's update of the statistics a third slower."""
_IN_JY = {"nvss_flux_jy", "mean_flux_jy"}


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
    if sort.removeprefix("-") == SEPARATION:
        return _by_distance(session, wanted, sort.startswith("-"), after, limit)
    name = sort.removeprefix("-")
    order = Order(SORTS[name], _Stats.source_id, sort.startswith("-"), name not in _WITHOUT_INDEX)
    place = _stored(sort, after)
    if wanted.center is None:
        query = select(*_COLUMNS).where(*_other_conditions(wanted))
        listed = ordered_within(session, query, _limits(wanted), order, place, limit)
        return [SourceRow(*row) for row in listed]
    query = select(*_COLUMNS).where(*_conditions(wanted))
    found: list[SourceRow] = []
    while True:
        rows = [SourceRow(*row) for row in ordered(session, query, order, place, _PART)]
        found += _inside(rows, wanted.center, wanted.radius_deg)
        if len(rows) < _PART or len(found) >= limit:
            return found[:limit]
        place = _stored(sort, place_of(rows[-1], sort))


def place_of(row: SourceRow, sort: str) -> Place:
    """Return where a row stands in a sorted list, to go on behind it."""
    return getattr(row, sort.removeprefix("-")), row.source_id


def _stored(sort: str, place: Place | None) -> Place | None:
    """Return a place as the table has it: the list tells fluxes in Jy."""
    if place is None or place[0] is None or sort.removeprefix("-") not in _IN_JY:
        return place
    # A product of two floats may differ from what is stored by its last digit: what was told decides which one it was.
    told = float(place[0])
    near = told * MJY_PER_JY
    exact = next((each for each in (near, math.nextafter(near, -math.inf), math.nextafter(near, math.inf))
                  if each / MJY_PER_JY == told), near)  # fmt: skip
    return exact, place[1]


def get_statistics(session: Session, source_id: str) -> SourceRow | None:
    """Return one source by its name in full."""
    row = session.execute(select(*_COLUMNS).where(_Stats.source_id == source_id)).first()
    return None if row is None else SourceRow(*row)


def count_sources(session: Session) -> int:
    """Return how many sources have statistics."""
    return session.scalar(select(func.count()).select_from(_Stats)) or 0


def active_candidates(session: Session, names: list[str]) -> dict[str, int]:
    """Return which of some sources await a person, with the numbers of their candidates."""
    query = select(ESECandidate.source_id, ESECandidate.id).where(ESECandidate.status == "active")
    return {
        row.source_id: row.id
        for part in in_parts(names)
        for row in session.execute(query.where(ESECandidate.source_id.in_(part)))
    }


def _limits(wanted: SourceFilter) -> list[Limits]:
    """Return the limits on columns that have an index."""
    asked = [
        Limits(_Stats.eta_metric, wanted.min_eta),
        Limits(_Stats.v_metric, wanted.min_v),
        Limits(_Stats.sigma_deviation, wanted.min_sigma),
        Limits(_Stats.chi2_nu, wanted.min_chi2_nu),
        Limits(_Stats.mean_flux_mjy, _mjy(wanted.min_flux_jy), _mjy(wanted.max_flux_jy)),
        Limits(_Stats.dec_deg, wanted.min_dec_deg, wanted.max_dec_deg),
    ]
    return [each for each in asked if (each.low, each.high) != (None, None)]


def _conditions(wanted: SourceFilter) -> list[ColumnElement[bool]]:
    """Return all conditions that the database checks; a circle's is its box."""
    return [*(each.condition() for each in _limits(wanted)), *_other_conditions(wanted)]


def _other_conditions(wanted: SourceFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on names, on what has no index, and the box of a circle."""
    asked: list[ColumnElement[bool]] = []
    if wanted.min_n_obs is not None:
        asked.append(_Stats.n_obs >= wanted.min_n_obs)
    if wanted.names is not None:
        asked.append(_Stats.source_id.in_(wanted.names))
    if wanted.candidate is not None:
        active = select(ESECandidate.source_id).where(ESECandidate.status == "active")
        asked.append(_Stats.source_id.in_(active) if wanted.candidate else _Stats.source_id.not_in(active))
    if wanted.center is not None:
        asked.append(_box(wanted.center, wanted.radius_deg))
    return asked


def _mjy(flux_jy: float | None) -> float | None:
    return None if flux_jy is None else flux_jy * MJY_PER_JY


def _box(center: SkyPosition, radius_deg: float) -> ColumnElement[bool]:
    reach = radius_deg + _MARGIN_DEG
    sides = [_Stats.ra_deg.between(low, high) for low, high in ra_intervals(center, radius_deg)]
    return and_(_Stats.dec_deg.between(center.dec_deg - reach, center.dec_deg + reach), or_(*sides))


def _distances(center: SkyPosition, places: list[tuple[float, float]]) -> list[float]:
    ra, dec = np.radians(np.array(places, dtype=float).reshape(-1, 2)).T
    told: list[float] = np.degrees(
        separation(math.radians(center.ra_deg), math.radians(center.dec_deg), ra, dec)
    ).tolist()
    return told


def _inside(rows: list[SourceRow], center: SkyPosition, radius_deg: float) -> list[SourceRow]:
    apart = _distances(center, [(row.ra_deg, row.dec_deg) for row in rows])
    return [row._replace(separation_deg=away) for row, away in zip(rows, apart, strict=True) if away <= radius_deg]


def _by_distance(
    session: Session, wanted: SourceFilter, descending: bool, after: Place | None, limit: int
) -> list[SourceRow]:
    """Return a page of a circle in the order of distance: its positions are all read, its rows only as asked."""
    if wanted.center is None:
        return []
    places = session.execute(select(_Stats.ra_deg, _Stats.dec_deg, _Stats.source_id).where(*_conditions(wanted))).all()
    apart = _distances(wanted.center, [(row[0], row[1]) for row in places])
    inside = sorted(
        ((away, row[2]) for away, row in zip(apart, places, strict=True) if away <= wanted.radius_deg),
        reverse=descending,
    )
    if after is not None and after[0] is not None:
        last = (float(after[0]), str(after[1]))
        inside = [each for each in inside if (each < last if descending else each > last)]
    away_of = {name: away for away, name in inside[:limit]}
    rows = _rows_of(session, select(*_COLUMNS), list(away_of))
    return [rows[name]._replace(separation_deg=away) for name, away in away_of.items() if name in rows]


def _rows_of(session: Session, query: Query, names: list[str]) -> dict[str, SourceRow]:
    return {
        row[0]: SourceRow(*row)
        for part in in_parts(names)
        for row in session.execute(query.where(_Stats.source_id.in_(part)))
    }
