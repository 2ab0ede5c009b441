"""Noise levels, whole and local."""

import numpy as np
import pytest

from dsa110_contimg.imaging.noise import local_sigma, robust_sigma


def test_sources_do_not_raise_the_noise() -> None:
    image = np.random.default_rng(1).normal(0.0, 2.0, (600, 600)).astype(np.float32)
    image[::40, ::40] = 500.0
    image[0, 0] = np.nan
    assert robust_sigma(image) == pytest.approx(2.0, rel=0.02)
    assert np.isnan(robust_sigma(np.full((4, 4), np.nan, np.float32)))


def test_the_local_noise_follows_the_image() -> None:
    level = np.linspace(1.0, 3.0, 640)[None, :] * np.ones((640, 1))
    image = (np.random.default_rng(2).normal(size=(640, 640)) * level).astype(np.float32)
    found = local_sigma(image, 5.0)
    assert np.abs(found / level - 1.0)[:, 64:-64].max() < 0.2
    assert np.abs(np.median(found / level) - 1.0) < 0.03
    np.testing.assert_array_equal(local_sigma(image, 100.0), np.float32(robust_sigma(image)))
