r"""From weighted visibilities to the image plane and back, as the loop of CLEAN needs it.

The samples of a row are condensed to the points that its delays need (`kernels.condense`), a quarter of them on a full
tile. An array on flat ground has, at each moment, w = a u + b v: fitted once per tile, what the turn of the Earth and
the heights of antennas leave is a small phase, and the transforms are those of a plane (`kernels.gridding.Flat`,
`kernels.warp`). Where the phase is not small (`MOST_TERMS`), the w-gridder does it.

Transforms run on pixels of twice the size where the longest baseline allows it, with a margin around the field.
"""

import logging
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.field import Field, fast_even_size
from dsa110_contimg.imaging.samples import Block
from dsa110_contimg.imaging.smearing import SeparatedLoss
from dsa110_contimg.kernels import condense, warp
from dsa110_contimg.kernels.gridding import Flat, Raster, WStack
from dsa110_contimg.kernels.interpolate import interpolation_table
from dsa110_contimg.kernels.zoom import double
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.telescope import SPEED_OF_LIGHT

logger = logging.getLogger(__name__)

COARSE_LIMIT = 0.85
MARGIN = 1.04
MOST_TERMS = 4
FLAT_PASSED = 0.5
"""Fraction of Nyquist up to which `kernels.warp` may interpolate."""
OVERSAMPLING = ((7e-4, 1.75), (2e-4, 2.0), (0.0, 2.5))
"""Points per half period by the accuracy that is asked for (`kernels.interpolate`)."""
LEVEL_OF_CENTER = 0.5
"""The turn of each row is taken off at this fraction of the depth n − 1 of the image's edge."""


class Geometry(NamedTuple):
    """How w is dealt with."""

    plane: tuple[float, float]
    """a and b of w = a u + b v + rest."""
    n_term: int
    """Terms of the series in the rest; 0 means that the w-gridder takes w as it is."""
    depth: tuple[float, float]
    """n − 1 at which the rest is turned off, and the largest distance from it in the image."""


