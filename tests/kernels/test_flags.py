"""Medians are medians, and reasons go where they should."""

import numpy as np
import pytest

from dsa110_contimg.kernels import flags as kernels
from dsa110_contimg.kernels import medians
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
        assert medians.median(single.copy(), size) == np.sort(single)[size // 2]


def test_selection_finds_any_rank() -> None:
    values = np.append(np.random.default_rng(9).normal(size=50), [0.0, -np.inf, np.inf, 0.0]).astype(np.float32)
    assert [medians.select(values, rank) for rank in range(54)] == np.sort(values).tolist()


@pytest.mark.parametrize("size", [0, 5, 8, 61])
def test_places_are_where_a_line_is_not_zero(size: int) -> None:
    line = (np.random.default_rng(size).integers(0, 9, size) * (np.arange(size) % 7 > 4)).astype(np.uint8)
    where = np.empty(size, np.int32)
    np.testing.assert_array_equal(where[: kernels.places(line, where)], np.flatnonzero(line))


@pytest.mark.parametrize("n_time", [1, 2, 3, 5, 8, 23, 24, 33])
def test_the_network_sorts_columns(n_time: int) -> None:
    table = np.random.default_rng(n_time).normal(size=(n_time, 40)).astype(np.float32)
    expected = np.sort(table, axis=0)
    medians.sort_columns(table)
    np.testing.assert_array_equal(table, expected)


def test_channel_medians_leave_flagged_samples_out() -> None:
    rng = np.random.default_rng(3)
    amp = rng.uniform(1.0, 2.0, (24, 30)).astype(np.float32)
    amp[rng.random(amp.shape) < 0.3] = -1.0
    amp[:, 7] = -1.0
    middle = medians.channel_medians(amp, np.empty_like(amp))
    for chan in range(30):
        good = np.sort(amp[:, chan][amp[:, chan] >= 0.0])
        assert middle[chan] == (good[good.size // 2] if good.size else -1.0)


def test_the_first_look() -> None:
    """Empty samples get the code, also over the one that gives way; what has a reason does not count."""
    rng = np.random.default_rng(6)
    vis = (rng.uniform(1.0, 2.0, (5, 7, 2)) * np.exp(2j * np.pi * rng.random((5, 7, 2)))).astype(np.complex64)
    vis[0, 0, 0], vis[0, 1, 0], vis[1, 2, 1], vis[1, 1, 1] = 0.0, np.nan, np.inf, complex(0.0, np.nan)
    reasons = np.zeros(vis.shape, np.uint8)
    reasons[4] = 1
    reasons[0, 0, 0], reasons[2, 3, 0] = 2, 2
    rows = baseline_rows(np.zeros(5, np.int32), np.ones(5, np.int32))
    middles, bad = kernels.first_look(vis, reasons, rows.order, rows.start, (3, 2))
    assert sorted(map(tuple, np.argwhere(reasons == 3).tolist())) == [(0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 2, 1)]
    np.testing.assert_array_equal(bad, [[10, 9]])
    amp = np.where(reasons == 0, np.abs(vis), np.nan)
    expected = np.array(
        [[np.sort(a[np.isfinite(a)])[np.isfinite(a).sum() // 2] for a in c.T] for c in amp.swapaxes(0, 1)]
    )
    expected /= np.sort(expected, axis=0)[3]
    np.testing.assert_allclose(middles[0], expected, rtol=1e-6)


def test_codes_of_rows_channels_and_flags_leave_earlier_reasons() -> None:
    reasons = np.zeros((3, 4, 2), np.uint8)
    reasons[0, 0, 0] = 1
    kernels.enter_rows(reasons, np.array([5, 0, 0], np.uint8))
    kernels.enter_channels(reasons, np.array([0, 0, 0, 6], np.uint8))
    flags = np.zeros(reasons.shape, bool)
    flags[2, 0] = True
    kernels.enter_flags(reasons, flags, 7)
    assert reasons[0].tolist() == [[1, 5], [5, 5], [5, 5], [5, 5]]
    assert reasons[1].tolist() == [[0, 0], [0, 0], [0, 0], [6, 6]]
    assert reasons[2].tolist() == [[7, 7], [0, 0], [0, 0], [6, 6]]
    kernels.set_flags(flags, reasons, 5)
    np.testing.assert_array_equal(flags, (reasons > 0) & (reasons <= 5))


def test_counts_add_up() -> None:
    rng = np.random.default_rng(8)
    reasons = rng.integers(0, 4, (30, 6, 2)).astype(np.uint8)
    moment = rng.integers(-1, 3, 30)
    by_row, by_moment = kernels.count_reasons(reasons, moment, 3, 4)
    for code in range(4):
        np.testing.assert_array_equal(by_row[moment >= 0, :, code], (reasons == code).sum(axis=1)[moment >= 0])
        for now in range(3):
            np.testing.assert_array_equal(by_moment[now, :, code], (reasons[moment == now] == code).sum(axis=(0, 2)))
    assert by_row[moment < 0].sum() == 0


def test_a_row_has_data_if_one_sample_is_left() -> None:
    flags = np.ones((4, 5, 2), bool)
    flags[1, 0, 0], flags[3, 4, 1] = False, False
    assert kernels.rows_with_data(flags).tolist() == [False, True, False, True]
