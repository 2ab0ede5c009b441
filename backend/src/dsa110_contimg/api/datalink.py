"""DataLink (IVOA 1.1) on images: from an identifier to the files, pictures, provenance and the cutout service.

A mosaic has its image, picture, noise map, weights, tiles per pixel, coverage, HiPS and tiles; a tile its image, the
other images that were made with it, and its mosaics. An identifier that names nothing is a row with `NotFoundFault`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from dsa110_contimg.api import mosaics
from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.files import readable, size_of
from dsa110_contimg.api.obscore import AUTHORITY, parse_did
from dsa110_contimg.api.pictures import MAX_SIZE_ARCMIN
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database.image_queries import get_image, images_beside, mosaics_with
from dsa110_contimg.database.mosaic_queries import MosaicRow, get_mosaic, tiles_of
from dsa110_contimg.formats import vosi
from dsa110_contimg.formats.link_table import CutoutService, link_table
from dsa110_contimg.formats.row_files import Column

router = APIRouter(prefix="/datalink", tags=["virtual observatory"])
MEDIA_TYPE = "application/x-votable+xml;content=datalink"
FITS, PNG, JSON = "application/fits", "image/png", "application/json"
MOST_IDS = 100
_TILE_KINDS = {
    "pbcor": ("#derivation", "corrected for the primary beam"),
    "rms": ("#noise", "noise map"),
    "beam": ("#auxiliary", "primary beam"),
    "residual": ("#auxiliary", "residual of CLEAN"),
    "background": ("#auxiliary", "background"),
}
_MOSAIC_KINDS = {
    mosaics.MosaicFile.FITS: ("#this", "the mosaic"),
    mosaics.MosaicFile.NOISE: ("#noise", "noise map"),
    mosaics.MosaicFile.WEIGHT: ("#weight", "weights"),
    mosaics.MosaicFile.COVERAGE: ("#auxiliary", "tiles per pixel"),
    mosaics.MosaicFile.MOC: ("#auxiliary", "coverage (MOC)"),
}
COLUMNS: dict[str, Column] = {
    "ID": Column("", "identifier that was asked for", "meta.id;meta.main", str),
    "access_url": Column("", "address", "meta.ref.url", str),
    "service_def": Column("", "service of this document", "meta.ref", str),
    "error_message": Column("", "why there is no link", "meta.code.error", str),
    "semantics": Column("", "what it is to the identifier", "meta.code", str),
    "description": Column("", "in words", "meta.note", str),
    "content_type": Column("", "media type", "meta.code.mime", str),
    "content_length": Column("byte", "size", "phys.size;meta.file", int),
}


class Link(NamedTuple):
    """One row; `route` and its parameters make the address."""

    semantics: str
    description: str
    content_type: str
    address: str
    path: Path | None = None


@router.get("", name="datalink", response_class=Response)
def links(
    request: Request,
    session: Products,
    asked: Annotated[list[Storable], Query(alias="ID", max_length=MOST_IDS)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Return the links of one or more identifiers, as a VOTable."""
    rows: list[list[str | int | None]] = []
    services: dict[str, CutoutService] = {}
    for did in asked:
        rows += _rows(request, session, did, services)
    return Response(link_table(COLUMNS, rows, list(services.values())), media_type=MEDIA_TYPE)


def _rows(
    request: Request, session: Session, did: str, services: dict[str, CutoutService]
) -> Iterator[list[str | int | None]]:
    named = parse_did(did)
    found: tuple[list[Link], str] | None = None
    if named is not None:
        kind, identity = named
        found = _of_mosaic(request, session, identity) if kind == "mosaics" else _of_image(request, session, identity)
    if found is None:
        # XML has no way to write some characters.
        shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in did)
        yield [shown, "", "", f"NotFoundFault: {shown[:200]} names no image here", "#this", "", "", None]
        return
    links, cutout = found
    for link in links:
        yield [did, link.address, "", "", link.semantics, link.description, link.content_type, _size(link.path)]
    service = services.setdefault(cutout, CutoutService(f"cutout{len(services) + 1}", cutout, MAX_SIZE_ARCMIN))
    yield [did, "", service.name, "", "#cutout", "a square around a position, as FITS or PNG", FITS, None]


def _of_mosaic(request: Request, session: Session, name: str) -> tuple[list[Link], str] | None:
    row = get_mosaic(session, name)
    if row is None or row.name != name:
        return None
    here = str(request.url_for("show_mosaic", mosaic_id=row.name))
    found = [
        Link(semantics, words, FITS, f"{here}/{kind.value}", mosaics.file_of(row, kind))
        for kind, (semantics, words) in _MOSAIC_KINDS.items()
        if readable(mosaics.file_of(row, kind)) is not None
    ]
    found += [
        Link("#preview", "picture with grid, beam and names", PNG, f"{here}/preview"),
        Link("#thumbnail", "small picture", "image/webp", f"{here}/thumbnail"),
        Link("#documentation", "provenance (PROV-JSON)", JSON, f"{here}/provenance"),
        *_progenitors(request, session, row),
    ]
    return found, f"{here}/cutout"


def _progenitors(request: Request, session: Session, row: MosaicRow) -> Iterator[Link]:
    for tile in tiles_of(session, row.group_id):
        if tile.image_id is not None:
            link = request.url_for("datalink").include_query_params(ID=f"{AUTHORITY}/images?{tile.image_id}")
            yield Link("#progenitor", f"tile {tile.group_id}", MEDIA_TYPE, str(link))


def _of_image(request: Request, session: Session, identity: str) -> tuple[list[Link], str] | None:
    row = (
        get_image(session, int(identity)) if identity.isascii() and identity.isdigit() and len(identity) < 18 else None
    )
    if row is None:
        return None
    here = str(request.url_for("show_image", image_id=row.id))
    found = [Link("#this", f"the image ({row.type})", FITS, f"{here}/fits", Path(row.path))]
    for other in images_beside(session, row):
        semantics, words = _TILE_KINDS.get(other.type, ("#auxiliary", other.type))
        if other.id != row.id:
            beside = str(request.url_for("send_fits", image_id=other.id))
            found.append(Link(semantics, words, FITS, beside, Path(other.path)))
    found += [
        Link("#preview", "picture", PNG, f"{here}/preview"),
        Link("#thumbnail", "small picture", "image/webp", f"{here}/thumbnail"),
        Link("#documentation", "provenance (PROV-JSON)", JSON, f"{here}/provenance"),
    ]
    for name in mosaics_with(session, row.ms_path):
        link = request.url_for("datalink").include_query_params(ID=f"{AUTHORITY}/mosaics?{name}")
        found.append(Link("#derivation", f"in {name}", MEDIA_TYPE, str(link)))
    return found, f"{here}/cutout"


def _size(path: Path | None) -> int | None:
    return None if path is None else size_of(path)


@router.get("/capabilities", response_class=Response)
async def datalink_capabilities(request: Request) -> Response:
    """Return what the service can do, as VOSI has it."""
    here = str(request.url_for("datalink"))
    told = [
        vosi.Capability("ivo://ivoa.net/std/DataLink#links-1.1", here, base=True),
        vosi.Capability("ivo://ivoa.net/std/VOSI#capabilities", f"{here}/capabilities"),
        vosi.Capability("ivo://ivoa.net/std/VOSI#availability", f"{here}/availability"),
    ]
    return Response(vosi.capabilities(told), media_type=vosi.MEDIA_TYPE)


@router.get("/availability", response_class=Response)
async def datalink_availability() -> Response:
    """Return that the service is up, as VOSI has it."""
    return Response(vosi.availability(None), media_type=vosi.MEDIA_TYPE)
