"""Lists in the order of a column that may be empty, with limits on other columns.

AnyRow without a value come last, whichever way the list runs; databases disagree on where NULL stands. So the rows that
have a value are read first, in the order of (value, tie), and then those that have none, in the order of the tie. Both
parts follow one index, and a page begins behind the last row of the page before, whose key is (value or None, tie).

SQLite has no statistics by which it could know whether to follow the index of the order or that of a limit, and a row
that is looked up costs more than ten that are read in passing. `ordered_within` finds out what is cheap: it counts a
little, walks a little, and reads all of the table when neither leads to a full page.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

Query = Select[*tuple[Any, ...]]
AnyRow = Row[*tuple[Any, ...]]
"""A row of any columns."""
Place = tuple[str | float | int | None, str | int]
"""The value and the tie of a row."""
FEW = 600
"""As many rows may be looked up and sorted for a page."""
WALK = 1500
"""As many entries of an index may be passed on the way to a page."""


class Order(NamedTuple):
    """How a list is sorted."""

    value: InstrumentedAttribute[Any]
    tie: InstrumentedAttribute[Any]
    """Unique, never empty; always ascends where there are no values."""
    descending: bool = False
    indexed: bool = True
    """Whether the value has an index."""


class Limits(NamedTuple):
    """What the numbers of a column with an index must lie between, both included; None leaves a side open."""

    column: InstrumentedAttribute[Any]
    low: float | None = None
    high: float | None = None

    def condition(self, *, indexed: bool = True) -> ColumnElement[bool]:
        """Return the condition, to which the database may or may not use the index."""
        column = self.column if indexed else self.column + 0.0
        sides = [column >= self.low] if self.low is not None else []
        return and_(*sides, *([column <= self.high] if self.high is not None else []))


def ordered(
    session: Session, query: Query, order: Order, after: Place | None, limit: int, *, scan: bool = False
) -> list[AnyRow]:
    """Return the rows of a query that follow a place, at most `limit`; a scan does not use the index of the order."""
    if order.value is order.tie:
        return list(session.execute(_by_tie(query, order, after, scan).limit(limit)))
    rows: list[AnyRow] = []
    if after is None or after[0] is not None:
        rows += session.execute(_with_value(query, order, after, scan).limit(limit)).all()
    if len(rows) == limit:
        return rows
    without = query.where(order.value.is_(None))
    if after is not None and after[0] is None:
        without = without.where(order.tie > after[1])
    # Without an index on the value, that of the tie would only lead through the whole table in its order.
    tie = order.tie if order.indexed else order.tie.op("||")("")
    return rows + list(session.execute(without.order_by(tie).limit(limit - len(rows))))


def ordered_within(
    session: Session, query: Query, limits: Sequence[Limits], order: Order, after: Place | None, limit: int
) -> list[AnyRow]:
    """Return the rows of a query within limits that follow a place, at most `limit`."""
    if not limits or session.get_bind().dialect.name != "sqlite":
        return ordered(session, query.where(*(each.condition() for each in limits)), order, after, limit)
    filtered = query.where(*(each.condition(indexed=False) for each in limits))
    few = next((each for each in limits if _has_few(session, each)), None)
    if few is not None:
        return ordered(session, filtered.where(few.condition()), order, after, limit, scan=True)
    if order.indexed:
        end = _end_of_walk(session, order, after)
        if end is None:
            return ordered(session, filtered, order, after, limit)
        near = filtered.where(order.value >= end if order.descending else order.value <= end)
        rows = ordered(session, near, order, after, limit)
        if len(rows) == limit:
            return rows
    return ordered(session, filtered, order, after, limit, scan=True)


def _has_few(session: Session, limits: Limits) -> bool:
    some = select(limits.column).where(limits.condition()).limit(FEW).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) < FEW


def _end_of_walk(session: Session, order: Order, after: Place | None) -> Any:  # noqa: ANN401 - what the column holds
    """Return the value that lies `WALK` entries behind a place, or None if the index ends before."""
    if after is not None and after[0] is None:
        return None
    # The tie is left out: it would have to be looked up in the table for each entry.
    walked = select(order.value).where(order.value.is_not(None))
    if after is not None:
        start = after[1] if order.value is order.tie else after[0]
        walked = walked.where(order.value <= start if order.descending else order.value >= start)
    walked = walked.order_by(order.value.desc() if order.descending else order.value.asc())
    return session.scalar(walked.offset(WALK).limit(1))


def _with_value(query: Query, order: Order, after: Place | None, scan: bool) -> Query:
    value: ColumnElement[Any] = order.value + 0.0 if scan else order.value.expression
    query = query.where(value.is_not(None))
    columns = (value, order.tie)
    if after is not None:
        key = tuple_(*columns)
        query = query.where(key < after if order.descending else key > after)
    return query.order_by(*(column.desc() if order.descending else column.asc() for column in columns))


def _by_tie(query: Query, order: Order, after: Place | None, scan: bool) -> Query:
    tie = order.tie.op("||")("") if scan else order.tie
    if after is not None:
        query = query.where(tie < after[1] if order.descending else tie > after[1])
    return query.order_by(tie.desc() if order.descending else tie.asc())
