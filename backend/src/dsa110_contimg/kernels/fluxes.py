r"""Fluxes of point sources at known positions in a restored image.

A restored image shows a point source of flux S at x0 as S K(x − x0), K the restoring beam with K(0) = 1,

    K(dx, dy) = exp(−4 ln 2 (p²/major² + q²/minor²))      p = −dx sin χ + dy cos χ,  q = dx cos χ + dy sin χ

for pixels of which x runs against right ascension and a position angle χ east of north: east is −x, north +y.
Every estimator here is linear, flux = w·(d − background), with w·K = 1 and therefore no bias, and its error is

    σ = rms √(wᵀ R w)                                     R the measured autocorrelation of the noise

Two choices of w = C⁻¹K / (KᵀC⁻¹K):

    matched filter       C = 1     right for white noise; σ = rms √(KᵀRK) / ΣK²
    interpolated peak    C = K     right for noise that is correlated like the beam; σ = rms

The second holds because K is then a column of C, so that C⁻¹K picks the value at x0 alone; on pixels it is the
Gaussian-process interpolation of the image at x0. Taking rms/√ΣK² or rms as the matched filter's error is wrong.

Which is better was measured by injection (5,476 sources of 5 σ to 50 σ at random sub-pixel positions for each beam
and noise; `tests/kernels/test_fluxes.py` repeats it in small). Scatter of the fluxes over rms, beams of 7 × 4 and
20 × 6 pixels:

    noise                                    matched filter    interpolated peak
    R = K (natural weights)                  1.15, 1.15        1.00, 0.99
    R = K * K (white noise, convolved)       1.40, 1.40        1.00, 1.00
    white (no interferometer makes it)       0.25, 0.12        0.58, 0.38

so that the peak is the default. Neighbors closer than the beam's reach are solved together: A f = w·(d − b) with
A_ij = w_i·K(x − x_j), and cov f = A⁻¹ (w_i R w_j) A⁻ᵀ. The position error of a bright source is 0.42 θ/SNR along
each axis of the beam where R = K (Condon 1997, PASP 109, 166); `offset_covariance` says what it is with the R measured.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from dsa110_contimg.kernels.noise import correlation_at

FloatArray = NDArray[np.float64]

NUGGET = 1e-3
"""White part of the covariance that the interpolated peak assumes: keeps C well conditioned for wide beams."""


class BeamShape(NamedTuple):
    """A Gaussian beam on the pixel grid: full widths at half maximum (pixels) and position angle (rad)."""

    major_px: float
    minor_px: float
    pa_rad: float


class Estimator(NamedTuple):
    """The pixels that a flux is taken from, and the noise covariance that its weights assume."""

    offsets: NDArray[np.int64]
    """(n_pixel, 2): (dx, dy) from the pixel nearest to the source."""
    covariance: FloatArray
    """(n_pixel, n_pixel), unit diagonal before the nugget."""


def beam_kernel(dx: ArrayLike, dy: ArrayLike, shape: BeamShape) -> FloatArray:
    """Return the beam, one at its center, at pixel offsets from it."""
    dx, dy = np.asarray(dx, dtype=float), np.asarray(dy, dtype=float)
    along = -dx * np.sin(shape.pa_rad) + dy * np.cos(shape.pa_rad)
    across = dx * np.cos(shape.pa_rad) + dy * np.sin(shape.pa_rad)
    return np.asarray(np.exp(-4.0 * np.log(2.0) * ((along / shape.major_px) ** 2 + (across / shape.minor_px) ** 2)))


def beam_gradient(dx: ArrayLike, dy: ArrayLike, shape: BeamShape) -> tuple[FloatArray, FloatArray]:
    """Return the derivatives of `beam_kernel` with respect to dx and dy, per pixel."""
    dx, dy = np.asarray(dx, dtype=float), np.asarray(dy, dtype=float)
    sine, cosine = np.sin(shape.pa_rad), np.cos(shape.pa_rad)
    along, across = (-dx * sine + dy * cosine) / shape.major_px**2, (dx * cosine + dy * sine) / shape.minor_px**2
    value = -8.0 * np.log(2.0) * beam_kernel(dx, dy, shape)
    return value * (-along * sine + across * cosine), value * (along * cosine + across * sine)


def stencil(shape: BeamShape, level: float, minimum: int = 1) -> NDArray[np.int64]:
    """Return the (dx, dy) pixels on which a centered beam is above a level, and at least a small square."""
    half = max(minimum, int(np.ceil(shape.major_px * np.sqrt(np.log(1.0 / level) / (4.0 * np.log(2.0))))))
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    keep = (beam_kernel(dx, dy, shape) > level) | ((np.abs(dx) <= minimum) & (np.abs(dy) <= minimum))
    return np.stack([dx[keep], dy[keep]], axis=1)


def matched_filter(shape: BeamShape) -> Estimator:
    """Return the estimator that weighs pixels with the beam, out to 3 % of its peak."""
    offsets = stencil(shape, 0.03)
    return Estimator(offsets, np.eye(len(offsets)))


def interpolated_peak(shape: BeamShape, half: int = 3) -> Estimator:
    """Return the estimator that reads the image at the position: optimal where noise is correlated like the beam."""
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    offsets = np.stack([dx.ravel(), dy.ravel()], axis=1)
    lag = offsets[:, None, :] - offsets[None, :, :]
    return Estimator(offsets, beam_kernel(lag[..., 0], lag[..., 1], shape) + NUGGET * np.eye(len(offsets)))


def cutouts(
    plane: NDArray[np.floating], x: FloatArray, y: FloatArray, offsets: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Read the pixels around positions.

    Parameters
    ----------
    plane
        Image, (ny, nx).
    x, y
        Positions in pixels, (n_source,).
    offsets
        Pixels of the stencil, (n_pixel, 2).

    Returns
    -------
    tuple
        Values (NaN outside the image) and the pixels' offsets dx, dy from the positions, each (n_source, n_pixel).
    """
    column = np.rint(x).astype(np.int64)[:, None] + offsets[None, :, 0]
    row = np.rint(y).astype(np.int64)[:, None] + offsets[None, :, 1]
    inside = (column >= 0) & (column < plane.shape[1]) & (row >= 0) & (row < plane.shape[0])
    values = plane[np.where(inside, row, 0), np.where(inside, column, 0)].astype(np.float64)
    return np.where(inside, values, np.nan), column - x[:, None], row - y[:, None]


