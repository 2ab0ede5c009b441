"""Images: lists with filters, one image with what belongs to it, its files, cutouts, and the sources on it.

Ids are those of the rows. A tile has several images; `files` of each names the others. Mosaics have rows here too, of
kind mosaic, and under /mosaics all that is known about them.
"""

from http import HTTPStatus
from operator import itemgetter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_contimg.api.answers import Answer, answer, page_answer
from dsa110_contimg.api.databases import Products, reading
from dsa110_contimg.api.files import data_roots, locate, readable, send_file
from dsa110_contimg.api.paging import Page, page_of
from dsa110_contimg.api.pictures import (
    PREVIEW_PIXELS,
    Cutout,
    Pixels,
    answer_cutout,
    answer_picture,
    answer_reduced,
    answer_thumbnail,
    damaged,
)
from dsa110_contimg.api.schemas import Finite
from dsa110_contimg.api.sky import MOST_SOURCES, Check, Overlay, RowId, SkyQuery, check_of, key_behind, overlay_of
from dsa110_contimg.database.image_queries import (
    ImageRow,
    count_measured,
    get_image,
    image_key,
    images_beside,
    list_images,
    measured_sources,
)
from dsa110_contimg.database.models import Verdict
from dsa110_contimg.database.qa_queries import checks_of
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.image_origin import provenance_of
from dsa110_contimg.prov_json import prov_document

router = APIRouter(prefix="/images", tags=["images"])
ImageSort = Literal["time", "-time", "created", "-created", "noise", "-noise", "dec", "-dec"]


class ImageQuery(SkyQuery):
    """Which images a list holds."""

    kind: str | None = Field("image", max_length=20, description="Kind, such as image, pbcor, rms; `all` is any.")
    sort: ImageSort = Field("-time", description="Order; with - the greatest first. What has no value comes last.")


class ImageEntry(BaseModel):
    """One image in a list."""

    id: int
    kind: str
    group_id: str | None
    field_name: str | None
    created_at_unix: Finite
    start_mjd: Finite
    mid_mjd: Finite
    end_mjd: Finite
    center_ra_deg: Finite
    center_dec_deg: Finite
    noise_jy: Finite
    dynamic_range: Finite
    beam_major_arcsec: Finite
    beam_minor_arcsec: Finite
    beam_pa_deg: Finite
    verdict: Verdict | None
    removed_at_unix: Finite = Field(description="When its file was cleaned away; null while it is there.")


class ImageDetail(ImageEntry):
    """All that is known about one image."""

    imsize_x: int | None
    imsize_y: int | None
    cellsize_arcsec: Finite
    freq_ghz: Finite
    bandwidth_mhz: Finite
    integration_sec: Finite
    pbcor: bool
    calibrator: str | None
    calibration_tables: list[str]
    n_measured: int
    n_upper_limits: int
    checks: list[Check]
    files: dict[str, int] = Field(description="The ids of all images of this tile, by kind.")


@router.get("", response_model=Page[ImageEntry])
async def list_of_images(request: Request, wanted: Annotated[ImageQuery, Query()]) -> Response:
    """List images, the newest data first."""

    def make() -> Answer:
        with reading("products") as session:
            page = images_page(session, wanted)
        return page_answer(request, page.items, page.next)

    return await answer(request, ("products",), make)


def images_page(session: Session, wanted: ImageQuery) -> Page[dict[str, Any]]:
    """Return a page of images."""
    kind = None if wanted.kind in {None, "all"} else wanted.kind
    after = key_behind(wanted.cursor)
    rows = list_images(session, wanted.filter(), kind=kind, sort=wanted.sort, after=after, limit=wanted.limit + 1)
    return page_of(rows, wanted.limit, lambda row: image_key(row, wanted.sort), entry_of)


_SHARED = [name for name in ImageEntry.model_fields if name in ImageRow._fields]
_shared_of = itemgetter(*map(ImageRow._fields.index, _SHARED))


def entry_of(row: ImageRow) -> dict[str, Any]:
    """Return an image as an `ImageEntry` has it."""
    return dict(zip(_SHARED, _shared_of(row), strict=True)) | {
        "kind": row.type,
        "verdict": row.verdict,
        "created_at_unix": row.created_at,
        "removed_at_unix": row.removed_at,
    }


@router.get("/{image_id}")
def show_image(session: Products, image_id: RowId) -> ImageDetail:
    """Return all that is known about an image."""
    row = found(session, image_id)
    told = row._asdict()
    shared = {name: told[name] for name in ImageDetail.model_fields if name in told and name != "pbcor"}
    measured, limits = count_measured(session, row.path)
    return ImageDetail(
        **shared | entry_of(row),
        pbcor=bool(row.pbcor),
        calibration_tables=row.calibration_tables,
        n_measured=measured,
        n_upper_limits=limits,
        checks=[check_of(check) for check in checks_of(session, row.group_id or row.field_name or "")],
        files={other.type: other.id for other in images_beside(session, row)},
    )


def found(session: Session, image_id: int) -> ImageRow:
    """Return an image, or raise HTTPException 404."""
    row = get_image(session, image_id)
    if row is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no image {image_id}: see /api/v1/images")
    return row


def on_disk(row: ImageRow) -> bool:
    """Return whether the file of an image is there."""
    return readable(row.path) is not None


def name_of(row: ImageRow) -> str:
    """Return what an image is called in sentences and file names."""
    return f"{row.group_id or row.field_name or 'image'}-{row.type}-{row.id}"


@router.get("/{image_id}/fits", response_class=Response, responses={200: {"content": {"application/fits": {}}}})
def send_fits(request: Request, session: Products, image_id: RowId, pixels: Pixels = None) -> Response:
    """Return the image as FITS, whole or reduced."""
    row = found(session, image_id)
    if pixels is not None:
        return answer_reduced(request, row.path, name_of(row), pixels)
    return send_file(row.path, data_roots(), "application/fits", f"{name_of(row).replace(':', '-')}.fits")


@router.get("/{image_id}/preview", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def send_preview(request: Request, session: Products, image_id: RowId) -> Response:
    """Return a picture of the image as PNG."""
    row = found(session, image_id)
    return answer_picture(request, row.path, name_of(row), PREVIEW_PIXELS)


@router.get("/{image_id}/thumbnail", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
def send_thumbnail(request: Request, session: Products, image_id: RowId) -> Response:
    """Return a small picture of the image as WebP."""
    row = found(session, image_id)
    return answer_thumbnail(request, row.path, name_of(row))


@router.get(
    "/{image_id}/cutout",
    response_class=Response,
    responses={200: {"content": {"application/fits": {}, "image/png": {}}}},
)
def send_cutout(request: Request, session: Products, image_id: RowId, wanted: Cutout) -> Response:
    """Return a square of the image around a position."""
    row = found(session, image_id)
    return answer_cutout(request, row.path, name_of(row), wanted)


@router.get("/{image_id}/sources")
def list_sources(session: Products, image_id: RowId) -> Overlay:
    """Return what was measured on the image, and what the master catalogue has there."""
    row = found(session, image_id)
    return overlay_of(row.path, measured_sources(session, row.path, limit=MOST_SOURCES))


@router.get("/{image_id}/provenance")
def tell_provenance(session: Products, image_id: RowId) -> dict[str, Any]:
    """Return where an image comes from, as PROV-JSON: what its file's header says."""
    row = found(session, image_id)
    path = locate(row.path, data_roots(), name_of(row))
    try:
        return prov_document(provenance_of(path, name_of(row), row.type))
    except BadInputError as error:
        raise damaged(name_of(row)) from error
