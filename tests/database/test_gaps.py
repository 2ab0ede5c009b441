"""Gaps between groups: what is a gap, where it begins and ends, for any times of arrival."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.database.inventory_queries import DAY_S, GAP_S, gaps_between
from dsa110_contimg.telescope import TILE_SECONDS


def test_a_gap_lies_between_the_end_of_one_group_and_the_begin_of_the_next() -> None:
    hour = 1.0 / 24.0
    groups = [("a", 61000.0), ("b", 61000.0 + TILE_SECONDS / DAY_S), ("c", 61000.0 + 3 * hour)]
    (gap,) = gaps_between(groups)
    assert (gap.after_group, gap.before_group) == ("b", "c")
    assert abs(gap.start_mjd - (61000.0 + 2 * TILE_SECONDS / DAY_S)) < 1e-9
    assert abs(gap.hours - (3.0 - 2 * TILE_SECONDS / 3600.0)) < 1e-6


@given(st.lists(st.floats(0.0, 30.0), max_size=30))
def test_every_long_step_is_a_gap_and_no_other(offsets: list[float]) -> None:
    groups = [(str(number), 61000.0 + one) for number, one in enumerate(sorted(offsets))]
    gaps = gaps_between(groups)
    steps = [(a, b) for (a, x), (b, y) in pairwise(groups) if (y - x) * DAY_S > GAP_S]
    assert [(gap.after_group, gap.before_group) for gap in gaps] == steps
    assert all(gap.hours > 0.0 and gap.start_mjd < gap.end_mjd for gap in gaps)


def test_groups_that_begin_more_than_six_minutes_apart_have_a_gap_between_them() -> None:
    for apart_s, number in ((310.0, 0), (359.0, 0), (361.0, 1), (700.0, 1)):
        assert len(gaps_between([("a", 61000.0), ("b", 61000.0 + apart_s / 86400.0)])) == number
