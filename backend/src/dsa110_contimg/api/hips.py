"""HiPS by id, for sky atlases: the properties, tiles and coverage of a mosaic, or of the sky of all of them.

A name below a HiPS is one of the few that the standard knows (`properties`, `Moc.fits`, `Norder3/Dir0/Npix42.png`);
nothing else of the folder is sent. A tile that does not exist has no values: 404, which atlases expect. Tiles carry
entity tags and may be kept for an hour.
"""

import functools
import re
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

from dsa110_contimg.api.databases import Registry
from dsa110_contimg.api.files import data_roots, locate, readable, send_file
from dsa110_contimg.api.paging import MAX_PAGE, Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.schemas import Finite, Storable
from dsa110_contimg.config import current_settings
from dsa110_contimg.database.hips_queries import HipsRow, find_hips, list_hips
from dsa110_contimg.formats import hips_tiles
from dsa110_contimg.pipeline.coverage import FILE as COVERAGE_FILE

router = APIRouter(tags=["hips"])
PARTS = re.compile(
    r"properties|Moc\.fits|Norder\d{1,2}/Allsky\.(?:png|fits)|Norder\d{1,2}/Dir\d{1,12}/Npix\d{1,12}\.(?:png|fits)"
)
KINDS = {"properties": "text/plain; charset=utf-8", ".png": "image/png", ".fits": "application/fits"}
ALLSKY = "Norder3/Allsky.png"
KEPT = "private, max-age=3600"


class Hips(BaseModel):
    """One HiPS."""

    id: str
    title: str
    status: str
    service_url: str
    order: int | None
    tile_formats: list[str]
    initial_ra_deg: Finite
    initial_dec_deg: Finite
    initial_fov_deg: Finite
    pixel_cut_jyb: list[float]
    released: str | None


@router.get("/hips")
def list_of_hips(
    request: Request, response: Response, registry: Registry, wanted: Annotated[Paged, Query()]
) -> Page[Hips]:
    """List the HiPS of published products, the newest first."""
    after = None if wanted.cursor is None else int(decode_cursor(wanted.cursor, int)[0] or 0)
    rows = list_hips(registry, after=after, limit=wanted.limit + 1)
    page = page_of(rows, wanted.limit, lambda row: (row[0],), lambda row: describe(request, row[1]))
    link_next(request, response, page.next)
    # A mosaic need not have one: an option decides.
    return Page(items=[hips for hips in page.items if hips is not None], next=page.next)


@router.get("/hips/{data_id}")
def show_hips(request: Request, registry: Registry, data_id: Storable) -> Hips:
    """Return what a HiPS is, and where atlases find it."""
    row = found(registry, data_id)
    told = describe(request, row)
    if told is None:
        raise _missing(data_id)
    return told


def found(registry: Registry, data_id: str) -> HipsRow:
    """Return the product of a HiPS, or raise HTTPException 404."""
    row = find_hips(registry, data_id)
    if row is None:
        raise _missing(data_id)
    return row


def _missing(data_id: str) -> HTTPException:
    return HTTPException(HTTPStatus.NOT_FOUND, f"{data_id!r} has no HiPS: see /api/v1/hips")


def describe(request: Request, row: HipsRow) -> Hips | None:
    """Return what a HiPS says of itself; None if there is none."""
    properties = readable(row.folder / "properties")
    if properties is None:
        return None
    try:
        told = hips_tiles.load_properties(properties.parent)
    except (OSError, UnicodeDecodeError):
        return None
    return Hips(
        id=row.data_id,
        title=told.get("obs_title", row.data_id),
        status=row.status,
        service_url=service_url(request, row.data_id),
        order=_whole(told.get("hips_order")),
        tile_formats=told.get("hips_tile_format", "").split(),
        initial_ra_deg=_real(told.get("hips_initial_ra")),
        initial_dec_deg=_real(told.get("hips_initial_dec")),
        initial_fov_deg=_real(told.get("hips_initial_fov")),
        pixel_cut_jyb=[value for value in map(_real, told.get("hips_pixel_cut", "").split()) if value is not None],
        released=told.get("hips_release_date"),
    )


def service_url(request: Request, data_id: str) -> str:
    """Return the address below which an atlas finds a HiPS."""
    return str(request.url_for("send_part", data_id=data_id, part="properties")).removesuffix("/properties")


def _real(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


@router.get(
    "/hips/{data_id}/{part:path}",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "image/png": {}, "application/fits": {}}}},
)
def send_part(
    registry: Registry,
    data_id: Storable,
    part: Annotated[str, Path(max_length=80, description="properties, Moc.fits or Norder3/Dir0/Npix42.png.")],
) -> Response:
    """Return a file of a HiPS."""
    if PARTS.fullmatch(part) is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"a HiPS has no {part!r}: see its properties")
    row = found(registry, data_id)
    kind = next(media for ending, media in KINDS.items() if part.endswith(ending))
    folder, file = row.folder, row.folder / part
    if part == ALLSKY and not file.is_file() and folder.is_dir():
        place = locate(folder / "properties", data_roots(), data_id)
        return Response(
            _allsky(place.parent, place.stat().st_mtime_ns), media_type=kind, headers={"Cache-Control": KEPT}
        )
    if not file.is_file() and part not in {"properties", "Moc.fits"}:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{data_id} has no values in this tile", {"Cache-Control": KEPT})
    locate(file, [folder], data_id)
    answer = send_file(file, data_roots(), kind, f"{data_id}-{part.replace('/', '-')}", attachment=False)
    answer.headers["Cache-Control"] = KEPT
    return answer


@functools.lru_cache(maxsize=64)
def _allsky(folder: FilePath, _modified: int) -> bytes:
    return hips_tiles.draw_allsky(folder)


@router.get("/coverage/moc", response_class=Response, responses={200: {"content": {"application/fits": {}}}})
def send_coverage() -> Response:
    """Return where the published mosaics have seen the sky, as a MOC."""
    state = current_settings().state
    return send_file(state / COVERAGE_FILE, [state], "application/fits", COVERAGE_FILE, attachment=False)


vo_router = APIRouter(prefix="/hips", tags=["virtual observatory"])


@vo_router.get("/hipslist", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def list_for_atlases(request: Request, registry: Registry) -> Response:
    """Return the HiPS of published products as the list that atlases read (HiPS 1.0, 5.2)."""
    records = []
    for _number, row in list_hips(registry, limit=MAX_PAGE):
        told = describe(request, row)
        if told is not None:
            record = {
                "creator_did": f"ivo://dsa110.contimg/P/{told.id}",
                "hips_service_url": told.service_url,
                "hips_release_date": told.released or "",
                "hips_status": "private master clonableOnce",
                "obs_title": told.title,
            }
            records.append("".join(f"{key:20s} = {value}\n" for key, value in record.items()))
    return Response("\n".join(records), media_type="text/plain; charset=utf-8")
