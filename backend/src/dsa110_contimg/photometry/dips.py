r"""Extreme scattering events in light curves: found, their trials counted, held against their neighbors.

`kernels.dips` gives each light curve its most significant dip. Chance has many tries: with durations D_k and a span T

    N = 2 Σ_k T/D_k       p = N Q(z)       significance = Q⁻¹(p)

(Q the upper tail of the Gaussian; 2 as measured on simulated noise). A gain error dims a whole part of the sky, a
lens one source: the median change of the nearest sources through the same weeks is taken away from the depth. What
rises for a while and comes back is found by the same search, in light curves upside down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from dsa110_contimg.kernels import dips as kernel
from dsa110_contimg.kernels.noise import robust_sigma
from dsa110_contimg.kernels.variability import MEDIAN_ERROR, weighted_mean
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.lightcurves import LightCurve

FloatArray = NDArray[np.float64]

DURATIONS_DAYS: FloatArray = np.asarray(7.0 * 1.25 ** np.arange(15), np.float64)
"""7 to 159 days; the fit stretches the last to 199."""
TRIALS_PER_DURATION = 2.0
LEAST_PROBABILITY = 1e-250
NEIGHBORS, FEWEST_NEIGHBORS = 20, 5
CHANGED_SIGMA, LEAST_CHANGE = 3.0, 0.01
WORDS = {
    "box": "flat minimum",
    "spikes": "flat minimum between caustic spikes",
    "fast_fall": "fast fall, slow recovery",
    "slow_fall": "slow fall, fast recovery",
}


@dataclass(frozen=True)
class Dip:
    """The most significant dip of one light curve."""

    significance: float
    """Against the source's own noise, trials counted; a neighbor's change taken away."""
    start_mjd: float
    end_mjd: float
    depth: float
    """Over the baseline."""
    depth_err: float
    shape: str
    """As in `kernels.dips.SHAPES`."""
    ongoing: bool
    """The light curve ends in it."""
    n_epochs: int
    neighbors: str = ""
    """What the neighbors did meanwhile, in plain words."""
    neighbors_changed: bool = False
    rise: bool = False
    """It is a rise, found as a dip of the mirrored light curve."""

    @property
    def reason(self) -> str:
        """The dip in plain words."""
        days = self.end_mjd - self.start_mjd
        ending = ", not over yet" if self.ongoing else ""
        told = f", {self.neighbors}" if self.neighbors else ""
        shape = "" if self.rise else f", {WORDS[self.shape]}"
        return (
            f"{'rose' if self.rise else 'fell'} by {100.0 * self.depth:.0f} % for {days:.0f} days from MJD "
            f"{self.start_mjd:.0f}{ending}, {self.significance:.1f} sigma{shape}{told}"
        )


def search_dips(curves: Sequence[LightCurve], options: PhotometryOptions) -> list[Dip | None]:
    """Return the dip of each light curve, None where nothing stands out; the caller sets the threshold."""
    if not curves:
        return []
    offsets = np.concatenate([[0], np.cumsum([len(curve) for curve in curves])]).astype(np.int64)
    levels = [abs(float(np.median(curve.flux_jy))) if len(curve) else 0.0 for curve in curves]
    floors = np.repeat(options.systematic * np.array(levels), np.diff(offsets))
    mjd, flux, error = (
        np.concatenate([getattr(curve, name) for curve in curves]) for name in ("mjd", "flux_jy", "flux_err_jy")
    )
    rows = kernel.search(offsets, mjd, flux, np.hypot(error, floors), DURATIONS_DAYS, options.dip_systematic)
    return [
        _dip(row, float(np.ptp(curve.mjd))) if row[0] > 0.0 else None for row, curve in zip(rows, curves, strict=True)
    ]


def _dip(row: FloatArray, span_days: float) -> Dip:
    found = dict(zip(kernel.RESULTS, row.tolist(), strict=True))
    return Dip(
        significance=after_trials(found["sigma"], span_days),
        start_mjd=found["start"],
        end_mjd=found["end"],
        depth=found["depth"],
        depth_err=found["depth_err"],
        shape=kernel.SHAPES[int(found["shape"])],
        ongoing=bool(found["ongoing"]),
        n_epochs=int(found["n_inside"]),
    )


def mirrored(curve: LightCurve) -> LightCurve:
    """Return a light curve upside down about its median: what rose for a while falls."""
    flux = 2.0 * float(np.median(curve.flux_jy)) - curve.flux_jy if len(curve) else curve.flux_jy
    return LightCurve(curve.source_id, curve.mjd, flux, curve.flux_err_jy)


def search_rises(curves: Sequence[LightCurve], options: PhotometryOptions) -> list[Dip | None]:
    """Return the rise of each light curve, the contrary of a dip, None where nothing stands out."""
    found = search_dips([mirrored(curve) for curve in curves], options)
    return [None if dip is None else replace(dip, rise=True) for dip in found]


def after_trials(sigma: float, span_days: float) -> float:
    """Return the significance of a dip once all durations and times of a light curve have had their try."""
    trials = max(1.0, TRIALS_PER_DURATION * float(np.sum(span_days / DURATIONS_DAYS)))
    chance = trials * float(ndtr(-sigma))
    if chance < LEAST_PROBABILITY:
        return float(np.sqrt(sigma**2 - 2.0 * np.log(trials)))
    return max(0.0, float(-ndtri(min(chance, 0.5))))


def change_through(curve: LightCurve, dip: Dip) -> float:
    """Return the fraction by which a light curve changed through the weeks of a dip; NaN with too few epochs."""
    side = max(dip.end_mjd - dip.start_mjd, kernel.MIN_SIDE_DAYS)
    inside = (curve.mjd >= dip.start_mjd) & (curve.mjd <= dip.end_mjd)
    around = ~inside & (curve.mjd >= dip.start_mjd - side) & (curve.mjd <= dip.end_mjd + side)
    if inside.sum() < kernel.LEAST_INSIDE or around.sum() < kernel.LEAST_SIDE:
        return float("nan")
    level, _error = weighted_mean(curve.flux_jy[around], curve.flux_err_jy[around])
    now, _error = weighted_mean(curve.flux_jy[inside], curve.flux_err_jy[inside])
    return now / level - 1.0 if level > 0.0 else float("nan")


def against_neighbors(dip: Dip, own: LightCurve, neighbors: Sequence[LightCurve]) -> Dip:
    """Return a dip less what its neighbors did through the same weeks.

    Parameters
    ----------
    dip
        As found in `own`, alone.
    own
        The light curve with the dip.
    neighbors
        Light curves of the nearest sources that are bright enough to tell, `NEIGHBORS` at most.
    """
    if dip.rise:
        own, neighbors = mirrored(own), [mirrored(curve) for curve in neighbors]
    changes = np.array([change_through(curve, dip) for curve in neighbors])
    changes = changes[np.isfinite(changes)]
    if changes.size < FEWEST_NEIGHBORS:
        return replace(dip, neighbors=f"{changes.size} neighbors to compare with")
    change, scatter = robust_sigma(changes)
    error = MEDIAN_ERROR * scatter / float(np.sqrt(changes.size))
    told = f"{-100.0 * change if dip.rise else 100.0 * change:+.1f} ± {100.0 * error:.1f} %, {changes.size} sources"
    weaker = dip.significance / float(np.hypot(1.0, error * dip.significance / dip.depth))
    if abs(change) <= max(CHANGED_SIGMA * error, LEAST_CHANGE):
        return replace(dip, significance=weaker, neighbors=f"neighbors constant ({told})")
    # Means through the same weeks compare with each other, whatever the shape.
    whole = change_through(own, dip)
    left = max(0.0, 1.0 - max(0.0, change / whole)) if whole < 0.0 else 0.0
    return replace(dip, significance=weaker * left, neighbors=f"neighbors changed ({told})", neighbors_changed=True)
