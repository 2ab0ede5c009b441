r"""The flux scale of an epoch, from many sources, the one under test left out.

An epoch's flux scale is wrong by a factor c that all of its sources share. With M the median of a source over its
epochs (its own flux, so that catalogue errors cancel), source j of epoch e gives r_j = S_je/M_j and

    c_e = weighted median of r_j,  j ≠ the source under test          normalized flux = S_e/c_e
    σ² = (σ_S/c)² + (S σ_c/c²)²

Weights w = 1/((σ_S/M)² + f²) with the systematic f of an epoch keep the brightest source from deciding alone. Its error
is that of a weighted median, with the scatter s that the ratios have in units of those weights:

    σ_c = √(π/2) s √(Σ w²)/Σ w^1.5

Fewer than five references give no correction.

One bad tile spoils a part of a mosaic. Where the references nearest to a source agree that the scale there is another
one (by 4σ), their median joins the factor, and its error the error.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dsa110_contimg.kernels.noise import MAD_TO_SIGMA
from dsa110_contimg.kernels.variability import MEDIAN_ERROR
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import PhotometryFlag
from dsa110_contimg.photometry.lightcurves import UNUSABLE

FloatArray = NDArray[np.float64]

MIN_REFERENCES = 5
VARIABLE_CHI2 = 4.0
"""A reference with a larger reduced chi-square varies."""
REFERENCE_SNR = 20.0
NEAREST, FEWEST_NEAR, NEAR_DEG = 12, 8, 1.0
LOCAL_SIGMA = 4.0
LEAST_SCATTER = 0.01
"""A few neighbors may agree by chance."""
NO_REFERENCE = UNUSABLE | PhotometryFlag.CONFUSED | PhotometryFlag.NEAR_BRIGHT
"""Measurements with one of these flags set no flux scale."""


class EpochCorrection(NamedTuple):
    """The flux scale of one epoch: measured fluxes are divided by the factor."""

    factor: float
    error: float
    n: int


def reference_fluxes(flux_jy: FloatArray) -> FloatArray:
    """Return each source's own median over its measured epochs, (n_source,), of fluxes (n_source, n_epoch)."""
    measured = np.isfinite(flux_jy)
    result = np.full(len(flux_jy), np.nan)
    known = measured.any(axis=1)
    result[known] = np.nanmedian(flux_jy[known], axis=1)
    return result


def _ratios(
    measured_jy: FloatArray, measured_err_jy: FloatArray, reference_jy: FloatArray, systematic: float
) -> tuple[FloatArray, FloatArray]:
    """Return flux ratios and their weights, zero for sources that cannot say anything."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = measured_jy / reference_jy
        weight = 1.0 / ((measured_err_jy / reference_jy) ** 2 + systematic**2)
        good = np.isfinite(ratio) & np.isfinite(weight) & (reference_jy > 0.0) & (measured_err_jy > 0.0)
    return np.where(good, ratio, 0.0), np.where(good, weight, 0.0)


def epoch_correction(
    measured_jy: FloatArray, measured_err_jy: FloatArray, reference_jy: FloatArray, systematic: float = 0.03
) -> EpochCorrection | None:
    """Return the flux scale of one epoch from its reference sources, (n,) each; None with fewer than five."""
    factors, errors, counts = leave_one_out(
        np.append(measured_jy, np.nan), np.append(measured_err_jy, np.nan), np.append(reference_jy, np.nan), systematic
    )
    return (
        EpochCorrection(float(factors[-1]), float(errors[-1]), int(counts[-1]))
        if counts[-1] >= MIN_REFERENCES
        else None
    )


def leave_one_out(
    measured_jy: FloatArray,
    measured_err_jy: FloatArray,
    reference_jy: FloatArray,
    systematic: float = 0.03,
    least_scatter: float = 0.0,
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return the flux scale of one epoch for each source, from all of the others.

    One sort serves all: taking a source away shifts the weighted median's place in the running sum of weights.

    Parameters
    ----------
    measured_jy, measured_err_jy, reference_jy
        Flux at this epoch, its error, and the source's own flux, (n_source,); NaN in any leaves the source out of the
        references but not out of the answer.
    systematic
        Fractional error that no single source's ratio is better than.
    least_scatter
        Smallest s. A source's own flux follows its few epochs, so that young light curves scatter too little.

    Returns
    -------
    tuple
        Factor and its error (NaN with fewer than five references), and number of references, each (n_source,).
    """
    ratio, weight = _ratios(measured_jy, measured_err_jy, reference_jy, systematic)
    used = np.flatnonzero(weight > 0.0)
    counts = used.size - (weight > 0.0).astype(np.int64)
    factor, error = np.full(ratio.size, np.nan), np.full(ratio.size, np.nan)
    enough = counts >= MIN_REFERENCES
    if not enough.any():
        return factor, error, counts
    order = used[np.argsort(ratio[used], kind="stable")]
    values, weights = ratio[order], weight[order]
    running = np.cumsum(weights)
    place = np.full(ratio.size, order.size)
    place[order] = np.arange(order.size)
    factor[enough] = _median_without(values, running, place, weight)[enough]
    pulls = np.abs(values - np.interp(0.5, running / running[-1], values)) * np.sqrt(weights)
    squares, powers = np.sum(weights**2) - weight**2, np.sum(weights**1.5) - weight**1.5
    scatter = np.maximum(MAD_TO_SIGMA * float(np.median(pulls)), least_scatter)
    scatter = scatter * np.sqrt(counts / np.maximum(counts - 2, 1))
    error[enough] = (MEDIAN_ERROR * scatter * np.sqrt(squares) / powers)[enough]
    return factor, error, counts


