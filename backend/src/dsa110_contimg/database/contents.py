"""What the content of a file or folder is known by.

Its fingerprint is its SHA-256: of the bytes of a file; of the sorted list of (kind, relative path, size, SHA-256) of a
folder. Its signature tells without reading that somebody wrote to it: sizes and times of all that it holds.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dsa110_contimg.database.disk_steps import naming, sync_folder
from dsa110_contimg.errors import PublishError

CHUNK_BYTES = 1024 * 1024
"""What is read at once. A buffer is used again and again: the first touch of memory costs more than hashing it."""
Beat = Callable[[], None]
"""Called between chunks, so that the owner can extend its lease; it may raise FencedError."""
Signature = tuple[tuple[str, int, int], ...]
"""(path, size, mtime in ns) of a file, or of a folder and all it holds; empty for what does not exist."""


class Fingerprint(NamedTuple):
    """What a content is known by."""

    sha256: str
    size_bytes: int


def entries_of(folder: Path) -> list[Path]:
    """Return all that a folder holds, sorted; PublishError if that is more than files and folders."""
    return sorted(_walk(folder), key=lambda entry: entry.relative_to(folder).as_posix())


def _walk(folder: Path) -> Iterator[Path]:
    # Not `rglob`: it passes over a folder that it may not read, and a product would be published without it.
    for entry in folder.iterdir():
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise PublishError(
                f"{entry} is a symbolic link or a special file: a product may hold only files and folders"
            )
        yield entry
        if entry.is_dir():
            yield from _walk(entry)


def files_of(path: Path) -> list[Path]:
    """Return a file, or all files of a folder."""
    return [entry for entry in entries_of(path) if entry.is_file()] if path.is_dir() else [path]


def _fingerprint_file(path: Path, beat: Beat, *, sync: bool) -> Fingerprint:
    digest, size = hashlib.sha256(), 0
    with naming(path), path.open("rb", buffering=0) as stream:
        if sync:
            os.fsync(stream.fileno())
        buffer = bytearray(min(CHUNK_BYTES, os.fstat(stream.fileno()).st_size + 1))
        while count := stream.readinto(buffer):
            beat()
            digest.update(memoryview(buffer)[:count])
            size += count
    return Fingerprint(digest.hexdigest(), size)


def digest_of_listing(listing: list[tuple[str, str, Fingerprint]]) -> Fingerprint:
    """Return the fingerprint of a folder from (kind, relative path, fingerprint) of all that it holds."""
    digest = hashlib.sha256()
    for kind, name, part in listing:
        digest.update(f"{kind}\0{name}\0{part.size_bytes}\0{part.sha256}\n".encode())
    return Fingerprint(digest.hexdigest(), sum(part.size_bytes for _, _, part in listing))


def fingerprint(path: Path, beat: Beat = lambda: None, *, sync: bool = False) -> Fingerprint:
    """Return the fingerprint of a file or folder; with `sync`, flush it to disk on the way."""
    if not path.is_dir():
        return _fingerprint_file(path, beat, sync=sync)
    listing = []
    for entry in entries_of(path):
        name = entry.relative_to(path).as_posix()
        if entry.is_dir():
            listing.append(("folder", name, Fingerprint("", 0)))
        else:
            listing.append(("file", name, _fingerprint_file(entry, beat, sync=sync)))
        if sync and entry.is_dir():
            sync_folder(entry)
    if sync:
        sync_folder(path)
    return digest_of_listing(listing)


def signature(path: Path) -> Signature:
    """Return what changes when somebody writes to a file or folder."""
    if not path.exists():
        return ()
    entries = [path, *entries_of(path)] if path.is_dir() else [path]
    stats = [(entry, entry.lstat()) for entry in entries]
    return tuple((str(entry), 0 if entry.is_dir() else stat.st_size, stat.st_mtime_ns) for entry, stat in stats)
