"""The incoming folder seen from outside: what is in it, and that something has come.

The telescope's files are looked at, never touched. Where the file system tells of changes (a local disk) a thread
waits for them and does nothing meanwhile; a network mount tells nobody, and notices may be lost anywhere, so the
folder is also listed from time to time: the listing decides, the notice only hastens it.
"""

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import watchfiles

from dsa110_contimg.housekeeping.machine import is_network, list_mounts, mount_of

logger = logging.getLogger(__name__)
SUFFIXES = (".hdf5", ".uvh5")
NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
DEBOUNCE_MS, STEP_MS, LOOK_MS = 400, 200, 5000
"""Notices are gathered for at most the first, asked for at the second, and the folder itself is looked at."""


class FileState(NamedTuple):
    """What changes when a file is replaced or written to, whatever its dates say."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    regular: bool


def look(path: Path) -> FileState | None:
    """Return the state of a file, of a link's target; None if there is none."""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise
    return FileState(
        found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, stat.S_ISREG(found.st_mode)
    )


def list_names(folder: Path) -> dict[str, bool]:
    """Return the names in a folder that are those of data files, and whether each is a link."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.is_symlink() for entry in entries if entry.name.endswith(SUFFIXES)}


def printable(path: str) -> str:
    r"""Return a path as databases and messages can hold it: bytes that are not UTF-8 become \xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def tells_of_changes(folder: Path) -> bool:
    """Return whether the file system of a folder sends notices: a network mount does not, nor one that nobody knows."""
    mount = mount_of(folder, list_mounts())
    return mount is not None and not is_network(mount)


class Watcher:
    """A thread that gathers the names that a folder's file system tells of.

    Parameters
    ----------
    folder
        The incoming folder; it may go and come back.
    wake
        Called from the thread when something has come.
    """

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder, self._wake = folder, wake
        self._names: set[str] = set()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="incoming", daemon=True)
        self.watching = False
        self.starts = 0
        """How often watching began: each time a listing is due, for nobody knows what came before."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def take(self) -> set[str]:
        """Return the names that were told of since the last call."""
        with self._lock:
            names, self._names = self._names, set()
        return names

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except (OSError, RuntimeError) as error:
                # A name that is not UTF-8 is a RuntimeError of the library.
                logger.warning("the watch of %s begins again: %s", self._folder, error)
            self.watching = False
            self._stop.wait(LOOK_MS / 1000.0)

    def _watch(self) -> None:
        """Watch the folder until it goes or another one takes its place, as when a disk is mounted on it."""
        folder = look(self._folder)
        if folder is None:
            return
        notices = watchfiles.watch(
            self._folder,
            watch_filter=lambda _change, path: path.endswith(SUFFIXES),
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=self._stop,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            force_polling=False,
            recursive=False,
        )
        self.watching = True
        self.starts += 1
        self._wake()
        for changes in notices:
            if changes:
                with self._lock:
                    self._names |= {Path(path).name for _change, path in changes}
                self._wake()
            now = look(self._folder)
            if now is None or now[:2] != folder[:2]:
                return
