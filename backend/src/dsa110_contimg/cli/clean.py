"""`contimg clean`: remove what nothing needs any more."""

import dataclasses
import json
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsa110_contimg.cli.options import flags_from
from dsa110_contimg.config import Settings
from dsa110_contimg.housekeeping.backups import BackupOptions
from dsa110_contimg.housekeeping.cleaning import Cleaned, carry_out, plan_clean
from dsa110_contimg.housekeeping.holdings import Kind
from dsa110_contimg.housekeeping.retention import Plan, Removal, RetentionOptions

SHOWN_UNKNOWN = 10


@flags_from(RetentionOptions)
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    *,
    options: RetentionOptions,
) -> None:
    """Remove what nothing needs any more, by age, and before its age where the disk is short.

    Nothing that is published, unprocessed or unknown goes, and nothing of a mosaic that is not yet published. Files
    of the telescope are not even looked at. With --json the plan is printed, and what was done about it.

    Example: contimg clean --dry-run --ms-days 3
    """
    for name, number in dataclasses.asdict(options).items():
        if number < 0.0:
            raise typer.BadParameter(f"--{name.replace('_', '-')} {number} is below zero")
    settings, now = Settings(), time.time()
    planned = plan_clean(settings, options, BackupOptions(), now=now)
    done = Cleaned() if dry_run else carry_out(planned, settings, now=now)
    if as_json:
        typer.echo(json.dumps(_as_json(planned, done, dry_run=dry_run), indent=2))
    else:
        _print_plan(planned)
        if not dry_run:
            typer.echo(f"{len(done.removed)} removed, {_size(done.bytes)} free again")
    for path, reason in done.failed.items():
        typer.echo(f"contimg: {path} could not be removed ({reason}): check its permissions", err=True)
    raise typer.Exit(int(bool(done.failed)))


def _print_plan(planned: Plan) -> None:
    table = Table("what", "count", "size", "oldest", "why", box=None, pad_edge=False)
    for kind in Kind:
        items = [item for item in planned.removals if item.kind is kind]
        if items:
            oldest = datetime.fromtimestamp(min(item.needed_until for item in items), tz=UTC)
            size = _size(sum(item.bytes for item in items))
            table.add_row(kind.value, str(len(items)), size, f"{oldest:%Y-%m-%d}", "; ".join(_reasons(items)))
    console = Console(soft_wrap=True, highlight=False)
    console.print(table if planned.removals else "nothing may go")
    for reason, number in sorted(planned.kept.items()):
        typer.echo(f"kept: {_files(number)}: {reason}")
    if planned.unknown:
        some = [*planned.unknown[:SHOWN_UNKNOWN], *(["..."] if len(planned.unknown) > SHOWN_UNKNOWN else [])]
        typer.echo(f"unknown: {_files(len(planned.unknown))} that no row names, which stay: {', '.join(some)}")
    if planned.short_bytes > 0:
        typer.echo(f"the disk lacks {_size(planned.short_bytes)} even so: publish or repair what is kept, or add disks")


def _reasons(items: list[Removal]) -> list[str]:
    return sorted({item.why for item in items})


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _size(number: float) -> str:
    return f"{number / 1e9:.2f} GB"


def _as_json(planned: Plan, done: Cleaned, *, dry_run: bool) -> dict[str, object]:
    def plain(items: list[Removal]) -> list[dict[str, object]]:
        return [{**vars(item), "kind": item.kind.name.lower()} for item in items]

    return {
        "dry_run": dry_run,
        "planned": plain(list(planned.removals)),
        "kept": planned.kept,
        "unknown": list(planned.unknown),
        "short_bytes": planned.short_bytes,
        "removed": plain(done.removed),
        "held": plain(done.held),
        "failed": done.failed,
    }
