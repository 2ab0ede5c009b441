"""Candidates: sources that vary, and new sources; what is known of them, and what people do about them.

Both kinds have the same shape: `variable` is judged from a light curve, `new` was found where no catalogue has a
source. Operators investigate, dismiss and annotate; every act is in the candidate's history and in the audit.
"""

import time
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.access import Operator, record
from dsa110_contimg.api.answers import Answer, answer, json_bytes, page_answer
from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, encode_cursor
from dsa110_contimg.api.schemas import Storable, Words
from dsa110_contimg.api.sources import meant
from dsa110_contimg.database import get_session
from dsa110_contimg.database.candidate_list import flag_by_hand
from dsa110_contimg.database.candidate_queries import CandidateRow, get_candidate, list_candidates, place_of
from dsa110_contimg.database.candidate_repository import CandidateRepository, close
from dsa110_contimg.database.transient_repository import get_transient, note_transient
from dsa110_contimg.errors import ConfigurationError, PipelineError

router = APIRouter(prefix="/candidates", tags=["candidates"])

Kind = Literal["variable", "new"]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
Act = Literal["investigate", "dismiss", "note"]
STATUS_OF = {"investigate": "investigated", "dismiss": "dismissed"}


class CandidateListing(Paged):
    """Which candidates a list holds, and in what order."""

    kind: Kind = Field("variable", description="Sources that vary, or new sources.")
    status: Literal["active", "investigated", "dismissed", "all"] = "active"
    sort: Literal["significance", "-significance", "flagged_at", "-flagged_at"] = "-significance"


class HistoryItem(BaseModel):
    """Who did what, and when (unix seconds)."""

    at: float
    by: str
    did: str
    note: str


class CandidateItem(BaseModel):
    """One candidate; null is what is not known."""

    id: int
    kind: Kind
    source_id: str
    ra_deg: float
    dec_deg: float
    status: str
    flag_type: str = Field(description="ese, rapid_change, variability, user or new_source.")
    significance: float | None
    flagged_at: float | None
    flagged_by: str
    reason: str | None
    event_mjd: float | None
    last_image: str | None = Field(description="Of a new source: the last image that it was found on.")
    n_obs: int | None
    mean_flux_jy: float | None
    eta: float | None
    v: float | None
    investigated_at: float | None
    dismissed_at: float | None
    history: list[HistoryItem]


class Remark(BaseModel, extra="forbid"):
    """Why."""

    note: Storable = ""


class Note(BaseModel, extra="forbid"):
    """A note."""

    note: Words


class Flag(BaseModel, extra="forbid"):
    """A source that somebody flags by hand."""

    source_id: Storable = Field(description="Name in any usual spelling.")
    note: Storable = ""


def told(row: CandidateRow) -> dict[str, object]:
    """Return a candidate as JSON has it."""
    return row._asdict() | {"history": [entry._asdict() for entry in row.history]}


@router.get("", response_model=Page[CandidateItem])
async def get_candidates(request: Request, wanted: Annotated[CandidateListing, Query()]) -> Response:
    """List candidates of a kind, the most significant first unless told otherwise."""
    return await answer(request, ("products",), lambda: _listed(request, wanted))


def _listed(request: Request, wanted: CandidateListing) -> Answer:
    after = None
    if wanted.cursor is not None:
        value, number = decode_cursor(wanted.cursor, float | None, int)
        after = value, int(number or 0)
    status = None if wanted.status == "all" else wanted.status
    with reading("products") as session:
        rows = list_candidates(session, wanted.kind, status, wanted.sort, after, wanted.limit + 1)
    shown = rows[: wanted.limit]
    cursor = encode_cursor(*place_of(shown[-1], wanted.sort)) if len(rows) > wanted.limit else None
    return page_answer(request, map(told, shown), cursor)


@router.get("/{kind}/{number}", response_model=CandidateItem)
async def show_candidate(request: Request, kind: Kind, number: Number) -> Response:
    """Return one candidate."""
    return await answer(request, ("products",), lambda: Answer(json_bytes(told(known(kind, number)))))


@router.post("", response_model=CandidateItem, status_code=HTTPStatus.CREATED)
def flag(wanted: Flag, user: Operator) -> dict[str, object]:
    """Flag a source by hand."""
    source = meant(wanted.source_id)
    try:
        with get_session("products") as session:
            made = flag_by_hand(session, source, by=user.name, note=wanted.note, now=time.time()).id
    except ConfigurationError:
        raise
    except PipelineError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
    record(user, "flag", f"source {source}", wanted.note or None)
    return told(known("variable", made))


@router.post("/{kind}/{number}/investigate", response_model=CandidateItem)
def investigate(kind: Kind, number: Number, wanted: Remark, user: Operator) -> dict[str, object]:
    """Mark a candidate as investigated."""
    act("investigate", kind, number, wanted.note, user)
    return told(known(kind, number))


@router.post("/{kind}/{number}/dismiss", response_model=CandidateItem)
def dismiss(kind: Kind, number: Number, wanted: Remark, user: Operator) -> dict[str, object]:
    """Dismiss a candidate; the same event does not come back."""
    act("dismiss", kind, number, wanted.note, user)
    return told(known(kind, number))


@router.post("/{kind}/{number}/notes", response_model=CandidateItem)
def add_note(kind: Kind, number: Number, wanted: Note, user: Operator) -> dict[str, object]:
    """Add a note to a candidate, closed ones included."""
    act("note", kind, number, wanted.note, user)
    return told(known(kind, number))


def act(what: Act, kind: Kind, number: int, note: str, user: Operator) -> None:
    """Do what an operator wants done about a candidate, and write it into the audit.

    Raises
    ------
    HTTPException
        404 if there is no such candidate, 409 if somebody closed it already.
    """
    known(kind, number)
    now = time.time()
    try:
        with get_session("products") as session:
            if what == "note" and kind == "new":
                note_transient(session, number, by=user.name, note=note, now=now)
            elif what == "note":
                CandidateRepository.note(session, str(number), by=user.name, note=note, now=now)
            else:
                found = (
                    get_transient(session, number) if kind == "new" else CandidateRepository.get(session, str(number))
                )
                close(session, found, status=STATUS_OF[what], by=user.name, note=note, now=now)
    except ConfigurationError:
        raise
    except PipelineError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
    record(user, what, f"candidate {kind}/{number}", note or None)


def known(kind: Kind, number: int) -> CandidateRow:
    """Return a candidate, or raise HTTPException 404."""
    with reading("products") as session:
        row = get_candidate(session, kind, number)
    if row is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no candidate {kind}/{number}: see the list of candidates")
    return row
