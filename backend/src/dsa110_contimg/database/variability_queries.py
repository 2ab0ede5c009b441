r"""The eta-V plane: how surely and how much all sources vary, and beyond which lines few do.

Constant sources form a cloud in (log eta, log V). Its middle is the median, its width that of a normal distribution
with the same median deviation; the lines stand `OUTSIDE_SIGMA` of these above the middle (Rowlinson et al. 2019 fit
the same cloud by a Gaussian). Where many lie together one of each small cell of the plane is shown.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from dsa110_contimg.database.source_table import source_table

OUTSIDE_SIGMA = 3.0
FEWEST = 20
"""Fewer sources make no cloud."""
_NORMAL = 1.4826
"""Standard deviation over median deviation."""
_CELLS = 45
_ALWAYS = 250
"""The most variable sources are shown whatever lies beside them."""


class PlanePoint(NamedTuple):
    """One source in the plane."""

    source_id: str
    eta: float
    v: float


class Plane(NamedTuple):
    """The plane; the lines are None where too few sources have both statistics."""

    points: list[PlanePoint]
    """In the order of eta, the largest first."""
    n_sources: int
    """How many sources these stand for."""
    n_outside: int
    """Sources beyond both lines."""
    eta_line: float | None
    v_line: float | None


def eta_v_plane(session: Session) -> Plane:
    """Return the sources that have both statistics, thinned where they are many."""
    table = source_table(session)
    eta, v = table.column("eta"), table.column("v")
    both = np.flatnonzero((eta > 0.0) & (v > 0.0))
    if not len(both):
        return Plane([], 0, 0, None, None)
    rows = both[np.argsort(-eta[both], kind="stable")]
    plane = np.log10(np.stack([eta[rows], v[rows]], axis=1))
    shown = rows[_thinned(plane)]
    points = [PlanePoint(table.names[row], float(eta[row]), float(v[row])) for row in shown]
    if len(rows) < FEWEST:
        return Plane(points, len(rows), 0, None, None)
    lines = _lines(plane)
    outside = int((plane > lines).all(axis=1).sum())
    return Plane(points, len(rows), outside, float(10.0 ** lines[0]), float(10.0 ** lines[1]))


def _lines(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = np.median(plane, axis=0)
    width = _NORMAL * np.median(np.abs(plane - middle), axis=0)
    return np.asarray(middle + OUTSIDE_SIGMA * width)


def _thinned(plane: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return some row of each cell of a plane (n, 2), and the first rows anyway."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    cell = np.floor((plane - low) / np.maximum(high - low, 1e-9) * (_CELLS - 1e-6)).astype(np.int64)
    # In the order of eta the first of each cell would all lie on its edge, and the cells would show as stripes.
    mixed = np.random.default_rng(0).permutation(len(plane))
    _cells, first = np.unique((cell[:, 0] * _CELLS + cell[:, 1])[mixed], return_index=True)
    return np.union1d(mixed[first], np.arange(min(_ALWAYS, len(plane))))
