"""The noise that differences measure is the noise that was put in."""

import numpy as np
import pytest

from dsa110_contimg.kernels.baselines import baseline_rows
from dsa110_contimg.kernels.correct import correct, noise_variance


def test_noise_is_measured_below_a_source_that_fringes() -> None:
    rng = np.random.default_rng(1)
    shape = (24, 200, 2)
    fringe = 16.0 * np.exp(2j * np.pi * (0.01 * np.arange(24)[:, None] + 0.02 * np.arange(200)))[..., None]
    vis = (fringe + rng.normal(0, 0.8, shape) + 1j * rng.normal(0, 0.8, shape)).astype(np.complex64)
    flags = np.zeros(shape, bool)
    vis[:, 50], flags[:, 50] = np.nan, True
    rows = baseline_rows(np.zeros(24, np.int32), np.ones(24, np.int32))
    variance = noise_variance(vis, flags, rows.order, rows.start)
    np.testing.assert_allclose(variance, 0.64, rtol=0.06)
    assert np.isnan(noise_variance(vis, np.ones(shape, bool), rows.order, rows.start)).all()


def test_zero_gains_flag_and_weights_follow_the_gains() -> None:
    vis, flags, weights = np.full((1, 4, 1), 6.0, np.complex64), np.zeros((1, 4, 1), bool), np.full((1, 1), 2.0, "f4")
    inverse = np.full((1, 2, 4, 1), 0.5, np.complex64)
    inverse[0, 1] = 1.0 / 3.0
    inverse[0, 1, 2] = 0.0
    correct(vis, flags, weights, np.array([0], np.int32), np.array([1], np.int32), np.zeros(1, np.int64), inverse)
    np.testing.assert_array_equal(flags[0, :, 0], [False, False, True, False])
    np.testing.assert_allclose(vis[0, [0, 1, 3], 0], 1.0, rtol=1e-6)
    assert weights[0, 0] == pytest.approx(2.0 * 36.0)
