"""How fast the pipeline is: seconds of each step, and tiles against the turning sky.

A tile holds 309 s of sky. A rate of n tiles in an hour is n x 309 / 3600 times the sky's: above one the pipeline keeps
up. What it could do is told by its work on a tile: 309 s times the jobs that run at once, over the seconds that all of
the jobs of a tile take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.census import DAY_S, HOUR_S, Progress
from dsa110_contimg.telescope import TILE_SECONDS


@dataclass(frozen=True)
class StepTime:
    """The seconds that one step took, of the groups recorded last."""

    step: str
    groups: int
    p50_s: float
    p95_s: float
    longest_s: float


@dataclass(frozen=True)
class Throughput:
    """Times faster than the sky; below one it falls behind while the telescope observes."""

    last_hour: float
    last_day: float
    possible: float | None
    """With the jobs that run at once now, if nothing had to wait; None while nothing runs or nothing was timed."""


def step_times(ingest: Session) -> list[StepTime]:
    """Return the seconds of each step that was timed."""
    return [
        StepTime(step, len(values), median(values), percentile(values, 95), values[-1])
        for step, values in census.step_seconds(ingest).items()
    ]


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the value below which so many percent of ordered values lie (nearest rank)."""
    return ordered[min(percent * len(ordered) // 100, len(ordered) - 1)]


def throughput(progress: Progress, steps: Sequence[StepTime], slots: int) -> Throughput:
    """Return how fast it is and could be: a pure function of counts."""
    total = next((step.p50_s for step in steps if step.step == "total"), None)
    return Throughput(
        last_hour=progress.hour * TILE_SECONDS / HOUR_S,
        last_day=progress.day * TILE_SECONDS / DAY_S,
        possible=slots * TILE_SECONDS / total if total and slots else None,
    )
