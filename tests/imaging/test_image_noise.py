"""Noise levels, whole and local."""

import numpy as np
import pytest

from dsa110_contimg.imaging.noise import noise_map, robust_sigma
from dsa110_contimg.kernels.clean import grow_mask, pixels_allowed


def test_sources_do_not_raise_the_noise() -> None:
    image = np.random.default_rng(1).normal(0.0, 2.0, (600, 600)).astype(np.float32)
    image[::40, ::40] = 500.0
    image[0, 0] = np.nan
    assert robust_sigma(image) == pytest.approx(2.0, rel=0.02)
    assert np.isnan(robust_sigma(np.full((4, 4), np.nan, np.float32)))


def test_the_local_noise_follows_the_image() -> None:
    level = np.linspace(1.0, 3.0, 640)[None, :] * np.ones((640, 1))
    image = (np.random.default_rng(2).normal(size=(640, 640)) * level).astype(np.float32)
    measured = noise_map(image + np.float32(0.3), 5.0)
    found = measured.image(measured.sigma)
    assert np.abs(found / level - 1.0)[:, 64:-64].max() < 0.2
    assert np.abs(np.median(found / level) - 1.0) < 0.03
    background = measured.image(measured.background)
    assert np.abs(background - 0.3).max() < 0.3
    assert np.median(background) == pytest.approx(0.3, abs=0.02)
    one = noise_map(image, 100.0)
    np.testing.assert_array_equal(one.image(one.sigma), np.float32(robust_sigma(image)))


def test_the_limits_of_clean_are_those_of_the_map() -> None:
    level = np.linspace(1.0, 3.0, 640)[None, :] * np.ones((640, 1))
    image = (np.random.default_rng(3).normal(size=(640, 640)) * level).astype(np.float32)
    measured, mask = noise_map(image, 5.0), np.zeros(image.shape, bool)
    mask[3, 7] = True
    found = pixels_allowed(image, mask, measured.nodes(), 2.0 * measured.sigma)
    expected = np.argwhere(mask | (np.abs(image) > 2.0 * measured.image(measured.sigma)))
    assert len(set(map(tuple, found.tolist())) ^ set(map(tuple, expected.tolist()))) <= 2
    grow_mask(mask, np.array([[0, 0], [9, 9]], np.int32))
    assert mask.sum() == 1 + 4 + 9
