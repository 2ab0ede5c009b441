"""The weighted sum is the best mean, and the robust width is the width of the bulk."""

import numpy as np
import pytest

from dsa110_contimg.kernels.coadd import (
    accumulate,
    accumulate_numpy,
    finish,
    robust_center_scatter,
    robust_scatter,
)


def test_fast_kernel_is_its_specification() -> None:
    rng = np.random.default_rng(1)
    fast, plain = np.zeros((2, 3, 60, 70), np.float32)
    for sigma in (0.5, 2.0, 1.0):
        image, beam = rng.normal(size=(40, 50)).astype(np.float32), rng.uniform(0, 1, (40, 50)).astype(np.float32)
        image[rng.uniform(size=image.shape) < 0.1] = np.nan
        beam[rng.uniform(size=beam.shape) < 0.1] = np.nan
        accumulate(fast, image, beam, sigma, 0.2, (7, 11))
        accumulate_numpy(plain, image, beam, sigma, 0.2, (7, 11))
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-6)
    assert fast.any()


def test_mean_is_unbiased_and_noise_is_its_scatter() -> None:
    """Many realizations of three images of one sky under different beams and noise."""
    rng = np.random.default_rng(2)
    sky, beams, sigmas = 3.0, (1.0, 0.5, 0.25), (1.0, 0.4, 0.7)
    sums = np.zeros((3, 300, 300), np.float32)
    for beam, sigma in zip(beams, sigmas, strict=True):
        image = (sky * beam + rng.normal(0, sigma, (300, 300))).astype(np.float32)
        accumulate(sums, image, np.full((300, 300), beam, np.float32), sigma, 0.2, (0, 0))
    image, noise = finish(sums, 0.1)
    expected = 1.0 / np.sqrt(sum((b / s) ** 2 for b, s in zip(beams, sigmas, strict=True)))
    assert noise[5, 5] == pytest.approx(expected, rel=1e-5)
    assert image.mean() == pytest.approx(sky, abs=4 * expected / 300)
    assert image.std() == pytest.approx(expected, rel=0.02)


def test_blank_where_no_beam_reaches() -> None:
    sums = np.zeros((3, 4, 4), np.float32)
    accumulate(
        sums, np.ones((4, 4), np.float32), np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), 1.0, 0.2, (0, 0)
    )
    image, noise = finish(sums, 0.5)
    assert np.isnan(image).sum() == np.isnan(noise).sum() == 8


def test_scatter_ignores_sources() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.2, 2.0, 400_000)
    values[:20_000] += rng.uniform(10, 1000, 20_000)
    center, scatter = robust_center_scatter(values)
    assert scatter == pytest.approx(2.0, rel=0.02)
    assert center == pytest.approx(0.2, abs=0.1)
    assert np.std(values) > 20.0


def test_large_images_are_sampled_the_same_way_each_time() -> None:
    values = np.random.default_rng(4).normal(size=(2100, 2100)).astype(np.float32)
    assert robust_scatter(values) == robust_scatter(values)
    assert robust_scatter(values) == pytest.approx(1.0, rel=0.005)


def test_nothing_finite_has_no_scatter() -> None:
    assert np.isnan(robust_scatter(np.full(10, np.nan)))
