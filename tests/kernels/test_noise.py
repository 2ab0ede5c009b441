"""The noise of an image is measured between its sources, and its autocorrelation is what was put in."""

import sys

import numpy as np
import pytest

from dsa110_contimg.kernels import noise
from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel

SEED = 77


def noisy_plane(shape: BeamShape, side: int = 512) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rng = np.random.default_rng(SEED)
    lag = np.fft.fftfreq(side) * side
    power = np.abs(np.fft.fft2(beam_kernel(lag[None, :], lag[:, None], shape)))
    plane = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * np.sqrt(power)).real
    return np.asarray(plane / plane.std())


def test_autocorrelation_is_the_beam_that_made_the_noise() -> None:
    sys.stdout.write(f"seed {SEED}\n")
    shape = BeamShape(8.0, 4.0, 0.5)
    plane = noisy_plane(shape)
    usable = np.ones(plane.shape, np.bool_)
    plane[100:140, 100:140] = 500.0
    usable[100:140, 100:140] = False
    correlation = noise.noise_autocorrelation(plane, usable, 12)
    lag = np.arange(-12, 13)
    np.testing.assert_allclose(correlation, beam_kernel(lag[None, :], lag[:, None], shape), atol=0.05)
    assert correlation[12, 12] == 1.0
    np.testing.assert_allclose(correlation, correlation[::-1, ::-1], atol=1e-12)


def test_autocorrelation_of_nothing_is_white() -> None:
    correlation = noise.noise_autocorrelation(np.full((20, 20), np.nan), np.ones((20, 20), np.bool_), 3)
    assert correlation.sum() == 1.0
    assert noise.correlation_at(correlation, np.array([[0, 0], [1, 0], [9, 9]])).tolist() == [1.0, 0.0, 0.0]


def test_local_noise_follows_the_image_and_ignores_sources() -> None:
    """The right half is three times noisier and stands on a pedestal; a source and blanks lie in between."""
    sys.stdout.write(f"seed {SEED}\n")
    shape = BeamShape(5.0, 5.0, 0.0)
    plane = noisy_plane(shape)
    plane[:, 256:] = 3.0 * plane[:, 256:] + 10.0
    row, column = np.mgrid[0:512, 0:512]
    for x, y in ((120, 128), (100, 150), (390, 260)):
        plane += 400.0 * beam_kernel(column - x, row - y, shape)
    plane[200:210, :] = np.nan
    background, rms = noise.local_noise(
        plane, np.isfinite(plane), np.array([128.0, 384.0, 5.0]), np.array([128.0, 256.0, 5.0]), (10.0, 80.0)
    )
    np.testing.assert_allclose(rms, [1.0, 3.0, 1.0], rtol=0.12)
    np.testing.assert_allclose(background, [0.0, 10.0, 0.0], atol=0.4)


def test_local_noise_needs_fifty_pixels() -> None:
    plane = np.zeros((30, 30))
    background, rms = noise.local_noise(
        plane, np.zeros(plane.shape, np.bool_), np.array([15.0]), np.array([15.0]), (2.0, 9.0)
    )
    assert np.isnan(background[0])
    assert np.isnan(rms[0])


def test_compiled_and_plain_agree() -> None:
    plane = noisy_plane(BeamShape(4.0, 4.0, 0.0), 64)
    arguments = (plane, np.ones(plane.shape, np.bool_), np.array([30.2]), np.array([31.7]), (4.0, 20.0, 1))
    for compiled, plain in zip(noise._annuli(*arguments), noise._annuli.py_func(*arguments), strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-12)


def test_robust_sigma_is_that_of_a_gaussian() -> None:
    values = np.random.default_rng(SEED).normal(3.0, 2.0, 100_000)
    values[:500] = 1e6
    middle, sigma = noise.robust_sigma(values)
    assert middle == pytest.approx(3.0, abs=0.05)
    assert sigma == pytest.approx(2.0, rel=0.03)


def test_cells_hold_a_value_and_the_largest() -> None:
    rng = np.random.default_rng(5)
    image, level = rng.normal(size=(23, 31)).astype(np.float32), rng.uniform(1, 2, (23, 31)).astype(np.float32)
    image[0:4, 4:8] = np.nan
    middle, largest = noise.pull_in_cells(image, level, 4)
    assert middle.shape == largest.shape == (5, 7)
    assert np.isnan(middle[0, 1])
    assert largest[0, 1] == 0.0
    pull = image / level
    assert middle[2, 3] == pull[10, 14]
    assert largest[2, 3] == np.abs(pull[8:12, 12:16]).max()


def test_factors_are_linear_between_blocks() -> None:
    factors = np.array([[1.0, 2.0, 4.0], [3.0, 4.0, 6.0]])
    plane = np.full((20, 30), 2.0, np.float32)
    noise.scale_bilinear(plane, factors, 10.0)
    x, y = (np.arange(30) + 0.5) / 10 - 0.5, (np.arange(20) + 0.5) / 10 - 0.5
    columns = np.array([np.interp(x, [0, 1, 2], row) for row in factors])
    expected = 2.0 * np.array([np.interp(y, [0, 1], column) for column in columns.T]).T
    np.testing.assert_allclose(plane, expected, rtol=1e-5)
    one = np.ones((5, 5), np.float32)
    noise.scale_bilinear(one, np.array([[3.0]]), 10.0)
    assert np.all(one == 3.0)
