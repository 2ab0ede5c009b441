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
