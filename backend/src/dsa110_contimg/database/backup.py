"""Verified copies of a database file, and the way back.

A copy is made with SQLite's backup API: it is one consistent state, also while other processes write, and it
holds what still sits in the write-ahead log. It gets its name only after `PRAGMA integrity_check` has passed.

A copy is restored through the same API, so that other processes see the old rows at their next transaction; a
file copied over a database that is open, or beside a log that is not its own, damages it.
"""

import shutil
from contextlib import closing
from pathlib import Path

from dsa110_contimg.database import session
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats.scratch import replacing

SUFFIX = ".backup"
COPYING = "cannot be copied"


def back_up(path: Path, folder: Path) -> Path:
    """Copy a database to `folder/<its name>.backup`, verified, and return the copy; an older copy is replaced.

    Raises
    ------
    ConfigurationError
        If the database is missing, foreign or damaged, or the folder cannot be written; there is no copy then.
    """
    _must_exist(path)
    copy = folder / f"{path.name}{SUFFIX}"
    try:
        with replacing(copy) as scratch, explaining(path, COPYING):
            _copy(path, scratch)
            check_integrity(scratch, called=path)
    except OSError as error:
        raise ConfigurationError(f"backup {copy} cannot be written ({error.strerror}): check its folder") from error
    return copy


def restore(copy: Path, path: Path) -> None:
    """Make a database what a copy of it holds; a damaged or missing one is replaced.

    Raises
    ------
    ConfigurationError
        If the copy is missing or damaged; the database is unchanged then.
    """
    _must_exist(copy)
    check_integrity(copy)
    if is_sound(path):
        with explaining(path, COPYING):
            _copy(copy, path)
        return
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with replacing(path) as scratch:
        shutil.copyfile(copy, scratch)


def check_integrity(path: Path, called: Path | None = None) -> None:
    """Raise ConfigurationError, with the first thing that is wrong, unless a file is a sound database."""
    with explaining(called or path, COPYING), closing(session.connect(path, keep_journal=True)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        verdict = " ".join(verdict.split())
        raise ConfigurationError(f"database {called or path} is damaged ({verdict}): restore it from a backup")


def is_sound(path: Path) -> bool:
    """Return whether a path is a database that passes its integrity check."""
    if not path.is_file():
        return False
    try:
        check_integrity(path)
    except ConfigurationError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    with (
        closing(session.connect(source, read_only=True)) as old,
        closing(session.connect(target, keep_journal=True)) as new,
    ):
        old.backup(new)


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ConfigurationError(f"database {path} does not exist: check the path")
