"""Whether the published files are still what was published.

Every product and companion is read again and its SHA-256 compared with the registry's; tombstones of retracted
products are counted apart. FITS files carry CHECKSUM and DATASUM for those who have no registry; they are not looked
at here, for the hash covers every byte that they cover, and their own too.

Products move while this runs. What does not agree is therefore held against a fresh reading of its row, and what an
attempt that is alive is moving is not judged.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from dsa110_contimg.database import publishing
from dsa110_contimg.database.claims import is_abandoned
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.publishing import Fingerprint, scratch_path
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, find_rows, get_data
from dsa110_contimg.database.retraction import is_discarded, is_there, published_items, removals
from dsa110_contimg.errors import PublishError

Tell = Callable[[str, int, int], None]
"""Called with a product's id before its files are read, and how many of how many were read."""
Item = tuple[Path, Fingerprint | None]


class Finding(NamedTuple):
    """What was found under one path."""

    path: str
    data_id: str | None
    """None for a file that no row names."""
    sentence: str


@dataclass
class Findings:
    """Files by what is the matter with them."""

    sound: list[Finding] = field(default_factory=list)
    """The content that was published."""
    changed: list[Finding] = field(default_factory=list)
    """Another content."""
    missing: list[Finding] = field(default_factory=list)
    """Nothing."""
    unverified: list[Finding] = field(default_factory=list)
    """What cannot be read, or whose checksum was never recorded."""

    @property
    def intact(self) -> bool:
        """Whether nothing is the matter."""
        return not (self.changed or self.missing or self.unverified)


@dataclass
class FixityReport(Findings):
    """What a verification found: published products here, tombstones in `retracted`."""

    unknown: list[Finding] = field(default_factory=list)
    """Files of the products area that no row names."""
    retracted: Findings = field(default_factory=Findings)

    @property
    def intact(self) -> bool:
        """Whether every file is accounted for."""
        return super().intact and not self.unknown and self.retracted.intact

    def as_dict(self) -> dict[str, object]:
        """Return all findings, ready for JSON."""
        told = asdict(self)
        for group in (told, told["retracted"]):
            for name, found in group.items():
                if isinstance(found, list):
                    group[name] = [finding._asdict() for finding in found]
        return told | {"intact": self.intact}


def verify(
    conn: RegistryConnection,
    *,
    since: float | None = None,
    data_id: str | None = None,
    roots: Roots | None = None,
    tell: Tell = lambda _data_id, _done, _total: None,
) -> FixityReport:
    """Read the products area again and compare it with the registry.

    Parameters
    ----------
    since
        Only what was published at that moment (unix s) or later is read; unknown files are looked for always.
    data_id
        Only this product is read, and nothing looked for.
    tell
        Called before the files of each product are read.
    """
    report = FixityReport()
    recent = () if since is None else (DataProduct.published_at >= since,)
    named = () if data_id is None else (DataProduct.data_id == data_id,)
    rows = find_rows(conn, DataProduct.status.in_(("published", "retracted")), *recent, *named)
    for done, row in enumerate(rows):
        tell(row.data_id, done, len(rows))
        _verify_product(conn, row, report)
    if data_id is None:
        _look_for_unknown_files(conn, (roots or Roots.configured()).products, report)
    return report


def is_alive(row: ProductRow) -> bool:
    """Return whether an attempt may be moving the files of a product at this moment."""
    if row.status not in {"publishing", "retracted"} or row.owner is None:
        return False
    return not is_abandoned(row.owner, row.lease_expires_at, time.time())


def _items(row: ProductRow) -> list[Item]:
    """Return what a row says is on disk: files and folders, and what they were."""
    if row.status == "published":
        return published_items(row)
    if row.status != "retracted" or is_discarded(row):
        return []
    kept = [(item.source if _not_yet_moved(row, item.target) else item.target, item.content) for item in removals(row)]
    return kept or published_items(row)[-1:]


