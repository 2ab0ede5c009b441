"""The noise of an image: 1.4826 times the median absolute deviation, over all of it or around each pixel."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.clean import Bilinear
from dsa110_contimg.kernels.noise import box_levels

MAD_TO_SIGMA = 1.4826
FEWEST_BOXES = 3
BEAMS_ACROSS_BOX = 12
MOST_SAMPLED = 1024


class NoiseMap(NamedTuple):
    """Noise and background of an image, measured in boxes and joined bilinearly."""

    whole_jy: float
    """Of all of the image."""
    sigma: NDArray[np.float32]
    """(n_box, n_box), Jy/beam; never below half of that of the whole image."""
    background: NDArray[np.float32]
    """(n_box, n_box), medians."""
    middles: NDArray[np.float64]
    """(n_box,), pixels."""
    size: int
    """Pixels on a side of the image."""

    def nodes(self) -> Bilinear:
        """Return, for each pixel of an axis, the box before it and how far it is toward the next."""
        place = np.interp(np.arange(self.size), self.middles, np.arange(self.middles.size))
        before = np.minimum(place.astype(np.int64), max(0, self.middles.size - 2))
        return Bilinear(before, (place - before).astype(np.float32))

    def image(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `sigma` or `background` at every pixel, shape (size, size)."""
        if self.middles.size < FEWEST_BOXES:
            return np.full((self.size, self.size), values[0, 0], np.float32)
        lines = [np.interp(np.arange(self.size), self.middles, row) for row in np.eye(self.middles.size)]
        bilinear = np.stack(lines, axis=1).astype(np.float32)
        return np.asarray(bilinear @ values @ bilinear.T)


def robust_sigma(image: NDArray[np.float32]) -> float:
    """Return the robust standard deviation of an image; pixels that are not finite do not count."""
    step = max(1, image.shape[0] // MOST_SAMPLED)
    values = image[::step, ::step]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def noise_map(image: NDArray[np.float32], beam_pixels: float) -> NoiseMap:
    """Measure background and robust standard deviation around each pixel.

    Boxes of 12 beams are measured on their own; an image of fewer than 3 x 3 boxes has one value everywhere.

    Parameters
    ----------
    image
        (n, n), finite.
    beam_pixels
        Major axis of the beam in pixels.
    """
    size, whole = image.shape[0], robust_sigma(image)
    boxes = int(size // max(32.0, BEAMS_ACROSS_BOX * beam_pixels))
    if boxes < FEWEST_BOXES:
        edges = np.array([0, size])
        middle = np.full((1, 1), np.median(image), np.float32)
        sigma = np.full((1, 1), whole, np.float32)
    else:
        edges = np.linspace(0, size, boxes + 1).astype(np.int64)
        # Pixels closer than a quarter of a beam tell the same.
        middle, sigma = box_levels(image, edges, max(1, int(beam_pixels / 4.0)))
    middles = 0.5 * (edges[:-1] + edges[1:] - 1.0)
    return NoiseMap(whole, np.maximum(sigma, np.float32(0.5 * whole)), middle, middles, size)
