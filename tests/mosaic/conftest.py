"""Synthetic tiles: Gaussian sources under a drifting Airy beam, on noise that is correlated like the beam."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft

from dsa110_contimg.kernels.beams import airy_power
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines, separation
from dsa110_contimg.mosaic.common_beam import beam_matrix
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

TILE_STEP_DEG = 309.2376 / 240.0 * 1.00274
BEAM = Beam(170.0, 125.0, 110.0)
Source = tuple[float, float, float]
"""(ra_deg, dec_deg, flux_jy)"""


@functools.cache
def primary_beam(dec_deg: float, cell_deg: float, size: int) -> NDArray[np.float32]:
    """Mean of the Airy beam over 24 pointings along the meridian's drift; the same at every right ascension."""
    offset = (np.arange(size) - size // 2) * np.radians(cell_deg)
    ra0, dec0 = np.pi, np.radians(dec_deg)
    ra, dec = from_direction_cosines(-offset[None, :], offset[:, None], ra0, dec0)
    total = np.zeros((size, size))
    for step in _drift():
        total += airy_power(separation(ra, dec, ra0 + step, dec0), 1.405e9, 4.65)
    return (total / 24.0).astype(np.float32)


def toward(center: SkyPosition, source: Source) -> float:
    """The drift-averaged beam toward a source, without a pixel grid."""
    ra0, dec0 = np.radians(center)
    angle = separation(np.radians(source[0]), np.radians(source[1]), ra0 + _drift(), dec0)
    return float(np.mean(airy_power(angle, 1.405e9, 4.65)))


def _drift() -> NDArray[np.float64]:
    return np.asarray(np.radians((np.arange(24) - 11.5) * TILE_STEP_DEG / 24.0))


def gaussian(size: int, cell_deg: float, center: SkyPosition, source: Source, beam: Beam) -> NDArray[np.float64]:
    east, north, _ = direction_cosines(*np.radians(source[:2]), *np.radians(center))
    offset = (np.arange(size) - size // 2) * np.radians(cell_deg)
    to_arcsec = np.degrees(1.0) * 3600.0
    d_east, d_north = (-offset[None, :] - east) * to_arcsec, (offset[:, None] - north) * to_arcsec
    inverse = np.linalg.inv(beam_matrix(beam))
    square = inverse[0, 0] * d_east**2 + 2 * inverse[0, 1] * d_east * d_north + inverse[1, 1] * d_north**2
    return np.asarray(source[2] * np.exp(-4.0 * np.log(2.0) * square))


def beam_noise(size: int, cell_deg: float, beam: Beam, sigma: float, rng: np.random.Generator) -> NDArray[np.float64]:
    white = rng.normal(size=(size, size))
    kernel = beam_matrix(beam) / (8.0 * np.log(2.0)) / (3600.0 * cell_deg) ** 2
    v, u = fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :]
    response = np.exp(-2 * np.pi**2 * (kernel[0, 0] * u**2 - 2 * kernel[0, 1] * u * v + kernel[1, 1] * v**2))
    colored = fft.irfft2(fft.rfft2(white) * response, (size, size))
    return np.asarray(sigma * colored / colored.std())


def make_tile(
    center: tuple[float, float],
    sources: Sequence[Source] = (),
    *,
    index: int = 0,
    size: int = 360,
    cell_arcsec: float = 36.0,
    beam: Beam = BEAM,
    sigma: float = 1e-5,
    rng: np.random.Generator | None = None,
) -> Tile:
    """One tile; `index` counts tiles of 309 s along the drift. A source shows times the beam at its position."""
    position, cell = SkyPosition(center[0] % 360.0, center[1]), cell_arcsec / 3600.0
    response = primary_beam(position.dec_deg, cell, size).copy()
    ra0, dec0 = np.radians(position)
    sky = np.zeros((size, size))
    for source in sources:
        if separation(np.radians(source[0]), np.radians(source[1]), ra0, dec0) < np.radians(4.0):
            shape = gaussian(size, cell, position, source, beam)
            sky += shape * toward(position, source)
    sky += beam_noise(size, cell, beam, sigma, rng or np.random.default_rng(index))
    start = 60690.5 + index * 309.2376 / 86400.0
    shared: dict[str, Any] = {
        "center": position,
        "cell_deg": cell,
        "beam": beam,
        "freq_hz": 1.405e9,
        "bandwidth_hz": 187.5e6,
        "start_mjd": start,
        "end_mjd": start + 309.2376 / 86400.0,
        "exposure_s": 309.2376,
    }
    group_id = f"2025-01-15T12:{index:02d}:00"
    image = SkyImage(sky.astype(np.float32), **shared, header={"CALTABLES": f"{group_id}_bpcal,{group_id}_gcal"})
    return Tile(group_id, group_id, image, SkyImage(response, **shared, kind="beam"), start + 0.00179, sigma)


def make_strip(
    ra_deg: float, dec_deg: float, n_tiles: int, sources: Sequence[Source] = (), **kwargs: Any
) -> list[Tile]:
    """Tiles in a row, the way the sky drifts, centered on a right ascension."""
    return [
        make_tile((ra_deg + (k - (n_tiles - 1) / 2) * TILE_STEP_DEG, dec_deg), sources, index=k, **kwargs)
        for k in range(n_tiles)
    ]


@pytest.fixture
def tile() -> Callable[..., Tile]:
    return make_tile


@pytest.fixture
def strip() -> Callable[..., list[Tile]]:
    return make_strip
