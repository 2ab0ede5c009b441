"""Taking a published product back: its row says so first, then its files go to a tombstone folder.

    decide    one guarded UPDATE, 'published' to 'retracted', notes who, when, why, what replaces it, which files go
              where, and an owner
    settle    product and companions are renamed into <products>/retracted/<data_id>/, nothing is overwritten, the
              folders are flushed; `published_path` then names the tombstone and the owner goes

The second is one transaction that holds the row: two that finish the same retraction take turns, and one of them
finds nothing left to do. A 'retracted' row with an owner has files left to move: `resume_retraction` finishes it, as
often as needed. The id stays taken: a remade product is a new row. A tombstone stays, unless it is discarded: then the
row says so first, and the files of a discard that was killed go with the next one.
"""

import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import update

from dsa110_contimg.database import publishing
from dsa110_contimg.database.claims import LEASE_S
from dsa110_contimg.database.disk_steps import make_folders, remove, rename_new, sync_folder
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.product_paths import TOMBSTONES, Roots, check_areas, tombstone_path
from dsa110_contimg.database.publications import recorded_fingerprints
from dsa110_contimg.database.publishing import Fingerprint
from dsa110_contimg.database.registry_rows import (
    STORAGE_ERRORS,
    ProductRow,
    RegistryConnection,
    get_data,
    parse_details,
    transaction,
)
from dsa110_contimg.errors import FencedError, PublishError

logger = logging.getLogger(__name__)


class Removal(NamedTuple):
    """One published file or folder and its tombstone."""

    source: Path
    target: Path
    content: Fingerprint | None
    """What was published; None if that was never recorded."""


def published_items(row: ProductRow) -> list[tuple[Path, Fingerprint | None]]:
    """Return the files and folders of a published product with what was published, companions first."""
    known = {Path(target): content for target, content in recorded_fingerprints(row).items()}
    product = Path(row.published_path or "")
    content = None if row.sha256 is None else Fingerprint(row.sha256, row.size_bytes or 0)
    return [*((path, known[path]) for path in known if path != product), (product, known.get(product, content))]


def removals(row: ProductRow) -> list[Removal]:
    """Return what a retraction noted: which files go where, the product last."""
    noted = row.details.get("retract")
    try:
        return [
            Removal(
                Path(item["from"]),
                Path(item["to"]),
                None if item["sha256"] is None else Fingerprint(item["sha256"], item["size_bytes"]),
            )
            for item in (noted["items"] if noted else [])  # type: ignore[index]
        ]
    except (KeyError, TypeError) as error:
        raise PublishError(
            f"the metadata_json of product {row.data_id} does not say what was retracted: correct it in data_registry"
        ) from error


def retract(
    conn: RegistryConnection,
    data_id: str,
    *,
    reason: str,
    by: str,
    successor: str | None = None,
    roots: Roots | None = None,
) -> Path:
    """Take a published product back and return its tombstone.

    Parameters
    ----------
    reason, by
        Why, and who says so.
    successor
        The product that replaces it.

    Raises
    ------
    PublishError
        If it is not published, or cannot be moved; after it was decided the row says what is left to do.
    """
    row = get_data(conn, data_id)
    _check_signed(data_id, reason, by)
    _check_published(row)
    _check_successor(conn, row, successor)
    try:
        plan = _plan(row, roots or Roots.configured())
    except OSError as error:
        raise PublishError(f"product {data_id} cannot be retracted: {error}") from error
    _decide(conn, row, plan, {"by": by.strip(), "reason": reason.strip(), "successor": successor})
    logger.info("retracted %s: %s", data_id, reason)
    return _settle(conn, get_data(conn, data_id), plan)


def resume_retraction(conn: RegistryConnection, row: ProductRow, roots: Roots | None = None) -> Path | None:
    """Finish a retraction that was interrupted and return the tombstone; None if there is nothing to finish.

    Raises
    ------
    PublishError
        If a file cannot be moved; the row says why.
    """
    if row.status != "retracted" or row.owner is None:
        return None
    with _told_in_row(conn, row):
        plan = removals(row)
        for item in plan:
            if item.target != tombstone_path(item.source, row.data_id, roots or Roots.configured()):
                raise PublishError(f"{item.source} was not to be kept as {item.target}: the row was changed by hand")
        if not plan:
            raise PublishError("the row no longer says which files are to be moved")
    return _settle(conn, row, plan)


