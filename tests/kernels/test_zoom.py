"""Interpolation by Fourier transform keeps values, sums and visibilities."""

import numpy as np
import pytest

from dsa110_contimg.kernels.zoom import double, halve, taper

SEED = 20260111
N = 64
PASSED = 0.6


def test_a_wave_below_the_limit_is_interpolated_exactly() -> None:
    y, x = np.mgrid[:N, :N]
    coarse = np.cos(2.0 * np.pi * (17 * x - 9 * y + 0.3) / N).astype(np.float32)
    fine_y, fine_x = np.mgrid[: 2 * N, : 2 * N] / 2.0
    expected = np.cos(2.0 * np.pi * (17 * fine_x - 9 * fine_y + 0.3) / N)
    np.testing.assert_allclose(double(coarse, PASSED, 1), expected, atol=2e-6)


@pytest.mark.parametrize("u", [-9.37, 0.0, 4.81, 18.2])
def test_a_model_keeps_its_visibilities_between_the_frequencies_of_the_transform(u: float) -> None:
    fine = np.zeros((2 * N, 2 * N), np.float32)
    fine[70, 55], fine[41, 90] = 1.0, -0.4
    coarse = halve(fine, PASSED, 1)
    direct = sum(
        flux * np.exp(2j * np.pi * (u * (x - N) / (2 * N) + 7.3 * (y - N) / (2 * N)))
        for y, x, flux in ((70, 55, 1.0), (41, 90, -0.4))
    )
    axis = (np.arange(N) - N // 2) / N
    waves = np.exp(2j * np.pi * (u * axis[None, :] + 7.3 * axis[:, None]))
    assert np.sum(coarse * waves) == pytest.approx(direct, abs=3e-3)
    assert coarse.sum() == pytest.approx(0.6, abs=1e-5)


def test_halving_is_the_transpose_of_doubling() -> None:
    rng = np.random.default_rng(SEED)
    coarse = rng.normal(size=(N, N)).astype(np.float32)
    fine = rng.normal(size=(2 * N, 2 * N)).astype(np.float32)
    there, back = np.vdot(double(coarse, PASSED, 1), fine), np.vdot(coarse, halve(fine, PASSED, 1))
    assert there == pytest.approx(back, rel=1e-4)


def test_the_taper_passes_what_it_must_and_ends_at_nyquist() -> None:
    window = taper(N, PASSED)
    frequency = np.abs(np.fft.fftfreq(N)) * 2.0
    assert np.all(window[frequency <= PASSED] == 1.0)
    assert window[N // 2] == 0.0
    assert np.all((window >= 0.0) & (window <= 1.0))
