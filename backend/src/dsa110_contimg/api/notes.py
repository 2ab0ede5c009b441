"""Notes on any source, whether it is a candidate or not: each is a row of the audit."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from dsa110_contimg.api.access import Operator, record
from dsa110_contimg.api.candidates import Note
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.sources import SourceName, meant
from dsa110_contimg.database import audit

router = APIRouter(prefix="/sources/{source_id}/notes", tags=["sources"])


class NoteItem(BaseModel):
    """What somebody wrote about a source, and when (unix seconds)."""

    id: int
    at: float
    by: str
    note: str


@router.get("")
def get_notes(
    request: Request, response: Response, source_id: SourceName, asked: Annotated[Paged, Query()]
) -> Page[NoteItem]:
    """List the notes on a source, the latest first."""
    found = notes_on(meant(source_id), asked.limit, asked.cursor)
    link_next(request, response, found.next)
    return found


def notes_on(source_id: str, limit: int, cursor: str | None = None) -> Page[NoteItem]:
    """Return a page of the notes on a source, by its name in full."""
    before = None if cursor is None else int(decode_cursor(cursor, int)[0] or 0)
    rows = audit.list_changes(action="note", target=_target(source_id), before=before, limit=limit + 1)
    return page_of(rows, limit, lambda row: (row.id,), _item)


@router.post("", status_code=HTTPStatus.CREATED)
def add_note(source_id: SourceName, wanted: Note, user: Operator) -> NoteItem:
    """Write a note on a source."""
    name = meant(source_id)
    record(user, "note", _target(name), wanted.note)
    return notes_on(name, 1).items[0]


def _target(source_id: str) -> str:
    return f"source {source_id}"


def _item(row: audit.Audited) -> NoteItem:
    return NoteItem(id=row.id, at=row.at_unix, by=row.user_name, note=row.detail or "")
