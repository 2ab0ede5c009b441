"""How a file or folder gets from staging into the products area without ever being lost, doubled or half-visible.

    prepare    copy to <target>.<attempt>.partial on the target's file system while hashing, flush, read back from the
               disk, compare; a move within one file system copies nothing: it hashes and flushes the source, and a
               file is linked as <target>.<attempt>.partial
    reveal     take the write permission away, give the final name without overwriting, flush the folder
    (commit)   the registry's row is updated: see `publications`
    remove     only now, and only in a move, the source goes

Until the commit the source keeps its name, but for a folder that is moved within one file system: that is renamed.
Before the commit `conceal` undoes `reveal`. Every step may be repeated. `reveal`, `conceal` and `take_away` change what
has a final name and belong where nobody else can claim the product; they take no longer than the folder has files.

This module knows paths, not rows.
"""

import errno
import hashlib
import itertools
import mmap
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dsa110_contimg.database.contents import (
    CHUNK_BYTES,
    Beat,
    Fingerprint,
    Signature,
    digest_of_listing,
    entries_of,
    files_of,
    fingerprint,
    signature,
)
from dsa110_contimg.database.disk_steps import (
    PUBLISHED_MODE,
    is_being_written,
    make_folders,
    naming,
    remove,
    rename_new,
    seal,
    sync_folder,
)
from dsa110_contimg.errors import PublishError, SourceError, TargetError

__all__ = [
    "CHUNK_BYTES",
    "Beat",
    "Fingerprint",
    "Prepared",
    "Signature",
    "Transfer",
    "check_source",
    "conceal",
    "discard",
    "fingerprint",
    "make_folders",
    "prepare",
    "remove",
    "rename_new",
    "reveal",
    "scratch_path",
    "signature",
    "sync_folder",
    "take_away",
]

_BLOCK_BYTES = 4096
_READERS = 3
# The file system has no links, or not for this user: then even a move copies.
_NO_LINK = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP}


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
    """What `reveal` renames: scratch (a verified copy of the source, or a link to it), the source if it is a folder,
    or None when the target is there already."""
    signature: Signature
    """Sizes and times of the source as it was read."""
    modes: dict[Path, int] = field(default_factory=dict)
    """The permissions that `reveal` took away, for `conceal`."""


def scratch_path(path: Path, attempt: int) -> Path:
    """Return the name under which an attempt's half-done work on a path is kept, beside it."""
    return path.with_name(f"{path.name}.{attempt}.partial")


def check_source(source: Path) -> None:
    """Raise SourceError unless the source is a file or folder with something in it."""
    if source.is_symlink():
        raise SourceError(f"{source} is a symbolic link: register the file that it points to")
    if not source.exists():
        raise SourceError(f"{source} does not exist: nothing can be published")
    empty = not files_of(source) if source.is_dir() else not source.is_file() or source.stat().st_size == 0
    if empty:
        raise SourceError(f"{source} is empty or no regular file: nothing can be published")


def _check_unchanged(source: Path, before: Signature) -> None:
    """Raise SourceError if somebody writes to a source, or has written to it since it was looked at."""
    if signature(source) != before:
        raise SourceError(f"{source} changed while it was read: it is still being written")
    for file in files_of(source):
        if is_being_written(file):
            raise SourceError(f"{file} is still being written: a process has it open; publish it when that is done")


