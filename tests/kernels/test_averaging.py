"""Stokes I, and how little averaging by baseline loses."""

import numpy as np
import pytest

from dsa110_contimg.kernels.averaging import average_stokes_i, averaging_factor, channels_per_sample

C = 299792458.0
SEED = 20260107
WIDTH_HZ = 244140.625
RADIUS = float(np.radians(2.0))
NOTHING = np.zeros((0, 0), np.complex64)


def test_no_baseline_loses_more_than_one_percent_anywhere_within_the_radius() -> None:
    rng = np.random.default_rng(SEED)
    uvw = rng.normal(0.0, 1.0, (300, 3))
    uvw *= (10.0 ** rng.uniform(0.5, 3.5, 300) / np.linalg.norm(uvw, axis=1))[:, None]
    chosen = channels_per_sample(uvw, WIDTH_HZ, RADIUS)
    assert set(chosen) == {1, 2, 4, 8}
    freq = 1.4e9 + WIDTH_HZ * np.arange(8)
    angle = np.linspace(0.0, 2.0 * np.pi, 73)
    east, north = np.sin(RADIUS) * np.sin(angle), np.sin(RADIUS) * np.cos(angle)
    toward = np.full(73, np.cos(RADIUS) - 1.0)
    delay = uvw @ np.stack([east, north, toward]) / C
    phasors = np.exp(2j * np.pi * delay[:, :, None] * freq)
    for n in (2, 4, 8):
        mean = phasors[chosen == n].reshape(-1, 73, 8 // n, n).mean(axis=3)
        loss = 1.0 - np.abs(mean)
        assert loss.max() <= 0.01
        assert loss.max() > 0.004, "the choice is needlessly timid"
    short = np.abs(phasors[chosen < 8].mean(axis=2))
    assert short.min() < 0.99, "blind averaging of 8 channels must fail this test"


def test_the_factor_is_the_mean_of_phasors() -> None:
    delay = np.array([0.0, 1e-8, 3e-7])
    mean = np.exp(2j * np.pi * np.outer(delay, WIDTH_HZ * (np.arange(4) - 1.5))).mean(axis=1)
    np.testing.assert_allclose(averaging_factor(delay, WIDTH_HZ, 4), mean.real, atol=1e-12)


def test_stokes_i_needs_both_hands_and_is_their_mean() -> None:
    vis = np.ones((2, 4, 2), np.complex64) * np.array([3.0, 5.0], np.complex64)
    flags = np.zeros((2, 4, 2), bool)
    flags[0, 1, 1] = True
    vis[0, 2, 0] = np.nan
    weights = np.array([[1.0, 2.0], [1.0, 0.0]], np.float32)
    out, weight = average_stokes_i(vis, flags, weights, np.arange(2), 1, NOTHING)
    np.testing.assert_array_equal(out[0], [4.0, 0.0, 0.0, 4.0])
    np.testing.assert_array_equal(weight, [[3.0, 0.0, 0.0, 3.0], [0.0] * 4])


def test_means_carry_the_weight_of_what_they_hold() -> None:
    rng = np.random.default_rng(SEED)
    vis = (rng.normal(size=(3, 8, 2)) + 1j * rng.normal(size=(3, 8, 2))).astype(np.complex64)
    flags = rng.random((3, 8, 2)) < 0.2
    flags[1, :4] = True
    less = (rng.normal(size=(2, 8)) + 0j).astype(np.complex64)
    rows = np.array([2, 1])
    out, weight = average_stokes_i(vis, flags, np.ones((3, 2), np.float32), rows, 4, less)
    good = ~np.asarray(flags.any(axis=2))[rows]
    count = good.reshape(2, 2, 4).sum(axis=2)
    total = np.where(good, vis[rows].mean(axis=2) - less, 0.0).reshape(2, 2, 4).sum(axis=2)
    np.testing.assert_allclose(weight, 2.0 * count)
    np.testing.assert_allclose(out, total / np.maximum(count, 1), atol=1e-6)
    assert weight[1, 0] == 0.0


def test_one_hand_alone_is_stokes_i() -> None:
    vis = np.full((1, 2, 1), 7.0, np.complex64)
    out, weight = average_stokes_i(
        vis, np.zeros((1, 2, 1), bool), np.ones((1, 1), np.float32), np.arange(1), 2, NOTHING
    )
    assert out[0, 0] == pytest.approx(7.0)
    assert weight[0, 0] == pytest.approx(2.0)
