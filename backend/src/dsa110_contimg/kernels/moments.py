r"""What a light curve's statistics rest on: sums that one point changes, and what an order of all points decides.

About an origin S₀ near the flux, so that no digits are lost, with d = S − S₀, w = 1/σ² and v = 1/(σ² + floor²):

    n, Σd, Σd²        Σw, Σwd, Σwd²        Σv, Σvd, Σvd²

A point is added or taken away in these sums, whatever the number of points behind it:

    mean = S₀ + Σd/n        std² = (Σd² − (Σd)²/n)/(n − 1)        η = (Σwd² − (Σwd)²/Σw)/(n − 1)

and χ²_ν is η of the third three. The median flux (`LEVEL`, from which the floor follows), the extremes, and the
largest deviation from a baseline need all points in order (`settle`). They are due again (`due`)
when a point lies farther from the level than nine tenths of the largest deviation, when an extreme or the last point
was taken away, or when the light curve has grown by its patience. Any number that has left the sums was an extreme
then, or small beside what is left, so that no rounding of it stays.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled
from dsa110_contimg.kernels.variability import extreme_deviation

FloatArray = NDArray[np.float64]

COLUMNS = (
    *("n", "origin_jy", "level_jy", "floor_jy", "sum_d", "sum_dd", "sum_w", "sum_wd", "sum_wdd", "sum_v", "sum_vd"),
    *("sum_vdd", "min_jy", "max_jy", "last_mjd", "n_settled", "deviation", "extreme_mjd", "extreme_flux_jy"),
)
"""The columns of moments, in order."""
N, ORIGIN, LEVEL, FLOOR, D, DD, W, WD, WDD, V, VD, VDD, LOW, HIGH, LAST, SETTLED, DEVIATION, WHEN, EXTREME = range(19)
N_COLUMNS = len(COLUMNS)
SUMS = slice(D, VDD + 1)
NEAR_EXTREME = 0.9
"""A point this near to the largest deviation, counted from the level, may be the largest itself."""


def empty(count: int) -> FloatArray:
    """Return the moments of light curves without points, (count, n_column)."""
    moments = np.full((count, N_COLUMNS), np.nan)
    moments[:, [N, SETTLED]] = 0.0
    moments[:, SUMS] = 0.0
    return moments


@compiled
def _count(row: FloatArray, flux: float, error: float, sign: float) -> None:
    """Add a point to the sums of a light curve, or take it away (sign −1); in place."""
    shifted = flux - row[ORIGIN]
    weight, floored = 1.0 / error**2, 1.0 / (error**2 + row[FLOOR] ** 2)
    row[N] += sign
    row[D] += sign * shifted
    row[DD] += sign * shifted**2
    row[W] += sign * weight
    row[WD] += sign * weight * shifted
    row[WDD] += sign * weight * shifted**2
    row[V] += sign * floored
    row[VD] += sign * floored * shifted
    row[VDD] += sign * floored * shifted**2


@compiled
def settle(
    offsets: NDArray[np.int64],
    mjd: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    systematic: float,
    window_days: float,
) -> FloatArray:
    """Return the moments of light curves from all of their points.

    Parameters
    ----------
    offsets
        Where each light curve begins and the last one ends, (n_source + 1,).
    mjd, flux, error
        All points, (n_point,), each light curve in order of time; errors above zero.
    systematic, window_days
        As in `variability.deviations`.

    Returns
    -------
    NDArray
        (n_source, n_column).
    """
    moments = np.full((offsets.size - 1, N_COLUMNS), np.nan)
    for source in range(offsets.size - 1):
        first, end = offsets[source], offsets[source + 1]
        row = moments[source]
        row[N], row[SETTLED], row[D : VDD + 1] = 0.0, 0.0, 0.0
        if end == first:
            continue
        own = flux[first:end]
        row[LEVEL] = np.median(own)
        row[ORIGIN], row[FLOOR] = row[LEVEL], systematic * abs(row[LEVEL])
        for point in range(first, end):
            _count(row, flux[point], error[point], 1.0)
        row[LOW], row[HIGH], row[LAST], row[SETTLED] = own.min(), own.max(), mjd[end - 1], row[N]
        extreme, pull = extreme_deviation(mjd[first:end], own, error[first:end], systematic, window_days)
        if extreme >= 0:
            row[DEVIATION], row[WHEN], row[EXTREME] = abs(pull), mjd[first + extreme], own[extreme]
    return moments


@compiled
def add_points(
    moments: FloatArray,
    source: NDArray[np.int64],
    mjd: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    systematic: float,
) -> None:
    """Add points, (n_point,) each with the row of its source, to moments; in place."""
    for point in range(source.size):
        row = moments[source[point]]
        if row[N] == 0.0:
            row[:] = np.nan
            row[D : VDD + 1] = 0.0
            row[N], row[ORIGIN], row[LEVEL] = 0.0, flux[point], flux[point]
            row[FLOOR] = systematic * abs(flux[point])
            row[LOW], row[HIGH], row[LAST] = flux[point], flux[point], mjd[point]
        _count(row, flux[point], error[point], 1.0)
        row[LOW], row[HIGH] = min(row[LOW], flux[point]), max(row[HIGH], flux[point])
        row[LAST] = max(row[LAST], mjd[point])
        pull = abs(flux[point] - row[LEVEL]) / np.sqrt(error[point] ** 2 + row[FLOOR] ** 2)
        if not pull <= NEAR_EXTREME * row[DEVIATION]:
            row[SETTLED] = 0.0


@compiled
def take_points(
    moments: FloatArray, source: NDArray[np.int64], mjd: FloatArray, flux: FloatArray, error: FloatArray
) -> None:
    """Take points that were added away from moments; in place."""
    for point in range(source.size):
        row = moments[source[point]]
        _count(row, flux[point], error[point], -1.0)
        edge = flux[point] <= row[LOW] or flux[point] >= row[HIGH]
        if edge or mjd[point] >= row[LAST] or mjd[point] == row[WHEN]:
            row[SETTLED] = 0.0


def due(moments: FloatArray, patience: FloatArray, systematic: float) -> NDArray[np.bool_]:
    """Say which light curves have to be settled anew, (n_source,).

    Parameters
    ----------
    moments
        After points were added or taken away, (n_source, n_column).
    patience
        By which fraction each may change before that, (n_source,): not the same for all, so that the sources of one
        epoch do not come due together.
    systematic
        With another one the floors do not hold any more.
    """
    settled = moments[:, SETTLED]
    changed = np.abs(moments[:, N] - settled) > patience * settled
    floor = np.abs(moments[:, FLOOR] - systematic * np.abs(moments[:, LEVEL])) > 1e-12 * moments[:, FLOOR]
    return np.asarray((moments[:, N] > 0.0) & ((settled == 0.0) | changed | floor))


def reduced_spread(n: FloatArray, total: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """Return (Σwd² − (Σwd)²/Σw)/(n − 1), NaN for fewer than two points; Σw, Σwd, Σwd² as named here."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.maximum(second - first**2 / total, 0.0) / (n - 1.0)
    return np.where(n > 1.0, spread, np.nan)
