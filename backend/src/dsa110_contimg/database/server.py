"""The same databases on one PostgreSQL server, for several machines: one schema per database.

The schema has the session's name, and a connection's search_path is that schema alone: models and the
specification's SQL name no schema and mean the same rows. What SQLite promises holds here too:

* one writer at a time per database: a writing transaction begins with the database's advisory lock, so that what
  it reads is still true when it writes (READ COMMITTED, and every statement sees all that is committed);
* a reading transaction sees one moment (REPEATABLE READ), waits for nobody, and refuses to write;
* NaN is stored as NULL;
* a lock is waited for as long as SQLite waits.
"""

from typing import Any

import psycopg
from psycopg.types.numeric import FloatBinaryDumper, FloatDumper
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError

from dsa110_contimg.errors import ConfigurationError

_DRIVER = "postgresql+psycopg"
# A machine that vanishes in a transaction must not keep the others waiting for hours.
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}


class _TextOrNull(FloatDumper):
    def dump(self, obj: float) -> Any:  # noqa: ANN401 - as psycopg types it
        return None if obj != obj else super().dump(obj)


class _BinaryOrNull(FloatBinaryDumper):
    def dump(self, obj: float) -> Any:  # noqa: ANN401 - as psycopg types it
        return None if obj != obj else super().dump(obj)


def parse_url(address: str) -> URL:
    """Return a server's address.

    Raises
    ------
    ConfigurationError
        If it is none, or not PostgreSQL's.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in {_DRIVER, "postgresql", "postgres"}:
        raise ConfigurationError(
            "PIPELINE_DATABASE_URL is no address of a PostgreSQL server: write postgresql+psycopg://user@host/database"
        )
    return url.set(drivername=_DRIVER)


def connect_arguments(url: URL, name: str, *, read_only: bool, wait_s: float) -> dict[str, Any]:
    """Return how a connection to one database is opened, which waits so long for a lock and for the server."""
    settings: dict[str, object] = {
        "search_path": name,
        "timezone": "UTC",
        "lock_timeout": f"{wait_s * 1000:.0f}ms",
        "default_transaction_read_only": "on" if read_only else "off",
        "default_transaction_isolation": r"repeatable\ read" if read_only else r"read\ committed",
        **_KEEPALIVE,
    }
    own = url.query.get("options", "")
    told = [own if isinstance(own, str) else " ".join(own), *(f"-c {key}={value}" for key, value in settings.items())]
    return {"options": " ".join(told), "connect_timeout": max(round(wait_s), 2)}


def _lock(name: str) -> str:
    return f"SELECT pg_advisory_xact_lock(hashtext('contimg {name}'))"


def begin_writing(connection: Connection, name: str) -> None:
    """Wait until no other writing transaction of a database is open; the lock ends with the transaction."""
    connection.execute(text(_lock(name)))


def store_nan_as_null(connection: psycopg.Connection[Any], *_: object) -> None:
    """Let a new connection store what SQLite stores."""
    for kind in (float, "numpy.float64"):
        connection.adapters.register_dumper(kind, _BinaryOrNull)
        connection.adapters.register_dumper(kind, _TextOrNull)


def make_schema(connection: psycopg.Connection[Any], name: str) -> None:
    """Make the schema of a database where it is missing."""
    with connection.transaction():
        found = connection.execute("SELECT to_regnamespace(%s)", (name,)).fetchone()
        if found is None or found[0] is None:
            connection.execute(_lock(name).encode())
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}".encode())