def estimator_weights(estimator: Estimator, kernel: FloatArray, usable: NDArray[np.bool_]) -> FloatArray:
    """Return weights with w·K = 1 that are zero on unusable pixels.

    Parameters
    ----------
    estimator
        Its covariance says what noise the weights are best for.
    kernel
        The beam at the pixels, (n_source, n_pixel).
    usable
        Same shape; False on blank pixels.

    Returns
    -------
    NDArray
        (n_source, n_pixel); NaN for a source without usable pixels.
    """
    weights = np.asarray(np.linalg.solve(estimator.covariance, kernel.T).T)
    for source in np.flatnonzero(~usable.all(axis=1)):
        good = np.flatnonzero(usable[source])
        weights[source] = 0.0
        weights[source, good] = np.linalg.solve(estimator.covariance[np.ix_(good, good)], kernel[source, good])
    norm = np.sum(weights * kernel, axis=1, keepdims=True)
    return np.asarray(weights / np.where(norm > 0.0, norm, np.nan))


def noise_factors(weights: FloatArray, offsets: NDArray[np.int64], correlation: FloatArray) -> FloatArray:
    """Return √(wᵀ R w), the error of each flux over the rms, (n_source,)."""
    lag = offsets[:, None, :] - offsets[None, :, :]
    variance = np.sum((weights @ correlation_at(correlation, lag)) * weights, axis=1)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def bilinear(plane: NDArray[np.floating], x: FloatArray, y: FloatArray) -> FloatArray:
    """Interpolate a smooth map at positions; the nearest pixel where a neighbor is blank, NaN outside."""
    values = map_coordinates(plane, [y, x], order=1, mode="constant", cval=np.nan, output=np.float64)
    nearest = map_coordinates(plane, [y, x], order=0, mode="constant", cval=np.nan, output=np.float64)
    return np.asarray(np.where(np.isfinite(values), values, nearest))


