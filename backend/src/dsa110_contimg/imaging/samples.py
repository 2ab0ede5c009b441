r"""The visibilities as the imager holds them: Stokes I, averaged by baseline, weighted.

Rows that may average the same number of channels form one block, a small rectangle of its own with its own
frequencies. How they come to the image plane is told in `transform`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.kernels.averaging import average_stokes_i, channels_per_sample
from dsa110_contimg.kernels.beams import airy_radius
from dsa110_contimg.kernels.flags import rows_with_data
from dsa110_contimg.kernels.weights import (
    add_density,
    apply_factor,
    briggs_factor,
    cells_on_a_side,
    cells_reached,
    choose_baselines,
    taper,
    uniform_factor,
    weighted_variance,
)
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.telescope import DISH_DIAMETER_M, SPEED_OF_LIGHT
from dsa110_contimg.visibilities import SkyModel, Visibilities, predict

AVERAGING_LOSS = 0.01
AVERAGING_LEVEL = 0.2
ROWS_AT_ONCE = 8192


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


def average(vis: Visibilities, bright: SkyModel | None = None, *, smeared: bool = False) -> list[Block]:
    """Form averaged Stokes I with natural weights, after subtracting a sky model at full resolution.

    Channels are averaged only where they are evenly spaced and the primary beam is known. A smeared model loses what
    the correlator's averaging takes away.
    """
    rows = np.flatnonzero((vis.antenna1 != vis.antenna2) & rows_with_data(vis.flags))
    n_average = np.ones(rows.size, np.int64)
    steps = np.diff(vis.freq_hz)
    if steps.size and vis.pointing_mjd.size and np.allclose(steps, steps[0], rtol=1e-6):
        radius = airy_radius(AVERAGING_LEVEL, vis.freq_hz, DISH_DIAMETER_M)
        sizes = [size for size in (1, 2, 4, 8) if vis.freq_hz.size % size == 0]
        n_average = channels_per_sample(vis.uvw_m[rows], float(steps[0]), radius, AVERAGING_LOSS, sizes)
    return [_block(vis, rows[n_average == size], int(size), bright, smeared=smeared) for size in np.unique(n_average)]


def _block(
    vis: Visibilities, rows: NDArray[np.int64], n_average: int, bright: SkyModel | None, *, smeared: bool
) -> Block:
    shape = (rows.size, vis.freq_hz.size // n_average)
    samples, weights = np.empty(shape, np.complex64), np.empty(shape, np.float32)
    for part in parts(rows.size):
        take_off = np.zeros((0, 0), np.complex64)
        if bright is not None and len(bright):
            seen = replace(vis, uvw_m=vis.uvw_m[rows[part]], time_mjd=vis.time_mjd[rows[part]])
            take_off = predict(seen, bright, smeared=smeared)
        samples[part], weights[part] = average_stokes_i(
            vis.vis, vis.flags, vis.weights, rows[part], n_average, take_off
        )
    freq_hz = vis.freq_hz.reshape(-1, n_average).mean(axis=1)
    return Block(rows, n_average, np.ascontiguousarray(vis.uvw_m[rows]), freq_hz, samples, weights)


def parts(n_row: int) -> Iterator[slice]:
    """Yield some thousand rows after the other."""
    for start in range(0, n_row, ROWS_AT_ONCE):
        yield slice(start, min(n_row, start + ROWS_AT_ONCE))


def weigh(blocks: list[Block], field: Field, options: ImagingOptions) -> None:
    """Turn natural weights into imaging weights, in place: the range of baselines, the weighting, then the taper.

    Raises
    ------
    ImagingError
        If the weighting has another name than natural, uniform or briggs, or the range of baselines is empty.
    """
    if options.weighting not in ("natural", "briggs", "uniform"):
        raise ImagingError(f"weighting {options.weighting!r} is not known: choose natural, uniform or briggs")
    if 0.0 < options.uv_max_wavelengths <= options.uv_min_wavelengths:
        raise ImagingError(
            f"no baseline is longer than {options.uv_min_wavelengths:g} and shorter than "
            f"{options.uv_max_wavelengths:g} wavelengths: give --uv-max-wavelengths above --uv-min-wavelengths"
        )
    if options.uv_min_wavelengths > 0.0 or options.uv_max_wavelengths > 0.0:
        for block in blocks:
            longest = options.uv_max_wavelengths or math.inf
            choose_baselines(block.uvw_m, block.freq_hz, block.weights, options.uv_min_wavelengths, longest)
    if options.weighting != "natural":
        _weigh_by_density(blocks, field, options)
    if options.taper_arcsec > 0.0:
        for block in blocks:
            taper(block.uvw_m, block.freq_hz, block.weights, math.radians(options.taper_arcsec / 3600.0))


def _weigh_by_density(blocks: list[Block], field: Field, options: ImagingOptions) -> None:
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


def expected_noise(blocks: list[Block]) -> float:
    """Return the noise that the visibilities give an image, Jy/beam, from differences of neighboring samples.

    NaN where there are none.
    """
    square, total = 0.0, 0.0
    for block in blocks:
        total += float(block.weights.sum(dtype=np.float64))
        square += weighted_variance(block.vis, block.weights)
    return math.sqrt(square) / total if square > 0.0 and total > 0.0 else math.nan


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
