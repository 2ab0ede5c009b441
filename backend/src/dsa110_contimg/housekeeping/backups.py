"""Sets of backups: one verified copy of every database, with what proves it later.

    <backups>/backup_20251224_031805/manifest.json      when, why, by which versions; of each copy its SHA-256, its
                                     products.backup    revision and how many rows each table has
                                     ...

A set gets its name only when all its copies are verified and on disk: a killed attempt leaves a `.partial` folder,
which the next one removes. Files are copied in an order that a restored pipeline mends by itself: what products
decides comes before it, so that products knows at least as much as they do; on a server all copies are one moment.

When a backup is due, and which ones are superseded, are pure functions of times.
"""

import hashlib
import itertools
import json
import logging
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dsa110_contimg import __version__
from dsa110_contimg.config import DATABASES
from dsa110_contimg.database import backup as copies
from dsa110_contimg.database import session
from dsa110_contimg.database.disk_steps import sync_folder
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.database.standing import VERSION_TABLE
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import scratch
from dsa110_contimg.housekeeping import dumps
from dsa110_contimg.options import option

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
ORDER = ("ingest", "hdf5", "data_registry", "calibrators", "master_sources", "products", "cal_registry")
BEFORE_RESTORE = "before a restore"
PREFIX, STAMP = "backup_", "%Y%m%d_%H%M%S"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
DAY_S = 86400.0
_HEADROOM = 1.1
"""Room that a set needs, over what the databases occupy now."""

Tell = Callable[[str, int, int], None]
"""Called with a database's name, how many are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class BackupOptions:
    """How often databases are backed up, and what is kept."""

    every_h: float = option(24.0, "A backup is due this many hours after the last one.")
    daily: int = option(7, "Days whose last backup is kept.")
    weekly: int = option(4, "Weeks whose last backup is kept.")


@dataclass(frozen=True)
class Copy:
    """One database of a set."""

    database: str
    file: str
    bytes: int
    sha256: str
    revision: str | None
    rows: dict[str, int]


@dataclass(frozen=True)
class BackupSet:
    """What a manifest says."""

    folder: Path
    made_unix: float
    why: str
    engine: str
    version: str
    host: str
    engine_version: str
    copies: tuple[Copy, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all copies."""
        return sum(copy.bytes for copy in self.copies)

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        made = datetime.fromtimestamp(self.made_unix, tz=UTC).isoformat(timespec="seconds")
        return {**asdict(self), "folder": str(self.folder), "made_at": made, "bytes": self.bytes}


def is_due(now_unix: float, made_unix: Iterable[float], options: BackupOptions) -> bool:
    """Return whether no backup is recent; one from the future, left by a clock that has stepped back, is none."""
    return not any(0.0 <= now_unix - made < options.every_h * 3600.0 for made in made_unix)


def superseded(made_unix: Sequence[float], options: BackupOptions) -> set[float]:
    """Return which backups may go: all but those of the last 24 hours, and the last of each kept day and week."""
    newest_of_all = max(made_unix, default=0.0)
    kept = {made for made in made_unix if newest_of_all - made < DAY_S}
    for unit, number in (("%Y-%j", options.daily), ("%G-%V", options.weekly)):
        newest: dict[str, float] = {}
        for made in sorted(made_unix):
            newest[datetime.fromtimestamp(made, tz=UTC).strftime(unit)] = made
        kept |= set(sorted(newest.values(), reverse=True)[:number])
    return set(made_unix) - kept


def make_backup(
    folder: Path,
    *,
    now: float,
    why: str = "daily",
    names: Sequence[str] = DATABASES,
    tell: Tell = lambda _name, _done, _total: None,
) -> BackupSet:
    """Copy databases into a new set below a folder, verified, and return it.

    Raises
    ------
    ConfigurationError
        If a database is missing or damaged, or the folder cannot be written or has too little room; there is no new
        set then.
    """
    target = _free_name(folder, now)
    ordered = [name for name in ORDER if name in names]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch.remove_abandoned([folder])
        _must_have_room(folder, ordered)
        beside = scratch.scratch_path(target)
        beside.mkdir()
        try:
            made = _dump_all(beside, ordered, tell) if session.on_server() else _copy_all(beside, ordered, tell)
            backup = _describe(target, made, now=now, why=why)
            (beside / MANIFEST).write_text(json.dumps(backup.as_json(), indent=2), encoding="utf-8")
            _flush(beside)
            beside.rename(target)
            sync_folder(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(
            f"backup {target} cannot be written ({error.strerror or error}): choose a folder with room (--to)"
        ) from error
    return backup


def load_backup(folder: Path) -> BackupSet:
    """Return what a set's manifest says.

    Raises
    ------
    ConfigurationError
        If there is no manifest, or it is damaged.
    """
    path = folder / MANIFEST
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(Copy(**entry) for entry in told["copies"])
        plain = {key: told[key] for key in ("made_unix", "why", "engine", "version", "host", "engine_version")}
        return BackupSet(folder=folder, copies=entries, **plain)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} is no backup ({error.strerror}: {MANIFEST}): see `contimg backup --list`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is damaged ({error}): take another backup") from error


