"""Questions about the subband files that were seen: days by subbands, gaps, and how fresh the newest is.

A day is one of UTC. All that is counted lies in a span of days, found along the index of time, so that an answer costs
as much after ten years as in the first week.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

from sqlalchemy import Integer, cast, func, literal, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.models import HDF5FileIndex
from dsa110_contimg.database.upserts import page
from dsa110_contimg.telescope import N_SUBBANDS, TILE_SECONDS, mjd_to_unix

GAP_S = 360.0
"""Data end where nothing follows for longer."""
LISTED_GAPS = 200
DAY_S = 86400.0


class GroupFiles(NamedTuple):
    """One group, as its files tell."""

    group_id: str
    begin_mjd: float
    files: int
    bytes: int
    by_subband: tuple[int, ...]
    dec_min_deg: float | None
    dec_max_deg: float | None

    @property
    def missing(self) -> list[int]:
        """The subbands that it lacks."""
        return list(_zeros(self.by_subband))


@functools.lru_cache(maxsize=4096)
def _zeros(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(index for index, number in enumerate(numbers) if not number)


@dataclass(frozen=True)
class DayRow:
    """What came on one day."""

    day_mjd: int
    groups: int
    files: int
    bytes: int
    by_subband: list[int]
    """Files of each of the 16 subbands."""
    missing: int
    """Files that lack for whole groups."""
    dec_min_deg: float | None
    dec_max_deg: float | None


@dataclass(frozen=True)
class Gap:
    """A time without data between two groups."""

    after_group: str
    before_group: str
    start_mjd: float
    end_mjd: float
    hours: float


@dataclass(frozen=True)
class IncompleteGroup:
    """A group that lacks subbands."""

    group_id: str
    missing: list[int]


@dataclass(frozen=True)
class Freshness:
    """How new the newest file is."""

    newest_group: str | None
    newest_data_unix: float | None
    """When its sky was observed."""
    newest_indexed_unix: float | None
    """When it was first seen."""


@dataclass(frozen=True)
class FileRow:
    """One subband file."""

    file_name: str
    group_id: str
    subband: int | None
    time_mjd: float
    size_bytes: int | None
    indexed_unix: float | None
    on_disk: bool
    ra_deg: float | None
    dec_deg: float | None


_FILE = HDF5FileIndex


def scan_groups(session: Session, *, start_mjd: float, end_mjd: float) -> list[GroupFiles]:
    """Return the groups that begin in a span, in order of time, each with its files; the session is of `hdf5`."""
    inside = select(_FILE.group_id).where(_FILE.timestamp_mjd >= start_mjd, _FILE.timestamp_mjd < end_mjd).limit(1)
    first = session.scalar(inside.order_by(_FILE.timestamp_mjd))
    last = session.scalar(inside.order_by(_FILE.timestamp_mjd.desc()))
    if first is None or last is None:
        return []
    begin = func.min(_FILE.timestamp_mjd)
    query = (
        select(
            _FILE.group_id,
            begin,
            func.count(),
            func.sum(literal(1).bitwise_lshift(cast(_FILE.subband_num, Integer))),
            func.coalesce(func.sum(_FILE.file_size_bytes), 0),
            func.min(_FILE.dec_deg),
            func.max(_FILE.dec_deg),
        )
        # Groups are called by their time: along the index of names they are read one after the other, and never sorted.
        .where(_FILE.group_id.between(first, last))
        .group_by(_FILE.group_id)
        .having(begin >= start_mjd, begin < end_mjd)
    )
    rows = [(*row[:3], int(row[3] or 0), *row[4:]) for row in session.execute(query)]
    # So many powers of two make a sum of so many bits only if each is another one; else subbands came twice.
    odd = [group for group, _began, files, bits, *_more in rows if bits.bit_count() != files]
    counted = _by_subband(session, odd)
    found = [
        GroupFiles(group, float(began), files, int(size or 0), counted.get(group) or _ones(bits), low, high)
        for group, began, files, bits, size, low, high in rows
    ]
    return sorted(found, key=lambda group: (group.begin_mjd, group.group_id))


@functools.cache
def _ones(bits: int) -> tuple[int, ...]:
    return tuple(bits >> index & 1 for index in range(N_SUBBANDS))


def _by_subband(session: Session, groups: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found = {group: [0] * N_SUBBANDS for group in groups}
    for part in in_parts(groups):
        query = select(_FILE.group_id, _FILE.subband_num).where(_FILE.group_id.in_(part))
        for group, subband in session.execute(query):
            if subband is not None and 0 <= subband < N_SUBBANDS:
                found[group][subband] += 1
    return {group: tuple(numbers) for group, numbers in found.items()}


def days_of(groups: Iterable[GroupFiles]) -> list[DayRow]:
    """Return the days on which groups began, in order of time."""
    found: dict[int, list[GroupFiles]] = {}
    for group in groups:
        found.setdefault(int(group.begin_mjd), []).append(group)
    return [_day(number, found[number]) for number in sorted(found)]


def _day(number: int, groups: Sequence[GroupFiles]) -> DayRow:
    lows = [group.dec_min_deg for group in groups if group.dec_min_deg is not None]
    highs = [group.dec_max_deg for group in groups if group.dec_max_deg is not None]
    return DayRow(
        day_mjd=number,
        groups=len(groups),
        files=sum(group.files for group in groups),
        bytes=sum(group.bytes for group in groups),
        by_subband=[sum(counts) for counts in zip(*(group.by_subband for group in groups), strict=True)],
        missing=sum(len(group.missing) for group in groups),
        dec_min_deg=min(lows, default=None),
        dec_max_deg=max(highs, default=None),
    )


def gaps_of(groups: Iterable[GroupFiles]) -> list[Gap]:
    """Return the times without data between groups, the newest first."""
    return gaps_between((group.group_id, group.begin_mjd) for group in groups)[::-1][:LISTED_GAPS]


def gaps_between(groups: Iterable[tuple[str, float]]) -> list[Gap]:
    """Return the gaps between groups, each with the MJD at which it begins, in order of time."""
    found = []
    for (before, began), (after, next_began) in pairwise(groups):
        if (next_began - began) * DAY_S > GAP_S:
            ended = began + TILE_SECONDS / DAY_S
            found.append(Gap(before, after, ended, next_began, (next_began - ended) * 24.0))
    return found


def incomplete_of(groups: Sequence[GroupFiles], limit: int) -> list[IncompleteGroup]:
    """Return the newest groups that lack subbands."""
    lacking = (IncompleteGroup(group.group_id, group.missing) for group in reversed(groups) if group.missing)
    return list(islice(lacking, limit))


def freshness(session: Session) -> Freshness:
    """Return how new the newest file is."""
    row = session.execute(
        select(_FILE.group_id, _FILE.timestamp_mjd, _FILE.indexed_at).order_by(_FILE.timestamp_mjd.desc()).limit(1)
    ).first()
    if row is None:
        return Freshness(None, None, None)
    return Freshness(row.group_id, mjd_to_unix(row.timestamp_mjd), row.indexed_at)


def bytes_since(session: Session, start_mjd: float) -> int:
    """Return the size of the files whose sky was observed after a time."""
    size = select(func.coalesce(func.sum(_FILE.file_size_bytes), 0)).where(_FILE.timestamp_mjd >= start_mjd)
    return int(session.scalar(size) or 0)


def list_files(
    session: Session,
    *,
    group_id: str | None = None,
    start_mjd: float | None = None,
    end_mjd: float | None = None,
    after: Sequence[float | str] | None = None,
    limit: int,
) -> list[FileRow]:
    """Return files, the newest sky first; `after` is (time_mjd, file name) of the last row of the page before."""
    query = select(_FILE)
    if group_id is not None:
        query = query.where(_FILE.group_id == group_id)
    if start_mjd is not None:
        query = query.where(_FILE.timestamp_mjd >= start_mjd)
    if end_mjd is not None:
        query = query.where(_FILE.timestamp_mjd <= end_mjd)
    key = (_FILE.timestamp_mjd, _FILE.filename)
    return [
        FileRow(
            file_name=row.filename,
            group_id=row.group_id,
            subband=row.subband_num,
            time_mjd=row.timestamp_mjd,
            size_bytes=row.file_size_bytes,
            indexed_unix=row.indexed_at,
            on_disk=bool(row.stored),
            ra_deg=row.ra_deg,
            dec_deg=row.dec_deg,
        )
        for row in session.scalars(page(query, key, after=after, limit=limit, descending=True))
    ]
