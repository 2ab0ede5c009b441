"""The detection plane: an image whose noise is even, and what turns its values into fluxes.

A source of flux S appears in a tile's restored image with S·P, P the drift-averaged primary beam at its position; the
noise there is even. Dividing by P first (pbcor) makes fluxes right and noise uneven, so that detection and noise
belong to the flat image and only the result is divided:

    tile, `image`       flat = data            response = P
    tile, `pbcor`       flat = data · P        response = P
    mosaic              flat = data/noise      response = 1/noise
    neither is given    flat = data            response = 1

Pixels and sky are tied by the SIN projection of `SkyImage`: x runs against right ascension, y with declination.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.kernels.fluxes import BeamShape, bilinear, cutouts
from dsa110_contimg.kernels.noise import over_noise, robust_sigma
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines
from dsa110_contimg.visibilities import SkyImage

FloatArray = NDArray[np.float64]

SAMPLED_PIXELS = 400_000


@dataclass(frozen=True)
class DetectionPlane:
    """An image of even noise with its beam and response."""

    flat: NDArray[np.float32]
    """(ny, nx); NaN is blank."""
    response: NDArray[np.float32] | None
    """(ny, nx): flux in Jy is flat over response; None is one everywhere."""
    relative: bool
    """True where `response` is 1/noise, which has no meaning as a primary beam."""
    shape: BeamShape
    image: SkyImage

    def response_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the response at pixel positions, (n,); NaN where it is blank."""
        return np.ones(x.size) if self.response is None else bilinear(self.response, x, y)

    def beam_response_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the beam response relative to the best of the image, between 0 and 1, (n,)."""
        if not self.relative or self.response is None:
            return self.response_at(x, y)
        return self.response_at(x, y) / float(np.nanmax(self.response))

    def sky_cutouts(
        self, x: FloatArray, y: FloatArray, offsets: NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Read the pixels around positions to fit a beam to them, at the level of the flat image (`fluxes.cutouts`).

        A mosaic has sources in their places, but its noise map steps where a tile ends, and the flat image with it.
        """
        values, dx, dy = cutouts(self.flat, x, y, offsets)
        if self.relative and self.response is not None:
            response, _dx, _dy = cutouts(self.response, x, y, offsets)
            values *= self.response_at(np.rint(x), np.rint(y))[:, None] / response
        return values, dx, dy

    def sigma(self) -> float:
        """Return the robust noise of the whole flat image; NaN for a blank one."""
        step = max(1, self.flat.size // SAMPLED_PIXELS)
        # A step that divides the length of a line would only look at some columns.
        values = self.flat.ravel()[:: step + (self.flat.shape[1] % step == 0 and step > 1)]
        values = values[np.isfinite(values)]
        return robust_sigma(values.astype(np.float64))[1] if values.size else np.nan


def detection_plane(image: SkyImage, beam: SkyImage | None = None, noise: SkyImage | None = None) -> DetectionPlane:
    """Return the flat-noise view of a tile (with its beam image) or a mosaic (with its noise map).

    Raises
    ------
    ConfigurationError
        If the image has no restoring beam, or the map does not lie on its pixels.
    """
    if image.beam is None:
        raise ConfigurationError(
            f"the {image.kind} image of {image.field_name or 'this field'} has no restoring beam (BMAJ, BMIN, BPA), "
            "without which no flux can be measured: use the restored image"
        )
    other = noise if noise is not None else beam
    if other is not None and (other.data.shape != image.data.shape or other.center_pixel != image.center_pixel):
        raise ConfigurationError(
            f"the {other.kind} map has {other.data.shape} pixels and the image {image.data.shape}: "
            "give the map that was made with this image"
        )
    cell_arcsec = 3600.0 * image.cell_deg
    shape = BeamShape(
        image.beam.major_arcsec / cell_arcsec,
        image.beam.minor_arcsec / cell_arcsec,
        float(np.radians(image.beam.pa_deg)),
    )
    if other is None:
        return DetectionPlane(image.data, None, relative=False, shape=shape, image=image)
    if noise is not None:
        return DetectionPlane(*over_noise(image.data, noise.data), relative=True, shape=shape, image=image)
    positive = np.where(other.data > 0.0, other.data, np.nan).astype(np.float32)
    flat = image.data * positive if image.kind == "pbcor" else np.where(np.isfinite(positive), image.data, np.nan)
    return DetectionPlane(flat, positive, relative=False, shape=shape, image=image)


def to_pixel(image: SkyImage, ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return zero-based pixel positions (x, y), each (n,); NaN behind the tangent plane."""
    lmn = direction_cosines(np.radians(ra_deg), np.radians(dec_deg), *np.radians(image.center))
    cell = np.radians(image.cell_deg)
    front = np.where(lmn[..., 2] > 0.0, 1.0, np.nan)
    x0, y0 = image.center_pixel
    return x0 - front * lmn[..., 0] / cell, y0 + front * lmn[..., 1] / cell


def to_sky(image: SkyImage, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ICRS (ra_deg, dec_deg) of zero-based pixel positions, each (n,); NaN off the sky."""
    cell = np.radians(image.cell_deg)
    x0, y0 = image.center_pixel
    ra, dec = from_direction_cosines(-(x - x0) * cell, (y - y0) * cell, *np.radians(image.center))
    return np.degrees(ra), np.degrees(dec)


def tangent_offsets_arcsec(
    ra_deg: FloatArray, dec_deg: FloatArray, ra0_deg: FloatArray, dec0_deg: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return how far positions lie east and north of others (arcsec on the sky), each (n,)."""
    ra, dec, ra0, dec0 = (np.radians(values) for values in (ra_deg, dec_deg, ra0_deg, dec0_deg))
    east = np.cos(dec) * np.sin(ra - ra0)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)
    return 3600.0 * np.degrees(east), 3600.0 * np.degrees(north)
