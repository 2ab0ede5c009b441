"""One publication: an attempt claims a product, moves its files, commits the row.

    claim      one guarded UPDATE to 'publishing', with owner, attempt and lease
    note       the fingerprints, before anything gets its final name
    commit     path, time, size, SHA-256 and 'published', only if the attempt is still the newest
    release    after the source is gone; a published row with an owner has sources left to remove

An attempt that was overtaken changes nothing more. A failure before the commit is undone, counted and explained
in the row; after a crash `recovery` does one or the other.
"""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, and_, case, func, or_, update

from dsa110_contimg.database import publishing
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.ownership import is_gone, this_process
from dsa110_contimg.database.product_paths import Roots, plan_transfers
from dsa110_contimg.database.publishing import Fingerprint, Prepared
from dsa110_contimg.database.registry_rows import STORAGE_ERRORS, ProductRow, RegistryConnection, get_data, transaction
from dsa110_contimg.errors import ConfigurationError, FencedError, PublishError

logger = logging.getLogger(__name__)

LEASE_S = 600.0
AUTO_CRITERIA = and_(
    DataProduct.status == "staging",
    DataProduct.auto_publish_enabled == 1,
    DataProduct.qa_status == "passed",
    DataProduct.validation_status == "validated",
    DataProduct.finalization_status == "finalized",
    or_(DataProduct.photometry_status == "completed", DataProduct.photometry_status.is_(None)),
)


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """What is asked for."""

    mode: str = "move"
    """'move' or 'copy'."""
    published_dir: Path | str | None = None
    """The type's folder of the products area; None takes the usual one."""
    roots: Roots | None = None
    """None takes the configured ones."""
    automatic: bool = False
    """Claim only if S0's six criteria hold at that moment."""
    by: str | None = None
    reason: str | None = None
    """Who published by hand, and why."""


@dataclass
class Claim:
    """The right of one attempt to publish one product."""

    conn: RegistryConnection
    data_id: str
    attempt: int
    extended_at: float

    def change(self, *, owned: str = "publishing", note: dict[str, object] | None = None, **columns: object) -> None:
        """Update the row, and what is noted in it, if this attempt still owns it, else raise FencedError."""
        row = update(DataProduct).where(DataProduct.data_id == self.data_id)
        own = row.where(DataProduct.attempt == self.attempt, DataProduct.status == owned)
        with transaction(self.conn) as run:
            changed = run(own.values(columns or {"owner": DataProduct.owner}).returning(DataProduct.metadata_json))
            if not changed:
                raise FencedError(
                    f"attempt {self.attempt} to publish {self.data_id} was overtaken; it changes nothing more"
                )
            if note is not None:
                run(row.values(metadata_json=_with_note(changed[0][0], note)))

    def beat(self) -> None:
        """Extend the lease when a good part of it has passed."""
        now = time.time()
        if now - self.extended_at > LEASE_S / 10:
            self.change(lease_expires_at=now + LEASE_S)
            self.extended_at = now


def _with_note(metadata_json: str | None, note: dict[str, object]) -> str:
    details = json.loads(metadata_json or "{}")
    earlier = details.get("publish")
    return json.dumps(details | {"publish": (earlier if isinstance(earlier, dict) else {}) | note})


def _request_note(row: ProductRow, request: PublishRequest) -> dict[str, object]:
    """Return what is noted with the claim; the fingerprints of an interrupted attempt stay noted."""
    noted = row.details.get("publish")
    earlier = noted if isinstance(noted, dict) else {}
    folder = None if request.published_dir is None else str(Path(request.published_dir).resolve())
    told = {"automatic": request.automatic, "by": request.by, "reason": request.reason}
    if row.status == "publishing" and request.by is None:
        # An attempt that takes over from one that crashed goes on for the same reason.
        told = {name: earlier.get(name, value) for name, value in told.items()}
    return {"published_dir": folder, **told, "items": earlier.get("items", [])}


def claim(conn: RegistryConnection, row: ProductRow, request: PublishRequest) -> Claim | None:
    """Take a product for publishing; None when another process has it or its state forbids it.

    Taking over from an attempt that crashed counts that attempt as a failure.
    """
    now = time.time()
    row_of_product = update(DataProduct).where(DataProduct.data_id == row.data_id)
    taking = row_of_product.where(AUTO_CRITERIA if request.automatic else _claimable(row, now)).values(
        publish_attempts=func.coalesce(DataProduct.publish_attempts, 0)
        + case((DataProduct.status == "publishing", 1), else_=0),
        status="publishing",
        owner=this_process(),
        attempt=func.coalesce(DataProduct.attempt, 0) + 1,
        lease_expires_at=now + LEASE_S,
        publish_mode=request.mode,
    )
    with transaction(conn) as run:
        taken = run(taking.returning(DataProduct.attempt, DataProduct.metadata_json))
        if not taken:
            return None
        attempt, metadata_json = taken[0]
        run(row_of_product.values(metadata_json=_with_note(metadata_json, _request_note(row, request))))
    return Claim(conn, row.data_id, int(attempt), now)