def discard_tombstone(conn: RegistryConnection, data_id: str) -> None:
    """Remove the files of a retracted product for good; what an earlier call has left of them goes too.

    Raises
    ------
    PublishError
        If it is not retracted, or not all of its files are set aside yet.
    """
    row = get_data(conn, data_id)
    if row.status != "retracted" or row.owner is not None:
        raise PublishError(f"product {data_id} is {row.status}, or is being moved: it has no tombstone to discard")
    items = removals(row)
    if not is_discarded(row):
        details = dict(row.details)
        details["retract"] = {**_noted(row), "discarded_at": time.time()}
        at_rest = update(DataProduct).where(DataProduct.data_id == data_id, DataProduct.attempt == row.attempt)
        with transaction(conn) as run:
            run(at_rest.where(DataProduct.owner.is_(None)).values(metadata_json=json.dumps(details)))
    for item in items:
        remove(item.target)
        for folder in item.target.parents[:2]:
            # That of the kind, and that of the product, once they are empty.
            if folder.name != TOMBSTONES and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                sync_folder(folder.parent)


def is_discarded(row: ProductRow) -> bool:
    """Return whether the files of a retracted product are gone for good, or about to be."""
    return "discarded_at" in _noted(row)


def _noted(row: ProductRow) -> dict[str, object]:
    noted = row.details.get("retract")
    return noted if isinstance(noted, dict) else {}


