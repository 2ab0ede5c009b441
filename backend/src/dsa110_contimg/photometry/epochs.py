r"""The flux scale of an epoch, from many sources, the one under test left out.

An epoch's flux scale is wrong by a factor c that all of its sources share. With M the median of a source over its
epochs (its own flux, so that catalogue errors cancel), source j of epoch e gives r_j = S_je/M_j and

    c_e = weighted median of r_j,  j ≠ the source under test          normalized flux = S_e/c_e
    σ² = (σ_S/c)² + (S σ_c/c²)²

Weights 1/((σ_S/M)² + f²) with the systematic f of an epoch keep the brightest source from deciding alone. Fewer than
five references give no correction.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.noise import MAD_TO_SIGMA
from dsa110_contimg.kernels.variability import MEDIAN_ERROR
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import PhotometryFlag
from dsa110_contimg.photometry.lightcurves import UNUSABLE

FloatArray = NDArray[np.float64]

MIN_REFERENCES = 5
REFERENCE_SNR = 20.0
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
    measured_jy: FloatArray, measured_err_jy: FloatArray, reference_jy: FloatArray, systematic: float = 0.03
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
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
    formal = MEDIAN_ERROR / np.sqrt(np.maximum(running[-1] - weight, 1e-300))
    error[enough] = np.maximum(formal, MEDIAN_ERROR * scatter / np.sqrt(np.maximum(counts, 1)))[enough]
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


def normalize(
    flux_jy: FloatArray, flux_err_jy: FloatArray, is_reference: NDArray[np.bool_], options: PhotometryOptions
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
                flux_jy[:, epoch], flux_err_jy[:, epoch], usable, options.systematic
            )
        reference = reference_fluxes(flux_jy / np.where(np.isfinite(factors), factors, 1.0))
    factor = np.where(np.isfinite(factors), factors, 1.0)
    error = np.where(np.isfinite(errors), errors, 0.0)
    return flux_jy / factor, np.hypot(flux_err_jy / factor, flux_jy * error / factor**2), factors


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
