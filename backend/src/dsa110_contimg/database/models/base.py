"""What the models share: column types, views, and zones of declination.

The tables are those of the specification, so types print as SQLite's TEXT, REAL and INTEGER; a REAL is a double
everywhere. Defaults are server defaults, so that rows written with plain SQL are the same rows.
"""

from collections.abc import Iterable

from sqlalchemy import DDL, INTEGER, REAL, TEXT, BigInteger, CheckConstraint, Computed, Double, MetaData, event, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.sql.elements import TextClause

COLUMN_TYPES = {
    str: TEXT(),
    int: BigInteger().with_variant(INTEGER(), "sqlite"),
    float: Double().with_variant(REAL(), "sqlite"),
}

ZERO: TextClause = text("0")
ONE: TextClause = text("1")
NULL: TextClause = text("NULL")

ZONES_PER_DEG = 4
_VIEWS = "views"


def dec_zone() -> Computed:
    """Return what makes a column the number of a strip of 0.25 deg in declination, from the south pole.

    The database computes it. An index on (zone, right ascension) finds a small circle without reading the strips
    around the sky. A row exactly on the edge of two strips may be in either, as databases differ in rounding halves.
    """
    return Computed(f"CAST(round((dec_deg + 90.0) * {ZONES_PER_DEG} - 0.5) AS INTEGER)")


@compiles(Computed, "postgresql")
def _stored(column: Computed, compiler: DDLCompiler, **_options: object) -> str:
    """SQLite computes it when it is read and adds it to a filled table; PostgreSQL before 18 can only store it."""
    return f"GENERATED ALWAYS AS ({compiler.sql_compiler.process(column.sqltext)}) STORED"


def one_of(column: str, values: Iterable[str], name: str) -> CheckConstraint:
    """Return the constraint that lets only these values, such as an enumeration's, into a column."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in values)})", name=name)


def add_view(metadata: MetaData, name: str, query: str) -> None:
    """Create a view together with a database's tables; `views_of` returns it."""
    metadata.info.setdefault(_VIEWS, {})[name] = query
    for dialect, verb in (("sqlite", "CREATE VIEW IF NOT EXISTS"), ("postgresql", "CREATE OR REPLACE VIEW")):
        statement = DDL(f"{verb} {name} AS {query}").execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
        event.listen(metadata, "after_create", statement)


def views_of(metadata: MetaData) -> dict[str, str]:
    """Return the queries of a database's views by name, in the order in which they build on each other."""
    return dict(metadata.info.get(_VIEWS, {}))
