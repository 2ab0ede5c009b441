r"""The minor cycle of CLEAN on a list of pixels, and the stamping of restored components.

Each iteration takes a fraction g of the largest residual, in absolute value, and subtracts the point spread
function there (Högbom 1974), on those pixels only that may become components before the next exact residual
(Clark 1980):

    k = argmax |r|        r_j −= g r_k P(x_j − x_k)        c_k += g r_k

The point spread function is as large as the image; pixels farther apart than half of it do not see each other.
Rounds of iterations run on the pixels above a fraction of the peak alone; what they found is then taken off the rest.
"""

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_in_place, compiled_parallel

ROUND_DEPTH = 0.6
"""Fraction of the peak down to which one round cleans."""
PIXELS_AT_ONCE = 2048


class Bilinear(NamedTuple):
    """Where the pixels of an axis lie between nodes."""

    before: NDArray[np.int64]
    """(n,), the node at or before each pixel."""
    part: NDArray[np.float32]
    """(n,), the way to the next, 0 to 1."""


@compiled_in_place
def _level_at(
    y: int, x: int, nodes: tuple[NDArray[np.int64], NDArray[np.float32]], level: NDArray[np.float32]
) -> float:
    before, part = nodes
    j, i, q, p = before[y], before[x], part[y], part[x]
    if level.shape[0] == 1:
        return float(level[0, 0])
    upper = (np.float32(1.0) - p) * level[j, i] + p * level[j, i + 1]
    lower = (np.float32(1.0) - p) * level[j + 1, i] + p * level[j + 1, i + 1]
    return float((np.float32(1.0) - q) * upper + q * lower)


