"""What changes, as server-sent events: a page that is open need not ask, and asks only for what is new.

    event: change      data: {"topics": ["queue", "jobs"], "time_unix": ...}     rows of these topics changed
    event: trouble     data: {"databases": ["products"], "time_unix": ...}       these cannot be read now
    :                                                                            nothing happened for 15 s

One task of each process looks every two seconds, as long as anybody listens, however many do. Topics that a slow
listener has not taken yet are merged, so that nothing grows. A stream ends after ten minutes, and the browser asks
again by itself; more than `MAX_LISTENERS` are answered 503.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from dsa110_contimg.database import flow_queries
from dsa110_contimg.database.flow_queries import Marks
from dsa110_contimg.database.session import get_session
from dsa110_contimg.errors import ConfigurationError

router = APIRouter(prefix="/events", tags=["events"])
MAX_LISTENERS = 64
LOOK_S, HEARTBEAT_S, LONGEST_S = 2.0, 15.0, 600.0
READERS: dict[str, Callable[[Session], Marks]] = {
    "ingest": flow_queries.ingest_marks,
    "products": flow_queries.products_marks,
    "cal_registry": flow_queries.cal_registry_marks,
    "data_registry": flow_queries.data_registry_marks,
    "hdf5": flow_queries.hdf5_marks,
}


class Listener:
    """What one client has not been told yet."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.troubles: set[str] = set()
        self.woken = asyncio.Event()

    def tell(self, topics: set[str], troubles: set[str]) -> None:
        """Add to what is to be told."""
        self.topics |= topics
        self.troubles |= troubles
        self.woken.set()

    def take(self) -> list[str]:
        """Return the events that are to be sent, and forget them."""
        told = (("change", "topics", self.topics), ("trouble", "databases", self.troubles))
        events = [
            f"event: {name}\ndata: {json.dumps({key: sorted(what), 'time_unix': time.time()})}\n\n"
            for name, key, what in told
            if what
        ]
        self.topics, self.troubles = set(), set()
        self.woken.clear()
        return events


class Watcher:
    """Looks at the databases while anybody listens."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    def check_room(self) -> None:
        """Raise HTTPException 503 if there are too many listeners."""
        if len(self.listeners) >= MAX_LISTENERS:
            sentence = f"{MAX_LISTENERS} pages listen already: close some, or load this one again by hand"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, sentence, {"Retry-After": "30"})

    def join(self) -> Listener:
        """Return a new listener."""
        listener = Listener()
        self.listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener; nobody looks any more when the last one has gone."""
        self.listeners.discard(listener)
        if not self.listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look(self) -> None:
        known, troubles = await run_in_threadpool(read_marks)
        while True:
            await asyncio.sleep(LOOK_S)
            now, trouble_now = await run_in_threadpool(read_marks)
            changed = {topic for topic, marks in now.items() if known.get(topic) != marks}
            fresh = trouble_now - troubles
            known, troubles = known | now, trouble_now
            if changed or fresh:
                for listener in self.listeners:
                    listener.tell(changed, fresh)


def read_marks() -> tuple[Marks, set[str]]:
    """Return the marks of all databases that can be read, and the names of the others."""
    marks: Marks = {}
    troubles = set()
    for name, read in READERS.items():
        try:
            with get_session(name, read_only=True) as session:
                marks |= read(session)
        except ConfigurationError:
            troubles.add(name)
    return marks, troubles


@router.get("", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def listen(request: Request) -> StreamingResponse:
    """Tell what changes until the client goes, at most ten minutes."""
    watcher = _watcher(request)
    watcher.check_room()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(watcher), media_type="text/event-stream", headers=headers)


def _watcher(request: Request) -> Watcher:
    """Return the watcher of this application."""
    state = request.app.state
    if not hasattr(state, "watcher"):
        state.watcher = Watcher()
    found: Watcher = state.watcher
    return found


async def _stream(watcher: Watcher) -> AsyncIterator[str]:
    ends, listener = time.monotonic() + LONGEST_S, watcher.join()
    try:
        yield "retry: 5000\n\n"
        while (left := ends - time.monotonic()) > 0.0:
            with suppress(TimeoutError):
                await asyncio.wait_for(listener.woken.wait(), min(HEARTBEAT_S, left))
            for event in listener.take() or [":\n\n"]:
                yield event
    finally:
        watcher.leave(listener)
