"""What a killed process left between the databases is made good: the others follow products and the files.

A step's result is decided by one transaction in products. The rest comes after it or before it, in files and in
databases of their own, and a kill may fall in between:

    jobs            a job that runs for an owner that is gone may be claimed again
    ingest          a group whose tile is indexed is completed; one whose conversion failed for good has failed
    data_registry   photometry has ended when its job has; a publication or retraction without its process is finished
                    or undone; what may be published by itself is, and what failed is tried again when its time comes
    products        the rows of a mosaic name its files, published or retracted; light curves leave the latter out;
                    a mosaic for which nothing is left to do is closed, and not looked at again
    files           scratch of processes that are gone is removed

Every function here may run at any time, any number of times, and beside other runners.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.config import Settings, current_settings
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.bulk import in_parts
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
from dsa110_contimg.housekeeping.inventory import scratch_folders
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.coverage import follow_coverage
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.pipeline.versions import follow_retractions

logger = logging.getLogger(__name__)
ENDED = (JobState.COMPLETED.value, JobState.FAILED.value)

SETTLED = (ProductStatus.PUBLISHED.value, ProductStatus.RETRACTED.value)
AT_REST_BUT_OWNED = and_(DataProduct.owner.is_not(None), DataProduct.status.in_(SETTLED))
LAST_STAGES = (Stage.PUBLISH, Stage.VARIABILITY)


def reconcile(options: PhotometryOptions) -> None:
    """Bring every database to what products and the files say; cheap when there is nothing to do."""
    release_dead_owners()
    follow_conversions()
    follow_photometry()
    recover_publications()
    publish_due()
    follow_products(options)
    close_mosaics()


def follow_products(options: PhotometryOptions) -> None:
    """Let products follow the data registry: where files lie, and which measurements count."""
    follow_publications()
    if follow_retractions(options):
        follow_coverage(current_settings())


def remove_scratch(settings: Settings) -> list[Path]:
    """Remove what killed processes left unfinished in the staging area, and return what it was."""
    removed = scratch.remove_abandoned(scratch_folders(settings))
    for path in removed:
        logger.info("removed %s, which a killed process left", path)
    return removed


def release_dead_owners() -> list[str]:
    """Let the jobs of processes of this host that no longer live be claimed again; return their ids."""
    return _release(lambda row: is_gone(row.owner))


def release_orphans(owner: str, in_hand: Collection[str]) -> list[str]:
    """Let an owner's jobs be claimed again that it has not in hand, as when their end could not be recorded."""
    return _release(lambda row: row.owner == owner and row.job_id not in in_hand)


