"""Delays against truth, and their errors against the scatter of repeated noise."""

import numpy as np
import pytest

from dsa110_contimg.kernels.delays import fit_delays, unwrap_delays


@pytest.mark.parametrize("step_hz", [244140.625, 1953125.0])
def test_delays_are_found_between_the_bins_and_across_gaps(step_hz: float) -> None:
    rng = np.random.default_rng(7)
    freq = np.arange(1311.3e6, 1498.7e6, step_hz)
    keep = np.ones(freq.size, bool)
    keep[freq.size // 4 : freq.size // 3] = False
    freq = freq[keep]
    delays = np.append(rng.uniform(-200.0, 200.0, 12), [0.0, 1000.0 if step_hz < 1e6 else 250.0])
    gains = np.exp(2j * np.pi * (delays[:, None] * 1e-9 * (freq - 1.405e9) + rng.random((delays.size, 1))))
    gains[3, ::3] = 0.0
    noise = rng.normal(0, 0.1, gains.shape) + 1j * rng.normal(0, 0.1, gains.shape)
    found, snr, _error = fit_delays(np.where(gains == 0.0, 0.0, gains + noise), freq, 1.405e9, 2000.0)
    np.testing.assert_allclose(found, delays, atol=0.15 if step_hz > 1e6 else 0.05)
    assert (snr > 50).all()


def test_a_line_without_solutions_has_no_delay() -> None:
    gains = np.zeros((2, 16), complex)
    gains[1] = 1.0
    found, snr, error = fit_delays(gains, 1.4e9 + 1e6 * np.arange(16, dtype=np.float64), 1.4e9, 100.0)
    assert np.isnan(found[0])
    assert np.isnan(error[0])
    assert snr[0] == 0.0
    assert found[1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n_solved", [3, 8, 20, 700])
def test_random_phases_have_no_delay(n_solved: int) -> None:
    print("seed 10")
    rng = np.random.default_rng(10)
    freq = 1311.3e6 + 244140.625 * np.arange(768, dtype=np.float64)
    gains = np.zeros((300, freq.size), complex)
    for line in gains:
        line[rng.permutation(freq.size)[:n_solved]] = np.exp(2j * np.pi * rng.random(n_solved))
    found, snr, _error = fit_delays(gains, freq, 1.405e9, 2000.0)
    assert np.isnan(found).mean() > 0.99
    assert (snr[np.isnan(found)] == 0.0).all()


def test_delays_on_a_circle_are_cut_in_the_widest_gap() -> None:
    truth = np.array([-190.0, -120.0, np.nan, 0.0, 90.0, 200.0])
    wrapped = (truth - 200.0 + 256.0) % 512.0 - 256.0
    unwrapped = unwrap_delays(wrapped, 512.0)
    np.testing.assert_allclose(unwrapped - unwrapped[3], truth)


def test_delay_errors_are_the_scatter_of_many_noise_realizations() -> None:
    print("seed 9")
    rng = np.random.default_rng(9)
    freq = 1311.3e6 + 1953125.0 * np.arange(96, dtype=np.float64)
    noise = 0.2 * (rng.normal(size=(2000, 96)) + 1j * rng.normal(size=(2000, 96)))
    gains = np.exp(2j * np.pi * 37.0e-9 * (freq - 1.405e9)) + noise
    found, _snr, error = fit_delays(gains, freq, 1.405e9, 500.0)
    assert found.std() == pytest.approx(np.sqrt((error**2).mean()), rel=0.05)
    assert found.mean() == pytest.approx(37.0, abs=0.01)