def solve_blends(values: FloatArray, response: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share estimates among sources that reach into each other.

    Parameters
    ----------
    values
        What each estimator read, (n,).
    response
        (n, n): what estimator i reads of a source of unit flux at position j.
    covariance
        (n, n): noise covariance of the estimates.

    Returns
    -------
    tuple
        Fluxes and their errors, each (n,).
    """
    inverse = np.linalg.inv(response)
    return np.asarray(inverse @ values), np.sqrt(np.maximum(np.diag(inverse @ covariance @ inverse.T), 0.0))


OFFSET_LEVEL = 0.3
"""Positions are fitted to the pixels on which the beam is above this."""


def offset_covariance(shape: BeamShape, correlation: FloatArray) -> FloatArray:
    """Return the covariance of the offsets that `fit_offsets` finds for a source of S/N 1, pixels², (2, 2), x first.

    The fit is linear in small errors, (JᵀJ)⁻¹Jᵀ n, with J the derivatives of the beam by height and offsets; so its
    errors follow from the autocorrelation of the noise. They fall as one over the S/N.

    Parameters
    ----------
    shape
        The beam.
    correlation
        Autocorrelation of the noise, as measured.
    """
    offsets = stencil(shape, OFFSET_LEVEL)
    dx, dy = offsets.T
    jacobian = np.stack([beam_kernel(dx, dy, shape), *(-slope for slope in beam_gradient(dx, dy, shape))], axis=1)
    solve = np.linalg.solve(jacobian.T @ jacobian, jacobian.T)
    lag = offsets[:, None, :] - offsets[None, :, :]
    return np.asarray((solve @ correlation_at(correlation, lag) @ solve.T)[1:, 1:])


def fit_offsets(
    values: FloatArray, dx: FloatArray, dy: FloatArray, shape: BeamShape, rounds: int = 8
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit a beam of free position and height to the pixels around each expected position.

    Parameters
    ----------
    values
        Background-free pixels, (n_source, n_pixel); NaN is left out.
    dx, dy
        Offsets of the pixels from the expected positions, same shape.
    shape
        The beam, which stays fixed.
    rounds
        Gauss-Newton steps.

    Returns
    -------
    tuple
        Height, x offset and y offset (pixels), each (n_source,); NaN where the fit runs off by half the beam.
    """
    good = np.isfinite(values)
    pixels = np.where(good, values, 0.0)
    start = beam_kernel(dx, dy, shape) * good
    height = np.sum(start * pixels, axis=1) / np.maximum(np.sum(start**2, axis=1), 1e-30)
    shift = np.zeros((2, len(values)))
    limit = 0.5 * shape.major_px
    for _ in range(rounds):
        x, y = dx - shift[0][:, None], dy - shift[1][:, None]
        model = beam_kernel(x, y, shape) * good
        slopes = beam_gradient(x, y, shape)
        jacobian = np.stack([model, *(-height[:, None] * slope * good for slope in slopes)], axis=2)
        normal = np.einsum("spi,spj->sij", jacobian, jacobian)
        normal += 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3) + 1e-300 * np.eye(3)
        gradient = np.einsum("spi,sp->si", jacobian, pixels - height[:, None] * model)
        step = np.linalg.solve(normal, gradient[..., None])[..., 0]
        height = height + step[:, 0]
        shift = np.clip(shift + step[:, 1:].T, -limit, limit)
    lost = np.hypot(*shift) >= limit
    return np.where(lost, np.nan, height), np.where(lost, np.nan, shift[0]), np.where(lost, np.nan, shift[1])
