r"""The visibilities as the imager holds them: Stokes I, averaged by baseline, weighted.

Rows that may average the same number of channels form one block, a small rectangle of its own with its own
frequencies. The loop of CLEAN keeps the residual visibilities here and takes models off them in place:

    V ← V − degrid(model)        dirty = Σ_blocks grid(W V) / Σ W

Gridding runs on pixels of twice the size where the longest baseline allows it, with a margin around the field.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.field import Field, fast_even_size
from dsa110_contimg.kernels.averaging import average_stokes_i, channels_per_sample
from dsa110_contimg.kernels.beams import airy_radius
from dsa110_contimg.kernels.flags import rows_with_data
from dsa110_contimg.kernels.gridding import Raster, degrid, grid
from dsa110_contimg.kernels.weights import (
    add_density,
    apply_factor,
    briggs_factor,
    cells_on_a_side,
    cells_reached,
    uniform_factor,
)
from dsa110_contimg.kernels.zoom import double, halve
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.telescope import DISH_DIAMETER_M, SPEED_OF_LIGHT
from dsa110_contimg.visibilities import SkyModel, Visibilities, predict

AVERAGING_LOSS = 0.01
AVERAGING_LEVEL = 0.2
ROWS_AT_ONCE = 8192
COARSE_LIMIT = 0.85
MARGIN = 1.04
QUICK = 3.0
"""The point spread function, and residuals between cycles, are gridded this many times less accurately: they only
guide CLEAN, and a fifth of their time is saved."""
BLOCK_COST = 2_300_000
"""Samples that grid in the time of one block's Fourier transforms (measured: 0.2 s against 0.09 s a million)."""


@dataclass
class Block:
    """The rows that average the same number of channels."""

    rows: NDArray[np.int64]
    """(n_row,), rows of the visibilities."""
    n_average: int
    """Channels of one sample."""
    uvw_m: NDArray[np.float64]
    freq_hz: NDArray[np.float64]
    """(n_sample,), mean frequencies."""
    vis: NDArray[np.complex64]
    """(n_row, n_sample), Jy."""
    weights: NDArray[np.float32]
    """(n_row, n_sample): natural at first, imaging weights once weighed."""


