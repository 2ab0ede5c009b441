r"""Scales of CLEAN: what a component looks like, and what the residual looks like to it.

A component of scale k is a Gaussian K of unit flux (a point for the smallest scale). In the residual R it is searched
by the matched filter

    R_k = (K ∗ R)/√p_k        P_k = (K ∗ K ∗ P)/p_k        p_k = (K ∗ K ∗ P)(0)

whose noise is that of R at every scale, as the noise of a dirty image is correlated like the point spread function P.
So the scale on which the brightest R_k stands out most is the one to clean next, no bias needed; a component of height
a in R_k has the flux a/√p_k (Cornwell 2008 for the method).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from dsa110_contimg.errors import ImagingError

FWHM_PER_SIGMA = 2.354820045
REACH_SIGMA = 3.0


class Scale(NamedTuple):
    """One width of components."""

    kernel: NDArray[np.float32]
    """(n, n), sum 1; (1, 1) is a point."""
    psf: NDArray[np.float32]
    """P_k."""
    response: float
    """√p_k."""

    def seen(self, residual: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return R_k of a residual."""
        if self.kernel.size == 1:
            return residual
        return np.asarray(fftconvolve(residual, self.kernel, mode="same") / np.float32(self.response))

    def spread(
        self, pixels: NDArray[np.int32], heights: NDArray[np.float64], size: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the pixels and fluxes of components, given where and how high they are in R_k."""
        if self.kernel.size == 1:
            return pixels, heights
        plane, half = np.zeros((size, size)), self.kernel.shape[0] // 2
        for (y, x), height in zip(pixels.tolist(), (heights / self.response).tolist(), strict=True):
            rows, columns = slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1)
            part = plane[rows, columns]
            first_y, first_x = rows.start - (y - half), columns.start - (x - half)
            part += height * self.kernel[first_y : first_y + part.shape[0], first_x : first_x + part.shape[1]]
        at = np.argwhere(plane)
        return at.astype(np.int32), plane[at[:, 0], at[:, 1]]


def make_scales(psf: NDArray[np.float32], beam_pixels: float, widths: str) -> list[Scale]:
    """Return the point and the scales of a list of widths.

    Parameters
    ----------
    psf
        (n, n), 1 at (n // 2, n // 2).
    beam_pixels
        Major axis of the beam.
    widths
        Full widths at half maximum in beams, joined by commas; empty for the point alone.

    Raises
    ------
    ImagingError
        If a width is no number, not positive or wider than a quarter of the image.
    """
    scales = [Scale(np.ones((1, 1), np.float32), psf, 1.0)]
    for width in widths_in_pixels(widths, beam_pixels, psf.shape[0]):
        sigma = width / FWHM_PER_SIGMA
        half = int(np.ceil(REACH_SIGMA * sigma))
        line = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
        kernel = (np.outer(line, line) / line.sum() ** 2).astype(np.float32)
        twice = fftconvolve(fftconvolve(psf, kernel, mode="same"), kernel, mode="same")
        height = float(twice[psf.shape[0] // 2, psf.shape[1] // 2])
        scales.append(Scale(kernel, np.asarray(twice / height, np.float32), height**0.5))
    return scales


def widths_in_pixels(widths: str, beam_pixels: float, size: int) -> list[float]:
    """Return a list of widths in beams as full widths at half maximum in pixels.

    Raises
    ------
    ImagingError
        If a width is no number, not positive or wider than a quarter of the image of `size` pixels.
    """
    for width in _numbers(widths):
        if not 0.0 < width * beam_pixels <= size / 4.0:
            raise ImagingError(
                f"a scale of {width:g} beams is {width * beam_pixels:.0f} pixels wide: "
                f"above 0 and up to {size // 4} can be cleaned in this image"
            )
    return [width * beam_pixels for width in _numbers(widths)]


def _numbers(widths: str) -> Sequence[float]:
    try:
        return [float(word) for word in widths.split(",") if word.strip()]
    except ValueError as error:
        raise ImagingError(f"scales {widths!r} are no numbers: give widths in beams, as in 2,4") from error
