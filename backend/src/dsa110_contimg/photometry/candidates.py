r"""The judgment on a light curve: is it worth a person's time.

    variability     an epoch deviates from its own baseline by more than `candidate_sigma`, or χ²_ν is above
                    `candidate_chi2_nu` and a constant source shows that with less than the chance of as many sigma
    rapid_change    two epochs less than a day apart differ by more than half, and |Vs| ≥ 4.3

The chance matters where epochs are few: χ²_ν > 5 happens to one constant source in 2,000 with five epochs and to
none in 10⁷ with twelve. Errors carry the systematic of an epoch throughout, so that a light curve of a bright source
is not called variable for the last percent of its flux scale.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, erfc

from dsa110_contimg.kernels.variability import pair_vs
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.lightcurves import LightCurve, LightCurveStats

RAPID_DAYS = 1.0
RAPID_CHANGE = 0.5
RAPID_VS = 4.3


@dataclass(frozen=True)
class Candidate:
    """A source that varies more than chance and flux scale allow."""

    source_id: str
    flag_type: str
    """variability or rapid_change."""
    significance: float
    """sigma_deviation for variability, |Vs| for rapid_change."""
    metric: str
    """What `significance` is: sigma_deviation or vs."""
    mjd: float
    """Of the largest deviation, or of the later epoch of the pair."""
    reason: str
    """In plain words."""


def judge(stats: LightCurveStats, lightcurve: LightCurve, options: PhotometryOptions) -> Candidate | None:
    """Return why a source is a candidate, or None; rapid changes first."""
    if len(lightcurve) < options.min_epochs or stats.n_obs < options.min_epochs:
        return None
    return rapid_change(lightcurve, options) or variability(stats, lightcurve, options)


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
        reason=f"{_percent(flux[b] / flux[a] - 1.0)} within {hours:.1f} hours, {significance[best]:.1f} sigma",
    )


def _percent(change: float) -> str:
    return f"{'rose' if change > 0 else 'fell'} by {100.0 * abs(change):.0f} %"
