"""Connections, engines and sessions: the only place where a database is opened.

Databases are SQLite files, or, with `PIPELINE_DATABASE_URL`, schemas of a PostgreSQL server (see `server`).

Every connection to a file waits for a lock (see `waiting`), checks foreign keys, and writes ahead (WAL) with full
synchronization: a commit survives a power cut. A writing transaction takes the write lock when it begins (BEGIN
IMMEDIATE), so that it never finds out in the middle that somebody else was faster; a reading one refuses to write.

Connections are not pooled: a worker process that is forked must not inherit one. Only who serves readers keeps them
(`pooled`), since a connection that opens reads the whole schema, which takes longer than most questions. Statements
that say ON CONFLICT use `sqlalchemy.dialects.postgresql.insert`, which compiles for both.
"""

import functools
import os
import sqlite3
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool, StaticPool

from dsa110_contimg.config import DATABASES, Settings, current_settings
from dsa110_contimg.database import server
from dsa110_contimg.database.explanations import explain, explaining, read_only_error, refuses_writing
from dsa110_contimg.database.models import METADATA
from dsa110_contimg.database.waiting import QUESTION_S, lock_wait_s
from dsa110_contimg.errors import ConfigurationError

__all__ = [
    "connect",
    "create_all",
    "data_version",
    "database_path",
    "engine_of_file",
    "explain",
    "get_engine",
    "get_scoped_session",
    "get_session",
    "location",
    "make_folder",
    "may_write",
    "on_server",
    "reset_engines",
]


