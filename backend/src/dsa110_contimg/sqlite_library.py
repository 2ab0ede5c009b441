"""One process, one SQLite library: this module chooses it, before anything connects.

POSIX file locks belong to a process, not to a file handle: two SQLite libraries that open one file in one
process cancel each other's locks, and rows are lost. So `sqlite3` must mean the same library for us, for
SQLAlchemy and for a user's own `import sqlite3`. The library that many Pythons link also has the WAL-reset bug
(before 3.51.3, two connections that write or checkpoint at once can corrupt a WAL file). Therefore:

* if the standard `sqlite3` is already imported, it stays, and a warning is logged when its version is affected;
* otherwise `pysqlite3`, whose wheel carries a sound version, is registered as `sqlite3` in `sys.modules`.

This is the one place where the import system is overruled, and the reason is data that would be lost.
"""

import importlib
import importlib.util
import logging
import sys

logger = logging.getLogger(__name__)

FIRST_SOUND_VERSION = (3, 51, 3)
_ALIASES = {"sqlite3": "pysqlite3", "sqlite3.dbapi2": "pysqlite3.dbapi2", "_sqlite3": "pysqlite3._sqlite3"}


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Return whether a SQLite version can corrupt a WAL file that two connections write."""
    return version < FIRST_SOUND_VERSION


def choose() -> str:
    """Make `sqlite3` mean one library for the whole process and return its version; idempotent."""
    if "sqlite3" not in sys.modules and importlib.util.find_spec("pysqlite3") is not None:
        for alias, name in _ALIASES.items():
            sys.modules[alias] = importlib.import_module(name)
    library = importlib.import_module("sqlite3")
    if has_wal_reset_bug(library.sqlite_version_info):
        logger.warning(
            "SQLite %s can corrupt a database that two processes write: run one process, or install pysqlite3 and "
            "import dsa110_contimg before sqlite3",
            library.sqlite_version,
        )
    return str(library.sqlite_version)
