"""A row condensed to fewer points gives the same image, and loses the same model."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels import condense
from dsa110_contimg.kernels.interpolate import interpolation_table

C = 299792458.0
SEED = 20261121
N_SAMPLE, SPACING_HZ = 384, 488281.25
FREQ_HZ = 1.311e9 + SPACING_HZ * np.arange(N_SAMPLE, dtype=np.float64)
DELAY_S = np.array([3e-9, 4e-8, 2.1e-7, 9e-7])
"""The largest delay of each row; the last needs more points than it has samples."""


def condensed(
    vis: NDArray[np.complex64], weights: NDArray[np.float32], oversampling: float, turn_s: NDArray[np.float64]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.float64]], NDArray[np.complex64], NDArray[np.float32]]:
    count, step = condense.points_per_row(DELAY_S, N_SAMPLE, SPACING_HZ, oversampling)
    first = np.concatenate([[0], np.cumsum(count)])
    points, ones = np.empty(first[-1], np.complex64), np.empty(first[-1], np.complex64)
    bands = np.empty((first[-1], condense.TAPS), np.float32)
    table = interpolation_table(condense.TAPS, oversampling)
    condense.condense((vis, weights), FREQ_HZ, turn_s, (first, step), table, (points, ones, bands))
    return (first, step), points, bands


def waves(delay_s: NDArray[np.float64], freq_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    return np.asarray(np.exp(2j * np.pi * delay_s * freq_hz))


def frequencies(rows: tuple[NDArray[np.int64], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The frequency of each point, from the place in wavelengths of a baseline of c metres."""
    uvw, rest = np.empty((rows[0][-1], 3)), np.empty(rows[0][-1], np.float32)
    condense.place_points(np.full((4, 3), C), FREQ_HZ, rows, np.full(4, 2.0 * C), uvw, rest)
    np.testing.assert_allclose(rest, 2.0 * uvw[:, 0], rtol=1e-6)
    return uvw[:, 0]


def test_few_points_for_short_delays_and_all_samples_for_long_ones() -> None:
    count, step = condense.points_per_row(DELAY_S, N_SAMPLE, SPACING_HZ, 1.75)
    assert count.tolist() == [9, 34, 145, 384]
    assert step[3] == 0.0
    assert condense.points_per_row(DELAY_S, N_SAMPLE, np.inf, 1.75)[0].tolist() == [384] * 4
    assert condense.points_per_row(DELAY_S, 1, SPACING_HZ, 1.75)[0].tolist() == [1] * 4


@pytest.mark.parametrize(("oversampling", "error"), [(1.75, 2e-3), (2.0, 6e-4), (2.5, 1e-4)])
def test_the_sum_over_points_is_the_sum_over_samples(oversampling: float, error: float) -> None:
    rng = np.random.default_rng(SEED)
    weights = rng.uniform(0.5, 1.5, (4, N_SAMPLE)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.2] = 0.0
    vis = (rng.normal(size=weights.shape) + 1j * rng.normal(size=weights.shape)).astype(np.complex64)
    rows, points, _bands = condensed(vis, weights, oversampling, np.zeros(4))
    freq, first = frequencies(rows), rows[0]
    for row in range(4):
        part, delay = slice(first[row], first[row + 1]), rng.uniform(-1.0, 1.0, (200, 1)) * DELAY_S[row]
        exact = waves(-delay, FREQ_HZ) @ (weights[row] * vis[row])
        found = waves(-delay, freq[part]) @ points[part]
        assert np.sqrt(np.mean(np.abs(found - exact) ** 2) / np.sum(weights[row] ** 2)) < error


def test_taking_a_model_off_points_is_taking_it_off_samples() -> None:
    rng = np.random.default_rng(SEED + 1)
    weights = rng.uniform(0.5, 1.5, (4, N_SAMPLE)).astype(np.float32)
    theta_s, turn = 0.3, np.array([0.0, 1e-9, -2e-9, 3e-9])
    delay = rng.uniform(-0.9, 0.9, 4) * DELAY_S
    vis = waves(delay[:, None], FREQ_HZ).astype(np.complex64)
    rows, points, bands = condensed(vis, weights, 2.0, turn)
    factor = np.array([1.0, 0.9, 1.1, 0.8], np.float32)
    freq, before = frequencies(rows), np.abs(points).max()
    row = np.repeat(np.arange(4), np.diff(rows[0]))
    theta = np.full(freq.size, theta_s, np.float32)
    whole = waves(delay[row] - turn[row], freq)
    # exp(iθ) T0 by its first terms: a model of one set per power.
    terms = np.stack([(whole * np.exp(-1j * theta_s) / factor[row])] * 5).astype(np.complex64)
    condense.take_off(points, bands, (rows[0], factor), theta, terms)
    assert np.abs(points).max() < 1e-3 * before
    power = np.empty_like(points)
    condense.power_of_phase(whole.astype(np.complex64), theta, 2, power)
    np.testing.assert_allclose(power, whole * (-1j * theta_s) ** 2 / 2.0, atol=1e-6)
