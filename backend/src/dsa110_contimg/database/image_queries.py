"""Images as readers ask for them: lists with filters, one image, the files beside it, what was measured on it.

A tile has one row of `images` per kind (image, pbcor, residual, rms ...), all with the same Measurement Set; its QA
is kept under the group id. Lists are pages by keyset (`upserts.page`); rows whose sort column is unknown come last.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, case, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.models import Image, Mosaic, MosaicGroupMember, MSIndex, Photometry, QACheck, Verdict
from dsa110_contimg.database.upserts import Key, page

UNKNOWN_LAST = 1e300
"""Stands in the key of a page for a value that is not known: behind all others."""
VERDICTS = {1: Verdict.PASSED, 2: Verdict.WARNING, 3: Verdict.FAILED}


class ImageRow(NamedTuple):
    """One image file and the tile that it was made from; None where something is not known."""

    id: int
    path: str
    type: str
    created_at: float
    field_name: str | None
    group_id: str | None
    ms_path: str
    start_mjd: float | None
    mid_mjd: float | None
    end_mjd: float | None
    center_ra_deg: float | None
    center_dec_deg: float | None
    imsize_x: int | None
    imsize_y: int | None
    cellsize_arcsec: float | None
    noise_jy: float | None
    dynamic_range: float | None
    beam_major_arcsec: float | None
    beam_minor_arcsec: float | None
    beam_pa_deg: float | None
    freq_ghz: float | None
    bandwidth_mhz: float | None
    integration_sec: float | None
    pbcor: int | None
    calibrator: str | None
    caltables: str | None
    removed_at: float | None
    verdict_rank: int | None

    @property
    def verdict(self) -> Verdict | None:
        """The worst verdict of the tile; None when nothing was checked."""
        return VERDICTS.get(self.verdict_rank or 0)

    @property
    def calibration_tables(self) -> list[str]:
        """Names of the calibration tables that were applied to the tile."""
        return table_names(self.caltables)


class MeasuredSource(NamedTuple):
    """One source as it was measured on one image."""

    source_id: str
    ra_deg: float
    dec_deg: float
    peak_jyb: float
    peak_err_jyb: float | None
    snr: float | None
    upper_limit_jyb: float | None
    flags: int | None


@dataclass(frozen=True)
class SkyFilter:
    """Which images or mosaics a list holds; None asks for nothing."""

    from_mjd: float | None = None
    to_mjd: float | None = None
    dec_min_deg: float | None = None
    dec_max_deg: float | None = None
    noise_max_jy: float | None = None
    verdict: Verdict | None = None


def verdict_rank(subject: InstrumentedAttribute[Any]) -> ColumnElement[int]:
    """Return the worst verdict of a subject's checks as a number of `VERDICTS`; unmeasured counts as warning."""
    rank = case((QACheck.verdict == "failed", 3), (QACheck.verdict == "passed", 1), else_=2)
    return select(func.max(rank)).where(QACheck.subject == subject).scalar_subquery()


def table_names(caltables: str | None) -> list[str]:
    """Return the names of calibration tables from the JSON list of their paths."""
    try:
        paths = json.loads(caltables or "[]")
    except ValueError:
        return []
    return [str(path).rstrip("/").rpartition("/")[2] for path in paths] if isinstance(paths, list) else []


_RANK = verdict_rank(MSIndex.group_id)
_OF_TILE = {"group_id", "start_mjd", "mid_mjd", "end_mjd", "calibrator", "caltables"}
_COLUMNS: list[Any] = [
    _RANK if name == "verdict_rank" else getattr(MSIndex if name in _OF_TILE else Image, name)
    for name in ImageRow._fields
]
IMAGE_SORTS: dict[str, InstrumentedAttribute[Any]] = {
    "time": MSIndex.mid_mjd,
    "created": Image.created_at,
    "noise": Image.noise_jy,
    "dec": Image.center_dec_deg,
}
"""What a list can be sorted by."""


def _all_images() -> Select[Any]:
    return select(*_COLUMNS).join(MSIndex, MSIndex.path == Image.ms_path, isouter=True)


def list_images(
    session: Session,
    wanted: SkyFilter,
    *,
    kind: str | None = "image",
    sort: str = "-time",
    after: Sequence[Key] | None = None,
    limit: int,
) -> list[ImageRow]:
    """Return images of one kind (None: of all) that meet a filter.

    Parameters
    ----------
    sort
        One of `IMAGE_SORTS`, with `-` before it for the greatest first.
    after
        `image_key` of the last row of the page before.
    """
    query = _all_images()
    if kind is not None:
        query = query.where(Image.type == kind)
    bounds = (
        (wanted.from_mjd, lambda value: MSIndex.end_mjd >= value),
        (wanted.to_mjd, lambda value: MSIndex.start_mjd <= value),
        (wanted.dec_min_deg, lambda value: Image.center_dec_deg >= value),
        (wanted.dec_max_deg, lambda value: Image.center_dec_deg <= value),
        (wanted.noise_max_jy, lambda value: Image.noise_jy <= value),
        (wanted.verdict, lambda value: _RANK.in_((rank_of(value),))),
    )
    query = query.where(*(condition(value) for value, condition in bounds if value is not None))
    rows = sorted_page(session, query, (IMAGE_SORTS[sort.removeprefix("-")], Image.id), sort, after, limit)
    return [ImageRow._make(row) for row in rows]


