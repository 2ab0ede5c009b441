"""Installations with rows in every database, as files and on a server."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Column, Table, inspect, text
from tests.database.conftest import (  # noqa: F401 - fixtures
    backend,
    empty_databases,
    house,
    house_on_postgresql,
    on_postgresql,
    postgresql,
    root,
)

from dsa110_contimg.config import DATABASES
from dsa110_contimg.database import get_engine, get_session
from dsa110_contimg.database.models import METADATA

ONE_OF = re.compile(r"(\w+) IN \('(\w+)'")
UNLIKE = ("id", "idx", "path", "name", "frequency_ghz")
AWKWARD = ("plain", "tab\tand\nline", "quote ' and \\ backslash", "ångström µJy ✓", "\\.", "")

Contents = dict[str, list[tuple[Any, ...]]]


def value_of(column: Column[Any], number: int, rng: random.Random) -> object:
    """Return a value that the column takes, unlike those of other rows where it must be."""
    for constraint in column.table.constraints:
        if isinstance(constraint, CheckConstraint):
            allowed = dict(ONE_OF.findall(str(constraint.sqltext)))
            if column.name in allowed:
                return allowed[column.name]
    kind = column.type.python_type
    if column.foreign_keys:
        (key,) = column.foreign_keys
        return number + 1 if kind is int else f"{key.column.name} {number}"
    if column.primary_key or column.unique or column.name.endswith(UNLIKE):
        return f"{column.name} {number}" if kind is str else kind(number + 1)
    if kind is int:
        return rng.randrange(100)
    if kind is float:
        return rng.choice([rng.gauss(0.0, 1e3), 1e-300, 0.1 + 0.2])
    return f"{rng.choice(AWKWARD)} {number}"


def fill(seed: int, rows: int = 4) -> None:
    """Put rows into every table of every database."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    for name in DATABASES:
        with get_session(name) as session:
            for table in METADATA[name].sorted_tables:
                if table.info.get("is_view"):
                    continue
                for number in range(rows):
                    session.execute(table.insert().values(new_row(table, number, rng)))


def new_row(table: Table, number: int, rng: random.Random) -> dict[str, object]:
    return {
        column.name: value_of(column, number, rng)
        for column in table.columns
        if column.computed is None and not (column.nullable and rng.random() < 0.3)
    }


def everything() -> dict[str, Contents]:
    """Return every row of every table of every database."""
    return {name: contents_of(name) for name in DATABASES}


def contents_of(name: str) -> Contents:
    engine = get_engine(name, read_only=True)
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        return {
            table: sorted((tuple(row) for row in connection.execute(text(f'SELECT * FROM "{table}"'))), key=repr)
            for table in tables
        }


@pytest.fixture
def filled(backend: str) -> Callable[[], dict[str, Contents]]:  # noqa: F811
    """Databases with rows in every table, and how to read all of them."""
    assert backend
    fill(20251224)
    return everything
