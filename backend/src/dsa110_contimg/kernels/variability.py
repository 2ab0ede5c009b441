r"""How much, and how surely, a light curve varies.

With weights w = 1/σ², ⟨⟩ the mean over N epochs (Swinbank et al. 2015, A&C 11, 25):

    V = std(S)/mean(S)                                       ddof = 1: how much it varies
    η = N/(N−1) (⟨wS²⟩ − ⟨wS⟩²/⟨w⟩)                           how surely: reduced χ² about the weighted mean

and of a pair of measurements (Mooley et al. 2016, ApJ 818, 105)

    Vs = (S_a − S_b)/√(σ_a² + σ_b²)          m = 2 (S_a − S_b)/(S_a + S_b)

χ²_ν is η with errors that carry a systematic floor, σ² → σ² + (f S̄)². The deviation of a point,

    z_i = (S_i − B_i)/√(σ_i² + σ_B,i² + (f B_i)²)

is counted from a baseline B_i, the median of the epochs farther than a window from epoch i, so that an event does
not hide in its own baseline. (|S − S̄|/std cannot exceed (N − 1)/√N, whatever the source does.)
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled

FloatArray = NDArray[np.float64]

MIN_BASELINE = 3
MAD_TO_SIGMA = 1.482602218505602
MEDIAN_ERROR = 1.2533141373155003
"""Error of the median of a Gaussian sample over that of its mean, √(π/2)."""


def v_index(flux: FloatArray) -> float:
    """Return V, the standard deviation (ddof 1) over the mean; NaN for fewer than two points or a mean of zero."""
    mean = float(np.mean(flux)) if flux.size else 0.0
    return float(np.std(flux, ddof=1) / mean) if flux.size > 1 and mean != 0.0 else float("nan")


def eta_index(flux: FloatArray, error: FloatArray) -> float:
    """Return η; NaN for fewer than two points."""
    if flux.size < 2:
        return float("nan")
    weight = 1.0 / error**2
    # About a shifted origin, since ⟨wS²⟩ − ⟨wS⟩²/⟨w⟩ loses all digits where S is much larger than its scatter.
    shifted = flux - np.median(flux)
    spread = np.mean(weight * shifted**2) - np.mean(weight * shifted) ** 2 / np.mean(weight)
    return flux.size / (flux.size - 1.0) * max(float(spread), 0.0)


def weighted_mean(flux: FloatArray, error: FloatArray) -> tuple[float, float]:
    """Return the weighted mean and its error."""
    weight = 1.0 / error**2
    total = float(np.sum(weight))
    return float(np.sum(weight * flux)) / total, total**-0.5


def chi2_nu(flux: FloatArray, error: FloatArray, systematic: float) -> float:
    """Return the reduced chi-square about a constant, errors joined by a fractional floor of the median flux."""
    if flux.size < 2:
        return float("nan")
    return eta_index(flux, np.hypot(error, systematic * abs(float(np.median(flux)))))


def pair_vs(flux_a: FloatArray, error_a: FloatArray, flux_b: FloatArray, error_b: FloatArray) -> FloatArray:
    """Return Vs of pairs: the change in sigma."""
    return np.asarray((flux_a - flux_b) / np.hypot(error_a, error_b))


def pair_m(flux_a: FloatArray, flux_b: FloatArray) -> FloatArray:
    """Return m of pairs: the change over the mean."""
    return np.asarray(2.0 * (flux_a - flux_b) / (flux_a + flux_b))


def structure_function(mjd: FloatArray, flux: FloatArray, error: FloatArray, bins: int = 12) -> FloatArray:
    """Return the first-order structure function, the noise taken away.

    D(τ) = ⟨(S(t + τ) − S(t))² − σ²(t + τ) − σ²(t)⟩ over the pairs of a bin of lags (Simonetti et al. 1985,
    ApJ 296, 46), in logarithmic bins from the shortest to the longest lag.

    Parameters
    ----------
    mjd, flux, error
        The light curve, (n,).
    bins
        How many; empty ones are left out.

    Returns
    -------
    NDArray
        (4, n_bin): mean lag in days, D and its error in squared units of the flux, number of pairs.
    """
    first, second = np.triu_indices(mjd.size, 1)
    lag = np.abs(mjd[second] - mjd[first])
    kept = lag > 0.0
    if not kept.any():
        return np.zeros((4, 0))
    lag, first, second = lag[kept], first[kept], second[kept]
    value = (flux[second] - flux[first]) ** 2 - error[second] ** 2 - error[first] ** 2
    edges = np.geomspace(lag.min(), lag.max() * (1.0 + 1e-9), bins + 1)
    place = np.clip(np.searchsorted(edges, lag, side="right") - 1, 0, bins - 1)
    pairs = np.bincount(place, minlength=bins).astype(np.float64)
    used = pairs > 0
    mean_lag, mean = (np.bincount(place, x, minlength=bins)[used] / pairs[used] for x in (lag, value))
    spread = np.bincount(place, value**2, minlength=bins)[used] / pairs[used] - mean**2
    # Pairs share their points: n points over a lag give no more than n independent ones.
    independent = np.minimum(pairs[used], mjd.size)
    return np.stack([mean_lag, mean, np.sqrt(np.maximum(spread, 0.0) / independent), pairs[used]])


@compiled
def _baseline(flux: FloatArray, error: FloatArray, members: NDArray[np.int64]) -> tuple[float, float]:
    """Return the median of some epochs and its error: from their errors or their scatter, whichever is larger."""
    chosen = flux[members]
    middle = np.median(chosen)
    expected = np.sqrt(np.mean(error[members] ** 2))
    scatter = MAD_TO_SIGMA * np.median(np.abs(chosen - middle))
    return middle, MEDIAN_ERROR * max(expected, scatter) / np.sqrt(chosen.size)


@compiled
def _deviation(
    epoch: int, mjd: FloatArray, flux: FloatArray, error: FloatArray, systematic: float, window_days: float
) -> float:
    """Return the deviation of one epoch of more than three from its own baseline."""
    least = max(MIN_BASELINE, (flux.size + 2) // 3)
    distance = np.abs(mjd - mjd[epoch])
    distance[epoch] = -1.0
    outside = np.flatnonzero(distance > window_days)
    if outside.size < least:
        # Too short a light curve for the window: the epochs farthest in time are the best baseline there is.
        outside = np.argsort(distance, kind="mergesort")[max(1, flux.size - least) :]
    base, base_error = _baseline(flux, error, outside)
    return float((flux[epoch] - base) / np.sqrt(error[epoch] ** 2 + base_error**2 + (systematic * base) ** 2))


@compiled
def _deviations(
    mjd: FloatArray, flux: FloatArray, error: FloatArray, systematic: float, window_days: float
) -> FloatArray:
    result = np.full(flux.size, np.nan)
    if flux.size > MIN_BASELINE:
        for epoch in range(flux.size):
            result[epoch] = _deviation(epoch, mjd, flux, error, systematic, window_days)
    return result


@compiled
def _bounds(mjd: FloatArray, flux: FloatArray, error: FloatArray, systematic: float, window_days: float) -> FloatArray:
    """Return what no epoch's deviation exceeds: the median of k of n values lies between two of them, in order."""
    count, ordered = flux.size, np.sort(flux)
    least = min(count - 1, max(MIN_BASELINE, (count + 2) // 3))
    result = np.empty(count)
    first = last = 0
    for epoch in range(count):
        while mjd[epoch] - mjd[first] > window_days:
            first += 1
        while last < count and mjd[last] - mjd[epoch] <= window_days:
            last += 1
        place = (max(least, count - (last - first)) - 1) // 2
        low, high = ordered[place], ordered[count - 1 - place]
        farthest = max(abs(flux[epoch] - low), abs(flux[epoch] - high))
        nearest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
        result[epoch] = farthest / np.sqrt(error[epoch] ** 2 + (systematic * nearest) ** 2)
    return result


@compiled
def extreme_deviation(
    mjd: FloatArray, flux: FloatArray, error: FloatArray, systematic: float, window_days: float
) -> tuple[int, float]:
    """Return which epoch deviates most, and how far: the largest of `deviations`, of which it needs a few only.

    Parameters
    ----------
    mjd, flux, error, systematic, window_days
        As in `deviations`, in order of time.

    Returns
    -------
    tuple
        The epoch and its signed deviation; −1 and NaN for a light curve of three points or fewer.
    """
    best, pull = -1, np.nan
    if flux.size <= MIN_BASELINE:
        return best, pull
    bounds = _bounds(mjd, flux, error, systematic, window_days)
    for epoch in np.argsort(-bounds):
        if best >= 0 and bounds[epoch] * (1.0 + 1e-9) < abs(pull):
            break
        own = _deviation(epoch, mjd, flux, error, systematic, window_days)
        if best < 0 or abs(own) > abs(pull) or (abs(own) == abs(pull) and epoch < best):
            best, pull = epoch, own
    return best, pull


def deviations(
    mjd: FloatArray, flux: FloatArray, error: FloatArray, systematic: float, window_days: float
) -> FloatArray:
    """Return the signed deviation of each epoch from its own baseline, in sigma.

    Parameters
    ----------
    mjd, flux, error
        The light curve, (n,); errors above zero, in the unit of the flux.
    systematic
        Fractional error of one epoch's flux scale.
    window_days
        Epochs this near to the one under test stay out of its baseline. Where fewer than a third of the epochs (and
        three) lie outside, the third that is farthest in time is taken.

    Returns
    -------
    NDArray
        (n,); NaN for a light curve of three points or fewer.
    """
    return np.asarray(
        _deviations(mjd.astype(np.float64), flux.astype(np.float64), error.astype(np.float64), systematic, window_days)
    )
