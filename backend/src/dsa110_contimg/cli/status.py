"""`contimg status` and `contimg retry`."""

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from dsa110_contimg.errors import PipelineError
from dsa110_contimg.monitoring.backlog import Backlog, Failure
from dsa110_contimg.pipeline.notices import Notice, age_s
from dsa110_contimg.pipeline.reopen import reopen, reopen_all
from dsa110_contimg.pipeline.status import Overview, overview, spoken_time

LISTED = 12
"""Entries of one kind on the screen; --json has them all."""
SILENT_S = 120.0
"""A run that has said nothing for so long may hang, or its machine is gone."""


def status(
    subject: Annotated[
        str | None,
        typer.Argument(help="A group, mosaic group, mosaic, product, job or refused file; none for everything."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Say what is there, what runs, what waits for what, what failed and what to do about it.

    Example: contimg status mosaic_2025-10-01_08-59-02
    """
    view = overview(subject)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(view), indent=2))
    elif subject is not None:
        for line in view.details:
            typer.echo(line)
    else:
        _print(view, Console(soft_wrap=True, highlight=False))


def retry(
    names: Annotated[list[str] | None, typer.Argument(help="Failed jobs, groups, mosaic groups or mosaics.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Open everything that has failed.")] = False,
) -> None:
    """Open failed work again, after its cause is repaired; `contimg run` then does it.

    Example: contimg retry image:2025-12-24T03:18:05
    """
    if bool(names) == everything:
        raise typer.BadParameter("name what to open, or give --all")
    opened = reopen_all() if everything else []
    missing = []
    for name in names or ():
        try:
            opened += reopen(name)
        except PipelineError as error:
            missing.append(str(error))
    for name in opened:
        typer.echo(f"{name} is open again")
    if missing:
        raise PipelineError("; ".join(missing))


def _print(view: Overview, console: Console) -> None:
    _runs(view.runs, console)
    for title, counts in view.counts.items():
        line = ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"
        console.print(f"{title:15s} {line}", markup=False)
    if view.backlog is not None:
        _flow(view.backlog, console)
    _section("running", view.running.items(), "green", console)
    _section("waiting", view.waiting.items(), "yellow", console)
    _failures(view.last_failures, console)
    older = _not_told(view.failed, view.last_failures)
    _section("failed", older.items(), "red", console)
    _section("quarantined", _not_told(view.quarantined, view.last_failures).items(), "red", console)
    _section("calibration", view.calibration.items(), "yellow", console)
    _section("not published", view.not_published.items(), "yellow", console)


def _not_told(entries: Mapping[str, str], told: Iterable[Failure]) -> dict[str, str]:
    names = {failure.name for failure in told}
    return {name: reason for name, reason in entries.items() if name not in names}


def _runs(runs: list[Notice], console: Console) -> None:
    if not runs:
        console.print(f"{'run':15s} none: `contimg run` processes what comes", markup=False)
    for run in runs:
        since, silent = spoken_time(time.time() - run.started_at), age_s(run)
        line = f"{run.owner}, {run.slots} workers, for {since}, {len(run.running)} jobs in hand"
        silence = f"; it has said nothing for {spoken_time(silent)}" if silent > SILENT_S else ""
        console.print(f"{'run':15s} {line}{silence}", markup=False)
        if run.paused is not None:
            console.print(Text(f"{'paused':15s} {run.paused}", style="bold red"))
        elif run.waits is not None:
            console.print(Text(f"{'next':15s} {run.waits}", style="yellow"))


def _flow(flow: Backlog, console: Console) -> None:
    oldest = "" if flow.oldest_wait_s is None else f", the oldest group for {spoken_time(flow.oldest_wait_s)}"
    when = flow.clear_reason or f"done in {spoken_time(flow.clear_s or 0.0)}"
    rate = (
        f"{flow.finished_last_hour} tiles finished and {flow.arrived_last_hour} groups arrived in the last hour; "
        f"{flow.finished_per_hour_last_day:.1f} and {flow.arrived_per_hour_last_day:.1f} an hour in the last day"
    )
    console.print(f"{'backlog':15s} {flow.waiting} wait{oldest}" + (f": {when}" if flow.waiting else ""), markup=False)
    console.print(f"{'rate':15s} {rate}", markup=False)
    if flow.behind_sky_s is not None:
        console.print(f"{'newest tile':15s} observed {spoken_time(flow.behind_sky_s)} ago", markup=False)


def _section(title: str, entries: Iterable[tuple[str, str]], style: str, console: Console) -> None:
    found = list(entries)
    if not found:
        return
    console.print(Text(f"\n{title}:", style=f"bold {style}"))
    for name, reason in found[:LISTED]:
        console.print(Text.assemble("  ", (name, style), f": {reason}"))
    if len(found) > LISTED:
        console.print(f"  and {len(found) - LISTED} more: contimg status --json", markup=False)


def _failures(failures: list[Failure], console: Console) -> None:
    if not failures:
        return
    console.print(Text("\nlast failures:", style="bold red"))
    for failure in failures:
        ago = "" if failure.failed_at is None else f"{spoken_time(time.time() - failure.failed_at)} ago, "
        error = failure.error.removeprefix(failure.name).lstrip()
        console.print(Text.assemble("  ", (failure.name, "red"), f" ({ago}{failure.kind}): {error}"))
        console.print(Text(f"      way out: {failure.remedy}", style="dim"))
