"""Mosaics: lists with filters, one mosaic with what belongs to it, its files, cutouts, and the sources on it.

A mosaic is named by its id in the data registry (or by the number of its row); whether it is published stands there.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from http import HTTPStatus
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.api.answers import Answer, answer, page_answer
from dsa110_contimg.api.databases import Products, Registry, reading
from dsa110_contimg.api.files import data_roots, footprint_at, readable, send_file
from dsa110_contimg.api.paging import Page, page_of
from dsa110_contimg.api.pictures import (
    MAX_PIXELS,
    PREVIEW_PIXELS,
    Cutout,
    Pixels,
    answer_cutout,
    answer_picture,
    answer_reduced,
    answer_thumbnail,
)
from dsa110_contimg.api.registry import opened
from dsa110_contimg.api.schemas import Finite, Storable
from dsa110_contimg.api.sky import MOST_SOURCES, Check, Overlay, SkyQuery, check_of, key_behind, overlay_of
from dsa110_contimg.database.image_queries import count_measured, image_ids, measured_sources
from dsa110_contimg.database.models import ProductStatus, Verdict
from dsa110_contimg.database.mosaic_queries import (
    MosaicRow,
    TileOfMosaic,
    get_mosaic,
    list_mosaics,
    mosaic_key,
    standing_of,
    tiles_of,
)
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.qa_queries import ArtifactRow, checks_of, list_artifacts
from dsa110_contimg.errors import UnknownProductError
from dsa110_contimg.prov_json import prov_document

router = APIRouter(prefix="/mosaics", tags=["mosaics"])
MosaicSort = Literal["time", "-time", "created", "-created", "noise", "-noise", "dec", "-dec", "sources", "-sources"]


class MosaicFile(StrEnum):
    """A file of a mosaic."""

    FITS = "fits"
    NOISE = "noise"
    WEIGHT = "weight"
    COVERAGE = "coverage"
    MOC = "moc"


class MosaicQuery(SkyQuery):
    """Which mosaics a list holds."""

    published: bool | None = Field(None, description="Only what is published, or only what is not.")
    sort: MosaicSort = Field("-time", description="Order; with - the greatest first. What has no value comes last.")


class MosaicEntry(BaseModel):
    """One mosaic in a list."""

    name: str
    created_at_unix: Finite
    start_mjd: Finite
    end_mjd: Finite
    center_ra_deg: Finite
    center_dec_deg: Finite
    dec_min_deg: Finite
    dec_max_deg: Finite
    noise_jy: Finite
    beam_major_arcsec: Finite
    beam_minor_arcsec: Finite
    beam_pa_deg: Finite
    integration_sec: Finite
    n_images: int | None
    n_sources: int | None
    verdict: Verdict | None
    counts: str | None = Field(None, description="`completed` if it feeds the light curves; set_aside, retracted.")
    product_status: str | None = Field(None, description="In the data registry; null if it is not there.")


class Tile(BaseModel):
    """One tile of a mosaic."""

    group_id: str | None
    image_id: int | None
    mid_mjd: Finite
    noise_jy: Finite
    calibrator: str | None
    calibration_tables: list[str]
    carried_over: bool = Field(description="It is new in the mosaic before.")


class Artifact(BaseModel):
    """One plot, table or report."""

    id: int
    group_id: str
    name: str
    type: str | None
    category: str | None
    created_at_unix: Finite
    removed_at_unix: Finite


class MosaicDetail(MosaicEntry):
    """All that is known about one mosaic; the data registry has its life."""

    group_id: str | None
    image_id: int | None = Field(description="Its row among the images.")
    freq_ghz: Finite = Field(description="As the file says; null where that is gone.")
    bandwidth_mhz: Finite
    cellsize_arcsec: Finite
    imsize_x: int | None
    imsize_y: int | None
    validation_issues: list[str]
    n_measured: int
    n_upper_limits: int
    tiles: list[Tile]
    checks: list[Check]
    artifacts: list[Artifact]


@router.get("", response_model=Page[MosaicEntry])
async def list_of_mosaics(request: Request, wanted: Annotated[MosaicQuery, Query()]) -> Response:
    """List mosaics, the newest data first."""

    def make() -> Answer:
        with reading("products") as session:
            page = mosaics_page(session, wanted)
        return page_answer(request, page.items, page.next)

    return await answer(request, ("products", "data_registry"), make, takes_long=wanted.published is not None)


def mosaics_page(session: Session, wanted: MosaicQuery) -> Page[dict[str, Any]]:
    """Return a page of mosaics with what the data registry says of them."""
    with reading("data_registry") as registry:
        rows = list_mosaics(
            session,
            wanted.filter(),
            keep=list if wanted.published is None else _keeper(registry, published=wanted.published),
            sort=wanted.sort,
            after=key_behind(wanted.cursor),
            limit=wanted.limit + 1,
        )
        standing = standing_of(registry, [row.name for row in rows])
    return page_of(
        rows, wanted.limit, lambda row: mosaic_key(row, wanted.sort), lambda row: entry_of(row, standing.get(row.name))
    )


def _keeper(registry: Session, *, published: bool) -> Callable[[Sequence[MosaicRow]], list[MosaicRow]]:
    def keep(rows: Sequence[MosaicRow]) -> list[MosaicRow]:
        standing = standing_of(registry, [row.name for row in rows])
        return [row for row in rows if (standing.get(row.name) == ProductStatus.PUBLISHED) is published]

    return keep


_SHARED = [name for name in MosaicEntry.model_fields if name in MosaicRow._fields]
_shared_of = itemgetter(*map(MosaicRow._fields.index, _SHARED))


def entry_of(row: MosaicRow, status: str | None) -> dict[str, Any]:
    """Return a mosaic as a `MosaicEntry` has it."""
    return dict(zip(_SHARED, _shared_of(row), strict=True)) | {
        "verdict": row.verdict,
        "created_at_unix": row.created_at,
        "counts": row.status,
        "product_status": status,
    }


@router.get("/{mosaic_id}")
def show_mosaic(session: Products, registry: Registry, mosaic_id: Storable) -> MosaicDetail:
    """Return all that is known about a mosaic."""
    row = found(session, mosaic_id)
    entry = entry_of(row, standing_of(registry, [row.name]).get(row.name))
    measured, limits = count_measured(session, row.path)
    return MosaicDetail(
        **entry,
        **_from_file(row),
        group_id=row.group_id,
        image_id=image_ids(session, [row.path]).get(row.path),
        validation_issues=row.issues,
        n_measured=measured,
        n_upper_limits=limits,
        tiles=[tile_of(tile) for tile in tiles_of(session, row.group_id)],
        checks=[check_of(check) for check in checks_of(session, row.name)],
        artifacts=[*artifacts_of(session, row.group_id), *artifacts_of(session, row.name)],
    )


def _from_file(row: MosaicRow) -> dict[str, Any]:
    """Return what only the file of a mosaic knows; None for all of it where the file is gone."""
    place = footprint_at(row.path)
    if place is None:
        return dict.fromkeys(("freq_ghz", "bandwidth_mhz", "cellsize_arcsec", "imsize_x", "imsize_y"))
    image = place.image
    ny, nx = image.data.shape
    return {
        "freq_ghz": image.freq_hz / 1e9,
        "bandwidth_mhz": image.bandwidth_hz / 1e6,
        "cellsize_arcsec": 3600.0 * image.cell_deg,
        "imsize_x": nx,
        "imsize_y": ny,
    }


def found(session: Session, mosaic_id: str) -> MosaicRow:
    """Return a mosaic, or raise HTTPException 404."""
    row = get_mosaic(session, mosaic_id)
    if row is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no mosaic {mosaic_id!r}: see /api/v1/mosaics")
    return row


def tile_of(row: TileOfMosaic) -> Tile:
    """Return a tile for an answer."""
    return Tile(
        group_id=row.group_id,
        image_id=row.image_id,
        mid_mjd=row.mid_mjd,
        noise_jy=row.noise_jy,
        calibrator=row.calibrator,
        calibration_tables=row.calibration_tables,
        carried_over=not row.is_new,
    )


def artifact_of(row: ArtifactRow) -> Artifact:
    """Return an artifact for an answer."""
    return Artifact(
        id=row.id,
        group_id=row.group_id,
        name=row.name,
        type=row.type,
        category=row.category,
        created_at_unix=row.created_at,
        removed_at_unix=row.removed_at,
    )


def artifacts_of(session: Session, group_id: str | None) -> list[Artifact]:
    """Return the plots of a group."""
    return (
        [] if group_id is None else [artifact_of(row) for row in list_artifacts(session, group_id=group_id, limit=100)]
    )


@router.get("/{mosaic_id}/view", response_class=Response, responses={200: {"content": {"application/fits": {}}}})
def send_view(request: Request, session: Products, mosaic_id: Storable, pixels: Pixels = MAX_PIXELS) -> Response:
    """Return the mosaic as FITS with larger pixels, for viewers."""
    row = found(session, mosaic_id)
    return answer_reduced(request, row.path, row.name, pixels or MAX_PIXELS)


@router.get("/{mosaic_id}/preview", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def send_preview(request: Request, session: Products, mosaic_id: Storable) -> Response:
    """Return the picture with grid, beam and names that was made with the mosaic; without one, a plain one."""
    row = found(session, mosaic_id)
    ready = None if row.thumbnail_path is None else readable(row.thumbnail_path)
    if ready is not None:
        return send_file(ready, data_roots(), "image/png", f"{row.name}.png", attachment=False)
    return answer_picture(request, row.path, row.name, PREVIEW_PIXELS)


@router.get("/{mosaic_id}/thumbnail", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
def send_thumbnail(request: Request, session: Products, mosaic_id: Storable) -> Response:
    """Return a small picture as WebP."""
    row = found(session, mosaic_id)
    ready = readable(naming.beside_mosaic(Path(row.path), "thumbnail"))
    return answer_thumbnail(request, ready or row.path, row.name)


@router.get(
    "/{mosaic_id}/cutout",
    response_class=Response,
    responses={200: {"content": {"application/fits": {}, "image/png": {}}}},
)
def send_cutout(request: Request, session: Products, mosaic_id: Storable, wanted: Cutout) -> Response:
    """Return a square of the mosaic around a position."""
    row = found(session, mosaic_id)
    return answer_cutout(request, row.path, row.name, wanted)


@router.get("/{mosaic_id}/sources")
def list_sources(session: Products, mosaic_id: Storable) -> Overlay:
    """Return what was measured on the mosaic, and what the master catalogue has there."""
    row = found(session, mosaic_id)
    return overlay_of(row.path, measured_sources(session, row.path, limit=MOST_SOURCES))


@router.get("/{mosaic_id}/provenance")
def tell_provenance(request: Request, session: Products, mosaic_id: Storable) -> dict[str, Any]:
    """Return where a mosaic comes from, as PROV-JSON."""
    row = found(session, mosaic_id)
    try:
        with opened(request) as connection:
            return prov_document(describe_product(connection, row.name))
    except UnknownProductError as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{row.name} is not in the data registry yet") from error


@router.get("/{mosaic_id}/{kind}", response_class=Response, responses={200: {"content": {"application/fits": {}}}})
def send_mosaic_file(session: Products, mosaic_id: Storable, kind: MosaicFile) -> Response:
    """Return a file of the mosaic: the image, its noise, weights or number of tiles, or where it has values."""
    row = found(session, mosaic_id)
    path = file_of(row, kind)
    return send_file(path, data_roots(), "application/fits", path.name)


def file_of(row: MosaicRow, kind: MosaicFile) -> Path:
    """Return where a file of a mosaic is to be."""
    noted = {MosaicFile.FITS: row.path, MosaicFile.NOISE: row.noise_path, MosaicFile.WEIGHT: row.weight_path}.get(kind)
    return Path(noted) if noted else naming.beside_mosaic(Path(row.path), kind.value)
