r"""The noise of an image: its local level and background, and how far pixels share it.

The level is the median absolute deviation in an annulus, as a standard deviation (1.4826 MAD), with sources masked
and what remains of them clipped. The autocorrelation

    R(Δ) = ⟨n(x) n(x + Δ)⟩/⟨n²⟩

is what an error of any flux needs beside the rms: neighboring pixels of a synthesized image carry the same noise.

A noise map of a mosaic is checked in cells smaller than the beam: one value each, and the largest, which tells sources.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.medians import median

FloatArray = NDArray[np.float64]

MAD_TO_SIGMA = 1.482602218505602
CLIP_SIGMA = 3.0
CLIP_ROUNDS = 5
MIN_NOISE_PIXELS = 50
SAMPLED_PIXELS = 2000


def correlation_at(correlation: FloatArray, lag: NDArray[np.int64]) -> FloatArray:
    """Return the autocorrelation at (dx, dy) lags, shape (..., 2); zero beyond what was measured."""
    reach = correlation.shape[0] // 2
    inside = (np.abs(lag[..., 0]) <= reach) & (np.abs(lag[..., 1]) <= reach)
    column, row = np.where(inside, lag[..., 0], 0) + reach, np.where(inside, lag[..., 1], 0) + reach
    return np.asarray(np.where(inside, correlation[row, column], 0.0))


def noise_autocorrelation(
    plane: NDArray[np.floating], usable: NDArray[np.bool_], max_lag: int, side: int = 1024
) -> FloatArray:
    """Measure the autocorrelation of the noise in the middle of an image.

    Parameters
    ----------
    plane
        Image of even noise, (ny, nx).
    usable
        Same shape; False on blank pixels and on sources.
    max_lag
        Largest lag in pixels on each axis.
    side
        Only the central square of this many pixels is looked at.

    Returns
    -------
    NDArray
        (2 max_lag + 1, 2 max_lag + 1), one at its center; white (a single one) where nothing can be measured.
    """
    window = tuple(slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side) for n in plane.shape)
    good = usable[window] & np.isfinite(plane[window])
    correlation = np.zeros((2 * max_lag + 1, 2 * max_lag + 1))
    correlation[max_lag, max_lag] = 1.0
    if np.count_nonzero(good) < MIN_NOISE_PIXELS:
        return correlation
    values = plane[window].astype(np.float64)
    middle, sigma = robust_sigma(values[good])
    good &= np.abs(np.where(good, values, 0.0) - middle) <= (CLIP_SIGMA + 1.0) * sigma
    noise = np.where(good, values - middle, 0.0)
    size = [next_fast_len(n + max_lag, real=True) for n in noise.shape]
    power = np.abs(rfft2(noise, size)) ** 2
    pairs = np.abs(rfft2(good.astype(np.float64), size)) ** 2
    lagged = np.arange(-max_lag, max_lag + 1)
    grid = np.ix_(lagged % size[0], lagged % size[1])
    counts = irfft2(pairs, size)[grid]
    covariance = irfft2(power, size)[grid] / np.maximum(counts, 1.0)
    zero = covariance[max_lag, max_lag]
    return np.asarray(np.where(counts >= 1.0, covariance / zero, 0.0)) if zero > 0.0 else correlation


def robust_sigma(values: FloatArray) -> tuple[float, float]:
    """Return the median and the standard deviation from the median absolute deviation of a sample."""
    middle = float(np.median(values))
    return middle, float(MAD_TO_SIGMA * np.median(np.abs(values - middle)))


@compiled
def over_noise(
    image: NDArray[np.float32], noise: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return an image over its noise map, and one over that map, (ny, nx) each: NaN where noise is not above zero."""
    flat, inverse = np.empty_like(image), np.empty_like(image)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            level = noise[row, column]
            factor = np.float32(1.0) / level if level > np.float32(0.0) else np.float32(np.nan)
            inverse[row, column], flat[row, column] = factor, image[row, column] * factor
    return flat, inverse


