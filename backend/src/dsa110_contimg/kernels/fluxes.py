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

so that the peak is the default. Neighbors closer than the beam's reach are solved together (`close_sources`):
A f = w·(d − b) with A_ij = w_i·K(x − x_j), and cov f = A⁻¹ (w_i R w_j) A⁻ᵀ. The position error of a bright source is
0.42 θ/SNR along each axis of the beam where R = K (Condon 1997, PASP 109, 166); `offset_covariance` says what it is
with the R measured.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from dsa110_contimg.compiled import compiled
from dsa110_contimg.kernels.noise import correlation_at

FloatArray = NDArray[np.float64]

FIT_TOLERANCE_PX = 1e-3
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
    xx, xy, yy = quadratic_form(shape)
    return np.asarray(np.exp(-(dx * (xx * dx + 2.0 * xy * dy) + yy * dy * dy)))


def quadratic_form(shape: BeamShape) -> tuple[float, float, float]:
    """Return (a, b, c) with which the beam is exp(−(a dx² + 2 b dx dy + c dy²))."""
    sine, cosine, scale = np.sin(shape.pa_rad), np.cos(shape.pa_rad), 4.0 * np.log(2.0)
    along, across = scale / shape.major_px**2, scale / shape.minor_px**2
    return (
        float(sine**2 * along + cosine**2 * across),
        float(sine * cosine * (across - along)),
        float(cosine**2 * along + sine**2 * across),
    )


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


@compiled
def _read(
    plane: NDArray[np.floating], column: NDArray[np.int64], row: NDArray[np.int64], offsets: NDArray[np.int64]
) -> FloatArray:
    values = np.empty((column.size, offsets.shape[0]))
    for source in range(column.size):
        for pixel in range(offsets.shape[0]):
            x, y = column[source] + offsets[pixel, 0], row[source] + offsets[pixel, 1]
            inside = 0 <= x < plane.shape[1] and 0 <= y < plane.shape[0]
            values[source, pixel] = plane[y, x] if inside else np.nan
    return values


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
    values = _read(plane, np.rint(x).astype(np.int64), np.rint(y).astype(np.int64), offsets)
    return values, (np.rint(x) - x)[:, None] + offsets[:, 0], (np.rint(y) - y)[:, None] + offsets[:, 1]


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


@compiled
def _normal_equations(
    values: FloatArray, dx: FloatArray, dy: FloatArray, state: FloatArray, form: tuple[float, float, float]
) -> tuple[FloatArray, FloatArray]:
    """Sum the normal equations of height and shift of one source over its pixels that are numbers."""
    (xx, xy, yy), (height, shift_x, shift_y) = form, (state[0], state[1], state[2])
    m_hh = m_hx = m_hy = m_xx = m_xy = m_yy = v_h = v_x = v_y = 0.0
    for pixel in range(values.size):
        if not -np.inf < values[pixel] < np.inf:
            continue
        u, v = dx[pixel] - shift_x, dy[pixel] - shift_y
        along, across = xx * u + xy * v, xy * u + yy * v
        model = np.exp(-(along * u + across * v))
        slope_x, slope_y = 2.0 * height * model * along, 2.0 * height * model * across
        rest = values[pixel] - height * model
        m_hh, m_hx, m_hy = m_hh + model * model, m_hx + model * slope_x, m_hy + model * slope_y
        m_xx, m_xy, m_yy = m_xx + slope_x * slope_x, m_xy + slope_x * slope_y, m_yy + slope_y * slope_y
        v_h, v_x, v_y = v_h + model * rest, v_x + slope_x * rest, v_y + slope_y * rest
    matrix = np.array([[m_hh, m_hx, m_hy], [m_hx, m_xx, m_xy], [m_hy, m_xy, m_yy]])
    return matrix, np.array([v_h, v_x, v_y])


@compiled
def _fit(
    values: FloatArray, dx: FloatArray, dy: FloatArray, form: tuple[float, float, float], limit: float, rounds: int
) -> FloatArray:
    found = np.full((3, values.shape[0]), np.nan)
    for source in range(values.shape[0]):
        state = np.zeros(3)
        for turn in range(rounds + 1):
            matrix, vector = _normal_equations(values[source], dx[source], dy[source], state, form)
            if not matrix[0, 0] > 0.0:
                break
            if turn == 0:
                state[0] = vector[0] / matrix[0, 0]
                continue
            ridge = 1e-12 * (matrix[0, 0] + matrix[1, 1] + matrix[2, 2])
            for axis in range(3):
                matrix[axis, axis] += ridge
            step = np.linalg.solve(matrix, vector)
            state[0] += step[0]
            for axis in (1, 2):
                state[axis] = min(max(state[axis] + step[axis], -limit), limit)
            if abs(step[1]) + abs(step[2]) < FIT_TOLERANCE_PX:
                break
        if state[0] != 0.0 and np.hypot(state[1], state[2]) < limit:
            found[:, source] = state
    return found


OFFSET_LEVEL = 0.5
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
    (dx, dy), (xx, xy, yy) = offsets.T, quadratic_form(shape)
    beam = beam_kernel(dx, dy, shape)
    jacobian = np.stack([beam, 2.0 * beam * (xx * dx + xy * dy), 2.0 * beam * (xy * dx + yy * dy)], axis=1)
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
        Most Gauss-Newton steps.

    Returns
    -------
    tuple
        Height, x offset and y offset (pixels), each (n_source,); NaN where the fit runs off by half the beam, or no
        pixel is a number.
    """
    values, dx, dy = (np.ascontiguousarray(array, dtype=np.float64) for array in (values, dx, dy))
    height, shift_x, shift_y = _fit(values, dx, dy, quadratic_form(shape), 0.5 * shape.major_px, rounds)
    return height, shift_x, shift_y


def position_errors(shape: BeamShape, snr: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the errors of a point source's position along x and y (pixels), (n,) each.

    Along each axis of the beam θ/(2 √(2 ln 2) SNR), which is 0.42 θ/SNR (Condon 1997, for a source of the beam's size).
    """
    sine, cosine = np.sin(shape.pa_rad), np.cos(shape.pa_rad)
    along_x = np.hypot(shape.major_px * sine, shape.minor_px * cosine)
    along_y = np.hypot(shape.major_px * cosine, shape.minor_px * sine)
    scale = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)) * snr)
    return np.asarray(along_x * scale), np.asarray(along_y * scale)
