"""Calibration tables: which there are, which hold at a time, their windows in a row, and what is in each.

A table is known by its number. What it says of each antenna is read from the table itself.
"""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.api.databases import CalRegistry
from dsa110_contimg.api.files import data_roots, send_file
from dsa110_contimg.api.paging import MAX_PAGE, Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database import caltable_queries
from dsa110_contimg.database.caltable_queries import CaltableRow
from dsa110_contimg.errors import BadInputError, CalibrationError
from dsa110_contimg.pipeline import caltable_figures
from dsa110_contimg.pipeline.caltable_figures import AntennaSolutions, TableFigures

router = APIRouter(prefix="/caltables", tags=["calibration tables"])
TableType = Literal["K", "BA", "BP", "G", "GA", "GP", "2G", "FLUX"]
TYPES: tuple[str, ...] = get_args(TableType)
LONGEST_SPAN_DAYS = 400.0
MAX_ID = 2**63 - 1


class Caltables(Paged):
    """Which calibration tables a list holds."""

    type: TableType | None = Field(None, description="Only tables of this type.")
    active: bool | None = Field(None, description="Only tables that are in use, or only those that are not.")
    valid_at_mjd: float | None = Field(
        None, description="Only tables whose window holds this time.", allow_inf_nan=False
    )
    sort: Literal["valid_start_mjd", "-valid_start_mjd"] = "-valid_start_mjd"


class Span(BaseModel, extra="forbid"):
    """A span of time."""

    start_mjd: float = Field(description="Begin (UTC).", allow_inf_nan=False)
    end_mjd: float = Field(description="End; at most 400 days later.", allow_inf_nan=False)


@router.get("")
def list_caltables(
    request: Request, response: Response, registry: CalRegistry, wanted: Annotated[Caltables, Query()]
) -> Page[CaltableRow]:
    """List calibration tables, the newest window first unless told otherwise."""
    page = tables_page(registry, wanted)
    link_next(request, response, page.next)
    return page


def tables_page(session: Session, wanted: Caltables) -> Page[CaltableRow]:
    """Return the page of tables that is wanted."""
    after = None
    if wanted.cursor is not None:
        start, number = decode_cursor(wanted.cursor, float, int)
        after = (float(start or 0.0), int(number or 0))
    rows = caltable_queries.list_tables(
        session,
        table_type=wanted.type,
        active=wanted.active,
        valid_at_mjd=wanted.valid_at_mjd,
        after=after,
        limit=wanted.limit + 1,
        descending=wanted.sort.startswith("-"),
    )
    return page_of(rows, wanted.limit, lambda row: (row.valid_start_mjd, row.id), lambda row: row)


@router.get("/usable")
def list_usable(
    registry: CalRegistry,
    mjd: Annotated[float, Query(description="The time (UTC).", allow_inf_nan=False)],
    type: Annotated[TableType | None, Query(description="Only kinds that serve as this type.")] = None,
) -> list[CaltableRow]:
    """Return the tables that the pipeline would choose among at a time: active, valid, on disk, in order of use."""
    try:
        return caltable_queries.list_usable(registry, mjd, table_type=type)
    except CalibrationError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


@router.get("/timeline")
def get_timeline(registry: CalRegistry, span: Annotated[Span, Query()]) -> list[CaltableRow]:
    """Return the tables whose windows reach into a span of time, in order; of many the newest 500."""
    if not 0.0 < span.end_mjd - span.start_mjd <= LONGEST_SPAN_DAYS:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "end_mjd must lie after start_mjd, at most 400 days")
    return caltable_queries.list_windows(registry, start_mjd=span.start_mjd, end_mjd=span.end_mjd, limit=MAX_PAGE)


@router.get("/{table_id}")
def get_caltable(registry: CalRegistry, table_id: int) -> CaltableRow:
    """Return one table."""
    return find_table(registry, table_id)[0]


@router.get("/{table_id}/solutions")
def get_solutions(registry: CalRegistry, table_id: int) -> TableFigures:
    """Return what a table says of each antenna: amplitude, phase, delay, signal-to-noise ratio, flags."""
    return figures_of(find_table(registry, table_id)[1])


@router.get("/{table_id}/solutions/{antenna}")
def get_antenna(registry: CalRegistry, table_id: int, antenna: Storable) -> AntennaSolutions:
    """Return the solutions of one antenna along the band, or along time."""
    return antenna_of(find_table(registry, table_id)[1], antenna)


@router.get("/{table_id}/page.png", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def get_picture(registry: CalRegistry, table_id: int) -> Response:
    """Return the page that was drawn when the table was solved: every antenna, with the checks."""
    row, path = find_table(registry, table_id)
    name = f"{row.name.replace(':', '')}.png"
    return send_file(naming.page_of_caltable(path), data_roots(), "image/png", name, attachment=False)


def find_table(session: Session, table_id: int) -> tuple[CaltableRow, Path]:
    """Return a table and where it is; HTTPException 404 if there is none of that number."""
    found = caltable_queries.find_table(session, table_id) if abs(table_id) <= MAX_ID else None
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no calibration table {table_id}")
    return found


def figures_of(path: Path) -> TableFigures:
    """Return a table's figures; HTTPException 404 if it is gone from disk or cannot be read."""
    try:
        return caltable_figures.summarize(_below_roots(path))
    except (BadInputError, CalibrationError) as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, without_folders(str(error))) from error


def antenna_of(path: Path, antenna: str) -> AntennaSolutions:
    """Return one antenna's solutions; HTTPException 404 if the table has no such antenna or cannot be read."""
    try:
        found = caltable_figures.antenna_solutions(_below_roots(path), antenna)
    except (BadInputError, CalibrationError) as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, without_folders(str(error))) from error
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{path.name} has no antenna {antenna!r}")
    return found


def _below_roots(path: Path) -> Path:
    """Return the real place of a table below the configured folders; BadInputError for one outside of them."""
    try:
        found = path.resolve(strict=True)
    except OSError as error:
        raise BadInputError(f"calibration table {path.name} is not on disk any more: solve it again") from error
    outside = not any(found.is_relative_to(root.resolve()) for root in data_roots())
    if outside or any(part.is_symlink() for part in found.rglob("*")):
        raise BadInputError(f"calibration table {path.name} lies outside the folders that this server may read")
    return found