def rank_of(verdict: Verdict) -> int:
    """Return the number of a verdict in `VERDICTS`."""
    return next((rank for rank, known in VERDICTS.items() if known is verdict), 2)


def sorted_page(
    session: Session,
    query: Select[Any],
    key: tuple[InstrumentedAttribute[Any], InstrumentedAttribute[int]],
    sort: str,
    after: Sequence[Key] | None,
    limit: int,
) -> list[Row[Any]]:
    """Return a page of a query that is sorted by a column and an id; rows without a value in it come last.

    Parameters
    ----------
    after
        (value, id) of the last row of the page before; the value is `UNKNOWN_LAST` where there was none.
    """
    column, number = key
    descending, at_end = sort.startswith("-"), after is not None and after[0] == UNKNOWN_LAST
    rows: list[Row[Any]] = []
    if not at_end:
        known = page(query.where(column.is_not(None)), key, after=after, limit=limit, descending=descending)
        rows += session.execute(known)
    if len(rows) < limit:
        behind = (after[1],) if at_end and after is not None else None
        unknown = query.where(column.is_(None))
        rest = page(unknown, (number,), after=behind, limit=limit - len(rows), descending=descending)
        rows += session.execute(rest)
    return rows


def place_of(value: float | None, row_id: int) -> tuple[float, int]:
    """Return the place of a row in a sorted list, as `sorted_page` goes on behind it."""
    return UNKNOWN_LAST if value is None else value, row_id


def image_key(row: ImageRow, sort: str) -> tuple[float, int]:
    """Return the place of a row in a sorted list, to go on behind it."""
    names = {"time": row.mid_mjd, "created": row.created_at, "noise": row.noise_jy, "dec": row.center_dec_deg}
    return place_of(names[sort.removeprefix("-")], row.id)


def get_image(session: Session, image_id: int) -> ImageRow | None:
    """Return one image by its id."""
    row = session.execute(_all_images().where(Image.id == image_id)).first()
    return None if row is None else ImageRow._make(row)


def images_beside(session: Session, row: ImageRow) -> list[ImageRow]:
    """Return the images that were made together with one, itself included, by kind.

    Those of a tile share its Measurement Set and the beginning of their paths; a mosaic's reference set is that of one
    of its tiles, whose images are others.
    """
    stem = row.path.rpartition("/")[2].partition(".img-")[0] if ".img-" in row.path else None
    others = session.execute(_all_images().where(Image.ms_path == row.ms_path).order_by(Image.type, Image.id))
    rows = [ImageRow._make(other) for other in others]
    if stem is None:
        return [other for other in rows if other.id == row.id]
    return [other for other in rows if other.path.rpartition("/")[2].startswith(f"{stem}.img-")]


def find_image_of_group(session: Session, group_id: str) -> int | None:
    """Return the id of the image of a tile."""
    query = select(Image.id).join(MSIndex, MSIndex.path == Image.ms_path)
    return session.scalar(query.where(MSIndex.group_id == group_id, Image.type == "image").order_by(Image.id.desc()))


def mosaics_with(session: Session, ms_path: str) -> list[str]:
    """Return the names of the mosaics that hold a tile."""
    query = select(Mosaic.name).join(MosaicGroupMember, MosaicGroupMember.group_id == Mosaic.group_id)
    return list(session.scalars(query.where(MosaicGroupMember.ms_path == ms_path).order_by(Mosaic.name)))


def image_ids(session: Session, paths: Sequence[str]) -> dict[str, int]:
    """Return the ids of images by path."""
    rows = session.execute(select(Image.path, Image.id).where(Image.path.in_(list(paths))))
    return {path: image_id for path, image_id in rows}  # noqa: C416 - a result is no mapping, but looks like one


def measured_sources(session: Session, path: str, *, limit: int) -> list[MeasuredSource]:
    """Return what was measured on an image, the brightest first."""
    columns = [getattr(Photometry, name) for name in MeasuredSource._fields]
    query = select(*columns).where(Photometry.image_path == path).order_by(Photometry.peak_jyb.desc()).limit(limit)
    return [MeasuredSource._make(row) for row in session.execute(query)]


def count_measured(session: Session, path: str) -> tuple[int, int]:
    """Return how many sources were measured on an image, and of how many there is only an upper limit."""
    limits = func.count(Photometry.upper_limit_jyb)
    found = session.execute(select(func.count(), limits).where(Photometry.image_path == path)).one()
    return int(found[0]), int(found[1])
