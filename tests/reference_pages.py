"""The pages docs/reference/database_<name>_sqlite3.md: their tables come from the models.

A page has sentences and queries that people write, between its title and the mark GENERATED; what follows the mark
is made here. What a column means is in docs/reference/columns.toml.
"""

import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import CheckConstraint, Column, Index, Table, UniqueConstraint
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateColumn

from dsa110_contimg.database import models
from dsa110_contimg.database.models import METADATA

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
GENERATED = "<!-- Made from the models by `python -m tests.test_docs`: do not edit below this line. -->"
DIALECT = sqlite.dialect()
SHARED = "shared"

Meanings = dict[str, dict[str, str]]


def load_meanings() -> Meanings:
    return tomllib.loads((FOLDER / "columns.toml").read_text(encoding="utf-8"))


def page_of(database: str) -> Path:
    return FOLDER / f"database_{database}_sqlite3.md"


def meaning(meanings: Meanings, table: str, column: str) -> tuple[str, str]:
    """Return what a column means, and its unit ('' for none)."""
    for section in (table, SHARED):
        if column in meanings.get(section, {}):
            text, _, unit = meanings[section][column].partition("|")
            return text.strip(), unit.strip()
    raise KeyError(f"docs/reference/columns.toml does not say what {table}.{column} means")


def idle_meanings(meanings: Meanings) -> set[str]:
    """Return what columns.toml explains and no table has, or what a table's own entry hides everywhere."""
    tables = {table.name: {c.name for c in table.columns} for m in METADATA.values() for table in m.tables.values()}
    idle = {
        f"{section}.{name}"
        for section, names in meanings.items()
        if section != SHARED
        for name in names
        if name not in tables.get(section, set())
    }
    used = {name for table, names in tables.items() for name in names if name not in meanings.get(table, {})}
    return idle | {f"{SHARED}.{name}" for name in meanings[SHARED] if name not in used}


def column_row(column: Column[object], meanings: Meanings) -> str:
    """Return a column's line: name, type, default, meaning, unit."""
    printed = str(CreateColumn(column).compile(dialect=DIALECT)).partition(" ")[2]
    kind = printed.partition(" ")[0]
    notes = [kind, "NOT NULL" if not column.nullable and not column.primary_key else "", "PK" * column.primary_key]
    default = "" if column.server_default is None or column.computed is not None else printed.partition("DEFAULT ")[2]
    text, unit = meaning(meanings, column.table.name, column.name)
    links = [f" → `{key.target_fullname}`" for key in column.foreign_keys]
    cells = [f"`{column.name}`", " ".join(filter(None, notes)), default.split(" ")[0], text + "".join(links), unit]
    return f"| {' | '.join(cells)} |"


def index_line(index: Index) -> str:
    columns = ", ".join(column.name for column in index.columns)
    where = index.dialect_options["sqlite"]["where"]
    return f"* `{index.name}` ({columns}){' unique' * index.unique}{'' if where is None else f' where `{where}`'}"


def rules(table: Table) -> Iterator[str]:
    """Yield indexes and constraints."""
    yield from (index_line(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))
    for constraint in sorted(table.constraints, key=str):
        if isinstance(constraint, UniqueConstraint):
            yield f"* unique ({', '.join(column.name for column in constraint.columns)})"
        if isinstance(constraint, CheckConstraint):
            yield f"* check `{constraint.sqltext}`"


def tables_of(database: str) -> list[tuple[str, Table]]:
    """Return the sentence and the table of each model of a database, in the order in which they are defined."""
    classes = [
        value
        for value in vars(models).values()
        if isinstance(value, type) and issubclass(value, DeclarativeBase) and hasattr(value, "__table__")
    ]
    mine = [value for value in classes if value.metadata is METADATA[database]]
    mine.sort(key=lambda value: (value.__module__, inspect.getsourcelines(value)[1]))
    found = [((value.__doc__ or "").strip(), value.__table__) for value in mine if isinstance(value.__table__, Table)]
    assert {table.name for _, table in found} == set(METADATA[database].tables)
    return found


def generated(database: str, meanings: Meanings) -> str:
    """Return the part of a page that the models decide."""
    parts = ["## Tables\n"]
    for sentence, table in tables_of(database):
        rows = "\n".join(column_row(column, meanings) for column in table.columns)
        parts.append(f"### {table.name}\n\n{sentence}\n")
        parts.append(f"| column | type | default | meaning | unit |\n|---|---|---|---|---|\n{rows}\n")
        lines = "\n".join(rules(table))
        parts.append(f"{lines}\n" if lines else "")
    return "\n".join(part for part in parts if part)


def with_tables(database: str, text: str, meanings: Meanings) -> str:
    """Return a page with its tables as the models have them now; its sentences stay."""
    return f"{text.partition(GENERATED)[0]}{GENERATED}\n\n{generated(database, meanings)}"


def rewrite() -> None:
    """Bring every page up to date."""
    meanings = load_meanings()
    for database in METADATA:
        page = page_of(database)
        page.write_text(with_tables(database, page.read_text(encoding="utf-8"), meanings), encoding="utf-8")
