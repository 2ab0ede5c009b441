"""Answers of rows, made once: bytes that are kept as long as the databases they come from are unchanged.

A short question takes a fraction of a millisecond; to check every row of its answer against a model, or to hand it to
a thread, would take longer. So rows become JSON as they are, and the answer of a database in a file is kept until
somebody commits to that database (`session.data_version`). A question to a server, and one that may take long, goes
to a thread and leaves others their turn.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from pydantic_core import to_json

from dsa110_contimg.api.conditional import weak_tag
from dsa110_contimg.api.paging import next_link
from dsa110_contimg.database.session import data_version

JSON = "application/json"
T = TypeVar("T")
_MOST_BYTES = 32_000_000
_LARGEST = 2_000_000


class Answer(NamedTuple):
    """A body with what is told about it."""

    body: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = {}


class _Kept:
    """The answers that were asked for last, up to a number of bytes."""

    def __init__(self) -> None:
        self.answers: OrderedDict[Hashable, tuple[Hashable, Answer, str]] = OrderedDict()
        self.size = 0

    def get(self, key: Hashable, version: Hashable) -> tuple[Answer, str] | None:
        found = self.answers.get(key)
        if found is None or found[0] != version:
            return None
        self.answers.move_to_end(key)
        return found[1], found[2]

    def put(self, key: Hashable, version: Hashable, answer: Answer, tag: str) -> None:
        before = self.answers.pop(key, None)
        self.size += len(answer.body) - (len(before[1].body) if before else 0)
        self.answers[key] = version, answer, tag
        while self.size > _MOST_BYTES:
            _key, (_version, oldest, _tag) = self.answers.popitem(last=False)
            self.size -= len(oldest.body)


_kept = _Kept()
_figures: dict[Hashable, tuple[Hashable, Any]] = {}
"""One for each key; keys are few, and none holds what somebody asked for."""


async def answer(
    request: Request, databases: Sequence[str], make: Callable[[], Answer], *, takes_long: bool = False
) -> Response:
    """Answer a question with what `make` returns, or with what it returned when nothing has changed since.

    Parameters
    ----------
    request
        Its address and query are what an answer is kept under.
    databases
        Session names of all that `make` reads.
    make
        Opens its sessions itself; its errors pass.
    takes_long
        Make it in a thread.
    """
    version = tuple(data_version(name) for name in databases)
    # The address of a next page names the host that was asked.
    key = (request.url.path, request.url.query, request.headers.get("host"))
    found = None if None in version else _kept.get(key, version)
    if found is None:
        made = await run_in_threadpool(make) if takes_long or None in version else make()
        found = made, weak_tag(made.body)
        if None not in version and len(made.body) <= _LARGEST:
            _kept.put(key, version, *found)
    told, tag = found
    headers = {"etag": tag, "cache-control": "private, no-cache", **told.headers}
    return Response(told.body, media_type=told.media_type, headers=headers)


def remembered(key: Hashable, databases: Sequence[str], make: Callable[[], T]) -> T:
    """Return what `make` returns, or what it returned when the databases were as they are: for figures of pages."""
    version = tuple(data_version(name) for name in databases)
    if None in version:
        return make()
    found = _figures.get(key)
    if found is None or found[0] != version:
        found = _figures[key] = version, make()
    value: T = found[1]
    return value


def json_bytes(content: object) -> bytes:
    """Return a content as JSON, in which what is not a number is null."""
    return to_json(content, inf_nan_mode="null")


def page_answer(request: Request, items: Iterable[Mapping[str, Any] | BaseModel], cursor: str | None) -> Answer:
    """Return a page of a list as JSON; its Link header says where the next one is."""
    headers = {} if cursor is None else {"Link": next_link(request, cursor)}
    return Answer(json_bytes({"items": list(items), "next": cursor}), headers=headers)


def attachment(body: bytes, media_type: str, filename: str) -> Answer:
    """Return a file that a browser offers to save."""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "+-._") else "_" for letter in filename
    )
    return Answer(body, media_type, {"content-disposition": f'attachment; filename="{plain}"'})
