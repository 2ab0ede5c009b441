"""The fast prediction equals the plain one, for any number of channels."""

import numpy as np
import pytest

from dsa110_contimg.kernels.predict import predict_evenly_spaced, predict_numpy, smearing_axes

C = 299792458.0


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


@pytest.mark.parametrize("dec_deg", [16.0, 85.0])
def test_smearing_is_the_mean_over_the_turn_of_the_earth_and_the_channel(dec_deg: float) -> None:
    rng = np.random.default_rng(7)
    ground, dec0, seconds, width = rng.normal(0.0, 900.0, (40, 3)), np.radians(dec_deg), 25.0, 1e6
    lm = np.array([[0.025, -0.012], [-0.02, 0.028]])
    lmn = np.column_stack([lm, np.sqrt(1.0 - (lm**2).sum(axis=1))])
    freq = 1.3e9 + width * np.arange(64, dtype=np.float64)

    def seen(hour: float, shift_hz: float) -> np.ndarray:
        x, y, z = ground.T
        u = np.sin(hour) * x + np.cos(hour) * y
        v = -np.sin(dec0) * (np.cos(hour) * x - np.sin(hour) * y) + np.cos(dec0) * z
        w = np.cos(dec0) * (np.cos(hour) * x - np.sin(hour) * y) + np.sin(dec0) * z
        path = np.stack([u, v, w], axis=1) @ (lmn - [0.0, 0.0, 1.0]).T
        return np.asarray(np.exp(2j * np.pi * path[:, None, :] * (freq + shift_hz)[None, :, None] / C).sum(axis=2))

    steps = (np.arange(24) + 0.5) / 24 - 0.5
    turn = 7.292115e-5 * seconds
    mean = np.mean([seen(0.3 + turn * t, width * f) for t in steps for f in steps], axis=0)
    x, y, z = ground.T
    swing = np.cos(0.3) * x - np.sin(0.3) * y
    uvw = np.stack([
        np.sin(0.3) * x + np.cos(0.3) * y,
        -np.sin(dec0) * swing + np.cos(dec0) * z,
        np.cos(dec0) * swing + np.sin(dec0) * z,
    ], axis=1)  # fmt: skip
    followed = np.array([[0.0, 0.0, 1.0]])
    axes = np.concatenate([np.zeros((2, 2, 3)), smearing_axes(lmn, followed, dec0, seconds)], axis=1)
    flux, when = np.ones((1, 2, 64), np.float32), np.zeros(40, np.int64)
    found = predict_evenly_spaced(uvw, when, freq[0], width, lmn, flux, axes)
    np.testing.assert_allclose(found, predict_numpy(uvw, when, freq, lmn, flux, axes), atol=2e-4)
    assert np.sqrt(np.mean(np.abs(found - mean) ** 2)) < 0.01
    assert np.sqrt(np.mean(np.abs(seen(0.3, 0.0) - mean) ** 2)) > 0.05, "what is smeared is not negligible here"


def test_each_time_smears_around_the_direction_that_it_follows() -> None:
    """A source that is followed at the second of three times loses nothing then, and more the farther it is."""
    rng = np.random.default_rng(20261122)
    uvw, when = rng.normal(0.0, 1300.0, (30, 3)), np.arange(30) % 3
    lm = np.array([[0.02, -0.01]])
    lmn = np.column_stack([lm, np.sqrt(1.0 - (lm**2).sum(axis=1))])
    l = np.array([-0.01, 0.02, 0.03])  # noqa: E741
    followed = np.column_stack([l, np.full(3, -0.01), np.sqrt(1.0 - l**2 - 1e-4)])
    axes = np.concatenate([np.zeros((1, 2, 3)), smearing_axes(lmn, followed, 0.6, 12.9)], axis=1)
    flux = np.ones((3, 1, 8), np.float32)
    found = predict_evenly_spaced(uvw, when, 1.4e9, 2.5e5, lmn, flux, axes)
    freq = 1.4e9 + 2.5e5 * np.arange(8, dtype=np.float64)
    np.testing.assert_allclose(found, predict_numpy(uvw, when, freq, lmn, flux, axes), atol=2e-4)
    loss = 1.0 - np.abs(found).mean(axis=1)
    assert np.abs(loss[when == 1]).max() < 1e-5
    assert loss[when == 0].mean() > 4.0 * loss[when == 2].mean() > 0.004
