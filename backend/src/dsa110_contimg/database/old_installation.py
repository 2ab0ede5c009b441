"""Adopt a SQLite file from before the revisions: the same rows, in the tables of this version.

A table that differs from the model's is moved aside, made anew, filled from the old one, and the old one dropped.
Columns, indexes, triggers and tables that we do not know stay: they are somebody's. What stands against a new
constraint is repaired, and told (`old_rows`).

All of it happens in the caller's transaction, with foreign keys off, and with `legacy_alter_table` on: a table that
is renamed must not drag along what refers to it.
"""

import re

from sqlalchemy import Column, Connection, Index, MetaData, Table, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from dsa110_contimg.database.models.base import views_of
from dsa110_contimg.database.models.row_counts import triggers_of
from dsa110_contimg.database.old_rows import repair
from dsa110_contimg.errors import ConfigurationError

_ASIDE = "contimg_old_{}"
_CLAUSES = re.compile(r",(?![^()]*\))")  # the commas that are in no parentheses


def is_whole(connection: Connection, metadata: MetaData) -> bool:
    """Return whether a file has the tables, indexes and views of the models, as they are defined there."""
    if connection.dialect.name != "sqlite":
        return False
    present = _definitions(connection)
    items: list[Table | Index] = list(metadata.sorted_tables)
    items += [index for table in metadata.sorted_tables for index in table.indexes]
    wanted = {str(item.name): _definition(connection, item) for item in items}
    wanted |= {view: f"CREATE VIEW {view} AS {query}" for view, query in views_of(metadata).items()}
    return all(name in present and _plain(present[name]) == _plain(sql) for name, sql in wanted.items())


def adopt(connection: Connection, metadata: MetaData, where: str) -> list[str]:
    """Give a database the tables, indexes and views of the models, and return in sentences what was changed.

    A server has no installation that is older than the revisions: nothing is rebuilt there.

    Raises
    ------
    ConfigurationError
        If a row stands against a constraint and there is no rule for it.
    """
    for view in reversed(views_of(metadata)):
        connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
    ours = metadata.sorted_tables
    added = sorted(set(metadata.tables) - set(inspect(connection).get_table_names()))
    different = _different(connection, ours) if connection.dialect.name == "sqlite" else []
    foreign = {table.name: _set_aside(connection, table) for table in different}
    metadata.create_all(connection)
    sentences = [f"{where}: added the tables {', '.join(added)}"] if added else []
    for table in different:
        sentences += _refill(connection, table, where)
        for sql in foreign[table.name]:
            connection.exec_driver_sql(sql)
    for table in ours:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(connection, checkfirst=True)
    return sentences


def dangling_rows(connection: Connection, where: str) -> list[str]:
    """Return in sentences which rows refer to rows that do not exist: nothing can be invented for them."""
    if connection.dialect.name != "sqlite":
        return []
    counts: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        counts[table, parent] = counts.get((table, parent), 0) + 1
    return [
        f"{where}: {number} rows of {table} refer to rows of {parent} that do not exist; they were kept"
        for (table, parent), number in counts.items()
    ]


def _definitions(connection: Connection) -> dict[str, str]:
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {row.name: row.sql for row in rows}


def _plain(sql: str) -> list[str]:
    """Return a definition without what makes no difference: spaces, quotes, the order of its clauses."""
    squeezed = "".join(sql.split()).replace('"', "")
    if not squeezed.startswith("CREATETABLE"):
        return [squeezed]
    head, _, body = squeezed.partition("(")
    return [head, *sorted(_CLAUSES.split(body.removesuffix(")")))]


def _definition(connection: Connection, item: Table | Index) -> str:
    create = CreateTable(item) if isinstance(item, Table) else CreateIndex(item)
    return str(create.compile(dialect=connection.dialect))


def _different(connection: Connection, tables: list[Table]) -> list[Table]:
    """Return the tables that are there but not as the models define them, and drop such indexes."""
    present = _definitions(connection)

    def differs(item: Table | Index) -> bool:
        name = str(item.name)
        return name in present and _plain(present[name]) != _plain(_definition(connection, item))

    for table in tables:
        for index in filter(differs, table.indexes):
            index.drop(connection)
    return [table for table in tables if differs(table)]


def _set_aside(connection: Connection, table: Table) -> list[str]:
    """Rename a table, and return the definitions of somebody's indexes and triggers on it."""
    known = {index.name for index in table.indexes} | triggers_of(table.metadata)
    foreign = []
    rows = connection.execute(
        text(
            "SELECT type, name, sql FROM sqlite_master"
            " WHERE tbl_name = :table AND type IN ('index', 'trigger') AND sql IS NOT NULL"
        ),
        {"table": table.name},
    )
    for kind, name, sql in rows.all():
        connection.exec_driver_sql(f'DROP {kind} "{name}"')
        if name not in known:
            foreign.append(sql)
    connection.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO {_ASIDE.format(table.name)}")
    return foreign


def _refill(connection: Connection, table: Table, where: str) -> list[str]:
    aside = _ASIDE.format(table.name)
    old = _columns(connection, aside)
    unknown = [name for name in old if name not in table.columns]
    for name in unknown:
        connection.exec_driver_sql(f'ALTER TABLE {table.name} ADD COLUMN "{name}" {old[name]}')
    sentences = [f"{where}: {sentence}" for sentence in repair(connection, table, aside, where)]
    names = [f'"{c.name}"' for c in table.columns if c.name in old and c.computed is None]
    names += [f'"{name}"' for name in unknown]
    values = [f"coalesce({n}, {_default(table, n)})" if _default(table, n) else n for n in names]
    try:
        rows = connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {', '.join(values)} FROM {aside} ORDER BY rowid"
        ).rowcount
    except IntegrityError as error:
        raise ConfigurationError(
            f"database {where} cannot be upgraded: a row of {table.name} stands against a constraint ({error.orig}); "
            "correct or delete it; nothing was changed"
        ) from error
    _carry_sequence(connection, table.name, aside)
    connection.exec_driver_sql(f"DROP TABLE {aside}")
    sentences.append(f"{where}: brought the table {table.name} to this version with {rows} rows")
    if unknown:
        sentences.append(f"{where}: kept columns of {table.name} that this version does not know: {', '.join(unknown)}")
    return sentences


def _columns(connection: Connection, table: str) -> dict[str, str]:
    """Return the stored columns of a table and their types."""
    rows = connection.exec_driver_sql(f"PRAGMA table_xinfo({table})").all()
    return {row[1]: row[2] for row in rows if row[6] == 0}


def _default(table: Table, quoted: str) -> str | None:
    """Return what stands in for a missing value in a column that now needs one."""
    column: Column[object] | None = table.columns.get(quoted.strip('"'))
    if column is None or column.nullable or column.server_default is None:
        return None
    return str(getattr(column.server_default, "arg", None))


def _carry_sequence(connection: Connection, name: str, aside: str) -> None:
    """Let an id that was given once, and deleted, never be given again."""
    if "sqlite_sequence" not in _definitions(connection):
        return
    connection.exec_driver_sql(
        "UPDATE sqlite_sequence SET seq = max(seq, coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0))"
        " WHERE name = ?",
        (aside, name),
    )
