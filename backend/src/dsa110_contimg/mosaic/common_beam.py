r"""The smallest beam that every tile can be convolved to, and the convolution.

A Gaussian beam is the matrix C = R diag(major², minor²) Rᵀ in (east, north); convolution adds matrices. A beam M
can be reached from C if M − C is positive semidefinite. Among M = s Q with det Q = 1 the smallest for given shape Q
has s = max_i λ_max(Q⁻¹ C_i), and its area is proportional to s: the shape is searched, the size follows.

In Jy/beam a point source keeps its peak, so the convolved values are scaled by the ratio of the beam areas:

    D' = (Ω'/Ω) · D ⊛ G        G of unit integral, with matrix M − C

A beam belongs to the tangent plane of its tile. Carried to the mosaic's it is J C Jᵀ, J the derivative of the mapping
at the tile's center: turned by Δα sin δ, which is degrees at the ends of a strip, and narrowed by the projection. The
common beam is that of the mosaic's plane, where it is the same everywhere.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsa110_contimg.kernels.coadd import gaussian_taper
from dsa110_contimg.mosaic.grid import Frame, rotation_to_tile
from dsa110_contimg.visibilities import Beam, SkyPosition

AGREE = 1e-3
FWHM2_TO_VARIANCE = 1.0 / (8.0 * np.log(2.0))
_ZOOMS, _STEPS = 9, 21


def beam_matrix(beam: Beam) -> NDArray[np.float64]:
    """Return a beam's matrix of squared full widths in (east, north), arcsec², shape (2, 2)."""
    angle = np.radians(beam.pa_deg)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([np.cos(angle), -np.sin(angle)])
    return beam.major_arcsec**2 * np.outer(along, along) + beam.minor_arcsec**2 * np.outer(across, across)


def pixel_covariance(beam: Beam, cell_arcsec: float) -> tuple[float, float, float]:
    """Return a beam's covariance (xx, xy, yy) in pixels²; x runs to the west, so the mixed term changes its sign."""
    matrix = beam_matrix(beam) * FWHM2_TO_VARIANCE / cell_arcsec**2
    return float(matrix[0, 0]), -float(matrix[0, 1]), float(matrix[1, 1])


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
    best = min((_enclosing([(b.major_arcsec / b.minor_arcsec, b.pa_deg)], matrices) for b in beams), key=_area)
    widest = max(beam.major_arcsec / beam.minor_arcsec for beam in beams)
    log_ratio, angle = 0.5 * np.log(widest), 0.0
    half_ratio, half_angle = 0.5 * np.log(widest) + 1e-9, 90.0
    for _ in range(_ZOOMS):
        shapes = [
            (float(np.exp(max(r, 0.0))), float(a))
            for r in log_ratio + half_ratio * np.linspace(-1.0, 1.0, _STEPS)
            for a in angle + half_angle * np.linspace(-1.0, 1.0, _STEPS)
        ]
        found = _enclosing(shapes, matrices)
        found_beam = matrix_beam(found)
        log_ratio, angle = float(np.log(found_beam.major_arcsec / found_beam.minor_arcsec)), found_beam.pa_deg
        if _area(found) < _area(best) * (1.0 - 1e-12):
            best = found
        half_ratio, half_angle = half_ratio * 0.25, half_angle * 0.25
    return matrix_beam(best)


def carried(beam: Beam, center: SkyPosition, frame: Frame) -> Beam:
    """Return a beam of the tangent plane at *center* as the frame's plane shows it."""
    # At the tile's center n does not change with l and m.
    jacobian = rotation_to_tile(center, frame).T[:2, :2]
    return matrix_beam(jacobian @ beam_matrix(beam) @ jacobian.T)


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
    spectrum = fft.rfft2(np.where(missing, np.float32(0.0), image), shape, workers=-1, overwrite_x=True)
    area_ratio = (target.major_arcsec * target.minor_arcsec) / (beam.major_arcsec * beam.minor_arcsec)
    # x runs to the west, so the mixed term changes its sign.
    taper = (float(kernel[0, 0]), -float(kernel[0, 1]), float(kernel[1, 1]))
    gaussian_taper(spectrum, shape[1], taper, area_ratio)
    smooth = fft.irfft2(spectrum, shape, workers=-1, overwrite_x=True)[: image.shape[0], : image.shape[1]]
    return np.where(missing, np.float32(np.nan), smooth)


def _enclosing(shapes: Sequence[tuple[float, float]], matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest matrix that exceeds all of *matrices*, of some shapes (ratio of the axes, position angle)."""
    ratio, angle = np.array(shapes).T
    along = np.stack([np.sin(np.radians(angle)), np.cos(np.radians(angle))], axis=1)
    across = np.stack([along[:, 1], -along[:, 0]], axis=1)
    units = ratio[:, None, None] * along[:, :, None] * along[:, None, :]
    units += across[:, :, None] * across[:, None, :] / ratio[:, None, None]
    # The larger eigenvalue of a 2 x 2 matrix, from its trace and determinant; units have a determinant of one.
    trace = np.einsum("sij,mji->sm", np.linalg.inv(units), matrices)
    determinant = np.linalg.det(matrices)[None, :]
    scale = np.max(0.5 * (trace + np.sqrt(np.maximum(trace**2 - 4.0 * determinant, 0.0))), axis=1)
    smallest = int(np.argmin(scale))
    return np.asarray(scale[smallest] * units[smallest])


def _area(matrix: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.linalg.det(matrix)))
