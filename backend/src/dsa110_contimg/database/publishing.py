"""How a file or folder gets from staging into the products area without ever being lost, doubled or half-visible.

    prepare    copy to <target>.<attempt>.partial on the target's file system while hashing, flush, read back, compare;
               a move within one file system copies nothing: it hashes and flushes the source
    reveal     give it its final name without overwriting; flush the folder
    (commit)   the registry's row is updated: see `publications`
    remove     only now, and only in a move, the source goes

Before the commit `conceal` undoes `reveal`. Every step may be repeated. A content is known by its SHA-256: of the
bytes of a file; of the sorted list of (kind, relative path, size, SHA-256) of a folder.
This module knows paths, not rows.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dsa110_contimg.errors import PublishError

CHUNK_BYTES = 4 * 1024 * 1024
Beat = Callable[[], None]
"""Called between chunks, so that the owner can extend its lease; it may raise FencedError."""


Signature = tuple[tuple[str, int, int], ...]
"""(path, size, mtime in ns) of a file, or of a folder and all it holds; empty for what does not exist."""


class Fingerprint(NamedTuple):
    """What a content is known by."""

    sha256: str
    size_bytes: int


class Transfer(NamedTuple):
    """One file or folder and where it goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Prepared:
    """A transfer that needs only its final name."""

    transfer: Transfer
    fingerprint: Fingerprint
    origin: Path | None
    """What `reveal` names: a verified scratch copy, the source itself, or None when the target is there already."""
    signature: Signature
    """Sizes and times of the source as it was read."""

    @property
    def in_place(self) -> bool:
        """Whether the source itself is renamed (or linked), not a copy."""
        return self.origin == self.transfer.source


def scratch_path(path: Path, attempt: int) -> Path:
    """Return the name under which an attempt's half-done work on a path is kept, beside it."""
    return path.with_name(f"{path.name}.{attempt}.partial")