def is_there(path: Path) -> bool:
    """Return whether anything has a name; what cannot be looked at is an error, never absent."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _check_signed(data_id: str, reason: str, by: str) -> None:
    for what, told in (("a reason", reason), ("who asks for it", by)):
        if not told.strip():
            raise PublishError(f"product {data_id} is not retracted without {what}: see `contimg registry retract`")


def _check_published(row: ProductRow) -> None:
    if row.status == "retracted":
        left = f"; `contimg registry recover` finishes what {row.owner} began" if row.owner else ""
        raise PublishError(f"product {row.data_id} was retracted already: {row.retract_reason}{left}")
    if row.status != "published" or row.published_path is None:
        raise PublishError(
            f"product {row.data_id} is {row.status}, not published: only what is published can be retracted"
        )
    if row.owner is not None:
        raise PublishError(
            f"product {row.data_id} is still being published by {row.owner}: try again, or `contimg registry recover`"
        )


def _check_successor(conn: RegistryConnection, row: ProductRow, successor: str | None) -> None:
    if successor is None:
        return
    found = get_data(conn, successor)
    if successor == row.data_id or found.status == "retracted":
        raise PublishError(f"product {successor} cannot replace {row.data_id}: name one that stands")


def _plan(row: ProductRow, roots: Roots) -> list[Removal]:
    """Return what goes where, having made sure that nothing is known to stand in the way."""
    check_areas(roots)
    device = roots.products.stat().st_dev if roots.products.is_dir() else None
    plan = []
    for path, content in published_items(row):
        item = Removal(path, tombstone_path(path, row.data_id, roots), content)
        _check_area(item)
        if is_there(item.target):
            raise PublishError(f"{item.target} exists already: a tombstone is never replaced")
        if is_there(path) and path.lstat().st_dev != device:
            raise PublishError(
                f"{path} lies on another file system than {roots.products}: it cannot be set aside whole"
            )
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PublishError(f"{path.parent} cannot be written: check its permissions")
        make_folders(item.target.parent)
        plan.append(item)
    return plan


def _check_area(item: Removal) -> None:
    """Raise PublishError if a file is nowhere because its whole folder is: then it is not lost, but out of reach."""
    if not item.source.parent.is_dir() and not is_there(item.target):
        raise PublishError(f"the folder {item.source.parent} is gone: see whether the products area is mounted")


def _decide(conn: RegistryConnection, row: ProductRow, plan: list[Removal], told: dict[str, str | None]) -> None:
    now = time.time()
    items = [
        {
            "from": str(item.source),
            "to": str(item.target),
            "sha256": None if item.content is None else item.content.sha256,
            "size_bytes": None if item.content is None else item.content.size_bytes,
        }
        for item in plan
    ]
    product = update(DataProduct).where(DataProduct.data_id == row.data_id)
    still = product.where(
        DataProduct.status == "published", DataProduct.owner.is_(None), DataProduct.published_path == row.published_path
    )
    deciding = still.values(
        status="retracted",
        retracted_at=now,
        retract_reason=told["reason"],
        superseded_by=told["successor"] or DataProduct.superseded_by,
        owner=this_process(),
        attempt=(row.attempt or 0) + 1,
        lease_expires_at=now + LEASE_S,
    )
    with transaction(conn) as run:
        taken = run(deciding.returning(DataProduct.metadata_json))
        if not taken:
            raise PublishError(f"product {row.data_id} is no longer published: somebody else was faster")
        details = parse_details(row.data_id, taken[0][0]) | {"retract": {**told, "at": now, "items": items}}
        run(product.values(metadata_json=json.dumps(details)))


def _settle(conn: RegistryConnection, row: ProductRow, plan: list[Removal]) -> Path:
    tombstone = plan[-1].target
    own = update(DataProduct).where(
        DataProduct.data_id == row.data_id, DataProduct.status == "retracted", DataProduct.attempt == row.attempt
    )
    settling = own.where(DataProduct.owner.is_not(None)).values(
        published_path=str(tombstone), owner=None, lease_expires_at=None, publish_error=None
    )
    with _told_in_row(conn, row), transaction(conn) as run:
        if run(settling.returning(DataProduct.id)):
            for item in reversed(plan):
                _set_aside(item)
        elif get_data(conn, row.data_id).published_path != str(tombstone):
            raise FencedError(f"attempt {row.attempt} to retract {row.data_id} was overtaken; it changes nothing more")
    return tombstone


@contextmanager
def _told_in_row(conn: RegistryConnection, row: ProductRow) -> Iterator[None]:
    """Let the row of a retraction that is not finished say why."""
    try:
        yield
    except (PublishError, OSError, *STORAGE_ERRORS) as error:
        told = f"product {row.data_id} is retracted, but not all of its files are set aside: {error}"
        unfinished = update(DataProduct).where(
            DataProduct.data_id == row.data_id, DataProduct.status == "retracted", DataProduct.owner.is_not(None)
        )
        with transaction(conn) as run:
            # Without a lease, recovery need not wait for this process to end.
            run(unfinished.values(publish_error=told, lease_expires_at=None))
        raise PublishError(f"{told}; `contimg registry recover` finishes it") from error


def _set_aside(item: Removal) -> None:
    """Rename one file or folder to its tombstone, where that has not been done yet, and flush both folders."""
    source, target, content = item
    _check_area(item)
    make_folders(target.parent)
    if is_there(source) and not _stands(source, target, content):
        _rename(source, target)
    elif not is_there(target):
        logger.warning("%s is missing: there is nothing to set aside", source)
    for folder in (target.parent, source.parent):
        if folder.is_dir():
            sync_folder(folder)


def _stands(source: Path, target: Path, content: Fingerprint | None) -> bool:
    """Return whether the tombstone is there already, though something has the published name.

    Where renaming takes two steps, a crash leaves a file with both names, or a folder beside an empty one.
    """
    if not is_there(target):
        return False
    if os.path.samestat(source.lstat(), target.lstat()):
        source.unlink()
    elif target.is_dir() and not any(target.iterdir()):
        target.rmdir()
        return False
    elif publishing.fingerprint(target) != content:
        raise PublishError(f"{source} and {target} both exist: compare them, and remove what does not belong there")
    else:
        logger.warning("%s is set aside; another file has its name now, which is left alone", source)
    return True


def _rename(source: Path, target: Path) -> None:
    """Rename without overwriting; a folder that is read-only is writable meanwhile, for its `..` changes."""
    mode = stat.S_IMODE(source.lstat().st_mode)
    closed = source.is_dir() and not source.is_symlink() and not mode & stat.S_IWUSR
    if closed:
        source.chmod(mode | stat.S_IWUSR)
    try:
        rename_new(source, target)
    finally:
        if closed:
            (target if target.is_dir() else source).chmod(mode)
