r"""Visibilities to sky and back by ducc0's transforms, with the signs of this package.

    degrid    V = Σ_pixels I(l, m) exp(+2πi (u l + v m + w (n − 1)))            u, v, w in wavelengths
    grid      D(l, m) = Σ_points Re[V exp(−2πi (u l + v m + w (n − 1)))]

Images are (ny, nx): l grows toward the east and so against x, m grows toward the north and with y; the phase
center is pixel (ny // 2, nx // 2). Neither direction divides by n, so that a point source shows its flux
density wherever it lies (Ye et al. 2022 for the method; Arras et al. 2021 for the code).

`WStack` does it for any w, on a stack of planes. Where what is left of w is a small phase θ y, with θ of the point and
y = (n − 1 − d)/h of the pixel, `Flat` does it by a few transforms in two dimensions, a tenth of the work each:

    exp(−iθy) = Σ_k (−iθ)^k/k! · y^k
"""

from typing import NamedTuple

import ducc0
import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_in_place, compiled_parallel
from dsa110_contimg.kernels.condense import power_of_phase

UNIT_FREQUENCY = np.array([299792458.0])
"""At which metres are wavelengths."""
SINGLE_PRECISION = 1e-6
"""The best accuracy of a transform in single precision."""


class Raster(NamedTuple):
    """The pixels of an image, and how accurately and on how many threads it is gridded."""

    size: int
    """Pixels on a side, even."""
    cell_rad: float
    epsilon: float = 1e-4
    """Accuracy, relative to the brightest pixel."""
    threads: int = 1
    """0 uses every core; 1 gives the same bits each time."""


class WStack:
    """The transform for any array: ducc0's w-gridder."""

    def __init__(self, uvw: NDArray[np.float64], raster: Raster) -> None:
        """Take points (n_point, 3) in wavelengths."""
        # ducc0's first image axis is our y, so v comes first; its phases run the other way along both axes, which
        # flips v here and is undone by x running westward for u.
        self._uvw = np.ascontiguousarray(uvw[:, [1, 0, 2]])
        self._raster = raster

    def grid(self, points: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Return the image of points (n_point,), shape (ny, nx)."""
        r = self._raster
        return np.asarray(
            ducc0.wgridder.vis2dirty(
                uvw=self._uvw, freq=UNIT_FREQUENCY, vis=points[:, None], npix_x=r.size, npix_y=r.size,
                pixsize_x=r.cell_rad, pixsize_y=r.cell_rad, epsilon=r.epsilon, do_wgridding=True,
                nthreads=r.threads, flip_u=True, flip_v=False, flip_w=False, divide_by_n=False,
            )
        )  # fmt: skip

    def degrid(self, image: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the points of an image in Jy/pixel, shape (1, n_point)."""
        r = self._raster
        return np.asarray(
            ducc0.wgridder.dirty2vis(
                uvw=self._uvw, freq=UNIT_FREQUENCY, dirty=image, pixsize_x=r.cell_rad, pixsize_y=r.cell_rad,
                epsilon=r.epsilon, do_wgridding=True, nthreads=r.threads,
                flip_u=True, flip_v=False, flip_w=False, divide_by_n=False,
            )
        ).T  # fmt: skip


class Flat:
    """The transform for points that lie in a plane, but for a small phase."""

    def __init__(
        self,
        uv: NDArray[np.float32],
        theta: NDArray[np.float32],
        n_term: int,
        depth: tuple[float, float],
        raster: Raster,
    ) -> None:
        """Sort the points once for all transforms.

        Parameters
        ----------
        uv
            (n_point, 2), u and v in wavelengths.
        theta
            (n_point,), the phase at y = 1.
        n_term
            Terms of the series.
        depth
            d and h of y.
        raster
            Pixels and accuracy.
        """
        coordinates = np.stack([uv[:, 1] * raster.cell_rad, -uv[:, 0] * raster.cell_rad], axis=1).astype(np.float32)
        self._plan = ducc0.nufft.plan(
            nu2u=True, coord=coordinates, grid_shape=(raster.size, raster.size),
            epsilon=max(raster.epsilon, SINGLE_PRECISION),
            nthreads=raster.threads, periodicity=1.0,
        )  # fmt: skip
        self._theta, self._n_term, self._depth, self._raster = theta, n_term, depth, raster

    def grid(self, points: NDArray[np.complex64], n_term: int | None = None) -> NDArray[np.float32]:
        """Return the image of points (n_point,), shape (ny, nx); with one term only, as if θ were zero."""
        size = self._raster.size
        total = np.zeros((size, size), np.float32)
        plane, scratch = np.empty((size, size), np.complex64), np.empty_like(points)
        for power in range(n_term or self._n_term):
            if power:
                power_of_phase(points, self._theta, power, scratch)
            self._plan.nu2u(points=scratch if power else points, forward=True, out=plane)
            _add_term(plane, self._raster.cell_rad, self._depth, power, total)
        return total

    def degrid(self, image: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the points of an image in Jy/pixel, one set per power of iθ/k!, shape (n_term, n_point)."""
        out = np.empty((self._n_term, self._theta.size), np.complex64)
        plane = image.astype(np.complex64)
        for power in range(self._n_term):
            if power:
                _times_depth(plane, self._raster.cell_rad, self._depth)
            self._plan.u2nu(grid=plane, forward=False, out=out[power])
        return out


@compiled_in_place
def _depth_at(x: int, y: int, size: int, cell_rad: float, depth: tuple[float, float]) -> np.float32:
    """Return y = (n − 1 − d)/h of a pixel; the series turns n − 1 of (l', m') and of (l, m) alike."""
    square = ((x - size // 2) ** 2 + (y - size // 2) ** 2) * cell_rad * cell_rad
    below = -square / (1.0 + np.sqrt(max(0.0, 1.0 - square)))
    return np.float32((below - depth[0]) / depth[1])


@compiled_parallel
def _add_term(
    plane: NDArray[np.complex64], cell_rad: float, depth: tuple[float, float], power: int, total: NDArray[np.float32]
) -> None:
    size = total.shape[0]
    for y in prange(size):
        for x in range(size):
            factor = np.float32(1.0)
            if power:
                factor = _depth_at(x, y, size, cell_rad, depth) ** power
            total[y, x] += factor * plane[y, x].real


@compiled_parallel
def _times_depth(plane: NDArray[np.complex64], cell_rad: float, depth: tuple[float, float]) -> None:
    size = plane.shape[0]
    for y in prange(size):
        for x in range(size):
            plane[y, x] *= _depth_at(x, y, size, cell_rad, depth)
