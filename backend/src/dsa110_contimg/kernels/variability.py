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


@compiled
def _baseline(flux: FloatArray, error: FloatArray, members: NDArray[np.int64]) -> tuple[float, float]:
    """Return the median of some epochs and its error: from their errors or their scatter, whichever is larger."""
    chosen = flux[members]
    middle = np.median(chosen)
    expected = np.sqrt(np.mean(error[members] ** 2))
    scatter = MAD_TO_SIGMA * np.median(np.abs(chosen - middle))
    return middle, MEDIAN_ERROR * max(expected, scatter) / np.sqrt(chosen.size)


@compiled
def _deviations(
    mjd: FloatArray, flux: FloatArray, error: FloatArray, systematic: float, window_days: float
) -> FloatArray:
    count = flux.size
    result = np.full(count, np.nan)
    if count <= MIN_BASELINE:
        return result
    least = max(MIN_BASELINE, (count + 2) // 3)
    for epoch in range(count):
        distance = np.abs(mjd - mjd[epoch])
        distance[epoch] = -1.0
        outside = np.flatnonzero(distance > window_days)
        if outside.size < least:
            # Too short a light curve for the window: the epochs farthest in time are the best baseline there is.
            outside = np.argsort(distance, kind="mergesort")[max(1, count - least) :]
        base, base_error = _baseline(flux, error, outside)
        variance = error[epoch] ** 2 + base_error**2 + (systematic * base) ** 2
        result[epoch] = (flux[epoch] - base) / np.sqrt(variance)
    return result


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
