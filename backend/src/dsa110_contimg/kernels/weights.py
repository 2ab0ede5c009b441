r"""Imaging weights: how much each visibility counts, by how crowded its place in the uv plane is.

    natural    W = w                             w = 1/σ²: the lowest noise, the widest beam
    uniform    W = w / ρ(u, v)                   ρ = sum of w in the cell: the sharpest beam
    Briggs     W = w / (1 + ρ f²)                f² = (5 · 10^−R)² Σw / Σ_cells ρ²

(Briggs 1995, thesis, 3.4). On an array with a straight arm the result depends on where the cells lie, so the
conventions are those of WSClean (Offringa et al. 2014): the half plane v ≥ 0 holds both a point and its mirror
image; a cell is 1/field wide in wavelengths, with a field that is padded by 1.2; cell indices are rounded down;
what falls outside the grid, beyond the reach of the image's pixels, has no weight.
"""

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel

SPEED_OF_LIGHT = 299792458.0
FIELD_PADDING = 1.2


def cells_on_a_side(size: int) -> int:
    """Return the cells on a side of the uv plane of an image of `size` pixels, a multiple of four."""
    padded = math.ceil(size * FIELD_PADDING)
    return padded + (-padded) % 4


def cells_reached(u_wavelengths: float, v_wavelengths: float, cell_rad: float, n_cell: int) -> tuple[int, int]:
    """Return the (v, u) shape of the part of the half plane that the largest |u| and |v| reach."""
    scale, margin = n_cell * cell_rad, 2
    rows = min(n_cell // 2, math.ceil(v_wavelengths * scale) + margin)
    return rows, 2 * min(n_cell // 2, math.ceil(u_wavelengths * scale) + margin)


@compiled
def add_density(
    uvw_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    weights: NDArray[np.float32],
    cell_rad: float,
    n_cell: int,
    density: NDArray[np.float64],
) -> None:
    """Add natural weights to the cells of the uv half plane, in place.

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    freq_hz
        (n_chan,).
    weights
        (n_row, n_chan), natural.
    cell_rad
        Pixel size of the image.
    n_cell
        Cells on a side of the whole uv plane.
    density
        Its part that the samples reach, indexed [v, u]: all of v from 0, the middle of u (`cells_reached`).
    """
    left = (n_cell - density.shape[1]) // 2
    for row in range(uvw_m.shape[0]):
        u_m, v_m = uvw_m[row, 0], uvw_m[row, 1]
        if v_m < 0.0:
            u_m, v_m = -u_m, -v_m
        for chan in range(freq_hz.size):
            if weights[row, chan] > 0.0:
                scale = freq_hz[chan] / SPEED_OF_LIGHT * n_cell * cell_rad
                x = math.floor(u_m * scale + n_cell / 2) - left
                y = math.floor(v_m * scale)
                if 0 <= x < density.shape[1] and y < density.shape[0]:
                    density[y, x] += weights[row, chan]


def briggs_factor(density: NDArray[np.float64], robust: float) -> NDArray[np.float32]:
    """Return the factor of each cell for Briggs weighting, from its summed natural weight."""
    total = density.sum()
    squared = float(np.sum(density**2))
    scale = (5.0 * 10.0**-robust) ** 2 * total / squared if squared > 0.0 else 0.0
    return np.asarray(1.0 / (1.0 + density * scale), np.float32)


def uniform_factor(density: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the factor of each cell for uniform weighting, from its summed natural weight."""
    return np.asarray(np.divide(1.0, density, out=np.zeros_like(density), where=density > 0.0), np.float32)


@compiled_parallel
def apply_factor(
    uvw_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    weights: NDArray[np.float32],
    cell_rad: float,
    n_cell: int,
    factor: NDArray[np.float32],
) -> None:
    """Multiply natural weights, shape (n_row, n_chan), by the factor of their cell, in place."""
    left = (n_cell - factor.shape[1]) // 2
    for row in prange(uvw_m.shape[0]):
        u_m, v_m = uvw_m[row, 0], uvw_m[row, 1]
        if v_m < 0.0:
            u_m, v_m = -u_m, -v_m
        for chan in range(freq_hz.size):
            scale = freq_hz[chan] / SPEED_OF_LIGHT * n_cell * cell_rad
            x = math.floor(u_m * scale + n_cell / 2) - left
            y = math.floor(v_m * scale)
            if 0 <= x < factor.shape[1] and y < factor.shape[0]:
                weights[row, chan] *= factor[y, x]
            else:
                weights[row, chan] = 0.0


@compiled_parallel
def choose_baselines(
    uvw_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    weights: NDArray[np.float32],
    shortest: float,
    longest: float,
) -> None:
    """Take the weight of baselines outside a range of wavelengths, in place; weights are (n_row, n_chan)."""
    for row in prange(uvw_m.shape[0]):
        length = math.hypot(uvw_m[row, 0], uvw_m[row, 1]) / SPEED_OF_LIGHT
        for chan in range(freq_hz.size):
            if not shortest <= length * freq_hz[chan] <= longest:
                weights[row, chan] = 0.0


@compiled_parallel
def taper(
    uvw_m: NDArray[np.float64], freq_hz: NDArray[np.float64], weights: NDArray[np.float32], width_rad: float
) -> None:
    """Multiply weights, (n_row, n_chan), by the transform of a Gaussian of that full width, in place."""
    scale = (math.pi * width_rad / SPEED_OF_LIGHT) ** 2 / (4.0 * math.log(2.0))
    for row in prange(uvw_m.shape[0]):
        square = (uvw_m[row, 0] ** 2 + uvw_m[row, 1] ** 2) * scale
        for chan in range(freq_hz.size):
            weights[row, chan] *= math.exp(-square * freq_hz[chan] ** 2)


@compiled_parallel
def weighted_variance(vis: NDArray[np.complex64], weights: NDArray[np.float32]) -> float:
    """Return Σ (W σ)² over samples, (n_row, n_chan), σ of a real part told by neighbors in frequency: |ΔV|² = 4 σ²."""
    total, told, whole = 0.0, 0.0, 0.0
    for row in prange(vis.shape[0]):
        for chan in range(vis.shape[1]):
            one = float(weights[row, chan])
            whole += one * one
            if chan + 1 < vis.shape[1] and one > 0.0 and weights[row, chan + 1] > 0.0:
                left, two = vis[row, chan + 1] - vis[row, chan], float(weights[row, chan + 1])
                told += 0.5 * (one * one + two * two)
                total += 0.125 * (one * one + two * two) * (left.real * left.real + left.imag * left.imag)
    return total * whole / told if told > 0.0 else 0.0
