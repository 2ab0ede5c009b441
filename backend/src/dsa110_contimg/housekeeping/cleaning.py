"""Retention carried out: a row says that its file is gone, then the file goes.

The row is changed by one guarded UPDATE, which asks once more whether a job has been opened meanwhile. Then the name
of the file goes at once and its content after it: a clean that is killed leaves a row that says "removed" with a
whole file, which the next clean removes, or a scratch folder, which goes with those of other dead processes.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import Image, Job, MSIndex, QAArtifact
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import scratch
from dsa110_contimg.housekeeping.backups import BackupOptions
from dsa110_contimg.housekeeping.holdings import Kind
from dsa110_contimg.housekeeping.inventory import OPEN_JOBS, take_inventory
from dsa110_contimg.housekeeping.retention import Plan, Removal, RetentionOptions, plan

logger = logging.getLogger(__name__)


@dataclass
class Cleaned:
    """What a clean did."""

    removed: list[Removal] = field(default_factory=list)
    held: list[Removal] = field(default_factory=list)
    """Whose rows changed between the plan and the deed; they stay."""
    failed: dict[str, str] = field(default_factory=dict)
    """Files that could not be removed, and why."""

    @property
    def bytes(self) -> int:
        """Room that was made."""
        return sum(item.bytes for item in self.removed)


def plan_clean(settings: Settings, retention: RetentionOptions, rotation: BackupOptions, *, now: float) -> Plan:
    """Return what may be removed now, and change nothing.

    Raises
    ------
    ConfigurationError
        If incoming or published files lie among those that the pipeline makes.
    """
    _must_be_apart(settings)
    return plan(take_inventory(settings, retention, rotation, now=now), retention)


def clean(settings: Settings, retention: RetentionOptions, rotation: BackupOptions, *, now: float) -> Cleaned:
    """Remove what may go; it may run at any time, any number of times, and beside a pipeline."""
    return carry_out(plan_clean(settings, retention, rotation, now=now), settings, now=now)


def carry_out(planned: Plan, settings: Settings, *, now: float) -> Cleaned:
    """Remove what a plan lists; what cannot be removed is told and keeps nothing else from going."""
    done = Cleaned()
    for item in planned.removals:
        path = Path(item.path)
        _must_be_ours(path, settings)
        if not _mark(item, now):
            done.held.append(item)
            continue
        try:
            scratch.discard(path)
        except OSError as error:
            done.failed[item.path] = error.strerror or str(error)
            continue
        logger.info("removed %s (%d bytes): %s", path, item.bytes, item.why)
        done.removed.append(item)
    return done


def _mark(item: Removal, now: float) -> bool:
    """Let the row of a file say that it is removed; False if it is needed again."""
    if item.kind is Kind.CALTABLE:
        with get_session("cal_registry") as session:
            return CaltableRepository.set_status(session, item.path, "retired")
    if item.kind in (Kind.SCRATCH, Kind.LOG, Kind.BACKUP):
        return True
    with get_session("products") as session:
        return _mark_product(session, item, now)


def _mark_product(session: Session, item: Removal, now: float) -> bool:
    if item.kind is Kind.PLOT:
        statement = update(QAArtifact).where(QAArtifact.path == item.path).returning(QAArtifact.path)
    elif item.kind is Kind.MS:
        statement = update(MSIndex).where(MSIndex.path == item.path, *_at_rest()).returning(MSIndex.path)
    else:
        resting = exists(select(MSIndex.path).where(MSIndex.path == Image.ms_path, *_at_rest()))
        statement = update(Image).where(Image.path == item.path, resting).returning(Image.path)
    return session.execute(statement.values(removed_at=now)).first() is not None


def _at_rest() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions under which a tile's files may go, as far as one statement can ask."""
    open_job = select(Job.job_id).where(Job.subject == MSIndex.group_id, Job.state.in_(OPEN_JOBS))
    return MSIndex.stage == "photometry_complete", ~exists(open_job)


def _must_be_apart(settings: Settings) -> None:
    stage = settings.stage.resolve()
    for folder in (settings.incoming.resolve(), settings.products.resolve()):
        if folder.is_relative_to(stage) or stage.is_relative_to(folder):
            raise ConfigurationError(
                f"the folders {folder} and {stage} lie one in the other, so nothing is removed: keep them apart"
            )


def _must_be_ours(path: Path, settings: Settings) -> None:
    """Refuse to remove what is not below a folder that the pipeline fills: the last line of defense."""
    ours = (settings.stage, settings.backups, settings.logs)
    parent = path.parent.resolve()
    if path.is_symlink() or not any(parent.is_relative_to(folder.resolve()) for folder in ours):
        raise ConfigurationError(f"{path} is not below {settings.stage}, so it is not removed: check its row")
