"""A product's transitions: QA, finalization, publication. Rows are in `registry_rows`, files in `publishing`.

The specification's two modules of the registry, this one and `data_registry`, offer the same names.

A product is published by itself when all of S0's six criteria hold; `publish_blockers` names those that do not.
A person may publish without them, but gives a reason when QA or validation failed.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import and_, case, func, or_, update

from dsa110_contimg.database.models import DataProduct, FinalizationStatus, QAStatus, ValidationStatus
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.publications import PublishRequest, publish
from dsa110_contimg.database.recovery import recover_publishing
from dsa110_contimg.database.registry_rows import (
    ProductRow,
    RegistryConnection,
    ensure_data_registry_db,
    find_rows,
    get_data,
    link_data,
    list_data,
    list_links,
    list_tags,
    register_data_instance,
    tag_data,
    transaction,
)
from dsa110_contimg.errors import PublishError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
MOSAIC_METADATA = (
    "group_id",
    "n_images",
    "time_range",
    "calibrator_name",
    "image_paths",
    "ms_paths",
    "validation_issues",
)
PHOTOMETRY_STATES = ("pending", "running", "completed", "failed")


_OPEN = DataProduct.status.in_(("staging", "validated", "failed"))
_MEASURED = or_(DataProduct.photometry_status == "completed", DataProduct.photometry_status.is_(None))
_AWAITS_PERSON = and_(
    DataProduct.status == "staging",
    DataProduct.auto_publish_enabled == 0,
    DataProduct.finalization_status == "finalized",
    DataProduct.qa_status == "passed",
    _MEASURED,
)
_VERDICT = case(
    (or_(DataProduct.qa_status == "failed", DataProduct.validation_status == "invalid"), "rejected"),
    (
        and_(DataProduct.qa_status.in_(("passed", "warning")), DataProduct.validation_status == "validated"),
        "finalized",
    ),
    else_="pending",
)


def publish_blockers(row: ProductRow) -> list[str]:
    """Return why a product may not be published by itself yet: one sentence per criterion that does not hold."""
    wanted = (
        ("status", row.status, "staging"),
        ("QA", row.qa_status or "pending", "passed"),
        ("validation", row.validation_status or "pending", "validated"),
        ("finalization", row.finalization_status or "pending", "finalized"),
    )
    blockers = [f"{what} is {found!r}, not {needed!r}" for what, found, needed in wanted if found != needed]
    if not row.auto_publish_enabled:
        blockers.append("auto-publish is off")
    if row.photometry_status not in {None, "completed"}:
        blockers.append(f"photometry is {row.photometry_status!r}, not 'completed'")
    return blockers


def manual_refusal(row: ProductRow) -> str | None:
    """Return why not even a person may publish a product without giving a reason, or None."""
    if row.qa_status == QAStatus.FAILED:
        return "its QA failed"
    if row.validation_status == ValidationStatus.INVALID:
        return "its validation failed"
    return "it was rejected" if row.finalization_status == FinalizationStatus.REJECTED else None


def _check_statuses(qa_status: str | None, validation_status: str | None) -> None:
    if qa_status is not None and qa_status not in set(QAStatus):
        raise PublishError(f"{qa_status!r} is no QA status; there are {', '.join(QAStatus)}")
    if validation_status is not None and validation_status not in set(ValidationStatus):
        raise PublishError(f"{validation_status!r} is no validation status; there are {', '.join(ValidationStatus)}")


def update_qa_status(
    conn: RegistryConnection, data_id: str, qa_status: str | None = None, validation_status: str | None = None
) -> None:
    """Set QA and validation of a product; what is None stays.

    Raises
    ------
    PublishError
        If a status is unknown, or would change on a product that is being or has been published.
    """
    _check_statuses(qa_status, validation_status)
    told = {DataProduct.qa_status: qa_status, DataProduct.validation_status: validation_status}
    wanted = {column: value for column, value in told.items() if value is not None}
    if not wanted:
        get_data(conn, data_id)
        return
    same = and_(*(column == value for column, value in wanted.items()))
    with transaction(conn) as run:
        changed = run(
            update(DataProduct)
            .where(DataProduct.data_id == data_id, or_(_OPEN, same))
            .values({column.key: value for column, value in wanted.items()})
            .returning(DataProduct.id)
        )
    if not changed:
        row = get_data(conn, data_id)
        raise PublishError(f"product {data_id} is {row.status}: its QA can no longer change")


def set_photometry_status(conn: RegistryConnection, data_id: str, status: str, job_id: str | None = None) -> None:
    """Set the photometry gate of a product: pending, running, completed or failed."""
    if status not in PHOTOMETRY_STATES:
        raise PublishError(f"{status!r} is no photometry status; there are {', '.join(PHOTOMETRY_STATES)}")
    get_data(conn, data_id)
    values = {"photometry_status": status} | ({} if job_id is None else {"photometry_job_id": job_id})
    with transaction(conn) as run:
        run(update(DataProduct).where(DataProduct.data_id == data_id).values(values))


def finalize_data(
    conn: RegistryConnection,
    data_id: str,
    qa_status: str | None = None,
    validation_status: str | None = None,
    *,
    mode: str = "move",
    roots: Roots | None = None,
) -> bool:
    """Record that a product has all that it will get, and publish it if the six criteria hold.

    A failed QA or validation rejects it; an unfinished one leaves it pending. With auto-publish off, a product that
    passed becomes 'validated' and waits for a person.

    Returns
    -------
    bool
        Whether it is published now. A publication that failed is in the row, not raised.
    """
    row = get_data(conn, data_id)
    if row.status in {"published", "publishing", "retracted"}:
        return row.status == "published"
    update_qa_status(conn, data_id, qa_status, validation_status)
    product = update(DataProduct).where(DataProduct.data_id == data_id)
    with transaction(conn) as run:
        run(product.where(_OPEN).values(finalization_status=_VERDICT))
        run(product.where(_AWAITS_PERSON).values(status="validated"))
    return trigger_auto_publish(conn, data_id, mode=mode, roots=roots)


def trigger_auto_publish(
    conn: RegistryConnection, data_id: str, *, mode: str = "move", roots: Roots | None = None
) -> bool:
    """Publish a product if the six criteria hold; return whether it is published now."""
    row = get_data(conn, data_id)
    blockers = publish_blockers(row)
    if blockers:
        logger.info("product %s is not published by itself: %s", data_id, "; ".join(blockers))
        return row.status == "published"
    try:
        return publish(conn, data_id, PublishRequest(mode=mode, roots=roots, automatic=True))
    except PublishError:
        logger.exception("product %s could not be published", data_id)
        return False


def publish_data_instance(
    conn: RegistryConnection,
    data_id: str,
    published_dir: Path | str | None = None,
    mode: str = "move",
    *,
    roots: Roots | None = None,
    by: str | None = None,
    reason: str | None = None,
) -> bool:
    """Publish a product by hand, or again after a failure.

    Parameters
    ----------
    published_dir
        The type's folder of the products area, such as <products>/mosaics; None takes the usual one.
    mode
        'move' or 'copy'.
    by, reason
        Who asks and why; a reason is needed when QA or validation failed.

    Returns
    -------
    bool
        True when it is published, by this call or before it; False when another process has claimed it.

    Raises
    ------
    PublishError
        If it cannot be published; the row then says why.
    """
    row = get_data(conn, data_id)
    refusal = manual_refusal(row)
    if refusal is not None and not reason and row.status != "published":
        raise PublishError(
            f"product {data_id} is not published because {refusal}: give a reason to publish it all the same"
        )
    request = PublishRequest(mode=mode, published_dir=published_dir, roots=roots, by=by, reason=reason)
    return publish(conn, data_id, request)


def retry_failed(conn: RegistryConnection, *, roots: Roots | None = None) -> dict[str, bool]:
    """Publish again what failed fewer than three times and still passes its gates: data_id → published."""
    outcome = {}
    retried = (
        DataProduct.status == "failed",
        func.coalesce(DataProduct.publish_attempts, 0) < MAX_ATTEMPTS,
        DataProduct.finalization_status == "finalized",
        DataProduct.qa_status == "passed",
        DataProduct.auto_publish_enabled == 1,
    )
    for row in find_rows(conn, *retried):
        try:
            outcome[row.data_id] = publish_data_instance(
                conn, row.data_id, mode=row.publish_mode or "move", roots=roots
            )
        except PublishError as error:
            logger.warning("product %s failed again: %s", row.data_id, error)
            outcome[row.data_id] = False
    return outcome


def register_mosaic_in_data_registry(
    conn: RegistryConnection,
    mosaic_id: str,
    mosaic_path: Path | str,
    metadata: Mapping[str, object],
    *,
    auto_publish: bool = True,
) -> str:
    """Register a mosaic; its metadata must say what it was made of (MOSAIC_METADATA).

    Raises
    ------
    PublishError
        If the metadata lack something, or the file's name does not begin with the mosaic's id.
    """
    missing = [key for key in MOSAIC_METADATA if key not in metadata]
    if missing:
        raise PublishError(f"the metadata of mosaic {mosaic_id} lack {', '.join(missing)}")
    if not Path(mosaic_path).name.startswith(mosaic_id):
        raise PublishError(f"mosaic {mosaic_id} cannot be registered as {mosaic_path}: the names differ")
    return register_data_instance(conn, "mosaic", mosaic_id, mosaic_path, auto_publish, metadata)


# Names of the workflow document and of older scripts.
finalize_mosaic = finalize_data
register_data = register_data_instance
register_pipeline_data = register_data_instance
publish_data_manual = publish_data_instance
get_data_relationships = list_links
get_data_tags = list_tags

__all__ = [
    "MAX_ATTEMPTS",
    "MOSAIC_METADATA",
    "ProductRow",
    "ensure_data_registry_db",
    "finalize_data",
    "finalize_mosaic",
    "find_rows",
    "get_data",
    "get_data_relationships",
    "get_data_tags",
    "link_data",
    "list_data",
    "list_links",
    "list_tags",
    "manual_refusal",
    "publish_blockers",
    "publish_data_instance",
    "publish_data_manual",
    "recover_publishing",
    "register_data",
    "register_data_instance",
    "register_mosaic_in_data_registry",
    "register_pipeline_data",
    "retry_failed",
    "set_photometry_status",
    "tag_data",
    "trigger_auto_publish",
    "update_qa_status",
]
