"""Mosaics as readers ask for them: lists with filters, one mosaic, its tiles.

Whether a mosaic is published stands in the data registry, a database of its own: a list that is filtered by that is
read in parts until it is full.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.image_queries import (
    VERDICTS,
    SkyFilter,
    place_of,
    rank_of,
    sorted_page,
    table_names,
    verdict_rank,
)
from dsa110_contimg.database.models import DataProduct, Image, Mosaic, MosaicGroupMember, MSIndex, Verdict
from dsa110_contimg.database.upserts import Key

PART = 200
"""Rows read at once while a list is filtered by what another database says."""
Standing = Mapping[str, str]
"""Status in the data registry by mosaic."""


class MosaicRow(NamedTuple):
    """One mosaic; None where something is not known."""

    id: int
    name: str
    path: str
    created_at: float
    start_mjd: float
    end_mjd: float
    integration_sec: float | None
    n_images: int | None
    n_sources: int | None
    center_ra_deg: float | None
    center_dec_deg: float | None
    dec_min_deg: float | None
    dec_max_deg: float | None
    noise_jy: float | None
    beam_major_arcsec: float | None
    beam_minor_arcsec: float | None
    beam_pa_deg: float | None
    group_id: str | None
    status: str | None
    validation_issues: str | None
    thumbnail_path: str | None
    noise_path: str | None
    weight_path: str | None
    verdict_rank: int | None

    @property
    def verdict(self) -> Verdict | None:
        """The worst verdict; None when nothing was checked."""
        return VERDICTS.get(self.verdict_rank or 0)

    @property
    def mid_mjd(self) -> float:
        """The middle of the data."""
        return 0.5 * (self.start_mjd + self.end_mjd)

    @property
    def issues(self) -> list[str]:
        """What validation found, one sentence each."""
        try:
            told = json.loads(self.validation_issues or "[]")
        except ValueError:
            return [str(self.validation_issues)]
        return [str(one) for one in told] if isinstance(told, list) else [str(told)]


class TileOfMosaic(NamedTuple):
    """One tile of a mosaic."""

    group_id: str | None
    image_id: int | None
    mid_mjd: float | None
    noise_jy: float | None
    calibrator: str | None
    caltables: str | None
    is_new: int

    @property
    def calibration_tables(self) -> list[str]:
        """Names of the calibration tables that were applied."""
        return table_names(self.caltables)


_RANK = verdict_rank(Mosaic.name)
_COLUMNS: list[Any] = [_RANK if name == "verdict_rank" else getattr(Mosaic, name) for name in MosaicRow._fields]
_MOSAICS = select(*_COLUMNS)
MOSAIC_SORTS: dict[str, InstrumentedAttribute[Any]] = {
    "time": Mosaic.start_mjd,
    "created": Mosaic.created_at,
    "noise": Mosaic.noise_jy,
    "dec": Mosaic.center_dec_deg,
    "sources": Mosaic.n_sources,
}
"""What a list can be sorted by."""


def list_mosaics(
    session: Session,
    wanted: SkyFilter,
    *,
    keep: Callable[[Sequence[MosaicRow]], list[MosaicRow]] = list,
    sort: str = "-time",
    after: Sequence[Key] | None = None,
    limit: int,
) -> list[MosaicRow]:
    """Return mosaics that meet a filter.

    Parameters
    ----------
    keep
        Returns those of some rows that are wanted, where that does not stand in this database.
    sort
        One of `MOSAIC_SORTS`, with `-` before it for the greatest first.
    after
        `mosaic_key` of the last row of the page before.
    """
    found: list[MosaicRow] = []
    size = limit if keep is list else max(limit, PART)
    while len(found) < limit:
        rows = _part(session, wanted, sort, after, size)
        found += keep(rows)
        if len(rows) < size:
            break
        after = mosaic_key(rows[-1], sort)
    return found[:limit]


def _part(session: Session, wanted: SkyFilter, sort: str, after: Sequence[Key] | None, limit: int) -> list[MosaicRow]:
    bounds = (
        (wanted.from_mjd, lambda value: Mosaic.end_mjd >= value),
        (wanted.to_mjd, lambda value: Mosaic.start_mjd <= value),
        (wanted.dec_min_deg, lambda value: Mosaic.dec_max_deg >= value),
        (wanted.dec_max_deg, lambda value: Mosaic.dec_min_deg <= value),
        (wanted.noise_max_jy, lambda value: Mosaic.noise_jy <= value),
        (wanted.verdict, lambda value: _RANK.in_((rank_of(value),))),
    )
    query = _MOSAICS.where(*(condition(value) for value, condition in bounds if value is not None))
    rows = sorted_page(session, query, (MOSAIC_SORTS[sort.removeprefix("-")], Mosaic.id), sort, after, limit)
    return [MosaicRow._make(row) for row in rows]


def mosaic_key(row: MosaicRow, sort: str) -> tuple[float, int]:
    """Return the place of a row in a sorted list, to go on behind it."""
    names = {
        "time": row.start_mjd,
        "created": row.created_at,
        "noise": row.noise_jy,
        "dec": row.center_dec_deg,
        "sources": row.n_sources,
    }
    return place_of(names[sort.removeprefix("-")], row.id)


def get_mosaic(session: Session, name: str) -> MosaicRow | None:
    """Return one mosaic by its name, or by the number of its row."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 18 else None
    which = Mosaic.name == name if number is None else Mosaic.id == number
    row = session.execute(_MOSAICS.where(which).order_by(Mosaic.id.desc())).first()
    return None if row is None else MosaicRow._make(row)


def tiles_of(session: Session, group_id: str | None) -> list[TileOfMosaic]:
    """Return the tiles of a mosaic group in order."""
    query = (
        select(
            MSIndex.group_id,
            Image.id,
            MSIndex.mid_mjd,
            Image.noise_jy,
            MSIndex.calibrator,
            MSIndex.caltables,
            MosaicGroupMember.is_new,
        )
        .join(MSIndex, MSIndex.path == MosaicGroupMember.ms_path)
        .join(Image, Image.path == MSIndex.imagename, isouter=True)
        .where(MosaicGroupMember.group_id == group_id)
        .order_by(MosaicGroupMember.position)
    )
    return [TileOfMosaic._make(row) for row in session.execute(query)]


def standing_of(registry: Session, names: Sequence[str]) -> Standing:
    """Return the status in the data registry of those mosaics that are in it."""
    found: dict[str, str] = {}
    for part in in_parts(list(names)):
        rows = registry.execute(select(DataProduct.data_id, DataProduct.status).where(DataProduct.data_id.in_(part)))
        found.update({data_id: status for data_id, status in rows})  # noqa: C416 - as in `image_ids`
    return found
