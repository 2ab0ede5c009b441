"""What a killed process left between the databases is made good: the others follow products and the files.

A step's result is decided by one transaction in products. The rest comes after it or before it, in files and in
databases of their own, and a kill may fall in between:

    jobs            a job that runs for an owner that is gone may be claimed again
    ingest          a group whose tile is indexed is completed; one whose conversion failed for good has failed
    data_registry   photometry has ended when its job has; a publication or retraction without its process is finished
                    or undone; what may be published by itself is, and what failed is tried again when its time comes
    products        the rows of a mosaic name its files, published or retracted; light curves leave the latter out
    files           scratch of processes that are gone is removed

Every function here may run at any time, any number of times, and beside other runners.
"""

import json
import logging
import time
from pathlib import Path

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.claims import is_abandoned
from dsa110_contimg.database.criteria import AUTO_CRITERIA, due
from dsa110_contimg.database.data_registration import publish_ready, recover_publishing, set_photometry_status
from dsa110_contimg.database.models import (
    DataProduct,
    Image,
    IngestQueue,
    Job,
    JobState,
    Mosaic,
    MSIndex,
    ProductStatus,
    QueueState,
)
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.ownership import is_gone
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.formats import scratch
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.pipeline.versions import follow_retractions

logger = logging.getLogger(__name__)
ENDED = (JobState.COMPLETED.value, JobState.FAILED.value)
SCRATCH_FOLDERS = ("ms/science/*", "caltables", "images", "mosaics")


MOVED = and_(
    DataProduct.status.in_((ProductStatus.PUBLISHED.value, ProductStatus.RETRACTED.value)),
    DataProduct.published_path.is_not(None),
    DataProduct.owner.is_(None),
)
"""Products whose files lie where `published_path` says."""


def reconcile(options: PhotometryOptions) -> None:
    """Bring every database to what products and the files say; cheap when there is nothing to do."""
    release_dead_owners()
    follow_conversions()
    follow_photometry()
    recover_publications()
    publish_due()
    follow_products(options)


def follow_products(options: PhotometryOptions) -> None:
    """Let products follow the data registry: where files lie, and which measurements count."""
    follow_publications()
    follow_retractions(options)


def remove_scratch(settings: Settings) -> list[Path]:
    """Remove what killed processes left unfinished in the staging area, and return what it was."""
    folders = [folder for pattern in SCRATCH_FOLDERS for folder in sorted(settings.stage.glob(pattern))]
    removed = scratch.remove_abandoned(folders)
    for path in removed:
        logger.info("removed %s, which a killed process left", path)
    return removed


def release_dead_owners() -> list[str]:
    """Let the jobs of processes of this host that no longer live be claimed again; return their ids."""
    with get_session("products", read_only=True) as session:
        orphans = [
            row
            for row in leases.list_jobs(session, state=JobState.RUNNING)
            if is_gone(row.owner) and (row.lease_expires_at or 0.0) > time.time()
        ]
    if not orphans:
        return []
    with get_session("products") as session:
        return [row.job_id for row in orphans if leases.expire_lease(session, row.job_id, row.attempt, now=time.time())]


def finish_group(group_id: str, calibrator: str | None) -> None:
    """Let the ingest queue say that a group's tile is indexed, and which calibrator transits in it."""
    names = [calibrator] if calibrator else []
    with get_session("ingest") as session:
        ingest_queue.finish_group(session, group_id)
        session.execute(
            update(IngestQueue)
            .where(IngestQueue.group_id == group_id)
            .values(has_calibrator=int(bool(names)), calibrators=json.dumps(names))
        )


def follow_conversions() -> None:
    """Let groups in progress follow their tiles and their jobs."""
    with get_session("ingest", read_only=True) as session:
        open_groups = [group.group_id for group in ingest_queue.list_groups(session, QueueState.IN_PROGRESS.value)]
    if not open_groups:
        return
    with get_session("products", read_only=True) as session:
        tiles = session.scalars(select(MSIndex).where(MSIndex.group_id.in_(open_groups))).all()
        ended = _ended_jobs(session, Stage.CONVERT, open_groups)
    for tile in tiles:
        finish_group(str(tile.group_id), tile.calibrator)
    indexed = {tile.group_id for tile in tiles}
    for group_id, job in ended.items():
        if job.state == JobState.FAILED.value and group_id not in indexed:
            with get_session("ingest") as session:
                ingest_queue.fail_group(session, group_id, job.error or "no reason recorded", now=time.time())


def follow_photometry() -> None:
    """Let the photometry gate of a product follow its job."""
    with get_session("data_registry", read_only=True) as session:
        measured = session.scalars(select(DataProduct.data_id).where(DataProduct.photometry_status == "running")).all()
    if not measured:
        return
    with get_session("products", read_only=True) as session:
        ended = _ended_jobs(session, Stage.PHOTOMETRY, list(measured))
    if not ended:
        return
    with open_registry() as connection:
        for data_id, job in ended.items():
            set_photometry_status(connection, data_id, job.state)


def recover_publications() -> None:
    """Finish or undo the publications and retractions whose process is gone."""
    held = (ProductStatus.PUBLISHED.value, ProductStatus.RETRACTED.value)
    with get_session("data_registry", read_only=True) as session:
        interrupted = [
            row.data_id
            for row in session.scalars(
                select(DataProduct).where(
                    or_(
                        DataProduct.status == ProductStatus.PUBLISHING.value,
                        DataProduct.status.in_(held) & DataProduct.owner.is_not(None),
                    )
                )
            )
            if is_abandoned(row.owner, row.lease_expires_at, time.time())
        ]
    if interrupted:
        with open_registry() as connection:
            recover_publishing(connection)


def publish_due() -> list[str]:
    """Publish what meets the criteria, and try again what failed and whose time has come; return what is published."""
    with get_session("data_registry", read_only=True) as session:
        if session.scalar(select(DataProduct.id).where(or_(AUTO_CRITERIA, due(time.time()))).limit(1)) is None:
            return []
    with open_registry() as connection:
        outcome = publish_ready(connection)
    return [data_id for data_id, published in outcome.items() if published]


def follow_publications() -> None:
    """Let the rows of mosaics name their files, whoever published or retracted them."""
    with get_session("data_registry", read_only=True) as session:
        columns = select(DataProduct.data_id, DataProduct.published_path)
        placed = dict(iter(session.execute(columns.where(DataProduct.data_type == "mosaic", MOVED))))
    with get_session("products", read_only=True) as session:
        paths = session.execute(select(Mosaic.name, Mosaic.path))
        moved = {name: placed[name] for name, path in paths if placed.get(name) not in (None, path)}
    if moved:
        with get_session("products") as session:
            for name, path in moved.items():
                follow_publication(session, name, str(path))


def follow_publication(session: Session, mosaic_id: str, published_path: str) -> None:
    """Let the rows of one mosaic and its companions name the files where they lie now."""
    row = MosaicRepository.get_by_name(session, mosaic_id)
    if row is None or row.path == published_path:
        return
    companions = [path for path in (row.noise_path, row.weight_path) if path is not None]
    MosaicRepository.relocate(session, row.path, published_path)
    for old in companions:
        new = str(Path(published_path).parent / Path(old).name)
        session.execute(update(Image).where(Image.path == old).values(path=new))


def _ended_jobs(session: Session, stage: Stage, subjects: list[str]) -> dict[str, Job]:
    rows = session.scalars(select(Job).where(Job.stage == stage.value, Job.subject.in_(subjects), Job.state.in_(ENDED)))
    return {row.subject: row for row in rows}
