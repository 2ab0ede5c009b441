"""What to do with a publication or retraction that a crash interrupted: decided by a pure function, then done.

    row                        source    scratch   target      action
    ------------------------   -------   -------   ---------   -----------------------------------------------
    publishing                 -         -         intact      finish     commit the row
    publishing                 there     -         absent      redo       publish it again, up to the limit of attempts
    publishing                 absent    intact    absent      salvage    name the copy, then finish
    published, with an owner   -         -         intact      clean      remove what is left in staging
    published, with an owner   intact    -         absent      redo       the commit outlived its undoing
    retracted, with an owner   -         -         -           settle     move what is left to the tombstone
    anything else                                              give up    change no file, tell a person
    at rest                    -         -         -           nothing

*Intact* is the content that the attempt noted before it gave any name. A source that changed since is never given up
for an older target, nor removed.

A row is taken over exactly as it was read, from a process that is gone or late: of two recoveries one goes on.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import and_, func, or_, update

from dsa110_contimg.database import publishing
from dsa110_contimg.database.claims import LEASE_S, Claim, PublishRequest, is_abandoned
from dsa110_contimg.database.criteria import MAX_ATTEMPTS
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.publications import (
    carry_out,
    record_failure,
    recorded_fingerprints,
    remove_sources,
)
from dsa110_contimg.database.publishing import Fingerprint, scratch_path
from dsa110_contimg.database.registry_rows import (
    STORAGE_ERRORS,
    ProductRow,
    RegistryConnection,
    find_rows,
    get_data,
    transaction,
)
from dsa110_contimg.database.retraction import resume_retraction
from dsa110_contimg.errors import PipelineError, PublishError

logger = logging.getLogger(__name__)


class PathState(StrEnum):
    """What is found under a name."""

    ABSENT = "absent"
    """Nothing."""
    INTACT = "intact"
    """The content that was noted."""
    OTHER = "other"
    """Another content."""
    UNKNOWN = "unknown"
    """Something, and nothing was noted to compare it with."""


class RecoveryAction(StrEnum):
    """What a row needs; the gravest first."""

    GIVE_UP = "give up"
    """What was noted is nowhere, or stands against something else: change no file, tell a person."""
    SALVAGE = "salvage"
    """The verified copy is the last one: give it its final name, then finish."""
    REDO = "redo"
    """Publish it again from its source."""
    FINISH = "finish"
    """Its files have their final names: commit the row."""
    CLEAN = "clean"
    """It is published: remove the source and scratch that are left."""
    SETTLE = "settle"
    """It is retracted: move the files that are left."""
    NOTHING = "nothing"
    """It is at rest."""


def recovery_action(
    row: ProductRow, source_state: PathState, scratch_state: PathState, target_state: PathState
) -> RecoveryAction:
    """Return what an interrupted row needs, for one of its files; a product's is the gravest of its files'."""
    if row.status == "publishing":
        return _of_publishing(source_state, scratch_state, target_state)
    if row.owner is None or row.status not in {"published", "retracted"}:
        return RecoveryAction.NOTHING
    if row.status == "retracted":
        return RecoveryAction.SETTLE
    if target_state is PathState.INTACT:
        return RecoveryAction.CLEAN
    undone = target_state is PathState.ABSENT and source_state is PathState.INTACT
    return RecoveryAction.REDO if undone else RecoveryAction.GIVE_UP


def _of_publishing(source: PathState, scratch: PathState, target: PathState) -> RecoveryAction:
    if target is PathState.INTACT:
        return RecoveryAction.GIVE_UP if source is PathState.OTHER else RecoveryAction.FINISH
    if target is PathState.OTHER:
        return RecoveryAction.GIVE_UP
    if source is not PathState.ABSENT:
        return RecoveryAction.REDO
    last_copy = target is PathState.ABSENT and scratch is PathState.INTACT
    return RecoveryAction.SALVAGE if last_copy else RecoveryAction.GIVE_UP


def gravest(actions: Iterable[RecoveryAction]) -> RecoveryAction:
    """Return the first of the actions in the order in which they are listed."""
    found = set(actions)
    return next((action for action in RecoveryAction if action in found), RecoveryAction.NOTHING)


@dataclass(frozen=True)
class Recovered:
    """What was done for one product."""

    data_id: str
    action: RecoveryAction
    status: str
    """The row's status afterwards."""


