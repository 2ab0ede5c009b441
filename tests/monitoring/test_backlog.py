"""Whether the pipeline keeps up, what failed last, and what to do about each."""

from pathlib import Path

import pytest
from sqlalchemy import update
from tests.monitoring.conftest import NOW, Truth

import dsa110_contimg
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import IngestQueue, Job
from dsa110_contimg.errors import IncompleteGroupError
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.backlog import Failure, backlog, last_failures
from dsa110_contimg.monitoring.census import Arrivals, Progress
from dsa110_contimg.monitoring.remedies import BY_KIND, REMEDIES, FailureKind, remedy

QUEUE = {"pending": 20, "in_progress": 1, "completed": 500, "collecting": 3, "failed": 2}
TILES = {"converted": 5, "imaged": 4, "photometry_complete": 400}


@pytest.mark.parametrize(
    ("hour_in", "hour_out", "day_in", "day_out", "hours", "reason"),
    [
        (0, 14, 0, 100, 2.0, None),
        (12, 26, 0, 100, 2.0, None),
        (12, 12, 0, 100, None, "12.0 against 12.0 an hour (last hour)"),
        (0, 0, 24, 24 * 8, 4.0, None),
        (0, 0, 240, 24, None, "10.0 against 1.0 an hour (last day)"),
        (3, 0, 24, 0, None, "no tile was finished in the last day"),
    ],
)
def test_the_time_to_clear_is_that_of_the_rates(
    hour_in: int, hour_out: int, day_in: int, day_out: int, hours: float | None, reason: str | None
) -> None:
    arrived = Arrivals(groups=QUEUE, hour=hour_in, day=day_in, oldest_received_at=NOW - 4000.0)
    done = Progress(tiles=TILES, lost=2, hour=hour_out, day=day_out, newest_unix=NOW - 900.0)
    view = backlog(arrived, done, NOW)
    assert view.waiting == 20 + 1 + 5 + 4 - 2
    assert view.oldest_wait_s == 4000.0
    assert view.behind_sky_s == 900.0
    assert view.clear_s == (None if hours is None else pytest.approx(hours * 3600.0))
    assert (view.clear_reason or "").endswith(reason or "")
    assert (view.clear_s is None) == (view.clear_reason is not None)


def test_nothing_waits_and_nothing_is_known() -> None:
    view = backlog(Arrivals(), Progress(), NOW)
    assert (view.waiting, view.clear_s, view.clear_reason) == (0, 0.0, None)
    assert view.oldest_wait_s is None
    assert view.behind_sky_s is None


def test_a_clock_that_stepped_back_makes_no_negative_time() -> None:
    view = backlog(Arrivals(groups=QUEUE, oldest_received_at=NOW + 50.0), Progress(newest_unix=NOW + 9.0), NOW)
    assert (view.oldest_wait_s, view.behind_sky_s) == (0.0, 0.0)


def test_tiles_that_failed_for_good_are_not_waited_for(filled: Truth) -> None:
    with get_session("products") as session:
        session.add(Job(job_id="image:1", stage="image", subject="1", state="failed", created_at=NOW, updated_at=NOW))
        session.add(
            Job(job_id="measure:1", stage="measure", subject="1", state="failed", created_at=NOW, updated_at=NOW)
        )
    with get_session("products", read_only=True) as session:
        progress = census.progress(session, NOW)
    assert progress.lost == 1
    assert progress.unfinished == sum(filled.tiles[stage] for stage in census.UNFINISHED) - 1


def failures(limit: int = 10) -> list[Failure]:
    with (
        get_session("ingest", read_only=True) as ingest,
        get_session("products", read_only=True) as products,
        get_session("data_registry", read_only=True) as registry,
    ):
        return last_failures(ingest, products, registry, limit=limit)


@pytest.mark.usefixtures("filled")
def test_the_last_failures_are_the_newest_of_all_kinds_each_with_a_way_out() -> None:
    with get_session("ingest") as session:
        session.execute(
            update(IngestQueue)
            .where(IngestQueue.group_id == "group_000007")
            .values(
                state="failed", error_message=str(IncompleteGroupError("group_000007", [1, 2], 12)), last_update=NOW
            )
        )
    found = failures()
    assert len(found) == 10
    assert (found[0].kind, found[0].name) == (FailureKind.GROUP, "group_000007")
    assert found[0].remedy.startswith("bring the missing files")
    times = [failure.failed_at or 0.0 for failure in found]
    assert times == sorted(times, reverse=True)
    every = failures(limit=10_000)
    assert {failure.kind for failure in every} == set(FailureKind)
    assert all(failure.error and failure.remedy for failure in every)


def test_a_way_out_is_found_by_a_phrase_else_by_kind() -> None:
    for kind in FailureKind:
        assert remedy(kind, "something that nobody has seen") == BY_KIND[kind]
        assert "room" in remedy(kind, "[Errno 28] No space left on device")


def test_every_phrase_is_one_that_the_program_says() -> None:
    """A sentence that is worded anew must not lose its way out."""
    package = Path(dsa110_contimg.__file__).parent
    own = {"remedies.py"}
    told = " ".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.name not in own)
    of_the_system = {"No space left", "Permission denied"}
    assert [phrase for phrase, _way in REMEDIES if phrase not in told and phrase not in of_the_system] == []
