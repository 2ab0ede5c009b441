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
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.database import publishing
from dsa110_contimg.database.ownership import is_gone, this_process
from dsa110_contimg.database.product_paths import Roots, plan_transfers
from dsa110_contimg.database.publishing import Fingerprint, Prepared
from dsa110_contimg.database.registry_rows import ProductRow, get_data, transaction
from dsa110_contimg.errors import FencedError, PublishError

logger = logging.getLogger(__name__)

LEASE_S = 600.0
AUTO_CRITERIA = (
    "status = 'staging' AND auto_publish_enabled = 1 AND qa_status = 'passed' AND validation_status = 'validated'"
    " AND finalization_status = 'finalized' AND (photometry_status = 'completed' OR photometry_status IS NULL)"
)
_CLAIMABLE = (
    "status IN ('staging', 'validated', 'failed')"
    " OR (status = 'publishing' AND (lease_expires_at IS NULL OR lease_expires_at < :now OR owner = :gone))"
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

    conn: sqlite3.Connection
    data_id: str
    attempt: int
    extended_at: float

    def change(self, assignments: str, parameters: dict[str, object], status: str = "publishing") -> None:
        """Update the row if this attempt still owns it, else raise FencedError."""
        condition = "data_id = :data_id AND attempt = :attempt AND status = :owned_status"
        own = {"data_id": self.data_id, "attempt": self.attempt, "owned_status": status}
        with transaction(self.conn) as cursor:
            statement = f"UPDATE data_registry SET {assignments} WHERE {condition}"
            if cursor.execute(statement, parameters | own).rowcount != 1:
                raise FencedError(
                    f"attempt {self.attempt} to publish {self.data_id} was overtaken; it changes nothing more"
                )

    def beat(self) -> None:
        """Extend the lease when a good part of it has passed."""
        now = time.time()
        if now - self.extended_at > LEASE_S / 10:
            self.change("lease_expires_at = :lease", {"lease": now + LEASE_S})
            self.extended_at = now


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


def claim(conn: sqlite3.Connection, row: ProductRow, request: PublishRequest) -> Claim | None:
    """Take a product for publishing; None when another process has it or its state forbids it.

    Taking over from an attempt that crashed counts that attempt as a failure.
    """
    now = time.time()
    condition = AUTO_CRITERIA if request.automatic else _CLAIMABLE
    parameters = {
        "now": now,
        "lease": now + LEASE_S,
        "owner": this_process(),
        "gone": row.owner if is_gone(row.owner) else None,
        "mode": request.mode,
        "note": json.dumps(_request_note(row, request)),
        "data_id": row.data_id,
    }
    with transaction(conn) as cursor:
        taken = cursor.execute(
            "UPDATE data_registry SET publish_attempts = COALESCE(publish_attempts, 0) + (status = 'publishing'),"
            " status = 'publishing', owner = :owner, attempt = COALESCE(attempt, 0) + 1, lease_expires_at = :lease,"
            " metadata_json = json_set(COALESCE(metadata_json, '{}'), '$.publish', json(:note)),"
            f" publish_mode = :mode WHERE data_id = :data_id AND ({condition}) RETURNING attempt",
            parameters,
        ).fetchone()
    return None if taken is None else Claim(conn, row.data_id, int(taken["attempt"]), now)


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
    claimed.change(
        "metadata_json = json_set(metadata_json, '$.publish.items', json(:items))", {"items": json.dumps(items)}
    )


def _commit(claimed: Claim, product: Prepared) -> None:
    claimed.change(
        "status = 'published', published_path = :path, published_at = :now, sha256 = :sha256, size_bytes = :size,"
        " publish_error = NULL",
        {
            "path": str(product.transfer.target),
            "now": time.time(),
            "sha256": product.fingerprint.sha256,
            "size": product.fingerprint.size_bytes,
        },
    )


def release(claimed: Claim) -> None:
    """Record that nothing is left to remove."""
    claimed.change("owner = NULL, lease_expires_at = NULL", {}, status="published")


def record_failure(claimed: Claim, error: str) -> None:
    """Record why an attempt failed, and count it."""
    claimed.change(
        "status = 'failed', publish_error = :error, publish_attempts = COALESCE(publish_attempts, 0) + 1,"
        " owner = NULL, lease_expires_at = NULL",
        {"error": error},
    )


def _fail(claimed: Claim, prepared: list[Prepared], error: Exception) -> PublishError:
    """Undo a failed attempt, say so in the row, and return the error to raise; FencedError if it was overtaken."""
    told = str(error) if isinstance(error, PublishError) else f"product {claimed.data_id} cannot be published: {error}"
    try:
        claimed.change("owner = owner", {})
        for product in reversed(prepared):
            publishing.conceal(product)
        record_failure(claimed, told)
    except (OSError, sqlite3.Error) as second:
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
    except (PublishError, OSError, sqlite3.Error) as error:
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


def publish(conn: sqlite3.Connection, data_id: str, request: PublishRequest) -> bool:
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
