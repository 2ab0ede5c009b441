r"""The weighted sum of overlapping images, what goes before it, and the robust width of a distribution.

A tile shows the sky through its beam with even noise σ. Divided by the beam P it is an estimate of the sky with
variance σ²/P², so the best mean of several is

    I = Σ w (D/P) / Σ w = Σ (P/σ²) D / Σ (P²/σ²)        w = P²/σ², not normalized
    noise = 1 / √(Σ w)
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel

MAD_TO_SIGMA = 1.482602218505602
CLIP_SIGMA = 4.0
SAMPLE = 500_000


@compiled_parallel
def accumulate(
    sums: NDArray[np.float32],
    image: NDArray[np.float32],
    beam: NDArray[np.float32],
    step: int,
    sigma: float,
    beam_limit: float,
    corner: tuple[int, int],
) -> None:
    """Add one image to the running sums, in place.

    Parameters
    ----------
    sums
        (4, ny, nx): Σ (P/σ²) D, Σ P²/σ², the largest P so far, and the number of images.
    image
        D on the grid of the sums, (my, mx), with even noise; NaN is left out.
    beam
        P at every *step*-th pixel of it from the first on, linear between; a pixel without one is left out.
    step
        Distance of the nodes of P in pixels.
    sigma
        Noise of the image.
    beam_limit
        Pixels with a smaller beam are left out.
    corner
        (y, x) of the image's first pixel in the sums; the image lies inside them.
    """
    weight, limit = np.float32(1.0 / (sigma * sigma)), np.float32(beam_limit)
    n_y, n_x = beam.shape
    ny, nx = image.shape
    for y in prange(ny):
        response = np.empty(nx, np.float32)
        below = y // step
        up = y / step - below
        # A missing node takes with it what lies between nodes, not what lies on another one.
        above = min(below + 1, n_y - 1) if up > 0.0 else below
        for first in range(0, nx, step):
            left = first // step
            right = min(left + 1, n_x - 1) if step > 1 else left
            here = (1.0 - up) * beam[below, left] + up * beam[above, left]
            slope = ((1.0 - up) * beam[below, right] + up * beam[above, right] - here) / step
            for x in range(first, min(first + step, nx)):
                response[x] = here + (x - first) * slope
        line = sums[:, y + corner[0], corner[1] : corner[1] + nx]
        total, weights, largest, number = line[0], line[1], line[2], line[3]
        for x in range(nx):
            value = image[y, x]
            wanted = (response[x] >= limit) & (value > -np.inf) & (value < np.inf)
            reached = response[x] if wanted else np.float32(0.0)
            total[x] += weight * reached * (value if wanted else np.float32(0.0))
            weights[x] += weight * reached * reached
            largest[x] = max(largest[x], reached)
            number[x] += np.float32(1.0) if wanted else np.float32(0.0)


def accumulate_numpy(
    sums: NDArray[np.float32],
    image: NDArray[np.float32],
    beam: NDArray[np.float32],
    sigma: float,
    beam_limit: float,
    corner: tuple[int, int],
) -> None:
    """Add one image to the running sums, plainly, by its beam at every pixel: what the fast kernel is to do."""
    window = (slice(corner[0], corner[0] + image.shape[0]), slice(corner[1], corner[1] + image.shape[1]))
    keep = (np.nan_to_num(beam, nan=-1.0) >= beam_limit) & np.isfinite(image)
    response, value = np.where(keep, beam, 0.0), np.where(keep, image, 0.0)
    sums[0][window] += (response * value / sigma**2).astype(np.float32)
    sums[1][window] += (response**2 / sigma**2).astype(np.float32)
    sums[2][window] = np.maximum(sums[2][window], response)
    sums[3][window] += keep


@compiled_parallel
def finish(sums: NDArray[np.float32], beam_limit: float) -> None:
    """Turn running sums in place into image, weight, noise and number of images.

    Where no beam reaches the limit the first three are NaN and the number is zero.
    """
    for y in prange(sums.shape[1]):
        for x in range(sums.shape[2]):
            weight = sums[1, y, x]
            if weight > 0.0 and sums[2, y, x] >= beam_limit:
                sums[0, y, x] /= weight
                sums[2, y, x] = np.float32(1.0) / np.sqrt(weight)
            else:
                sums[0, y, x] = sums[1, y, x] = sums[2, y, x] = np.float32(np.nan)
                sums[3, y, x] = np.float32(0.0)


@compiled_parallel
def gaussian_taper(spectrum: NDArray[np.complex64], n_x: int, matrix: tuple[float, float, float], scale: float) -> None:
    """Convolve with a Gaussian of integral *scale*: multiply a real image's spectrum in place.

    Parameters
    ----------
    spectrum
        (n_y, n_x // 2 + 1), as `rfft2` makes it.
    n_x
        Pixels of the image along x.
    matrix
        Its covariance (xx, xy, yy) in pixels².
    scale
        Factor.
    """
    xx, xy, yy = matrix
    n_y = spectrum.shape[0]
    for j in prange(n_y):
        v = (j if 2 * j < n_y else j - n_y) / n_y
        for i in range(spectrum.shape[1]):
            u = i / n_x
            exponent = -2.0 * np.pi**2 * (xx * u * u + 2.0 * xy * u * v + yy * v * v)
            spectrum[j, i] *= np.float32(scale * np.exp(exponent))


def robust_center_scatter(values: NDArray[np.floating], rounds: int = 5) -> tuple[float, float]:
    """Return (median, standard deviation) of the bulk of a distribution; NaN when nothing is finite.

    The median absolute deviation, with values beyond four of it left out until nothing changes: sources and
    artifacts do not count. Above half a million values an even sample is looked at, the same one each time.
    """
    kept = values.ravel()
    if kept.size > SAMPLE:
        step = kept.size // SAMPLE + 1
        # An odd step does not walk down the columns of an image of even width.
        kept = kept[:: step | 1]
    kept = kept[np.isfinite(kept)].astype(np.float64)
    center, scatter = float("nan"), float("nan")
    for _ in range(rounds):
        if kept.size == 0:
            break
        center = float(np.median(kept))
        scatter = float(MAD_TO_SIGMA * np.median(np.abs(kept - center)))
        inside = kept[np.abs(kept - center) <= CLIP_SIGMA * scatter]
        if inside.size == kept.size:
            break
        kept = inside
    return center, scatter


def robust_scatter(values: NDArray[np.floating]) -> float:
    """Return the standard deviation of the bulk of a distribution (`robust_center_scatter`)."""
    return robust_center_scatter(values)[1]
