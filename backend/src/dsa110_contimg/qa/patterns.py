r"""Patterns that an image should not have: stripes and bowls, in units of its noise.

A baseline with a wrong gain adds a plane wave to the image. Of the pixels d/σ, cut off at ±3 so that sources do not
count,

    stripes = 2 √(Σ|F|²)/N         F the Fourier transform, summed over the strongest cell and its eight neighbors

is the amplitude of the strongest wave. What is wider than a third of the image is a matter of background: missing
short baselines and sources cleaned too deep leave bowls,

    bowl = −min(median of d/σ over a box)        boxes of eight beams, in steps of half a box

which noise alone makes 0.6 deep at most. The border, a tenth of the image on each side, is left out of bowls: sidelobes
of what lies outside are not cleaned, and sound images dip there by 1.7.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsa110_contimg.kernels.coadd import robust_center_scatter

CUT_SIGMA = 3.0
JOINED = 2
"""Pixels on a side that are averaged first: no baseline makes finer stripes than five pixels."""
WIDEST_WAVES = 3
BOX_BEAMS = 8.0
FULL_BOX = 0.5
BORDER = 0.1


class Stripes(NamedTuple):
    """The strongest plane wave in an image."""

    amplitude: float
    """In units of the noise."""
    period_pixels: float
    pa_deg: float
    """Position angle of the direction in which it varies, north through east."""


class Bowl(NamedTuple):
    """The deepest box of an image."""

    depth: float
    """In units of the noise; negative where even the deepest box lies above zero."""
    x: float
    y: float
    """Zero-based pixel of its middle."""


def pull(data: NDArray[np.float32], noise: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return an image in units of its noise, less its median; NaN outside its field.

    Parameters
    ----------
    data
        (ny, nx), Jy/beam.
    noise
        Noise map of the same shape; None takes the scatter of the whole image.
    """
    if noise is not None:
        ratio = data / noise
        return np.asarray(ratio - np.float32(robust_center_scatter(ratio)[0]))
    center, sigma = robust_center_scatter(data)
    return np.asarray((data - np.float32(center)) / np.float32(sigma))


def strongest_stripes(pulls: NDArray[np.float32]) -> Stripes:
    """Measure the strongest wave.

    Parameters
    ----------
    pulls
        (ny, nx), image in units of its noise (`pull`).
    """
    ny, nx = (length // JOINED * JOINED for length in pulls.shape)
    cut = np.nan_to_num(np.clip(pulls[:ny, :nx], -CUT_SIGMA, CUT_SIGMA))
    joined = sum(cut[j::JOINED, i::JOINED] for j in range(JOINED) for i in range(JOINED)) / np.float32(JOINED**2)
    number = np.count_nonzero(np.isfinite(pulls[:ny, :nx])) / JOINED**2
    power = np.square(np.abs(fft.rfft2(joined)))
    power[: WIDEST_WAVES + 1, : WIDEST_WAVES + 1] = 0.0
    power[-WIDEST_WAVES:, : WIDEST_WAVES + 1] = 0.0
    v, u = (int(index) for index in np.unravel_index(np.argmax(power), power.shape))
    total = power[np.ix_(np.arange(v - 1, v + 2) % power.shape[0], np.arange(max(u - 1, 0), u + 2) % power.shape[1])]
    rows, columns = joined.shape
    east, north = -u / columns, (v if v <= rows // 2 else v - rows) / rows
    period = JOINED / float(np.hypot(east, north)) if u or v else np.inf
    return Stripes(
        float(2.0 * np.sqrt(total.sum()) / number), period, float(np.degrees(np.arctan2(east, north))) % 180.0
    )


def deepest_bowl(pulls: NDArray[np.float32], beam_pixels: float) -> Bowl:
    """Find the box with the lowest median.

    Parameters
    ----------
    pulls
        (ny, nx), image in units of its noise (`pull`).
    beam_pixels
        Geometric mean of the beam's axes.
    """
    # Pixels closer than a quarter of a beam tell the same.
    step = max(1, int(beam_pixels / 4.0))
    border_y, border_x = (int(BORDER * length) for length in pulls.shape)
    thin = pulls[border_y : pulls.shape[0] - border_y : step, border_x : pulls.shape[1] - border_x : step]
    side = max(4, round(BOX_BEAMS * beam_pixels / step))
    deepest = Bowl(-np.inf, np.nan, np.nan)
    for first_y in (0, side // 2):
        for first_x in (0, side // 2):
            boxes = _boxes(thin[first_y:, first_x:], side)
            if boxes.size == 0:
                continue
            medians = _medians(boxes)
            j, i = (int(index) for index in np.unravel_index(np.argmin(medians), medians.shape))
            if -medians[j, i] > deepest.depth:
                x, y = (first_x + (i + 0.5) * side) * step, (first_y + (j + 0.5) * side) * step
                deepest = Bowl(-float(medians[j, i]), border_x + x, border_y + y)
    return deepest


def _boxes(plane: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Cut a plane into boxes, (n_row, n_column, side²)."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3)).reshape(rows, columns, side * side)


def _medians(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each box; infinite where less than half of it has a value."""
    known = np.isfinite(boxes)
    count = known.sum(axis=2)
    ordered = np.sort(np.where(known, boxes, np.inf), axis=2)
    middle = np.take_along_axis(ordered, np.maximum(count[..., None] - 1, 0) // 2, axis=2)[..., 0]
    return np.where(count >= FULL_BOX * boxes.shape[2], middle, np.float32(np.inf))