@compiled
def _clipped(values: NDArray[np.float32], count: int, distance: NDArray[np.float32]) -> tuple[float, float]:
    """Return the median and the sigma (from the MAD) of the first values, outliers clipped in rounds; in place."""
    middle = sigma = np.nan
    for _ in range(CLIP_ROUNDS + 1):
        middle = median(values, count)
        for i in range(count):
            distance[i] = abs(values[i] - np.float32(middle))
        sigma = MAD_TO_SIGMA * median(distance, count)
        kept = 0
        for i in range(count):
            values[kept] = values[i]
            kept += distance[i] <= CLIP_SIGMA * sigma
        if kept == count or kept < MIN_NOISE_PIXELS:
            break
        count = kept
    return middle, sigma


@compiled
def _annuli(
    plane: NDArray[np.floating],
    usable: NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    radii_step: tuple[float, float, int],
) -> tuple[FloatArray, FloatArray]:
    inner, outer, step = radii_step
    background, sigma = np.full(x.size, np.nan), np.full(x.size, np.nan)
    side = 2 * int(outer / step) + 3
    buffer, distance = np.empty(side * side, np.float32), np.empty(side * side, np.float32)
    for source in range(x.size):
        count = 0
        for row in range(max(0, int(y[source] - outer)), min(plane.shape[0], int(y[source] + outer) + 1), step):
            for column in range(max(0, int(x[source] - outer)), min(plane.shape[1], int(x[source] + outer) + 1), step):
                square = (row - y[source]) ** 2 + (column - x[source]) ** 2
                if inner**2 <= square <= outer**2 and usable[row, column]:
                    buffer[count] = plane[row, column]
                    count += 1
        if count >= MIN_NOISE_PIXELS:
            background[source], sigma[source] = _clipped(buffer, count, distance)
    return background, sigma


