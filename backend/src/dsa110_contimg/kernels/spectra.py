r"""Spectra of a few points: the index of a source, and whether a change of its flux is the same at all frequencies.

With x = ln(f/f₀), f₀ such that both are independent, weighted least squares give

    ln S = ln S₀ + α x             the spectral index α
    ln(S/S_ref) = ln g + β x       a change g with its slope β

A gain error, or any other fault of the flux scale, has β = 0 for every source; a plasma lens bends light by λ², and its
dips and spikes are not alike across a band of 14 % (Clegg, Fey & Lazio 1998, ApJ 496, 253). Errors of ln S are σ/S: a
point below three sigma has none that a Gaussian describes, and is left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FEWEST_SIGMA = 3.0
FEWEST_POINTS = 2


class Lines(NamedTuple):
    """Straight lines through logarithms; arrays (n,), NaN where points are too few."""

    level: FloatArray
    """ln of the flux, or of its change, at `freq_hz`."""
    level_err: FloatArray
    slope: FloatArray
    slope_err: FloatArray
    freq_hz: FloatArray
    """Where level and slope are independent."""
    chi2: FloatArray
    """Of the points about the line."""
    n: NDArray[np.int64]


def _lines(freq_hz: FloatArray, values: FloatArray, errors: FloatArray) -> Lines:
    """Fit a line to each row of logarithms, (n, n_part); NaN is left out."""
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0.0) & np.isfinite(freq_hz)
    weight = np.where(good, 1.0 / np.where(good, errors, 1.0) ** 2, 0.0)
    x, y = np.where(good, np.log(np.where(np.isfinite(freq_hz), freq_hz, 1.0)), 0.0), np.where(good, values, 0.0)
    count = good.sum(axis=1)
    enough = (count >= FEWEST_POINTS) & (
        (x.max(axis=1, where=good, initial=0.0) - x.min(axis=1, where=good, initial=99.0)) > 0.0
    )
    total = np.where(enough, weight.sum(axis=1), np.nan)
    middle, level = (np.sum(weight * axis, axis=1) / total for axis in (x, y))
    away = x - middle[:, None]
    spread = np.sum(weight * away**2, axis=1)
    slope = np.sum(weight * away * y, axis=1) / spread
    rest = y - level[:, None] - slope[:, None] * away
    chi2 = np.sum(weight * rest**2, axis=1)
    return Lines(level, 1.0 / np.sqrt(total), slope, 1.0 / np.sqrt(spread), np.exp(middle), chi2, count)


def spectral_index(freq_hz: FloatArray, flux_jy: FloatArray, flux_err_jy: FloatArray) -> Lines:
    """Fit a spectral index to each source.

    Parameters
    ----------
    freq_hz
        (n_part,), or (n, n_part).
    flux_jy, flux_err_jy
        (n, n_part); NaN is left out, and so is what is below three sigma.

    Returns
    -------
    Lines
        The slopes are the indices.
    """
    usable = flux_jy > FEWEST_SIGMA * flux_err_jy
    flux = np.where(usable, flux_jy, np.nan)
    return _lines(np.broadcast_to(freq_hz, flux.shape), np.log(flux), flux_err_jy / flux)


def chromatic_change(
    freq_hz: FloatArray, flux_jy: FloatArray, flux_err_jy: FloatArray, before_jy: FloatArray, before_err_jy: FloatArray
) -> Lines:
    """Fit the change of each source's flux against its flux at other times, and how it runs with frequency.

    Parameters
    ----------
    freq_hz
        (n_part,), or (n, n_part).
    flux_jy, flux_err_jy, before_jy, before_err_jy
        (n, n_part); NaN is left out, and so is what is below three sigma in either.

    Returns
    -------
    Lines
        A slope that is zero within its error is what an error of the flux scale looks like.
    """
    usable = (flux_jy > FEWEST_SIGMA * flux_err_jy) & (before_jy > FEWEST_SIGMA * before_err_jy)
    flux, before = np.where(usable, flux_jy, np.nan), np.where(usable, before_jy, np.nan)
    error = np.hypot(flux_err_jy / flux, before_err_jy / before)
    return _lines(np.broadcast_to(freq_hz, flux.shape), np.log(flux / before), error)
