"""Where an image lies on the sky: its outline as a spherical polygon, and a circle that holds it.

The outline follows the edge of the pixels, with further corners on the sides, which are not great circles: between two
of them an outline of 14 degrees is off by less than 0.01 degree. Only the header is read, and remembered until the
file changes.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines, separation
from dsa110_contimg.visibilities import SkyImage, SkyPosition

PER_SIDE = 4
GRID = 25
"""Positions on a side, where an image is tried against a region."""


class Footprint(NamedTuple):
    """An image's place on the sky, and the rest of what its header says."""

    image: SkyImage
    """Without pixels: all of them are NaN."""
    middle: SkyPosition
    radius_deg: float
    """Of the circle around the middle that holds the image."""
    outline: tuple[SkyPosition, ...]
    """Corners, counterclockwise as the sky is seen; empty where the image goes past the edge of the sky."""

    def holds(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.bool_]:
        """Return which positions lie on the image's pixels."""
        image = self.image
        lmn = direction_cosines(np.radians(ra_deg), np.radians(dec_deg), *np.radians(image.center))
        (x_ref, y_ref), (ny, nx), cell = image.center_pixel, image.data.shape, np.radians(image.cell_deg)
        x, y = x_ref - lmn[..., 0] / cell, y_ref + lmn[..., 1] / cell
        return np.asarray(
            (lmn[..., 2] > 0.0) & (np.abs(x - 0.5 * (nx - 1)) <= 0.5 * nx) & (np.abs(y - 0.5 * (ny - 1)) <= 0.5 * ny)
        )

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return positions (deg) on a grid over the image, its edge included."""
        ny, nx = self.image.data.shape
        x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, GRID), np.linspace(-0.5, ny - 0.5, GRID))
        ra, dec = _sky(self.image, x.ravel(), y.ravel())
        known = np.isfinite(ra)
        return np.degrees(ra[known]), np.degrees(dec[known])


def footprint(path: Path) -> Footprint:
    """Return where an image lies.

    Raises
    ------
    BadInputError
        If the file is missing, cannot be read, or is no image that can be placed on the sky.
    """
    try:
        return _footprint(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror})") from error


@functools.lru_cache(maxsize=8192)
def _footprint(path: Path, _modified: int) -> Footprint:
    return footprint_of(fits_image.describe(path))


def footprint_of(image: SkyImage) -> Footprint:
    """Return where an image lies, whose pixels are not looked at."""
    ny, nx = image.data.shape
    step = np.arange(PER_SIDE) / PER_SIDE
    flat, full = np.zeros(PER_SIDE), np.ones(PER_SIDE)
    # From the lower left corner, which is the one in the east, along the bottom: clockwise on the sky.
    x = nx * np.concatenate([step, full, 1.0 - step, flat]) - 0.5
    y = ny * np.concatenate([flat, step, full, 1.0 - step]) - 0.5
    ra, dec = _sky(image, x, y)
    middle = SkyPosition(*(float(np.degrees(value)) for value in _sky(image, 0.5 * (nx - 1), 0.5 * (ny - 1))))
    reach = np.nan_to_num(separation(ra, dec, *np.radians(middle)), nan=np.pi)
    corners = [SkyPosition(float(a), float(b)) for a, b in np.degrees(np.stack([ra, dec], axis=1))]
    outline = tuple(reversed(corners)) if np.isfinite(ra).all() else ()
    return Footprint(image, middle, float(np.degrees(reach.max())), outline)


def _sky(image: SkyImage, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascension and declination (rad) of pixels."""
    (x_ref, y_ref), cell = image.center_pixel, np.radians(image.cell_deg)
    east, north = (x_ref - np.asarray(x)) * cell, (np.asarray(y) - y_ref) * cell
    return from_direction_cosines(east, north, *np.radians(image.center))
