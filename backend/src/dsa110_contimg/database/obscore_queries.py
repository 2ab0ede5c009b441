"""Images as observations (ObsCore 1.1): the restored images of tiles and the mosaics that stand, the newest first."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import Image, Mosaic, MSIndex

PART = 500
STANDING = ("completed", "set_aside")


class Observed(NamedTuple):
    """One image as an observation; None where something is not known."""

    image_id: int
    path: str
    type: str
    mosaic: str | None
    group_id: str | None
    field_name: str | None
    start_mjd: float | None
    end_mjd: float | None
    center_ra_deg: float | None
    center_dec_deg: float | None
    imsize_x: int | None
    imsize_y: int | None
    cellsize_arcsec: float | None
    beam_major_arcsec: float | None
    freq_ghz: float | None
    bandwidth_mhz: float | None
    integration_sec: float | None
    noise_jy: float | None


def observations(
    session: Session, *, from_mjd: float | None = None, to_mjd: float | None = None, image_id: int | None = None
) -> Iterator[Observed]:
    """Yield observations that overlap a span of time, the newest entry first."""
    start, end = func.coalesce(Mosaic.start_mjd, MSIndex.start_mjd), func.coalesce(Mosaic.end_mjd, MSIndex.end_mjd)
    own = {
        "image_id": Image.id,
        "mosaic": Mosaic.name,
        "group_id": MSIndex.group_id,
        "start_mjd": start,
        "end_mjd": end,
    }
    own["integration_sec"] = func.coalesce(Mosaic.integration_sec, Image.integration_sec)
    columns: list[Any] = [own[name] if name in own else getattr(Image, name) for name in Observed._fields]
    query = (
        select(*columns)
        .join(MSIndex, MSIndex.path == Image.ms_path, isouter=True)
        .join(Mosaic, Mosaic.path == Image.path, isouter=True)
        .where(Image.type.in_(("image", "mosaic")), Image.removed_at.is_(None))
        .where(or_(Image.type == "image", Mosaic.status.in_(STANDING), Mosaic.status.is_(None)))
        .order_by(Image.id.desc())
        .limit(PART)
    )
    if from_mjd is not None:
        query = query.where(end >= from_mjd)
    if to_mjd is not None:
        query = query.where(start <= to_mjd)
    if image_id is not None:
        query = query.where(Image.id == image_id)
    last = None
    while True:
        rows = session.execute(query if last is None else query.where(Image.id < last)).all()
        yield from map(Observed._make, rows)
        if len(rows) < PART:
            return
        last = rows[-1][0]
