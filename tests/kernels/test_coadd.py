"""The weighted sum is the best mean, and the robust width is the width of the bulk."""

import numpy as np
import pytest

from dsa110_contimg.kernels.coadd import (
    accumulate,
    accumulate_numpy,
    finish,
    gaussian_taper,
    robust_center_scatter,
    robust_scatter,
)


def test_fast_kernel_is_its_specification() -> None:
    rng = np.random.default_rng(1)
    fast, plain = np.zeros((2, 4, 60, 70), np.float32)
    for sigma in (0.5, 2.0, 1.0):
        image, beam = rng.normal(size=(40, 50)).astype(np.float32), rng.uniform(0, 1, (40, 50)).astype(np.float32)
        image[rng.uniform(size=image.shape) < 0.1] = np.nan
        beam[rng.uniform(size=beam.shape) < 0.1] = np.nan
        accumulate(fast, image, beam, 1, sigma, 0.2, (7, 11))
        accumulate_numpy(plain, image, beam, sigma, 0.2, (7, 11))
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-6)
    assert fast.any()


def test_mean_is_unbiased_and_noise_is_its_scatter() -> None:
    """Many realizations of three images of one sky under different beams and noise."""
    rng = np.random.default_rng(2)
    sky, beams, sigmas = 3.0, (1.0, 0.5, 0.25), (1.0, 0.4, 0.7)
    sums = np.zeros((4, 300, 300), np.float32)
    for beam, sigma in zip(beams, sigmas, strict=True):
        image = (sky * beam + rng.normal(0, sigma, (300, 300))).astype(np.float32)
        accumulate(sums, image, np.full((300, 300), beam, np.float32), 1, sigma, 0.2, (0, 0))
    finish(sums, 0.1)
    image, weight, noise, number = sums
    expected = 1.0 / np.sqrt(sum((b / s) ** 2 for b, s in zip(beams, sigmas, strict=True)))
    assert noise[5, 5] == pytest.approx(expected, rel=1e-5)
    assert weight[5, 5] == pytest.approx(expected**-2, rel=1e-5)
    assert np.all(number == 3.0)
    assert image.mean() == pytest.approx(sky, abs=4 * expected / 300)
    assert image.std() == pytest.approx(expected, rel=0.02)


def test_blank_where_no_beam_reaches() -> None:
    sums = np.zeros((4, 4, 4), np.float32)
    accumulate(
        sums, np.ones((4, 4), np.float32), np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), 1, 1.0, 0.2, (0, 0)
    )
    finish(sums, 0.5)
    assert [int(np.isnan(plane).sum()) for plane in sums] == [8, 8, 8, 0]
    assert sums[3].sum() == 8.0


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


@pytest.mark.parametrize("shape", [(40, 50), (37, 49), (5, 61)])
def test_a_beam_at_nodes_is_linear_between(shape: tuple[int, int]) -> None:
    """A bilinear beam, given at every twelfth pixel, is the same as given at every one, to the last row and column."""
    rng = np.random.default_rng(9)
    ny, nx = (-(-(length - 1) // 12) + 1 for length in shape)
    nodes = rng.uniform(0.0, 1.0, (ny, nx)).astype(np.float32)
    y, x = (np.arange(length) / 12.0 for length in shape)
    rows = np.array([np.interp(x, np.arange(nx), row) for row in nodes])
    whole = np.array([np.interp(y, np.arange(ny), column) for column in rows.T]).T.astype(np.float32)
    image = rng.normal(size=shape).astype(np.float32)
    fast, plain = np.zeros((2, 4, *shape), np.float32)
    accumulate(fast, image, nodes, 12, 0.5, 0.0, (0, 0))
    accumulate_numpy(plain, image, whole, 0.5, 0.0, (0, 0))
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 60), (41, 59)])
def test_taper_is_a_convolution(shape: tuple[int, int]) -> None:
    """A point becomes the Gaussian of that covariance and integral, in even and odd images."""
    image = np.zeros(shape, np.float32)
    image[20, 30] = 1.0
    spectrum = np.fft.rfft2(image).astype(np.complex64)
    covariance = np.array([[9.0, 2.0], [2.0, 5.0]])
    gaussian_taper(spectrum, shape[1], (9.0, 2.0, 5.0), 3.0)
    got = np.fft.irfft2(spectrum, shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    offset = np.stack([x - 30, y - 20])
    square = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(covariance), offset)
    expected = 3.0 * np.exp(-0.5 * square) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    np.testing.assert_allclose(got, expected, atol=1e-5)
