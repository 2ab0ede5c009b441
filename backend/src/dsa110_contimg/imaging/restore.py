r"""The restoring beam, and the restored image.

The beam is the elliptical Gaussian of height 1 that fits the middle of the point spread function best,

    G(x, y) = exp(−(a x² + 2 b x y + c y²))

over a box of ten theoretical beams (1 / longest baseline in wavelengths), enlarged where the fit turns out to be
wider: the box is part of the convention, as sidelobes pull at the fit, and it is that of WSClean. The restored image
is the residual plus every component as such a Gaussian.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.kernels.clean import stamp_gaussians
from dsa110_contimg.visibilities import Beam

BOX_SCALE = 10.0
MOST_ENLARGEMENTS = 5
FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))
REACH_FWHM = 2.5


class Components(NamedTuple):
    """Point sources on the pixel grid."""

    yx: NDArray[np.float64]
    """(n_component, 2), pixels and their fractions."""
    flux_jy: NDArray[np.float64]
    """(n_component,), as seen through the primary beam."""


def beam_curvature(beam: Beam, cell_arcsec: float) -> tuple[float, float, float]:
    """Return (a, b, c) of exp(−(a x² + 2 b x y + c y²)) per pixel squared, x toward the west.

    The major axis points at `pa_deg` from north through east, that is from +y toward −x.
    """
    angle = math.radians(beam.pa_deg)
    major = 0.5 * (FWHM_PER_SIGMA * cell_arcsec / beam.major_arcsec) ** 2
    minor = 0.5 * (FWHM_PER_SIGMA * cell_arcsec / beam.minor_arcsec) ** 2
    sin, cos = math.sin(angle), math.cos(angle)
    return major * sin**2 + minor * cos**2, (minor - major) * sin * cos, major * cos**2 + minor * sin**2


def beam_of_curvature(a: float, b: float, c: float, cell_arcsec: float) -> Beam:
    """Return the beam of a Gaussian's curvature: the inverse of `beam_curvature`; position angle in [0, 180)."""
    mean, spread = 0.5 * (a + c), math.hypot(0.5 * (a - c), b)
    axes = [FWHM_PER_SIGMA * cell_arcsec * math.sqrt(0.5 / value) for value in (mean - spread, mean + spread)]
    # a − c = k cos 2pa and 2b = k sin 2pa, with k the minor curvature less the major one.
    pa = math.degrees(0.5 * math.atan2(2.0 * b, a - c)) if spread > 0.0 else 0.0
    return Beam(axes[0], axes[1], pa % 180.0)


def fit_beam(psf: NDArray[np.float32], cell_arcsec: float, theoretical_arcsec: float) -> Beam:
    """Fit the restoring beam.

    Parameters
    ----------
    psf
        (ny, nx), 1 at (ny // 2, nx // 2).
    cell_arcsec
        Pixel size.
    theoretical_arcsec
        Resolution of the longest baseline: where the fit starts, and what sets its box.

    Raises
    ------
    ImagingError
        If no Gaussian fits.
    """
    size, box = psf.shape[0], BOX_SCALE * max(1.0, theoretical_arcsec / cell_arcsec)
    for _ in range(MOST_ENLARGEMENTS):
        half = min(size // 2, math.ceil(box / 2.0))
        beam = _fit_in_box(psf, half, cell_arcsec, theoretical_arcsec)
        wanted = BOX_SCALE * beam.major_arcsec / cell_arcsec
        if 0.8 * wanted < 2 * half or half == size // 2:
            return beam
        box = wanted
    return beam


def _fit_in_box(psf: NDArray[np.float32], half: int, cell_arcsec: float, theoretical_arcsec: float) -> Beam:
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    data = psf[cy - half : cy + half, cx - half : cx + half].astype(np.float64)
    y, x = np.mgrid[-half:half, -half:half].astype(np.float64)

    def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
        # A Cholesky factor of the curvature: whatever p is, the Gaussian falls in every direction.
        return np.asarray(np.exp(-((p[0] * x + p[1] * y) ** 2) - (p[2] * y) ** 2) - data).ravel()

    first = math.sqrt(0.5) * FWHM_PER_SIGMA * cell_arcsec / theoretical_arcsec
    fit = least_squares(residuals, [first, 0.0, first], method="lm")
    a, b, c = fit.x[0] ** 2, fit.x[0] * fit.x[1], fit.x[1] ** 2 + fit.x[2] ** 2
    if not fit.success or a * c - b * b <= 0.0:
        raise ImagingError("no Gaussian fits the point spread function: the uv coverage is too poor for an image")
    return beam_of_curvature(a, b, c, cell_arcsec)


def restored(
    residual: NDArray[np.float32], model: NDArray[np.float32], bright: Components, beam: Beam, cell_arcsec: float
) -> NDArray[np.float32]:
    """Return the residual plus the model's pixels (Jy/pixel) and the bright components, each as a beam."""
    at = np.argwhere(model)
    positions = np.concatenate([at.astype(np.float64), bright.yx])
    fluxes = np.concatenate([model[at[:, 0], at[:, 1]].astype(np.float64), bright.flux_jy])
    order = np.argsort(positions[:, 0], kind="stable")
    image = residual.copy()
    reach = math.ceil(REACH_FWHM * beam.major_arcsec / cell_arcsec)
    stamp_gaussians(image, positions[order], fluxes[order], beam_curvature(beam, cell_arcsec), reach)
    return image
