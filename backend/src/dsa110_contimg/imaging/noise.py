"""The noise of an image: 1.4826 times the median absolute deviation, over all of it or around each pixel."""

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826
FEWEST_BOXES = 3
BEAMS_ACROSS_BOX = 12


def robust_sigma(image: NDArray[np.float32]) -> float:
    """Return the robust standard deviation of an image; pixels that are not finite do not count."""
    step = max(1, image.shape[0] // 2048)
    values = image[::step, ::step]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def local_sigma(image: NDArray[np.float32], beam_pixels: float) -> NDArray[np.float32]:
    """Return the robust standard deviation around each pixel, never below half of that of the whole image.

    Boxes of 12 beams are measured on their own and joined bilinearly; an image of fewer than 3 x 3 boxes has
    one value everywhere.
    """
    whole = robust_sigma(image)
    boxes = int(image.shape[0] // max(32.0, BEAMS_ACROSS_BOX * beam_pixels))
    if boxes < FEWEST_BOXES:
        return np.full(image.shape, whole, np.float32)
    edges = np.linspace(0, image.shape[0], boxes + 1).astype(int)
    # Pixels closer than a quarter of a beam tell the same.
    step = max(1, int(beam_pixels / 4.0))
    coarse = np.empty((boxes, boxes), np.float32)
    for j in range(boxes):
        for i in range(boxes):
            coarse[j, i] = robust_sigma(image[edges[j] : edges[j + 1] : step, edges[i] : edges[i + 1] : step])
    middles = 0.5 * (edges[:-1] + edges[1:] - 1.0)
    lines = [np.interp(np.arange(image.shape[0]), middles, row) for row in np.eye(boxes)]
    bilinear = np.stack(lines, axis=1).astype(np.float32)
    return np.asarray(np.maximum(bilinear @ coarse @ bilinear.T, np.float32(0.5 * whole)))
