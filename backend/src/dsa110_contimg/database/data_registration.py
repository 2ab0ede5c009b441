"""A product's transitions: QA, finalization, publication, retry, reset.

When they are allowed is in `criteria`, how products enter in `product_entries`, how files move in `publications`.
The specification's two modules of the registry, this one and `data_registry`, offer the same names.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import and_, case, or_, update

from dsa110_contimg.database.claims import PublishRequest
from dsa110_contimg.database.criteria import (
    AUTO_CRITERIA,
    MAX_ATTEMPTS,
    MAY_FAIL_AGAIN,
    due,
    may_be_retried,
    objection,
    publish_blockers,
    publish_criteria,
)
from dsa110_contimg.database.models import DataProduct, QAStatus, ValidationStatus
from dsa110_contimg.database.product_entries import (
    link_data,
    list_links,
    list_tags,
    register_data_instance,
    tag_data,
    untag_data,
)
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.publications import publish
from dsa110_contimg.database.recovery import recover_publishing
from dsa110_contimg.database.registry_rows import (
    ProductRow,
    RegistryConnection,
    ensure_data_registry_db,
    find_rows,
    get_data,
    list_data,
    transaction,
)
from dsa110_contimg.errors import FencedError, PublishError

logger = logging.getLogger(__name__)

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
        Who asks and why; both are needed where QA or validation speaks against it. What failed after it was signed
        for needs no other signature, unless it was judged anew.

    Returns
    -------
    bool
        True when it is published, by this call or before it; False when another process has claimed it.

    Raises
    ------
    PublishError
        If it cannot be published; once it was claimed the row says why.
    """
    row = get_data(conn, data_id)
    despite = objection(row)
    if despite is not None and row.status in {"staging", "validated", "failed"}:
        if not (by or reason) and row.noted.get("despite") == despite:
            by, reason = str(row.noted.get("by") or ""), str(row.noted.get("reason") or "")
        if not (by or "").strip() or not (reason or "").strip():
            raise PublishError(
                f"product {data_id} is not published because {despite}: say who wants it and why (by and reason)"
            )
    request = PublishRequest(mode=mode, published_dir=published_dir, roots=roots, by=by, reason=reason, despite=despite)
    return publish(conn, data_id, request)


def publish_ready(conn: RegistryConnection, *, now: float | None = None, roots: Roots | None = None) -> dict[str, bool]:
    """Publish all that meets the six criteria, and try again what failed and whose time has come.

    Returns
    -------
    dict of str to bool
        Whether each product that was tried is published now; the row of one that is not says why.
    """
    moment = time.time() if now is None else now
    return _try_all(conn, find_rows(conn, or_(AUTO_CRITERIA, due(moment))), roots)


def retry_failed(conn: RegistryConnection, *, roots: Roots | None = None) -> dict[str, bool]:
    """Try at once all that failed fewer than three times and may be tried: data_id → published."""
    return _try_all(conn, find_rows(conn, MAY_FAIL_AGAIN), roots)


def _try_all(conn: RegistryConnection, rows: Iterable[ProductRow], roots: Roots | None) -> dict[str, bool]:
    outcome = {}
    for row in rows:
        try:
            if row.status == "staging" or may_be_retried(row):
                outcome[row.data_id] = publish(conn, row.data_id, _same_request(row, roots))
        except (PublishError, FencedError) as error:
            logger.warning("product %s is not published: %s", row.data_id, error)
            outcome[row.data_id] = False
    return outcome


def _same_request(row: ProductRow, roots: Roots | None) -> PublishRequest:
    """Return what the last attempt was asked for; where there was none, what nobody asks for."""
    noted = row.noted if row.status == "failed" else {}
    words = {name: None if noted.get(name) is None else str(noted[name]) for name in ("by", "reason", "despite")}
    folder = noted.get("published_dir")
    return PublishRequest(
        mode=row.publish_mode or "move",
        published_dir=None if folder is None else str(folder),
        roots=roots,
        automatic=bool(noted.get("automatic", True)),
        **words,
    )


def reset_failed(conn: RegistryConnection, data_id: str) -> None:
    """Send a failed product back to staging and forget its failures.

    Raises
    ------
    PublishError
        If it has not failed.
    """
    forgotten = {"status": "staging", "publish_attempts": 0, "publish_error": None, "retry_at": None}
    with transaction(conn) as run:
        product = update(DataProduct).where(DataProduct.data_id == data_id, DataProduct.status == "failed")
        changed = run(product.values(forgotten).returning(DataProduct.id))
    if not changed:
        raise PublishError(
            f"product {data_id} is {get_data(conn, data_id).status}, not failed: there is nothing to reset"
        )


def register_mosaic_in_data_registry(
    conn: RegistryConnection,
    mosaic_id: str,
    mosaic_path: Path | str,
    metadata: Mapping[str, object],
    *,
    auto_publish: bool = True,
    supersedes: str | None = None,
    derived_from: Iterable[str] = (),
) -> str:
    """Register a mosaic; its metadata must say what it was made of (MOSAIC_METADATA).

    Raises
    ------
    PublishError
        If the metadata lack something, or `register_data_instance` refuses it.
    """
    missing = [key for key in MOSAIC_METADATA if key not in metadata]
    if missing:
        raise PublishError(f"the metadata of mosaic {mosaic_id} lack {', '.join(missing)}")
    return register_data_instance(
        conn,
        "mosaic",
        mosaic_id,
        mosaic_path,
        auto_publish,
        metadata,
        supersedes=supersedes,
        derived_from=derived_from,
    )


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
    "may_be_retried",
    "objection",
    "publish_blockers",
    "publish_data_instance",
    "publish_criteria",
    "publish_data_manual",
    "publish_ready",
    "recover_publishing",
    "register_data",
    "register_data_instance",
    "register_mosaic_in_data_registry",
    "register_pipeline_data",
    "reset_failed",
    "retry_failed",
    "set_photometry_status",
    "tag_data",
    "trigger_auto_publish",
    "untag_data",
    "update_qa_status",
]
