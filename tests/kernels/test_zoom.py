"""Interpolation by Fourier transform keeps values."""

import numpy as np

from dsa110_contimg.kernels.zoom import double, taper

N = 64
PASSED = 0.6


def test_a_wave_below_the_limit_is_interpolated_exactly() -> None:
    y, x = np.mgrid[:N, :N]
    coarse = np.cos(2.0 * np.pi * (17 * x - 9 * y + 0.3) / N).astype(np.float32)
    fine_y, fine_x = np.mgrid[: 2 * N, : 2 * N] / 2.0
    expected = np.cos(2.0 * np.pi * (17 * fine_x - 9 * fine_y + 0.3) / N)
    np.testing.assert_allclose(double(coarse, PASSED, 1), expected, atol=2e-6)


def test_the_taper_passes_what_it_must_and_ends_at_nyquist() -> None:
    window = taper(N, PASSED)
    frequency = np.abs(np.fft.fftfreq(N)) * 2.0
    assert np.all(window[frequency <= PASSED] == 1.0)
    assert window[N // 2] == 0.0
    assert np.all((window >= 0.0) & (window <= 1.0))
