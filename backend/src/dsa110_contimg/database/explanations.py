"""What SQLite and PostgreSQL complain about, as one sentence that names the database and the way out.

SQLite is known by its messages. A PostgreSQL server is known by SQLSTATE codes, which no language setting changes;
a connection that never came about has none, only the words of the client library.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from dsa110_contimg.errors import ConfigurationError

_INIT = "lacks tables of this version: run `contimg init`"
_COLUMNS = "lacks columns of this version: run `contimg init`"
_READ_ONLY = "was opened to be read only: open it without read_only to write"
_LOCKED = "was locked for too long by another process: stop that process, or try again when it is done"
_CREDENTIALS = "does not accept this user or password: check PIPELINE_DATABASE_URL"

_CODES = {
    "42P01": _INIT,
    "3F000": _INIT,
    "42703": _COLUMNS,
    "25006": _READ_ONLY,
    "55P03": _LOCKED,
    "42501": "may not be changed by this user: grant it the rights, or run `contimg init` as the owner",
    "53100": "cannot be written because the server's disk is full: free some space",
    "53300": "has no connection left: raise the server's max_connections",
    "57P01": "was closed by its server: try again when the server runs",
}
_SYMPTOMS = {
    "file is not a database": "is not a SQLite database: restore it from a backup, or move it away",
    "malformed": "is damaged: restore it from a backup",
    "unable to open database file": "cannot be opened: check the folder's permissions, or run `contimg init`",
    "readonly database": "cannot be written: check the permissions of the file and of its folder",
    "disk is full": "cannot be written because the disk is full: free some space",
    "disk I/O error": "cannot be read or written (disk I/O error): check the disk",
    "database is locked": _LOCKED,
    "no such table": _INIT,
    "no such column": _COLUMNS,
    "no column named": _COLUMNS,
    "password authentication failed": _CREDENTIALS,
    "no password supplied": _CREDENTIALS,
    "pg_hba.conf": "does not let this machine in: add it to the server's pg_hba.conf",
    "too many clients": _CODES["53300"],
    'database "': "does not exist on the server: create it there (`createdb`), or check PIPELINE_DATABASE_URL",
    'role "': _CREDENTIALS,
    "connection failed": "cannot be reached: start the server, or check PIPELINE_DATABASE_URL",
    "connection is bad": "cannot be reached: start the server, or check PIPELINE_DATABASE_URL",
    "could not translate host name": "cannot be reached: check the host in PIPELINE_DATABASE_URL",
    "failed to resolve host": "cannot be reached: check the host in PIPELINE_DATABASE_URL",
    "server closed the connection": _CODES["57P01"],
    "connection is lost": _CODES["57P01"],
}


def explain(error: Exception, where: Path | str) -> ConfigurationError | None:
    """Return a storage failure as a sentence about a database, or None when the error is not about storage."""
    original = error.orig if isinstance(error, DBAPIError) else error
    sentence = _CODES.get(getattr(original, "sqlstate", None) or "")
    if sentence is None:
        message = str(original)
        sentence = next((told for symptom, told in _SYMPTOMS.items() if symptom in message), None)
    return None if sentence is None else ConfigurationError(f"database {where} {sentence}")


@contextmanager
def explaining(where: Path | str, failure: str) -> Iterator[None]:
    """Turn any failure of storage into a sentence: the one that is known, else that the database *failure*."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise explain(error, where) or ConfigurationError(f"database {where} {failure}: {cause}") from error


def is_duplicate(error: DBAPIError) -> bool:
    """Return whether a row was refused because a unique one like it exists."""
    return getattr(error.orig, "sqlstate", None) == "23505" or "UNIQUE" in str(error.orig)


def refuses_writing(error: DBAPIError) -> bool:
    """Return whether a statement was refused because the connection is for reading only."""
    return getattr(error.orig, "sqlstate", None) == "25006" or "readonly" in str(error.orig)


def read_only_error(where: Path | str) -> ConfigurationError:
    """Return the sentence about a write in a session that was opened for reading."""
    return ConfigurationError(f"database {where} {_READ_ONLY}")
