"""Single steps on a disk that publishing is made of, each of which says no more than it does.

A name is given by `rename_new`, which never overwrites. What is to survive a power cut is flushed: a file, and the
folder that names it. Errors of the operating system name a path.
"""

import errno
import fcntl
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsa110_contimg.renaming import ONLY_NEW, rename_at_once

PUBLISHED_MODE = 0o444
"""A published file can be read by all and written by nobody; root may, folders keep theirs (to be moved, they must)."""


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or folder within a file system; FileExistsError if anything has the new name, even an empty folder.

    Where the file system cannot do this in one step, a file is linked and its old name removed; for a folder an
    empty one is made first, which the rename then takes the place of.
    """
    if not rename_at_once(source, target, ONLY_NEW):
        _rename_in_two_steps(source, target)


def _rename_in_two_steps(source: Path, target: Path) -> None:
    if not source.is_dir():
        target.hardlink_to(source)
        source.unlink()
        return
    target.mkdir()
    try:
        source.rename(target)
    except OSError:
        target.rmdir()
        raise


def remove(path: Path) -> None:
    """Delete a file or folder that may be absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the operating system name a path, where it would name none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(folder):
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


def is_being_written(path: Path) -> bool:
    """Return whether a process, this one included, has a file open for writing, as far as Linux can tell.

    The kernel grants a read lease only on a file that nobody writes. Without leases (some network file systems,
    another user's file) nothing can be told.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        # Who opens the file meanwhile breaks the lease; the usual signal for that, SIGIO, would end this process.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(handle)
    return False


def seal(path: Path) -> int | None:
    """Take away a file's write permission, and return the mode that it had, or None if nothing was to be done."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode == PUBLISHED_MODE:
        return None
    path.chmod(PUBLISHED_MODE)
    return mode
