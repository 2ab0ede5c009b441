"""Images of known sources anywhere on the sky, and where HEALPix has their pixels, for the tests of HiPS and MOC."""

from typing import NamedTuple

import numpy as np
from astropy import units
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

CELL_DEG = 20.0 / 3600.0
BEAM = Beam(120.0, 100.0, 30.0)
FWHM_DEG = 100.0 / 3600.0
NOISE_JY = 1e-3
OFFSETS_DEG = ((0.35, 0.21, 2.0), (-0.41, 0.33, 0.4), (-0.22, -0.45, 1.1))
"""East, north and flux (Jy) of three sources, off the center on both axes."""
PLACES = (SkyPosition(0.05, 33.0), SkyPosition(359.9, -2.1), SkyPosition(83.0, 85.0), SkyPosition(120.0, 90.0))


class Source(NamedTuple):
    """A source that was put in."""

    ra_deg: float
    dec_deg: float
    flux_jy: float


def sources_of(center: SkyPosition) -> list[Source]:
    """Return the sources of an image around a place."""
    found = []
    for east, north, flux in OFFSETS_DEG:
        ra, dec = from_direction_cosines(*np.radians([east, north]), *np.radians(center))
        found.append(Source(float(np.degrees(ra)), float(np.degrees(dec)), flux))
    return found


def sky_image(center: SkyPosition, *, shift: tuple[int, int] = (0, 0), shape: tuple[int, int] = (220, 260)) -> SkyImage:
    """Return an image of the three sources around a place, blank in a corner and beyond a circle.

    `shift` moves the pixels, not the sources: images of one center with several shifts overlap.
    """
    reference = (131.0 + shift[0], 108.0 + shift[1])
    y, x = np.mgrid[: shape[0], : shape[1]]
    east, north = -(x - reference[0]) * CELL_DEG, (y - reference[1]) * CELL_DEG
    data = np.zeros(shape)
    for l_deg, m_deg, flux in OFFSETS_DEG:
        data += flux * np.exp(-4.0 * np.log(2.0) * ((east - l_deg) ** 2 + (north - m_deg) ** 2) / FWHM_DEG**2)
    data[(x < 40) & (y < 30)] = np.nan
    data[np.hypot(x - 130, y - 110) > 135] = np.nan
    return SkyImage(
        data.astype(np.float32),
        center,
        CELL_DEG,
        kind="mosaic",
        beam=BEAM,
        freq_hz=1.405e9,
        bandwidth_hz=187.5e6,
        start_mjd=60690.5,
        end_mjd=60690.53,
        exposure_s=2700.0,
        noise_jy=NOISE_JY,
        field_name="mosaic_2025-01-15_12-00-00",
        header={"NTILES": 3},
        reference_pixel=reference,
    )


def true_value(center: SkyPosition, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what such an image holds at positions."""
    lmn = np.degrees(direction_cosines(np.radians(ra_deg), np.radians(dec_deg), *np.radians(center))[..., :2])
    total = np.zeros(lmn.shape[:-1])
    for l_deg, m_deg, flux in OFFSETS_DEG:
        total += flux * np.exp(
            -4.0 * np.log(2.0) * ((lmn[..., 0] - l_deg) ** 2 + (lmn[..., 1] - m_deg) ** 2) / FWHM_DEG**2
        )
    return total


class Pixel(NamedTuple):
    """A pixel of a HiPS: its tile, its row from the bottom, its column, and where HEALPix has its center."""

    tile: int
    row: int
    column: int
    ra_deg: float
    dec_deg: float


def pixel_at(ra_deg: float, dec_deg: float, order: int, width: int) -> Pixel:
    """Return the pixel that holds a position, by astropy-healpix."""
    bits = width.bit_length() - 1
    healpix = HEALPix(nside=1 << order + bits, order="nested")
    number = int(healpix.lonlat_to_healpix(ra_deg * units.deg, dec_deg * units.deg))
    lon, lat = healpix.healpix_to_lonlat(number)
    x = sum(((number >> 2 * bit) & 1) << bit for bit in range(bits))
    y = sum(((number >> 2 * bit + 1) & 1) << bit for bit in range(bits))
    return Pixel(number >> 2 * bits, width - 1 - x, y, float(lon.to_value(units.deg)), float(lat.to_value(units.deg)))
