"""Spectra and changes are recovered, and what cannot be fitted is NaN."""

import sys

import numpy as np

from dsa110_contimg.kernels.spectra import chromatic_change, spectral_index

SEED = 5
FREQ = np.array([1.334e9, 1.381e9, 1.428e9, 1.475e9])


def test_indices_and_levels_have_honest_errors() -> None:
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    alpha, flux = rng.uniform(-2.0, 1.0, 4000), 10.0 ** rng.uniform(-1.5, 0.0, 4000)
    truth = flux[:, None] * (FREQ / 1.4e9) ** alpha[:, None]
    error = np.broadcast_to(rng.uniform(0.5e-3, 1.5e-3, 4), truth.shape)
    lines = spectral_index(FREQ, truth + rng.normal(size=truth.shape) * error, error)
    for found, expected, sigma in (
        (lines.slope, alpha, lines.slope_err),
        (lines.level, np.log(flux * (lines.freq_hz / 1.4e9) ** alpha), lines.level_err),
    ):
        pull = (found - expected) / sigma
        assert abs(pull.mean()) < 4.0 / np.sqrt(pull.size)
        assert abs(pull.std() - 1.0) < 0.05
    assert abs(np.mean(lines.chi2) - 2.0) < 0.15


def test_a_gain_error_has_no_slope_and_a_lens_has() -> None:
    before = np.array([[1.0, 0.97, 0.94, 0.91]] * 3)
    now = before * np.array([[0.9] * 4, [0.5, 0.6, 0.7, 0.8], [1.0] * 4])
    error = np.full(now.shape, 0.01)
    lines = chromatic_change(FREQ, now, error, before, error)
    np.testing.assert_allclose(lines.level[[0, 2]], [np.log(0.9), 0.0], atol=1e-12)
    np.testing.assert_allclose(lines.slope[[0, 2]], 0.0, atol=1e-9)
    assert lines.slope[1] > 10.0 * lines.slope_err[1]


def test_what_is_missing_faint_or_alone_gives_no_line() -> None:
    flux = np.array(
        [[1.0, np.nan, 1.0, np.nan], [1.0, np.nan, np.nan, np.nan], [0.02, 0.01, -0.02, 0.0], [1.0, 1.0, 1.0, 0.001]]
    )
    error = np.full(flux.shape, 0.01)
    lines = spectral_index(FREQ, flux, error)
    assert np.isfinite(lines.slope).tolist() == [True, False, False, True]
    assert lines.n.tolist() == [2, 1, 0, 3]
    assert np.isnan(spectral_index(np.full(4, 1.4e9), flux, error).slope).all()
