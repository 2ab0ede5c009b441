"""Many rows at once: columns in, which reach the driver without a dictionary and an object for each row; keys in parts.

Neither the number of rows nor that of keys is limited by what one statement can hold.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from sqlalchemy import insert
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
    told = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    connection = session.connection()
    statement = insert(model).compile(dialect=connection.dialect, column_keys=list(told))
    order = getattr(statement, "positiontup", None)
    rows = zip(*(told[name] for name in order or told), strict=True)
    count = 0
    try:
        while batch := list(islice(rows, BATCH)):
            # A driver without positions wants the values by name.
            named = None if order else [dict(zip(told, row, strict=True)) for row in batch]
            connection.exec_driver_sql(str(statement), named or batch)
            count += len(batch)
            progress(len(batch))
    except IntegrityError as error:
        reason = str(error.orig).splitlines()[0]
        raise BadInputError(f"{model.__tablename__} would name a source twice, or lack a value ({reason})") from error
    session.expire_all()
    return count
