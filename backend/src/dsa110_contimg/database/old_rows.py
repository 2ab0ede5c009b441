"""Rows of an old installation that stand against a constraint of this version, and the rule for each.

* `processing` is another word for the queue's state in_progress, as are the spelled-out types of a caltable;
* a source has one active candidate: the newest stays, the others are dismissed with a note;
* a path, or the flux of a source in an image, that is there twice keeps its newest row.

Where there is no rule, a row is named and the upgrade refused.
"""

import time
from collections.abc import Callable, Iterable

from sqlalchemy import CheckConstraint, Connection, Table, UniqueConstraint, text

from dsa110_contimg.errors import ConfigurationError

_MADE_AT = ("measured_at", "discovered_at", "updated_at", "last_update", "indexed_at", "registered_at", "created_at")
_TYPES = {"delay": "K", "bandpass": "BP", "bandpass_amplitude": "BA", "gain": "G", "gain_phase": "GP"}
_EXAMPLES = 3


def repair(connection: Connection, table: Table, aside: str, where: str) -> list[str]:
    """Make the rows of *aside* fit for *table* and return in sentences what was changed.

    Raises
    ------
    ConfigurationError
        If a row stands against a CHECK constraint; the message names it.
    """
    rule = _RULES.get(table.name)
    sentences = rule(connection, aside) if rule is not None else []
    for key in _unique_keys(table):
        sentences += _keep_newest(connection, table, aside, key)
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint):
            _must_pass(connection, table, aside, constraint, where)
    return sentences


def _queue_states(connection: Connection, aside: str) -> list[str]:
    changed = connection.execute(
        text(f"UPDATE {aside} SET state = 'in_progress' WHERE state LIKE 'processing%' RETURNING group_id")
    ).scalars()
    return [f"ingest_queue: the state of group {group} is now in_progress, was processing" for group in changed]


def _active_candidates(connection: Connection, aside: str) -> list[str]:
    changed = connection.execute(
        text(
            f"UPDATE {aside} SET status = 'dismissed', dismissed_at = :now,"
            " notes = coalesce(notes || '; ', '') || 'dismissed by the upgrade: a newer candidate is active'"
            " WHERE rowid IN (SELECT row FROM (SELECT rowid AS row, row_number() OVER"
            " (PARTITION BY source_id ORDER BY flagged_at DESC, rowid DESC) AS place"
            f" FROM {aside} WHERE status = 'active') WHERE place > 1) RETURNING id, source_id"
        ),
        {"now": time.time()},
    ).all()
    return [f"ese_candidates: candidate {n} of {source} was dismissed: a newer one is active" for n, source in changed]


def _caltable_types(connection: Connection, aside: str) -> list[str]:
    sentences = []
    for old, new in _TYPES.items():
        changed = connection.execute(
            text(f"UPDATE {aside} SET table_type = :new WHERE lower(table_type) = :old RETURNING path"),
            {"old": old, "new": new},
        ).scalars()
        sentences += [f"caltables: the type of {path} is now {new}, was {old}" for path in changed]
    return sentences


_RULES: dict[str, Callable[[Connection, str], list[str]]] = {
    "ingest_queue": _queue_states,
    "ese_candidates": _active_candidates,
    "caltables": _caltable_types,
}


def _unique_keys(table: Table) -> list[tuple[str, ...]]:
    keys = [tuple(c.name for c in k.columns) for k in table.constraints if isinstance(k, UniqueConstraint)]
    keys += [
        tuple(column.name for column in index.columns)
        for index in table.indexes
        if index.unique and index.dialect_options["sqlite"]["where"] is None
    ]
    return sorted(keys)


def _keep_newest(connection: Connection, table: Table, aside: str, key: tuple[str, ...]) -> list[str]:
    present = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({aside})")]
    if not set(key) <= set(present) or key in _held_keys(connection, aside):
        return []
    age = "".join(f"{column} DESC, " for column in _MADE_AT if column in present)
    names, complete = ", ".join(key), " AND ".join(f"{column} IS NOT NULL" for column in key)
    removed = connection.execute(
        text(
            f"DELETE FROM {aside} WHERE rowid IN (SELECT row FROM (SELECT rowid AS row, row_number() OVER"
            f" (PARTITION BY {names} ORDER BY {age}rowid DESC) AS place FROM {aside} WHERE {complete})"
            f" WHERE place > 1) RETURNING {names}"
        )
    ).all()
    if not removed:
        return []
    examples = ", ".join(" + ".join(map(str, row)) for row in removed[:_EXAMPLES])
    return [f"{table.name}: left out {len(removed)} rows that have a newer one of the same {names}: {examples}"]


def _held_keys(connection: Connection, aside: str) -> Iterable[tuple[str, ...]]:
    """Return what is unique in the old table already."""
    for row in connection.exec_driver_sql(f"PRAGMA index_list({aside})").all():
        if row[2] and not row[4]:
            yield tuple(info[2] for info in connection.exec_driver_sql(f"PRAGMA index_info('{row[1]}')"))


def _must_pass(connection: Connection, table: Table, aside: str, constraint: CheckConstraint, where: str) -> None:
    row = connection.execute(text(f"SELECT * FROM {aside} WHERE NOT ({constraint.sqltext}) LIMIT 1")).mappings().first()
    if row is not None:
        names = [column for column in row if column in {"id", "group_id", "path", "job_id", "subject"}]
        which = ", ".join(f"{column} {row[column]}" for column in names)
        raise ConfigurationError(
            f"database {where} cannot be upgraded: the row of {table.name} with {which} stands against the rule "
            f"{constraint.sqltext}; correct or delete it; nothing was changed"
        )
