"""The output grid of a mosaic: north up at a point of a fixed lattice, as wide as what its tiles can be used for.

Directions are averaged and extents measured as vectors and tangent-plane offsets, so that right ascension 0 and
high declinations need no case of their own.

The projection's center is the lattice point (5 degrees of right ascension, one of declination) that is
nearest to the mean direction of the tiles, and the pixel size is theirs to four digits (aberration makes it differ by
1e-4 over the year). A tile is resampled onto a window that counts its pixels from the center: where the mosaic ends
does not matter to it, and one more tile seldom changes what was made of the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import usable_edges
from dsa110_contimg.kernels.resample import Grid, frame_rotation
from dsa110_contimg.kernels.sphere import direction_cosines, mean_direction
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.visibilities import SkyImage, SkyPosition

MIN_TOWARD = 0.3
MARGIN = 1
LATTICE_DEG = (5.0, 1.0)
CELL_DIGITS = 4


class Footprint(NamedTuple):
    """Where a tile can be used: the outline of its usable pixels."""

    center: SkyPosition
    cell_deg: float
    outline: NDArray[np.float64]
    """(n, 3), (l, m, n) seen from `center`."""


class Frame(NamedTuple):
    """A tangent plane with pixels, of no particular extent."""

    center: SkyPosition
    cell_deg: float

    @property
    def cell(self) -> float:
        """Pixel size in radians."""
        return float(np.radians(self.cell_deg))


class Window(NamedTuple):
    """The part of a frame that one tile touches."""

    first: tuple[int, int]
    """(y, x) of its first pixel, counted from the frame's center."""
    grid: Grid


def image_grid(image: SkyImage) -> Grid:
    """Return the grid of an image."""
    ny, nx = image.data.shape
    return Grid(ny, nx, *image.center_pixel, float(np.radians(image.cell_deg)))


def footprint(tile: Tile, beam_limit: float) -> Footprint:
    """Return the outline of the pixels of a tile where its beam reaches a limit.

    Raises
    ------
    MosaicError
        If there are none.
    """
    left, right, low, high = usable_edges(tile.beam.data, tile.image.data, beam_limit)
    rows, columns = np.flatnonzero(right >= 0), np.flatnonzero(high >= 0)
    if rows.size == 0:
        raise MosaicError(f"{tile.name} has no pixel with a beam of {beam_limit:g} or more: leave the tile out")
    x = np.concatenate([left[rows], right[rows], columns, columns])
    y = np.concatenate([rows, rows, low[columns], high[columns]])
    x_ref, y_ref = tile.image.center_pixel
    cell = np.radians(tile.image.cell_deg)
    east, north = -(x - x_ref) * cell, (y - y_ref) * cell
    return Footprint(
        tile.image.center, tile.image.cell_deg, np.stack([east, north, np.sqrt(1.0 - east**2 - north**2)], axis=-1)
    )


def choose_frame(footprints: Sequence[Footprint]) -> Frame:
    """Return the frame for tiles: the lattice point nearest to their mean direction, and their pixel size.

    Raises
    ------
    MosaicError
        If the tiles lie too far apart for one tangent plane.
    """
    ra, dec = np.radians([tile.center for tile in footprints]).T
    mean = np.degrees(mean_direction(ra, dec))
    ra_deg, dec_deg = (float(np.rint(value / step) * step) for value, step in zip(mean, LATTICE_DEG, strict=True))
    center = SkyPosition(ra_deg % 360.0, dec_deg)
    if direction_cosines(ra, dec, *np.radians(center))[:, 2].min() < MIN_TOWARD:
        raise MosaicError("the tiles spread over more than a hemisphere: they do not belong to one group")
    cell_arcsec = 3600.0 * float(np.median([tile.cell_deg for tile in footprints]))
    return Frame(center, float(f"{cell_arcsec:.{CELL_DIGITS}g}") / 3600.0)


def window_of(tile: Footprint, frame: Frame) -> Window:
    """Return the part of a frame that a tile's footprint covers."""
    rotation = frame_rotation(*np.radians(frame.center), *np.radians(tile.center))
    x, y = (tile.outline @ rotation.T)[:, :2].T / frame.cell * [[-1.0], [1.0]]
    first_x, first_y = int(np.floor(x.min())) - 1, int(np.floor(y.min())) - 1
    shape = (int(np.ceil(y.max())) + 2 - first_y, int(np.ceil(x.max())) + 2 - first_x)
    return Window((first_y, first_x), Grid(*shape, float(-first_x), float(-first_y), frame.cell))


def grid_around(windows: Sequence[Window]) -> Grid:
    """Return the smallest grid that holds windows of one frame, with a blank margin."""
    first = np.min([window.first for window in windows], axis=0) - MARGIN
    last = np.max([np.add(window.first, window.grid[:2]) for window in windows], axis=0) + MARGIN
    ny, nx = (int(length) for length in last - first)
    return Grid(ny, nx, float(-first[1]), float(-first[0]), windows[0].grid.cell)


def corner_of(first: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """Return (y, x) on a grid of a pixel that is counted from the frame's center."""
    return first[0] + int(grid.y_ref), first[1] + int(grid.x_ref)


def rotation_to_tile(center: SkyPosition, frame: Frame) -> NDArray[np.float64]:
    """Return the rotation from a frame's tangent plane to that of a tile's center, shape (3, 3)."""
    return frame_rotation(*np.radians(center), *np.radians(frame.center))
