"""The rows that decide what runs next, read into one snapshot; and the mosaic groups that follow from them."""

import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import (
    Caltable,
    DataProduct,
    IngestQueue,
    Job,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
)
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.pipeline.context import mid_time, pointing
from dsa110_contimg.pipeline.jobs import (
    GroupState,
    MosaicGroupState,
    MosaicState,
    State,
    TableState,
    TileState,
    plan_mosaic_groups,
)
from dsa110_contimg.telescope import unix_to_mjd


def load_state(*, end_of_data: bool) -> State:
    """Read everything that `jobs.next_jobs` looks at."""
    with get_session("ingest", read_only=True) as session:
        groups = [GroupState(row.group_id, row.state) for row in session.scalars(select(IngestQueue))]
    with get_session("cal_registry", read_only=True) as session:
        tables = [
            TableState(row.valid_start_mjd, row.valid_end_mjd, row.dec_deg)
            for row in session.scalars(select(Caltable).where(Caltable.table_type == "BP", Caltable.active == 1))
            if row.dec_deg is not None
        ]
    with get_session("data_registry", read_only=True) as session:
        registered = {row.data_id: row.status for row in session.scalars(select(DataProduct))}
    with get_session("products", read_only=True) as session:
        return State(
            groups=sorted(groups, key=lambda group: group.group_id),
            tiles=_tiles(session),
            tables=tables,
            mosaic_groups=_mosaic_groups(session),
            mosaics=[
                MosaicState(name, registered.get(name), group_id)
                for name, group_id in session.execute(select(Mosaic.name, Mosaic.group_id).order_by(Mosaic.name))
            ],
            finished={
                row.job_id: row.state for row in session.scalars(select(Job)) if row.state in ("completed", "failed")
            },
            now_mjd=unix_to_mjd(time.time()),
            end_of_data=end_of_data,
        )


def held_jobs(now: float) -> set[str]:
    """Return the jobs that some process works on: running, with a lease that holds."""
    with get_session("products", read_only=True) as session:
        return set(session.scalars(select(Job.job_id).where(Job.state == "running", Job.lease_expires_at >= now)))


def form_mosaic_groups(options: MosaicOptions, *, end_of_data: bool) -> list[str]:
    """Enter the mosaic groups that the converted tiles allow and return their ids."""
    with get_session("products") as session:
        grouped = {
            row.ms_path: row.group_id
            for row in session.scalars(select(MosaicGroupMember).where(MosaicGroupMember.is_new == 1))
        }
        on_disk = [tile for tile in _tiles(session) if Path(tile.path).exists()]
        plans = plan_mosaic_groups(on_disk, grouped, options, end_of_data=end_of_data)
        return [_add_group(session, plan, grouped) for plan in plans]


def _add_group(session: Session, members: tuple[TileState, ...], grouped: dict[str, str]) -> str:
    paths = [tile.path for tile in members]
    fresh = [tile for tile in members if tile.path not in grouped]
    group_id = naming.mosaic_group_id(fresh[0].group_id)
    MosaicRepository.create_group(session, group_id, paths, n_carried=len(paths) - len(fresh), now=time.time())
    grouped.update((tile.path, group_id) for tile in fresh)
    return group_id


def _tiles(session: Session) -> list[TileState]:
    """Return the tiles whose time and pointing are known; old rows without them can be nobody's neighbor."""
    known = (MSIndex.mid_mjd.is_not(None), MSIndex.pointing_ra_deg.is_not(None), MSIndex.pointing_dec_deg.is_not(None))
    rows = session.scalars(select(MSIndex).where(*known).order_by(MSIndex.mid_mjd, MSIndex.path))
    return [
        TileState(
            path=row.path,
            group_id=row.group_id or naming.group_id_of_ms(Path(row.path)),
            stage=row.stage or "",
            mid_mjd=mid_time(row),
            dec_deg=pointing(row).dec_deg,
            calibrator=row.calibrator,
        )
        for row in rows
    ]


def _mosaic_groups(session: Session) -> list[MosaicGroupState]:
    members: dict[str, list[str]] = {}
    for row in session.scalars(select(MosaicGroupMember).order_by(MosaicGroupMember.position)):
        members.setdefault(row.group_id, []).append(row.ms_path)
    return [
        MosaicGroupState(row.group_id, row.status, tuple(members.get(row.group_id, ())))
        for row in session.scalars(select(MosaicGroup).order_by(MosaicGroup.group_id))
    ]