def _not_yet_moved(row: ProductRow, target: Path) -> bool:
    return row.owner is not None and not is_there(target)


def _verify_product(conn: RegistryConnection, row: ProductRow, report: FixityReport) -> None:
    """Judge one product; judge it anew if its row has changed meanwhile."""
    while not is_alive(row):
        found = _judge(row)
        fresh = row if found.intact else get_data(conn, row.data_id)
        if (fresh.status, fresh.owner, fresh.published_path) == (row.status, row.owner, row.published_path):
            group = report.retracted if row.status == "retracted" else report
            for name in ("sound", "changed", "missing", "unverified"):
                getattr(group, name).extend(getattr(found, name))
            return
        row = fresh


def _judge(row: ProductRow) -> Findings:
    found = Findings()
    try:
        for path, content in _items(row):
            _judge_path(path, content, row.data_id, found)
    except PublishError as error:
        found.unverified.append(Finding(str(row.published_path), row.data_id, str(error)))
    return found


def _judge_path(path: Path, content: Fingerprint | None, data_id: str, found: Findings) -> None:
    def finding(sentence: str) -> Finding:
        return Finding(str(path), data_id, sentence)

    try:
        if not is_there(path):
            found.missing.append(finding(f"{path} of product {data_id} is missing: restore it, or retract the product"))
        elif path.is_symlink():
            found.changed.append(finding(f"{path} of product {data_id} was replaced by a symbolic link"))
        elif content is None:
            found.unverified.append(finding(f"no checksum of {path} was recorded: it cannot be verified"))
        elif (standing := publishing.fingerprint(path)) == content:
            found.sound.append(finding("as published"))
        else:
            found.changed.append(
                finding(
                    f"{path} of product {data_id} is not what was published: {standing.size_bytes} bytes instead of"
                    f" {content.size_bytes}, SHA-256 {standing.sha256[:12]} instead of {content.sha256[:12]}"
                )
            )
    except PublishError as error:
        found.changed.append(finding(f"{path} of product {data_id} is not what was published: {error}"))
    except OSError as error:
        found.unverified.append(finding(f"{path} of product {data_id} cannot be read: {error.strerror or error}"))


def _look_for_unknown_files(conn: RegistryConnection, products: Path, report: FixityReport) -> None:
    """Report the files of the products area that no row names.

    The rows are read after the files: what was published in between is not unknown, and what was moved away in
    between is no longer there.
    """
    unreadable: list[OSError] = []
    seen = [
        Path(folder, name)
        for folder, folders, files in os.walk(products, onerror=unreadable.append)
        for name in (*files, *(name for name in folders if Path(folder, name).is_symlink()))
    ]
    named, scratch = _named_paths(conn)
    report.unknown.extend(
        Finding(str(path), None, f"{path} belongs to no product: find out whose it is")
        for path in sorted(seen)
        if named.isdisjoint((path, *path.parents))
        and scratch.isdisjoint(path.relative_to(products).parts)
        and os.path.lexists(path)
    )
    report.unverified.extend(
        Finding(str(error.filename), None, f"{error.filename} cannot be looked into: {error.strerror}")
        for error in unreadable
    )


def _named_paths(conn: RegistryConnection) -> tuple[set[Path], set[str]]:
    """Return every path that a row names, and the names of the scratch of attempts that are alive."""
    named, scratch = set[Path](), set[str]()
    for row in find_rows(conn, DataProduct.status.in_(("publishing", "published", "retracted"))):
        named.add(Path(row.published_path or ""))
        try:
            if row.status == "retracted":
                moved = removals(row)
                named.update(item.target for item in moved)
                named.update(item.source for item in moved if row.owner is not None)
            else:
                named.update(path for path, _ in published_items(row))
            if row.status == "publishing" and is_alive(row):
                staged = [*row.companions, row.stage_path]
                scratch.update(scratch_path(Path(path), row.attempt or 0).name for path in staged)
        except PublishError:
            # Told by the verification of its product.
            continue
    return named, scratch