def _release(is_orphan: Callable[[Job], bool]) -> list[str]:
    with get_session("products", read_only=True) as session:
        orphans = [
            row
            for row in leases.list_jobs(session, state=JobState.RUNNING)
            if (row.lease_expires_at or 0.0) > time.time() and is_orphan(row)
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
    """Let groups in progress follow their tiles and their jobs, and pending ones whose job could not even begin."""
    with get_session("ingest", read_only=True) as session:
        open_groups = [group.group_id for group in ingest_queue.list_groups(session, QueueState.IN_PROGRESS.value)]
        pending = select(IngestQueue.group_id).where(IngestQueue.state == QueueState.PENDING.value)
        open_groups += session.scalars(pending)
    if not open_groups:
        return
    with get_session("products", read_only=True) as session:
        tiles = [
            tile
            for part in in_parts(open_groups)
            for tile in session.scalars(select(MSIndex).where(MSIndex.group_id.in_(part)))
        ]
        ended = {
            subject: job
            for part in in_parts(open_groups)
            for subject, job in _ended_jobs(session, Stage.CONVERT, part).items()
        }
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
    publishing = DataProduct.status == ProductStatus.PUBLISHING.value
    with get_session("data_registry", read_only=True) as session:
        rows = [
            row for held in (publishing, AT_REST_BUT_OWNED) for row in session.scalars(select(DataProduct).where(held))
        ]
    interrupted = [row.data_id for row in rows if is_abandoned(row.owner, row.lease_expires_at, time.time())]
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
    with get_session("products", read_only=True) as session:
        paths = _paths(session, Mosaic.closed_at.is_(None))
    placed = _placed(DataProduct.status == ProductStatus.RETRACTED.value)
    for part in in_parts(paths):
        placed |= _placed(DataProduct.data_id.in_(part), DataProduct.status == ProductStatus.PUBLISHED.value)
    with get_session("products", read_only=True) as session:
        for part in in_parts(name for name in placed if name not in paths):
            paths |= _paths(session, Mosaic.name.in_(part))
    moved = {name: placed[name] for name, path in paths.items() if placed.get(name) not in (None, path)}
    if moved:
        with get_session("products") as session:
            for name, path in moved.items():
                follow_publication(session, name, str(path))


def _paths(session: Session, which: ColumnElement[bool]) -> dict[str, str]:
    return dict(iter(session.execute(select(Mosaic.name, Mosaic.path).where(which))))


def _placed(*which: ColumnElement[bool]) -> dict[str, str | None]:
    """Return where the files of mosaics lie that are in nobody's hands."""
    columns = select(DataProduct.data_id, DataProduct.published_path).where(DataProduct.data_type == "mosaic", *which)
    rested = (DataProduct.published_path.is_not(None), DataProduct.owner.is_(None))
    with get_session("data_registry", read_only=True) as session:
        return dict(iter(session.execute(columns.where(*rested))))


def close_mosaics() -> list[str]:
    """Close the mosaics for which nothing is left to do, and return their names.

    That is: published or taken back, named where they lie, and the last jobs behind them completed.
    """
    with get_session("products", read_only=True) as session:
        columns = select(Mosaic.name, Mosaic.path, Mosaic.status).where(Mosaic.closed_at.is_(None))
        opened = {name: (path, status) for name, path, status in session.execute(columns)}
        if not opened:
            return []
        completed = _completed(session, opened)
    statuses = _settled(opened)
    done = [
        name
        for name, (path, status) in opened.items()
        if (statuses.get(name) == (ProductStatus.PUBLISHED.value, path) and name in completed)
        or statuses.get(name, ("", ""))[0] == status == ProductStatus.RETRACTED.value
    ]
    if done:
        with get_session("products") as session:
            for part in in_parts(done):
                still_open = update(Mosaic).where(Mosaic.name.in_(part), Mosaic.closed_at.is_(None))
                session.execute(still_open.values(closed_at=time.time()))
    return done


def _completed(session: Session, names: Iterable[str]) -> set[str]:
    """Return the mosaics whose last jobs have all completed."""
    found: Counter[str] = Counter()
    for part in in_parts(names):
        last = select(Job.subject).where(Job.subject.in_(part), Job.stage.in_(LAST_STAGES))
        found.update(session.scalars(last.where(Job.state == JobState.COMPLETED.value)))
    return {name for name, number in found.items() if number == len(LAST_STAGES)}


def _settled(names: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """Return status and place of products that nobody works on."""
    found = {}
    with get_session("data_registry", read_only=True) as session:
        columns = select(DataProduct.data_id, DataProduct.status, DataProduct.published_path)
        for part in in_parts(names):
            rows = session.execute(columns.where(DataProduct.data_id.in_(part), DataProduct.owner.is_(None)))
            found.update({name: (status, path) for name, status, path in rows})
    return found


def follow_publication(session: Session, mosaic_id: str, published_path: str) -> None:
    """Let the rows of one mosaic and its companions name the files where they lie now."""
    row = MosaicRepository.get_by_name(session, mosaic_id)
    if row is None or row.path == published_path:
        return
    coverage = str(naming.beside_mosaic(Path(row.path), "coverage"))
    companions = [path for path in (row.noise_path, row.weight_path, coverage) if path is not None]
    MosaicRepository.relocate(session, row.path, published_path)
    for old in companions:
        new = str(Path(published_path).parent / Path(old).name)
        session.execute(update(Image).where(Image.path == old).values(path=new))


def _ended_jobs(session: Session, stage: Stage, subjects: Sequence[str]) -> dict[str, Job]:
    rows = session.scalars(select(Job).where(Job.stage == stage.value, Job.subject.in_(subjects), Job.state.in_(ENDED)))
    return {row.subject: row for row in rows}
