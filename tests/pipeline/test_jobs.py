"""What runs next, tested without running anything."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.options import CalibrationOptions, MosaicOptions
from dsa110_contimg.pipeline.jobs import (
    GroupState,
    Job,
    MosaicGroupState,
    MosaicState,
    Stage,
    State,
    TableState,
    TileState,
    next_jobs,
    plan_mosaic_groups,
)

CAL, MOS = CalibrationOptions(), MosaicOptions(tiles=3, overlap=0, min_tiles=2)
STEP = 309.24 / 86400.0


def tile(number: int, stage: str = "converted", **columns: object) -> TileState:
    base = TileState(f"/ms/{number:03d}.ms", f"g{number:03d}", stage, 60000.0 + number * STEP, 33.2)
    return replace(base, **columns)  # type: ignore[arg-type]


def bandpass(mid: float = 60000.0, dec: float = 33.2, half_days: float = 1.0) -> TableState:
    return TableState(mid - half_days, mid + half_days, dec)


def due(state: State) -> list[Job]:
    return next_jobs(state, CAL, MOS)


def test_a_pending_group_is_converted_once() -> None:
    group = GroupState("g000", "pending")
    assert due(State(groups=[group])) == [Job(Stage.CONVERT, "g000")]
    assert due(State(groups=[group], finished={"convert:g000": "failed"})) == []
    assert Job(Stage.CONVERT, "g000") not in due(State(groups=[group], tiles=[tile(0)]))


def test_a_tile_with_a_transit_is_solved_before_its_neighbours_are_calibrated() -> None:
    tiles = [tile(0), tile(1, calibrator="3C48"), tile(2)]
    assert due(State(tiles=tiles)) == [Job(Stage.SOLVE, "g001")]
    solved = State(tiles=tiles, tables=[bandpass()], finished={"solve:g001": "completed"})
    assert due(solved) == [Job(Stage.CALIBRATE, f"g00{n}") for n in range(3)]


def test_a_table_of_another_strip_or_day_is_never_used() -> None:
    for table in (bandpass(dec=16.1), bandpass(mid=60005.0)):
        assert due(State(tiles=[tile(0)], tables=[table])) == []


def test_a_nearer_transit_in_hand_is_waited_for() -> None:
    """Yesterday's bandpass is valid, but today's is forty seconds away (lesson 31)."""
    tiles = [tile(0), tile(1, calibrator="3C48")]
    assert due(State(tiles=tiles, tables=[bandpass(mid=59999.5)])) == [Job(Stage.SOLVE, "g001")]


def test_without_a_transit_a_group_waits_and_then_uses_the_catalogue() -> None:
    group = MosaicGroupState("mg_g000", "pending", tuple(tile(n).path for n in range(3)))
    tiles = [tile(n) for n in range(3)]
    early = State(tiles=tiles, mosaic_groups=[group], now_mjd=60000.5)
    assert due(early) == []
    assert due(replace(early, now_mjd=60001.5)) == [Job(Stage.SOLVE_CATALOGUE, "mg_g000")]
    assert due(replace(early, end_of_data=True)) == [Job(Stage.SOLVE_CATALOGUE, "mg_g000")]
    ended = replace(early, end_of_data=True, finished={"solve_catalogue:mg_g000": "failed"})
    assert due(ended) == [Job(Stage.CALIBRATE, f"g00{n}") for n in range(3)], "they fail by name, not in silence"


def test_a_mosaic_waits_for_its_tiles_but_not_for_lost_ones() -> None:
    group = MosaicGroupState("mg_g000", "pending", tuple(tile(n).path for n in range(3)))
    waiting = State(tiles=[tile(0, "imaged"), tile(1, "imaged"), tile(2, "calibrated")], mosaic_groups=[group])
    assert Job(Stage.MOSAIC, "mg_g000") not in due(waiting)
    assert Job(Stage.MOSAIC, "mg_g000") in due(replace(waiting, finished={"image:g002": "failed"}))
    too_few = replace(waiting, finished={"image:g002": "failed", "image:g001": "failed"})
    too_few = replace(too_few, tiles=[tile(0, "imaged"), tile(1, "calibrated"), tile(2, "calibrated")])
    assert Job(Stage.MOSAIC, "mg_g000") not in due(too_few)


@pytest.mark.parametrize("done", range(5))
def test_the_chain_behind_a_mosaic_runs_link_by_link(done: int) -> None:
    chain = [Stage.REGISTER, Stage.CHECK, Stage.PHOTOMETRY, Stage.PUBLISH]
    finished = {f"{stage}:m": "completed" for stage in chain[:done]}
    jobs = due(State(mosaics=[MosaicState("m")], finished=finished))
    expected = {Job(chain[done], "m")} if done < 4 else set()
    assert {job for job in jobs if job.stage is not Stage.VARIABILITY} == expected
    assert (Job(Stage.VARIABILITY, "m") in jobs) == (done >= 3)


def test_a_failed_check_stops_the_chain() -> None:
    finished = {"register:m": "completed", "check:m": "failed"}
    assert due(State(mosaics=[MosaicState("m")], finished=finished)) == []


def planned(tiles: list[TileState], options: MosaicOptions, *, end: bool = True) -> list[list[int]]:
    plans = plan_mosaic_groups(tiles, {}, options, end_of_data=end)
    return [[int(member.group_id[1:]) for member in plan] for plan in plans]


def test_groups_of_ten_share_two_tiles() -> None:
    ten = MosaicOptions()
    assert planned([tile(n) for n in range(18)], ten) == [list(range(10)), list(range(8, 18))]


def test_an_unfinished_run_waits_unless_the_data_end() -> None:
    ten = MosaicOptions()
    tiles = [tile(n) for n in range(14)]
    assert planned(tiles, ten, end=False) == [list(range(10))]
    assert planned(tiles, ten, end=True) == [list(range(10)), list(range(8, 14))]
    assert planned(tiles[:12], ten, end=True) == [list(range(10))], "two new tiles are too few for a short group"


def test_a_gap_or_another_declination_ends_a_group() -> None:
    three = MosaicOptions(tiles=3, overlap=0, min_tiles=3)
    gap = [tile(n) for n in (0, 1, 2, 5, 6, 7)]
    assert planned(gap, three) == [[0, 1, 2], [5, 6, 7]]
    slew = [tile(n, dec_deg=33.2 if n < 3 else 16.1) for n in range(6)]
    assert planned(slew, three) == [[0, 1, 2], [3, 4, 5]]


@given(st.sets(st.integers(0, 60), max_size=40), st.integers(2, 10), st.integers(0, 3), st.randoms())
def test_every_tile_is_new_in_at_most_one_group(numbers: set[int], size: int, overlap: int, random: object) -> None:
    options = MosaicOptions(tiles=size, overlap=min(overlap, size - 1), min_tiles=2)
    tiles = [tile(n) for n in sorted(numbers)]
    random.shuffle(tiles)  # type: ignore[attr-defined]
    grouped: dict[str, str] = {}
    for plan in plan_mosaic_groups(tiles, {}, options, end_of_data=True):
        fresh = [member for member in plan if member.path not in grouped]
        assert fresh, "a group without a new tile"
        assert len(plan) <= options.tiles
        times = [member.mid_mjd for member in plan]
        assert times == sorted(times)
        for member in fresh:
            grouped[member.path] = plan[0].group_id
    assert plan_mosaic_groups(tiles, grouped, options, end_of_data=True) == [], "planning again finds nothing new"


def test_a_mosaic_is_checked_when_its_tiles_are_measured() -> None:
    """The check compares the tiles' fluxes: it must not depend on which of them a worker has come to."""
    group = MosaicGroupState("mg", "completed", (tile(0).path, tile(1).path))
    finished = {"register:m": "completed", "measure:g001": "failed"}
    tiles = [tile(0, "imaged"), tile(1, "imaged")]
    waiting = State(tiles=tiles, mosaic_groups=[group], mosaics=[MosaicState("m", "staging", "mg")], finished=finished)
    assert Job(Stage.CHECK, "m") not in due(waiting)
    measured = replace(waiting, tiles=[tile(0, "photometry_complete"), tile(1, "imaged")])
    assert Job(Stage.CHECK, "m") in due(measured), "a tile that cannot be measured is not waited for"


def test_a_group_that_waits_again_is_coadded_again() -> None:
    group = MosaicGroupState("mg", "pending", (tile(0).path, tile(1).path))
    tiles = [tile(0, "photometry_complete"), tile(1, "photometry_complete")]
    remade = State(tiles=tiles, mosaic_groups=[group], mosaics=[MosaicState("m", "published", "mg")])
    assert Job(Stage.MOSAIC, "mg") in due(remade)
    assert Job(Stage.MOSAIC, "mg") not in due(replace(remade, mosaic_groups=[replace(group, status="completed")]))


def test_nothing_is_done_to_a_retracted_mosaic() -> None:
    assert due(State(mosaics=[MosaicState("m", "retracted")])) == []
