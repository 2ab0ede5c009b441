"""Questions about tiles: Measurement Sets with what became of them, and the noise of their images over time.

A tile is known by its group; only rows of an older installation lack one, and those take the name of their folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import Image, MosaicGroupMember, MSIndex, QACheck, Verdict
from dsa110_contimg.database.queue_queries import parse_names
from dsa110_contimg.database.upserts import page

WORST_FIRST = (Verdict.FAILED, Verdict.WARNING, Verdict.UNMEASURED, Verdict.PASSED)


@dataclass(frozen=True)
class TileRow:
    """One Measurement Set."""

    group_id: str
    stage: str | None
    status: str | None
    start_mjd: float | None
    mid_mjd: float | None
    end_mjd: float | None
    stage_updated_unix: float | None
    field_name: str | None
    ra_deg: float | None
    dec_deg: float | None
    calibrator: str | None
    """A calibrator that transits in the tile."""
    calibrated: bool
    caltables: list[str]
    """Names of the tables that were applied, in order."""
    mosaic_group: str | None
    removed_unix: float | None
    image_id: int | None = None
    noise_jy: float | None = None
    verdict: str | None = None
    """The worst verdict of its checks; None before the first."""


@dataclass(frozen=True)
class NoisePoint:
    """The noise of one tile's image, and what it would be without sources and interference."""

    group_id: str
    mid_mjd: float
    noise_jy: float
    thermal_jy: float | None
    """None where the ratio to it was not measured."""


def list_tiles(
    session: Session,
    *,
    stage: str | None = None,
    status: str | None = None,
    span_mjd: tuple[float | None, float | None] = (None, None),
    after: tuple[float, str] | None = None,
    limit: int,
    descending: bool = True,
) -> list[TileRow]:
    """Return tiles that have a time, the newest sky first unless told otherwise.

    Parameters
    ----------
    session
        Of `products`.
    span_mjd
        Bounds of the middle of the tile.
    after
        (mid_mjd, group_id) of the last row of the page before.
    """
    query = select(MSIndex).where(MSIndex.mid_mjd.is_not(None), MSIndex.group_id.is_not(None))
    if stage is not None:
        query = query.where(MSIndex.stage == stage)
    if status is not None:
        query = query.where(MSIndex.status == status)
    start_mjd, end_mjd = span_mjd
    if start_mjd is not None:
        query = query.where(MSIndex.mid_mjd >= start_mjd)
    if end_mjd is not None:
        query = query.where(MSIndex.mid_mjd <= end_mjd)
    key = (MSIndex.mid_mjd, MSIndex.group_id)
    rows = session.scalars(page(query, key, after=after, limit=limit, descending=descending)).all()
    return _complete(session, rows)


def find_tile(session: Session, group_id: str) -> TileRow | None:
    """Return the tile of a group, or None."""
    row = session.scalars(select(MSIndex).where(MSIndex.group_id == group_id).limit(1)).first()
    if row is None:
        named = MSIndex.path.endswith(f"/{group_id}.ms", autoescape=True)
        row = session.scalars(select(MSIndex).where(MSIndex.group_id.is_(None), named).limit(1)).first()
    return None if row is None else _complete(session, [row])[0]


def tiles_of(session: Session, groups: Sequence[str]) -> dict[str, TileRow]:
    """Return the tiles of those groups that have one."""
    rows = session.scalars(select(MSIndex).where(MSIndex.group_id.in_(groups))).all()
    return {tile.group_id: tile for tile in _complete(session, rows)}


def _complete(session: Session, rows: Sequence[MSIndex]) -> list[TileRow]:
    """Add image, noise and verdict to tiles: two statements for all of them."""
    images = _images(session, [row.path for row in rows])
    verdicts = worst_verdicts(session, [row.group_id for row in rows if row.group_id is not None])
    return [_tile(row, images.get(row.path), verdicts.get(row.group_id or "")) for row in rows]


def _images(session: Session, paths: Sequence[str]) -> dict[str, tuple[int, float | None]]:
    """Return id and noise of the newest image of each Measurement Set."""
    query = select(Image.ms_path, Image.id, Image.noise_jy).where(Image.ms_path.in_(paths), Image.type == "image")
    return {path: (number, noise) for path, number, noise in session.execute(query.order_by(Image.id))}


def worst_verdicts(session: Session, subjects: Sequence[str]) -> dict[str, str]:
    """Return the worst verdict of the checks of each subject that has any."""
    found: dict[str, set[str]] = {}
    for subject, verdict in session.execute(
        select(QACheck.subject, QACheck.verdict).where(QACheck.subject.in_(subjects)).distinct()
    ):
        found.setdefault(subject, set()).add(verdict)
    return {
        subject: next(one.value for one in WORST_FIRST if one.value in verdicts) for subject, verdicts in found.items()
    }


def _tile(row: MSIndex, image: tuple[int, float | None] | None, verdict: str | None) -> TileRow:
    return TileRow(
        group_id=row.group_id or Path(row.path).stem,
        stage=row.stage,
        status=row.status,
        start_mjd=row.start_mjd,
        mid_mjd=row.mid_mjd,
        end_mjd=row.end_mjd,
        stage_updated_unix=row.stage_updated_at,
        field_name=row.field_name,
        ra_deg=row.pointing_ra_deg,
        dec_deg=row.pointing_dec_deg,
        calibrator=row.calibrator,
        calibrated=bool(row.cal_applied),
        caltables=[Path(path).name for path in parse_names(row.caltables)],
        mosaic_group=row.placed_in,
        removed_unix=row.removed_at,
        image_id=None if image is None else image[0],
        noise_jy=None if image is None else image[1],
        verdict=verdict,
    )


def mosaic_groups_of(session: Session, group_id: str) -> list[str]:
    """Return the mosaic groups that hold the tile of a group, the one in which it is new first."""
    query = (
        select(MosaicGroupMember.group_id)
        .join(MSIndex, MSIndex.path == MosaicGroupMember.ms_path)
        .where(MSIndex.group_id == group_id)
        .order_by(MosaicGroupMember.is_new.desc(), MosaicGroupMember.group_id)
    )
    return list(session.scalars(query))


def noise_over_time(session: Session, *, start_mjd: float, end_mjd: float, limit: int) -> list[NoisePoint]:
    """Return the noise of the newest images of tiles in a span of time, in order of time."""
    query = (
        select(MSIndex.group_id, MSIndex.mid_mjd, Image.noise_jy, QACheck.value)
        .join(Image, (Image.ms_path == MSIndex.path) & (Image.type == "image"))
        .outerjoin(QACheck, (QACheck.subject == MSIndex.group_id) & (QACheck.name == "noise_over_thermal"))
        .where(MSIndex.mid_mjd.between(start_mjd, end_mjd), Image.noise_jy.is_not(None), MSIndex.group_id.is_not(None))
        .order_by(MSIndex.mid_mjd.desc())
        .limit(limit)
    )
    return [
        NoisePoint(group_id, mjd, noise, noise / ratio if ratio else None)
        for group_id, mjd, noise, ratio in reversed(session.execute(query).all())
        if group_id is not None and mjd is not None and noise is not None
    ]
