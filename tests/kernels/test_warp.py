"""From the plane of a flat array to the sky: waves keep their places, and components their visibilities."""

import numpy as np
import pytest

from dsa110_contimg.kernels.interpolate import interpolation_table
from dsa110_contimg.kernels.warp import SPREAD_TAPS, spread, to_sky

CELL = float(np.radians(30.0 / 3600.0))
SIZE, WIDE = 360, 432
PLANES = [(0.0, 0.0), (0.11, -0.6), (-0.3, 1.1)]


def flat_place(x: np.ndarray, y: np.ndarray, plane: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of (l', m'), from those of (l, m); l runs against x."""
    east, north = -x * CELL, y * CELL
    depth = np.sqrt(1.0 - east**2 - north**2) - 1.0
    return -(east + plane[0] * depth) / CELL, (north + plane[1] * depth) / CELL


@pytest.mark.parametrize("plane", PLANES)
def test_a_wave_is_where_the_sky_sees_it(plane: tuple[float, float]) -> None:
    y, x = np.mgrid[:WIDE, :WIDE] - WIDE // 2
    wave = np.cos(2.0 * np.pi * (0.15 * x - 0.17 * y) + 0.4).astype(np.float32)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    xf, yf = flat_place(x, y, plane)
    expected = np.cos(2.0 * np.pi * (0.15 * xf - 0.17 * yf) + 0.4)
    found = to_sky(wave, SIZE, CELL, plane)
    assert np.abs(found - expected).max() < 4e-3
    assert np.sqrt(np.mean((found - expected) ** 2)) < 1e-3
    if plane[1] > 0.5:
        assert np.abs(found - np.cos(2.0 * np.pi * (0.15 * x - 0.17 * y) + 0.4)).max() > 0.5, "the shift is seen"


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("scale", [1, 2])
def test_spread_components_keep_their_visibilities(plane: tuple[float, float], scale: int) -> None:
    offsets = np.array([[-151, 40], [7, -163], [120, 90]])
    fluxes = np.array([1.0, -0.4, 2.3])
    table = interpolation_table(SPREAD_TAPS, 1.0 / 0.75)
    grid = np.zeros((WIDE // scale, WIDE // scale), np.float32)
    spread(offsets, fluxes, scale, CELL, plane, table, grid)
    n = WIDE // scale
    axis = np.arange(n) - n // 2
    xf, yf = flat_place(offsets[:, 1].astype(float), offsets[:, 0].astype(float), plane)
    for u, v in ((0.0, 0.0), (0.31, -0.22), (-0.37, 0.36)):
        found = np.sum(grid * np.exp(2j * np.pi * (u * axis[None, :] + v * axis[:, None])))
        exact = np.sum(fluxes * np.exp(2j * np.pi * (u * xf + v * yf) / scale))
        assert abs(found - exact) < 4e-3


def test_what_lies_beyond_the_grid_is_left_out() -> None:
    grid = np.zeros((64, 64), np.float32)
    table = interpolation_table(SPREAD_TAPS, 1.5)
    spread(np.array([[31, 0], [500, 500]]), np.array([1.0, 1.0]), 1, CELL, (0.0, 0.0), table, grid)
    assert grid[63, 32] == 1.0
    assert grid.sum() == pytest.approx(1.0, abs=1e-5)