def local_noise(
    plane: NDArray[np.floating], usable: NDArray[np.bool_], x: FloatArray, y: FloatArray, radii_px: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Measure background and rms in an annulus around each position, outliers clipped.

    Parameters
    ----------
    plane
        Image of nearly even noise, (ny, nx).
    usable
        Same shape; False on blank pixels and on known sources.
    x, y
        Positions in pixels, (n_source,).
    radii_px
        Inner and outer radius. A wide annulus is read on every k-th pixel, so that some 2,000 are looked at.

    Returns
    -------
    tuple
        Median and σ (from the MAD), each (n_source,); NaN where fewer than 50 pixels are usable.
    """
    inner, outer = radii_px
    step = max(1, int(np.sqrt(np.pi * outer**2 / SAMPLED_PIXELS)))
    background, sigma = _annuli(plane, usable, x, y, (inner, outer, step))
    return np.asarray(background), np.asarray(sigma)


def noise_around(
    plane: NDArray[np.floating], usable: NDArray[np.bool_], x: FloatArray, y: FloatArray, radius_px: float
) -> tuple[FloatArray, FloatArray]:
    """Measure background and rms around many positions: in discs half a radius apart, linear between their middles.

    Parameters
    ----------
    plane, usable, x, y
        As for `local_noise`; each position may have its pixels among the usable ones, where it is one of hundreds.
    radius_px
        Of the discs.

    Returns
    -------
    tuple
        As of `local_noise`; NaN where no disc around has 50 usable pixels.
    """
    spacing = 0.5 * radius_px
    u, v = x / spacing, y / spacing
    shape = (int(np.ceil(plane.shape[0] / spacing)) + 2, int(np.ceil(plane.shape[1] / spacing)) + 2)
    column = np.clip(np.floor(u).astype(np.int64), 0, shape[1] - 2)
    row = np.clip(np.floor(v).astype(np.int64), 0, shape[0] - 2)
    corners = [(row + j) * shape[1] + column + i for j in (0, 1) for i in (0, 1)]
    nodes = np.unique(np.concatenate(corners))
    measured = local_noise(plane, usable, (nodes % shape[1]) * spacing, (nodes // shape[1]) * spacing, (0.0, radius_px))
    right, up = np.clip(u - column, 0.0, 1.0), np.clip(v - row, 0.0, 1.0)
    share = np.stack([(1 - up) * (1 - right), (1 - up) * right, up * (1 - right), up * right])
    place = np.searchsorted(nodes, np.stack(corners))
    # Of a corner that has no noise the others take the share.
    share = np.where(np.isfinite(measured[1][place]), share + 1e-9, 0.0)
    with np.errstate(invalid="ignore"):
        background, sigma = (np.sum(share * np.nan_to_num(m[place]), axis=0) / share.sum(axis=0) for m in measured)
    return background, sigma


@compiled_parallel
def pull_in_cells(
    image: NDArray[np.float32], noise: NDArray[np.float32], step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Look at image over noise in square cells of *step* pixels.

    Returns
    -------
    tuple
        The value of each cell's middle pixel and the largest absolute value in it, each (ny // step, nx // step); NaN
        and zero where there is none.
    """
    shape = (image.shape[0] // step, image.shape[1] // step)
    middle, largest = np.empty(shape, np.float32), np.zeros(shape, np.float32)
    for j in prange(shape[0]):
        for i in range(shape[1]):
            y, x = j * step + step // 2, i * step + step // 2
            middle[j, i] = image[y, x] / noise[y, x]
            for row in range(j * step, (j + 1) * step):
                for column in range(i * step, (i + 1) * step):
                    size = abs(image[row, column] / noise[row, column])
                    if size > largest[j, i]:
                        largest[j, i] = size
    return middle, largest


@compiled_parallel
def scale_bilinear(plane: NDArray[np.float32], factors: FloatArray, block: float) -> None:
    """Multiply a plane in place by factors that hold in the middles of square blocks, linear between them.

    Parameters
    ----------
    plane
        (ny, nx).
    factors
        (n_block_y, n_block_x); beyond the outermost middles they stay as they are.
    block
        Side of a block in pixels.
    """
    n_y, n_x = factors.shape
    for y in prange(plane.shape[0]):
        v = min(max((y + 0.5) / block - 0.5, 0.0), n_y - 1.0)
        low = min(int(v), max(n_y - 2, 0))
        up, high = v - low, min(low + 1, n_y - 1)
        for x in range(plane.shape[1]):
            u = min(max((x + 0.5) / block - 0.5, 0.0), n_x - 1.0)
            left = min(int(u), max(n_x - 2, 0))
            right, last = u - left, min(left + 1, n_x - 1)
            below = (1.0 - right) * factors[low, left] + right * factors[low, last]
            above = (1.0 - right) * factors[high, left] + right * factors[high, last]
            plane[y, x] *= np.float32((1.0 - up) * below + up * above)


@compiled_parallel
def box_levels(
    plane: NDArray[np.float32], edges: NDArray[np.int64], step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure median and sigma (from the MAD) in square boxes.

    Parameters
    ----------
    plane
        (n, n), finite.
    edges
        (n_box + 1,), where boxes begin on both axes, and the end of the last.
    step
        Only every so-manieth pixel of both axes is looked at.

    Returns
    -------
    tuple
        Medians and sigmas, (n_box, n_box) each.
    """
    n_box = edges.size - 1
    middle, sigma = np.empty((n_box, n_box), np.float32), np.empty((n_box, n_box), np.float32)
    for box in prange(n_box * n_box):
        j, i = box // n_box, box % n_box
        values = plane[edges[j] : edges[j + 1] : step, edges[i] : edges[i + 1] : step].copy().ravel()
        level = median(values, values.size)
        for k in range(values.size):
            values[k] = abs(values[k] - level)
        middle[j, i], sigma[j, i] = level, MAD_TO_SIGMA * median(values, values.size)
    return middle, sigma