def remove(path: Path) -> None:
    """Delete a file or folder that may be absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, and flush what was made."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _chunks(path: Path, beat: Beat, *, sync: bool) -> Iterator[bytes]:
    with path.open("rb") as stream:
        if sync:
            os.fsync(stream.fileno())
        while chunk := stream.read(CHUNK_BYTES):
            beat()
            yield chunk


def _fingerprint_file(path: Path, beat: Beat, *, sync: bool) -> Fingerprint:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path, beat, sync=sync):
        digest.update(chunk)
        size += len(chunk)
    return Fingerprint(digest.hexdigest(), size)


def _entries(folder: Path) -> list[Path]:
    entries = sorted(folder.rglob("*"), key=lambda entry: entry.relative_to(folder).as_posix())
    for entry in entries:
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise PublishError(
                f"{entry} is a symbolic link or a special file: a product may hold only files and folders"
            )
    return entries


def _digest_of_listing(listing: list[tuple[str, str, Fingerprint]]) -> Fingerprint:
    digest = hashlib.sha256()
    for kind, name, part in listing:
        digest.update(f"{kind}\0{name}\0{part.size_bytes}\0{part.sha256}\n".encode())
    return Fingerprint(digest.hexdigest(), sum(part.size_bytes for _, _, part in listing))


def fingerprint(path: Path, beat: Beat = lambda: None, *, sync: bool = False) -> Fingerprint:
    """Return the fingerprint of a file or folder; with `sync`, flush it to disk on the way."""
    if not path.is_dir():
        return _fingerprint_file(path, beat, sync=sync)
    listing = []
    for entry in _entries(path):
        name = entry.relative_to(path).as_posix()
        if entry.is_dir():
            listing.append(("folder", name, Fingerprint("", 0)))
        else:
            listing.append(("file", name, _fingerprint_file(entry, beat, sync=sync)))
        if sync and entry.is_dir():
            sync_folder(entry)
    if sync:
        sync_folder(path)
    return _digest_of_listing(listing)


def signature(path: Path) -> Signature:
    """Return what changes when somebody writes to a file or folder."""
    if not path.exists():
        return ()
    entries = [path, *_entries(path)] if path.is_dir() else [path]
    stats = [(entry, entry.lstat()) for entry in entries]
    return tuple((str(entry), 0 if entry.is_dir() else stat.st_size, stat.st_mtime_ns) for entry, stat in stats)


def check_source(source: Path) -> None:
    """Raise PublishError unless the source is a file or folder with something in it."""
    if source.is_symlink():
        raise PublishError(f"{source} is a symbolic link: register the file that it points to")
    if not source.exists():
        raise PublishError(f"{source} does not exist: nothing can be published")
    if source.is_dir():
        empty = not any(entry.is_file() for entry in _entries(source))
    else:
        empty = not source.is_file() or source.stat().st_size == 0
    if empty:
        raise PublishError(f"{source} is empty or no regular file: nothing can be published")


def _copy_file(source: Path, scratch: Path, beat: Beat) -> Fingerprint:
    digest, size = hashlib.sha256(), 0
    with scratch.open("xb") as out:
        for chunk in _chunks(source, beat, sync=False):
            digest.update(chunk)
            out.write(chunk)
            size += len(chunk)
        shutil.copystat(source, scratch)
        out.flush()
        os.fsync(out.fileno())
        # Without this the read-back would compare the page cache with itself.
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return Fingerprint(digest.hexdigest(), size)


def _copy_folder(source: Path, scratch: Path, beat: Beat) -> Fingerprint:
    scratch.mkdir()
    listing = []
    for entry in _entries(source):
        name = entry.relative_to(source).as_posix()
        if entry.is_dir():
            (scratch / name).mkdir()
            listing.append(("folder", name, Fingerprint("", 0)))
        else:
            listing.append(("file", name, _copy_file(entry, scratch / name, beat)))
    for folder in [scratch, *(entry for entry in _entries(scratch) if entry.is_dir())]:
        sync_folder(folder)
    return _digest_of_listing(listing)


def _verified_copy(source: Path, scratch: Path, beat: Beat) -> Fingerprint:
    remove(scratch)
    try:
        copied = (_copy_folder if source.is_dir() else _copy_file)(source, scratch, beat)
        found = fingerprint(scratch, beat)
    except BaseException:
        remove(scratch)
        raise
    if found != copied:
        remove(scratch)
        raise PublishError(f"{scratch} does not read back as written: check the disk; {source} is untouched")
    return copied


def _standing_target(transfer: Transfer, recorded: Fingerprint | None, beat: Beat) -> Fingerprint:
    """Return the fingerprint of a target that is there already, or raise if it is not this product."""
    source, target = transfer
    if target.is_symlink():
        raise PublishError(f"{target} is a symbolic link: remove it first")
    expected = fingerprint(source, beat) if source.exists() else recorded
    found = fingerprint(target, beat, sync=True)
    if found != expected:
        raise PublishError(f"{target} exists with another content than {source}: a published file is never replaced")
    return found


def prepare(
    transfer: Transfer, *, move: bool, attempt: int, recorded: Fingerprint | None = None, beat: Beat = lambda: None
) -> Prepared:
    """Bring a transfer to the point where only its name is missing.

    Parameters
    ----------
    move
        The source goes away in the end; within one file system nothing is copied then.
    attempt
        Makes the scratch name unique; scratch of earlier attempts is removed.
    recorded
        The fingerprint that an earlier attempt noted, for a target whose source is gone already.

    Raises
    ------
    PublishError
        If the source is missing, empty, a link, or changes meanwhile; if the target has another content; if the
        copy does not read back.
    """
    source, target = transfer
    for earlier in range(1, attempt):
        remove(scratch_path(target, earlier))
    before = signature(source)
    if target.exists() or target.is_symlink():
        return Prepared(transfer, _standing_target(transfer, recorded, beat), None, before)
    check_source(source)
    make_folders(target.parent)
    if move and source.stat().st_dev == target.parent.stat().st_dev:
        origin, content = source, fingerprint(source, beat, sync=True)
    else:
        origin = scratch_path(target, attempt)
        content = _verified_copy(source, origin, beat)
    prepared = Prepared(transfer, content, origin, before)
    if signature(source) != before:
        conceal(prepared)
        raise PublishError(f"{source} changed while it was read: it is still being written")
    return prepared


def _give_name(origin: Path, target: Path) -> None:
    """Name a file or folder `target`, which must not exist; a file keeps its old name too, where that is possible."""
    if origin.is_dir():
        # A folder cannot be renamed onto a file or onto a folder that holds something.
        origin.rename(target)
        return
    try:
        target.hardlink_to(origin)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK} or target.exists():
            raise
        origin.rename(target)


def reveal(prepared: Prepared, beat: Beat = lambda: None) -> None:
    """Give a prepared transfer its final name, without overwriting, and flush the folder; may be repeated."""
    target, origin = prepared.transfer.target, prepared.origin
    if origin is None:
        return
    try:
        _give_name(origin, target)
    except OSError as error:
        if not target.exists():
            raise
        if fingerprint(target, beat) != prepared.fingerprint:
            raise PublishError(f"{target} appeared with another content: a published file is never replaced") from error
    sync_folder(target.parent)
    if not prepared.in_place:
        remove(origin)


def conceal(prepared: Prepared) -> None:
    """Undo `reveal` and remove scratch; the source is whole again."""
    source, target = prepared.transfer
    if prepared.origin is None:
        return
    if target.exists():
        if prepared.in_place and not source.exists():
            target.rename(source)
        elif target.is_dir():
            hidden = prepared.origin if not prepared.in_place else scratch_path(target, 0)
            target.rename(hidden)
            remove(hidden)
        else:
            target.unlink()
        sync_folder(target.parent)
    if not prepared.in_place:
        remove(prepared.origin)


def remove_source(source: Path, attempt: int) -> None:
    """Delete a source whose published copy is committed; a half-deleted folder does not keep its name."""
    if source.is_dir():
        doomed = scratch_path(source, attempt)
        source.rename(doomed)
        source = doomed
    remove(source)
    sync_folder(source.parent)
