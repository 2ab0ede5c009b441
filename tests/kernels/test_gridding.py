"""The gridder against a plain Fourier sum, off center on both axes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.gridding import Raster, degrid, grid

C = 299792458.0
SEED = 20260105
FREQ_HZ = np.array([1.32e9, 1.41e9, 1.49e9])
RASTER = Raster(96, float(np.radians(40.0 / 3600.0)), 1e-9, 1)


def baselines(dec_deg: float) -> NDArray[np.float64]:
    """Tracks of a planar array seen from a declination: w is far from zero."""
    rng = np.random.default_rng(SEED)
    ground = rng.normal(0.0, 150.0, (60, 2))
    hour, dec, lat = np.radians(rng.uniform(-10.0, 10.0, 60)), np.radians(dec_deg), np.radians(37.23)
    x, y, z = -ground[:, 1] * np.sin(lat), ground[:, 0], ground[:, 1] * np.cos(lat)
    u = np.sin(hour) * x + np.cos(hour) * y
    v = -np.sin(dec) * np.cos(hour) * x + np.sin(dec) * np.sin(hour) * y + np.cos(dec) * z
    w = np.cos(dec) * np.cos(hour) * x - np.cos(dec) * np.sin(hour) * y + np.sin(dec) * z
    return np.stack([u, v, w], axis=1)


def direction(y: int, x: int) -> NDArray[np.float64]:
    """East is against x, north is with y."""
    half = RASTER.size // 2
    east, north = -(x - half) * RASTER.cell_rad, (y - half) * RASTER.cell_rad
    return np.array([east, north, np.sqrt(1.0 - east**2 - north**2)])


def fourier(uvw_m: NDArray[np.float64], y: int, x: int, sign: float = 1.0) -> NDArray[np.complex128]:
    """V = exp(+2πi (ul + vm + w(n − 1)) f/c) of 1 Jy."""
    path = uvw_m @ (direction(y, x) - np.array([0.0, 0.0, 1.0]))
    return np.asarray(np.exp(sign * 2j * np.pi * path[:, None] * FREQ_HZ / C))


@pytest.mark.parametrize("dec_deg", [-5.0, 62.0])
@pytest.mark.parametrize(("y", "x"), [(80, 48), (48, 15), (20, 77), (71, 9)])
def test_degridding_is_the_fourier_sum(dec_deg: float, y: int, x: int) -> None:
    uvw = baselines(dec_deg)
    image = np.zeros((RASTER.size, RASTER.size))
    image[y, x] = 2.5
    found = degrid(uvw, FREQ_HZ, image, RASTER)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, 2.5 * fourier(uvw, y, x), atol=1e-7)
    assert np.abs(found - 2.5 * fourier(uvw, y, x, sign=-1.0)).max() > 1.0, "a mirrored field would pass too"
    assert np.abs(found - 2.5 * fourier(uvw, y, 96 - x)).max() > 1.0 or x == 48


@pytest.mark.parametrize("dec_deg", [-5.0, 62.0])
def test_gridding_shows_the_flux_where_the_source_is(dec_deg: float) -> None:
    uvw = baselines(dec_deg)
    weights = np.random.default_rng(SEED).uniform(0.5, 2.0, (60, 3))
    image = grid(uvw, FREQ_HZ, 3.0 * fourier(uvw, 85, 12), weights, RASTER) / weights.sum()  # type: ignore[arg-type]
    assert image.argmax() == 85 * 96 + 12
    assert image[85, 12] == pytest.approx(3.0, abs=1e-6), "neither direction may divide by n"
    mirrored = grid(uvw, FREQ_HZ, 3.0 * fourier(uvw, 85, 12, -1.0), weights, RASTER)  # type: ignore[arg-type]
    assert mirrored.argmax() != 85 * 96 + 12


def test_gridding_is_the_transpose_of_degridding() -> None:
    rng = np.random.default_rng(SEED)
    uvw, sky = baselines(33.0), rng.normal(size=(RASTER.size, RASTER.size))
    vis = rng.normal(size=(60, 3)) + 1j * rng.normal(size=(60, 3))
    there = np.vdot(vis, degrid(uvw, FREQ_HZ, sky, RASTER)).real  # type: ignore[arg-type]
    back = np.vdot(grid(uvw, FREQ_HZ, vis, np.ones((60, 3)), RASTER), sky)  # type: ignore[arg-type]
    assert there == pytest.approx(back, rel=1e-6)


def test_single_precision_keeps_its_promise_and_its_bits() -> None:
    uvw = baselines(16.0)
    single = RASTER._replace(epsilon=1e-4)
    vis, weights = fourier(uvw, 70, 30).astype(np.complex64), np.ones((60, 3), np.float32)
    image = grid(uvw, FREQ_HZ, vis, weights, single)
    exact = grid(uvw, FREQ_HZ, fourier(uvw, 70, 30), np.ones((60, 3)), RASTER)  # type: ignore[arg-type]
    assert image.dtype == np.float32
    assert np.abs(image - exact).max() < 3e-4 * exact.max()
    np.testing.assert_array_equal(image, grid(uvw, FREQ_HZ, vis, weights, single))
