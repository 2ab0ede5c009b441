"""Medians are medians, and limits follow their definition."""

import numpy as np
import pytest

from dsa110_contimg.kernels import flags as kernels
from dsa110_contimg.kernels.baselines import baseline_rows


def test_rows_are_sorted_by_baseline_in_time_order() -> None:
    antenna1 = np.array([0, 0, 1, 0, 0, 1, 0], np.int32)
    antenna2 = np.array([0, 1, 1, 2, 1, 0, 1], np.int32)
    rows = baseline_rows(antenna1, antenna2)
    pairs = list(zip(rows.first.tolist(), rows.second.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 2), (1, 0)]
    assert [rows.order[rows.start[b] : rows.start[b + 1]].tolist() for b in range(3)] == [[1, 4, 6], [3], [5]]
    assert baseline_rows(antenna1, antenna2, autos=True).start.size == 6


@pytest.mark.parametrize("size", [1, 2, 3, 24, 101, 1000])
def test_selection_finds_the_upper_median(size: int) -> None:
    rng = np.random.default_rng(size)
    for values in (rng.normal(size=size), rng.integers(0, 3, size)):
        single = values.astype(np.float32)
        assert kernels._median(single.copy(), size) == np.sort(single)[size // 2]


@pytest.mark.parametrize("n_time", [1, 2, 3, 5, 8, 23, 24, 33])
def test_the_network_sorts_columns(n_time: int) -> None:
    table = np.random.default_rng(n_time).normal(size=(n_time, 40)).astype(np.float32)
    expected = np.sort(table, axis=0)
    kernels._sort_columns(table)
    np.testing.assert_array_equal(table, expected)


def test_channel_medians_leave_flagged_samples_out() -> None:
    rng = np.random.default_rng(3)
    amp = rng.uniform(1.0, 2.0, (24, 30)).astype(np.float32)
    amp[rng.random(amp.shape) < 0.3] = -1.0
    amp[:, 7] = -1.0
    middle = kernels._channel_medians(amp, np.empty_like(amp))
    for chan in range(30):
        good = np.sort(amp[:, chan][amp[:, chan] >= 0.0])
        assert middle[chan] == (good[good.size // 2] if good.size else -1.0)


def test_one_spike_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    antenna1, antenna2 = np.zeros(24, np.int32), np.ones(24, np.int32)
    vis = (10.0 + rng.normal(0, 1, (24, 64, 2)) + 1j * rng.normal(0, 1, (24, 64, 2))).astype(np.complex64)
    vis[5, 20, 1] = 22.0
    flags = np.zeros(vis.shape, bool)
    rows = baseline_rows(antenna1, antenna2)
    kernels.flag_outliers(vis, flags, rows.order, rows.start, 7.0, 2)
    assert np.argwhere(flags).tolist() == [[5, 20, 1]]


def test_empty_samples() -> None:
    vis = np.ones((2, 3, 2), np.complex64)
    vis[0, 0, 0], vis[0, 1, 0], vis[1, 2, 1], vis[1, 1, 1] = 0.0, np.nan, np.inf, complex(0.0, np.nan)
    flags = np.zeros(vis.shape, bool)
    flags[1, 0, 0] = True
    kernels.flag_empty(vis, flags)
    assert sorted(map(tuple, np.argwhere(flags).tolist())) == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1), (1, 2, 1)]
    np.testing.assert_array_equal(kernels.count_flags(flags), [[2, 0], [1, 2]])


def test_a_row_has_data_if_one_sample_is_left() -> None:
    flags = np.ones((4, 5, 2), bool)
    flags[1, 0, 0], flags[3, 4, 1] = False, False
    assert kernels.rows_with_data(flags).tolist() == [False, True, False, True]
