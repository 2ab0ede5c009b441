"""Cutouts and small pictures of images: made when they are asked for, remembered while they are small.

A cutout is a part of an image with its own coordinates, as FITS or as PNG. What it is made from is a file that a row
names; how large it may be is limited, so that no question is answered by sending, or drawing, a whole survey.
"""

import functools
import hashlib
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.conditional import NOT_MODIFIED, matches
from dsa110_contimg.api.files import data_roots, locate
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import cutouts, fits_image
from dsa110_contimg.visibilities import SkyPosition

MAX_SIZE_ARCMIN = 120.0
MAX_PIXELS = 2048
"""Of a cutout, on a side."""
THUMBNAIL_PIXELS, PREVIEW_PIXELS = 280, 1400
MAGNIFIED_TO = 96
"""Pixels of a picture whose cutout has fewer: stamps are looked at, not measured."""


class Format(StrEnum):
    """What a cutout is written as."""

    FITS = "fits"
    PNG = "png"


class CutoutQuery(BaseModel, extra="forbid"):
    """Which part of an image is wanted."""

    ra_deg: float = Field(alias="ra", ge=0.0, le=360.0, description="Right ascension of the middle, ICRS, deg.")
    dec_deg: float = Field(alias="dec", ge=-90.0, le=90.0, description="Declination of the middle, deg.")
    size_arcmin: float = Field(6.0, gt=0.0, le=MAX_SIZE_ARCMIN, description="Side of the square, arcmin.")
    format: Format = Field(Format.FITS, description="fits keeps the values; png is a picture of them.")


Cutout = Annotated[CutoutQuery, Query()]
Pixels = Annotated[
    int | None,
    Query(ge=64, le=MAX_PIXELS, description="Longer side at most; blocks of pixels become one. All of them without."),
]


def answer_cutout(request: Request, path: str, name: str, wanted: CutoutQuery) -> Response:
    """Return a part of an image.

    Raises
    ------
    HTTPException
        404 if the image has no value there, or its file is gone; 422 if it would be too large.
    """
    found = locate(path, data_roots(), name)
    tag = tag_of(found, wanted.ra_deg, wanted.dec_deg, wanted.size_arcmin, wanted.format.value)
    if matches(request.headers, tag):
        return Response(status_code=NOT_MODIFIED, headers=_kept(tag))
    try:
        body = _cut(found, name, wanted)
    except BadInputError as error:
        raise damaged(name) from error
    place = f"{wanted.ra_deg:.4f}{wanted.dec_deg:+.4f}"
    kind = {Format.FITS: "application/fits", Format.PNG: "image/png"}[wanted.format]
    shown = "inline" if wanted.format is Format.PNG else "attachment"
    headers = _kept(tag) | {"Content-Disposition": f'{shown}; filename="{plain(name)}_{place}.{wanted.format.value}"'}
    return Response(body, media_type=kind, headers=headers)


def _cut(path: Path, name: str, wanted: CutoutQuery) -> bytes:
    size_deg = wanted.size_arcmin / 60.0
    across = cutouts.pixels_across(path, size_deg)
    if across > MAX_PIXELS:
        raise HTTPException(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"size_arcmin: {wanted.size_arcmin:g}' of {name} are {across} pixels on a side; {MAX_PIXELS} are the most",
        )
    part = cutouts.cutout(path, SkyPosition(wanted.ra_deg % 360.0, wanted.dec_deg), size_deg)
    if part is None:
        raise HTTPException(
            HTTPStatus.NOT_FOUND, f"{name} has no value at {wanted.ra_deg:.5f} {wanted.dec_deg:+.5f}, nor near it"
        )
    if wanted.format is Format.FITS:
        return fits_image.content(part)
    return cutouts.picture(part, magnify=max(1, -(-MAGNIFIED_TO // across)))


def answer_picture(request: Request, path: str, name: str, pixels: int) -> Response:
    """Return a picture of a whole image as PNG, its longer side at most *pixels* long.

    Raises
    ------
    HTTPException
        404 if its file is gone, 410 if it is damaged.
    """
    return _answer_drawn(request, locate(path, data_roots(), name), name, pixels, _drawn)


def answer_thumbnail(request: Request, path: str | Path, name: str, pixels: int = THUMBNAIL_PIXELS) -> Response:
    """Return a small picture as WebP, of an image or of a picture that is ready; errors as `answer_picture`."""
    return _answer_drawn(request, locate(path, data_roots(), name), name, pixels, _small)


def _answer_drawn(
    request: Request, found: Path, name: str, pixels: int, draw: Callable[[Path, int, int], bytes]
) -> Response:
    tag = tag_of(found, pixels)
    if matches(request.headers, tag):
        return Response(status_code=NOT_MODIFIED, headers=_kept(tag))
    try:
        body = draw(found, found.stat().st_mtime_ns, pixels)
    except (BadInputError, OSError) as error:
        raise damaged(name) from error
    kind = "image/png" if draw is _drawn else "image/webp"
    return Response(body, media_type=kind, headers=_kept(tag))


def answer_reduced(request: Request, path: str, name: str, pixels: int) -> Response:
    """Return a whole image as FITS with larger pixels, for viewers; errors as `answer_picture`."""
    found = locate(path, data_roots(), name)
    tag = tag_of(found, "fits", pixels)
    if matches(request.headers, tag):
        return Response(status_code=NOT_MODIFIED, headers=_kept(tag))
    try:
        body = fits_image.content(cutouts.reduced(found, pixels))
    except BadInputError as error:
        raise damaged(name) from error
    headers = _kept(tag) | {"Content-Disposition": f'attachment; filename="{plain(name)}-{pixels}.fits"'}
    return Response(body, media_type="application/fits", headers=headers)


@functools.lru_cache(maxsize=16)
def _drawn(path: Path, _modified: int, pixels: int) -> bytes:
    return cutouts.picture(cutouts.reduced(path, pixels))


@functools.lru_cache(maxsize=1024)
def _small(path: Path, _modified: int, pixels: int) -> bytes:
    ready = path if path.suffix == ".png" else cutouts.picture(cutouts.reduced(path, pixels))
    return cutouts.small(ready, pixels)


def damaged(name: str) -> HTTPException:
    """Return what is answered where a file can not be read as an image."""
    return HTTPException(HTTPStatus.GONE, f"the file of {name} is damaged, or no image on the sky: make it again")


def plain(name: str) -> str:
    """Return a name as a file may carry it in a header."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-+") else "_" for letter in name)


def tag_of(path: Path, *wanted: object) -> str:
    """Return the entity tag of what is made from a file as it is now."""
    state = path.stat()
    told = f"{state.st_mtime_ns} {state.st_size} {path} {wanted}"
    return f'"{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"'


def _kept(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache"}
