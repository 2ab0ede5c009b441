r"""One SIN image onto the grid of another.

An output pixel is a direction in the output's tangent frame (l east, m north, n toward); a rotation carries it to
the input's frame, where it is a pixel again:

    l = −(x − x0) Δ    m = (y − y0) Δ    n = √(1 − l² − m²)        (l', m', n') = R (l, m, n)

The mapping is exact at nodes 36" apart, and linear between them, which is good to 1e-4 pixels of 3"; nothing happens at
right ascension 0 or near a pole. Between pixels the image is interpolated, separably, with the K weights that are best
in least squares for everything up to a frequency B, with Σ w = 1:

    minimize ∫|e^{2πi f d} − Σ_k w_k e^{2πi f k}|² df      over |f| ≤ B

Eight weights and a quarter cycle per pixel (half the Nyquist frequency) serve every image that is sampled with three
pixels and more across its beam: the worst error anywhere on a Gaussian of 3, 3.5, 4 pixels FWHM is 0.21, 0.08, 0.04 %
of its peak, where Lanczos-3 makes 0.70, 0.54, 0.47 %. Four weights and an eighth of a cycle serve eight pixels and
more across the beam: 0.08 % at 8, 0.05 % at 13.

The values are surface brightness (Jy/beam): no Jacobian of the mapping enters. A pixel for which any of the values
around it is missing (NaN, or outside the input) is NaN.

An image D that shows the sky behind a primary beam P, in a restoring beam of covariance S, has a source's peak in
its place, but D/P has it off by −S ∇ln P, a tenth of a pixel where the beam is low. With g = ∇ln P, to first order

    (D/P)(x − S g) = D(x − S g)(1 + gᵀS g)/P(x)

has it in its place; that is what `resample` gives behind a beam, without the division.
"""

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dsa110_contimg.compiled import compiled, compiled_parallel, is_finite

TAPS = 8
FEW_TAPS = 4
STEPS = 2048
BAND = 0.25
FEW_BAND = 0.125
FEW_FROM_PIXELS = 8.0
"""From so many pixels across the beam on, four weights do."""
# Keeps the normal equations solvable; costs 1e-5 of accuracy.
RIDGE = 1e-9
NODE_RAD = float(np.radians(0.01))
"""Distance of the nodes between which mapping and primary beam are linear: the beam bends by 2e-5 over it."""


class Grid(NamedTuple):
    """A SIN grid without its direction: shape, zero-based reference pixel, pixel size in radians."""

    ny: int
    nx: int
    x_ref: float
    y_ref: float
    cell: float


class Behind(NamedTuple):
    """The primary beam that an image shows the sky through."""

    response: NDArray[np.float32]
    """At the nodes of the output grid (`nodes_of`)."""
    limit: float
    """Pixels of a lower response are not wanted."""
    spread: tuple[float, float, float]
    """Covariance (xx, xy, yy) of the restoring beam, in output pixels²."""


def tangent_frame(ra: float, dec: float) -> NDArray[np.float64]:
    """Return the orthonormal (east, north, toward) of a direction in radians as rows, shape (3, 3)."""
    sin_ra, cos_ra, sin_dec, cos_dec = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
    return np.array(
        [
            [-sin_ra, cos_ra, 0.0],
            [-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec],
            [cos_dec * cos_ra, cos_dec * sin_ra, sin_dec],
        ]
    )


def frame_rotation(ra_to: float, dec_to: float, ra_from: float, dec_from: float) -> NDArray[np.float64]:
    """Return R that carries (l, m, n) seen from one center (radians) to those seen from another."""
    return tangent_frame(ra_to, dec_to) @ tangent_frame(ra_from, dec_from).T


