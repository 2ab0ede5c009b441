"""Bring an older database up to the present tables."""

from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DatabaseError

from dsa110_contimg.database.models import ProductsBase
from dsa110_contimg.database.session import engine_of_file, explain
from dsa110_contimg.errors import ConfigurationError


def _create_missing_indexes(connection: Connection) -> None:
    for table in ProductsBase.metadata.sorted_tables:
        present = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for index in table.indexes:
            if {column.name for column in index.columns} <= present:
                index.create(connection, checkfirst=True)


def migrate_products_db(db_path: Path) -> None:
    """Create the tables, indexes and views that a products database lacks; idempotent, changes no row."""
    engine = engine_of_file(Path(db_path))
    try:
        with engine.begin() as connection:
            ProductsBase.metadata.create_all(connection)
            _create_missing_indexes(connection)
    except DatabaseError as error:
        raise explain(error, db_path) or ConfigurationError(f"{db_path} cannot be migrated: {error.orig}") from error
    print(f"✓ Migrated {db_path}")  # noqa: T201 - the specification prints this line
