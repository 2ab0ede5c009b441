"""The output grid of a mosaic: north up at the mean direction of its tiles, as wide as what they can be used for.

Directions are averaged and extents measured as vectors and tangent-plane offsets, so that right ascension 0 and
high declinations need no case of their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.resample import Grid, frame_rotation
from dsa110_contimg.kernels.sphere import direction_cosines, mean_direction
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.visibilities import SkyImage, SkyPosition

MIN_TOWARD = 0.3
MARGIN = 2


class Footprint(NamedTuple):
    """Where a tile can be used: the outline of its usable pixels."""

    center: SkyPosition
    cell_deg: float
    outline: NDArray[np.float64]
    """(n, 3), (l, m, n) seen from `center`."""


class MosaicGrid(NamedTuple):
    """An output grid on the sky."""

    center: SkyPosition
    grid: Grid

    @property
    def cell_deg(self) -> float:
        """Pixel size."""
        return float(np.degrees(self.grid.cell))


class Window(NamedTuple):
    """The part of the output grid that one tile touches."""

    corner: tuple[int, int]
    """(y, x) of its first pixel."""
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
    rows, columns = np.flatnonzero(usable.any(axis=1)), np.flatnonzero(usable.any(axis=0))
    if rows.size == 0:
        raise MosaicError(f"{tile.name} has no pixel with a beam of {beam_limit:g} or more: leave the tile out")
    ny, nx = usable.shape
    x = np.concatenate([usable[rows].argmax(axis=1), nx - 1 - usable[rows, ::-1].argmax(axis=1), columns, columns])
    y = np.concatenate(
        [rows, rows, usable[:, columns].argmax(axis=0), ny - 1 - usable[::-1][:, columns].argmax(axis=0)]
    )
    x_ref, y_ref = tile.image.center_pixel
    cell = np.radians(tile.image.cell_deg)
    east, north = -(x - x_ref) * cell, (y - y_ref) * cell
    return Footprint(
        tile.image.center, tile.image.cell_deg, np.stack([east, north, np.sqrt(1.0 - east**2 - north**2)], axis=-1)
    )


def choose_grid(footprints: Sequence[Footprint]) -> MosaicGrid:
    """Return the grid that holds all footprints, centered on the mean direction of the tiles.

    Raises
    ------
    MosaicError
        If the tiles lie too far apart for one tangent plane.
    """
    ra, dec = np.radians([tile.center for tile in footprints]).T
    ra0, dec0 = mean_direction(ra, dec)
    cell = float(np.radians(np.median([tile.cell_deg for tile in footprints])))
    if direction_cosines(ra, dec, ra0, dec0)[:, 2].min() < MIN_TOWARD:
        raise MosaicError("the tiles spread over more than a hemisphere: they do not belong to one group")
    offsets = np.concatenate([_offsets(tile, ra0, dec0) for tile in footprints]) / cell
    right, left = int(np.ceil(-offsets[:, 0].min())), int(np.ceil(offsets[:, 0].max()))
    down, up = int(np.ceil(-offsets[:, 1].min())), int(np.ceil(offsets[:, 1].max()))
    shape = (down + up + 1 + 2 * MARGIN, left + right + 1 + 2 * MARGIN)
    center = SkyPosition(float(np.degrees(ra0)), float(np.degrees(dec0)))
    return MosaicGrid(center, Grid(*shape, float(left + MARGIN), float(down + MARGIN), cell))


def window_of(tile: Footprint, mosaic: MosaicGrid) -> Window:
    """Return the part of the output grid that a tile's footprint covers."""
    ra0, dec0 = np.radians(mosaic.center)
    grid = mosaic.grid
    offsets = _offsets(tile, float(ra0), float(dec0)) / grid.cell
    x, y = grid.x_ref - offsets[:, 0], grid.y_ref + offsets[:, 1]
    first_x, first_y = max(int(np.floor(x.min())) - 1, 0), max(int(np.floor(y.min())) - 1, 0)
    last_x, last_y = min(int(np.ceil(x.max())) + 1, grid.nx - 1), min(int(np.ceil(y.max())) + 1, grid.ny - 1)
    part = Grid(last_y - first_y + 1, last_x - first_x + 1, grid.x_ref - first_x, grid.y_ref - first_y, grid.cell)
    return Window((first_y, first_x), part)


def rotation_to_tile(tile: Footprint, mosaic: MosaicGrid) -> NDArray[np.float64]:
    """Return the rotation from the mosaic's tangent frame to the tile's, shape (3, 3)."""
    return frame_rotation(*np.radians(tile.center), *np.radians(mosaic.center))


def _offsets(tile: Footprint, ra0: float, dec0: float) -> NDArray[np.float64]:
    """Return a footprint's outline as (l, m) seen from a center, radians, shape (n, 2)."""
    rotation = frame_rotation(ra0, dec0, *np.radians(tile.center))
    return np.asarray((tile.outline @ rotation.T)[:, :2])
