r"""The minor cycle of CLEAN on a list of pixels, and the stamping of restored components.

Each iteration takes a fraction g of the largest residual, in absolute value, and subtracts the point spread
function there (Högbom 1974), on those pixels only that may become components before the next exact residual
(Clark 1980):

    k = argmax |r|        r_j −= g r_k P(x_j − x_k)        c_k += g r_k

The point spread function is as large as the image; pixels farther apart than half of it do not see each other.
Rounds of iterations run on the pixels above a fraction of the peak alone; what they found is then taken off the rest.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

ROUND_DEPTH = 0.6
"""Fraction of the peak down to which one round cleans."""


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


@njit(cache=True)
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


@njit(parallel=True, cache=True)
def _take_off(
    values: NDArray[np.float32],
    pixels: NDArray[np.int32],
    psf: NDArray[np.float32],
    components: NDArray[np.int32],
    fluxes: NDArray[np.float64],
) -> None:
    """Subtract the point spread functions of components (n, 2) from every pixel, in place."""
    ny, nx = psf.shape
    for j in prange(values.size):
        y, x = pixels[j, 0] + ny // 2, pixels[j, 1] + nx // 2
        total = 0.0
        for k in range(fluxes.size):
            dy, dx = y - components[k, 0], x - components[k, 1]
            if 0 <= dy < ny and 0 <= dx < nx:
                total += fluxes[k] * psf[dy, dx]
        values[j] -= np.float32(total)


@njit(parallel=True, cache=True)
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
