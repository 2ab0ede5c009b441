r"""Visibilities to sky and back: ducc0's w-gridder with the signs of this package.

    degrid    V(row, f) = Σ_pixels I(l, m) exp(+2πi (u l + v m + w (n − 1)) f/c)
    grid      D(l, m)   = Σ_samples W Re[V exp(−2πi (u l + v m + w (n − 1)) f/c)]

Images are (ny, nx): l grows toward the east and so against x, m grows toward the north and with y; the phase
center is pixel (ny // 2, nx // 2). Neither direction divides by n, so that a point source shows its flux
density wherever it lies (Ye et al. 2022 for the method; Arras et al. 2021 for the code).
"""

from typing import NamedTuple

import ducc0
import numpy as np
from numpy.typing import NDArray


def _rows_first(uvw_m: NDArray[np.float64]) -> NDArray[np.float64]:
    # ducc0's first image axis is our y, so v comes first; its phases run the other way along both axes, which
    # flips v here and is undone by x running westward for u.
    return np.ascontiguousarray(uvw_m[:, [1, 0, 2]])


class Raster(NamedTuple):
    """The pixels of an image, and how accurately and on how many threads it is gridded."""

    size: int
    """Pixels on a side, even."""
    cell_rad: float
    epsilon: float = 1e-4
    """Accuracy, relative to the brightest pixel."""
    threads: int = 1
    """0 uses every core; 1 gives the same bits each time."""


def grid(
    uvw_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    vis: NDArray[np.complex64],
    weights: NDArray[np.float32],
    raster: Raster,
) -> NDArray[np.float32]:
    """Return the weighted sum of visibilities on the sky, shape (ny, nx), not divided by the sum of weights.

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    freq_hz
        (n_chan,).
    vis, weights
        (n_row, n_chan); both of single or both of double precision, which the image then has too.
    raster
        Pixels and accuracy.
    """
    return np.asarray(
        ducc0.wgridder.vis2dirty(
            uvw=_rows_first(uvw_m), freq=freq_hz, vis=vis, wgt=weights, npix_x=raster.size, npix_y=raster.size,
            pixsize_x=raster.cell_rad, pixsize_y=raster.cell_rad, epsilon=raster.epsilon, do_wgridding=True,
            nthreads=raster.threads, flip_u=True, flip_v=False, flip_w=False, divide_by_n=False,
        )
    )  # fmt: skip


def degrid(
    uvw_m: NDArray[np.float64], freq_hz: NDArray[np.float64], image: NDArray[np.float32], raster: Raster
) -> NDArray[np.complex64]:
    """Return the visibilities of an image in Jy/pixel, shape (n_row, n_chan)."""
    return np.asarray(
        ducc0.wgridder.dirty2vis(
            uvw=_rows_first(uvw_m), freq=freq_hz, dirty=image, pixsize_x=raster.cell_rad, pixsize_y=raster.cell_rad,
            epsilon=raster.epsilon, do_wgridding=True, nthreads=raster.threads,
            flip_u=True, flip_v=False, flip_w=False, divide_by_n=False,
        )
    )  # fmt: skip