def _claimable(row: ProductRow, now: float) -> ColumnElement[bool]:
    """Return the condition under which a product is to be had: at rest, or its owner is gone or late."""
    late = or_(DataProduct.lease_expires_at.is_(None), DataProduct.lease_expires_at < now)
    if is_gone(row.owner):
        late = or_(late, DataProduct.owner == row.owner)
    return or_(
        DataProduct.status.in_(("staging", "validated", "failed")), and_(DataProduct.status == "publishing", late)
    )


def recorded_fingerprints(row: ProductRow) -> dict[str, Fingerprint]:
    """Return what the last attempt noted: target path → fingerprint."""
    noted = row.details.get("publish")
    items = noted.get("items", []) if isinstance(noted, dict) else []
    return {item["target"]: Fingerprint(item["sha256"], item["size_bytes"]) for item in items}


def _note(claimed: Claim, prepared: list[Prepared]) -> None:
    items = [
        {
            "source": str(p.transfer.source),
            "target": str(p.transfer.target),
            "sha256": p.fingerprint.sha256,
            "size_bytes": p.fingerprint.size_bytes,
        }
        for p in prepared
    ]
    claimed.change(note={"items": items})


def _commit(claimed: Claim, product: Prepared) -> None:
    claimed.change(
        status="published",
        published_path=str(product.transfer.target),
        published_at=time.time(),
        sha256=product.fingerprint.sha256,
        size_bytes=product.fingerprint.size_bytes,
        publish_error=None,
    )


def release(claimed: Claim) -> None:
    """Record that nothing is left to remove."""
    claimed.change(owned="published", owner=None, lease_expires_at=None)


def record_failure(claimed: Claim, error: str) -> None:
    """Record why an attempt failed, and count it."""
    claimed.change(
        status="failed",
        publish_error=error,
        publish_attempts=func.coalesce(DataProduct.publish_attempts, 0) + 1,
        owner=None,
        lease_expires_at=None,
    )


def _fail(claimed: Claim, prepared: list[Prepared], error: Exception) -> PublishError:
    """Undo a failed attempt, say so in the row, and return the error to raise; FencedError if it was overtaken."""
    told = str(error) if isinstance(error, PublishError) else f"product {claimed.data_id} cannot be published: {error}"
    try:
        claimed.change()
        for product in reversed(prepared):
            publishing.conceal(product)
        record_failure(claimed, told)
    except (ConfigurationError, OSError, *STORAGE_ERRORS) as second:
        told += f"; it cannot be undone now ({second}): the next run recovers it"
    return PublishError(told)


def carry_out(claimed: Claim, row: ProductRow, request: PublishRequest) -> None:
    """Publish a claimed product.

    Raises
    ------
    PublishError
        After the attempt was undone and the row says why.
    FencedError
        If a newer attempt owns the product; nothing was changed since.
    """
    move, prepared = request.mode == "move", list[Prepared]()
    recorded = recorded_fingerprints(row)
    try:
        roots = request.roots or Roots.configured()
        for transfer in plan_transfers(row.data_type, row.stage_path, row.companions, request.published_dir, roots):
            known = recorded.get(str(transfer.target))
            prepared.append(
                publishing.prepare(transfer, move=move, attempt=claimed.attempt, recorded=known, beat=claimed.beat)
            )
        _note(claimed, prepared)
        for product in prepared:
            publishing.reveal(product, claimed.beat)
        _commit(claimed, prepared[-1])
    except (PublishError, ConfigurationError, OSError, *STORAGE_ERRORS) as error:
        raise _fail(claimed, prepared, error) from error
    logger.info("published %s as %s", row.data_id, prepared[-1].transfer.target)
    if move:
        remove_sources(prepared, claimed.attempt)
    release(claimed)


def remove_sources(prepared: list[Prepared], attempt: int) -> None:
    """Delete the sources of a committed move; one that changed meanwhile or cannot be deleted is left and logged."""
    for product in prepared:
        source = product.transfer.source
        try:
            if source.exists() and publishing.signature(source) != product.signature:
                logger.warning("%s is published, but its staged copy changed since: it is left alone", source)
            elif source.exists():
                publishing.remove_source(source, attempt)
        except OSError as error:
            logger.warning("%s is published, but its staged copy cannot be removed: %s", source, error)


def publish(conn: RegistryConnection, data_id: str, request: PublishRequest) -> bool:
    """Publish a product.

    Returns
    -------
    bool
        True when it is published, by this call or before it; False when another process has claimed it.

    Raises
    ------
    PublishError
        If it cannot be published; the row says why.
    """
    if request.mode not in {"move", "copy"}:
        raise PublishError(f"{request.mode!r} is no way to publish: use 'move' or 'copy'")
    row = get_data(conn, data_id)
    if row.status == "retracted":
        raise PublishError(f"product {data_id} was retracted: register its successor under a new id")
    claimed = None if row.status == "published" else claim(conn, row, request)
    if claimed is None:
        row = get_data(conn, data_id)
        if row.status != "published":
            logger.info("product %s is already claimed by %s", data_id, row.owner)
        return row.status == "published"
    carry_out(claimed, get_data(conn, data_id), request)
    return True
