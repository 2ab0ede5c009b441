"""Which of the due jobs start, and what follows from a failure: decided without running anything."""

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.database.leases import Failure, FailureKind
from dsa110_contimg.options import CalibrationOptions, MosaicOptions, ScheduleOptions
from dsa110_contimg.pipeline.attempt import LONGEST_PAUSE_S, judge
from dsa110_contimg.pipeline.jobs import Job, MosaicGroupState, Stage, State, TableState, TileState, next_jobs
from dsa110_contimg.pipeline.schedule import Start, choose

JOBS = [Job(Stage.IMAGE, f"g{number}") for number in range(4)]
OPTIONS = ScheduleOptions(retry_s=10.0, max_failures=3, max_deaths=3)


def fits(_job: Job, _beside: Collection[Job]) -> None:
    return None


def test_as_many_jobs_start_as_there_are_slots() -> None:
    assert choose(JOBS, [], 3, (), fits) == Start(JOBS[:3])
    assert choose(JOBS[1:], JOBS[:1], 3, (), fits) == Start(JOBS[1:3])
    assert choose(JOBS[1:], JOBS[:1], 1, (), fits) == Start([])


def test_none_overtakes_a_job_that_waits_for_room() -> None:
    def admit(job: Job, beside: Collection[Job]) -> str | None:
        return "no memory" if job == JOBS[1] and beside else None

    assert choose(JOBS, [], 4, (), admit) == Start([JOBS[0]], "no memory")
    assert choose(JOBS[1:], [], 4, (), admit).jobs == JOBS[1:]


@given(
    n_running=st.integers(0, 2), killers=st.sets(st.sampled_from([job.job_id for job in JOBS])), slots=st.integers(1, 4)
)
def test_a_job_in_which_a_worker_died_is_always_alone(n_running: int, killers: set[str], slots: int) -> None:
    running, due = JOBS[:n_running], JOBS[n_running:]
    start = choose(due, running, slots, killers, fits)
    together = [*running, *start.jobs]
    if start.jobs:
        assert len(together) == 1 or not any(job.job_id in killers for job in together)
    assert start.jobs or running, "something always runs"
    assert start.jobs == due[: len(start.jobs)]


def test_an_error_of_ours_is_tried_again_later_and_later_and_then_no_more() -> None:
    first, second = (judge(FailureKind.ERROR, before, None, OPTIONS, 100.0) for before in (0, 1))
    assert (first, second) == (
        Failure(FailureKind.ERROR, not_before=110.0),
        Failure(FailureKind.ERROR, not_before=120.0),
    )
    assert judge(FailureKind.ERROR, 2, None, OPTIONS, 100.0) == Failure(FailureKind.ERROR, for_good=True)
    patient = ScheduleOptions(retry_s=10.0, max_failures=99)
    assert judge(FailureKind.ERROR, 50, None, patient, 0.0).not_before == LONGEST_PAUSE_S


def test_only_deaths_alone_count_and_never_as_errors() -> None:
    assert judge(FailureKind.DEATH, 2, None, OPTIONS, 100.0) == Failure(FailureKind.DEATH), "it may be the victim"
    assert judge(FailureKind.DEATH, 2, 1, OPTIONS, 100.0).not_before == 120.0
    assert judge(FailureKind.DEATH, 0, 2, OPTIONS, 100.0).for_good


@pytest.mark.parametrize("failures", [0, 99])
def test_what_is_not_the_jobs_fault_never_fails_it(failures: int) -> None:
    told = judge(FailureKind.OUTSIDE, failures, failures, OPTIONS, 100.0)
    assert (told.for_good, told.not_before) == (False, 110.0)
    assert judge(None, failures, None, OPTIONS, 0.0).for_good


def tile(name: str, stage: str, mid: float) -> TileState:
    return TileState(f"/ms/{name}.ms", name, stage, mid, 33.0)


@pytest.mark.parametrize("newest_first", [False, True])
def test_tiles_run_by_time_and_before_mosaics(newest_first: bool) -> None:
    tiles = [tile("2025-01-01T00:00:00", "imaged", 1.0), tile("2025-01-01T00:05:09", "calibrated", 1.1)]
    done = [tile(f"2024-12-31T0{number}:00:00", "photometry_complete", 0.5) for number in range(3)]
    group = MosaicGroupState("mg_2024-12-31T00:00:00", "pending", tuple(old.path for old in done))
    state = State(tiles=[*tiles, *done], mosaic_groups=[group], tables=[TableState(0.0, 2.0, 33.0)])
    jobs = next_jobs(state, CalibrationOptions(), MosaicOptions(), newest_first=newest_first)
    by_time = [Job(Stage.MEASURE, tiles[0].group_id), Job(Stage.IMAGE, tiles[1].group_id)]
    assert jobs == [*(reversed(by_time) if newest_first else by_time), Job(Stage.MOSAIC, group.group_id)]
