"""The fast prediction equals the plain one, for any number of channels."""

import numpy as np
import pytest

from dsa110_contimg.kernels.predict import predict_evenly_spaced, predict_numpy


@pytest.mark.parametrize("n_chan", [1, 3, 31, 32, 33, 96, 768])
def test_fast_and_plain_agree(n_chan: int) -> None:
    rng = np.random.default_rng(n_chan)
    uvw = rng.normal(0.0, 1300.0, (12, 3))
    when = rng.integers(0, 3, 12)
    lm = rng.uniform(-0.04, 0.04, (7, 2))
    lmn = np.column_stack([lm, np.sqrt(1.0 - (lm**2).sum(axis=1))])
    amplitude = rng.uniform(0.1, 5.0, (3, 7, n_chan)).astype(np.float32)
    first, step = 1311.37e6, 187.5e6 / max(n_chan, 96)
    axes = rng.normal(0.0, 2e-13, (7, 2, 3)) * (np.arange(7) % 2)[:, None, None]
    fast = predict_evenly_spaced(uvw, when, first, step, lmn, amplitude, axes)
    plain = predict_numpy(uvw, when, first + step * np.arange(n_chan, dtype=np.float64), lmn, amplitude, axes)
    assert np.abs(plain).min() > 1e-4
    np.testing.assert_allclose(fast, plain, atol=3e-6 * amplitude.sum(axis=1).max())


def test_a_source_at_the_center_has_no_phase_and_one_east_turns_with_u() -> None:
    uvw = np.array([[100.0, 0.0, 0.0]])
    east = 0.01
    lmn = np.array([[0.0, 0.0, 1.0]])
    amplitude = np.full((1, 1, 4), 2.0, np.float32)
    point = np.zeros((1, 2, 3))
    center = predict_evenly_spaced(uvw, np.zeros(1, np.int64), 1.4e9, 1e6, lmn, amplitude, point)
    np.testing.assert_allclose(center, 2.0, atol=1e-6)
    lmn = np.array([[east, 0.0, np.sqrt(1 - east**2)]])
    offset = predict_evenly_spaced(uvw, np.zeros(1, np.int64), 1.4e9, 1e6, lmn, amplitude, point)
    turns = 100.0 * east * (1.4e9 + 1e6 * np.arange(4)) / 299792458.0
    np.testing.assert_allclose(offset[0], 2.0 * np.exp(2j * np.pi * turns), atol=1e-5)