def interpolation_table(taps: int = TAPS, band: float = BAND) -> NDArray[np.float32]:
    """Return the weights of the pixels floor − taps/2 + 1 ... floor + taps/2 for each fraction k/2048, (2049, taps)."""
    fraction = np.arange(STEPS + 1) / STEPS
    offset = np.arange(taps) - (taps // 2 - 1.0)
    system = np.ones((taps + 1, taps + 1))
    system[:taps, :taps] = np.sinc(2.0 * band * (offset[:, None] - offset[None, :])) + RIDGE * np.eye(taps)
    system[taps, taps] = 0.0
    wanted = np.ones((taps + 1, STEPS + 1))
    wanted[:taps] = np.sinc(2.0 * band * (fraction[None, :] - offset[:, None]))
    return np.ascontiguousarray(np.linalg.solve(system, wanted)[:taps].T, np.float32)


TABLE = interpolation_table()
FEW_TABLE = interpolation_table(FEW_TAPS, FEW_BAND)


def node_step(cell: float) -> int:
    """Return the distance of nodes in pixels of a size in radians; one for large pixels."""
    return max(1, int(NODE_RAD / cell + 1e-6))


def nodes_of(out: Grid) -> Grid:
    """Return the nodes of a grid: every so-manieth pixel from the first on, the last not left of the border."""
    step = node_step(out.cell)
    ny, nx = (-(-(length - 1) // step) + 1 for length in (out.ny, out.nx))
    return Grid(ny, nx, out.x_ref / step, out.y_ref / step, out.cell * step)


@compiled
def _input_pixel(x: float, y: float, out: Grid, rotation: NDArray[np.float64], grid: Grid) -> tuple[float, float]:
    """Return the input position of an output pixel; (−1e9, −1e9) behind either tangent plane."""
    east, north = -(x - out.x_ref) * out.cell, (y - out.y_ref) * out.cell
    square = 1.0 - east * east - north * north
    if square <= 0.0:
        return -1e9, -1e9
    toward = np.sqrt(square)
    if rotation[2, 0] * east + rotation[2, 1] * north + rotation[2, 2] * toward <= 0.0:
        return -1e9, -1e9
    to_east = rotation[0, 0] * east + rotation[0, 1] * north + rotation[0, 2] * toward
    to_north = rotation[1, 0] * east + rotation[1, 1] * north + rotation[1, 2] * toward
    return grid.x_ref - to_east / grid.cell, grid.y_ref + to_north / grid.cell


@compiled
def value_at(table: NDArray[np.float32], image: NDArray[np.float32], grid: Grid, x: float, y: float) -> np.float32:
    """Return an image's value between pixels, by a table of weights (steps + 1, 8); NaN where a pixel is missing."""
    column, line, steps = int(np.floor(x)), int(np.floor(y)), table.shape[0] - 1
    left, low = column - 3, line - 3
    if left < 0 or low < 0 or left + TAPS > grid.nx or low + TAPS > grid.ny:
        return np.float32(np.nan)
    along_x, along_y = table[int((x - column) * steps + 0.5)], table[int((y - line) * steps + 0.5)]
    a = b = c = d = e = f = g = h = np.float32(0.0)
    # Column by column, so that eight sums run side by side.
    for j in range(TAPS):
        row, weight = image[low + j], along_y[j]
        a += weight * row[left]
        b += weight * row[left + 1]
        c += weight * row[left + 2]
        d += weight * row[left + 3]
        e += weight * row[left + 4]
        f += weight * row[left + 5]
        g += weight * row[left + 6]
        h += weight * row[left + 7]
    first = (along_x[0] * a + along_x[4] * e) + (along_x[1] * b + along_x[5] * f)
    return np.float32(first + (along_x[2] * c + along_x[6] * g) + (along_x[3] * d + along_x[7] * h))


@compiled
def _value_of_few(table: NDArray[np.float32], image: NDArray[np.float32], x: float, y: float) -> np.float32:
    """Return an image's value between pixels, by a table of weights (steps + 1, 4); NaN where a pixel is missing."""
    column, line, steps = int(np.floor(x)), int(np.floor(y)), table.shape[0] - 1
    left, low = column - 1, line - 1
    if left < 0 or low < 0 or left + FEW_TAPS > image.shape[1] or low + FEW_TAPS > image.shape[0]:
        return np.float32(np.nan)
    along_x, along_y = table[int((x - column) * steps + 0.5)], table[int((y - line) * steps + 0.5)]
    a = b = c = d = np.float32(0.0)
    for j in range(FEW_TAPS):
        row, weight = image[low + j], along_y[j]
        a += weight * row[left]
        b += weight * row[left + 1]
        c += weight * row[left + 2]
        d += weight * row[left + 3]
    return np.float32((along_x[0] * a + along_x[2] * c) + (along_x[1] * b + along_x[3] * d))


@compiled_parallel
def resample_with(
    table: NDArray[np.float32],
    image: NDArray[np.float32],
    grid: Grid,
    out: Grid,
    nodes: NDArray[np.float64],
    step: int,
    limit: float,
) -> NDArray[np.float32]:
    """Resample with a table of four or eight interpolation weights; see `resample`.

    Parameters
    ----------
    nodes
        (n_y, n_x, 4): input x and y, factor on what is read there, and response at the output's nodes.
    step
        Pixels from one node to the next.
    limit
        Pixels of a lower response are NaN.
    """
    result = np.empty((out.ny, out.nx), np.float32)
    n_y, n_x, _ = nodes.shape
    few = table.shape[1] == FEW_TAPS
    for y in prange(out.ny):
        below = y // step
        up = y / step - below
        # A missing node takes with it what lies between nodes, not what lies on another one.
        above = min(below + 1, n_y - 1) if up > 0.0 else below
        # The node on the left and the slopes to the next, of the four numbers, on this line.
        here, slope = np.empty(4), np.empty(4)
        for first in range(0, out.nx, step):
            left = first // step
            right = min(left + 1, n_x - 1) if step > 1 else left
            for k in range(4):
                here[k] = (1.0 - up) * nodes[below, left, k] + up * nodes[above, left, k]
                there = (1.0 - up) * nodes[below, right, k] + up * nodes[above, right, k]
                slope[k] = (there - here[k]) / step
            for x in range(first, min(first + step, out.nx)):
                value = np.float32(np.nan)
                ahead = x - first
                x_in, y_in = here[0] + ahead * slope[0], here[1] + ahead * slope[1]
                if here[3] + ahead * slope[3] >= limit and is_finite(x_in + y_in):
                    factor = np.float32(here[2] + ahead * slope[2])
                    if few:
                        value = factor * _value_of_few(table, image, x_in, y_in)
                    else:
                        value = factor * value_at(table, image, grid, x_in, y_in)
                result[y, x] = value
    return result


def resample(
    image: NDArray[np.float32],
    grid: Grid,
    rotation: NDArray[np.float64],
    out: Grid,
    behind: Behind | None = None,
    *,
    across: float = 0.0,
) -> NDArray[np.float32]:
    """Resample an image.

    Parameters
    ----------
    image
        (grid.ny, grid.nx), surface brightness.
    grid, out
        Input and output grids.
    rotation
        (3, 3), from the output's tangent frame to the input's (`frame_rotation`).
    behind
        The beam in front of the sky, whose slope is made good; None is an even one, and all pixels are wanted.
    across
        Pixels across the restoring beam where it is narrowest, if known: from eight on it is done with fewer.

    Returns
    -------
    NDArray
        (out.ny, out.nx), float32; NaN where a needed input pixel is missing.
    """
    table = FEW_TABLE if across >= FEW_FROM_PIXELS else TABLE
    nodes, limit = _mapping(grid, rotation, out, behind), 0.0 if behind is None else behind.limit
    pixels, step = np.ascontiguousarray(image, np.float32), node_step(out.cell)
    return np.asarray(resample_with(table, pixels, grid, out, nodes, step, limit))


def _mapping(grid: Grid, rotation: NDArray[np.float64], out: Grid, behind: Behind | None) -> NDArray[np.float64]:
    """Return where to read for each node of the output, the factor on it, and the response there, (n_y, n_x, 4)."""
    coarse, step = nodes_of(out), node_step(out.cell)
    y, x = np.mgrid[: coarse.ny, : coarse.nx].astype(np.float64)
    factor = response = np.ones(x.shape)
    if behind is not None:
        response = behind.response.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope_y, slope_x = (
                np.gradient(response, axis=axis) / (step * response) if response.shape[axis] > 1 else 0.0 * response
                for axis in (0, 1)
            )
        known = np.isfinite(slope_x + slope_y)
        slope_x, slope_y = np.where(known, slope_x, 0.0), np.where(known, slope_y, 0.0)
        xx, xy, yy = behind.spread
        move_x, move_y = xx * slope_x + xy * slope_y, xy * slope_x + yy * slope_y
        x, y = x - move_x / step, y - move_y / step
        factor = 1.0 + slope_x * move_x + slope_y * move_y
    return np.stack([*_input_of(x, y, grid, rotation, coarse), factor, response], axis=-1)


@compiled_parallel
def resample_linear(
    image: NDArray[np.float32], grid: Grid, rotation: NDArray[np.float64], out: Grid
) -> NDArray[np.float32]:
    """Resample a smooth image, such as a primary beam, bilinearly; same arguments as `resample`."""
    result = np.full((out.ny, out.nx), np.nan, np.float32)
    for y in prange(out.ny):
        for x in range(out.nx):
            x_in, y_in = _input_pixel(x, y, out, rotation, grid)
            left, low = int(np.floor(x_in)), int(np.floor(y_in))
            if left < 0 or low < 0 or left + 2 > grid.nx or low + 2 > grid.ny:
                continue
            right, up = x_in - left, y_in - low
            result[y, x] = (1.0 - up) * ((1.0 - right) * image[low, left] + right * image[low, left + 1]) + up * (
                (1.0 - right) * image[low + 1, left] + right * image[low + 1, left + 1]
            )
    return result


def input_pixels(grid: Grid, rotation: NDArray[np.float64], out: Grid) -> tuple[NDArray[np.float64], ...]:
    """Return the input (x, y) of every output pixel, each (out.ny, out.nx); NaN behind either tangent plane."""
    y, x = np.mgrid[: out.ny, : out.nx]
    return _input_of(x.astype(np.float64), y.astype(np.float64), grid, rotation, out)


def _input_of(
    x: NDArray[np.float64], y: NDArray[np.float64], grid: Grid, rotation: NDArray[np.float64], out: Grid
) -> tuple[NDArray[np.float64], ...]:
    east, north = -(x - out.x_ref) * out.cell, (y - out.y_ref) * out.cell
    square = 1.0 - east**2 - north**2
    toward = np.sqrt(np.where(square > 0.0, square, np.nan))
    mapped = np.einsum("ij,jyx->iyx", rotation, np.stack([east, north, toward]))
    mapped[:, ~(mapped[2] > 0.0)] = np.nan
    return grid.x_ref - mapped[0] / grid.cell, grid.y_ref + mapped[1] / grid.cell


def resample_spline(
    image: NDArray[np.float32], grid: Grid, rotation: NDArray[np.float64], out: Grid
) -> NDArray[np.float32]:
    """Resample with scipy's quintic spline: the slow and accurate twin that `resample` is held against."""
    x_in, y_in = input_pixels(grid, rotation, out)
    values = map_coordinates(image.astype(np.float64), [y_in, x_in], order=5, mode="constant", cval=np.nan)
    return np.asarray(values, np.float32)