class Samples:
    """All blocks, and the way to the image plane and back."""

    def __init__(self, blocks: list[Block], field: Field, options: ImagingOptions) -> None:
        self.blocks, self.field, self._threads = blocks, field, options.threads
        self.weight_sum = sum(float(block.weights.sum(dtype=np.float64)) for block in blocks)
        if not self.weight_sum > 0.0:
            raise ImagingError("no visibility has a weight: all are flagged, or beyond the reach of the pixels")
        longest = max(float(np.linalg.norm(block.uvw_m, axis=1).max() * block.freq_hz.max()) for block in blocks)
        self._passed = 4.0 * field.cell_rad * longest / SPEED_OF_LIGHT
        """Fraction of the coarse pixels' Nyquist frequency that the longest baseline reaches."""
        self._coarse = self._passed < COARSE_LIMIT
        size, cell = field.size, field.cell_rad
        if self._coarse:
            size, cell = fast_even_size(MARGIN * field.size / 2.0), 2.0 * field.cell_rad
        self._raster = Raster(size, cell, options.epsilon, options.threads)

    def dirty(self, *, quick: bool = False) -> NDArray[np.float32]:
        """Return the dirty image of the (residual) visibilities, Jy/beam; a quick one guides CLEAN, no more."""
        return self._image([block.vis for block in self.blocks], quick=quick)

    def psf(self) -> NDArray[np.float32]:
        """Return the point spread function, 1 at (size // 2, size // 2)."""
        psf = self._image([np.ones_like(block.vis) for block in self.blocks], quick=True)
        return np.asarray(psf / psf[self.field.size // 2, self.field.size // 2])

    def subtract(self, model: NDArray[np.float32]) -> None:
        """Take the visibilities of an image (Jy/pixel) off, in place."""
        if self._coarse:
            padded = np.zeros((2 * self._raster.size,) * 2, np.float32)
            padded[self._inner, self._inner] = model
            model = halve(padded, self._passed, self._threads)
        for block in self.blocks:
            block.vis -= degrid(block.uvw_m, block.freq_hz, model, self._raster)

    @property
    def _inner(self) -> slice:
        first = self._raster.size - self.field.size // 2
        return slice(first, first + self.field.size)

    def _image(self, planes: list[NDArray[np.complex64]], *, quick: bool) -> NDArray[np.float32]:
        raster = self._raster._replace(epsilon=QUICK * self._raster.epsilon) if quick else self._raster
        total = np.zeros((self._raster.size,) * 2, np.float32)
        for block, plane in zip(self.blocks, planes, strict=True):
            total += grid(block.uvw_m, block.freq_hz, plane, block.weights, raster)
        total /= np.float32(self.weight_sum)
        if self._coarse:
            total = np.ascontiguousarray(double(total, self._passed, self._threads)[self._inner, self._inner])
        return total


def average(vis: Visibilities, bright: SkyModel | None = None) -> list[Block]:
    """Form averaged Stokes I with natural weights, after subtracting a sky model at full resolution.

    Channels are averaged only where they are evenly spaced and the primary beam is known.
    """
    rows = np.flatnonzero((vis.antenna1 != vis.antenna2) & rows_with_data(vis.flags))
    n_average = np.ones(rows.size, np.int64)
    steps = np.diff(vis.freq_hz)
    if steps.size and vis.pointing_mjd.size and np.allclose(steps, steps[0], rtol=1e-6):
        radius = airy_radius(AVERAGING_LEVEL, vis.freq_hz, DISH_DIAMETER_M)
        sizes = [size for size in (1, 2, 4, 8) if vis.freq_hz.size % size == 0]
        allowed = channels_per_sample(vis.uvw_m[rows], float(steps[0]), radius, AVERAGING_LOSS, sizes)
        n_average = merge_blocks(allowed, vis.freq_hz.size)
    return [_block(vis, rows[n_average == size], int(size), bright) for size in np.unique(n_average)]


def merge_blocks(n_average: NDArray[np.int64], n_chan: int) -> NDArray[np.int64]:
    """Average less where a block of its own costs more than the samples that it saves.

    Parameters
    ----------
    n_average
        (n_row,), channels that each row may average.
    n_chan
        Channels of the spectral window.

    Returns
    -------
    NDArray
        (n_row,), nowhere larger than what was allowed.
    """
    merged = n_average.copy()
    sizes = np.unique(n_average)[::-1]
    for size, finer in itertools.pairwise(sizes):
        added = np.count_nonzero(merged == size) * n_chan * (1.0 / finer - 1.0 / size)
        if added < BLOCK_COST:
            merged[merged == size] = finer
    return merged


def _block(vis: Visibilities, rows: NDArray[np.int64], n_average: int, bright: SkyModel | None) -> Block:
    shape = (rows.size, vis.freq_hz.size // n_average)
    samples, weights = np.empty(shape, np.complex64), np.empty(shape, np.float32)
    for part in _parts(rows.size):
        take_off = np.zeros((0, 0), np.complex64)
        if bright is not None and len(bright):
            take_off = predict(replace(vis, uvw_m=vis.uvw_m[rows[part]], time_mjd=vis.time_mjd[rows[part]]), bright)
        samples[part], weights[part] = average_stokes_i(
            vis.vis, vis.flags, vis.weights, rows[part], n_average, take_off
        )
    freq_hz = vis.freq_hz.reshape(-1, n_average).mean(axis=1)
    return Block(rows, n_average, np.ascontiguousarray(vis.uvw_m[rows]), freq_hz, samples, weights)


def _parts(n_row: int) -> Iterator[slice]:
    for start in range(0, n_row, ROWS_AT_ONCE):
        yield slice(start, min(n_row, start + ROWS_AT_ONCE))


def weigh(blocks: list[Block], field: Field, options: ImagingOptions) -> None:
    """Turn natural weights into imaging weights, in place.

    Raises
    ------
    ImagingError
        If the weighting has another name than natural, uniform or briggs.
    """
    if options.weighting == "natural":
        return
    if options.weighting not in ("briggs", "uniform"):
        raise ImagingError(f"weighting {options.weighting!r} is not known: choose natural, uniform or briggs")
    n_cell = cells_on_a_side(field.size)
    u_reach, v_reach = (
        max((float(np.abs(block.uvw_m[:, axis]).max() * block.freq_hz.max()) for block in blocks), default=0.0)
        for axis in (0, 1)
    )
    density = np.zeros(cells_reached(u_reach / SPEED_OF_LIGHT, v_reach / SPEED_OF_LIGHT, field.cell_rad, n_cell))
    for block in blocks:
        add_density(block.uvw_m, block.freq_hz, block.weights, field.cell_rad, n_cell, density)
    factor = uniform_factor(density) if options.weighting == "uniform" else briggs_factor(density, options.robust)
    for block in blocks:
        apply_factor(block.uvw_m, block.freq_hz, block.weights, field.cell_rad, n_cell, factor)


def pointing_weights(vis: Visibilities, blocks: list[Block]) -> NDArray[np.float64]:
    """Return the sum of imaging weights of each pointing and channel, shape (n_pointing, n_chan).

    A set without pointings counts as one.
    """
    index = nearest_pointing(vis)
    total = np.zeros((max(1, vis.pointing_mjd.size), vis.freq_hz.size))
    for block in blocks:
        summed = np.zeros((total.shape[0], block.freq_hz.size))
        # One pointing after the other, as np.add.at would take seconds and a product would sum in any order.
        for pointing in range(total.shape[0]):
            chosen = index[block.rows] == pointing
            if chosen.any():
                summed[pointing] = block.weights[chosen].sum(axis=0, dtype=np.float64)
        total += np.repeat(summed / block.n_average, block.n_average, axis=1)
    return total


def nearest_pointing(vis: Visibilities) -> NDArray[np.int64]:
    """Return the index of the pointing nearest in time to each row, shape (n_row,); 0 where there is none."""
    if vis.pointing_mjd.size == 0:
        return np.zeros(vis.time_mjd.size, np.int64)
    return np.asarray(np.abs(vis.time_mjd[:, None] - vis.pointing_mjd[None, :]).argmin(axis=1))