@compiled_parallel
def pixels_allowed(
    residual: NDArray[np.float32],
    mask: NDArray[np.bool_],
    nodes: tuple[NDArray[np.int64], NDArray[np.float32]],
    level: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Return the (y, x) of pixels that are in a mask or exceed a level in absolute value, shape (n_pixel, 2).

    Parameters
    ----------
    residual, mask
        (ny, nx).
    nodes
        `Bilinear` of both axes.
    level
        Limits at the nodes, between which they are interpolated; (1, 1) for one limit.
    """
    ny, nx = residual.shape
    counts = np.zeros(ny + 1, np.int64)
    for y in prange(ny):
        for x in range(nx):
            if mask[y, x] or abs(residual[y, x]) > _level_at(y, x, nodes, level):
                counts[y + 1] += 1
    starts = np.cumsum(counts)
    out = np.empty((starts[ny], 2), np.int32)
    for y in prange(ny):
        at = starts[y]
        for x in range(nx):
            if mask[y, x] or abs(residual[y, x]) > _level_at(y, x, nodes, level):
                out[at, 0], out[at, 1] = y, x
                at += 1
    return out


@compiled
def grow_mask(mask: NDArray[np.bool_], pixels: NDArray[np.int32]) -> None:
    """Add pixels, shape (n, 2), and their eight neighbors to a mask, in place."""
    ny, nx = mask.shape
    for k in range(pixels.shape[0]):
        y, x = pixels[k]
        mask[max(0, y - 1) : min(ny, y + 2), max(0, x - 1) : min(nx, x + 2)] = True


def clean_pixels(
    values: NDArray[np.float32],
    pixels: NDArray[np.int32],
    psf: NDArray[np.float32],
    gain: float,
    threshold: float,
    max_iterations: int,
) -> tuple[NDArray[np.float64], int, float]:
    """CLEAN listed pixels until the largest residual is below a threshold.

    Parameters
    ----------
    values
        (n_pixel,), residuals; changed in place.
    pixels
        (n_pixel, 2), their (y, x).
    psf
        (ny, nx), peak 1 at (ny // 2, nx // 2).
    gain
        Fraction of the peak that one iteration takes.
    threshold
        Jy; stop when no residual is larger in absolute value.
    max_iterations
        Stop after as many.

    Returns
    -------
    tuple
        The component flux of each pixel, the number of iterations and the largest residual left.
    """
    fluxes, iterations = np.zeros(values.size), 0
    start = peak = float(np.abs(values).max(initial=0.0))
    while iterations < max_iterations and threshold < peak <= 2.0 * start:
        floor = max(threshold, ROUND_DEPTH * peak)
        active = np.flatnonzero(np.abs(values) >= floor)
        found, count = _one_round(values[active], pixels[active], psf, gain, floor, max_iterations - iterations)
        hit = found != 0.0
        _take_off(values, pixels, psf, pixels[active[hit]], found[hit])
        fluxes[active] += found
        iterations += count
        peak = float(np.abs(values).max())
    return fluxes, iterations, peak


@compiled
def _one_round(
    values: NDArray[np.float32],
    pixels: NDArray[np.int32],
    psf: NDArray[np.float32],
    gain: float,
    threshold: float,
    max_iterations: int,
) -> tuple[NDArray[np.float64], int]:
    """Return the component flux of each pixel and the number of iterations; `values` are changed in place."""
    ny, nx = psf.shape
    fluxes = np.zeros(values.size, np.float64)
    best, peak = 0, np.float32(0.0)
    for j in range(values.size):
        if abs(values[j]) > peak:
            best, peak = j, abs(values[j])
    start, iteration = peak, 0
    while iteration < max_iterations and threshold < peak <= 2.0 * start:
        flux = np.float32(gain) * values[best]
        fluxes[best] += flux
        y0, x0 = pixels[best, 0] - ny // 2, pixels[best, 1] - nx // 2
        peak = np.float32(0.0)
        for j in range(values.size):
            dy, dx = pixels[j, 0] - y0, pixels[j, 1] - x0
            if 0 <= dy < ny and 0 <= dx < nx:
                values[j] -= flux * psf[dy, dx]
            if abs(values[j]) > peak:
                best, peak = j, abs(values[j])
        iteration += 1
    return fluxes, iteration


@compiled_parallel
def _take_off(
    values: NDArray[np.float32],
    pixels: NDArray[np.int32],
    psf: NDArray[np.float32],
    components: NDArray[np.int32],
    fluxes: NDArray[np.float64],
) -> None:
    """Subtract the point spread functions of components (n, 2) from every pixel, in place."""
    ny, nx = psf.shape
    n_part = (values.size + PIXELS_AT_ONCE - 1) // PIXELS_AT_ONCE
    for part in prange(n_part):
        first, last = part * PIXELS_AT_ONCE, min(values.size, (part + 1) * PIXELS_AT_ONCE)
        # Component by component: pixels that follow each other lie near each other, and so do the values they need.
        for k in range(fluxes.size):
            y0, x0, flux = components[k, 0] - ny // 2, components[k, 1] - nx // 2, np.float32(fluxes[k])
            for j in range(first, last):
                dy, dx = pixels[j, 0] - y0, pixels[j, 1] - x0
                if 0 <= dy < ny and 0 <= dx < nx:
                    values[j] -= flux * psf[dy, dx]


@compiled_parallel
def stamp_gaussians(
    image: NDArray[np.float32],
    positions: NDArray[np.float64],
    fluxes: NDArray[np.float64],
    curvature: tuple[float, float, float],
    reach: int,
) -> None:
    """Add Gaussians of one shape to an image, in place.

    Parameters
    ----------
    image
        (ny, nx).
    positions
        (n_component, 2), their (y, x), fractions of a pixel included; ascending in y.
    fluxes
        (n_component,), peaks.
    curvature
        (a, b, c) of exp(−(a dx² + 2 b dx dy + c dy²)), per pixel squared.
    reach
        Pixels from the center at which a Gaussian is cut off.
    """
    ny, nx = image.shape
    a, b, c = curvature
    for y in prange(ny):
        first = np.searchsorted(positions[:, 0], y - reach)
        last = np.searchsorted(positions[:, 0], y + reach, side="right")
        for k in range(first, last):
            dy = y - positions[k, 0]
            center = int(np.round(positions[k, 1]))
            for x in range(max(0, center - reach), min(nx, center + reach + 1)):
                dx = x - positions[k, 1]
                image[y, x] += np.float32(fluxes[k] * np.exp(-(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy)))
