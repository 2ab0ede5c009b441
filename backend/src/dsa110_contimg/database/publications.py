"""One publication: an attempt claims a product, prepares its files, reveals them and commits the row.

    claim      one guarded UPDATE to 'publishing', with owner, attempt and lease: see `claims`
    prepare    copies, hashes, checks: the long part, in which the lease is extended
    note       the fingerprints, before anything gets its final name
    reveal, commit
               in one transaction: final names, then path, time, size, SHA-256 and 'published'
    remove     of a move, in one transaction: the sources go; a published row with an owner has some left to remove

A failure before the commit is undone, counted and explained in the row; after a crash `recovery` does one or the
other. An attempt that was overtaken changes nothing more.
"""

import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from dsa110_contimg.database import publishing
from dsa110_contimg.database.claims import Claim, Held, PublishRequest, claim
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.product_entries import mark_superseded
from dsa110_contimg.database.product_paths import Roots, plan_transfers
from dsa110_contimg.database.publishing import Fingerprint, Prepared, Signature
from dsa110_contimg.database.registry_rows import STORAGE_ERRORS, ProductRow, RegistryConnection, find_rows, get_data
from dsa110_contimg.errors import ConfigurationError, FencedError, PublishError, SourceError, TargetError

logger = logging.getLogger(__name__)

RETRY_BASE_S, RETRY_CAP_S = 60.0, 3600.0
"""A failed publication is tried again by itself after a minute, two, four, up to an hour."""
_FAILURES = (PublishError, ConfigurationError, OSError, *STORAGE_ERRORS)
_RELEASED: dict[str, object] = {"owner": None, "lease_expires_at": None}
_WAYS_OUT = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk",
    errno.EACCES: "give this user the permission",
    errno.EPERM: "give this user the permission",
    errno.EROFS: "mount it to be written",
    errno.EIO: "check that disk",
    errno.EXDEV: "publish it with mode 'copy'",
}


def recorded_fingerprints(row: ProductRow) -> dict[str, Fingerprint]:
    """Return what the last attempt noted: target path → fingerprint."""
    items = row.noted.get("items", [])
    try:
        return {str(item["target"]): Fingerprint(item["sha256"], item["size_bytes"]) for item in items}  # type: ignore[attr-defined]
    except (KeyError, TypeError) as error:
        raise PublishError(
            f"the metadata_json of product {row.data_id} does not say what was published: correct it in data_registry"
        ) from error


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
    with claimed.holding() as held:
        held.note(items=items)


def _commit(held: Held, product: Prepared, *, released: bool) -> None:
    held.change(
        status="published",
        published_path=str(product.transfer.target),
        published_at=time.time(),
        sha256=product.fingerprint.sha256,
        size_bytes=product.fingerprint.size_bytes,
        publish_error=None,
        retry_at=None,
        **(_RELEASED if released else {}),
    )
    mark_superseded(held.run, held.data_id)


def release(claimed: Claim) -> None:
    """Record that nothing is left to remove."""
    claimed.change(owned="published", **_RELEASED)


def retry_delay_s(failures: int) -> float:
    """Return how long a product waits after so many failures."""
    return min(RETRY_BASE_S * 2.0 ** min(failures - 1, 16), RETRY_CAP_S)


def _record(held: Held, error: str) -> None:
    failures = held.failures + 1
    retry_at = time.time() + retry_delay_s(failures)
    held.change(status="failed", publish_error=error, publish_attempts=failures, retry_at=retry_at, **_RELEASED)


def record_failure(claimed: Claim, error: str) -> None:
    """Record why an attempt failed, count it, and say when it may be tried again by itself."""
    with claimed.holding() as held:
        _record(held, error)


