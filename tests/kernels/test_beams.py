"""The primary beam: the dish, and its mean over a drifting tile."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import j0

from dsa110_contimg.kernels.beams import airy_power, airy_radius, join_channels, mean_beam, mean_beam_image
from dsa110_contimg.kernels.sphere import from_direction_cosines, separation

C = 299792458.0
DISH_M = 4.65
BAND_HZ = np.linspace(1.311e9, 1.499e9, 192)


def drift(dec_deg: float, n: int = 24) -> NDArray[np.float64]:
    hours = np.radians(np.linspace(-0.644, 0.644, n))
    return np.stack([np.radians(359.9) + hours, np.full(n, np.radians(dec_deg))], axis=1)


def test_the_dish_is_the_transform_of_an_evenly_lit_disk() -> None:
    for theta in (0.004, 0.012, 0.031, 0.05):
        k = 2.0 * np.pi * np.sin(theta) * 1.4e9 / C
        voltage = quad(lambda r, k=k: j0(k * r) * r, 0.0, DISH_M / 2)[0] / (DISH_M**2 / 8)
        assert airy_power(theta, 1.4e9, DISH_M) == pytest.approx(voltage**2, abs=1e-9)
    assert airy_power(0.0, 1.4e9, DISH_M) == 1.0
    half = np.degrees(airy_radius(0.5, np.array([1.405e9]), DISH_M))
    assert 2.0 * half == pytest.approx(2.70, abs=0.01)


@pytest.mark.parametrize("dec_deg", [16.0, 62.0])
def test_the_image_of_the_mean_beam_is_the_full_sum(dec_deg: float) -> None:
    rng = np.random.default_rng(20260109)
    weight = rng.uniform(0.0, 2.0, (24, 192))
    weight[:, 96:108] = 0.0
    center, cell, size = (np.radians(359.9), np.radians(dec_deg)), np.radians(24.0 / 3600.0), 600
    image = mean_beam_image(size, float(cell), center, drift(dec_deg), BAND_HZ, weight, DISH_M)
    rows, cols = rng.integers(0, size, (2, 60))
    ra, dec = from_direction_cosines(-(cols - 300) * cell, (rows - 300) * cell, *center)
    for y, x, a, d in zip(rows, cols, ra, dec, strict=True):
        pointing = drift(dec_deg)
        angle = separation(pointing[:, 0], pointing[:, 1], a, d)
        full = np.sum(airy_power(angle[:, None], BAND_HZ, DISH_M) * weight) / weight.sum()
        assert image[y, x] == pytest.approx(full, abs=1e-4)
        near = mean_beam(np.array([[a, d]]), drift(dec_deg), BAND_HZ, weight, DISH_M)
        assert near[0] == pytest.approx(full, abs=3e-5)


def test_drifting_lowers_the_center_and_widens_right_ascension() -> None:
    weight = np.ones((24, 192))
    center = np.array([[np.radians(359.9), np.radians(16.0)]])
    moving = mean_beam(center, drift(16.0), BAND_HZ, weight, DISH_M)[0]
    still = mean_beam(center, drift(16.0)[:1] * 0 + center, BAND_HZ, weight[:1], DISH_M)[0]
    assert still == pytest.approx(1.0)
    assert moving == pytest.approx(0.953, abs=0.003), "3 Jy would image at 2.86 Jy if nothing is done"


def test_joining_channels_keeps_weights_and_mean_frequency() -> None:
    weight = np.random.default_rng(3).uniform(0.0, 1.0, (5, 192))
    bands, joined = join_channels(BAND_HZ, weight)
    assert bands.size == 32
    np.testing.assert_allclose(joined.sum(axis=1), weight.sum(axis=1))
    assert joined.sum(axis=0) @ bands == pytest.approx(weight.sum(axis=0) @ BAND_HZ)
