r"""How far a tile's sources lie from where the catalogue has them.

On a tile's image of even noise an isolated source of flux S peaks at its place with S·P, whatever the slope of the
beam P. A Gaussian with the tile's restoring beam is fitted to the pixels above half of it. Each source's error is

    σ_axis = θ_axis/(2 √(2 ln 2) SNR)          Condon (1997)

along the beam's axes. The offset of the tile is the weighted mean of measured minus catalogue position, east and north
on the sky, outliers left out; its error grows with the scatter where the sources disagree by more than their errors,
so that errors of the catalogue are in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.coadd import MAD_TO_SIGMA
from dsa110_contimg.kernels.fluxes import BeamShape, cutouts, fit_offsets, position_errors, stencil
from dsa110_contimg.kernels.match import neighbor_separation
from dsa110_contimg.kernels.sphere import direction_cosines
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.visibilities import SkyModel

FloatArray = NDArray[np.float64]

MIN_SNR = 10.0
MIN_SOURCES = 3
ISOLATION_BEAMS = 3.0
CLIP_SIGMA = 4.0


class TileOffset(NamedTuple):
    """Measured minus catalogue positions of a tile's sources, on the sky, with 1σ errors."""

    east_arcsec: float
    north_arcsec: float
    east_error_arcsec: float
    north_error_arcsec: float
    n_sources: int


def measure_offset(tile: Tile, catalog: SkyModel, beam_limit: float) -> TileOffset | None:
    """Measure a tile's offset from a catalogue.

    Parameters
    ----------
    tile
        With its primary beam; its noise decides which sources are bright.
    catalog
        Positions and fluxes; what lies outside the tile is ignored but for isolation.
    beam_limit
        Sources at a smaller primary beam do not count.

    Returns
    -------
    TileOffset or None
        None where fewer than three isolated sources are expected, and found, above 10 sigma.
    """
    if tile.image.beam is None or len(catalog) < MIN_SOURCES:
        return None
    x, y = _expected_pixels(tile, catalog)
    use = np.flatnonzero(_fit_sources(tile, catalog, x, y, beam_limit))
    if use.size < MIN_SOURCES:
        return None
    cell = 3600.0 * tile.image.cell_deg
    beam = tile.image.beam
    shape = BeamShape(beam.major_arcsec / cell, beam.minor_arcsec / cell, float(np.radians(beam.pa_deg)))
    values, dx, dy = cutouts(tile.image.data, x[use], y[use], stencil(shape, 0.5, minimum=2))
    height, shift_x, shift_y = fit_offsets(values, dx, dy, shape)
    snr = height / tile.noise_jy
    found = np.isfinite(shift_x) & (snr >= MIN_SNR)
    errors = np.stack(position_errors(shape, snr[found]))
    shifts = np.stack([-shift_x[found], shift_y[found]])
    return _weighted(cell * shifts, cell * errors)


def _expected_pixels(tile: Tile, catalog: SkyModel) -> tuple[FloatArray, FloatArray]:
    """Return where sources should be, (x, y) each (n_source,); NaN behind the tile."""
    lmn = direction_cosines(np.radians(catalog.ra_deg), np.radians(catalog.dec_deg), *np.radians(tile.image.center))
    front = np.where(lmn[:, 2] > 0.0, 1.0 / np.radians(tile.image.cell_deg), np.nan)
    x_ref, y_ref = tile.image.center_pixel
    return x_ref - front * lmn[:, 0], y_ref + front * lmn[:, 1]


def _fit_sources(tile: Tile, catalog: SkyModel, x: FloatArray, y: FloatArray, beam_limit: float) -> NDArray[np.bool_]:
    """Return which sources should be bright and alone, away from the border and the beam's limit."""
    ny, nx = tile.image.data.shape
    major_deg = (tile.image.beam.major_arcsec if tile.image.beam else 0.0) / 3600.0
    edge = ISOLATION_BEAMS * major_deg / tile.image.cell_deg
    use = (x > edge) & (x < nx - 1 - edge) & (y > edge) & (y < ny - 1 - edge)
    use[use] = neighbor_separation(np.radians(catalog.ra_deg), np.radians(catalog.dec_deg))[use] > np.radians(
        ISOLATION_BEAMS * major_deg
    )
    response = tile.beam.data[np.rint(y[use]).astype(int), np.rint(x[use]).astype(int)]
    frequency = np.array([tile.image.freq_hz if np.isfinite(tile.image.freq_hz) else catalog.ref_freq_hz])
    expected = catalog.flux_at(frequency)[use, 0] * response
    use[use] = (response >= beam_limit) & (expected >= MIN_SNR * tile.noise_jy)
    return np.asarray(use)


def _weighted(shifts: FloatArray, errors: FloatArray) -> TileOffset | None:
    """Return the weighted mean of shifts with their errors, each (2, n); None if too few agree."""
    middle = np.median(shifts, axis=1, keepdims=True)
    scatter = MAD_TO_SIGMA * np.median(np.abs(shifts - middle), axis=1, keepdims=True)
    keep = np.all(np.abs(shifts - middle) <= CLIP_SIGMA * np.hypot(errors, scatter), axis=0)
    number = int(keep.sum())
    if number < MIN_SOURCES:
        return None
    shifts, weight = shifts[:, keep], errors[:, keep] ** -2.0
    mean = (weight * shifts).sum(axis=1) / weight.sum(axis=1)
    chi2 = (weight * (shifts - mean[:, None]) ** 2).sum(axis=1) / (number - 1)
    error = np.sqrt(np.maximum(chi2, 1.0) / weight.sum(axis=1))
    return TileOffset(float(mean[0]), float(mean[1]), float(error[0]), float(error[1]), number)
