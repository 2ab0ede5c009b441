"""What the models share: column types and views.

The tables are those of the specification, so types print as SQLite's TEXT, REAL and INTEGER; a REAL is a double
everywhere. Defaults are server defaults, so that rows written with plain SQL are the same rows.
"""

from sqlalchemy import DDL, INTEGER, REAL, TEXT, Double, MetaData, event, text
from sqlalchemy.sql.elements import TextClause

COLUMN_TYPES = {str: TEXT(), int: INTEGER(), float: Double().with_variant(REAL(), "sqlite")}

ZERO: TextClause = text("0")
ONE: TextClause = text("1")
NULL: TextClause = text("NULL")


def add_view(metadata: MetaData, name: str, query: str) -> None:
    """Create a view together with a database's tables."""
    event.listen(metadata, "after_create", DDL(f"CREATE VIEW IF NOT EXISTS {name} AS {query}"))  # type: ignore[no-untyped-call]
