"""The rows and files that decide what may be removed, read into one snapshot.

Symbolic links are not followed, and only the folders that the pipeline itself fills are looked at: incoming files
and published ones are not even listed.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import select

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import (
    Caltable,
    DataProduct,
    FinalizationStatus,
    Image,
    IngestQueue,
    Job,
    JobState,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    ProductStatus,
    QAArtifact,
    QueueState,
)
from dsa110_contimg.formats import scratch
from dsa110_contimg.housekeeping import backups
from dsa110_contimg.housekeeping.backups import BackupOptions
from dsa110_contimg.housekeeping.holdings import File, Group, Holdings, Kind, Picture, Plot, Product, Table, Tile
from dsa110_contimg.housekeeping.retention import RetentionOptions
from dsa110_contimg.telescope import mjd_to_unix

FOLDERS = ("ms/science/*", "caltables", "images", "mosaics")
"""What of the staging area the pipeline fills."""
BOUNDED = ("placed_tiles",)
"""What holds itself below a size."""
ROTATED = re.compile(r".+\.(?:jsonl|log)\.[^.].*")
OPEN_JOBS = (JobState.PENDING.value, JobState.RUNNING.value, JobState.WAITING.value)
WAITING_GROUPS = (QueueState.COLLECTING.value, QueueState.PENDING.value, QueueState.IN_PROGRESS.value)


def take_inventory(settings: Settings, retention: RetentionOptions, rotation: BackupOptions, *, now: float) -> Holdings:
    """Read everything that `retention.plan` looks at."""
    waiting = _waiting()
    products, product_paths = _products()
    with get_session("cal_registry", read_only=True) as session:
        tables = [
            Table(row.path, mjd_to_unix(row.valid_start_mjd), mjd_to_unix(row.valid_end_mjd))
            for row in session.scalars(select(Caltable))
        ]
    with get_session("products", read_only=True) as session:
        open_jobs = set(session.scalars(select(Job.subject).where(Job.state.in_(OPEN_JOBS))))
        failed = select(Job.subject, Job.updated_at).where(Job.stage == "mosaic", Job.state == JobState.FAILED.value)
        failures = {subject: changed for subject, changed in session.execute(failed)}  # noqa: C416 - rows to mypy
        members: dict[str, list[str]] = {}
        for member in session.scalars(select(MosaicGroupMember)):
            members.setdefault(member.group_id, []).append(member.ms_path)
        return Holdings(
            now_unix=now,
            tiles=[_tile(row, open_jobs) for row in session.scalars(select(MSIndex))],
            pictures=[Picture(row.path, row.ms_path, row.type) for row in session.scalars(select(Image))],
            groups=[
                Group(row.group_id, tuple(members.get(row.group_id, ())), row.mosaic_id, failures.get(row.group_id))
                for row in session.scalars(select(MosaicGroup))
            ],
            products=products,
            tables=tables,
            plots=[Plot(row.path, row.group_id, row.created_at) for row in session.scalars(select(QAArtifact))],
            waiting_unix=waiting,
            files=dict(_staged(settings)),
            protected=product_paths | _mosaic_paths(list(session.scalars(select(Mosaic)))),
            leftovers=dict(_leftovers(settings, rotation)),
            short_bytes=_lacking(settings, retention),
        )


def scratch_folders(settings: Settings) -> list[Path]:
    """Return the folders in which stages write beside their targets."""
    return _folders(settings, (*FOLDERS, *BOUNDED))


def _folders(settings: Settings, patterns: Iterable[str]) -> list[Path]:
    return [folder for pattern in patterns for folder in sorted(settings.stage.glob(pattern))]


def _waiting() -> tuple[float, ...]:
    with get_session("ingest", read_only=True) as session:
        query = select(IngestQueue.group_id).where(IngestQueue.state.in_(WAITING_GROUPS))
        return tuple(naming.stamp_unix(group_id) for group_id in session.scalars(query))


def _tile(row: MSIndex, open_jobs: set[str]) -> Tile:
    group_id = row.group_id or naming.group_id_of_ms(Path(row.path))
    return Tile(
        path=row.path,
        stage=row.stage if row.status != "failed" else "failed",
        mid_unix=None if row.mid_mjd is None else mjd_to_unix(row.mid_mjd),
        measured_unix=row.stage_updated_at,
        caltables=tuple(json.loads(row.caltables or "[]")),
        busy=group_id in open_jobs,
    )


def _products() -> tuple[dict[str, Product], set[str]]:
    with get_session("data_registry", read_only=True) as session:
        rows = session.scalars(select(DataProduct)).all()
    return {row.data_id: _product(row) for row in rows}, {path for row in rows for path in _paths_of(row)}


def _product(row: DataProduct) -> Product:
    rejected = row.finalization_status == FinalizationStatus.REJECTED.value
    settled = {ProductStatus.PUBLISHED.value: row.published_at, ProductStatus.RETRACTED.value: row.retracted_at}
    return Product(
        status=row.status,
        rejected=rejected,
        superseded=row.superseded_by is not None,
        settled_unix=settled.get(row.status, row.staged_at if rejected else None),
    )


def _paths_of(row: DataProduct) -> set[str]:
    companions = row.details.get("companions")
    listed = companions if isinstance(companions, list) else []
    return {str(path) for path in (row.stage_path, row.published_path, *listed) if path}


def _mosaic_paths(rows: list[Mosaic]) -> set[str]:
    return {p for row in rows for p in (row.path, row.noise_path, row.weight_path, row.thumbnail_path) if p is not None}


def _staged(settings: Settings) -> Iterator[tuple[str, File]]:
    for folder in _folders(settings, FOLDERS):
        for entry in os.scandir(folder):
            if not entry.name.endswith(".partial") and not entry.is_symlink():
                yield entry.path, measure(Path(entry.path))


def _leftovers(settings: Settings, rotation: BackupOptions) -> Iterator[tuple[str, tuple[Kind, File]]]:
    for path in scratch.find_abandoned([*scratch_folders(settings), settings.backups]):
        yield str(path), (Kind.SCRATCH, measure(path))
    for backup in backups.beyond_rotation(backups.list_backups(settings.backups), rotation):
        yield str(backup.folder), (Kind.BACKUP, measure(backup.folder))
    for path in sorted(settings.logs.glob("*")):
        if ROTATED.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            yield str(path), (Kind.LOG, measure(path))


def _lacking(settings: Settings, retention: RetentionOptions) -> float:
    if not settings.stage.is_dir():
        return 0.0
    return retention.spare_factor * settings.min_free_gb * 1e9 - shutil.disk_usage(settings.stage).free


def measure(path: Path) -> File:
    """Return how much room a file or folder takes, and when it was changed last."""
    total, newest = 0, 0.0
    folders = [str(path)] if path.is_dir() else []
    entries = [path.stat()]
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            entries.append(entry.stat(follow_symlinks=False))
    for found in entries:
        total += found.st_blocks * 512
        newest = max(newest, found.st_mtime)
    return File(total, newest)
