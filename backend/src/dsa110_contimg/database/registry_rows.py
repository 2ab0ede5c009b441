"""The rows of the data registry, and the connections and transactions in which they are read and changed.

The functions take a plain sqlite3 connection to the file, with or without a row factory and whatever its isolation
level, or SQLAlchemy's connection to a server (`open_registry` returns whichever is configured). Statements are
written once, with SQLAlchemy, and compiled for the connection at hand.

A change is one `transaction`: what a caller left uncommitted is committed first, so that a product's state is never
older on disk than in its mind. How products enter is in `product_entries`.
"""

import functools
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, cast

from sqlalchemy import ClauseElement, ColumnElement, Connection, Executable, bindparam, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from dsa110_contimg.database.models import (
    METADATA,
    DataProduct,
    DataTag,
    ProductStatus,
)
from dsa110_contimg.database.product_paths import type_folder
from dsa110_contimg.database.session import (
    connect,
    database_path,
    engine_of_file,
    explain,
    get_engine,
    location,
    on_server,
)
from dsa110_contimg.errors import ConfigurationError, PublishError, UnknownProductError


@dataclass(frozen=True)
class ProductRow:
    """One row of data_registry."""

    data_type: str
    data_id: str
    status: str
    stage_path: str
    published_path: str | None
    staged_at: float
    published_at: float | None
    publish_mode: str | None
    metadata_json: str | None
    qa_status: str | None
    validation_status: str | None
    finalization_status: str | None
    auto_publish_enabled: int | None
    publish_attempts: int | None
    publish_error: str | None
    photometry_status: str | None
    photometry_job_id: str | None
    owner: str | None
    attempt: int | None
    lease_expires_at: float | None
    sha256: str | None
    size_bytes: int | None
    created_at: float
    superseded_by: str | None
    retracted_at: float | None
    retract_reason: str | None
    retry_at: float | None

    @property
    def details(self) -> dict[str, object]:
        """The parsed metadata_json; PublishError if somebody damaged it."""
        return parse_details(self.data_id, self.metadata_json)

    @property
    def noted(self) -> dict[str, object]:
        """What the last attempt to publish noted: who asked and why, how, and the fingerprints of its files."""
        found = self.details.get("publish")
        return dict(found) if isinstance(found, dict) else {}

    @property
    def companions(self) -> list[str]:
        """Files that are published with the product (noise map, weights, preview)."""
        found = self.details.get("companions", [])
        return [str(path) for path in found] if isinstance(found, list) else []


def parse_details(data_id: str, metadata_json: str | None) -> dict[str, object]:
    """Return what a metadata_json holds, or raise PublishError that names the row."""
    try:
        details = json.loads(metadata_json or "{}")
    except ValueError as error:
        raise PublishError(
            f"the metadata_json of product {data_id} is no JSON ({error}): correct it in data_registry"
        ) from error
    if not isinstance(details, dict):
        raise PublishError(f"the metadata_json of product {data_id} is no JSON object: correct it in data_registry")
    return details


STORAGE_ERRORS = (sqlite3.Error, DBAPIError)
RegistryConnection = sqlite3.Connection | Connection
Values = Mapping[str, object]


class Run(Protocol):
    """Executes one statement and returns its rows; an UPDATE or INSERT tells with RETURNING what it did."""

    def __call__(self, statement: Executable, values: Values | None = None, /) -> list[tuple[Any, ...]]:
        """Execute a statement, with values for its named parameters."""


_COLUMNS = [getattr(DataProduct, field.name) for field in fields(ProductRow)]
_SQLITE = sqlite.dialect(paramstyle="named")
_COUNTS = select(DataProduct.status, func.count()).group_by(DataProduct.status)
_ONE = select(*_COLUMNS).where(DataProduct.data_id == bindparam("product"))


def ensure_data_registry_db(path: Path | str) -> sqlite3.Connection:
    """Open the data registry's file, making its folder and tables where they are missing.

    Returns
    -------
    sqlite3.Connection
        Each statement commits by itself unless a transaction is begun.
    """
    path = Path(path)
    try:
        METADATA["data_registry"].create_all(engine_of_file(path))
    except DBAPIError as error:
        raise explain(error, path) or ConfigurationError(f"{path} cannot be set up: {error.orig}") from error
    return connect(path)


@contextmanager
def open_registry(path: Path | None = None) -> Iterator[RegistryConnection]:
    """Open the registry in a file that is named, else the configured one: a file, or a schema on a server."""
    if path is None and on_server():
        with _explained("data_registry"), get_engine("data_registry").connect() as connection:
            yield connection
    else:
        with closing(ensure_data_registry_db(path or database_path("data_registry"))) as connection:
            yield connection


@contextmanager
def _explained(conn: RegistryConnection | str) -> Iterator[None]:
    """Turn failures of storage into sentences about the registry."""
    try:
        yield
    except STORAGE_ERRORS as error:
        told = explain(error, location_of(conn))
        if told is None:
            raise
        raise told from error


