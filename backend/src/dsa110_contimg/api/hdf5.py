"""The subband files that were seen: days by subbands, gaps, what lacks, and how fresh the newest is."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_contimg.api.databases import Hdf5
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database import inventory_queries
from dsa110_contimg.database.inventory_queries import DayRow, FileRow, Freshness, Gap, IncompleteGroup
from dsa110_contimg.telescope import unix_to_mjd

router = APIRouter(prefix="/hdf5", tags=["subband files"])
LONGEST_DAYS, DAYS = 92, 14
LISTED_GROUPS = 100


class Inventory(BaseModel):
    """What came in a span of days."""

    start_mjd: float
    end_mjd: float
    freshness: Freshness
    days: list[DayRow] = Field(description="Days with data; a day that is not here has none.")
    gaps: list[Gap] = Field(description="Times without data, the newest first, at most 200.")
    incomplete: list[IncompleteGroup] = Field(description="Groups that lack subbands, the newest first, at most 100.")


class InventorySpan(BaseModel, extra="forbid"):
    """Which days."""

    days: int = Field(DAYS, ge=1, le=LONGEST_DAYS, description="How many days.")
    end_mjd: float | None = Field(
        None, ge=30000.0, le=90000.0, description="Where they end; else tomorrow, or the newest file's day."
    )


class Files(Paged):
    """Which files a list holds."""

    group_id: Storable | None = Field(None, description="Only files of this group.")
    start_mjd: float | None = Field(None, description="Not before.", allow_inf_nan=False)
    end_mjd: float | None = Field(None, description="Not after.", allow_inf_nan=False)


@router.get("/inventory")
def get_inventory(hdf5: Hdf5, wanted: Annotated[InventorySpan, Query()]) -> Inventory:
    """Return what came on each day, the gaps between, and the groups that lack subbands."""
    return take_inventory(hdf5, wanted)


def take_inventory(session: Session, wanted: InventorySpan) -> Inventory:
    """Return what came in a span; without an end it is that of the newest file, if that is long ago."""
    fresh = inventory_queries.freshness(session)
    end = wanted.end_mjd
    if end is None:
        now = unix_to_mjd(time.time())
        newest = now if fresh.newest_data_unix is None else unix_to_mjd(fresh.newest_data_unix)
        # What lies in the future, by a wrong clock, must be seen too.
        end = float(int(newest if abs(newest - now) > wanted.days else max(newest, now)) + 1)
    start = end - wanted.days
    groups = inventory_queries.scan_groups(session, start_mjd=start, end_mjd=end)
    return Inventory(
        start_mjd=start,
        end_mjd=end,
        freshness=fresh,
        days=inventory_queries.days_of(groups),
        gaps=inventory_queries.gaps_of(groups),
        incomplete=inventory_queries.incomplete_of(groups, LISTED_GROUPS),
    )


@router.get("/files")
def list_files(request: Request, response: Response, hdf5: Hdf5, wanted: Annotated[Files, Query()]) -> Page[FileRow]:
    """List subband files, the newest sky first."""
    after = None
    if wanted.cursor is not None:
        mjd, name = decode_cursor(wanted.cursor, float, str)
        after = (float(mjd or 0.0), str(name))
    rows = inventory_queries.list_files(
        hdf5,
        group_id=wanted.group_id,
        start_mjd=wanted.start_mjd,
        end_mjd=wanted.end_mjd,
        after=after,
        limit=wanted.limit + 1,
    )
    page = page_of(rows, wanted.limit, lambda row: (row.time_mjd, row.file_name), lambda row: row)
    link_next(request, response, page.next)
    return page
