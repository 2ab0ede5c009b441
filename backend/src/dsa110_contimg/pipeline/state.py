"""The rows that decide what runs next, read into one snapshot; and the mosaic groups that follow from them.

Only what is open is read: groups that wait, tiles on their way, tiles that no mosaic has yet and their neighbors,
mosaics that are not published yet. What a look costs does not grow with what is finished.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.models import (
    Caltable,
    DataProduct,
    IngestQueue,
    Job,
    JobState,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    QueueState,
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

OPEN_GROUPS = (QueueState.PENDING.value, QueueState.IN_PROGRESS.value)
UNCONVERTED = (QueueState.COLLECTING.value, *OPEN_GROUPS)
OPEN_TILES = ("converted", "calibrated", "imaged")


def load_state(*, end_of_data: bool) -> State:
    """Read everything that `jobs.next_jobs` looks at."""
    with get_session("ingest", read_only=True) as session:
        waiting = select(IngestQueue).where(IngestQueue.state.in_(OPEN_GROUPS)).order_by(IngestQueue.group_id)
        groups = [GroupState(row.group_id, row.state) for row in session.scalars(waiting)]
    with get_session("cal_registry", read_only=True) as session:
        tables = [
            TableState(row.valid_start_mjd, row.valid_end_mjd, row.dec_deg)
            for row in session.scalars(select(Caltable).where(Caltable.table_type == "BP", Caltable.active == 1))
            if row.dec_deg is not None
        ]
    with get_session("products", read_only=True) as session:
        mosaics = session.execute(select(Mosaic.name, Mosaic.group_id).where(Mosaic.closed_at.is_(None))).all()
        mosaic_groups = _mosaic_groups(session, [group_id for _name, group_id in mosaics if group_id])
        members = [path for group in mosaic_groups for path in group.members]
        tiles = _tiles(session, *_open_tiles([group.group_id for group in groups], members))
        subjects = [
            *(group.group_id for group in groups),
            *(tile.group_id for tile in tiles if tile.calibrator),
            *(group.group_id for group in mosaic_groups),
            *(name for name, _group_id in mosaics),
        ]
        finished = _finished(session, subjects)
    statuses = _product_statuses([name for name, _group_id in mosaics])
    return State(
        groups=groups,
        tiles=tiles,
        tables=tables,
        mosaic_groups=mosaic_groups,
        mosaics=[MosaicState(name, statuses.get(name), group_id) for name, group_id in sorted(mosaics)],
        finished=finished,
        now_mjd=unix_to_mjd(time.time()),
        end_of_data=end_of_data,
    )


def held_jobs(now: float) -> set[str]:
    """Return the jobs that may not be claimed: some process works on them, or they wait for their next attempt."""
    with get_session("products", read_only=True) as session:
        return leases.held_jobs(session, now)


def running_jobs() -> set[str]:
    """Return the jobs that somebody works on, whatever the clock says of their leases."""
    with get_session("products", read_only=True) as session:
        return set(session.scalars(select(Job.job_id).where(Job.state == JobState.RUNNING.value)))


def jobs_that_killed() -> set[str]:
    """Return the open jobs in which a worker died: each of them runs alone."""
    with get_session("products", read_only=True) as session:
        suspects = select(Job.job_id).where(Job.state.in_(("pending", "running")), Job.deaths.is_not(None))
        return set(session.scalars(suspects))


def form_mosaic_groups(options: MosaicOptions, *, end_of_data: bool) -> list[str]:
    """Enter the mosaic groups that the converted tiles allow and return their ids.

    While data come, nothing is planned past the earliest group that is still to be converted: it would be passed over.
    """
    with get_session("ingest", read_only=True) as session:
        first_open = session.scalar(select(func.min(IngestQueue.group_id)).where(IngestQueue.state.in_(UNCONVERTED)))
    with get_session("products") as session:
        margin = options.tiles * options.max_gap_min / 1440.0
        tiles = _tiles(session, *(MSIndex.mid_mjd.between(low, high) for low, high in _unplaced(session, margin)))
        grouped = {tile.path: tile.placed_in for tile in tiles if tile.placed_in is not None}
        if first_open is not None and not end_of_data:
            tiles = [tile for tile in tiles if tile.group_id < first_open]
        on_disk = [tile for tile in tiles if Path(tile.path).exists()]
        plans = plan_mosaic_groups(on_disk, grouped, options, end_of_data=end_of_data)
        return [_add_group(session, plan, grouped) for plan in plans]


def _add_group(session: Session, members: tuple[TileState, ...], grouped: dict[str, str]) -> str:
    paths = [tile.path for tile in members]
    fresh = [tile for tile in members if tile.path not in grouped]
    group_id = naming.mosaic_group_id(fresh[0].group_id)
    MosaicRepository.create_group(session, group_id, paths, carried=grouped.keys(), now=time.time())
    grouped.update((tile.path, group_id) for tile in fresh)
    return group_id


def _unplaced(session: Session, margin: float) -> list[tuple[float, float]]:
    """Return the spans of time (MJD) around the tiles that no mosaic group has yet, wide enough for a whole group."""
    free = select(MSIndex.mid_mjd).where(MSIndex.placed_in.is_(None), MSIndex.mid_mjd.is_not(None))
    spans: list[tuple[float, float]] = []
    for mjd in session.scalars(free.where(MSIndex.stage != "failed").order_by(MSIndex.mid_mjd)):
        if mjd is None:
            continue
        low = mjd - margin
        if spans and low <= spans[-1][1]:
            low = spans.pop()[0]
        spans.append((low, mjd + margin))
    return spans


def _open_tiles(group_ids: list[str], members: list[str]) -> Iterator[ColumnElement[bool]]:
    """Yield what finds the tiles on their way, those of groups to convert, and the members of mosaic groups."""
    yield MSIndex.stage.in_(OPEN_TILES)
    for part in in_parts(group_ids):
        yield MSIndex.group_id.in_(part)
    for part in in_parts(members):
        yield MSIndex.path.in_(part)


def _tiles(session: Session, *conditions: ColumnElement[bool]) -> list[TileState]:
    """Return the tiles that meet any condition and whose time and pointing are known, in order of time.

    Old rows without them can be nobody's neighbor.
    """
    known = (MSIndex.mid_mjd.is_not(None), MSIndex.pointing_ra_deg.is_not(None), MSIndex.pointing_dec_deg.is_not(None))
    found: dict[str, TileState] = {}
    for condition in conditions:
        for row in session.scalars(select(MSIndex).where(condition, *known)):
            found[row.path] = TileState(
                path=row.path,
                group_id=row.group_id or naming.group_id_of_ms(Path(row.path)),
                stage=row.stage or "",
                mid_mjd=mid_time(row),
                dec_deg=pointing(row).dec_deg,
                calibrator=row.calibrator,
                placed_in=row.placed_in,
            )
    return sorted(found.values(), key=lambda tile: (tile.mid_mjd, tile.path))


def _mosaic_groups(session: Session, of_mosaics: list[str]) -> list[MosaicGroupState]:
    """Return the groups without a mosaic, with an open one, or with a tile on its way."""
    converted = session.scalars(select(MSIndex.path).where(MSIndex.stage == "converted"))
    membership = select(MosaicGroupMember.group_id)
    on_the_way = [
        group
        for part in in_parts(converted)
        for group in session.scalars(membership.where(MosaicGroupMember.ms_path.in_(part)))
    ]
    conditions = [
        MosaicGroup.status == "pending",
        *(MosaicGroup.group_id.in_(part) for part in in_parts([*on_the_way, *of_mosaics])),
    ]
    statuses: dict[str, str] = {}
    for condition in conditions:
        statuses.update(iter(session.execute(select(MosaicGroup.group_id, MosaicGroup.status).where(condition))))
    members: dict[str, list[str]] = {}
    for part in in_parts(statuses):
        rows = select(MosaicGroupMember.group_id, MosaicGroupMember.ms_path).order_by(MosaicGroupMember.position)
        for group_id, path in session.execute(rows.where(MosaicGroupMember.group_id.in_(part))):
            members.setdefault(group_id, []).append(path)
    return [MosaicGroupState(name, statuses[name], tuple(members.get(name, ()))) for name in sorted(statuses)]


def _finished(session: Session, subjects: Iterable[str]) -> dict[str, str]:
    """Return every job that failed for good, and the completed ones of some subjects."""
    failed = select(Job.job_id, Job.state).where(Job.state == JobState.FAILED.value)
    finished: dict[str, str] = dict(iter(session.execute(failed)))
    for part in in_parts(subjects):
        completed = and_(Job.subject.in_(part), Job.state == JobState.COMPLETED.value)
        finished.update(iter(session.execute(select(Job.job_id, Job.state).where(completed))))
    return finished


def _product_statuses(names: list[str]) -> dict[str, str]:
    statuses: dict[str, str] = {}
    if not names:
        return statuses
    with get_session("data_registry", read_only=True) as session:
        for part in in_parts(names):
            rows = select(DataProduct.data_id, DataProduct.status).where(DataProduct.data_id.in_(part))
            statuses.update(iter(session.execute(rows)))
    return statuses