class _Item(NamedTuple):
    """One file or folder that an attempt noted, or the product alone before it noted any."""

    source: Path
    target: Path | None
    content: Fingerprint | None
    attempt: int

    @property
    def scratch(self) -> Path | None:
        """The verified copy of any attempt so far."""
        if self.target is None:
            return None
        names = [scratch_path(self.target, attempt) for attempt in range(self.attempt + 1)]
        return next((name for name in names if path_state(name, self.content) is PathState.INTACT), None)

    def action(self, row: ProductRow) -> RecoveryAction:
        source, target = path_state(self.source, self.content), path_state(self.target, self.content)
        # Scratch matters where it is all that is left; elsewhere it need not be read.
        alone = (source, target) == (PathState.ABSENT, PathState.ABSENT)
        scratch = PathState.INTACT if alone and self.scratch is not None else PathState.ABSENT
        return recovery_action(row, source, scratch, target)


def path_state(path: Path | None, noted: Fingerprint | None) -> PathState:
    """Return what is found under a name."""
    if path is None or not path.exists():
        return PathState.ABSENT
    if noted is None:
        return PathState.UNKNOWN
    return PathState.INTACT if publishing.fingerprint(path) == noted else PathState.OTHER


def _items(row: ProductRow) -> list[_Item]:
    noted, attempt = row.noted.get("items"), row.attempt or 0
    known = recorded_fingerprints(row)
    items = noted if isinstance(noted, list) else []
    found = [_Item(Path(item["source"]), Path(item["target"]), known[item["target"]], attempt) for item in items]
    return found or [_Item(Path(row.stage_path), None, None, attempt)]


def recover_publishing(
    conn: RegistryConnection, *, roots: Roots | None = None, now: float | None = None
) -> list[Recovered]:
    """Finish, begin again or give up whatever was left by a process that is gone or whose lease ran out.

    One product that cannot be recovered now does not keep another from it.
    """
    moment = time.time() if now is None else now
    recovered = []
    for row in _left_behind(conn, moment):
        action = RecoveryAction.NOTHING
        try:
            action = _needed(row)
            if action is RecoveryAction.REDO and _died_too_often(row):
                action = _give_up(
                    conn, row, f"its process died in each of {MAX_ATTEMPTS} attempts: see why, then retry"
                )
            else:
                _act(conn, row, action, roots)
        except (PipelineError, OSError, *STORAGE_ERRORS) as error:
            logger.warning("recovery of %s: %s", row.data_id, error)
            if isinstance(error, PublishError) and action is RecoveryAction.NOTHING:
                action = _give_up(conn, row, str(error))
        if action is not RecoveryAction.NOTHING:
            status = get_data(conn, row.data_id).status
            logger.info("recovered %s: %s, now %s", row.data_id, action.value, status)
            recovered.append(Recovered(row.data_id, action, status))
    return recovered


def _give_up(conn: RegistryConnection, row: ProductRow, told: str) -> RecoveryAction:
    """Let a row whose state cannot be told say why; a published one has its product and waits."""
    claimed = _take_over(conn, row, RecoveryAction.GIVE_UP) if row.status == "publishing" else None
    if claimed is None:
        return RecoveryAction.NOTHING
    record_failure(claimed, told)
    return RecoveryAction.GIVE_UP


def _died_too_often(row: ProductRow) -> bool:
    """Return whether a product seems to kill whoever publishes it; one with a final name already is never given up."""
    named = any(item.target is not None and item.target.exists() for item in _items(row))
    return row.status == "publishing" and (row.publish_attempts or 0) + 1 >= MAX_ATTEMPTS and not named


def _needed(row: ProductRow) -> RecoveryAction:
    if row.status == "retracted":
        return RecoveryAction.SETTLE
    items = _items(row)
    for item in items:
        if row.status == "published" and item.target is not None and not item.target.parent.is_dir():
            raise PublishError(f"the folder {item.target.parent} is gone: see whether the products area is mounted")
    return gravest(item.action(row) for item in items)


