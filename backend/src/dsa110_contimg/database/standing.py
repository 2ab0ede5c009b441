"""What a database file or schema is, before anything is done to it.

A database knows its revision (the table `alembic_version`). One without it is empty, or an old installation: made
by the printed DDL, or by `create_all`. Whatever is neither ours nor empty is refused, and so is what a newer
version has made.
"""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Table, inspect, text

from dsa110_contimg.config import DATABASES
from dsa110_contimg.database.models import METADATA
from dsa110_contimg.errors import ConfigurationError

VERSION_TABLE = "alembic_version"
MIGRATIONS = Path(__file__).parent / "migrations"


class Standing(StrEnum):
    """Where a database stands on its way to the tables of this version."""

    EMPTY = "empty"
    """There is nothing in it."""
    UNVERSIONED = "unversioned"
    """It has our tables but knows no revision: an old installation."""
    OLDER = "older"
    """Its revision is one that later ones build on."""
    CURRENT = "current"
    """It has the tables of this version."""


def versions_folder(migrations: Path | str, name: str) -> Path:
    """Return the folder of a database's revisions."""
    return Path(migrations) / "versions" / name


def revisions_of(name: str) -> ScriptDirectory:
    """Return a database's chain of revisions."""
    return ScriptDirectory(MIGRATIONS, version_locations=[versions_folder(MIGRATIONS, name)])


def standing_of(connection: Connection, name: str, where: str, script: ScriptDirectory) -> Standing:
    """Return where a database stands; `where` names it for people.

    Raises
    ------
    ConfigurationError
        If it is not a database of this name, or was made by a newer version.
    """
    tables = set(inspect(connection).get_table_names())
    revisions = _revisions(connection) if VERSION_TABLE in tables else set()
    tables -= {VERSION_TABLE}
    if tables or revisions:
        _refuse_foreign(connection, name, where, tables)
    known = {revision.revision for revision in script.walk_revisions()}
    if revisions - known:
        raise ConfigurationError(
            f"database {where} was made by a newer version of contimg (its revision {', '.join(sorted(revisions))} is "
            "unknown here): update contimg, or restore a backup"
        )
    if not revisions:
        return Standing.UNVERSIONED if tables else Standing.EMPTY
    return Standing.CURRENT if revisions == set(script.get_heads()) else Standing.OLDER


def _revisions(connection: Connection) -> set[str]:
    return set(connection.scalars(text(f"SELECT version_num FROM {VERSION_TABLE}")))


def _refuse_foreign(connection: Connection, name: str, where: str, tables: set[str]) -> None:
    ours = METADATA[name].tables
    common = tables & set(ours)
    if not common:
        owner = next((other for other in DATABASES if tables & set(METADATA[other].tables)), None)
        what = f"is the database {owner}" if owner else f"is not ours (it holds {_some(tables) or 'no table'})"
        raise ConfigurationError(
            f"database {where} {what}, not {name}: check PIPELINE_{name.upper()}_DB, or move the file away"
        )
    for table in sorted(common):
        present = {column["name"] for column in inspect(connection).get_columns(table)}
        lacking = [column.name for column in _indispensable(ours[table]) if column.name not in present]
        if lacking:
            raise ConfigurationError(
                f"database {where} is not a {name} database: its table {table} lacks {_some(lacking)}; move the file "
                "away, or restore a backup"
            )


def _indispensable(table: Table) -> list[Column[object]]:
    """Return the columns without which a row of ours cannot be: what every version has had."""
    return [c for c in table.columns if not c.nullable and c.server_default is None and c.computed is None]


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
