r"""The judgment on a light curve: is it worth a person's time.

    ese             a dip of 7 to 180 days of `dip_sigma` or more, trials counted, the change of its neighbors taken
                    away (`photometry.dips`)
    variability     an epoch deviates from its own baseline by more than `candidate_sigma`, or χ²_ν is above
                    `candidate_chi2_nu` and a constant source shows that with less than the chance of as many sigma
                    or the flux rises for 7 to 180 days as significantly as a dip falls
    rapid_change    two epochs less than a day apart differ by more than half, and |Vs| ≥ 4.3

The chance matters where epochs are few: χ²_ν > 5 happens to one constant source in 2,000 with five epochs and to
none in 10⁷ with twelve. Errors carry the systematic of an epoch throughout, so that a light curve of a bright source
is not called variable for the last percent of its flux scale. What several neighbors do at the same epoch, the image
did.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, erfc

from dsa110_contimg.kernels.variability import pair_vs
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.dips import Dip
from dsa110_contimg.photometry.lightcurves import LightCurve, LightCurveStats

RAPID_DAYS = 1.0
RAPID_CHANGE = 0.5
RAPID_VS = 4.3
SHARED_SIGMA, SHARED_FRACTION = 2.5, 0.25
SAME_EPOCH_DAYS = 0.2


@dataclass(frozen=True)
class Candidate:
    """A source that varies more than chance and flux scale allow."""

    source_id: str
    flag_type: str
    """ese, rapid_change or variability."""
    significance: float
    """Of the dip for ese, |Vs| for rapid_change, sigma_deviation or that of a rise for variability."""
    metric: str
    """What `significance` is: dip, vs, rise or sigma_deviation."""
    mjd: float
    """Of the largest deviation, of the later epoch of the pair, or of the middle of the dip."""
    reason: str
    """In plain words."""
    before_mjd: float | None = None
    """The earlier epoch of a pair."""
    span_mjd: tuple[float, float] | None = None
    """When a dip or a rise began and ended."""
    neighbors_changed: bool = False
    """Neighbors did something alike meanwhile."""
    known_as: str | None = None
    """The pulsar or known variable that it is."""


def judge(
    stats: LightCurveStats,
    lightcurve: LightCurve,
    options: PhotometryOptions,
    dip: Dip | None = None,
    rise: Dip | None = None,
) -> Candidate | None:
    """Return why a source is a candidate, or None; dips first, then rapid changes, then rises."""
    if len(lightcurve) < options.min_epochs or stats.n_obs < options.min_epochs:
        return None
    return (
        event(lightcurve.source_id, dip, options)
        or rapid_change(lightcurve, options)
        or event(lightcurve.source_id, rise, options)
        or variability(stats, lightcurve, options)
    )


def event(source_id: str, dip: Dip | None, options: PhotometryOptions) -> Candidate | None:
    """Return a candidate for an extreme scattering event or a rise, or None for what chance may have made."""
    if dip is None or dip.significance < options.dip_sigma:
        return None
    middle = 0.5 * (dip.start_mjd + dip.end_mjd)
    kind, metric = ("variability", "rise") if dip.rise else ("ese", "dip")
    return Candidate(
        source_id,
        kind,
        dip.significance,
        metric,
        middle,
        dip.reason,
        span_mjd=(dip.start_mjd, dip.end_mjd),
        neighbors_changed=dip.neighbors_changed,
    )


def shared(candidate: Candidate, neighbors: Sequence[LightCurve], options: PhotometryOptions) -> bool:
    """Say whether several neighbors left their medians at the candidate's epoch too: then the image did it."""
    for mjd in (candidate.mjd, candidate.before_mjd):
        pulls = [] if mjd is None else [_pull(curve, mjd, options.systematic) for curve in neighbors]
        seen = np.array([pull for pull in pulls if pull is not None])
        fallen, risen = int(np.sum(seen < -SHARED_SIGMA)), int(np.sum(seen > SHARED_SIGMA))
        if max(fallen, risen) >= max(2, SHARED_FRACTION * seen.size):
            return True
    return False


def _pull(curve: LightCurve, mjd: float, systematic: float) -> float | None:
    """Return the deviation of a light curve from its median at the epoch nearest to a time, None if there is none."""
    if not len(curve):
        return None
    nearest = int(np.argmin(np.abs(curve.mjd - mjd)))
    if abs(curve.mjd[nearest] - mjd) > SAME_EPOCH_DAYS:
        return None
    middle = float(np.median(curve.flux_jy))
    return float((curve.flux_jy[nearest] - middle) / np.hypot(curve.flux_err_jy[nearest], systematic * middle))


def variability(stats: LightCurveStats, lightcurve: LightCurve, options: PhotometryOptions) -> Candidate | None:
    """Return a candidate whose flux left its baseline, or None."""
    if stats.sigma_deviation is None or stats.chi2_nu is None or stats.extreme_mjd is None:
        return None
    by_sigma = stats.sigma_deviation > options.candidate_sigma
    by_chi2 = stats.chi2_nu > options.candidate_chi2_nu and unlikely(
        stats.chi2_nu, stats.n_obs - 1, options.candidate_sigma
    )
    if not by_sigma and not by_chi2:
        return None
    change = (
        "" if stats.extreme_change is None else f"{_percent(stats.extreme_change)} at MJD {stats.extreme_mjd:.2f}, "
    )
    return Candidate(
        source_id=lightcurve.source_id,
        flag_type="variability",
        significance=stats.sigma_deviation,
        metric="sigma_deviation",
        mjd=stats.extreme_mjd,
        reason=f"{change}{stats.sigma_deviation:.1f} sigma from its baseline, reduced chi-square {stats.chi2_nu:.1f} "
        f"over {stats.n_obs} epochs",
    )


def unlikely(chi2_nu: float, degrees: int, sigma: float) -> bool:
    """Say whether a constant source shows this reduced chi-square less often than so many sigma (two-sided)."""
    return bool(chdtrc(degrees, chi2_nu * degrees) < erfc(sigma / np.sqrt(2.0)))


def rapid_change(lightcurve: LightCurve, options: PhotometryOptions) -> Candidate | None:
    """Return a candidate with a change by half within a day (its most significant pair), or None."""
    mjd, flux = lightcurve.mjd, lightcurve.flux_jy
    error = np.hypot(lightcurve.flux_err_jy, options.systematic * np.abs(flux))
    last = np.searchsorted(mjd, mjd + RAPID_DAYS, side="left")
    pairs = [(i, j) for i in range(len(lightcurve)) for j in range(i + 1, int(last[i]))]
    if not pairs:
        return None
    first, second = np.array(pairs).T
    significance = np.abs(pair_vs(flux[second], error[second], flux[first], error[first]))
    large = np.abs(flux[second] - flux[first]) > RAPID_CHANGE * np.abs(flux[first])
    significance = np.where(large, significance, 0.0)
    best = int(np.argmax(significance))
    if significance[best] < RAPID_VS:
        return None
    a, b = int(first[best]), int(second[best])
    hours = 24.0 * (mjd[b] - mjd[a])
    return Candidate(
        source_id=lightcurve.source_id,
        flag_type="rapid_change",
        significance=float(significance[best]),
        metric="vs",
        mjd=float(mjd[b]),
        before_mjd=float(mjd[a]),
        reason=f"{_percent(flux[b] / flux[a] - 1.0)} within {hours:.1f} hours, {significance[best]:.1f} sigma",
    )


def _percent(change: float) -> str:
    return f"{'rose' if change > 0 else 'fell'} by {100.0 * abs(change):.0f} %"
