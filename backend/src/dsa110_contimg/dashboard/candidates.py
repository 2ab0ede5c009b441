"""Candidates: what is interesting today, why in plain words, and what was done about it."""

import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse

from dsa110_contimg.api import candidates as api
from dsa110_contimg.api.access import Operator
from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.paging import decode_cursor, encode_cursor
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.dashboard.sources import candidate_link, source_link
from dsa110_contimg.dashboard.sparklines import sparkline
from dsa110_contimg.database.candidate_queries import (
    NEW,
    STATES,
    VARIABLE,
    CandidateRow,
    count_by_status,
    count_since,
    list_candidates,
    place_of,
)
from dsa110_contimg.database.lightcurve_queries import recent_fluxes

router = APIRouter(prefix="/candidates")
DAY_S = 86400.0
STAMP_ARCMIN = 5.0


@router.get("")
def candidates(request: Request, products: Products, wanted: Annotated[api.CandidateListing, Query()]) -> HTMLResponse:
    """Show candidates of a kind."""
    after = None
    if wanted.cursor is not None:
        value, number = decode_cursor(wanted.cursor, float | None, int)
        after = value, int(number or 0)
    status = None if wanted.status == "all" else wanted.status
    found = list_candidates(products, wanted.kind, status, wanted.sort, after, wanted.limit + 1)
    shown = found[: wanted.limit]
    now = time.time()
    context: dict[str, Any] = {
        "now": now,
        "wanted": wanted,
        "rows": shown,
        "next": encode_cursor(*place_of(shown[-1], wanted.sort)) if len(found) > wanted.limit else None,
        "counts": count_by_status(products),
        "states": (*STATES, "all"),
        "today": count_since(products, now - DAY_S),
        "best": _best(products),
        "candidate_link": candidate_link,
        "stamp_arcmin": STAMP_ARCMIN,
        "sparklines": _sparklines(products, shown),
        "link": source_link,
        "here": str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
    }
    return page(request, "candidates/list.html", fragment="live", **context)


def _best(products: Products) -> list[CandidateRow]:
    """Return the most significant candidate of each kind that awaits a person."""
    return [
        row for kind in (VARIABLE, NEW) for row in list_candidates(products, kind, "active", "-significance", None, 1)
    ]


def _sparklines(products: Products, rows: list[CandidateRow]) -> dict[str, Any]:
    fluxes = recent_fluxes(products, [row.source_id for row in rows if row.kind == VARIABLE])
    return {name: sparkline([flux for _mjd, flux in points]) for name, points in fluxes.items()}


@router.post("/{kind}/{number}")
def judge(
    kind: api.Kind,
    number: api.Number,
    user: Operator,
    did: Annotated[api.Act, Form()],
    note: Annotated[Storable, Form()] = "",
    then: Annotated[Storable, Form()] = "/candidates",
) -> RedirectResponse:
    """Do what an operator wants done about a candidate, and show the page again that asked."""
    api.act(did, kind, number, note.strip(), user)
    return RedirectResponse(_own(then), HTTPStatus.SEE_OTHER)


@router.post("")
def flag(
    user: Operator, source_id: Annotated[Storable, Form()], note: Annotated[Storable, Form()] = ""
) -> RedirectResponse:
    """Flag a source by hand, and show its page again."""
    made = api.flag(api.Flag(source_id=source_id, note=note.strip()), user)
    return RedirectResponse(source_link(str(made["source_id"])), HTTPStatus.SEE_OTHER)


def _own(address: str) -> str:
    """Return an address of this server, and nothing that leads elsewhere."""
    inside = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if inside else "/candidates"