def _open(path: Path, mode: str, *, any_thread: bool, wait_s: float) -> sqlite3.Connection:
    """Open a file and look at it: SQLite itself opens nothing before the first question."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=not any_thread,
        uri=True,
    )
    try:
        _wait(connection, wait_s)
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _wait(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def _open_to_read(path: Path, *, any_thread: bool, wait_s: float) -> sqlite3.Connection:
    try:
        return _open(path, "ro", any_thread=any_thread, wait_s=wait_s)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        logged = log.exists() and log.stat().st_size > 0
        beside = os.access(path.parent, os.W_OK, effective_ids=True)
        if logged or beside or not path.is_file() or "locked" in str(error):
            raise
        # Where nothing can be written SQLite cannot share a log; without a log the file alone is the whole truth.
        return _open(path, "ro&immutable=1", any_thread=any_thread, wait_s=wait_s)


def connect(
    path: Path,
    *,
    read_only: bool = False,
    any_thread: bool = False,
    keep_journal: bool = False,
    wait_s: float | None = None,
) -> sqlite3.Connection:
    """Open one file with the settings that every connection has; statements commit one by one until a BEGIN.

    A missing file is made, except to read. With `keep_journal` the file's journal mode stays what it is: a backup
    changes nothing. `wait_s` is how long statements wait for locks.
    """
    wait_s = lock_wait_s() if wait_s is None else wait_s
    try:
        if read_only:
            connection = _open_to_read(path, any_thread=any_thread, wait_s=wait_s)
            connection.execute("PRAGMA query_only = ON")
        else:
            connection = _open(path, "rwc", any_thread=any_thread, wait_s=wait_s)
            if not keep_journal:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
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
    return _place(name)[1]


def _place(name: str) -> tuple[Settings, Path]:
    if name not in DATABASES:
        raise ConfigurationError(f"there is no database {name!r}; there are {', '.join(DATABASES)}")
    settings = current_settings()
    return settings, settings.database(name)


def on_server() -> bool:
    """Return whether the databases are schemas of a PostgreSQL server."""
    return current_settings().database_url is not None


def location(name: str) -> str:
    """Return where a database is, for people: its file, or the server without the password and the schema."""
    path, address = database_path(name), current_settings().database_url
    return str(path) if address is None else f"{server.parse_url(address).render_as_string()} schema {name}"


_engines: dict[tuple[str, bool], Engine] = {}
_POOL = {"pool_size": 8, "max_overflow": 40}
"""As many connections as the server has threads for questions that take long."""


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


def _pooled_engine(path: Path) -> Engine:
    """Return an engine to read with, which keeps its connections as long as the file is the same."""
    key = (f"pooled {path}", True)
    if key not in _engines:
        engine = create_engine(
            "sqlite://",
            creator=lambda: connect(path, read_only=True, any_thread=True),
            poolclass=QueuePool,
            hide_parameters=True,
            **_POOL,
        )
        event.listen(engine, "begin", lambda connection: _begin(connection, "BEGIN"))
        event.listen(engine, "connect", lambda _connection, entry: entry.info.update(file=_identity(path)))

        def check(connection: sqlite3.Connection, entry: ConnectionPoolEntry, _proxy: object) -> None:
            if entry.info["file"] != _identity(path):
                raise DisconnectionError(f"{path} was replaced")
            _wait(connection, lock_wait_s())

        event.listen(engine, "checkout", check)
        _engines[key] = engine
    return _engines[key]


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what a file that takes another's place has not; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _server_engine(address: str, name: str, *, read_only: bool, pooled: bool = False) -> Engine:
    key = (f"{'pooled ' if pooled else ''}{address} {name}", read_only)
    if key not in _engines:
        url = server.parse_url(address)
        kept = {"poolclass": QueuePool, "pool_pre_ping": True, **_POOL} if pooled else {"poolclass": NullPool}
        engine = create_engine(url, hide_parameters=True, **kept)

        def prepare(_dialect: object, _record: object, _words: object, arguments: dict[str, object]) -> None:
            wait_s = QUESTION_S if pooled else lock_wait_s()
            arguments.update(server.connect_arguments(url, name, read_only=read_only, wait_s=wait_s))

        event.listen(engine, "do_connect", prepare)
        event.listen(engine, "connect", server.store_nan_as_null)
        if not read_only:
            event.listen(engine, "first_connect", lambda connection, _record: server.make_schema(connection, name))
            event.listen(engine, "begin", lambda connection: server.begin_writing(connection, name))
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


def get_engine(name: str, in_memory: bool = False, *, read_only: bool = False, pooled: bool = False) -> Engine:
    """Return the engine of a database, one per file or schema (or one per name in memory).

    Parameters
    ----------
    name
        Session name, one of `config.DATABASES`.
    in_memory
        A private database that lives until `reset_engines`; foreign keys are not enforced in it.
    read_only
        Connections refuse to write.
    pooled
        Keep the connections of readers; never in a process that forks.

    Raises
    ------
    ConfigurationError
        If there is no such database, its folder cannot be made, or PIPELINE_DATABASE_URL is no address.
    """
    settings, path = _place(name)
    if in_memory:
        return _memory_engine(name)
    address = settings.database_url
    if address is not None:
        return _server_engine(address, name, read_only=read_only, pooled=pooled and read_only)
    if pooled and read_only:
        return _pooled_engine(path)
    if not read_only:
        make_folder(path)
    return _file_engine(path, read_only=read_only)


def engine_of_file(path: Path, *, read_only: bool = False) -> Engine:
    """Return the engine of a file that is named, not configured."""
    if not read_only:
        make_folder(path)
    return _file_engine(path.resolve(), read_only=read_only)


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
def get_session(
    name: str, read_only: bool = False, in_memory: bool = False, *, pooled: bool = False
) -> Iterator[Session]:
    """Open a session that commits when the block succeeds and rolls back when it raises.

    Parameters
    ----------
    name
        Session name, one of `config.DATABASES`.
    read_only
        Refuse to write, and take no write lock.
    in_memory
        Use the private database that `get_engine(name, in_memory=True)` shows.
    pooled
        Take one of the connections that are kept for readers (see `get_engine`).

    Raises
    ------
    ConfigurationError
        If the database is missing, damaged, not writable, or lacks tables; if its server cannot be reached; if a
        read-only session is to write.
    """
    settings, path = _place(name)
    if not in_memory and settings.database_url is None and not path.exists():
        raise ConfigurationError(f"database {path} does not exist: run `contimg init`")
    session = _factory(get_engine(name, in_memory, read_only=read_only, pooled=pooled))()
    session.info["read_only"] = read_only
    try:
        if in_memory:
            session.execute(text(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}"))
        yield session
        if not read_only:
            session.commit()
    except DBAPIError as error:
        session.rollback()
        where = location(name)
        told = read_only_error(where) if read_only and refuses_writing(error) else explain(error, where)
        if told is None:
            raise
        raise told from error
    except BaseException:
        session.rollback()
        raise
    finally:
        session.close()


_watchers: dict[Path, tuple[tuple[int, int] | None, sqlite3.Connection]] = {}
_watching = threading.Lock()


def data_version(name: str) -> Hashable:
    """Return what changes whenever somebody commits to a database; None where nothing tells.

    That is a server, and a file that cannot be read now. Whoever asks twice and gets the same may trust what was read
    between. Asking takes microseconds, and never waits.
    """
    settings, path = _place(name)
    if settings.database_url is not None:
        return None
    with _watching:
        try:
            connection, identity = _watcher(path)
            number: int = connection.execute("PRAGMA data_version").fetchone()[0]
        except (ConfigurationError, sqlite3.Error):
            return None
        return path, identity, id(connection), number


def _watcher(path: Path) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
    """Return a connection to the file that is there now, and which one that is."""
    identity = _identity(path)
    known = _watchers.get(path)
    if known is not None and known[0] != identity:
        _watchers.pop(path)[1].close()
        known = None
    if known is None:
        known = _watchers[path] = identity, connect(path, read_only=True, any_thread=True, wait_s=0.0)
    return known[1], identity


def may_write(session: Session) -> bool:
    """Return whether a session was opened to write."""
    return not session.info.get("read_only", False)


def create_all(name: str, in_memory: bool = False) -> str:
    """Create the tables, indexes and views that a database lacks and return where it is; idempotent."""
    where = location(name)
    with explaining(where, "cannot be set up"):
        METADATA[name].create_all(get_engine(name, in_memory))
    return where


def reset_engines() -> None:
    """Forget every engine and every in-memory database (for tests)."""
    for engine in _engines.values():
        engine.dispose()
    _engines.clear()
    for _identity_then, watcher in _watchers.values():
        watcher.close()
    _watchers.clear()
    _scoped.cache_clear()
    _factory.cache_clear()
