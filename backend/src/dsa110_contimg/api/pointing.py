"""Where the dishes look, now and next, and where they looked."""

import time
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.schemas import Finite
from dsa110_contimg.database import pointing_queries
from dsa110_contimg.database.pointing_queries import PointingRow
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.pipeline.sky_now import Look, looks, strip_now

router = APIRouter(prefix="/pointing", tags=["pointing"])


class Pointing(BaseModel):
    """Where the dishes look if nobody moves them, and the last measured place."""

    strip_dec_deg: Finite = Field(description="Declination of date of the newest tile.")
    last: PointingRow | None = Field(description="The newest tile's pointing.")
    looks: list[Look] = Field(description="Now, and some hours ahead.")


class Pointings(Paged):
    """Which pointings a list holds."""

    start_unix: float | None = Field(None, description="Not before.", allow_inf_nan=False)
    end_unix: float | None = Field(None, description="Not after.", allow_inf_nan=False)
    sort: Literal["time_unix", "-time_unix"] = "-time_unix"


@router.get("")
def get_pointing(products: Products) -> Pointing:
    """Return where the dishes look now and in the hours ahead, if they stay on the strip of the newest tile."""
    strip = strip_now()
    try:
        ahead = looks(strip, time.time())
    except BadInputError as error:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"this machine's clock cannot be right: {error}") from error
    last = pointing_queries.list_pointings(products, limit=1)
    return Pointing(strip_dec_deg=strip, last=last[0] if last else None, looks=ahead)


@router.get("/history")
def list_history(
    request: Request, response: Response, products: Products, wanted: Annotated[Pointings, Query()]
) -> Page[PointingRow]:
    """List where the dishes looked, one row a tile, the newest first unless told otherwise."""
    after = None
    if wanted.cursor is not None:
        after = float(decode_cursor(wanted.cursor, float)[0] or 0.0)
    rows = pointing_queries.list_pointings(
        products,
        start_unix=wanted.start_unix,
        end_unix=wanted.end_unix,
        after=after,
        limit=wanted.limit + 1,
        descending=wanted.sort.startswith("-"),
    )
    page = page_of(rows, wanted.limit, lambda row: (row.time_unix,), lambda row: row)
    link_next(request, response, page.next)
    return page
