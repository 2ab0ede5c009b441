"""A group's way through the stages: what rows say of it, and what holds for any rows."""

from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.database.queue_queries import GroupRow, JobRow
from dsa110_contimg.database.tile_queries import TileRow
from dsa110_contimg.monitoring.group_way import TILE_STAGES, Step, StepState, way_of

NAME = "2025-12-24T03:18:05"
STAGES = ("convert", "solve", "calibrate", "image", "measure")


def group(state: str = "completed", subbands: int = 16, error: str | None = None) -> GroupRow:
    return GroupRow(NAME, state, subbands, 16, 1.0, 2.0, 0, [], error)


def tile(stage: str | None, calibrator: str | None = None) -> TileRow:
    return TileRow(NAME, stage, "ok", 1.0, 1.5, 2.0, 3.0, "f", 0.0, 0.0, calibrator, False, [], None, None)


def job(stage: str, state: str, error: str | None = None, attempts: int = 1) -> JobRow:
    return JobRow(f"{stage}:{NAME}", stage, NAME, state, attempts, 0, None, 1.0, 5.0, None, None, error, "tail")


def states(steps: list[Step]) -> dict[str, str]:
    return {step.name: step.state.value for step in steps}


def test_a_group_on_its_way_in() -> None:
    steps = way_of(group("collecting", 3), None, [])
    assert states(steps) == {
        "arrive": "waiting", "convert": "ahead", "calibrate": "ahead", "image": "ahead", "measure": "ahead",
        "mosaic": "ahead",
    }  # fmt: skip
    assert steps[0].note == "3 of 16 subbands are here"


def test_a_group_that_cannot_be_converted_says_what_the_queue_says() -> None:
    steps = way_of(group("failed", 14, "lacks subbands"), None, [job("convert", "failed", "other words", 2)])
    assert states(steps)["convert"] == "failed"
    assert (steps[1].note, steps[1].attempts) == ("lacks subbands", 2)


def test_a_tile_with_a_transit_is_solved_on_and_goes_on_without_it() -> None:
    jobs = [job("convert", "completed"), job("solve", "failed", "no fringes"), job("calibrate", "running")]
    told = states(way_of(group(), tile("converted", "3C48"), jobs))
    assert list(told)[:4] == ["arrive", "convert", "solve", "calibrate"]
    assert (told["solve"], told["calibrate"], told["image"]) == ("failed", "running", "ahead")
    assert "solve" not in states(way_of(group(), tile("converted"), []))


def test_what_is_opened_again_is_not_done_though_its_old_job_is() -> None:
    jobs = [job(stage, "completed") for stage in ("convert", "calibrate", "image", "measure")]
    told = states(way_of(group(), tile("converted"), jobs))
    assert (told["convert"], told["calibrate"]) == ("done", "next")


def test_a_tile_of_an_older_installation_has_no_arrival() -> None:
    assert states(way_of(None, tile("photometry_complete"), []))["measure"] == "done"
    assert "arrive" not in states(way_of(None, tile("imaged"), []))


def test_the_mosaic_is_done_when_its_job_is() -> None:
    done = [job("mosaic", "completed")]
    assert states(way_of(group(), tile("photometry_complete"), [], done))["mosaic"] == "done"
    assert states(way_of(group(), tile("photometry_complete"), [], [job("mosaic", "waiting")]))["mosaic"] == "waiting"
    assert states(way_of(group(), tile("photometry_complete"), []))["mosaic"] == "next"


JOBS = st.lists(
    st.tuples(st.sampled_from(STAGES), st.sampled_from(["pending", "running", "completed", "failed", "waiting"])),
    unique_by=lambda one: one[0],
)
TILES = st.none() | st.builds(tile, st.none() | st.sampled_from([*TILE_STAGES, "failed"]), st.none() | st.just("3C48"))
GROUPS = st.none() | st.builds(
    group, st.sampled_from(["collecting", "pending", "in_progress", "completed", "failed"]), st.integers(0, 16)
)


@given(GROUPS, TILES, JOBS)
def test_any_rows_give_one_way(a_group: GroupRow | None, a_tile: TileRow | None, jobs: list[tuple[str, str]]) -> None:
    rows = [job(stage, state) for stage, state in jobs]
    steps = way_of(a_group, a_tile, rows)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert names[-1] == "mosaic"
    told = states(steps)
    reached = TILE_STAGES.index(a_tile.stage) if a_tile and a_tile.stage in TILE_STAGES else -1
    done = [told[name] == "done" for name in ("convert", "calibrate", "image", "measure")]
    assert done == [place <= reached for place in range(4)]
    for row in rows:
        if row.state == "failed" and row.stage in told and told[row.stage] != "done":
            assert told[row.stage] == "failed", "a failure is never hidden"
    open_steps = [step for step in steps if step.state is StepState.NEXT]
    first_undone = next((step for step in steps if step.state is not StepState.DONE and step.name != "solve"), None)
    for step in open_steps:
        assert step.job_id is not None or step is first_undone or step.name == "solve"
