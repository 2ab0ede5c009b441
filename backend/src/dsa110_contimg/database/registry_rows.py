"""The rows of the data registry: make, read, register, link, tag.

The functions take a plain sqlite3 connection to the file, with or without a row factory and whatever its isolation
level, or SQLAlchemy's connection to a server (`open_registry` returns whichever is configured). Statements are
written once, with SQLAlchemy, and compiled for the connection at hand.

Each function is one transaction: what a caller left uncommitted is committed first, so that a product's state is
never older on disk than in its mind.
"""

import functools
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from sqlalchemy import ClauseElement, ColumnElement, Connection, Executable, or_, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from dsa110_contimg.database.models import (
    METADATA,
    DataProduct,
    DataRelationship,
    DataTag,
    ProductStatus,
    QAStatus,
    ValidationStatus,
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
from dsa110_contimg.errors import ConfigurationError, PublishError

_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+@-]*")


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

    @property
    def details(self) -> dict[str, object]:
        """The parsed metadata_json."""
        return dict(json.loads(self.metadata_json or "{}"))

    @property
    def companions(self) -> list[str]:
        """Files that are published with the product (noise map, weights, preview)."""
        found = self.details.get("companions", [])
        return [str(path) for path in found] if isinstance(found, list) else []


STORAGE_ERRORS = (sqlite3.Error, DBAPIError)
RegistryConnection = sqlite3.Connection | Connection
Run = Callable[[Executable], list[tuple[Any, ...]]]
"""Executes one statement and returns its rows; an UPDATE or INSERT tells with RETURNING what it did."""

_COLUMNS = [getattr(DataProduct, field.name) for field in fields(ProductRow)]
_SQLITE = sqlite.dialect(paramstyle="named")


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
        told = explain(error, _location(conn))
        if told is None:
            raise
        raise told from error


def _location(conn: RegistryConnection | str) -> str:
    if isinstance(conn, sqlite3.Connection):
        return str(_plain_cursor(conn).execute("PRAGMA database_list").fetchone()[2])
    return location("data_registry")


def _run_plain(cursor: sqlite3.Cursor, statement: Executable) -> list[tuple[Any, ...]]:
    compiled = cast(ClauseElement, statement).compile(dialect=_SQLITE, compile_kwargs={"render_postcompile": True})
    return cursor.execute(str(compiled), compiled.params).fetchall()


def _run_on_server(conn: Connection, statement: Executable) -> list[tuple[Any, ...]]:
    result = conn.execute(statement)
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
        except BaseException:
            _end(conn, cursor, "ROLLBACK")
            raise
        _end(conn, cursor, "COMMIT")
        if getattr(conn, "autocommit", True) is False:
            # Python 3.12 can be told that a transaction is always open.
            cursor.execute("BEGIN")


def _end(conn: sqlite3.Connection, cursor: sqlite3.Cursor, verb: str) -> None:
    """End a transaction in words: with Python 3.12's `autocommit` the connection's own methods may do nothing."""
    if conn.in_transaction:
        cursor.execute(verb)


def read(conn: RegistryConnection, statement: Executable) -> list[tuple[Any, ...]]:
    """Return the rows of a query; a caller's open transaction sees its own changes."""
    with _explained(conn):
        if not isinstance(conn, Connection):
            return _run_plain(_plain_cursor(conn), statement)
        if conn.in_transaction():
            return _run_on_server(conn, statement)
        with conn.begin():
            return _run_on_server(conn, statement)


def find_rows(conn: RegistryConnection, *conditions: ColumnElement[bool]) -> list[ProductRow]:
    """Return products that meet all conditions, in order of registration."""
    rows = read(conn, select(*_COLUMNS).where(*conditions).order_by(DataProduct.id))
    return [ProductRow(*row) for row in rows]


def get_data(conn: RegistryConnection, data_id: str) -> ProductRow:
    """Return one product.

    Raises
    ------
    PublishError
        If there is none of that id.
    """
    rows = find_rows(conn, DataProduct.data_id == data_id)
    if not rows:
        raise PublishError(f"there is no product {data_id!r} in the registry: see `contimg registry list`")
    return rows[0]


