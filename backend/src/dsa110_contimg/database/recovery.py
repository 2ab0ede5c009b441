"""What to do with a publication that a crash interrupted: decided by a pure function, then done.

A row left in 'publishing' by a process that is gone is finished if its files have their final names, begun again
if the source is whole, and otherwise given up without touching a file. A published row that still has an owner
has a source left to remove, which goes only if the published content is verified and equal.
"""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import and_, or_

from dsa110_contimg.database import publishing
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.ownership import is_gone
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.publications import (
    Claim,
    PublishRequest,
    carry_out,
    claim,
    record_failure,
    recorded_fingerprints,
    release,
)
from dsa110_contimg.database.publishing import Fingerprint, scratch_path
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, find_rows, get_data
from dsa110_contimg.errors import FencedError, PublishError

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
    """What a row needs."""

    NOTHING = "nothing"
    """It is at rest."""
    FINISH = "finish"
    """Its files have their final names: commit the row."""
    REDO = "redo"
    """Publish it again from its source."""
    CLEAN = "clean"
    """It is published: remove the source and scratch that are left."""
    GIVE_UP = "give up"
    """Neither source nor target is sound: change no file, tell a person."""


def recovery_action(
    row: ProductRow,
    source_state: PathState,
    scratch_state: PathState,
    target_state: PathState,
) -> RecoveryAction:
    """Return what an interrupted publication needs, for one of its files.

    Scratch never decides: an unfinished copy says nothing that source and target do not.
    """
    del scratch_state
    if row.status == "published" and row.owner is not None:
        whole = target_state is PathState.INTACT
        return RecoveryAction.CLEAN if whole else RecoveryAction.GIVE_UP
    if row.status != "publishing":
        return RecoveryAction.NOTHING
    if target_state is PathState.INTACT and source_state is not PathState.OTHER:
        return RecoveryAction.FINISH
    if target_state in {PathState.INTACT, PathState.OTHER} or source_state is PathState.ABSENT:
        return RecoveryAction.GIVE_UP
    return RecoveryAction.REDO


@dataclass(frozen=True)
class Recovered:
    """What was done for one product."""

    data_id: str
    action: RecoveryAction
    status: str
    """The row's status afterwards."""


def path_state(path: Path, noted: Fingerprint | None) -> PathState:
    """Return what is found under a name."""
    if not path.exists():
        return PathState.ABSENT
    if noted is None:
        return PathState.UNKNOWN
    return PathState.INTACT if publishing.fingerprint(path) == noted else PathState.OTHER


_SEVERITY = (
    RecoveryAction.GIVE_UP,
    RecoveryAction.REDO,
    RecoveryAction.FINISH,
    RecoveryAction.CLEAN,
    RecoveryAction.NOTHING,
)


def _decide(row: ProductRow) -> RecoveryAction:
    """Return the gravest action over a product's files; before anything was noted, over the product alone."""
    noted = row.details.get("publish")
    items = noted.get("items", []) if isinstance(noted, dict) else []
    known = recorded_fingerprints(row)
    if not items:
        staged = path_state(Path(row.stage_path), None)
        return recovery_action(row, staged, PathState.ABSENT, PathState.ABSENT)
    actions = set()
    for item in items:
        source, target = Path(item["source"]), Path(item["target"])
        scratch = scratch_path(target, row.attempt or 0)
        noted_print = known[str(target)]
        found = [path_state(path, noted_print) for path in (source, scratch, target)]
        actions.add(recovery_action(row, found[0], found[1], found[2]))
    return next(action for action in _SEVERITY if action in actions)


def recover_publishing(
    conn: RegistryConnection, *, roots: Roots | None = None, now: float | None = None
) -> list[Recovered]:
    """Finish, begin again or give up every publication whose process is gone or whose lease ran out."""
    moment = time.time() if now is None else now
    recovered = []
    cleaning = and_(DataProduct.status == "published", DataProduct.owner.is_not(None))
    for row in find_rows(conn, or_(DataProduct.status == "publishing", cleaning)):
        if not (is_gone(row.owner) or row.lease_expires_at is None or row.lease_expires_at < moment):
            continue
        action = _decide(row)
        try:
            _act(conn, row, action, roots)
        except (PublishError, FencedError) as error:
            logger.warning("recovery of %s: %s", row.data_id, error)
        outcome = get_data(conn, row.data_id).status
        logger.info("recovered %s: %s, now %s", row.data_id, action.value, outcome)
        recovered.append(Recovered(row.data_id, action, outcome))
    return recovered


def _act(conn: RegistryConnection, row: ProductRow, action: RecoveryAction, roots: Roots | None) -> None:
    if row.status == "published":
        if action is RecoveryAction.CLEAN:
            _clean(conn, row)
        else:
            logger.error("published product %s is missing or changed: its staged copy is kept", row.data_id)
        return
    request = PublishRequest(mode=row.publish_mode or "move", published_dir=_noted_folder(row), roots=roots)
    claimed = claim(conn, row, request)
    if claimed is None:
        return
    if action is RecoveryAction.GIVE_UP:
        record_failure(
            claimed,
            f"after a crash {row.stage_path} or its target is missing or changed: compare the files, then retry",
        )
        return
    carry_out(claimed, get_data(conn, row.data_id), request)


def _noted_folder(row: ProductRow) -> Path | None:
    """Return the published_dir that the interrupted attempt was given, where it noted one."""
    noted = row.details.get("publish")
    folder = noted.get("published_dir") if isinstance(noted, dict) else None
    return None if folder is None else Path(str(folder))


def _clean(conn: RegistryConnection, row: ProductRow) -> None:
    """Remove what a published product left in staging, if it equals what was published."""
    claimed = Claim(conn, row.data_id, row.attempt or 0, time.time())
    noted = row.details.get("publish")
    known = recorded_fingerprints(row)
    for item in noted.get("items", []) if isinstance(noted, dict) else []:
        source, target = Path(item["source"]), Path(item["target"])
        for attempt in range((row.attempt or 0) + 1):
            publishing.remove(scratch_path(source, attempt))
            publishing.remove(scratch_path(target, attempt))
        if row.publish_mode == "move" and path_state(source, known[str(target)]) is PathState.INTACT:
            publishing.remove_source(source, claimed.attempt)
    release(claimed)
