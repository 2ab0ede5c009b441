"""A clock that is set: nothing that waits by it is rushed, given up, or stuck for as long as it was set back."""

import os
import time
from pathlib import Path

import pytest

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.leases import Failure, FailureKind
from dsa110_contimg.formats.scratch import remove_abandoned, scratch_path
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline.clock import Clock
from dsa110_contimg.pipeline.ingest import offer_groups
from dsa110_contimg.pipeline.state import held_jobs

HOUR_S = 3600.0


@pytest.mark.parametrize("step_s", [-HOUR_S, -10.0, 10.0, HOUR_S])
def test_a_step_is_noticed_once_and_forgotten_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step_s: float
) -> None:
    clock, now, running = Clock(), time.time, time.monotonic
    clock.look()
    assert clock.is_steady(1e9)
    monkeypatch.setattr(time, "time", lambda: now() + step_s)
    clock.look()
    clock.look()
    assert caplog.text.count(f"the clock was set by {step_s:+.0f} s") == 1
    assert not clock.is_steady(60.0)
    monkeypatch.setattr(time, "monotonic", lambda: running() + 61.0)
    monkeypatch.setattr(time, "time", lambda: now() + step_s + 61.0)
    clock.look()
    assert clock.is_steady(60.0)


def test_a_slow_change_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = Clock(), time.time
    for steered in range(10):
        monkeypatch.setattr(time, "time", lambda late=steered: now() + 0.5 * late)
        clock.look()
    assert clock.is_steady(1e9)


def test_after_a_step_only_whole_groups_are_offered(house: Settings) -> None:
    now = time.time()
    with get_session("ingest") as session:
        for group, number in (("2026-01-25T00:00:10", 16), ("2026-01-25T00:05:20", 13)):
            for subband in range(number):
                path = f"{house.incoming}/{group}_sb{subband:02d}.hdf5"
                ingest_queue.record_subband(
                    session, group_id=group, subband_idx=subband, path=path, file_size=1, now=now
                )
    after = now + HOUR_S
    assert offer_groups(ConversionOptions(), after, only_whole=True) == ["2026-01-25T00:00:10"]
    assert offer_groups(ConversionOptions(), after) == ["2026-01-25T00:05:20"]


@pytest.mark.parametrize("back_s", [120.0, HOUR_S, 3.0 * HOUR_S])
def test_a_pause_and_a_lease_from_before_a_step_back_hold_nothing_up(house: Settings, back_s: float) -> None:
    before, now = time.time() + back_s, time.time()
    with get_session("products") as session:
        leases.start_jobs(session, [("convert", "retried"), ("convert", "left")], "elsewhere:1:1", 20.0, before)
        failure = Failure(FailureKind.ERROR, not_before=before + 10.0)
        leases.fail_job(session, "convert:retried", 1, failure, error="x", log_tail=None, now=before)
    assert held_jobs(now) == set()
    with get_session("products") as session:
        leases.start_jobs(session, [("convert", "fresh")], "elsewhere:1:1", 20.0, now + 5.0)
    assert held_jobs(now) == {"convert:fresh"}, "clocks of machines differ a little"
    assert house.state.is_dir()


def test_scratch_of_a_living_writer_stays_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, now = scratch_path(tmp_path / "a.ms"), time.time
    mine.mkdir()
    another = mine.with_name(mine.name.replace(f".{os.getpid()}-", f".{os.getpid()}-9"))
    another.mkdir()
    monkeypatch.setattr(time, "time", lambda: now() + 24.0 * HOUR_S)
    assert remove_abandoned([tmp_path]) == [another], "its id was given to this process since"
    assert mine.is_dir()
