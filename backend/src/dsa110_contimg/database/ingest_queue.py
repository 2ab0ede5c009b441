"""Groups of subband files on their way in: functions on a session of `ingest`.

    collecting ──► pending ──► in_progress ──► completed
                      ▲             └──► failed ──┐
                      └───────────────────────────┘

A failed group that a file joins collects again. Each transition is one UPDATE that names the state it starts from;
the row count says whether it happened. The first file of a group and subband is kept; another one is logged, never
swapped in. From the moment a group is claimed its files stand: a file that comes later is told and changes nothing.
"""

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.database.models import IngestQueue, Quarantine, QueueState, SubbandFile
from dsa110_contimg.telescope import unix_to_mjd

logger = logging.getLogger(__name__)


class Settled(NamedTuple):
    """Of some paths those that the queue knows."""

    recorded: set[str]
    refused: dict[str, float]
    """Path to the time of its refusal (unix s)."""


def record_subband(
    session: Session, *, group_id: str, subband_idx: int, path: str, file_size: int | None, now: float
) -> str:
    """Record one complete subband file, and its group if it is the first.

    Returns
    -------
    str
        'recorded'; 'known' (this path already is); 'repeated' (the group has this subband under another path,
        which is kept); 'quarantined' (this path was refused before); 'late' (its group is completed); 'deferred'
        (its group is being converted: ask again when that has ended).
    """
    path = str(path)
    if session.get(Quarantine, path) is not None:
        return "quarantined"
    closed = _closed_to_files(session, group_id, path)
    if closed is not None:
        return closed
    session.execute(
        insert(IngestQueue)
        .values(group_id=group_id, state=QueueState.COLLECTING.value, received_at=now, last_update=now)
        .on_conflict_do_nothing()
    )
    added = session.execute(
        insert(SubbandFile)
        .values(group_id=group_id, subband_idx=subband_idx, file_path=path, file_size=file_size, discovered_at=now)
        .on_conflict_do_nothing()
        .returning(SubbandFile.id)
    ).first()
    if added is not None:
        session.execute(update(IngestQueue).where(IngestQueue.group_id == group_id).values(last_update=now))
        return "recorded"
    if session.scalar(select(SubbandFile.id).where(SubbandFile.file_path == path)) is not None:
        return "known"
    kept = session.scalar(
        select(SubbandFile.file_path).where(SubbandFile.group_id == group_id, SubbandFile.subband_idx == subband_idx)
    )
    logger.warning("group %s already has subband %d as %s; %s is left alone", group_id, subband_idx, kept, path)
    return "repeated"


def _closed_to_files(session: Session, group_id: str, path: str) -> str | None:
    """Return what becomes of a file whose group takes no more files; None while the group takes them."""
    # The lock keeps a claim from falling between this look and the file's row.
    query = select(IngestQueue.state).where(IngestQueue.group_id == group_id).with_for_update()
    state = session.scalar(query)
    if state not in (QueueState.IN_PROGRESS.value, QueueState.COMPLETED.value):
        return None
    if session.scalar(select(SubbandFile.id).where(SubbandFile.file_path == path)) is not None:
        return "known"
    if state == QueueState.IN_PROGRESS.value:
        return "deferred"
    logger.warning("group %s was converted before %s came: it is left alone", group_id, path)
    return "late"


def _move(
    session: Session, group_id: str, origins: Sequence[QueueState], target: QueueState, now: float | None
) -> bool:
    moved = session.execute(
        update(IngestQueue)
        .where(IngestQueue.group_id == group_id, IngestQueue.state.in_([state.value for state in origins]))
        .values(state=target.value, last_update=time.time() if now is None else now)
        .returning(IngestQueue.group_id)
    ).first()
    return moved is not None


def mark_pending(session: Session, group_id: str, *, now: float | None = None) -> bool:
    """Offer a group that is complete, or no longer waited for; False unless it was collecting."""
    return _move(session, group_id, [QueueState.COLLECTING], QueueState.PENDING, now)


def claim_group(session: Session, group_id: str, *, now: float | None = None) -> bool:
    """Take a pending group; of many callers exactly one gets True."""
    return _move(session, group_id, [QueueState.PENDING], QueueState.IN_PROGRESS, now)


def release_group(session: Session, group_id: str, *, now: float | None = None) -> bool:
    """Offer a group again whose worker died or failed, and count the retry."""
    released = _move(session, group_id, [QueueState.IN_PROGRESS, QueueState.FAILED], QueueState.PENDING, now)
    if released:
        session.execute(
            update(IngestQueue)
            .where(IngestQueue.group_id == group_id)
            .values(retry_count=IngestQueue.retry_count + 1, error_message=None)
        )
    return released


