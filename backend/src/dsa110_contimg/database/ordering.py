"""Lists in the order of a column that may be empty.

Rows without a value come last, whichever way the list runs; databases disagree on where NULL stands. So the rows that
have a value are read first, in the order of (value, tie), and then those that have none, in the order of the tie. Both
parts follow one index, and a page begins behind the last row of the page before, whose key is (value or None, tie).
"""

from typing import Any, NamedTuple

from sqlalchemy import Row, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

Query = Select[*tuple[Any, ...]]
AnyRow = Row[*tuple[Any, ...]]
"""A row of any columns."""
Place = tuple[str | float | int | None, str | int]
"""The value and the tie of a row."""


class Order(NamedTuple):
    """How a list is sorted."""

    value: InstrumentedAttribute[Any]
    tie: InstrumentedAttribute[Any]
    """Unique, never empty; always ascends where there are no values."""
    descending: bool = False


def ordered(session: Session, query: Query, order: Order, after: Place | None, limit: int) -> list[AnyRow]:
    """Return the rows of a query that follow a place, at most `limit`."""
    if order.value is order.tie:
        return list(session.execute(_by_tie(query, order, after).limit(limit)))
    rows: list[AnyRow] = []
    if after is None or after[0] is not None:
        rows += session.execute(_with_value(query, order, after).limit(limit)).all()
    if len(rows) == limit:
        return rows
    without = query.where(order.value.is_(None))
    if after is not None and after[0] is None:
        without = without.where(order.tie > after[1])
    return rows + list(session.execute(without.order_by(order.tie).limit(limit - len(rows))))


def _with_value(query: Query, order: Order, after: Place | None) -> Query:
    columns = (order.value, order.tie)
    query = query.where(order.value.is_not(None))
    if after is not None:
        key = tuple_(*columns)
        query = query.where(key < after if order.descending else key > after)
    return query.order_by(*(column.desc() if order.descending else column.asc() for column in columns))


def _by_tie(query: Query, order: Order, after: Place | None) -> Query:
    if after is not None:
        query = query.where(order.tie < after[1] if order.descending else order.tie > after[1])
    return query.order_by(order.tie.desc() if order.descending else order.tie.asc())