def _median_without(
    values: FloatArray, running: FloatArray, place: NDArray[np.int64], weight: FloatArray
) -> FloatArray:
    """Return the weighted median of sorted values without the one at each place.

    Parameters
    ----------
    values, running
        Sorted values and the running sum of their weights, (n_used,).
    place, weight
        Which value to leave out (n_used: none) and its weight, (n_source,).
    """
    half = 0.5 * (running[-1] - weight)
    middle = np.zeros(place.size)
    for side in ("left", "right"):
        # "left" and "right" differ only where the sum meets one half exactly, as for an even number of equal weights.
        before = np.searchsorted(running, half, side=side)
        after = np.searchsorted(running, half + weight, side=side)
        index = np.where(before < place, before, np.maximum(after, np.minimum(place + 1, values.size - 1)))
        middle += 0.5 * values[np.minimum(index, values.size - 1)]
    return middle


def local_scale(ratio: FloatArray, usable: NDArray[np.bool_], places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the flux scale around each source relative to that of the epoch, and its error; one and zero: the same.

    Parameters
    ----------
    ratio
        Flux on the scale of the epoch over the source's own flux, (n_source,).
    usable
        Sources whose ratio tells something, (n_source,).
    places
        Unit vectors, (n_source, 3).
    """
    scale, error = np.ones(ratio.size), np.zeros(ratio.size)
    chosen = np.flatnonzero(usable)
    if chosen.size <= FEWEST_NEAR:
        return scale, error
    reach = 2.0 * np.sin(0.5 * np.radians(NEAR_DEG))
    count = min(NEAREST + 1, chosen.size)
    _apart, nearest = cKDTree(places[chosen]).query(places, k=count, distance_upper_bound=reach)
    known = nearest < chosen.size
    index = chosen[np.where(known, nearest, 0)]
    around = np.where(known & (index != np.arange(ratio.size)[:, None]), ratio[index], np.nan)
    number = np.isfinite(around).sum(axis=1)
    enough = np.flatnonzero(number >= FEWEST_NEAR)
    around, number = around[enough], number[enough]
    middle = np.nanmedian(around, axis=1)
    scatter = MAD_TO_SIGMA * np.nanmedian(np.abs(around - middle[:, None]), axis=1)
    middle_error = MEDIAN_ERROR * np.maximum(scatter, LEAST_SCATTER) / np.sqrt(number)
    differs = np.abs(middle - 1.0) > LOCAL_SIGMA * middle_error
    scale[enough[differs]], error[enough[differs]] = middle[differs], middle_error[differs]
    return scale, error


def normalize(
    flux_jy: FloatArray,
    flux_err_jy: FloatArray,
    is_reference: NDArray[np.bool_],
    options: PhotometryOptions,
    places: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Put the epochs of many sources on one flux scale.

    Parameters
    ----------
    flux_jy, flux_err_jy
        (n_source, n_epoch); NaN where a source was not measured.
    is_reference
        (n_source,): sources that may set the scale (`reference_mask`); none sets its own.
    options
        Its systematic bounds the weight of a bright reference.
    places
        Unit vectors of the sources, (n_source, 3); without them an epoch has one scale everywhere.

    Returns
    -------
    tuple
        Normalized fluxes, their errors, and the factors, each (n_source, n_epoch); where the references are too few
        the factor is NaN and the fluxes stay as measured.
    """
    reference = reference_fluxes(flux_jy)
    factors, errors = np.full(flux_jy.shape, np.nan), np.full(flux_jy.shape, np.nan)
    # The second round takes the medians from fluxes whose epochs already agree.
    for _ in range(2):
        usable = np.where(is_reference, reference, np.nan)
        for epoch in range(flux_jy.shape[1]):
            factors[:, epoch], errors[:, epoch], _n = leave_one_out(
                flux_jy[:, epoch], flux_err_jy[:, epoch], usable, options.systematic, flux_jy.shape[1] ** -0.5
            )
        scaled = flux_jy / np.where(np.isfinite(factors), factors, 1.0)
        reference = reference_fluxes(scaled)
        steady = is_reference & _steady(scaled, flux_err_jy, reference, options.systematic)
        # Where nearly all seem to vary, it is not they that do.
        is_reference = steady if steady.sum() > max(MIN_REFERENCES, 0.5 * is_reference.sum()) else is_reference
    if places is not None:
        _add_local(flux_jy, np.where(is_reference, reference, np.nan), places, factors, errors)
    return (*_scaled(flux_jy, flux_err_jy, factors, errors), factors)


def epoch_scale(
    flux_jy: FloatArray,
    flux_err_jy: FloatArray,
    reference_jy: FloatArray,
    places: FloatArray,
    systematic: float,
    n_epochs: float,
) -> tuple[FloatArray, FloatArray]:
    """Put one more epoch on the flux scale of its sources.

    Parameters
    ----------
    flux_jy, flux_err_jy
        As measured, (n_source,).
    reference_jy
        The sources' own fluxes, of earlier epochs, (n_source,); NaN where a source is no reference.
    places
        Unit vectors, (n_source, 3).
    systematic
        Bounds the weight of a bright reference.
    n_epochs
        On how many epochs those fluxes rest.

    Returns
    -------
    tuple
        Normalized fluxes and their errors, (n_source,); as measured where the references are too few.
    """
    least = max(n_epochs, 1.0) ** -0.5
    factors, errors, _n = leave_one_out(flux_jy, flux_err_jy, reference_jy, systematic, least)
    one = (array[:, None] for array in (flux_jy, factors, errors))
    flux, factor, error = (array.copy() for array in one)
    _add_local(flux, reference_jy, places, factor, error)
    return _scaled(flux_jy, flux_err_jy, factor[:, 0], error[:, 0])


def _scaled(
    flux_jy: FloatArray, flux_err_jy: FloatArray, factors: FloatArray, errors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return fluxes over their factors, and errors with those of the factors; as they are where a factor is NaN."""
    factor = np.where(np.isfinite(factors), factors, 1.0)
    error = np.where(np.isfinite(errors), errors, 0.0)
    return flux_jy / factor, np.hypot(flux_err_jy / factor, flux_jy * error / factor**2)


def _steady(
    flux_jy: FloatArray, flux_err_jy: FloatArray, reference: FloatArray, systematic: float
) -> NDArray[np.bool_]:
    """Return the sources whose fluxes agree with their own, (n_source,): variable ones set no scale."""
    expected = flux_err_jy**2 + (systematic * reference[:, None]) ** 2
    pulls = np.where(np.isfinite(flux_jy), (flux_jy - reference[:, None]) ** 2 / expected, 0.0)
    number = np.isfinite(flux_jy).sum(axis=1)
    return np.asarray(pulls.sum(axis=1) < VARIABLE_CHI2 * np.maximum(number - 1, 1))


def _add_local(
    flux_jy: FloatArray, reference: FloatArray, places: FloatArray, factors: FloatArray, errors: FloatArray
) -> None:
    """Let the factors and errors of each epoch, (n_source, n_epoch), follow the scale around each source; in place."""
    for epoch in range(flux_jy.shape[1]):
        ratio = flux_jy[:, epoch] / factors[:, epoch] / reference
        scale, error = local_scale(ratio, np.isfinite(ratio), places)
        errors[:, epoch] = np.hypot(errors[:, epoch] * scale, factors[:, epoch] * error)
        factors[:, epoch] *= scale


def reference_mask(
    flux_jy: FloatArray, flux_err_jy: FloatArray, flags: NDArray[np.int64], anchors: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return the sources that may set an epoch's flux scale, (n_source,).

    Parameters
    ----------
    flux_jy, flux_err_jy, flags
        (n_source, n_epoch).
    anchors
        (n_source,): calibrators on which the epoch was solved; their flux is the scale and cannot test it.

    Returns
    -------
    NDArray
        True for a median signal-to-noise ratio of 20, in half of the epochs or more, without a flag in the median
        epoch that makes a flux doubtful.
    """
    measured = np.isfinite(flux_jy) & (flux_err_jy > 0.0)
    doubtful = (np.asarray(flags, np.int64) & int(NO_REFERENCE)) != 0
    snr = reference_fluxes(np.where(measured, flux_jy / np.where(measured, flux_err_jy, 1.0), np.nan))
    often = measured.sum(axis=1) >= 0.5 * flux_jy.shape[1]
    clean = (doubtful & measured).sum(axis=1) < 0.5 * np.maximum(measured.sum(axis=1), 1)
    accepted = np.nan_to_num(snr) >= REFERENCE_SNR
    return np.asarray(accepted & often & clean & (True if anchors is None else ~anchors))
