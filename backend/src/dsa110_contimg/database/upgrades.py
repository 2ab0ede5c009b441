"""Bring the databases to the tables of this version: create, adopt or upgrade.

A database is looked at read-only first, so that a foreign or newer one stays as it is, byte for byte. What changes
one with rows in it is a single transaction, after a verified backup in `state/backups/YYYYMMDD_HHMMSS`: a process
that is killed leaves the old tables or the new ones, and of two at the same time the second finds nothing to do.

Alembic runs the revisions (`migrations/versions/<name>`); a file of before them is adopted, see `old_installation`.
A database on a server is not backed up here: that is the server's own tool's work (`pg_dump`).
"""

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import session
from dsa110_contimg.database.backup import back_up, check_integrity
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.database.models import METADATA
from dsa110_contimg.database.models.row_counts import install
from dsa110_contimg.database.old_installation import adopt, dangling_rows, is_whole
from dsa110_contimg.database.session import (
    database_path,
    engine_of_file,
    get_engine,
    location,
    on_server,
)
from dsa110_contimg.database.standing import MIGRATIONS, Standing, revisions_of, standing_of
from dsa110_contimg.errors import ConfigurationError

logger = logging.getLogger(__name__)
Tell = Callable[[str], None]
_ROOM = 3  # times the file: its backup, its tables written anew, and the log of that
UPGRADING = "cannot be upgraded, and nothing was changed"
_TARGET, _TELL = "target", "tell"


def _now() -> str:
    return f"{datetime.now(UTC):%Y%m%d_%H%M%S}"


@dataclass(frozen=True)
class Target:
    """One database: the configured one of a name, or a file."""

    name: str
    path: Path | None = None
    stamp: str = field(default_factory=_now)
    """Names the folder of its backup."""

    @property
    def file(self) -> Path | None:
        """The file, or None on a server."""
        return self.path or (None if on_server() else database_path(self.name))

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return str(self.path or location(self.name))

    def engine(self, *, read_only: bool) -> Engine:
        """Return its engine."""
        if self.path is not None:
            return engine_of_file(self.path, read_only=read_only)
        return get_engine(self.name, read_only=read_only)


@dataclass
class Work:
    """An open database, and what is done to it."""

    connection: Connection
    adopted: bool = False
    """Its tables are those of the last revision already, which only has to be noted."""
    sentences: list[str] = field(default_factory=list)
    """For people."""


def target_of(config: Config) -> Target:
    """Return the database that a command of Alembic is about."""
    target: Target | None = config.attributes.get(_TARGET)
    if target is not None:
        return target
    name = Settings().alembic_database
    if name not in DATABASES:
        what = f"there is no database {name!r}" if name else "Alembic does not know which database is meant"
        raise ConfigurationError(f"{what}: set DATABASE to one of {', '.join(DATABASES)}")
    return Target(name)


def tell_all(config: Config, work: Work) -> None:
    """Say and log what was done."""
    tell: Tell = config.attributes.get(_TELL, config.print_stdout)
    for sentence in work.sentences:
        logger.info("%s", sentence)
        tell(sentence)


def upgrade(target: Target) -> list[str]:
    """Bring a database to the tables of this version and return what was done, in sentences; none when nothing was.

    Raises
    ------
    ConfigurationError
        If it is foreign, newer, damaged or not writable, or a row stands in the way; it is unchanged then.
    """
    sentences: list[str] = []
    if standing(target, revisions_of(target.name)) is not Standing.CURRENT:
        config = Config(attributes={_TARGET: target, _TELL: sentences.append})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(str(error)) from error
    return sentences


def init_databases(tell: Tell = logger.debug) -> list[str]:
    """Create all seven databases, or bring them to this version, and return where they are; idempotent."""
    stamp = _now()
    for name in DATABASES:
        for sentence in upgrade(Target(name, stamp=stamp)):
            tell(sentence)
    return [location(name) for name in DATABASES]