def _sentence(data_id: str, error: Exception) -> str:
    if isinstance(error, PublishError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        names = " to ".join(str(name) for name in (error.filename, error.filename2) if name is not None) or "a file"
        way_out = _WAYS_OUT.get(error.errno or 0, "mend that")
        return f"product {data_id} cannot be published: {error.strerror}: {names}: {way_out}, then retry"
    return f"product {data_id} cannot be published: {error}"


def _fail(claimed: Claim, prepared: list[Prepared], error: Exception) -> PublishError:
    """Undo a failed attempt, say so in the row, and return the error to raise; FencedError if it was overtaken."""
    told = _sentence(claimed.data_id, error)
    try:
        with claimed.holding() as held:
            for product in reversed(prepared):
                publishing.conceal(product)
            _record(held, told)
    except _FAILURES as second:
        told += f"; it cannot be undone now ({second}): the next run recovers it"
    named = type(error) if isinstance(error, SourceError | TargetError) else PublishError
    return named(told)


def carry_out(claimed: Claim, row: ProductRow, request: PublishRequest) -> None:
    """Publish a claimed product.

    Raises
    ------
    PublishError
        After the attempt was undone and the row says why.
    FencedError
        If a newer attempt owns the product; nothing was changed since.
    """
    prepared = list[Prepared]()
    try:
        _prepare(claimed, row, request, prepared)
        _note(claimed, prepared)
        with claimed.holding() as held:
            for product in prepared:
                publishing.reveal(product)
            _commit(held, prepared[-1], released=request.mode == "copy")
    except _FAILURES as error:
        raise _fail(claimed, prepared, error) from error
    finally:
        _discard(prepared)
    logger.info("published %s as %s", row.data_id, prepared[-1].transfer.target)
    if request.mode == "move":
        remove_sources(claimed, [(product.transfer.source, product.signature) for product in prepared])


def _prepare(claimed: Claim, row: ProductRow, request: PublishRequest, prepared: list[Prepared]) -> None:
    """Prepare what belongs to a product, companions first, and add one by one what is to be undone after a failure."""
    roots, recorded = request.roots or Roots.configured(), recorded_fingerprints(row)
    _check_mounted(claimed.conn, roots.products)
    for transfer in plan_transfers(
        row.data_type, row.data_id, row.stage_path, row.companions, request.published_dir, roots
    ):
        known = recorded.get(str(transfer.target))
        move, attempt = request.mode == "move", claimed.attempt
        prepared.append(publishing.prepare(transfer, move=move, attempt=attempt, recorded=known, beat=claimed.beat))


def _check_mounted(conn: RegistryConnection, products: Path) -> None:
    """Raise TargetError if the products area is empty though there are products in it: then it is not there."""
    if products.is_dir() and any(products.iterdir()):
        return
    if find_rows(conn, DataProduct.published_path.startswith(f"{products}/", autoescape=True)):
        raise TargetError(f"the products area {products} is empty, though products were published there: mount it")


def _discard(prepared: list[Prepared]) -> None:
    for product in prepared:
        try:
            publishing.discard(product)
        except OSError as error:
            logger.warning("scratch of %s is left: %s", product.transfer.target, error)


def remove_sources(claimed: Claim, sources: Sequence[tuple[Path, Signature]]) -> None:
    """Delete the sources of a committed move, and release the product.

    One that changed since is left alone. One that cannot be deleted is left too, and so is the row's owner: a
    recovery deletes it.
    """
    try:
        doomed = _take_away(claimed, sources)
        for folder in doomed:
            publishing.remove(folder)
        if doomed:
            release(claimed)
    except (FencedError, *_FAILURES) as error:
        logger.warning("%s is published; what is left of it in staging is for a recovery: %s", claimed.data_id, error)


def _take_away(claimed: Claim, sources: Sequence[tuple[Path, Signature]]) -> list[Path]:
    """Delete files and take the names of folders, which remain to be deleted; without any, release the product."""
    doomed = []
    with claimed.holding("published") as held:
        for source, known in sources:
            if not source.exists():
                continue
            if publishing.signature(source) != known:
                logger.warning("%s is published, but its staged copy changed since: it is left alone", source)
                continue
            left = publishing.take_away(source, claimed.attempt)
            if left is not None:
                doomed.append(left)
        if not doomed:
            held.change(**_RELEASED)
    return doomed


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