class Transform:
    """Weighted visibilities as points, and the way to the image plane and back."""

    def __init__(
        self, blocks: list[Block], field: Field, options: ImagingOptions, loss: SeparatedLoss | None = None
    ) -> None:
        self.field, self._threads, self._loss = field, options.threads, loss
        self.weight_sum = sum(float(block.weights.sum(dtype=np.float64)) for block in blocks)
        if not self.weight_sum > 0.0:
            raise ImagingError("no visibility has a weight: all are flagged, or beyond the reach of the pixels")
        longest = max(float(np.hypot(*block.uvw_m[:, :2].T).max() * block.freq_hz.max()) for block in blocks)
        nyquist = 2.0 * field.cell_rad * longest / SPEED_OF_LIGHT
        self.geometry = choose_geometry(blocks, field, options.epsilon, warped=nyquist <= FLAT_PASSED)
        self._passed, self._coarse = 2.0 * nyquist, 2.0 * nyquist < COARSE_LIMIT
        scale = 2 if self._coarse else 1
        shift = sum(abs(slope) for slope in self.geometry.plane) * edge_depth(field) / field.cell_rad
        margin = MARGIN * field.size + 2.0 * shift + 2.0 * warp.SPREAD_TAPS
        size = _fast_size_above(margin / scale) if self._coarse or any(self.geometry.plane) else field.size
        self._raster = Raster(size, scale * field.cell_rad, options.epsilon, options.threads)
        self._wide = scale * size
        self._spread_table = interpolation_table(warp.SPREAD_TAPS, max(1.1, 1.0 / (scale * nyquist)))
        self._fill(blocks, options)

    def _fill(self, blocks: list[Block], options: ImagingOptions) -> None:
        """Condense the blocks to points and plan the transforms."""
        oversampling = next(value for limit, value in OVERSAMPLING if options.epsilon >= limit)
        table = interpolation_table(condense.TAPS, oversampling)
        layouts = [_layout(block, self.field, oversampling, self.geometry) for block in blocks]
        n_point = sum(layout.n_point for layout in layouts)
        self._points, self._ones = np.empty(n_point, np.complex64), np.empty(n_point, np.complex64)
        self._bands = np.empty((n_point, condense.TAPS), np.float32)
        uvw = np.empty((n_point, 3), np.float32 if self.geometry.n_term else np.float64)
        theta = np.empty(n_point, np.float32)
        firsts, begin = [], 0
        for block, layout in zip(blocks, layouts, strict=True):
            part, rows = slice(begin, begin + layout.n_point), (layout.first, layout.step)
            turn = layout.rest_m * self.geometry.depth[0] / SPEED_OF_LIGHT
            condense.condense(
                (block.vis, block.weights), block.freq_hz, turn, rows, table,
                (self._points[part], self._ones[part], self._bands[part]),
            )  # fmt: skip
            condense.place_points(
                block.uvw_m, block.freq_hz, rows, 2.0 * np.pi * self.geometry.depth[1] * layout.rest_m,
                uvw[part], theta[part],
            )  # fmt: skip
            firsts.append(layout.first[:-1] + begin)
            begin += layout.n_point
        self._first, self._theta = np.concatenate([*firsts, [n_point]]), theta
        geometry = self.geometry
        self._engine: Flat | WStack = (
            Flat(uvw[:, :2], theta, geometry.n_term, geometry.depth, self._raster)
            if geometry.n_term
            else WStack(uvw, self._raster)
        )
        logger.info("%d points, w = %.4f u %+.4f v, %d terms", n_point, *geometry.plane, geometry.n_term)

    def dirty(self) -> NDArray[np.float32]:
        """Return the dirty image of the (residual) visibilities, Jy/beam."""
        return self._image(self._engine.grid(self._points))

    def psf(self) -> NDArray[np.float32]:
        """Return the point spread function, 1 at (size // 2, size // 2)."""
        psf = self._image(self._engine.grid(self._ones))
        return np.asarray(psf / psf[self.field.size // 2, self.field.size // 2])

    def subtract(self, pixels: NDArray[np.int32], fluxes: NDArray[np.float64]) -> None:
        """Take the visibilities of components, less what averaging took, off in place.

        Parameters
        ----------
        pixels
            (n_component, 2), (y, x).
        fluxes
            (n_component,), Jy.
        """
        offsets = pixels.astype(np.int64) - self.field.size // 2
        if self._loss is None:
            self._take_off(offsets, fluxes, np.ones(self._first.size - 1, np.float32))
            return
        for term, of_row in enumerate(self._loss.of_row):
            self._take_off(offsets, fluxes * self._loss.at(term, offsets), of_row)

    def _take_off(self, offsets: NDArray[np.int64], fluxes: NDArray[np.float64], of_row: NDArray[np.float32]) -> None:
        model = np.zeros((self._raster.size,) * 2, np.float32)
        scale = 2 if self._coarse else 1
        warp.spread(offsets, fluxes, scale, self.field.cell_rad, self.geometry.plane, self._spread_table, model)
        rows = self._first, of_row
        condense.take_off(self._points, self._bands, rows, self._theta, self._engine.degrid(model))

    @property
    def _inner(self) -> slice:
        first = self._wide // 2 - self.field.size // 2
        return slice(first, first + self.field.size)

    def _image(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        plane /= np.float32(self.weight_sum)
        if self._coarse:
            plane = double(plane, self._passed, self._threads)
        if any(self.geometry.plane):
            return warp.to_sky(plane, self.field.size, self.field.cell_rad, self.geometry.plane)
        return np.ascontiguousarray(plane[self._inner, self._inner])


def _fast_size_above(pixels: float) -> int:
    wanted = pixels
    while fast_even_size(wanted) < pixels:
        wanted += 2.0
    return fast_even_size(wanted)


def edge_depth(field: Field) -> float:
    """Return 1 − n at the corner of an image."""
    square = min(1.0, 0.5 * (field.size * field.cell_rad) ** 2)
    return square / (1.0 + math.sqrt(1.0 - square))


def choose_geometry(blocks: list[Block], field: Field, epsilon: float, *, warped: bool) -> Geometry:
    """Decide how w is dealt with: left out of the plane as it is, after a fit of the plane, or by the w-gridder.

    Parameters
    ----------
    blocks
        With imaging weights.
    field
        Its size sets how much w matters.
    epsilon
        The rms error that is allowed at the middle of the image's edges.
    warped
        Whether an image may be carried from a plane to the sky.
    """
    corner = edge_depth(field)
    center = -LEVEL_OF_CENTER * 0.5 * corner
    depth = (center, max(corner + center, 1e-12))
    planes = [(0.0, 0.0), fit_plane(blocks)] if warped else [(0.0, 0.0)]
    found: list[Geometry] = []
    for plane in planes:
        theta, weight = _phases(blocks, plane, -center)
        for n_term in range(1, MOST_TERMS + 1):
            error = np.abs(theta) ** n_term / math.factorial(n_term)
            if math.sqrt(np.sum(weight * error**2) / np.sum(weight)) <= epsilon:
                found.append(Geometry(plane, n_term, depth))
                break
    # The way from a plane to the sky costs about as much as a term.
    return min(found, key=lambda one: one.n_term + any(one.plane), default=Geometry((0.0, 0.0), 0, (0.0, 1.0)))


def fit_plane(blocks: list[Block]) -> tuple[float, float]:
    """Return a and b of w = a u + b v, fitted to all rows with the weights that they have."""
    matrix, vector = np.zeros((2, 2)), np.zeros(2)
    for block in blocks:
        uv, w = block.uvw_m[:, :2], block.uvw_m[:, 2]
        weight = block.weights.sum(axis=1, dtype=np.float64)
        matrix += (uv * weight[:, None]).T @ uv
        vector += (uv * weight[:, None]).T @ w
    a, b = np.linalg.lstsq(matrix, vector, rcond=1e-9)[0]
    return float(a), float(b)


def _phases(
    blocks: list[Block], plane: tuple[float, float], depth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each row's phase by the rest of w at a depth, at its highest frequency, and its weight."""
    phases, weights = [], []
    for block in blocks:
        rest = block.uvw_m[:, 2] - block.uvw_m[:, :2] @ np.array(plane)
        phases.append(2.0 * np.pi * depth * rest * float(block.freq_hz.max()) / SPEED_OF_LIGHT)
        weights.append(block.weights.sum(axis=1, dtype=np.float64))
    return np.concatenate(phases), np.concatenate(weights)


class _Layout(NamedTuple):
    """Where the points of a block's rows lie."""

    first: NDArray[np.int64]
    step: NDArray[np.float64]
    rest_m: NDArray[np.float64]
    """(n_row,), w less the plane's; zero where the w-gridder takes it."""
    n_point: int


def _layout(block: Block, field: Field, oversampling: float, geometry: Geometry) -> _Layout:
    steps = np.diff(block.freq_hz)
    even = steps.size > 0 and bool(np.allclose(steps, steps[0], rtol=1e-6))
    u, v, w = np.abs(block.uvw_m).T
    delay = (0.5 * field.size * field.cell_rad * (u + v) + edge_depth(field) * w) / SPEED_OF_LIGHT
    spacing = abs(float(steps[0])) if even else math.inf
    count, step = condense.points_per_row(delay, block.freq_hz.size, spacing, oversampling)
    first = np.concatenate([[0], np.cumsum(count)])
    rest = block.uvw_m[:, 2] - block.uvw_m[:, :2] @ np.array(geometry.plane)
    return _Layout(first, step, rest if geometry.n_term else np.zeros_like(rest), int(first[-1]))
