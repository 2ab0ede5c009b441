"""The output grid of a mosaic: north up at a point of a fixed lattice, as wide as what its tiles can be used for.

Directions are averaged and extents measured as vectors and tangent-plane offsets, so that right ascension 0 and
high declinations need no case of their own.

The projection's center is the lattice point (5 degrees of right ascension, one of declination) that is
nearest to the mean direction of the tiles, and the pixel size is theirs to four digits (aberration makes it differ by
1e-4 over the year). A tile is resampled onto a window that counts its pixels from the center: where the mosaic ends
does not matter to it, and one more tile seldom changes what was made of the others.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.resample import Grid, frame_rotation
from dsa110_contimg.kernels.sphere import direction_cosines, mean_direction
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.telescope import SIDEREAL_DAY_S, TILE_SECONDS
from dsa110_contimg.visibilities import SkyImage, SkyPosition

MIN_TOWARD = 0.3
MARGIN = 1
LATTICE_DEG = (5.0, 1.0)
CELL_DIGITS = 4
COLUMN_STEP = 16
TILE_STEP_DEG = 360.0 * TILE_SECONDS / SIDEREAL_DAY_S


class Located(Protocol):
    """What has a place and a pixel size."""

    @property
    def center(self) -> SkyPosition:
        """Direction of the reference pixel."""

    @property
    def cell_deg(self) -> float:
        """Pixel size."""


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
    usable = (tile.beam.data >= beam_limit) & np.isfinite(tile.image.data)
    rows, left, right = _ends(usable)
    if rows.size == 0:
        raise MosaicError(f"{tile.name} has no pixel with a beam of {beam_limit:g} or more: leave the tile out")
    # Rows are curved on another plane, by less than a pixel from one of these columns to the next.
    columns, low, high = _ends(usable[:, ::COLUMN_STEP].T)
    x = np.concatenate([left, right, columns * COLUMN_STEP, columns * COLUMN_STEP])
    y = np.concatenate([rows, rows, low, high])
    return _outlined(tile.image, x, y)


def _ends(usable: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return which lines have usable pixels, and the first and the last of each."""
    lines = np.flatnonzero(usable.any(axis=1))
    first = usable.argmax(axis=1)[lines]
    last = usable.shape[1] - 1 - usable[:, ::-1].argmax(axis=1)[lines]
    return lines, first, last


def border(image: SkyImage) -> Footprint:
    """Return the outline of all pixels of an image; of those alone that lie on the sky."""
    ny, nx = image.data.shape
    rows, columns = np.arange(ny), np.arange(nx)
    x = np.concatenate([np.zeros(ny), np.full(ny, nx - 1.0), columns, columns])
    y = np.concatenate([rows, rows, np.zeros(nx), np.full(nx, ny - 1.0)])
    return _outlined(image, x, y)


def _outlined(image: SkyImage, x: NDArray[np.floating], y: NDArray[np.floating]) -> Footprint:
    (x_ref, y_ref), cell = image.center_pixel, np.radians(image.cell_deg)
    east, north = -(x - x_ref) * cell, (y - y_ref) * cell
    square = 1.0 - east**2 - north**2
    outline = np.stack([east, north, np.sqrt(np.maximum(square, 0.0))], axis=-1)
    return Footprint(image.center, image.cell_deg, outline[square >= 0.0])


def choose_frame(tiles: Sequence[Located]) -> Frame:
    """Return the frame for tiles: the lattice point nearest to their mean direction, and their pixel size.

    Raises
    ------
    MosaicError
        If the tiles lie too far apart for one tangent plane.
    """
    ra, dec = np.radians([tile.center for tile in tiles]).T
    mean = np.degrees(mean_direction(ra, dec))
    ra_deg, dec_deg = (float(np.rint(value / step) * step) for value, step in zip(mean, LATTICE_DEG, strict=True))
    center = SkyPosition(ra_deg % 360.0, dec_deg)
    if direction_cosines(ra, dec, *np.radians(center))[:, 2].min() < MIN_TOWARD:
        raise MosaicError("the tiles spread over more than a hemisphere: they do not belong to one group")
    cell_arcsec = 3600.0 * float(np.median([tile.cell_deg for tile in tiles]))
    return Frame(center, float(f"{cell_arcsec:.{CELL_DIGITS}g}") / 3600.0)


def strip_reach(tiles: Sequence[Located], frame: Frame, n_tiles: int) -> float:
    """Return how far in right ascension (degrees) a tile of a strip may lie from the frame's center.

    A strip of *n_tiles* may have its middle anywhere around the lattice point; one that is longer reaches farther, in
    steps of the lattice, so that one tile more seldom changes it.
    """
    planned = 0.5 * ((n_tiles - 1) * TILE_STEP_DEG + LATTICE_DEG[0])
    ra = np.array([tile.center.ra_deg for tile in tiles])
    farthest = np.max(np.abs((ra - frame.center.ra_deg + 180.0) % 360.0 - 180.0))
    return float(planned + LATTICE_DEG[0] * np.ceil(max(farthest - planned, 0.0) / LATTICE_DEG[0]))


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


def part_of(grid: Grid, windows: Sequence[Window]) -> tuple[Grid, tuple[slice, slice]]:
    """Return the smallest grid around windows, and which rows and columns of a larger one it is."""
    part = grid_around(windows)
    y, x = (int(whole - own) for whole, own in ((grid.y_ref, part.y_ref), (grid.x_ref, part.x_ref)))
    return part, (slice(y, y + part.ny), slice(x, x + part.nx))


def corner_of(first: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """Return (y, x) on a grid of a pixel that is counted from the frame's center."""
    return first[0] + int(grid.y_ref), first[1] + int(grid.x_ref)


def rotation_to_tile(center: SkyPosition, frame: Frame) -> NDArray[np.float64]:
    """Return the rotation from a frame's tangent plane to that of a tile's center, shape (3, 3)."""
    return frame_rotation(*np.radians(center), *np.radians(frame.center))
