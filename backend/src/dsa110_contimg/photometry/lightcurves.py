"""Light curves and their statistics: one flux per source and sidereal transit.

A source is seen by several tiles and by overlapping mosaics in one transit. They share photons, so that one row feeds
the statistics: that of the larger beam weight. The formulas are those of `kernels.variability`; fluxes are Jy here
and mJy in `LightCurveStats`, as in the tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels import moments as kernel
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import PhotometryFlag
from dsa110_contimg.telescope import SIDEREAL_DAY_S

FloatArray = NDArray[np.float64]

JY_TO_MJY = 1000.0
UNUSABLE = PhotometryFlag.EDGE | PhotometryFlag.LOW_BEAM | PhotometryFlag.TWIN
"""Measurements with one of these flags stay out of the statistics."""


@dataclass(frozen=True)
class LightCurve:
    """The rows of one source that feed its statistics: ascending in time, finite, errors above zero."""

    source_id: str
    mjd: FloatArray
    flux_jy: FloatArray
    flux_err_jy: FloatArray
    upper_limit_jy: FloatArray | None = None
    """(n,); NaN for a detection."""

    def __len__(self) -> int:
        return self.mjd.size


@dataclass(frozen=True)
class LightCurveStats:
    """What `variability_stats` holds of one source; fluxes in mJy, None where the epochs are too few."""

    n_obs: int
    mean_flux_mjy: float | None
    std_flux_mjy: float | None
    min_flux_mjy: float | None
    max_flux_mjy: float | None
    chi2_nu: float | None
    """About a constant, errors with the systematic floor."""
    sigma_deviation: float | None
    """Largest deviation of an epoch from its own baseline, without sign."""
    eta_metric: float | None
    """Measurement errors only."""
    v_metric: float | None
    last_mjd: float | None
    extreme_mjd: float | None
    """When the largest deviation happened."""
    extreme_change: float | None
    """Flux there over the median of the light curve, minus one."""


def clean_lightcurve(
    source_id: str,
    mjd: FloatArray,
    flux_jy: FloatArray,
    flux_err_jy: FloatArray,
    flags: NDArray[np.int64] | None = None,
) -> LightCurve:
    """Return a light curve in order of time without unusable rows: not finite, no error, EDGE, LOW_BEAM, TWIN."""
    mjd, flux, error = (np.asarray(values, dtype=np.float64) for values in (mjd, flux_jy, flux_err_jy))
    good = np.isfinite(mjd) & np.isfinite(flux) & np.isfinite(error) & (error > 0.0)
    if flags is not None:
        good &= (np.asarray(flags, dtype=np.int64) & int(UNUSABLE)) == 0
    order = np.flatnonzero(good)[np.argsort(mjd[good], kind="stable")]
    return LightCurve(source_id, mjd[order], flux[order], error[order])


def summarize(
    mjd: FloatArray, flux_jy: FloatArray, flux_err_jy: FloatArray, options: PhotometryOptions
) -> LightCurveStats:
    """Return the statistics of a light curve given as arrays (n,), in any order; bad rows are left out."""
    return statistics([clean_lightcurve("", mjd, flux_jy, flux_err_jy)], options)[0]


def statistics(curves: Sequence[LightCurve], options: PhotometryOptions) -> list[LightCurveStats]:
    """Return the statistics of light curves."""
    return statistics_of(settle(curves, options))


def settle(curves: Sequence[LightCurve], options: PhotometryOptions) -> FloatArray:
    """Return the moments (`kernels.moments`) of light curves, (n_source, n_column)."""
    if not curves:
        return kernel.empty(0)
    offsets = np.concatenate([[0], np.cumsum([len(curve) for curve in curves])]).astype(np.int64)
    mjd, flux, error = (
        np.concatenate([getattr(curve, name) for curve in curves]) for name in ("mjd", "flux_jy", "flux_err_jy")
    )
    return np.asarray(kernel.settle(offsets, mjd, flux, error, options.systematic, options.baseline_window_days))


def statistics_columns(moments: FloatArray) -> dict[str, FloatArray]:
    """Return the statistics that moments (n_source, n_column) stand for, by field of `LightCurveStats`; NaN is None."""
    n, first, second = (moments[:, column] for column in (kernel.N, kernel.D, kernel.DD))
    eta = kernel.reduced_spread(n, *(moments[:, column] for column in (kernel.W, kernel.WD, kernel.WDD)))
    chi2 = kernel.reduced_spread(n, *(moments[:, column] for column in (kernel.V, kernel.VD, kernel.VDD)))
    std = np.sqrt(kernel.reduced_spread(n, n, first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = moments[:, kernel.ORIGIN] + first / n
        v_metric = np.where(mean != 0.0, std / mean, np.nan)
        change = np.where(
            moments[:, kernel.LEVEL] != 0.0, moments[:, kernel.EXTREME] / moments[:, kernel.LEVEL] - 1.0, np.nan
        )
    return {
        "n_obs": n,
        "mean_flux_mjy": JY_TO_MJY * mean,
        "std_flux_mjy": JY_TO_MJY * std,
        "min_flux_mjy": JY_TO_MJY * moments[:, kernel.LOW],
        "max_flux_mjy": JY_TO_MJY * moments[:, kernel.HIGH],
        "chi2_nu": chi2,
        "sigma_deviation": moments[:, kernel.DEVIATION],
        "eta_metric": eta,
        "v_metric": v_metric,
        "last_mjd": moments[:, kernel.LAST],
        "extreme_mjd": moments[:, kernel.WHEN],
        "extreme_change": change,
    }


def statistics_of(moments: FloatArray) -> list[LightCurveStats]:
    """Return the statistics that moments stand for, source by source."""
    columns = [column.tolist() for column in statistics_columns(moments).values()]
    return [
        LightCurveStats(int(n), *(value if np.isfinite(value) else None for value in row))
        for n, *row in zip(*columns, strict=True)
    ]


def one_per_transit(
    source_ids: list[str] | NDArray[np.int64], mjd: FloatArray, beam_weight: FloatArray
) -> NDArray[np.bool_]:
    """Pick one row per source and sidereal transit: the one with the larger beam weight.

    Parameters
    ----------
    source_ids
        Source of each row, by name or number, (n_row,).
    mjd
        Time of each row, (n_row,).
    beam_weight
        Weight that the primary beam gave the source there (PB², or 1/σ²), (n_row,); NaN counts as least.

    Returns
    -------
    NDArray
        True for the rows that feed the statistics; the earliest of equals.
    """
    picked = np.zeros(len(source_ids), np.bool_)
    if not len(source_ids):
        return picked
    times, names = np.asarray(mjd, dtype=np.float64), np.asarray(source_ids)
    weight = np.where(np.isfinite(beam_weight), beam_weight, -np.inf)
    order = np.lexsort((times, names))
    # A transit lasts minutes; a quarter of a day also parts the upper from the lower transit of a polar source.
    fresh = (names[order][1:] != names[order][:-1]) | (np.diff(times[order]) > 0.25 * SIDEREAL_DAY_S / 86400.0)
    transit = np.concatenate([[0], np.cumsum(fresh)])
    ranked = np.lexsort((times[order], -weight[order], transit))
    first = np.concatenate([[True], np.diff(transit[ranked]) > 0])
    picked[order[ranked[first]]] = True
    return picked