def list_data(conn: RegistryConnection, *, data_type: str | None = None, status: str | None = None) -> list[ProductRow]:
    """Return products, all or those of one type or status.

    Raises
    ------
    PublishError
        If there is no such type or status.
    """
    conditions = []
    if data_type is not None:
        type_folder(data_type)
        conditions.append(DataProduct.data_type == data_type)
    if status is not None:
        if status not in set(ProductStatus):
            raise PublishError(f"{status!r} is no status; there are {', '.join(ProductStatus)}")
        conditions.append(DataProduct.status == status)
    return find_rows(conn, *conditions)


def register_data_instance(
    conn: RegistryConnection,
    data_type: str,
    data_id: str,
    stage_path: Path | str,
    auto_publish: bool = True,
    metadata: Mapping[str, object] | None = None,
    *,
    now: float | None = None,
) -> str:
    """Register a product in staging and return its id.

    Registering the same id with the same path again changes nothing, however far the product has come.

    Raises
    ------
    PublishError
        If the id or type cannot be one, or the id belongs to another path.
    """
    type_folder(data_type)
    if not _ID_PATTERN.fullmatch(data_id) or ".." in data_id:
        raise PublishError(f"{data_id!r} cannot be a product id: use letters, digits and . _ : + @ -")
    path = Path(stage_path).resolve()
    moment = time.time() if now is None else now
    row = insert(DataProduct).values(
        data_type=data_type,
        data_id=data_id,
        base_path=str(path.parent),
        stage_path=str(path),
        created_at=moment,
        staged_at=moment,
        auto_publish_enabled=int(auto_publish),
        metadata_json=None if metadata is None else json.dumps(dict(metadata)),
        qa_status=QAStatus.PENDING.value,
        validation_status=ValidationStatus.PENDING.value,
    )
    with transaction(conn) as run:
        added = run(row.on_conflict_do_nothing().returning(DataProduct.id))
    if not added:
        standing = get_data(conn, data_id)
        if (standing.data_type, standing.stage_path) != (data_type, str(path)):
            raise PublishError(
                f"product {data_id} is registered already as {standing.data_type} {standing.stage_path}: a remade "
                "product needs a new id"
            )
    return data_id


def link_data(conn: RegistryConnection, parent_id: str, child_id: str, relationship_type: str) -> None:
    """Record that a product was made from another ('derived_from') or replaces it ('supersedes'); idempotent.

    Raises
    ------
    PublishError
        If one of the two is not registered.
    """
    for data_id in (parent_id, child_id):
        get_data(conn, data_id)
    row = {"parent_id": parent_id, "child_id": child_id, "relationship_type": relationship_type}
    with transaction(conn) as run:
        run(insert(DataRelationship).values(created_at=time.time(), **row).on_conflict_do_nothing())


def tag_data(conn: RegistryConnection, data_id: str, tag: str) -> None:
    """Put a tag on a product; idempotent."""
    get_data(conn, data_id)
    with transaction(conn) as run:
        run(insert(DataTag).values(data_id=data_id, tag=tag, created_at=time.time()).on_conflict_do_nothing())


def list_tags(conn: RegistryConnection, data_id: str) -> list[str]:
    """Return a product's tags."""
    return [tag for (tag,) in read(conn, select(DataTag.tag).where(DataTag.data_id == data_id).order_by(DataTag.tag))]


def list_links(conn: RegistryConnection, data_id: str) -> list[tuple[str, str, str]]:
    """Return (parent, child, relationship type) of each link of a product."""
    link = DataRelationship
    query = select(link.parent_id, link.child_id, link.relationship_type)
    found = query.where(or_(link.parent_id == data_id, link.child_id == data_id)).order_by(link.id)
    return [(parent, child, kind) for parent, child, kind in read(conn, found)]