def _buffer(size: int) -> mmap.mmap:
    """Return memory for a file's chunks, aligned as reading past the page cache needs it."""
    return mmap.mmap(-1, -(-min(CHUNK_BYTES, max(size, 1)) // _BLOCK_BYTES) * _BLOCK_BYTES)


def _pour(reading: int, writing: int, beat: Beat) -> Fingerprint:
    """Copy one open file to another while hashing it: in a second thread, if it is longer than a chunk."""
    size = os.fstat(reading).st_size
    digest, copied, hashing = hashlib.sha256(), 0, deque[Future[None]]()
    with ThreadPoolExecutor(1) as second:
        # Of three buffers one is filled and written while another is hashed and a third waits for that.
        for buffer in itertools.cycle([_buffer(size) for _ in range(3)]):
            count = os.readv(reading, [buffer])
            if not count or copied > size:
                break
            beat()
            part = memoryview(buffer)[:count]
            if size > CHUNK_BYTES:
                hashing.append(second.submit(digest.update, part))
            else:
                digest.update(part)
            while part:
                part = part[os.write(writing, part) :]
            if hashing:
                # The disk begins to write now, not with the flush; and what was written leaves the page cache.
                os.posix_fadvise(writing, copied, count, os.POSIX_FADV_DONTNEED)
            if len(hashing) == 2:
                hashing.popleft().result()
            copied += count
    return Fingerprint(digest.hexdigest(), copied)


def _copy_file(source: Path, scratch: Path, beat: Beat) -> Fingerprint:
    with naming(scratch), source.open("rb", buffering=0) as stream, scratch.open("xb", buffering=0) as out:
        content = _pour(stream.fileno(), out.fileno(), beat)
        shutil.copystat(source, scratch)
        scratch.chmod(PUBLISHED_MODE)
        os.fsync(out.fileno())
    return content


def _copy_folder(source: Path, scratch: Path, beat: Beat) -> Fingerprint:
    scratch.mkdir()
    listing = []
    for entry in entries_of(source):
        name = entry.relative_to(source).as_posix()
        if entry.is_dir():
            (scratch / name).mkdir()
            listing.append(("folder", name, Fingerprint("", 0)))
        else:
            listing.append(("file", name, _copy_file(entry, scratch / name, beat)))
    for folder in [scratch, *(entry for entry in entries_of(scratch) if entry.is_dir())]:
        sync_folder(folder)
    return digest_of_listing(listing)


@contextmanager
def _past_the_cache(path: Path) -> Iterator[int]:
    """Open a file so that reading it reads the disk: the page cache would only be compared with itself."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        yield handle
    finally:
        os.close(handle)


def _alike(reading: int, disk: int, starts: range, beat: Beat) -> bool:
    """Return whether two open files hold the same in the chunks that begin at these places."""
    found = _buffer(starts.stop)
    expected = bytearray(len(found))
    for start in starts:
        beat()
        count = os.preadv(disk, [found], start)
        wanted = os.preadv(reading, [expected], start)
        del expected[count:]
        if count != wanted or expected != memoryview(found)[:count]:
            return False
    return True


def _reads_back(source: Path, copy: Path, beat: Beat) -> bool:
    """Return whether the disk holds in a copy, chunk by chunk, what the source holds."""
    if source.is_dir():
        entries = [(entry, copy / entry.relative_to(source)) for entry in entries_of(source)]
        alike = [other for _, other in entries] == entries_of(copy)
        return alike and all(other.is_dir() or _reads_back(entry, other, beat) for entry, other in entries)
    size = source.stat().st_size
    if copy.stat().st_size != size:
        return False
    step = len(_buffer(size))
    shares = [range(first, size, _READERS * step) for first in range(0, size, step)[:_READERS]]
    with naming(copy), source.open("rb", buffering=0) as stream, _past_the_cache(copy) as disk:
        # While one thread compares, the disk reads for the others.
        with ThreadPoolExecutor(_READERS) as others:
            found = [others.submit(_alike, stream.fileno(), disk, share, lambda: None) for share in shares[1:]]
            alike = all(_alike(stream.fileno(), disk, share, beat) for share in shares[:1])
        return alike and all(other.result() for other in found)


def _verified_copy(source: Path, scratch: Path, before: Signature, beat: Beat) -> Fingerprint:
    copied = (_copy_folder if source.is_dir() else _copy_file)(source, scratch, beat)
    if not _reads_back(source, scratch, beat):
        _check_unchanged(source, before)
        raise PublishError(f"{scratch} does not read back as written: check the disk; {source} is untouched")
    return copied


def _linked(source: Path, scratch: Path, beat: Beat) -> tuple[Path, Fingerprint] | None:
    """Return what to rename when nothing needs to be copied, or None if it must."""
    # Who owns a file, or knows it by another name, could still write to what is published.
    if any((found := file.stat()).st_uid != os.geteuid() or found.st_nlink > 1 for file in files_of(source)):
        return None
    content = fingerprint(source, beat, sync=True)
    if source.is_dir():
        return source, content
    try:
        scratch.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return None
    return scratch, content


def _standing_target(transfer: Transfer, recorded: Fingerprint | None, beat: Beat) -> Fingerprint:
    """Return the fingerprint of a target that is there already, or raise if it is not this product."""
    source, target = transfer
    if target.is_symlink() or not (target.is_file() or target.is_dir()):
        raise TargetError(f"{target} is a symbolic link or a special file: remove it first")
    expected = fingerprint(source, beat) if source.exists() else recorded
    found = fingerprint(target, beat, sync=True)
    if found != expected:
        raise TargetError(f"{target} exists with another content than {source}: a published file is never replaced")
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
    SourceError
        If the source is missing, empty, a link, or still being written.
    TargetError
        If the target has another content.
    PublishError
        If the copy does not read back.
    """
    source, target = transfer
    before = signature(source)
    standing = _standing_target(transfer, recorded, beat) if os.path.lexists(target) else None
    if standing is None:
        check_source(source)
        _check_unchanged(source, before)
    # Not before there is a source or a target: the copy of an earlier attempt may be the last one.
    for earlier in range(1, attempt + 1):
        remove(scratch_path(target, earlier))
    if standing is not None:
        return Prepared(transfer, standing, None, before)
    make_folders(target.parent)
    scratch = scratch_path(target, attempt)
    try:
        within = move and source.stat().st_dev == target.parent.stat().st_dev
        linked = _linked(source, scratch, beat) if within else None
        origin, content = linked or (scratch, _verified_copy(source, scratch, before, beat))
        _check_unchanged(source, before)
    except BaseException:
        remove(scratch)
        raise
    return Prepared(transfer, content, origin, before)


def _seal(prepared: Prepared, path: Path) -> None:
    for file in files_of(path):
        mode = seal(file)
        if mode is not None:
            prepared.modes[file] = mode


def reveal(prepared: Prepared) -> None:
    """Give a prepared transfer its final name, without overwriting, and flush the folder.

    Raises
    ------
    SourceError
        If somebody wrote to the source meanwhile.
    TargetError
        If something appeared under the name meanwhile.
    """
    (source, target), origin = prepared.transfer, prepared.origin
    if origin is None:
        # It may belong to another user, who published it in another way.
        with suppress(PermissionError):
            _seal(prepared, target)
    else:
        # In this order nobody can begin to write to what is linked or renamed after it was found untouched.
        _seal(prepared, origin)
        _check_unchanged(source, prepared.signature)
        try:
            rename_new(origin, target)
        except FileExistsError as error:
            raise TargetError(
                f"{target} appeared meanwhile: a published file is never replaced; publish again to compare the two"
            ) from error
    sync_folder(target.parent)


def conceal(prepared: Prepared) -> None:
    """Undo `reveal`, as far as it came: the source is whole again, and only scratch is left."""
    target, origin = prepared.transfer.target, prepared.origin
    if origin is not None and not origin.exists() and target.exists():
        rename_new(target, origin)
        sync_folder(target.parent)
    for file, mode in prepared.modes.items():
        file.chmod(mode)
    prepared.modes.clear()


def discard(prepared: Prepared) -> None:
    """Remove the scratch of an attempt that ended; no other attempt has the name."""
    source, origin = prepared.transfer.source, prepared.origin
    if origin is not None and origin != source:
        remove(origin)


def take_away(source: Path, attempt: int) -> Path | None:
    """Delete a file, or take its name from a folder and return what is left to remove; the copy is committed."""
    doomed = None
    if source.is_dir():
        # What is half-deleted must not keep its name.
        doomed = scratch_path(source, attempt)
        rename_new(source, doomed)
    else:
        source.unlink()
    sync_folder(source.parent)
    return doomed