def _left_behind(conn: RegistryConnection, moment: float) -> Iterator[ProductRow]:
    unfinished = and_(DataProduct.status.in_(("published", "retracted")), DataProduct.owner.is_not(None))
    for row in find_rows(conn, or_(DataProduct.status == "publishing", unfinished)):
        if is_abandoned(row.owner, row.lease_expires_at, moment):
            yield row


def _act(conn: RegistryConnection, row: ProductRow, action: RecoveryAction, roots: Roots | None) -> None:
    if action is RecoveryAction.SETTLE:
        resume_retraction(conn, row, roots)
        return
    if action is RecoveryAction.GIVE_UP and row.status == "published":
        _warn(conn, row)
        return
    claimed = _take_over(conn, row, action)
    if claimed is None:
        logger.info("%s is being recovered by another process", row.data_id)
    elif action is RecoveryAction.GIVE_UP:
        record_failure(
            claimed,
            f"after a crash {row.stage_path} or its target is missing or changed: compare the files, then retry",
        )
    elif action is RecoveryAction.CLEAN:
        _clean(claimed, row)
    else:
        if action is RecoveryAction.SALVAGE:
            _salvage(claimed, row)
        request = PublishRequest(mode=row.publish_mode or "move", published_dir=_noted_folder(row), roots=roots)
        carry_out(claimed, row, request)


def _take_over(conn: RegistryConnection, row: ProductRow, action: RecoveryAction) -> Claim | None:
    """Take a row exactly as it was read; None if somebody else has taken it since.

    An attempt that crashed counts once: here, or as the failure that giving up records.
    """
    now, again = time.time(), action in {RecoveryAction.REDO, RecoveryAction.FINISH, RecoveryAction.SALVAGE}
    crashed = int(again and row.status == "publishing")
    as_read = update(DataProduct).where(
        DataProduct.data_id == row.data_id,
        DataProduct.status == row.status,
        DataProduct.owner.is_(None) if row.owner is None else DataProduct.owner == row.owner,
        func.coalesce(DataProduct.attempt, 0) == (row.attempt or 0),
    )
    taking = as_read.values(
        status="publishing" if again else row.status,
        owner=this_process(),
        attempt=(row.attempt or 0) + 1,
        lease_expires_at=now + LEASE_S,
        publish_attempts=(row.publish_attempts or 0) + crashed,
    )
    with transaction(conn) as run:
        taken = run(taking.returning(DataProduct.attempt))
    return Claim(conn, row.data_id, int(taken[0][0]), now) if taken else None


def _warn(conn: RegistryConnection, row: ProductRow) -> None:
    """Let a published row say that a person is needed, once; what is left in staging stays there."""
    told = f"{row.published_path} is missing or changed and its staged copy is kept: compare the two"
    logger.error("published product %s: %s", row.data_id, told)
    if row.publish_error != told:
        Claim(conn, row.data_id, row.attempt or 0, time.time()).change(owned="published", publish_error=told)


def _salvage(claimed: Claim, row: ProductRow) -> None:
    """Give the last copies their final names."""
    with claimed.holding():
        for item in _items(row):
            scratch = item.scratch
            if scratch is not None and item.target is not None and not item.source.exists():
                publishing.rename_new(scratch, item.target)
                publishing.sync_folder(item.target.parent)


def _noted_folder(row: ProductRow) -> Path | None:
    """Return the published_dir that the interrupted attempt was given, where it noted one."""
    folder = row.noted.get("published_dir")
    return None if folder is None else Path(str(folder))


def _clean(claimed: Claim, row: ProductRow) -> None:
    """Remove what a published product left in staging, if it equals what was published."""
    left = []
    for item in _items(row):
        for attempt in range(claimed.attempt):
            for path in (item.source, item.target or item.source):
                publishing.remove(scratch_path(path, attempt))
        before = publishing.signature(item.source)
        if row.publish_mode == "move" and path_state(item.source, item.content) is PathState.INTACT:
            left.append((item.source, before))
    remove_sources(claimed, left)
