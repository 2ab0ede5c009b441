"""How many rows of a table are in which state, kept by the database itself.

To count a million finished rows takes longer than all that is asked of the open ones. So triggers keep the numbers in
a table of counts, one row for each kind and state, in the transaction that changes the rows, whoever writes them: what
is read there is what a full count would say. (SQLite tells no trigger of a row that INSERT OR REPLACE displaces: write
ON CONFLICT DO UPDATE.)

A table that is rebuilt loses its triggers: `install` makes what is missing, and counts anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData, event, inspect, text
from sqlalchemy.orm import Mapped, mapped_column

UNKNOWN = "unknown"
"""The state of a row that has none."""
_COUNTED = "counted"
_EXISTING = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
    " WHERE relnamespace = current_schema()::regnamespace",
}


@dataclass(frozen=True)
class _Counted:
    """A table whose rows are counted, by its columns for state and kind."""

    into: str
    """The table of counts."""
    table: str
    state: str
    kind: str | None

    @property
    def columns(self) -> list[str]:
        return [name for name in (self.kind, self.state) if name is not None]

    def key(self, row: str) -> str:
        """Return what the rows like one are counted under, as SQL."""
        kind = "''" if self.kind is None else f"{row}{self.kind}"
        return f"'{self.table}', {kind}, coalesce({row}{self.state}, '{UNKNOWN}')"

    @property
    def more(self) -> str:
        return (
            f"INSERT INTO {self.into} (table_name, kind, state, number) VALUES ({self.key('NEW.')}, 1)"
            f" ON CONFLICT (table_name, kind, state) DO UPDATE SET number = {self.into}.number + 1;"
        )

    @property
    def fewer(self) -> str:
        return f"UPDATE {self.into} SET number = number - 1 WHERE (table_name, kind, state) = ({self.key('OLD.')});"

    def triggers(self, dialect: str) -> dict[str, str]:
        """Return the triggers by name, as SQL."""
        name, told = f"count_{self.table}", ", ".join(self.columns)
        if dialect == "sqlite":
            changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in self.columns)
            return {
                f"{name}_insert": f"AFTER INSERT ON {self.table} BEGIN {self.more} END",
                f"{name}_delete": f"AFTER DELETE ON {self.table} BEGIN {self.fewer} END",
                f"{name}_update": f"AFTER UPDATE OF {told} ON {self.table} WHEN {changed}"
                f" BEGIN {self.fewer} {self.more} END",
            }
        events = f"AFTER INSERT OR DELETE OR UPDATE OF {told} ON {self.table}"
        return {name: f"{events} FOR EACH ROW EXECUTE FUNCTION {name}()"}

    @property
    def function(self) -> str:
        """Return what the trigger of a server calls."""
        return (
            f"CREATE OR REPLACE FUNCTION count_{self.table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF TG_OP <> 'INSERT' THEN {self.fewer} END IF;"
            f" IF TG_OP <> 'DELETE' THEN {self.more} END IF;"
            " RETURN NULL; END $$"
        )

    def recount(self) -> Iterator[str]:
        """Yield what counts all rows."""
        yield f"DELETE FROM {self.into} WHERE table_name = '{self.table}'"
        yield (
            f"INSERT INTO {self.into} (table_name, kind, state, number)"
            f" SELECT {self.key('')}, count(*) FROM {self.table} GROUP BY {', '.join(self.columns)}"
        )


class RowCounts:
    """The columns of a table of counts."""

    table_name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


def count_rows(metadata: MetaData, into: str, *tables: tuple[str, str, str | None]) -> None:
    """Let rows be counted into a table: those of each table that is named, with its columns for state and kind."""
    metadata.info[_COUNTED] = {table: _Counted(into, table, state, kind) for table, state, kind in tables}
    event.listen(metadata, "after_create", lambda _target, connection, **_told: install(connection, metadata))


def triggers_of(metadata: MetaData) -> set[str]:
    """Return the names of the triggers of a database in SQLite."""
    counted: dict[str, _Counted] = metadata.info.get(_COUNTED, {})
    return {name for each in counted.values() for name in each.triggers("sqlite")}


def install(connection: Connection, metadata: MetaData) -> None:
    """Make the triggers that a database lacks, and count the rows of their tables; cheap when nothing lacks."""
    counted: dict[str, _Counted] = metadata.info.get(_COUNTED, {})
    tables = set(inspect(connection).get_table_names()) if counted else set()
    dialect = connection.dialect.name
    existing = set(connection.scalars(text(_EXISTING[dialect])))
    for each in counted.values():
        missing = {name: sql for name, sql in each.triggers(dialect).items() if name not in existing}
        if not missing or each.into not in tables:
            continue
        if dialect == "postgresql":
            connection.exec_driver_sql(each.function)
        for name, sql in missing.items():
            connection.exec_driver_sql(f"CREATE TRIGGER {name} {sql}")
        for statement in each.recount():
            connection.exec_driver_sql(statement)
