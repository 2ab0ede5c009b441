"""Tiles: a gallery with filters, and a page for each with the sky viewer, its figures, QA, origin and downloads."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import Field
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dsa110_contimg.api import images as api
from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.files import data_roots, locate
from dsa110_contimg.api.images import ImageSort
from dsa110_contimg.api.mosaics import artifacts_of
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.api.sky import measured_of
from dsa110_contimg.dashboard.filters import Asked, Gallery
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database.image_queries import find_image_of_group, measured_sources, mosaics_with
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.image_origin import provenance_of

router = APIRouter(prefix="/tiles")
SHOWN_SOURCES = 25


class Wanted(Gallery):
    """Which tiles the gallery shows."""

    kind: Asked[Annotated[Storable, Field(max_length=20)]] = None
    sort: ImageSort = "-time"


@router.get("")
def tiles(request: Request, session: Products, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Show the gallery."""
    asked = api.ImageQuery.model_validate({**wanted.shared(), "kind": wanted.kind or "image", "sort": wanted.sort})
    return page(request, "tiles/list.html", found=api.images_page(session, asked), wanted=wanted)


@router.get("/{reference}")
def tile(request: Request, session: Products, reference: Storable) -> Response:
    """Show one image by its id, or the image of a group."""
    if not (reference.isascii() and reference.isdigit() and len(reference) < 18):
        image_id = find_image_of_group(session, reference)
        if image_id is None:
            raise HTTPException(
                HTTPStatus.NOT_FOUND, f"there is no image of {reference!r}: the queue says how far it is"
            )
        return RedirectResponse(f"/tiles/{image_id}", HTTPStatus.SEE_OTHER)
    row = api.found(session, int(reference))
    if row.type == "mosaic":
        return RedirectResponse(f"/mosaics/{row.field_name}", HTTPStatus.SEE_OTHER)
    context: dict[str, Any] = {
        "row": row,
        "image": api.show_image(session, row.id),
        "sources": [measured_of(source) for source in measured_sources(session, row.path, limit=SHOWN_SOURCES)],
        "artifacts": artifacts_of(session, row.group_id),
        "mosaics": mosaics_with(session, row.ms_path),
        "origin": _origin(row.path, api.name_of(row), row.type),
        "on_disk": api.on_disk(row),
    }
    return page(request, "tiles/show.html", sky=True, **context)


def _origin(path: str, name: str, kind: str) -> dict[str, Any] | None:
    """Return what made an image, or None where its file does not say."""
    try:
        record: dict[str, Any] | None = provenance_of(locate(path, data_roots(), name), name, kind)["provenance"]
    except (BadInputError, HTTPException):
        return None
    return record
