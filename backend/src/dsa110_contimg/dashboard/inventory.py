"""Inventory: which subband files came on which day, what lacks, and how fresh the newest is."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from dsa110_contimg.api.databases import Hdf5
from dsa110_contimg.api.hdf5 import DAYS, LONGEST_DAYS, InventorySpan, take_inventory
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.dashboard.drawings import level
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.telescope import N_SUBBANDS

router = APIRouter()
SPANS = (7, 14, 31)
GAPS, INCOMPLETE = 12, 24
DAY_GROUPS = 279
"""Groups of a whole day: 86400 s / 309.2 s."""


class Wanted(BaseModel):
    """Which days; what cannot be one is left out."""

    days: Storable = str(DAYS)
    end: Storable = ""


@router.get("/inventory")
def inventory(request: Request, hdf5: Hdf5, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Show days by subbands."""
    days = int(wanted.days) if wanted.days.isascii() and wanted.days.isdigit() else DAYS
    end = _mjd(wanted.end)
    found = take_inventory(hdf5, InventorySpan(days=min(max(days, 1), LONGEST_DAYS), end_mjd=end))
    by_day = {row.day_mjd: row for row in found.days}
    numbers = range(int(found.end_mjd) - 1, int(found.start_mjd) - 1, -1)
    context: dict[str, Any] = {
        "now": time.time(),
        "found": found,
        "days": [(number, by_day.get(number)) for number in numbers],
        "subbands": range(N_SUBBANDS),
        "level": level,
        "span": int(found.end_mjd - found.start_mjd),
        "spans": SPANS,
        "gaps": found.gaps[:GAPS],
        "incomplete": found.incomplete[:INCOMPLETE],
        "whole_day": DAY_GROUPS,
    }
    return page(request, "inventory.html", fragment="live", **context)


def _mjd(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return float(int(value)) if 30000.0 <= value <= 90000.0 else None
