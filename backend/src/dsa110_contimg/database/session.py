"""Connections, engines and sessions: the only place where a database is opened.

Every connection waits 30 s for a lock, checks foreign keys, and writes ahead (WAL) with full synchronization:
a commit survives a power cut. A writing transaction takes the write lock when it begins (BEGIN IMMEDIATE), so
that it never finds out in the middle that somebody else was faster; a reading one refuses to write.

Connections are not pooled: a worker process that is forked must not inherit one.
"""

import functools
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database.models import METADATA
from dsa110_contimg.errors import ConfigurationError

LOCK_TIMEOUT_S = 30.0
_EXPLANATIONS = {
    "file is not a database": "is not a SQLite database: restore it from a backup, or move it away",
    "malformed": "is damaged: restore it from a backup (`contimg restore`)",
    "unable to open database file": "cannot be opened: check the folder's permissions, or run `contimg init`",
    "readonly database": "cannot be written: check the permissions of the file and of its folder",
    "disk is full": "cannot be written because the disk is full: free some space",
    "disk I/O error": "cannot be read or written (disk I/O error): check the disk",
    "database is locked": f"was locked for {LOCK_TIMEOUT_S:.0f} s by another process: stop that process and try again",
    "no such table": "lacks tables of this version: run `contimg init`",
    "no such column": "lacks columns of this version: migrate it (`alembic upgrade head`)",
}


def explain(error: Exception, path: Path | str) -> ConfigurationError | None:
    """Return a storage failure as a sentence about the file, or None when the error is not about storage."""
    message = str(error.orig if isinstance(error, DatabaseError) else error)
    for symptom, sentence in _EXPLANATIONS.items():
        if symptom in message:
            return ConfigurationError(f"database {path} {sentence}")
    return None


def connect(path: Path, *, read_only: bool = False, any_thread: bool = False) -> sqlite3.Connection:
    """Open one file with the settings that every connection has; statements commit one by one until a BEGIN."""
    try:
        connection = sqlite3.connect(
            path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=not any_thread
        )
        connection.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT_S * 1000)}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise explain(error, path) or ConfigurationError(f"database {path} cannot be opened: {error}") from error
    return connection


def make_folder(path: Path) -> None:
    """Make the folder of a database file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"folder {path.parent} cannot be made ({error.strerror}): set PIPELINE_STATE_DIR to one that can be written"
        ) from error


def database_path(name: str) -> Path:
    """Return the file of a database by its session name."""
    if name not in DATABASES:
        raise ConfigurationError(f"there is no database {name!r}; there are {', '.join(DATABASES)}")
    return Settings().database(name)


_engines: dict[tuple[str, bool], Engine] = {}


def _file_engine(path: Path, *, read_only: bool) -> Engine:
    key = (str(path), read_only)
    if key not in _engines:
        engine = create_engine(
            "sqlite://",
            creator=lambda: connect(path, read_only=read_only, any_thread=True),
            poolclass=NullPool,
            hide_parameters=True,
        )
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        event.listen(engine, "begin", lambda connection: _begin(connection, begin))
        _engines[key] = engine
    return _engines[key]


def _memory_engine(name: str) -> Engine:
    key = (f":memory:{name}", False)
    if key not in _engines:
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", lambda connection, _record: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: _begin(connection, "BEGIN"))
        _engines[key] = engine
    return _engines[key]


def _begin(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def get_engine(name: str, in_memory: bool = False, *, read_only: bool = False) -> Engine:
    """Return the engine of a database, one per file (or one per name in memory).

    Parameters
    ----------
    name
        Session name, one of `config.DATABASES`.
    in_memory
        A private database that lives until `reset_engines`; foreign keys are not enforced in it.
    read_only
        Connections refuse to write.

    Raises
    ------
    ConfigurationError
        If there is no such database, or its folder cannot be made.
    """
    path = database_path(name)
    if in_memory:
        return _memory_engine(name)
    if not read_only:
        make_folder(path)
    return _file_engine(path, read_only=read_only)


def engine_of_file(path: Path) -> Engine:
    """Return the writing engine of a file that is named, not configured."""
    make_folder(path)
    return _file_engine(path.resolve(), read_only=False)


@functools.cache
def _factory(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


@functools.cache
def _scoped(engine: Engine) -> scoped_session[Session]:
    return scoped_session(_factory(engine))


def get_scoped_session(name: str) -> scoped_session[Session]:
    """Return the thread-local session factory of a database; call its `remove()` at a thread's end."""
    return _scoped(get_engine(name))


@contextmanager
def get_session(name: str, read_only: bool = False, in_memory: bool = False) -> Iterator[Session]:
    """Open a session that commits when the block succeeds and rolls back when it raises.

    Parameters
    ----------
    name
        Session name, one of `config.DATABASES`.
    read_only
        Refuse to write, and take no write lock.
    in_memory
        Use the private database that `get_engine(name, in_memory=True)` shows.

    Raises
    ------
    ConfigurationError
        If the file is missing, damaged, not writable, or lacks tables.
    """
    path = database_path(name)
    if not in_memory and not path.exists():
        raise ConfigurationError(f"database {path} does not exist: run `contimg init`")
    session = _factory(get_engine(name, in_memory, read_only=read_only))()
    try:
        if in_memory:
            session.execute(text(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}"))
        yield session
        if not read_only:
            session.commit()
    except DatabaseError as error:
        session.rollback()
        explained = None if read_only and "readonly" in str(error.orig) else explain(error, path)
        if explained is None:
            raise
        raise explained from error
    except BaseException:
        session.rollback()
        raise
    finally:
        session.close()


def create_all(name: str, in_memory: bool = False) -> Path:
    """Create the tables, indexes and views that a database lacks and return its file; idempotent."""
    path = database_path(name)
    try:
        METADATA[name].create_all(get_engine(name, in_memory))
    except DatabaseError as error:
        raise explain(error, path) or ConfigurationError(f"database {path} cannot be set up: {error.orig}") from error
    return path


def init_databases() -> list[Path]:
    """Create all seven databases and return their files; idempotent."""
    return [create_all(name) for name in DATABASES]


def reset_engines() -> None:
    """Forget every engine and every in-memory database (for tests)."""
    for engine in _engines.values():
        engine.dispose()
    _engines.clear()
    _scoped.cache_clear()
    _factory.cache_clear()
