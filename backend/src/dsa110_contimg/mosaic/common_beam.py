r"""The beam that every tile of a strip can be convolved to, and the convolution.

A Gaussian beam is the matrix C = R diag(major², minor²) Rᵀ in (east, north); convolution adds matrices. A beam M
can be reached from C if M − C is positive semidefinite. Among M = s Q with det Q = 1 the smallest for given shape Q
has s = max_i λ_max(Q⁻¹ C_i), and its area is proportional to s: the shape is searched, the size follows.

A beam belongs to the tangent plane of its tile. Carried to the mosaic's it is J C Jᵀ, J the derivative of the mapping
at the tile's center: turned by Δα sin δ, which is degrees at the ends of a strip, and narrowed by the projection. The
common beam is that of the mosaic's plane, where it is the same everywhere.

One tile more shall not change it, or all would be convolved again. So it holds every tile's beam at every place that
a tile of the strip may have, and it is one of few: axes in the ratio 1.02ᵏ, position angles 2° apart, areas 1.02ᵏ; that
takes as much as 4 % more of area than is needed.

In Jy/beam a point source keeps its peak, so the convolved values are scaled by the ratio of the beam areas:

    D' = (Ω'/Ω) · D ⊛ G        G of unit integral, with matrix M − C

Frequencies along x at which the convolved beam's transform is below 1e-7 of its peak are not transformed: no source has
anything there.
"""

from collections.abc import Sequence

import ducc0
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.coadd import gaussian_taper
from dsa110_contimg.mosaic.grid import Frame, rotation_to_tile
from dsa110_contimg.visibilities import Beam, SkyPosition

FWHM2_TO_VARIANCE = 1.0 / (8.0 * np.log(2.0))
RATIO_STEP, ANGLE_STEP_DEG, AREA_STEP = 1.02, 2.0, 1.01
PLACES = 5
NEGLIGIBLE = 1e-7


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


def common_beam(beams: Sequence[Beam]) -> Beam:
    """Return the smallest of the beams to choose from that every one of *beams* can be convolved to."""
    matrices = np.array([beam_matrix(beam) for beam in beams])
    widest = max(beam.major_arcsec / beam.minor_arcsec for beam in beams)
    ratios = RATIO_STEP ** np.arange(np.ceil(np.log(widest) / np.log(RATIO_STEP)) + 1.0)
    angles = np.arange(-90.0 + ANGLE_STEP_DEG, 90.0 + ANGLE_STEP_DEG, ANGLE_STEP_DEG)
    area, unit = _smallest([(float(ratio), float(angle)) for ratio in ratios for angle in angles], matrices)
    # A beam that is one of those to choose from stays what it is.
    steps = np.ceil(np.log(area) / np.log(AREA_STEP) - 1e-6)
    return matrix_beam(AREA_STEP**steps * unit)


def strip_beam(tiles: Sequence[tuple[Beam, SkyPosition]], frame: Frame, reach_deg: float) -> Beam:
    """Return the common beam, in a frame's plane, of tiles at any right ascension of a strip.

    Parameters
    ----------
    tiles
        Their beams, each in its own tangent plane, and their centers.
    frame
        The mosaic's.
    reach_deg
        Largest distance in right ascension of a tile from the frame's center.
    """
    offsets = np.linspace(-reach_deg, reach_deg, PLACES)
    return common_beam(
        [
            carried(beam, SkyPosition(frame.center.ra_deg + float(offset), center.dec_deg), frame)
            for beam, center in tiles
            for offset in offsets
        ]
    )


def carried(beam: Beam, center: SkyPosition, frame: Frame) -> Beam:
    """Return a beam of the tangent plane at *center* as the frame's plane shows it."""
    # At the tile's center n does not change with l and m.
    jacobian = rotation_to_tile(center, frame).T[:2, :2]
    return matrix_beam(jacobian @ beam_matrix(beam) @ jacobian.T)


def carried_back(beam: Beam, center: SkyPosition, frame: Frame) -> Beam:
    """Return a beam of the frame's plane as the tangent plane at *center* shows it."""
    jacobian = np.linalg.inv(rotation_to_tile(center, frame).T[:2, :2])
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
    ny, nx = image.shape
    xx, xy, yy = np.subtract(pixel_covariance(target, cell_arcsec), pixel_covariance(beam, cell_arcsec)).tolist()
    margin = int(np.ceil(6.0 * np.sqrt(max(xx, yy, 0.0)))) + 1
    shape = tuple(ducc0.fft.good_size(length + margin, True) for length in image.shape)
    padded = np.zeros(shape, np.float32)
    missing = ~np.isfinite(image)
    np.copyto(padded[:ny, :nx], image, where=~missing)
    spectrum = ducc0.fft.r2c(padded, axes=(1,), nthreads=0)
    kept = spectrum[:, : _frequencies(target, cell_arcsec, shape[1])]
    area_ratio = (target.major_arcsec * target.minor_arcsec) / (beam.major_arcsec * beam.minor_arcsec)
    columns = ducc0.fft.c2c(kept, axes=(0,), nthreads=0)
    gaussian_taper(columns, shape[1], (xx, xy, yy), area_ratio / (shape[0] * shape[1]))
    ducc0.fft.c2c(columns, axes=(0,), forward=False, nthreads=0, out=kept)
    spectrum[:, kept.shape[1] :] = 0.0
    ducc0.fft.c2r(spectrum, axes=(1,), lastsize=shape[1], forward=False, nthreads=0, out=padded)
    smooth = padded[:ny, :nx]
    smooth[missing] = np.nan
    return smooth


def _frequencies(beam: Beam, cell_arcsec: float, n_x: int) -> int:
    """Return how many of a real transform's frequencies along x a beam has anything at."""
    xx, xy, yy = pixel_covariance(beam, cell_arcsec)
    # The beam's transform is exp(−2π² fᵀ S f); along an ellipse of it f_x reaches √((S⁻¹)_xx).
    highest = np.sqrt(-np.log(NEGLIGIBLE) / (2.0 * np.pi**2) * yy / (xx * yy - xy * xy))
    return min(int(np.ceil(highest * n_x)) + 1, n_x // 2 + 1)


def _smallest(
    shapes: Sequence[tuple[float, float]], matrices: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return area and unit matrix of the smallest of some shapes (ratio of axes, position angle) that exceeds all."""
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
    return float(scale[smallest]), units[smallest]