def location_of(conn: RegistryConnection | str) -> str:
    """Return where a registry is, for people: its file, or the server and schema."""
    if isinstance(conn, sqlite3.Connection):
        return str(_plain_cursor(conn).execute("PRAGMA database_list").fetchone()[2])
    return location("data_registry")


@functools.lru_cache(maxsize=128)
def _compiled(statement: Executable) -> tuple[str, dict[str, Any]]:
    """Return the text and values of a statement; one that a module keeps, with named parameters, is compiled once."""
    compiled = cast(ClauseElement, statement).compile(dialect=_SQLITE, compile_kwargs={"render_postcompile": True})
    return str(compiled), dict(compiled.params)


def _run_plain(cursor: sqlite3.Cursor, statement: Executable, values: Values | None = None) -> list[tuple[Any, ...]]:
    text, own = _compiled(statement)
    return cursor.execute(text, own | dict(values or {})).fetchall()


def _run_on_server(conn: Connection, statement: Executable, values: Values | None = None) -> list[tuple[Any, ...]]:
    result = conn.execute(statement, values)
    return [tuple(row) for row in result] if result.returns_rows else []


def _plain_cursor(conn: sqlite3.Connection) -> sqlite3.Cursor:
    cursor = conn.cursor()
    cursor.row_factory = None
    return cursor


@contextmanager
def transaction(conn: RegistryConnection) -> Iterator[Run]:
    """Begin a writing transaction that commits when the block succeeds; what was left open is committed first.

    Nobody else writes between its first and its last statement.
    """
    with _explained(conn):
        if isinstance(conn, Connection):
            conn.commit()
            with conn.begin():
                yield functools.partial(_run_on_server, conn)
            return
        cursor = _plain_cursor(conn)
        _end(conn, cursor, "COMMIT")
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield functools.partial(_run_plain, cursor)
            _end(conn, cursor, "COMMIT")
        except BaseException:
            # A commit that failed must not be caught up with by the next transaction.
            _end(conn, cursor, "ROLLBACK")
            raise
        if getattr(conn, "autocommit", True) is False:
            # Python 3.12 can be told that a transaction is always open.
            cursor.execute("BEGIN")


def _end(conn: sqlite3.Connection, cursor: sqlite3.Cursor, verb: str) -> None:
    """End a transaction in words: with Python 3.12's `autocommit` the connection's own methods may do nothing."""
    if conn.in_transaction:
        cursor.execute(verb)


def read(conn: RegistryConnection, statement: Executable, values: Values | None = None) -> list[tuple[Any, ...]]:
    """Return the rows of a query; a caller's open transaction sees its own changes."""
    with _explained(conn):
        if not isinstance(conn, Connection):
            return _run_plain(_plain_cursor(conn), statement, values)
        if conn.in_transaction():
            return _run_on_server(conn, statement, values)
        with conn.begin():
            return _run_on_server(conn, statement, values)


def find_rows(
    conn: RegistryConnection,
    *conditions: ColumnElement[bool],
    limit: int | None = None,
    newest_first: bool = False,
) -> list[ProductRow]:
    """Return products that meet all conditions, in order of registration or the other way round."""
    order = DataProduct.id.desc() if newest_first else DataProduct.id
    rows = read(conn, select(*_COLUMNS).where(*conditions).order_by(order).limit(limit))
    return [ProductRow(*row) for row in rows]


def get_data(conn: RegistryConnection, data_id: str) -> ProductRow:
    """Return one product.

    Raises
    ------
    UnknownProductError
        If there is none of that id.
    """
    rows = read(conn, _ONE, {"product": data_id})
    if not rows:
        raise UnknownProductError(data_id)
    return ProductRow(*rows[0])


def list_data(
    conn: RegistryConnection,
    *,
    data_type: str | None = None,
    status: str | None = None,
    tag: str | None = None,
    after: str | None = None,
    limit: int | None = None,
    newest_first: bool = False,
) -> list[ProductRow]:
    """Return products in order of registration or the other way round, all or those of one type, status or tag.

    A page at a time: those that come after the product `after` in that order, and no more than `limit`.

    Raises
    ------
    PublishError
        If there is no such type, status or product to come after.
    """
    conditions = []
    if data_type is not None:
        type_folder(data_type)
        conditions.append(DataProduct.data_type == data_type)
    if status is not None:
        if status not in set(ProductStatus):
            raise PublishError(f"{status!r} is no status; there are {', '.join(ProductStatus)}")
        conditions.append(DataProduct.status == status)
    if tag is not None:
        conditions.append(DataProduct.data_id.in_(select(DataTag.data_id).where(DataTag.tag == tag)))
    if after is not None:
        get_data(conn, after)
        place = select(DataProduct.id).where(DataProduct.data_id == after).scalar_subquery()
        conditions.append(DataProduct.id < place if newest_first else DataProduct.id > place)
    return find_rows(conn, *conditions, limit=limit, newest_first=newest_first)


def count_data(conn: RegistryConnection) -> dict[str, int]:
    """Return the number of products by status."""
    return {str(status): int(number) for status, number in read(conn, _COUNTS)}