def standing(target: Target, script: ScriptDirectory) -> Standing:
    """Return where a database stands, without a trace on it."""
    if target.file is not None and not target.file.exists():
        return Standing.EMPTY
    with explaining(target.where, UPGRADING), target.engine(read_only=True).connect() as connection:
        return standing_of(connection, target.name, target.where, script)


@contextmanager
def opened(target: Target, script: ScriptDirectory, destination: str | None) -> Iterator[Work]:
    """Open a database for a command of Alembic, which only looks when it has no destination."""
    found = standing(target, script)
    if destination is None:
        if target.file is not None and not target.file.exists():
            raise ConfigurationError(f"database {target.where} does not exist: run `contimg init`")
        with explaining(target.where, UPGRADING), target.engine(read_only=True).connect() as connection:
            yield Work(connection)
        return
    if found not in {Standing.EMPTY, Standing.CURRENT} and target.file is not None:
        _must_have_room(target.file)
        # A connection that writes changes the file's journal mode: a damaged file must be found before.
        check_integrity(target.file)
    with explaining(target.where, UPGRADING), target.engine(read_only=False).connect() as connection:
        if connection.dialect.name == "sqlite":
            # Tables are rebuilt: the old one may go while rows refer to it. SQLite allows the switch outside a
            # transaction only.
            _raw(connection).execute("PRAGMA foreign_keys = OFF")
            _raw(connection).execute("PRAGMA legacy_alter_table = ON")
        with connection.begin():
            # Looked at again under the write lock: another process may have been faster.
            found = standing_of(connection, target.name, target.where, script)
            at_destination = found is Standing.CURRENT and destination == script.get_current_head()
            work = Work(connection)
            if not at_destination:
                _prepare(work, target, found)
            yield work
            if found is Standing.OLDER and destination == script.get_current_head():
                _make_whole(work, target)
            install(connection, METADATA[target.name])
            if work.sentences:
                work.sentences += dangling_rows(connection, target.where)


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _prepare(work: Work, target: Target, found: Standing) -> None:
    if found is Standing.EMPTY:
        return
    work.adopted = found is Standing.UNVERSIONED
    if work.adopted and is_whole(work.connection, METADATA[target.name]):
        return
    if target.file is not None:
        copy = _back_up(work.connection, target, target.file)
        work.sentences.append(f"{target.where}: a verified backup is {copy}")
    if work.adopted:
        work.sentences += adopt(work.connection, METADATA[target.name], target.where)


def _make_whole(work: Work, target: Target) -> None:
    """Give tables back what Alembic forgets when it rebuilds one in SQLite: AUTOINCREMENT and CHECK constraints."""
    if target.file is not None and not is_whole(work.connection, METADATA[target.name]):
        adopt(work.connection, METADATA[target.name], target.where)


def _must_have_room(path: Path) -> None:
    logs = [path, path.with_name(f"{path.name}-wal")]
    needed = _ROOM * sum(log.stat().st_size for log in logs if log.exists())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ConfigurationError(
            f"database {path} cannot be upgraded: it needs {needed / 1e6:.0f} MB for a backup and new tables, and its "
            f"disk has {free / 1e6:.0f} MB; free some space"
        )


def _back_up(connection: Connection, target: Target, path: Path) -> Path:
    """Copy a file whose write lock *connection* holds, and compare the row counts."""
    state = Settings().state
    parent = path.parent if target.path and not path.is_relative_to(state) else state
    copy = back_up(path, parent / "backups" / target.stamp)
    # A connection that may write leaves no log beside the copy.
    with closing(session.connect(copy, keep_journal=True)) as backup:
        same = _row_counts(backup) == _row_counts(_raw(connection))
    if not same:
        raise ConfigurationError(f"backup {copy} does not hold the rows of {path}: check the disk; nothing was changed")
    return copy


def _row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables}
