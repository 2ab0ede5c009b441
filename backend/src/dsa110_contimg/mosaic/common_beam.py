r"""The smallest beam that every tile can be convolved to, and the convolution.

A Gaussian beam is the matrix C = R diag(major², minor²) Rᵀ in (east, north); convolution adds matrices. A beam M
can be reached from C if M − C is positive semidefinite. Among M = s Q with det Q = 1 the smallest for given shape Q
has s = max_i λ_max(Q⁻¹ C_i), and its area is proportional to s: the shape is searched, the size follows.

In Jy/beam a point source keeps its peak, so the convolved values are scaled by the ratio of the beam areas:

    D' = (Ω'/Ω) · D ⊛ G        G of unit integral, with matrix M − C
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsa110_contimg.visibilities import Beam

AGREE = 1e-3
FWHM2_TO_VARIANCE = 1.0 / (8.0 * np.log(2.0))
_ZOOMS, _STEPS = 9, 21


def beam_matrix(beam: Beam) -> NDArray[np.float64]:
    """Return a beam's matrix of squared full widths in (east, north), arcsec², shape (2, 2)."""
    angle = np.radians(beam.pa_deg)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([np.cos(angle), -np.sin(angle)])
    return beam.major_arcsec**2 * np.outer(along, along) + beam.minor_arcsec**2 * np.outer(across, across)


def matrix_beam(matrix: NDArray[np.float64]) -> Beam:
    """Return the beam of a matrix; position angles lie in (−90, 90] degrees."""
    values, vectors = np.linalg.eigh(matrix)
    east, north = vectors[:, 1]
    angle = np.degrees(np.arctan2(east, north))
    return Beam(float(np.sqrt(values[1])), float(np.sqrt(values[0])), float(90.0 - (90.0 - angle) % 180.0))


def beams_agree(first: Beam, second: Beam) -> bool:
    """Return whether two beams are the same within a thousandth of their widths, in every direction."""
    ratios = np.linalg.eigvals(np.linalg.solve(beam_matrix(first), beam_matrix(second))).real
    return bool(np.all(np.abs(np.sqrt(np.abs(ratios)) - 1.0) <= AGREE))


def common_beam(beams: Sequence[Beam]) -> Beam:
    """Return the beam of smallest area that every one of *beams* can be convolved to."""
    matrices = np.array([beam_matrix(beam) for beam in beams])
    best = min((_enclosing(beam.major_arcsec / beam.minor_arcsec, beam.pa_deg, matrices) for beam in beams), key=_area)
    widest = max(beam.major_arcsec / beam.minor_arcsec for beam in beams)
    log_ratio, angle = 0.5 * np.log(widest), 0.0
    half_ratio, half_angle = 0.5 * np.log(widest) + 1e-9, 90.0
    for _ in range(_ZOOMS):
        shapes = [
            (float(np.exp(max(r, 0.0))), float(a))
            for r in log_ratio + half_ratio * np.linspace(-1.0, 1.0, _STEPS)
            for a in angle + half_angle * np.linspace(-1.0, 1.0, _STEPS)
        ]
        areas = [_area(_enclosing(ratio, pa, matrices)) for ratio, pa in shapes]
        ratio, angle = shapes[int(np.argmin(areas))]
        log_ratio = float(np.log(ratio))
        if min(areas) < _area(best) * (1.0 - 1e-12):
            best = _enclosing(ratio, angle, matrices)
        half_ratio, half_angle = half_ratio * 0.25, half_angle * 0.25
    return matrix_beam(best)


def convolve_to(image: NDArray[np.float32], cell_arcsec: float, beam: Beam, target: Beam) -> NDArray[np.float32]:
    """Convolve an image in Jy/beam from its beam to a larger one.

    Parameters
    ----------
    image
        (ny, nx), east to the left; NaN counts as zero and stays NaN.
    cell_arcsec
        Pixel size.
    beam, target
        Beams before and after.
    """
    kernel = (beam_matrix(target) - beam_matrix(beam)) * FWHM2_TO_VARIANCE / cell_arcsec**2
    margin = int(np.ceil(6.0 * np.sqrt(max(np.linalg.eigvalsh(kernel)[1], 0.0)))) + 1
    missing = ~np.isfinite(image)
    shape = tuple(fft.next_fast_len(length + margin, real=True) for length in image.shape)
    spectrum = fft.rfft2(np.where(missing, np.float32(0.0), image), shape, workers=-1)
    v = fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    u = fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    # x runs to the west, so the mixed term changes its sign.
    exponent = (
        np.float32(kernel[0, 0]) * u**2 - np.float32(2.0 * kernel[0, 1]) * u * v + np.float32(kernel[1, 1]) * v**2
    )
    area_ratio = (target.major_arcsec * target.minor_arcsec) / (beam.major_arcsec * beam.minor_arcsec)
    spectrum *= np.float32(area_ratio) * np.exp(np.float32(-2.0 * np.pi**2) * exponent)
    smooth = fft.irfft2(spectrum, shape, workers=-1)[: image.shape[0], : image.shape[1]]
    return np.where(missing, np.float32(np.nan), smooth)


def _enclosing(ratio: float, pa_deg: float, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest matrix of a shape that exceeds all of *matrices*."""
    shape = beam_matrix(Beam(float(np.sqrt(ratio)), float(1.0 / np.sqrt(ratio)), pa_deg))
    scale = np.max(np.linalg.eigvals(np.linalg.solve(shape, matrices)).real)
    return np.asarray(scale * shape)


def _area(matrix: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.linalg.det(matrix)))
