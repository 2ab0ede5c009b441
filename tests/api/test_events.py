"""What changes, as it is told: by a real server, while rows are written; bounded, and over when the client goes."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import HTTPException
from tests.api.night import Night
from tests.api.serving import serving

from dsa110_contimg.api import events
from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.database import get_session, ingest_queue, reset_engines
from dsa110_contimg.database.session import database_path

WAIT_S = 30.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks and heartbeats of a test are closer together."""
    monkeypatch.setattr(events, "LOOK_S", 0.05)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)


@contextmanager
def listening(address: str) -> Iterator[Iterator[str]]:
    """Open the stream and yield its lines."""
    with httpx.Client(timeout=WAIT_S) as client, client.stream("GET", f"{address}/api/v1/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer.iter_lines()


def next_event(lines: Iterator[str], name: str) -> dict[str, Any]:
    """Return the data of the next event of a name; heartbeats come in between."""
    ends = time.monotonic() + WAIT_S
    for line in lines:
        assert time.monotonic() < ends, f"no {name} came"
        if line == f"event: {name}":
            told = json.loads(next(lines).removeprefix("data: "))
            assert isinstance(told, dict)
            return told
    raise AssertionError(f"the stream ended before a {name}")


def heartbeat(lines: Iterator[str]) -> None:
    """Wait for a heartbeat: by then the first look has been taken."""
    for line in lines:
        if line == ":":
            return


@pytest.mark.usefixtures("quick")
def test_a_change_is_told_by_its_topic_and_a_missing_database_too(night: Night) -> None:
    with serving(create_app()) as address, listening(address) as lines:
        heartbeat(lines)
        time.sleep(0.3)
        with get_session("ingest") as session:
            assert ingest_queue.reopen_group(session, night.refused)
        assert next_event(lines, "change")["topics"] == ["queue"]
        database_path("cal_registry").rename(database_path("cal_registry").with_suffix(".away"))
        assert next_event(lines, "trouble")["databases"] == ["cal_registry"]


@pytest.mark.usefixtures("quick", "night")
def test_a_stream_ends_by_itself_and_nobody_looks_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.5)
    with serving(create_app()) as address, listening(address) as lines:
        assert next(lines) == "retry: 5000"
        rest = list(lines)
        assert ":" in rest, "heartbeats"


@pytest.mark.usefixtures("quick", "night")
def test_who_goes_is_forgotten_and_the_task_ends_with_the_last() -> None:
    async def visit() -> None:
        watcher = events.Watcher()
        first, second = watcher.join(), watcher.join()
        await asyncio.sleep(0.1)
        watcher.leave(first)
        looking = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert len(looking) == 1
        watcher.leave(second)
        await asyncio.gather(*looking, return_exceptions=True)
        assert looking[0].cancelled()
        assert not watcher.listeners

    asyncio.run(visit())
    reset_engines()


def test_too_many_listeners_are_told_so() -> None:
    watcher = events.Watcher()
    watcher.listeners = {events.Listener() for _ in range(events.MAX_LISTENERS)}
    with pytest.raises(HTTPException) as refused:
        watcher.check_room()
    assert refused.value.status_code == 503
    assert refused.value.headers == {"Retry-After": "30"}


def test_a_slow_listener_holds_each_topic_once() -> None:
    async def tell() -> list[str]:
        listener = events.Listener()
        for _ in range(1000):
            listener.tell({"queue", "jobs"}, set())
        return listener.take()

    (event,) = asyncio.run(tell())
    assert json.loads(event.split("data: ")[1])["topics"] == ["jobs", "queue"]


def test_every_database_that_pages_show_has_marks(night: Night) -> None:
    marks, troubles = events.read_marks()
    assert troubles == set()
    assert set(marks) == {
        "queue", "jobs", "tiles", "mosaics", "candidates", "alerts", "calibration", "publishing", "files",
    }  # fmt: skip
    with get_session("ingest") as session:
        ingest_queue.record_subband(
            session, group_id=night.collecting, subband_idx=3, path="/in/more.hdf5", file_size=1, now=time.time()
        )
    assert events.read_marks()[0]["queue"] != marks["queue"], "another subband of a group is a change"
