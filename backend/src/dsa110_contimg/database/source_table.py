"""The statistics of all sources as columns in memory: any filter and any order in a fraction of a millisecond.

A list of sources is asked for in many orders within many limits; an index for each would slow every epoch's update of
the statistics by a third, and a page without its index reads the whole table. All of it takes 7 MB for 50,000 sources.
So the columns are kept for each database, and made anew when the table has changed: a connection that sees the same
`data_version` sees the same rows; else a fingerprint tells whether the commit concerned them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import VariabilityStats
from dsa110_contimg.database.session import may_write

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Place = tuple[str | float | None, str]
"""The value and the name of a row."""
Fingerprint = tuple[float | None, ...]
MJY_PER_JY = 1000.0
_Stats = VariabilityStats
_STORED = {
    "ra_deg": _Stats.ra_deg,
    "dec_deg": _Stats.dec_deg,
    "nvss_flux_jy": _Stats.nvss_flux_mjy,
    "n_obs": _Stats.n_obs,
    "mean_flux_jy": _Stats.mean_flux_mjy,
    "std_flux_jy": _Stats.std_flux_mjy,
    "min_flux_jy": _Stats.min_flux_mjy,
    "max_flux_jy": _Stats.max_flux_mjy,
    "chi2_nu": _Stats.chi2_nu,
    "sigma_deviation": _Stats.sigma_deviation,
    "eta": _Stats.eta_metric,
    "v": _Stats.v_metric,
    "last_mjd": _Stats.last_mjd,
    "updated_at": _Stats.updated_at,
}
COLUMNS = tuple(_STORED)
"""Columns of numbers, in their order."""


class Order(NamedTuple):
    """Rows in the order of a column: those with a value by (value, name), then the others by name."""

    rows: IntArray
    values: FloatArray
    """Of the rows that have one, ascending."""


def order_of(values: FloatArray, rows: IntArray) -> Order:
    """Return the order of rows, which ascend, by their values, NaN where they have none; both (n,)."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    return Order(rows[order], ascending[: np.isfinite(ascending).sum()])


class SourceTable:
    """The rows of `variability_stats` in the order of their names.

    Parameters
    ----------
    names
        Of the sources, ascending.
    numbers
        (n_column, n_source), the columns of `COLUMNS`: fluxes in Jy, angles in deg; NaN where there is no value.
    """

    def __init__(self, names: list[str], numbers: FloatArray) -> None:
        self.names = names
        self.numbers = numbers
        self._orders: dict[str, Order] = {}

    def column(self, name: str) -> FloatArray:
        """Return one of `COLUMNS`, (n_source,)."""
        values: FloatArray = self.numbers[COLUMNS.index(name)]
        return values

    def marked(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Return which rows bear one of some names, (n_source,)."""
        found = np.zeros(len(self.names), bool)
        for name in names:
            row = bisect_left(self.names, name)
            if row < len(self.names) and self.names[row] == name:
                found[row] = True
        return found

    def order(self, name: str) -> Order:
        """Return the order of all rows by one of `COLUMNS`, made once."""
        if name not in self._orders:
            self._orders[name] = order_of(self.column(name), np.arange(len(self.names)))
        return self._orders[name]

    def by_name(self, descending: bool, after: Place | None) -> IntArray:
        """Return the rows behind a place in the list by names."""
        rows = np.arange(len(self.names))
        if descending:
            return rows[: None if after is None else bisect_left(self.names, after[1])][::-1]
        return rows[0 if after is None else bisect_right(self.names, after[1]) :]

    def behind(self, order: Order, descending: bool, after: Place | None) -> IntArray:
        """Return the rows behind a place in an order; who has no value comes last, whichever way it runs.

        Parameters
        ----------
        order
            Of rows of this table.
        descending
            The largest value first, and of equal ones the last name.
        after
            The value and the name of the last row of the page before; None at the beginning.
        """
        valued, empty = np.split(order.rows, [len(order.values)])
        if after is None:
            return np.concatenate([valued[::-1] if descending else valued, empty])
        if after[0] is None:
            return empty[np.searchsorted(empty, bisect_right(self.names, after[1])) :]
        low, high = (int(np.searchsorted(order.values, after[0], side)) for side in ("left", "right"))
        name = (bisect_left if descending else bisect_right)(self.names, after[1])
        cut = low + int(np.searchsorted(valued[low:high], name))
        return np.concatenate([valued[:cut][::-1] if descending else valued[cut:], empty])


_tables: WeakKeyDictionary[Engine, tuple[Fingerprint, SourceTable]] = WeakKeyDictionary()


def source_table(session: Session) -> SourceTable:
    """Return the sources as a session of `products` sees them."""
    engine = session.get_bind()
    assert isinstance(engine, Engine)
    seen = _fingerprint(session)
    held = _tables.get(engine)
    if held is None or held[0] != seen:
        held = _tables[engine] = seen, _load(session)
    return held[1]


def _fingerprint(session: Session) -> Fingerprint:
    """Return sums over the table that hardly any change leaves as they are, asked for after a commit only."""
    connection = session.connection()
    version = None if may_write(session) else _data_version(connection)
    known = connection.info.get("sources")
    if version is not None and known is not None and known[0] == version:
        fingerprint: Fingerprint = known[1]
        return fingerprint
    sums = (_Stats.updated_at, _Stats.eta_metric, _Stats.mean_flux_mjy, _Stats.dec_deg)
    query = select(func.count(), func.max(_Stats.updated_at), *map(func.sum, sums))
    found: Fingerprint = tuple(session.execute(query).one())
    connection.info["sources"] = version, found
    return found


def _data_version(connection: Connection) -> int | None:
    if connection.dialect.name != "sqlite":
        return None
    number: int = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
    return number


def _load(session: Session) -> SourceTable:
    rows = session.connection().execute(select(_Stats.source_id, *_STORED.values())).all()
    if not rows:
        return SourceTable([], np.empty((len(COLUMNS), 0)))
    names, *columns = zip(*rows, strict=True)
    by_name = np.argsort(np.array(names))
    numbers = np.array(columns, np.float64)[:, by_name]
    numbers[[name.endswith("_jy") for name in COLUMNS]] /= MJY_PER_JY
    return SourceTable([names[row] for row in by_name], numbers)