def reopen_group(session: Session, group_id: str, *, now: float | None = None) -> bool:
    """Let a failed group collect files again, because one has joined it."""
    reopened = _move(session, group_id, [QueueState.FAILED], QueueState.COLLECTING, now)
    if reopened:
        session.execute(update(IngestQueue).where(IngestQueue.group_id == group_id).values(error_message=None))
    return reopened


def finish_group(session: Session, group_id: str, *, now: float | None = None) -> bool:
    """Record that a claimed group's Measurement Set exists."""
    return _move(session, group_id, [QueueState.IN_PROGRESS], QueueState.COMPLETED, now)


def fail_group(session: Session, group_id: str, error: str, *, now: float | None = None) -> bool:
    """Record why a group cannot be converted; a completed group stays completed."""
    origins = [QueueState.COLLECTING, QueueState.PENDING, QueueState.IN_PROGRESS]
    failed = _move(session, group_id, origins, QueueState.FAILED, now)
    if failed:
        session.execute(update(IngestQueue).where(IngestQueue.group_id == group_id).values(error_message=error))
    return failed


def quarantine_file(
    session: Session, path: str, reason: str, group_id: str | None = None, *, now: float | None = None
) -> None:
    """Refuse a file for a reason; it no longer belongs to its group, so that a good copy may take its place."""
    path = str(path)
    row = insert(Quarantine).values(
        path=path, group_id=group_id, reason=reason, quarantined_at=time.time() if now is None else now
    )
    newest = {name: row.excluded[name] for name in ("group_id", "reason", "quarantined_at")}
    session.execute(row.on_conflict_do_update(index_elements=["path"], set_=newest))
    session.execute(delete(SubbandFile).where(SubbandFile.file_path == path))
    logger.warning("quarantined %s: %s", path, reason)


def forget_file(session: Session, path: str) -> bool:
    """Take a file that has gone out of its group, so that it is recorded again should it come back."""
    gone = session.execute(
        delete(SubbandFile).where(SubbandFile.file_path == str(path)).returning(SubbandFile.group_id)
    ).first()
    return gone is not None


def release_file(session: Session, path: str) -> bool:
    """Take a file out of quarantine, for instance after it was replaced."""
    gone = session.execute(delete(Quarantine).where(Quarantine.path == str(path)).returning(Quarantine.path)).first()
    return gone is not None


def list_groups(session: Session, state: str | None = None) -> list[IngestQueue]:
    """Return groups in time order, all or those in one state ('processing' means in_progress)."""
    query = select(IngestQueue).order_by(IngestQueue.group_id)
    if state is not None:
        query = query.where(IngestQueue.state == QueueState.parse(state).value)
    return list(session.scalars(query))


def list_subbands(session: Session, group_id: str) -> list[SubbandFile]:
    """Return a group's files by subband."""
    query = select(SubbandFile).where(SubbandFile.group_id == group_id).order_by(SubbandFile.subband_idx)
    return list(session.scalars(query))


def count_subbands(session: Session, state: str) -> dict[str, int]:
    """Return how many subbands each group in a state has."""
    query = (
        select(SubbandFile.group_id, func.count())
        .join(IngestQueue, IngestQueue.group_id == SubbandFile.group_id)
        .where(IngestQueue.state == QueueState.parse(state).value)
        .group_by(SubbandFile.group_id)
    )
    return {group_id: number for group_id, number in session.execute(query)}  # noqa: C416 - rows are not pairs to mypy


def get_state(session: Session, group_id: str) -> QueueState | None:
    """Return where a group stands, or None if nobody knows it."""
    state = session.scalar(select(IngestQueue.state).where(IngestQueue.group_id == group_id))
    return None if state is None else QueueState(state)


def list_quarantine(session: Session, group_id: str | None = None, *, tolerance_s: float = 0.0) -> list[Quarantine]:
    """Return refused files: all, those of one group, or those of a stamp within the tolerance of its start."""
    query = select(Quarantine).order_by(Quarantine.path)
    if group_id is not None:
        query = query.where(Quarantine.group_id.between(*_window(group_id, tolerance_s)))
    return list(session.scalars(query))


def _window(group_id: str, tolerance_s: float) -> tuple[str, str]:
    """Return the first and the last stamp around a group's start; without a tolerance only its own."""
    if not tolerance_s:
        return group_id, group_id
    start = naming.stamp_unix(group_id)
    first, last = (naming.group_id_of(unix_to_mjd(start + side * tolerance_s)) for side in (-1, 1))
    return first, last


def find_settled(session: Session, paths: Sequence[str]) -> Settled:
    """Return which of some paths were recorded or refused; the cost follows their number, not the tables' size."""
    recorded = session.scalars(select(SubbandFile.file_path).where(SubbandFile.file_path.in_(paths)))
    refused = session.execute(select(Quarantine.path, Quarantine.quarantined_at).where(Quarantine.path.in_(paths)))
    return Settled(set(recorded), {path: when for path, when in refused})  # noqa: C416 - as above
