"""`contimg backup` and `contimg restore`: verified copies of every database, and the way back."""

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dsa110_contimg.config import Settings
from dsa110_contimg.housekeeping.backups import BackupOptions, BackupSet, Tell, list_backups, make_backup, rotate
from dsa110_contimg.housekeeping.restoring import find_backup, restore_backup

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def backup(
    to: Annotated[Path | None, typer.Option("--to", help="Folder for the backup; nothing in it is rotated.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Make none; list those that there are.")] = False,
    as_json: Json = False,
) -> None:
    """Copy every database, verify the copies, and remove backups beyond seven days and four weeks.

    A run without --once does the same once a day. A backup is a folder with a manifest: see `contimg restore`.

    Example: contimg backup --to /mnt/other-disk
    """
    settings = Settings()
    folder = to or settings.backups
    if list_only:
        _show(list_backups(folder), as_json=as_json)
        return
    with _progress() as tell:
        made = make_backup(folder, now=time.time(), why="by hand", tell=tell)
    if to is None:
        rotate(folder, BackupOptions())
    _show([made], as_json=as_json)


def restore(
    backup: Annotated[str, typer.Argument(help="Folder of a backup, or its name as `contimg backup --list` shows it.")],
    database: Annotated[list[str] | None, typer.Option(help="Only this database; repeatable.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while a pipeline runs.")] = False,
    as_json: Json = False,
) -> None:
    """Make the databases what a backup holds; what they hold now is backed up before.

    The backup is verified first: a damaged one changes nothing. After a restore run `contimg init`, which brings an
    older backup to this version. Files that were made or published since are not moved back.

    Example: contimg restore backup_20251224_031805 --database products --yes
    """
    settings = Settings()
    found = find_backup(backup, settings)
    if not yes:
        typer.confirm(f"Replace {', '.join(database or ['all databases'])} by {found.folder}?", abort=True, err=True)
    with _progress() as tell:
        done = restore_backup(found, settings, now=time.time(), names=database or (), force=force, tell=tell)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done), default=str, indent=2))
        return
    typer.echo(f"restored {', '.join(done.databases)} from {found.folder}")
    if done.before is not None:
        typer.echo(f"what they held before is in {done.before}")
    for path in done.damaged:
        typer.echo(f"a damaged file was set aside: {path}")
    typer.echo("now run `contimg init`, then start the pipeline again")


@contextmanager
def _progress() -> Iterator[Tell]:
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("verifying", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


def _show(backups: list[BackupSet], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([item.as_json() for item in backups], indent=2))
        return
    for item in backups:
        made = datetime.fromtimestamp(item.made_unix, tz=UTC)
        rows = sum(sum(copy.rows.values()) for copy in item.copies)
        told = f"{len(item.copies)} databases, {rows} rows, {item.bytes / 1e6:.1f} MB"
        typer.echo(f"{item.folder}  {made:%Y-%m-%d %H:%M:%S} UTC  {told}  ({item.why})")
    if not backups:
        typer.echo("no backups")
