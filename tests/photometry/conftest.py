"""A restored image with known sources. Positions go through astropy's WCS, not through the code under test."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.wcs import WCS
from numpy.typing import NDArray

from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, SkyPosition

FloatArray = NDArray[np.float64]


@dataclass
class Field:
    """An image under construction, in Jy/beam."""

    center: SkyPosition
    side: int
    cell_arcsec: float
    beam: Beam
    data: FloatArray

    @property
    def wcs(self) -> WCS:
        """The SIN projection as astropy has it."""
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.crval = list(self.center)
        wcs.wcs.crpix = [self.side // 2 + 1.0, self.side // 2 + 1.0]
        wcs.wcs.cdelt = [-self.cell_arcsec / 3600.0, self.cell_arcsec / 3600.0]
        return wcs

    def kernel(self, east_px: FloatArray, north_px: FloatArray) -> FloatArray:
        """The beam at offsets east and north, position angle from north through east."""
        angle = np.radians(self.beam.pa_deg)
        along = east_px * np.sin(angle) + north_px * np.cos(angle)
        across = east_px * np.cos(angle) - north_px * np.sin(angle)
        widths = np.array(self.beam[:2]) / self.cell_arcsec / 2.3548200450309493
        return np.asarray(np.exp(-0.5 * ((along / widths[0]) ** 2 + (across / widths[1]) ** 2)))

    def add_noise(self, rms_jy: float | FloatArray, rng: np.random.Generator) -> "Field":
        """Add noise that is correlated like the beam."""
        lag = np.fft.fftfreq(self.side).astype(np.float64) * self.side
        power = np.abs(np.fft.fft2(self.kernel(-lag[None, :], lag[:, None])))
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(self.side, self.side))) * np.sqrt(power)).real
        self.data += rms_jy * noise / noise.std()
        return self

    def add_sources(self, ra_deg: FloatArray, dec_deg: FloatArray, apparent_jy: FloatArray) -> "Field":
        """Add point sources that appear with the given brightness."""
        x, y = self.wcs.all_world2pix(ra_deg, dec_deg, 0)
        row, column = np.arange(self.side, dtype=float), np.arange(self.side, dtype=float)
        reach = 4.0 * self.beam.major_arcsec / self.cell_arcsec
        for x0, y0, flux in zip(x, y, apparent_jy, strict=True):
            rows, columns = np.abs(row - y0) < reach, np.abs(column - x0) < reach
            patch = self.kernel(-(column[columns] - x0)[None, :], (row[rows] - y0)[:, None])
            self.data[np.ix_(rows, columns)] += flux * patch
        return self

    def sky(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ICRS of zero-based pixels."""
        ra, dec = self.wcs.all_pix2world(x, y, 0)
        return np.asarray(ra), np.asarray(dec)

    def image(self, data: FloatArray | None = None, kind: str = "image", unit: str = "Jy/beam") -> SkyImage:
        """The image, or a map on its pixels."""
        plane = self.data if data is None else data
        beam = self.beam if unit == "Jy/beam" else None
        return SkyImage(plane.astype(np.float32), self.center, self.cell_arcsec / 3600.0, unit, kind, beam)

    def primary_beam(self, width_px: float) -> FloatArray:
        """A Gaussian response of a full width at half maximum."""
        offset = np.arange(self.side) - self.side // 2
        return np.asarray(np.exp(-4.0 * np.log(2.0) * (offset[:, None] ** 2 + offset[None, :] ** 2) / width_px**2))

    def scattered(self, spacing: int, rng: np.random.Generator, margin: int = 40) -> tuple[FloatArray, FloatArray]:
        """Pixel positions on a jittered grid, well apart, at random sub-pixel places."""
        line = np.arange(margin, self.side - margin, spacing)
        x, y = (grid.ravel() + rng.uniform(-3.0, 3.0, grid.size) for grid in np.meshgrid(line, line))
        return x, y


MakeField = Callable[..., Field]
MakeSky = Callable[..., SkyModel]


@pytest.fixture
def make_field() -> MakeField:
    def make(
        *,
        side: int = 768,
        center: tuple[float, float] = (24.42, 33.16),
        beam: tuple[float, float, float] = (24.0, 15.0, 110.0),
        cell_arcsec: float = 3.0,
    ) -> Field:
        return Field(SkyPosition(*center), side, cell_arcsec, Beam(*beam), np.zeros((side, side)))

    return make


@pytest.fixture
def make_sky() -> MakeSky:
    def make(ra_deg: FloatArray, dec_deg: FloatArray, flux_jy: FloatArray) -> SkyModel:
        names = [f"S{index:04d}" for index in range(len(ra_deg))]
        ra, dec, flux = (np.asarray(values, dtype=np.float64) for values in (ra_deg, dec_deg, flux_jy))
        return SkyModel(names, ra, dec, flux, np.zeros((len(names), 1)))

    return make
