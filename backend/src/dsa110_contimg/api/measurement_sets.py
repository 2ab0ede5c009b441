"""Measurement Sets: one for each tile, known by the group of which it was made."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.api.sky import Check, check_of
from dsa110_contimg.database import tile_queries
from dsa110_contimg.database.qa_queries import checks_of
from dsa110_contimg.database.tile_queries import TileRow

router = APIRouter(prefix="/measurement-sets", tags=["measurement sets"])
Stage = Literal["pending", "converting", "converted", "calibrated", "imaged", "photometry_complete", "failed"]


class MeasurementSets(Paged):
    """Which Measurement Sets a list holds."""

    stage: Stage | None = Field(None, description="Only those at this stage.")
    status: Literal["ok", "failed", "flagged"] | None = Field(None, description="Only those of this status.")
    start_mjd: float | None = Field(None, description="The middle is not before.", allow_inf_nan=False)
    end_mjd: float | None = Field(None, description="The middle is not after.", allow_inf_nan=False)
    sort: Literal["mid_mjd", "-mid_mjd"] = Field("-mid_mjd", description="By the time of the sky.")


@router.get("")
def list_measurement_sets(
    request: Request, response: Response, products: Products, wanted: Annotated[MeasurementSets, Query()]
) -> Page[TileRow]:
    """List Measurement Sets, the newest sky first unless told otherwise."""
    page = tiles_page(products, wanted)
    link_next(request, response, page.next)
    return page


def tiles_page(session: Session, wanted: MeasurementSets) -> Page[TileRow]:
    """Return the page of tiles that is wanted."""
    after = None
    if wanted.cursor is not None:
        mid_mjd, group_id = decode_cursor(wanted.cursor, float, str)
        after = (float(mid_mjd or 0.0), str(group_id))
    rows = tile_queries.list_tiles(
        session,
        stage=wanted.stage,
        status=wanted.status,
        span_mjd=(wanted.start_mjd, wanted.end_mjd),
        after=after,
        limit=wanted.limit + 1,
        descending=wanted.sort.startswith("-"),
    )
    return page_of(rows, wanted.limit, lambda row: (row.mid_mjd, row.group_id), lambda row: row)


@router.get("/{group_id}")
def get_measurement_set(products: Products, group_id: Storable) -> TileRow:
    """Return the Measurement Set of a group."""
    tile = tile_queries.find_tile(products, group_id)
    if tile is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no Measurement Set of group {group_id!r}")
    return tile


@router.get("/{group_id}/checks")
def list_checks(products: Products, group_id: Storable) -> list[Check]:
    """Return the quality checks of a Measurement Set and its image; none before they were measured."""
    return [check_of(row) for row in checks_of(products, group_id)]
