"""Pages of a list: the cursor, the limit, and the page that both make.

A list is read by its sort key, never by counting rows: page n + 1 is what lies behind the last key of page n, so that
it costs the same wherever it is and rows that arrive meanwhile push nobody to another page. A query function takes
`after` (the key) and gives limit + 1 rows; the row too many says that there is another page.

A cursor is that key as URL-safe text. What a person typed instead of a cursor is a 400, never a wrong page.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Generic, TypeVar

from fastapi import HTTPException, Query, Request, Response
from pydantic import BaseModel, Field, model_validator

MAX_PAGE, DEFAULT_PAGE = 500, 50
_MAX_CURSOR = 2000
_MAX_INTEGER = 2**63 - 1
"""The largest integer that a database takes."""

T = TypeVar("T")
R = TypeVar("R")
Key = str | int | float | None

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items of a page.")]
"""For a parameter of a handler: `limit: Limit = DEFAULT_PAGE`."""
Cursor = Annotated[str | None, Query(max_length=_MAX_CURSOR, description="The `next` of the page before.")]
"""For a parameter of a handler: `cursor: Cursor = None`."""


class Paged(BaseModel, extra="forbid"):
    """The base of a list's parameters: what else it lets ask for are fields of a subclass."""

    cursor: str | None = Field(None, max_length=_MAX_CURSOR, description="The `next` of the page before.")
    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Most items of a page.")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, asked: object) -> object:
        """Leave out what is empty: a form on a page sends every field, those that nobody filled in too."""
        return {name: value for name, value in asked.items() if value != ""} if isinstance(asked, dict) else asked


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = Field(None, description="Cursor of the page behind; null at the end.")


def encode_cursor(*key: Key) -> str:
    """Return a key as text that an address can hold."""
    told = json.dumps(key, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")


def decode_cursor(text: str, *types: type | UnionType) -> tuple[Key, ...]:
    """Return the key that a cursor holds.

    Parameters
    ----------
    text
        What `encode_cursor` made.
    *types
        The type of each part of the key, such as `float, str` or `float | None`; an int is a float too.

    Raises
    ------
    HTTPException
        400, if it can be no cursor of this list.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = json.loads(raw, parse_constant=_refuse)
    except (ValueError, binascii.Error, RecursionError):
        key = None
    if not isinstance(key, list) or len(key) != len(types):
        raise _no_cursor()
    return tuple(_part(part, kind) for part, kind in zip(key, types, strict=True))


def page_of(rows: Sequence[R], limit: int, key: Callable[[R], tuple[Key, ...]], convert: Callable[[R], T]) -> Page[T]:
    """Return the page that limit + 1 rows make; fewer rows are the last page."""
    shown = rows[:limit]
    behind = encode_cursor(*key(shown[-1])) if shown and len(rows) > limit else None
    return Page(items=[convert(row) for row in shown], next=behind)


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Say where the next page is in the Link header (RFC 8288); nothing at the end."""
    if cursor is not None:
        response.headers["Link"] = next_link(request, cursor)


def next_link(request: Request, cursor: str) -> str:
    """Return the Link header that names the next page (RFC 8288)."""
    return f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'


def _part(part: object, kind: type | UnionType) -> Key:
    if isinstance(part, int) and kind in (float, float | None) and not isinstance(part, bool):
        part = float(part) if abs(part) <= _MAX_INTEGER else part
    fits = isinstance(part, kind) and not isinstance(part, bool)
    if isinstance(part, int):
        fits = fits and abs(part) <= _MAX_INTEGER
    if isinstance(part, str):
        fits = fits and "\0" not in part and not any("\ud800" <= letter <= "\udfff" for letter in part)
    if not fits or not (part is None or isinstance(part, str | int | float)):
        raise _no_cursor()
    return part


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _no_cursor() -> HTTPException:
    return HTTPException(
        HTTPStatus.BAD_REQUEST, "this cursor is none that this list gave: begin without one, and follow `next`"
    )
