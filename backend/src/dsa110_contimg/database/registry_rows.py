"""The rows of the data registry on a plain sqlite3 connection: make, read, register, link, tag.

The functions take any connection to the file, with or without a row factory. Each one is one transaction: what a
caller left uncommitted is committed first, so that a product's state is never older on disk than in its mind.
"""

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from dsa110_contimg.database.models import DataRegistryBase
from dsa110_contimg.database.product_paths import type_folder
from dsa110_contimg.database.session import connect, explain, make_folder
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


_COLUMNS = ", ".join(field.name for field in fields(ProductRow))


def ddl() -> list[str]:
    """Return the statements that make the registry's tables and indexes where they are missing."""
    dialect, statements = sqlite.dialect(), []
    for table in DataRegistryBase.metadata.sorted_tables:
        statements.append(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect)) for index in indexes]
    return statements


def ensure_data_registry_db(path: Path | str) -> sqlite3.Connection:
    """Open the data registry, making its folder and tables where they are missing.

    Returns
    -------
    sqlite3.Connection
        Each statement commits by itself unless a transaction is begun.
    """
    path = Path(path)
    make_folder(path)
    connection = connect(path)
    try:
        with transaction(connection) as cursor:
            for statement in ddl():
                cursor.execute(statement)
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) or ConfigurationError(f"{path} cannot be set up: {error}") from error
    return connection


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """Begin a writing transaction that commits when the block succeeds; what was left open is committed first."""
    conn.commit()
    cursor = conn.cursor()
    cursor.row_factory = sqlite3.Row
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
    except BaseException:
        conn.rollback()
        raise
    conn.commit()


def find_rows(conn: sqlite3.Connection, where: str = "1", parameters: tuple[object, ...] = ()) -> list[ProductRow]:
    """Return products that a condition selects, in order of registration."""
    cursor = conn.cursor()
    cursor.row_factory = sqlite3.Row
    # Conditions and columns are constants of this package; values travel as parameters.
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM data_registry WHERE {where} ORDER BY id", parameters)
    return [ProductRow(**dict(row)) for row in rows.fetchall()]


def get_data(conn: sqlite3.Connection, data_id: str) -> ProductRow:
    """Return one product.

    Raises
    ------
    PublishError
        If there is none of that id.
    """
    rows = find_rows(conn, "data_id = ?", (data_id,))
    if not rows:
        raise PublishError(f"there is no product {data_id!r} in the registry: see `contimg registry list`")
    return rows[0]


def list_data(conn: sqlite3.Connection, *, data_type: str | None = None, status: str | None = None) -> list[ProductRow]:
    """Return products, all or those of one type or status."""
    return find_rows(
        conn, "(? IS NULL OR data_type = ?) AND (? IS NULL OR status = ?)", (data_type, data_type, status, status)
    )


def register_data_instance(
    conn: sqlite3.Connection,
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
    values = (data_type, data_id, str(path.parent), str(path), moment, moment, int(auto_publish))
    with transaction(conn) as cursor:
        added = cursor.execute(
            "INSERT INTO data_registry (data_type, data_id, base_path, stage_path, created_at, staged_at,"
            " auto_publish_enabled, metadata_json, qa_status, validation_status)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', 'pending') ON CONFLICT DO NOTHING",
            (*values, None if metadata is None else json.dumps(dict(metadata))),
        ).rowcount
    if added == 0:
        standing = get_data(conn, data_id)
        if (standing.data_type, standing.stage_path) != (data_type, str(path)):
            raise PublishError(
                f"product {data_id} is registered already as {standing.data_type} {standing.stage_path}: a remade "
                "product needs a new id"
            )
    return data_id


def link_data(conn: sqlite3.Connection, parent_id: str, child_id: str, relationship_type: str) -> None:
    """Record that a product was made from another ('derived_from') or replaces it ('supersedes'); idempotent."""
    with transaction(conn) as cursor:
        cursor.execute(
            "INSERT INTO data_relationships (parent_id, child_id, relationship_type, created_at)"
            " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (parent_id, child_id, relationship_type, time.time()),
        )


def tag_data(conn: sqlite3.Connection, data_id: str, tag: str) -> None:
    """Put a tag on a product; idempotent."""
    get_data(conn, data_id)
    with transaction(conn) as cursor:
        cursor.execute(
            "INSERT INTO data_tags (data_id, tag, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (data_id, tag, time.time()),
        )


def list_tags(conn: sqlite3.Connection, data_id: str) -> list[str]:
    """Return a product's tags."""
    return [row[0] for row in conn.execute("SELECT tag FROM data_tags WHERE data_id = ? ORDER BY tag", (data_id,))]


def list_links(conn: sqlite3.Connection, data_id: str) -> list[tuple[str, str, str]]:
    """Return (parent, child, relationship type) of each link of a product."""
    query = (
        "SELECT parent_id, child_id, relationship_type FROM data_relationships"
        " WHERE parent_id = ? OR child_id = ? ORDER BY id"
    )
    return [(row[0], row[1], row[2]) for row in conn.execute(query, (data_id, data_id))]
