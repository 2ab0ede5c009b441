r"""A SIN image on the pixels of a HiPS tile.

HEALPix divides the sky into 12 faces of nside x nside pixels. A tile of order k is one pixel of nside 2^k in the
nested order: its number is the face, then the bits of (x, y) in it, interleaved, x in the even ones. It is drawn with
W x W pixels of nside 2^k W, x down and y to the right, so that row j (counted from the bottom) and column i hold

    x = W tile_x + (W − 1 − j)        y = W tile_y + i

whose centers lie, with u = (x + ½)/nside, v = (y + ½)/nside and s = r_face − u − v, at

    polar caps (s < 1 or s > 3)    |z| = 1 − t²/3,  t = s or 4 − s
    between                         z = 2(2 − s)/3,  t = 1
    φ = π/4 (p_face t + u − v)/t

(Górski et al. 2005, section 5; Fernique et al. 2017, HiPS 1.0). A direction is a pixel of the image as in `resample`,
and so are its weights: eight in each axis, surface brightness, a missing pixel around makes a missing value.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.resample import TABLE, Grid, value_at

FACES = 12
# Where each face begins, in units of a face: southward from the pole, and eastward in eighths of a circle.
_SOUTH = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4], np.float64)
_EAST = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7], np.float64)


@compiled
def tile_place(order: int, tile: int) -> tuple[int, int, int]:
    """Return (face, x, y) of a tile in the nested order."""
    face = tile >> (2 * order)
    x, y = 0, 0
    for bit in range(order):
        x |= ((tile >> (2 * bit)) & 1) << bit
        y |= ((tile >> (2 * bit + 1)) & 1) << bit
    return face, x, y


@compiled
def direction(face: int, u: float, v: float) -> tuple[float, float, float]:
    """Return the unit vector (x, y, z) of a place on a face, 0 <= u, v <= 1."""
    south = _SOUTH[face] - u - v
    if south < 1.0:
        scale = south
        z = 1.0 - south * south / 3.0
        across = south * np.sqrt((2.0 - south * south / 3.0) / 3.0)
    elif south > 3.0:
        scale = 4.0 - south
        z = scale * scale / 3.0 - 1.0
        across = scale * np.sqrt((2.0 - scale * scale / 3.0) / 3.0)
    else:
        scale = 1.0
        z = (2.0 - south) * 2.0 / 3.0
        across = np.sqrt((1.0 - z) * (1.0 + z))
    if scale < 1e-15:
        return 0.0, 0.0, z
    phi = 0.25 * np.pi * (_EAST[face] * scale + u - v) / scale
    return across * np.cos(phi), across * np.sin(phi), z


@compiled
def _image_pixel(sky: tuple[float, float, float], frame: NDArray[np.float64], grid: Grid) -> tuple[float, float]:
    """Return the position of a direction in an image; (−1e9, −1e9) behind its tangent plane."""
    if frame[2, 0] * sky[0] + frame[2, 1] * sky[1] + frame[2, 2] * sky[2] <= 0.0:
        return -1e9, -1e9
    east = frame[0, 0] * sky[0] + frame[0, 1] * sky[1] + frame[0, 2] * sky[2]
    north = frame[1, 0] * sky[0] + frame[1, 1] * sky[1] + frame[1, 2] * sky[2]
    return grid.x_ref - east / grid.cell, grid.y_ref + north / grid.cell


@compiled
def touches(order: int, tile: int, frame: NDArray[np.float64], grid: Grid) -> bool:
    """Return whether a tile can have a pixel in common with an image; it may say yes where it has none."""
    face, tile_x, tile_y = tile_place(order, tile)
    side = 1 << order
    x, y = _image_pixel(direction(face, (tile_x + 0.5) / side, (tile_y + 0.5) / side), frame, grid)
    # No corner of a tile is farther from its middle than 1.1 radians over its nside.
    reach = 1.1 / side / grid.cell
    return -reach <= x <= grid.nx + reach and -reach <= y <= grid.ny + reach


@compiled_parallel
def _tile_with(
    table: NDArray[np.float32],
    image: NDArray[np.float32],
    grid: Grid,
    frame: NDArray[np.float64],
    place: tuple[int, int, int, int],
    width: int,
) -> NDArray[np.float32]:
    result = np.full((width, width), np.nan, np.float32)
    face, tile_x, tile_y, side = place
    for j in prange(width):
        u = (tile_x + (width - j - 0.5) / width) / side
        for i in range(width):
            v = (tile_y + (i + 0.5) / width) / side
            x_in, y_in = _image_pixel(direction(face, u, v), frame, grid)
            result[j, i] = value_at(table, image, grid, x_in, y_in)
    return result


def resample_tile(
    image: NDArray[np.float32], grid: Grid, frame: NDArray[np.float64], order: int, tile: int, width: int
) -> NDArray[np.float32]:
    """Return a tile of an image.

    Parameters
    ----------
    image
        (grid.ny, grid.nx), surface brightness.
    grid
        Its grid.
    frame
        (3, 3), (east, north, toward) of its reference position as rows: `resample.tangent_frame`.
    order, tile
        Of the tile, in the nested order.
    width
        Pixels on a side of the tile.

    Returns
    -------
    NDArray
        (width, width), float32, the first row at the bottom; NaN where a needed pixel is missing.
    """
    face, x, y = tile_place(order, tile)
    return np.asarray(_tile_with(TABLE, image, grid, frame, (face, x, y, 1 << order), width))
