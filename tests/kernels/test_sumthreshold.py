"""Runs that are too strong together are found, noise is not, and gaps close by their definition."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.runs import count_runs, decode, encode
from dsa110_contimg.kernels.sumthreshold import FOUND, close_gaps, search_channels, search_drifts, search_times

FIRST = 3.9


def noise(seed: int, shape: tuple[int, int] = (24, 768)) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    print(f"seed {seed}")
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return x, np.zeros(shape, np.uint8)


def scratch(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.empty((2, x.shape[0] + 1, x.shape[1] + 1), np.float32)


def test_noise_is_not_interference() -> None:
    x, state = noise(1)
    search_times(x, state, scratch(x), FIRST, 1)
    search_channels(x, state, scratch(x), FIRST, (1, 256))
    assert (state == FOUND).mean() < 0.002


def test_a_faint_carrier_and_a_faint_burst_are_found_whole() -> None:
    """1.5 scatters: of single samples hardly one is above 3.9."""
    x, state = noise(2)
    x[:, 300] += 1.6
    x[7, 500:564] += 1.2
    found = search_times(x, state, scratch(x), FIRST, 1)
    found += search_channels(x, state, scratch(x), FIRST, (1, 256))
    assert (state[:, 300] == FOUND).mean() > 0.9
    assert (state[7, 500:564] == FOUND).mean() > 0.9
    assert found == (state == FOUND).sum()
    assert found < 24 + 64 + 60


@pytest.mark.parametrize("slope", [-2.0, 0.5, 1.0])
def test_a_drift_is_found_along_its_slope(slope: float) -> None:
    x, state = noise(3)
    times = np.arange(24)
    chans = 400 + np.floor(slope * times + 0.5).astype(int)
    x[times, chans] += 2.2
    assert search_drifts(x, state, scratch(x), FIRST, -slope) < 30
    assert (state[times, chans] == FOUND).mean() < 0.5
    search_drifts(x, state, scratch(x), FIRST, slope)
    assert (state[times, chans] == FOUND).mean() > 0.85


def test_a_plane_whose_neighbors_are_alike_is_not_interference() -> None:
    """Fringes: means of runs scatter as much as single samples do."""
    rng = np.random.default_rng(4)
    slow = np.cumsum(rng.standard_normal((24, 768)), axis=1)
    slow -= slow.mean(axis=1, keepdims=True)
    x = (slow / (1.4826 * np.median(np.abs(slow)))).astype(np.float32)
    state = np.zeros(x.shape, np.uint8)
    search_channels(x, state, scratch(x), FIRST, (1, 256))
    assert (state == FOUND).mean() < 0.05


def test_gaps_close_by_their_definition() -> None:
    rng = np.random.default_rng(5)
    for density in (0.1, 0.6, 0.9):
        found = rng.random(60) < density
        expected = found.copy()
        for first in range(60):
            for last in range(first + 1, 61):
                if found[first:last].mean() >= 1.0 - 0.25 - 1e-9:
                    expected[first:last] = True
        close_gaps(found, 0.25, np.empty(60, np.float32))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_runs_come_back(density: float) -> None:
    rng = np.random.default_rng(6)
    rows = (rng.integers(0, 12, (50, 97)) * (rng.random((50, 97)) < density)).astype(np.uint8)
    offsets = count_runs(rows)
    values, lengths = encode(rows, offsets)
    assert lengths.sum() == rows.size
    np.testing.assert_array_equal(decode(values, lengths, offsets, 97), rows)
