"""Databases back to what a backup holds.

The backup is verified first, and so is that this version can use it. What is replaced is backed up before; a
damaged file, of which no verified copy can be made, is set aside as it is. Each database is replaced whole or not
at all; a restore that is killed between two of them is repeated.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import backup as copies
from dsa110_contimg.database import session
from dsa110_contimg.database.standing import revisions_of
from dsa110_contimg.database.upgrades import Target, standing
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.housekeeping import backups, dumps, presence
from dsa110_contimg.housekeeping.backups import BEFORE_RESTORE, ORDER, SQLITE, STAMP, BackupSet, Tell, make_backup


@dataclass
class Restored:
    """What a restore did."""

    databases: list[str] = field(default_factory=list)
    before: Path | None = None
    """The backup of what was replaced; None when nothing sound was there."""
    damaged: list[Path] = field(default_factory=list)
    """Files that could not be copied, set aside as they were."""


def find_backup(named: str, settings: Settings) -> BackupSet:
    """Return a backup by its folder, or by its name below the backup folder.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    below = settings.backups / named
    return backups.load_backup(below if below.is_dir() else Path(named))


def restore_backup(
    backup: BackupSet,
    settings: Settings,
    *,
    now: float,
    names: Sequence[str] = (),
    force: bool = False,
    tell: Tell = lambda _name, _done, _total: None,
) -> Restored:
    """Make databases what a backup holds; none named means all that it has.

    Raises
    ------
    ConfigurationError
        If the backup is damaged or of another kind, or a pipeline runs and *force* is not given; nothing is changed
        then.
    """
    wanted = _wanted(backup, names)
    _must_fit(backup, wanted)
    with presence.alone(settings) as alone:
        if not alone and not force:
            raise ConfigurationError(
                f"a pipeline runs on {settings.state}: stop it first, or replace its databases under it with --force"
            )
        if not force:
            _must_have_no_owner(now)
        done = Restored()
        _keep_present(done, wanted, settings, now=now)
        files = {copy.database: backup.folder / copy.file for copy in backup.copies}
        for number, name in enumerate(wanted):
            tell(name, number, len(wanted))
            if backup.engine == SQLITE:
                session.make_folder(session.database_path(name))
                copies.restore(files[name], session.database_path(name))
            else:
                dumps.restore(files[name], name)
            done.databases.append(name)
    return done


def _wanted(backup: BackupSet, names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in DATABASES:
            raise ConfigurationError(f"there is no database {name!r}; there are {', '.join(DATABASES)}")
    held = {copy.database for copy in backup.copies}
    return [name for name in ORDER if name in (names or held)]


def _must_fit(backup: BackupSet, names: Sequence[str]) -> None:
    backups.verify(backup, names)
    if (backup.engine == SQLITE) == session.on_server():
        here = "a PostgreSQL server" if session.on_server() else "files"
        raise ConfigurationError(
            f"backup {backup.folder} is of {backup.engine}, and the databases are {here}: check PIPELINE_DATABASE_URL"
        )
    for copy in backup.copies:
        if copy.database not in names:
            continue
        script = revisions_of(copy.database)
        if backup.engine == SQLITE:
            standing(Target(copy.database, backup.folder / copy.file), script)
        elif copy.revision not in {revision.revision for revision in script.walk_revisions()}:
            raise ConfigurationError(
                f"{backup.folder / copy.file} was made by a newer version of contimg (revision {copy.revision}): "
                "update contimg"
            )


def _must_have_no_owner(now: float) -> None:
    try:
        owners = presence.owners(now)
    except ConfigurationError:
        return  # A missing or damaged database, which is what a restore is for, has no owners that could be read.
    if owners:
        raise ConfigurationError(f"{', '.join(owners)} work on these databases: stop them first, or use --force")


def _keep_present(done: Restored, names: Sequence[str], settings: Settings, *, now: float) -> None:
    """Back up what is about to be replaced."""
    if session.on_server():
        done.before = make_backup(settings.backups, now=now, why=BEFORE_RESTORE, names=names).folder
        return
    paths = {name: session.database_path(name) for name in names if session.database_path(name).exists()}
    sound = [name for name, path in paths.items() if copies.is_sound(path)]
    if sound:
        done.before = make_backup(settings.backups, now=now, why=BEFORE_RESTORE, names=sound).folder
    for name in paths.keys() - set(sound):
        done.damaged += _set_aside(paths[name], settings.backups, now)


def _set_aside(path: Path, folder: Path, now: float) -> list[Path]:
    aside = folder / f"damaged_{datetime.fromtimestamp(now, tz=UTC).strftime(STAMP)}"
    aside.mkdir(parents=True, exist_ok=True)
    kept = []
    for suffix in ("", "-wal", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            kept.append(Path(shutil.copy2(file, aside / file.name)))
    return kept
