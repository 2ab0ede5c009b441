r"""From the plane of a flat array to the sky, and back.

The antennas of a flat array lie in a plane, in which w = a u + b v. Then

    u l + v m + w (n − 1) = u l' + v m'        l' = l + a (n − 1)        m' = m + b (n − 1)

and a transform in two dimensions gives the sky on a grid of (l', m'): an orthographic projection along the plane's
normal (Cornwell & Perley 1992). Such an image is carried to the pixels of (l, m) by six-point interpolation, one axis
after the other; components at pixels of (l, m) are spread over the points of the grid of (l', m') around them.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.interpolate import PLACES, interpolation_table

TAPS = 6
BEFORE = TAPS // 2 - 1
OVERSAMPLING = 2.5
"""Pixels of a synthesized image per half period of its longest baseline, at least."""
SPREAD_TAPS = 20
LINEAR = 8
"""Pixels over which the shift is taken as linear: it bends by less than 1e-4 pixels."""


@compiled
def _depth(x: float, y: float, cell_rad: float) -> float:
    """Return (n − 1)/cell at a place (pixels from the center), without cancellation."""
    square = (x * x + y * y) * cell_rad * cell_rad
    return float(-square / (1.0 + np.sqrt(max(0.0, 1.0 - square))) / cell_rad)


def to_sky(flat: NDArray[np.float32], size: int, cell_rad: float, plane: tuple[float, float]) -> NDArray[np.float32]:
    """Carry an image in (l', m') to the pixels of (l, m).

    Parameters
    ----------
    flat
        (n, n), the phase center at n // 2; wide enough to hold what moves in.
    size
        Pixels on a side of the image that is returned, (size, size).
    cell_rad
        Pixel size of both.
    plane
        a and b.
    """
    table = interpolation_table(TAPS, OVERSAMPLING)
    across = np.zeros((flat.shape[0], size), np.float32)
    _along_x(flat, cell_rad, plane, table, across)
    out = np.zeros((size, size), np.float32)
    _along_y(across, cell_rad, plane, table, out)
    return out


@compiled_parallel
def _along_x(
    flat: NDArray[np.float32],
    cell_rad: float,
    plane: tuple[float, float],
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    center, middle, last = flat.shape[0] // 2, out.shape[1] // 2, flat.shape[1] - TAPS + BEFORE
    for row in prange(out.shape[0]):
        y = float(row - center)
        # The row of (l, m) that this one of (l', m') comes from, to well within what its shift can tell.
        left = _depth(-middle, y - plane[1] * _depth(-middle, y, cell_rad), cell_rad)
        for first in range(0, out.shape[1], LINEAR):
            x = first + LINEAR - middle
            right = _depth(x, y - plane[1] * _depth(x, y, cell_rad), cell_rad)
            place = first - middle + center - plane[0] * left
            step = 1.0 - plane[0] * (right - left) / LINEAR
            for column in range(first, min(first + LINEAR, out.shape[1])):
                node = int(place)
                if BEFORE <= node < last:
                    near = table[int((place - node) * PLACES + 0.5)]
                    total = np.float32(0.0)
                    for j in range(TAPS):
                        total += near[j] * flat[row, node - BEFORE + j]
                    out[row, column] = total
                place += step
            left = right


@compiled_parallel
def _along_y(
    across: NDArray[np.float32],
    cell_rad: float,
    plane: tuple[float, float],
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    center, middle, last = across.shape[0] // 2, out.shape[0] // 2, across.shape[0] - TAPS + BEFORE
    for row in prange(out.shape[0]):
        y = float(row - middle)
        left = _depth(-middle, y, cell_rad)
        for first in range(0, out.shape[1], LINEAR):
            right = _depth(first + LINEAR - middle, y, cell_rad)
            place = y + center + plane[1] * left
            step = plane[1] * (right - left) / LINEAR
            for column in range(first, min(first + LINEAR, out.shape[1])):
                node = int(place)
                if BEFORE <= node < last:
                    near = table[int((place - node) * PLACES + 0.5)]
                    total = np.float32(0.0)
                    for j in range(TAPS):
                        total += near[j] * across[node - BEFORE + j, column]
                    out[row, column] = total
                place += step
            left = right


@compiled
def spread(
    offsets: NDArray[np.int64],
    fluxes: NDArray[np.float64],
    scale: int,
    cell_rad: float,
    plane: tuple[float, float],
    table: NDArray[np.float32],
    grid: NDArray[np.float32],
) -> None:
    """Add components at pixels of (l, m) to a grid of (l', m'), keeping their visibilities, in place.

    Parameters
    ----------
    offsets
        (n_component, 2), (y, x) in pixels from the phase center.
    fluxes
        (n_component,), Jy.
    scale
        Size of the grid's pixels over that of the components'.
    cell_rad
        Size of the components' pixels.
    plane
        a and b.
    table
        Of `interpolation_table`, with 20 taps and the oversampling of the grid.
    grid
        (n, n), the phase center at n // 2.
    """
    n, before = grid.shape[0], SPREAD_TAPS // 2 - 1
    for k in range(fluxes.size):
        depth = _depth(offsets[k, 1], offsets[k, 0], cell_rad)
        y = (offsets[k, 0] + plane[1] * depth) / scale + n // 2
        x = (offsets[k, 1] - plane[0] * depth) / scale + n // 2
        row, column = int(np.floor(y)), int(np.floor(x))
        across = table[int((x - column) * PLACES + 0.5)]
        down = table[int((y - row) * PLACES + 0.5)]
        for j in range(SPREAD_TAPS):
            if 0 <= row - before + j < n:
                for i in range(SPREAD_TAPS):
                    if 0 <= column - before + i < n:
                        grid[row - before + j, column - before + i] += np.float32(fluxes[k]) * down[j] * across[i]
