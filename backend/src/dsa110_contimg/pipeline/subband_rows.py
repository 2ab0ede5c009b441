"""Fluxes in parts of the band, as rows of `photometry_subbands`: of tiles as measured, of mosaics from their tiles.

A mosaic's flux in one part of the band is the mean of its tiles' fluxes, weighted by 1/σ², which is what the pixels of
the mosaic are. A retracted mosaic's rows go with it; spectra are those of the epochs of a light curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import Photometry, SubbandFlux
from dsa110_contimg.database.photometry_repository import PhotometryRepository
from dsa110_contimg.imaging.subbands import SubbandFluxes
from dsa110_contimg.kernels.spectra import Lines, chromatic_change, spectral_index
from dsa110_contimg.kernels.variability import MEDIAN_ERROR
from dsa110_contimg.pipeline.rows import Column

FloatArray = NDArray[np.float64]


def tile_rows(image_path: str, found: SubbandFluxes | None) -> list[dict[str, Column]]:
    """Return the rows of a tile's image; parts without data have none."""
    if found is None:
        return []
    return [
        _row(image_path, name, part, float(found.freq_hz[part]), float(flux), float(error))
        for name, fluxes, errors in zip(found.names, found.flux_jy, found.flux_err_jy, strict=True)
        for part, (flux, error) in enumerate(zip(fluxes, errors, strict=True))
        if np.isfinite(flux) and np.isfinite(error) and error > 0.0
    ]


def mosaic_rows(session: Session, mosaic_path: str, image_paths: Sequence[str]) -> list[dict[str, Column]]:
    """Return the rows of a mosaic from those of its tiles' images."""
    sums: dict[tuple[str, int], list[float]] = {}
    tiles = select(SubbandFlux).where(SubbandFlux.image_path.in_(image_paths))
    for row in session.scalars(tiles.order_by(SubbandFlux.image_path)):
        if row.flux_jy is None or not row.flux_err_jy:
            continue
        weight = row.flux_err_jy**-2
        total = sums.setdefault((row.source_id, row.subband_idx), [0.0, 0.0, 0.0])
        for place, value in enumerate((1.0, row.freq_ghz * 1e9, row.flux_jy)):
            total[place] += weight * value
    return [
        _row(mosaic_path, name, part, freq / weight, flux / weight, weight**-0.5)
        for (name, part), (weight, freq, flux) in sorted(sums.items())
    ]


def _row(path: str, name: str, part: int, freq_hz: float, flux_jy: float, error_jy: float) -> dict[str, Column]:
    return {
        "image_path": path,
        "source_id": name,
        "subband_idx": part,
        "freq_ghz": freq_hz / 1e9,
        "flux_jy": flux_jy,
        "flux_err_jy": error_jy,
    }


@dataclass(frozen=True)
class EpochSpectrum:
    """One source at one epoch; fluxes by part of the band, ascending in frequency, None for what cannot be told."""

    mjd: float
    freq_ghz: list[float | None]
    flux_jy: list[float | None]
    flux_err_jy: list[float | None]
    index: float | None
    """Spectral index."""
    index_err: float | None
    change: float | None
    """Flux over the median of the epochs farther away than the window."""
    change_err: float | None
    slope: float | None
    """d ln(change)/d ln(frequency): zero for an error of the flux scale."""
    slope_err: float | None


def source_spectra(session: Session, source_id: str, window_days: float) -> list[EpochSpectrum]:
    """Return the spectra of a source through the epochs of its light curve, in order of time.

    Parameters
    ----------
    session
        Of `products`.
    window_days
        Epochs this near in time stay out of what an epoch is compared with.
    """
    query = select(Photometry.mjd, Photometry.image_path).where(
        Photometry.source_id == source_id,
        Photometry.in_lightcurve == 1,
        Photometry.retracted_at.is_(None),
        Photometry.mjd.is_not(None),
    )
    epochs = session.execute(query.order_by(Photometry.mjd)).all()
    place = {path: epoch for epoch, (_mjd, path) in enumerate(epochs)}
    rows = [row for row in PhotometryRepository.list_subbands(session, source_id) if row.image_path in place]
    if not rows:
        return []
    shape = (len(epochs), 1 + max(row.subband_idx for row in rows))
    freq, flux, error = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for row in rows:
        where = place[row.image_path], row.subband_idx
        freq[where], flux[where], error[where] = row.freq_ghz * 1e9, row.flux_jy or np.nan, row.flux_err_jy or np.nan
    mjd = np.array([row.mjd for row in epochs], float)
    measured = np.isfinite(flux).any(axis=1)
    mjd, freq, flux, error = mjd[measured], freq[measured], flux[measured], error[measured]
    indices, changes = spectral_index(freq, flux, error), _changes(mjd, freq, flux, error, window_days)
    change = np.exp(changes.level)
    return [
        EpochSpectrum(
            mjd=float(mjd[i]),
            freq_ghz=_numbers(freq[i] / 1e9),
            flux_jy=_numbers(flux[i]),
            flux_err_jy=_numbers(error[i]),
            index=_number(indices.slope[i]),
            index_err=_number(indices.slope_err[i]),
            change=_number(change[i]),
            change_err=_number(change[i] * changes.level_err[i]),
            slope=_number(changes.slope[i]),
            slope_err=_number(changes.slope_err[i]),
        )
        for i in range(mjd.size)
    ]


def event_slope(
    session: Session, source_id: str, span_mjd: tuple[float, float], window_days: float
) -> tuple[float, float] | None:
    """Return d ln(change)/d ln(frequency) of an event and its error, the mean of its epochs; None if nothing tells.

    Zero is an error of the flux scale, or a source that changes alike at all frequencies.
    """
    epochs = [
        (one.slope, one.slope_err)
        for one in source_spectra(session, source_id, window_days)
        if span_mjd[0] <= one.mjd <= span_mjd[1]
    ]
    known = [(slope, error) for slope, error in epochs if slope is not None and error]
    if not known:
        return None
    slope, error = np.array(known, np.float64).T
    weight = 1.0 / error**2
    return float(np.sum(weight * slope) / weight.sum()), float(weight.sum() ** -0.5)


def _changes(mjd: FloatArray, freq: FloatArray, flux: FloatArray, error: FloatArray, window_days: float) -> Lines:
    """Compare each epoch with the median of those outside of its window, part by part."""
    before, before_err = np.full(flux.shape, np.nan), np.full(flux.shape, np.nan)
    for epoch in range(mjd.size):
        far = np.abs(mjd - mjd[epoch]) > window_days
        for part in range(flux.shape[1]):
            known = far & np.isfinite(flux[:, part]) & (error[:, part] > 0.0)
            if known.any():
                before[epoch, part] = np.median(flux[known, part])
                before_err[epoch, part] = MEDIAN_ERROR * np.median(error[known, part]) / np.sqrt(known.sum())
    return chromatic_change(freq, flux, error, before, before_err)


def _numbers(values: FloatArray) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
