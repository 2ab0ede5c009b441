"""Alembic's entry: one chain of revisions for each database, in `versions/<name>`.

DATABASE names the database (`DATABASE=products alembic upgrade head`). Commands that only look open it read-only;
those that change it go through `upgrades.changing`: one transaction, after a verified backup.
"""

from alembic import context
from alembic.util import CommandError

from dsa110_contimg.database import autogeneration, upgrades
from dsa110_contimg.database.standing import versions_folder
from dsa110_contimg.errors import PipelineError


def _destination() -> str | None:
    """Return the revision that the command moves the database to, or None when it only looks."""
    try:
        return str(context.get_revision_argument() or "base")
    except KeyError:
        return None


def _run() -> None:
    target = upgrades.target_of(context.config)
    context.script.version_locations = [str(versions_folder(context.script.dir, target.name))]
    if context.is_offline_mode():
        raise CommandError("SQL cannot be printed instead of run: an upgrade depends on the rows; leave out --sql")
    with upgrades.opened(target, context.script, _destination()) as work:
        context.configure(**autogeneration.options(target.name, context.config, work.connection))
        if work.adopted:
            context.get_context().stamp(context.script, "head")
        context.run_migrations()
    upgrades.tell_all(context.config, work)


try:
    _run()
except PipelineError as error:
    raise CommandError(str(error)) from error
