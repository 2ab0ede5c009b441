"""A group's way through the stages: what is done, what is being done, where it stands still and why.

    arrive ── convert ── solve (only where a calibrator transits) ── calibrate ── image ── measure ── mosaic

A pure function of rows. A stage whose result is there is done, whatever its job says: a completed job of a tile that
was opened again is old news.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dsa110_contimg.database.models import JobState, QueueState
from dsa110_contimg.database.queue_queries import GroupRow, JobRow
from dsa110_contimg.database.tile_queries import TileRow

TILE_STAGES = ("converted", "calibrated", "imaged", "photometry_complete")
LABELS = {
    "arrive": "Files arrive",
    "convert": "Convert to a Measurement Set",
    "solve": "Solve on the calibrator",
    "calibrate": "Calibrate",
    "image": "Image",
    "measure": "Measure sources",
    "mosaic": "Mosaic",
}
_RESULTS = {"convert": "converted", "calibrate": "calibrated", "image": "imaged", "measure": "photometry_complete"}


class StepState(StrEnum):
    """How far one stage is."""

    DONE = "done"
    """Its result is there."""
    RUNNING = "running"
    """Somebody works on it."""
    NEXT = "next"
    """It is its turn; nothing keeps it but room."""
    WAITING = "waiting"
    """It waits for something; the note says what."""
    FAILED = "failed"
    """It failed for good; the note says why."""
    AHEAD = "ahead"
    """Stages before it are not done."""


@dataclass(frozen=True)
class Step:
    """One stage of a group's way."""

    name: str
    label: str
    state: StepState
    when_unix: float | None = None
    """When it came to this state, where that is known."""
    attempts: int = 0
    note: str | None = None
    log_tail: str | None = None
    job_id: str | None = None


def way_of(
    group: GroupRow | None, tile: TileRow | None, jobs: Sequence[JobRow], mosaic_jobs: Sequence[JobRow] = ()
) -> list[Step]:
    """Return the stages of a group in order.

    Parameters
    ----------
    group, tile
        What `ingest` and `products` know of it; None if nothing.
    jobs
        The jobs whose subject it is.
    mosaic_jobs
        The jobs of the mosaic groups that hold its tile.
    """
    by_stage = {job.stage: job for job in jobs}
    steps = list(_tile_steps(group, tile, by_stage))
    mosaic = next((job for job in mosaic_jobs if job.stage == "mosaic"), None)
    steps.append(_step("mosaic", mosaic, done=mosaic is not None and mosaic.state == JobState.COMPLETED.value))
    return list(_in_order(steps))


def _tile_steps(group: GroupRow | None, tile: TileRow | None, by_stage: dict[str, JobRow]) -> Iterator[Step]:
    if group is not None:
        yield _arrival(group)
    stage = None if tile is None else tile.stage
    reached = TILE_STAGES.index(stage) + 1 if stage in TILE_STAGES else 0
    for name, result in _RESULTS.items():
        if name == "calibrate" and (solve := _solve(tile, by_stage)) is not None:
            yield solve
        step = _step(name, by_stage.get(name), done=reached > TILE_STAGES.index(result))
        if name == "convert" and group is not None and step.state is not StepState.DONE:
            step = _conversion(group, step)
        yield step


def _arrival(group: GroupRow) -> Step:
    here = f"{group.subbands} of {group.expected_subbands} subbands are here"
    complete = group.subbands >= group.expected_subbands
    state = StepState.WAITING if group.state == QueueState.COLLECTING.value else StepState.DONE
    note = None if complete else here
    return Step(
        "arrive", LABELS["arrive"], state, group.updated_unix if state is StepState.WAITING else None, note=note
    )


def _solve(tile: TileRow | None, by_stage: dict[str, JobRow]) -> Step | None:
    job = by_stage.get("solve")
    if job is None and (tile is None or tile.calibrator is None):
        return None
    return _step("solve", job, done=job is not None and job.state == JobState.COMPLETED.value)


def _conversion(group: GroupRow, step: Step) -> Step:
    """The queue knows more than the job of a conversion that has not begun, or that was refused."""
    if group.state == QueueState.FAILED.value:
        return Step(
            step.name,
            step.label,
            StepState.FAILED,
            group.updated_unix,
            max(step.attempts, group.retries),
            group.error or step.note or "no reason was recorded",
            step.log_tail,
            step.job_id,
        )
    return step


_STATES = {
    JobState.PENDING.value: StepState.NEXT,
    JobState.RUNNING.value: StepState.RUNNING,
    JobState.COMPLETED.value: StepState.NEXT,
    JobState.FAILED.value: StepState.FAILED,
    JobState.WAITING.value: StepState.WAITING,
}


def _step(name: str, job: JobRow | None, *, done: bool) -> Step:
    if job is None:
        return Step(name, LABELS[name], StepState.DONE if done else StepState.NEXT)
    state = StepState.DONE if done else _STATES[job.state]
    return Step(
        name,
        LABELS[name],
        state,
        job.updated_unix,
        job.attempts,
        None if state is StepState.DONE else job.error,
        None if state is StepState.DONE else job.log_tail,
        job.job_id,
    )


def _in_order(steps: Sequence[Step]) -> Iterator[Step]:
    """What lies behind a stage that is not done is ahead, unless something has happened in it already."""
    blocked = False
    for step in steps:
        if blocked and step.state is StepState.NEXT and step.job_id is None:
            yield Step(step.name, step.label, StepState.AHEAD)
            continue
        yield step
        # A tile may be calibrated with another transit's tables, whatever becomes of its own solve.
        blocked = blocked or (step.state is not StepState.DONE and step.name != "solve")
