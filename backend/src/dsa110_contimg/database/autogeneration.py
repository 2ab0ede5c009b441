"""How Alembic compares the models with a database and writes a revision.

Alembic knows tables, columns and indexes; views are added here: a revision that changes anything drops them first
and makes them anew last, since a view may show what is changed. CHECK constraints are compared by nobody: write a
change of one by hand. What a database holds beyond the models is somebody's, and never proposed for removal.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from alembic.autogenerate.api import AutogenContext
from alembic.config import Config
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, DefaultClause, MetaData, TextClause, inspect, text
from sqlalchemy.sql.schema import SchemaItem

from dsa110_contimg.database.models import METADATA
from dsa110_contimg.database.models.base import views_of

_QUERY = re.compile(r".*? AS\s+", re.DOTALL)


def options(name: str, config: Config, connection: Connection) -> dict[str, Any]:
    """Return the options of Alembic's `configure` for one open database."""

    def directives(context: MigrationContext, _revision: object, scripts: list[ops.MigrationScript]) -> None:
        """Complete a revision that is to be written; one that would change nothing is not written."""
        if context.connection is None or not _compares(context):
            return
        _add_views(scripts[0], context.connection, METADATA[name])
        empty = scripts[0].upgrade_ops is None or scripts[0].upgrade_ops.is_empty()
        if empty and getattr(config.cmd_opts, "autogenerate", False):
            config.print_stdout("Nothing to do: the database has the tables of the models.")
            scripts.clear()

    return {
        "connection": connection,
        "target_metadata": METADATA[name],
        "transactional_ddl": True,
        "render_as_batch": True,
        # PostgreSQL forgets DEFAULT NULL and rewrites what is computed: they would always seem to differ.
        "compare_server_default": connection.dialect.name == "sqlite",
        "include_object": _is_ours,
        "render_item": _render,
        "process_revision_directives": directives,
    }


def _compares(context: MigrationContext) -> bool:
    return bool(context.opts["revision_context"].command_args["autogenerate"])


def _is_ours(_item: SchemaItem, _name: str | None, _kind: str, reflected: bool, twin: SchemaItem | None) -> bool:
    return not reflected or twin is not None


def _render(_kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    if isinstance(item, DefaultClause) and isinstance(item.arg, TextClause):
        # Alembic puts parentheses around 16 and NULL, which the models do not have.
        return f"sa.text({item.arg.text!r})"
    return False


def _add_views(script: ops.MigrationScript, connection: Connection, metadata: MetaData) -> None:
    upgrade, downgrade = script.upgrade_ops, script.downgrade_ops
    wanted, present = views_of(metadata), _present_views(connection, metadata)
    if upgrade is None or downgrade is None or (upgrade.is_empty() and wanted == present):
        return
    for table in upgrade.ops:
        if isinstance(table, ops.CreateTableOp):
            table.if_not_exists = True
    upgrade.ops[:] = [*_drop(wanted | present), *upgrade.ops, *_create(wanted)]
    downgrade.ops[:] = [*_drop(wanted | present), *downgrade.ops, *_create(present)]


def _present_views(connection: Connection, metadata: MetaData) -> dict[str, str]:
    """Return those of our views that a database has; a server rewrites queries, so that only names can be compared."""
    wanted = views_of(metadata)
    names = set(inspect(connection).get_view_names())
    if connection.dialect.name != "sqlite":
        return {name: query for name, query in wanted.items() if name in names}
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'view'"))
    queries = {name: _QUERY.sub("", sql, count=1) for name, sql in rows}
    return {name: queries[name] for name in wanted if name in queries}


def _drop(views: Iterable[str]) -> list[ops.MigrateOperation]:
    return [ops.ExecuteSQLOp(f"DROP VIEW IF EXISTS {name}") for name in reversed(list(views))]


def _create(views: Mapping[str, str]) -> list[ops.MigrateOperation]:
    return [ops.ExecuteSQLOp(f"CREATE VIEW {name} AS {query}") for name, query in views.items()]
