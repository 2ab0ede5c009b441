"""The transforms against a plain Fourier sum, off center on both axes."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.gridding import Flat, Raster, WStack

C = 299792458.0
SEED = 20260105
FREQ_HZ = np.array([1.32e9, 1.41e9, 1.49e9])
RASTER = Raster(96, float(np.radians(40.0 / 3600.0)), 1e-5, 1)


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


def in_wavelengths(uvw_m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([uvw_m * freq / C for freq in FREQ_HZ])


def engine(dec_deg: float, kind: str) -> tuple[WStack | Flat, NDArray[np.float64]]:
    """The w-gridder, or the transform of a plane with a small rest of w."""
    uvw = baselines(dec_deg)
    if kind == "stack":
        return WStack(in_wavelengths(uvw), RASTER), uvw
    uvw[:, 2] *= 0.1
    points = in_wavelengths(uvw).astype(np.float32)
    depth = (0.0, 2e-4)
    theta = (2.0 * np.pi * depth[1] * points[:, 2]).astype(np.float32)
    return Flat(points[:, :2], theta, 5, depth, RASTER), uvw


def model_of(found: NDArray[np.complex64], uvw: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Add the terms of the series."""
    theta = 2.0 * np.pi * 2e-4 * in_wavelengths(uvw)[:, 2]
    return np.asarray(sum(term * (1j * theta) ** k / math.factorial(k) for k, term in enumerate(found)))


@pytest.mark.parametrize("kind", ["stack", "flat"])
@pytest.mark.parametrize("dec_deg", [-5.0, 62.0])
@pytest.mark.parametrize(("y", "x"), [(80, 48), (48, 15), (20, 77), (71, 9)])
def test_degridding_is_the_fourier_sum(dec_deg: float, y: int, x: int, kind: str) -> None:
    transform, uvw = engine(dec_deg, kind)
    image = np.zeros((RASTER.size, RASTER.size), np.float32)
    image[y, x] = 2.5
    found = model_of(transform.degrid(image), uvw)
    np.testing.assert_allclose(found, 2.5 * fourier(uvw, y, x).T.ravel(), atol=2e-4)
    assert np.abs(found - 2.5 * fourier(uvw, y, x, sign=-1.0).T.ravel()).max() > 1.0, "a mirrored field would pass too"
    assert np.abs(found - 2.5 * fourier(uvw, y, 96 - x).T.ravel()).max() > 1.0 or x == 48


@pytest.mark.parametrize("kind", ["stack", "flat"])
@pytest.mark.parametrize("dec_deg", [-5.0, 62.0])
def test_gridding_shows_the_flux_where_the_source_is(dec_deg: float, kind: str) -> None:
    transform, uvw = engine(dec_deg, kind)
    points = 3.0 * fourier(uvw, 85, 12).T.ravel().astype(np.complex64)
    image = transform.grid(points) / points.size
    assert image.argmax() == 85 * 96 + 12
    assert image[85, 12] == pytest.approx(3.0, abs=1e-4), "neither direction may divide by n"
    assert transform.grid(points.conj()).argmax() != 85 * 96 + 12
    np.testing.assert_array_equal(image, transform.grid(points) / points.size)


@pytest.mark.parametrize("kind", ["stack", "flat"])
def test_gridding_is_the_transpose_of_degridding(kind: str) -> None:
    rng = np.random.default_rng(SEED)
    transform, uvw = engine(33.0, kind)
    sky = rng.normal(size=(RASTER.size, RASTER.size)).astype(np.float32)
    points = (rng.normal(size=180) + 1j * rng.normal(size=180)).astype(np.complex64)
    there = np.vdot(points, model_of(transform.degrid(sky), uvw)).real
    assert there == pytest.approx(np.vdot(transform.grid(points), sky), rel=1e-4)
