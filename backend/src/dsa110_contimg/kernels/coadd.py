r"""The weighted sum of overlapping images, what goes before it, and the robust width of a distribution.

A tile shows the sky through its beam with even noise σ. Divided by the beam P it is an estimate of the sky with
variance σ²/P², so the best mean of several is

    I = Σ w (D/P) / Σ w = Σ (P/σ²) D / Σ (P²/σ²)        w = P²/σ², not normalized
    noise = 1 / √(Σ w)
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel, is_finite

MAD_TO_SIGMA = 1.482602218505602
CLIP_SIGMA = 4.0
SAMPLE = 500_000


@compiled_parallel
def accumulate(
    sums: NDArray[np.float32],
    image: NDArray[np.float32],
    beam: NDArray[np.float32],
    sigma: float,
    beam_limit: float,
    corner: tuple[int, int],
) -> None:
    """Add one image to the running sums, in place.

    Parameters
    ----------
    sums
        (4, ny, nx): Σ (P/σ²) D, Σ P²/σ², the largest P so far, and the number of images.
    image, beam
        (my, mx) each: D, with even noise, and P on the grid of the sums; NaN is left out.
    sigma
        Noise of the image.
    beam_limit
        Pixels with a smaller beam are left out.
    corner
        (y, x) of the image's first pixel in the sums; the image lies inside them.
    """
    weight = 1.0 / (sigma * sigma)
    for y in prange(image.shape[0]):
        for x in range(image.shape[1]):
            response, value = beam[y, x], image[y, x]
            if not (response >= beam_limit and is_finite(value)):
                continue
            j, i = y + corner[0], x + corner[1]
            sums[0, j, i] += np.float32(weight * response * value)
            sums[1, j, i] += np.float32(weight * response * response)
            sums[2, j, i] = max(sums[2, j, i], response)
            sums[3, j, i] += np.float32(1.0)


def accumulate_numpy(
    sums: NDArray[np.float32],
    image: NDArray[np.float32],
    beam: NDArray[np.float32],
    sigma: float,
    beam_limit: float,
    corner: tuple[int, int],
) -> None:
    """Add one image to the running sums, plainly: the specification of the fast kernel."""
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
def usable_edges(
    beam: NDArray[np.float32], image: NDArray[np.float32], beam_limit: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and last usable pixel of each row and of each column; −1 as the last where there is none.

    Parameters
    ----------
    beam, image
        (ny, nx); a pixel is usable if its beam reaches the limit and the image has a value.
    beam_limit
        Smallest usable beam.

    Returns
    -------
    tuple
        Left, right, each (ny,); low, high, each (nx,).
    """
    ny, nx = image.shape
    left, right = np.full(ny, nx), np.full(ny, -1)
    low, high = np.full(nx, ny), np.full(nx, -1)
    for y in prange(ny):
        for x in range(nx):
            if beam[y, x] >= beam_limit and is_finite(image[y, x]):
                left[y] = min(left[y], x)
                right[y] = x
    for y in range(ny):
        for x in range(left[y], right[y] + 1):
            if beam[y, x] >= beam_limit and is_finite(image[y, x]):
                low[x] = min(low[x], y)
                high[x] = y
    return left, right, low, high


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
