"""Many rows at once: columns in, which reach the driver without a dictionary and an object for each row; keys in parts.

Neither the number of rows nor that of keys is limited by what one statement can hold.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import Compiled, CursorResult, Executable, bindparam, insert, inspect, null, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from dsa110_contimg.errors import BadInputError

BATCH = 20_000
AT_ONCE = 500
"""Keys in one question to a database."""
Value = str | float | None
Progress = Callable[[int], None]
"""Told how many more rows have been written."""


def no_progress(_count: int) -> None:
    """Tell nobody."""


def in_parts(keys: Iterable[str]) -> Iterator[list[str]]:
    """Yield keys, each once, as many at a time as one question may hold."""
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), AT_ONCE):
        yield distinct[start : start + AT_ONCE]


def insert_columns(
    session: Session,
    model: type[DeclarativeBase],
    columns: Mapping[str, Sequence[Value]],
    progress: Progress = no_progress,
) -> int:
    """Insert rows, given as columns of one length, and return how many there were.

    A column of None alone is left out, which the driver of SQLite rewards: it takes ten times as long to bind None
    as to bind a number.

    Raises
    ------
    BadInputError
        If two rows have one key; nothing has changed then, once the session rolls back.
    """
    told = _filled(columns)
    statement = insert(model).compile(dialect=session.connection().dialect, column_keys=list(told))
    try:
        count = _send(session, statement, told, progress)
    except IntegrityError as error:
        reason = str(error.orig).splitlines()[0]
        raise BadInputError(f"{model.__tablename__} would name a source twice, or lack a value ({reason})") from error
    return count


def upsert_columns(
    session: Session, model: type[DeclarativeBase], keys: Sequence[str], columns: Mapping[str, Sequence[Value]]
) -> int:
    """Insert rows, given as columns of one length, or update those that are there; return how many."""
    filled = _filled(columns)
    values = {name: bindparam(name) if name in filled else null() for name in columns}
    statement = postgresql.insert(model).values(values)
    told = {name: statement.excluded[name] for name in columns if name not in keys}
    complete = statement.on_conflict_do_update(index_elements=list(keys), set_=told)
    return _send(session, complete.compile(dialect=session.connection().dialect), filled)


def update_columns(
    session: Session,
    model: type[DeclarativeBase],
    key: str,
    which: Sequence[Value],
    columns: Mapping[str, Sequence[Value]],
) -> int:
    """Set columns, given in one length, of the rows that have the values `which` in the column `key`."""
    filled = _filled(columns)
    # A parameter of the name of a column would be taken for that column's own.
    values = {name: bindparam(f"new_{name}") if name in filled else null() for name in columns}
    own = inspect(model).columns[key]
    statement = update(model).where(own == bindparam("the_key", type_=own.type)).values(values)
    told = {f"new_{name}": column for name, column in filled.items()}
    return _send(session, statement.compile(dialect=session.connection().dialect), {"the_key": which} | told)


@contextmanager
def without_collection() -> Iterator[None]:
    """Let no garbage collection interrupt: among a million tuples without cycles it looks for cycles all the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def fetch_all(session: Session, query: Executable) -> list[tuple[Any, ...]]:
    """Return all rows of a question as the driver gives them.

    Made into rows of SQLAlchemy they would take three times as long.
    """
    result = session.connection().execute(query)
    if not isinstance(result, CursorResult) or result.cursor is None:
        return []
    rows = list(result.cursor.fetchall())
    result.close()
    return rows


def _filled(columns: Mapping[str, Sequence[Value]]) -> dict[str, Sequence[Value]]:
    """Return the columns that hold anything: the driver of SQLite binds None ten times as slowly as a number."""
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _send(
    session: Session, statement: Compiled, columns: Mapping[str, Sequence[Value]], progress: Progress = no_progress
) -> int:
    """Send a statement to the driver with the rows that columns make, in batches; return how many rows."""
    order = getattr(statement, "positiontup", None)
    rows = zip(*(columns[name] for name in order or columns), strict=True)
    session.flush()
    connection, count = session.connection(), 0
    while batch := list(islice(rows, BATCH)):
        # A driver without positions wants the values by name.
        named = None if order else [dict(zip(columns, row, strict=True)) for row in batch]
        connection.exec_driver_sql(str(statement), named or batch)
        count += len(batch)
        progress(len(batch))
    session.expire_all()
    return count
