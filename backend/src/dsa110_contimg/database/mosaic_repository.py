"""Mosaic groups and mosaics.

A group is ten tiles in a row: those that are new in it, and those carried over from the group before. A tile is
new in one group only, which the database enforces; of two processes that form the same group one succeeds.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dsa110_contimg.database.explanations import is_duplicate
from dsa110_contimg.database.models import Image, Mosaic, MosaicGroup, MosaicGroupMember, MSIndex
from dsa110_contimg.database.upserts import list_page, upsert
from dsa110_contimg.errors import MosaicError

MEMBER_STAGES = ("converted", "calibrated", "imaged", "photometry_complete")
_SHARED = (
    "beam_major_arcsec",
    "beam_minor_arcsec",
    "beam_pa_deg",
    "noise_jy",
    "center_ra_deg",
    "center_dec_deg",
    "integration_sec",
)


class MosaicRepository:
    """Mosaics and their groups; every method takes a session of `products` first."""

    @staticmethod
    def create_group(
        session: Session, group_id: str, ms_paths: Sequence[str], *, now: float, carried: Collection[str] = ()
    ) -> bool:
        """Form a group of tiles in time order, of which the carried ones are new in another group.

        Returns
        -------
        bool
            False when the group exists already, or a new tile is already new in another group.
        """
        try:
            with session.begin_nested():
                session.add(
                    MosaicGroup(group_id=group_id, ms_paths=json.dumps([str(p) for p in ms_paths]), created_at=now)
                )
                session.flush()
                session.add_all(
                    MosaicGroupMember(group_id=group_id, ms_path=str(p), position=i, is_new=int(p not in carried))
                    for i, p in enumerate(ms_paths)
                )
                fresh = [str(p) for p in ms_paths if p not in carried]
                session.execute(update(MSIndex).where(MSIndex.path.in_(fresh)).values(placed_in=group_id))
        except IntegrityError as error:
            if not is_duplicate(error):
                raise
            return False
        return True

    @staticmethod
    def unplaced_tiles(session: Session) -> list[MSIndex]:
        """Return tiles that may join a group and are not yet new in one, in time order."""
        query = (
            select(MSIndex)
            .where(MSIndex.stage.in_(MEMBER_STAGES), MSIndex.status.in_(("ok", "converted")))
            .where(MSIndex.placed_in.is_(None))
            .order_by(MSIndex.mid_mjd, MSIndex.path)
        )
        return list(session.scalars(query))

    @staticmethod
    def members(session: Session, group_id: str) -> list[MSIndex]:
        """Return a group's tiles in order."""
        query = (
            select(MSIndex)
            .join(MosaicGroupMember, MosaicGroupMember.ms_path == MSIndex.path)
            .where(MosaicGroupMember.group_id == group_id)
            .order_by(MosaicGroupMember.position)
        )
        return list(session.scalars(query))

    @staticmethod
    def list_groups(session: Session, *, status: str | None = None) -> list[MosaicGroup]:
        """Return groups, the oldest first."""
        query = select(MosaicGroup).order_by(MosaicGroup.group_id)
        if status is not None:
            query = query.where(MosaicGroup.status == status)
        return list(session.scalars(query))

    @staticmethod
    def update_group(session: Session, group_id: str, **columns: str | float | None) -> None:
        """Set columns of a group."""
        changed = session.execute(
            update(MosaicGroup)
            .where(MosaicGroup.group_id == group_id)
            .values(**columns)
            .returning(MosaicGroup.group_id)
        ).first()
        if changed is None:
            raise MosaicError(f"there is no mosaic group {group_id}")

    @staticmethod
    def store(
        session: Session, *, path: str, name: str, reference_ms: str, created_at: float, **columns: str | float | None
    ) -> Mosaic:
        """Record a mosaic, and its row among the images, in one transaction; the same path is updated.

        Parameters
        ----------
        reference_ms
            The Measurement Set that stands for the group (its calibration MS): `images.ms_path`.
        columns
            Further columns of `mosaics` (start_mjd and end_mjd are required).
        """
        row = {"path": str(path), "name": name, "created_at": created_at, **columns}
        if not {"start_mjd", "end_mjd"} <= set(row):
            raise MosaicError(f"mosaic {name} needs start_mjd and end_mjd")
        upsert(session, Mosaic, ["path"], [row])
        image = {key: row[key] for key in _SHARED if key in row}
        image |= {"path": str(path), "ms_path": str(reference_ms), "type": "mosaic", "created_at": created_at}
        image |= {"pbcor": 1, "field_name": name}
        upsert(session, Image, ["path"], [image])
        return session.scalars(select(Mosaic).where(Mosaic.path == str(path))).one()

    @staticmethod
    def get_by_name(session: Session, name: str) -> Mosaic | None:
        """Return a mosaic by its id."""
        return session.scalar(select(Mosaic).where(Mosaic.name == name))

    @staticmethod
    def list_all(session: Session, *, after: tuple[float, int] | None = None, limit: int | None = None) -> list[Mosaic]:
        """Return mosaics, the newest first; `after` is (created_at, id) of the last one of the page before."""
        key = (Mosaic.created_at, Mosaic.id)
        return list_page(session, select(Mosaic), key, after=after, limit=limit, descending=True)

    @staticmethod
    def relocate(session: Session, old_path: str, new_path: str) -> bool:
        """Follow a published mosaic to its new path, photometry included; False when it is there already.

        The companions (noise, weight, preview) lie in the same folder under their own names, and follow too.
        """
        old, new = str(old_path), str(new_path)
        mosaic = session.scalar(select(Mosaic).where(Mosaic.path == old))
        if mosaic is None:
            return False
        mosaic.path = new
        for column in ("noise_path", "weight_path", "thumbnail_path"):
            companion = getattr(mosaic, column)
            if companion is not None and Path(companion).parent == Path(old).parent:
                setattr(mosaic, column, str(Path(new).parent / Path(companion).name))
        session.execute(update(Image).where(Image.path == old).values(path=new))
        session.execute(update(MosaicGroup).where(MosaicGroup.mosaic_path == old).values(mosaic_path=new))
        session.flush()
        return True
