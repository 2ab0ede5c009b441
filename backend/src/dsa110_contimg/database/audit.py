"""The audit: one row for each change that somebody makes through the API, a page or a command about users."""

import time
from typing import NamedTuple

from sqlalchemy import insert, select

from dsa110_contimg.database.accounts import DATABASE
from dsa110_contimg.database.models.access import AuditEntry
from dsa110_contimg.database.session import get_session

COMMAND_LINE = "command line"
"""Who a change is of that was made with a command: no user can be called so."""
MAX_DETAIL = 2000


class Audited(NamedTuple):
    """One change."""

    id: int
    at_unix: float
    user_name: str
    action: str
    target: str
    detail: str | None


def record(user_name: str, action: str, target: str, detail: str | None = None) -> None:
    """Note that a user did something to something.

    Parameters
    ----------
    user_name
        Who.
    action
        What, as a verb: `publish`, `dismiss`.
    target
        To what, with its kind: `product m1`, `candidate 7`.
    detail
        Why, or with which values.
    """
    short = None if detail is None else detail[:MAX_DETAIL]
    row = {"at_unix": time.time(), "user_name": user_name, "action": action, "target": target, "detail": short}
    with get_session(DATABASE) as session:
        session.execute(insert(AuditEntry).values(row))


def list_changes(
    *,
    before: int | None = None,
    user_name: str | None = None,
    action: str | None = None,
    target: str | None = None,
    limit: int = 50,
) -> list[Audited]:
    """Return changes, the latest first; `before` is the id of the last one of the page before."""
    columns = [getattr(AuditEntry, field) for field in Audited._fields]
    wanted = select(*columns).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(AuditEntry.id < before)
    for column, value in ((AuditEntry.user_name, user_name), (AuditEntry.action, action), (AuditEntry.target, target)):
        if value is not None:
            wanted = wanted.where(column == value)
    with get_session(DATABASE, read_only=True) as session:
        return [Audited(*row) for row in session.execute(wanted)]
