"""Mosaics: a gallery with filters, a page for each with the sky viewer, and the page of its quality."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from dsa110_contimg.api import hips
from dsa110_contimg.api import mosaics as api
from dsa110_contimg.api.databases import Products, Registry
from dsa110_contimg.api.files import readable
from dsa110_contimg.api.mosaics import MosaicSort
from dsa110_contimg.api.registry import opened
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.api.sky import measured_of
from dsa110_contimg.dashboard.filters import Asked, Gallery
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database.hips_queries import find_hips
from dsa110_contimg.database.image_queries import measured_sources
from dsa110_contimg.database.mosaic_queries import MosaicRow
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.errors import UnknownProductError

router = APIRouter(prefix="/mosaics")
SHOWN_SOURCES = 25


class Wanted(Gallery):
    """Which mosaics the gallery shows."""

    published: Asked[Literal["yes", "no"]] = None
    sort: MosaicSort = "-time"


@router.get("")
def mosaics(request: Request, session: Products, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Show the gallery."""
    published = None if wanted.published is None else wanted.published == "yes"
    asked = api.MosaicQuery.model_validate({**wanted.shared(), "published": published, "sort": wanted.sort})
    return page(request, "mosaics/list.html", found=api.mosaics_page(session, asked), wanted=wanted)


@router.get("/{mosaic_id}")
def mosaic(request: Request, session: Products, registry: Registry, mosaic_id: Storable) -> HTMLResponse:
    """Show one mosaic."""
    row = api.found(session, mosaic_id)
    hips_row = find_hips(registry, row.name)
    context: dict[str, Any] = {
        "mosaic": api.show_mosaic(session, registry, mosaic_id),
        "hips": None if hips_row is None else hips.describe(request, hips_row),
        "sources": [measured_of(source) for source in measured_sources(session, row.path, limit=SHOWN_SOURCES)],
        "product": _product(request, row),
        "files": [kind.value for kind in api.MosaicFile if readable(api.file_of(row, kind))],
    }
    return page(request, "mosaics/show.html", sky=True, **context)


def _product(request: Request, row: MosaicRow) -> dict[str, Any] | None:
    """Return what the data registry knows of a mosaic; None if it is not there yet."""
    try:
        with opened(request) as connection:
            return describe_product(connection, row.name)
    except UnknownProductError:
        return None


@router.get("/{mosaic_id}/qa")
def quality(request: Request, session: Products, registry: Registry, mosaic_id: Storable) -> HTMLResponse:
    """Show the measured values beside their verdicts, and the plots."""
    return page(request, "mosaics/qa.html", mosaic=api.show_mosaic(session, registry, mosaic_id))
