"""A file appears under its final name only when it is whole.

It is written beside the target under a name of this attempt alone, flushed to disk, and renamed: a reader sees
the old file or the new one, and a killed writer leaves at most a `.partial` file or folder. The name tells the
host, the process and when that started, so that what it left behind can be removed once it is gone.
"""

import os
import re
import shutil
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dsa110_contimg.processes import start_ticks
from dsa110_contimg.renaming import EXCHANGE, rename_at_once

FLUSH_EVERY_S = 0.1
_WRITER = re.compile(r"\.(?P<host>[^.].*)\.(?P<pid>\d+)(?:-(?P<start>\d+))?\.[0-9a-f]{12}\.partial")


def scratch_path(target: Path) -> Path:
    """Return a name beside *target* that no other attempt has."""
    writer = f"{socket.gethostname()}.{os.getpid()}-{start_ticks(os.getpid()) or 0}"
    return target.with_name(f".{target.name}.{writer}.{uuid.uuid4().hex[:12]}.partial")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a scratch path that becomes *target*, on disk, only if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_path(target)
    try:
        yield scratch
        flush(scratch)
        scratch.replace(target)
        flush(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def exchange(scratch: Path, target: Path) -> None:
    """Let two folders change names, in one step where the file system can; else the target is away for a moment."""
    if rename_at_once(scratch, target, EXCHANGE):
        return
    old = scratch_path(target)
    target.rename(old)
    scratch.rename(target)
    old.rename(scratch)


def discard(path: Path) -> None:
    """Remove a file or folder: its name goes at once, so that nobody sees a part of it; a symbolic link stays."""
    if path.is_symlink():
        return
    scratch = path if path.name.endswith(".partial") else scratch_path(path)
    if scratch != path:
        try:
            path.rename(scratch)
        except FileNotFoundError:
            return
        flush(path.parent)
    _remove(scratch)


def remove_abandoned(folders: Iterable[Path]) -> list[Path]:
    """Remove from folders the scratch of processes of this machine that are gone, and return what it was."""
    removed = find_abandoned(folders)
    for path in removed:
        _remove(path)
    return removed


def find_abandoned(folders: Iterable[Path]) -> list[Path]:
    """Return the scratch in folders that processes of this machine left which are gone."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.partial")):
            match = _WRITER.fullmatch(path.name)
            # The target's own name may hold dots: only the end of the first group is the host.
            ours = match is not None and f".{match['host']}".endswith(f".{socket.gethostname()}")
            if match is not None and ours and _is_gone(int(match["pid"]), match["start"]):
                found.append(path)
    return found


def _is_gone(pid: int, start: str | None) -> bool:
    """Return whether a writer has ended: no such process, or another one that was given its id."""
    ticks = start_ticks(pid)
    return ticks is None or (start is not None and str(ticks) != start)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def flushing(folder: Path, pattern: str) -> Iterator[None]:
    """Flush the files of a pattern while the block writes them, so that little is left for its end.

    Raises
    ------
    OSError
        If the disk refuses what was written.
    """
    done = threading.Event()

    def work() -> None:
        while True:
            last = done.wait(FLUSH_EVERY_S)
            for path in folder.glob(pattern):
                flush(path)
            if last:
                return

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            yield
        finally:
            done.set()
        future.result()