def list_backups(folder: Path, complain: Callable[[str], None] = logger.warning) -> list[BackupSet]:
    """Return the sets below a folder, the newest first; one with a damaged manifest is told and left out."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            found.append(load_backup(path))
        except ConfigurationError as error:
            complain(str(error))
    return sorted(found, key=lambda backup: backup.made_unix, reverse=True)


def verify(backup: BackupSet, names: Sequence[str]) -> None:
    """Check that the copies of some databases are what they were when they were made.

    Raises
    ------
    ConfigurationError
        If one is missing, changed or damaged, or is not in the set.
    """
    by_name = {copy.database: copy for copy in backup.copies}
    for name in names:
        if name not in by_name:
            raise ConfigurationError(f"backup {backup.folder} has no database {name}: it has {', '.join(by_name)}")
        copy = by_name[name]
        path = backup.folder / copy.file
        try:
            digest = _sha256(path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read ({error.strerror}): take another backup") from error
        if digest != copy.sha256:
            raise ConfigurationError(
                f"{path} is damaged (its SHA-256 is {digest[:12]}…, the manifest says {copy.sha256[:12]}…): take "
                "another backup"
            )
        if backup.engine == SQLITE:
            copies.check_integrity(path)


def beyond_rotation(backups: Sequence[BackupSet], options: BackupOptions) -> list[BackupSet]:
    """Return the sets that may go; what a restore has replaced is kept as long as the last weekly backup."""
    newest = max((backup.made_unix for backup in backups), default=0.0)
    regular = {backup.made_unix: backup for backup in backups if backup.why != BEFORE_RESTORE}
    kept_s = max(7.0 * options.weekly, options.daily) * DAY_S
    old = [backup for backup in backups if backup.why == BEFORE_RESTORE and newest - backup.made_unix > kept_s]
    return [*old, *(regular[made] for made in sorted(superseded(list(regular), options)))]


def rotate(folder: Path, options: BackupOptions) -> list[Path]:
    """Remove the sets beyond rotation and return where they were."""
    gone = [backup.folder for backup in beyond_rotation(list_backups(folder), options)]
    for path in gone:
        scratch.discard(path)
    return gone


def back_up_when_due(folder: Path, options: BackupOptions, *, now: float) -> BackupSet | None:
    """Make a daily backup and rotate, if one is due: for a loop that asks often."""
    if not is_due(now, (backup.made_unix for backup in list_backups(folder)), options):
        return None
    backup = make_backup(folder, now=now)
    rotate(folder, options)
    return backup


def _free_name(folder: Path, now: float) -> Path:
    """Return a name by the second; several sets of one second are numbered."""
    first = folder / f"{PREFIX}{datetime.fromtimestamp(now, tz=UTC).strftime(STAMP)}"
    numbered = (first.with_name(f"{first.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], numbered) if not path.exists())


def _copy_all(folder: Path, names: Sequence[str], tell: Tell) -> list[Copy]:
    made = []
    for done, name in enumerate(names):
        tell(name, done, len(names))
        path = session.database_path(name)
        if not path.exists():
            raise ConfigurationError(f"database {path} does not exist: run `contimg init`")
        copy = copies.back_up(path, folder).rename(folder / f"{name}.backup")
        with explaining(path, copies.COPYING), closing(session.connect(copy, keep_journal=True)) as connection:
            # One file, which can be read where nothing can be written.
            connection.execute("PRAGMA journal_mode = DELETE")
            rows, revision = _count_rows(connection), _revision(connection)
        made.append(Copy(name, copy.name, copy.stat().st_size, _sha256(copy), revision, rows))
    return made


def _dump_all(folder: Path, names: Sequence[str], tell: Tell) -> list[Copy]:
    made = []
    with dumps.one_moment() as moment:
        for done, name in enumerate(names):
            tell(name, done, len(names))
            path = folder / f"{name}.dump"
            dumps.dump(moment, name, path)
            rows = dumps.count_rows(moment, name)
            dumps.verify(path, rows)
            revision = dumps.revision(moment, name)
            made.append(Copy(name, path.name, path.stat().st_size, _sha256(path), revision, rows))
    return made


def _count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    tables = [str(name) for (name,) in connection.execute(query).fetchall()]
    return {table: int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]) for table in tables}


def _revision(connection: sqlite3.Connection) -> str | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone():
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
    return None if row is None else str(row[0])


def _describe(target: Path, made: Sequence[Copy], *, now: float, why: str) -> BackupSet:
    on_server = session.on_server()
    return BackupSet(
        folder=target,
        made_unix=now,
        why=why,
        engine=POSTGRESQL if on_server else SQLITE,
        version=__version__,
        host=socket.gethostname(),
        engine_version=dumps.program_version() if on_server else sqlite3.sqlite_version,
        copies=tuple(made),
    )


def _must_have_room(folder: Path, names: Sequence[str]) -> None:
    if session.on_server():
        return
    paths = [session.database_path(name) for name in names]
    needed = sum(path.stat().st_size for path in paths if path.exists()) * _HEADROOM
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"a backup in {folder} needs {needed / 1e9:.3f} GB and {free / 1e9:.3f} GB are free: make room, or choose "
            "another folder (--to)"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
