"""`contimg flags`: why a Measurement Set's samples are flagged, and its flags as they were after any step."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dsa110_contimg.calibration import flagging
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import flag_history, measurement_set
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.qa.flag_plots import flag_page
from dsa110_contimg.visibilities import Visibilities

app = typer.Typer(help="Why samples are flagged, and earlier flags.", no_args_is_help=True)

SetPath = Annotated[Path, typer.Argument(metavar="MS", help="Measurement Set that the pipeline has flagged.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def flags() -> None:
    """List what flagging took, restore its steps."""


@app.command("report")
def report_command(
    ms: SetPath,
    out: Annotated[Path | None, typer.Option(help="Also draw the report as this PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how much of each antenna and channel went, and why.

    Example: contimg flags report tile.ms --out flags.png
    """
    vis, report = _report(ms)
    if out is not None:
        flag_page(out, report.waterfall, report.antenna_reasons, report.channel_reasons, vis.freq_hz, ms.name)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
        return
    typer.echo(f"{100.0 * report.total:.2f}% of the cross-correlations of {ms.name} are flagged")
    for name, part in report.by_reason.items():
        if part > 0.0:
            typer.echo(f"  {name:22s} {100.0 * part:6.2f}%")
    for title, names in (("dead", report.dead_antennas), ("dead in one polarization", report.half_dead_antennas)):
        typer.echo(f"{title}: {', '.join(names) or 'none'}")
    typer.echo("antennas that lost most")
    for name, part in sorted(report.by_antenna.items(), key=lambda item: -item[1])[:10]:
        main = max(report.antenna_reasons[name].items(), key=lambda item: item[1], default=("", 0.0))
        typer.echo(f"  {name:6s} {100.0 * part:6.2f}%   {main[0]} {100.0 * main[1]:.2f}%")
    typer.echo("channels that lost most")
    for chan in np.argsort(report.by_channel)[::-1][:10]:
        typer.echo(f"  {1e-6 * vis.freq_hz[chan]:9.3f} MHz {100.0 * report.by_channel[chan]:6.2f}%")


@app.command("list")
def list_command(ms: SetPath, as_json: AsJson = False) -> None:
    """List the steps of flagging with what is flagged after each, and which of them the set's FLAG column holds.

    Example: contimg flags list tile.ms
    """
    history = flag_history.load(ms)
    flags = measurement_set.load(ms, "DATA").flags
    counts = np.bincount(history.reasons.reshape(-1), minlength=len(history.names))
    after = np.cumsum(counts[1:]) / max(history.reasons.size, 1)
    taken = [code for code in range(1, len(history.names)) if counts[code]]
    steps = [
        {
            "step": history.names[code],
            "flagged": float(after[code - 1]),
            "in_flag_column": bool(np.array_equal((history.reasons > 0) & (history.reasons <= code), flags)),
        }
        for code in taken
    ]
    if as_json:
        typer.echo(json.dumps(steps))
        return
    for step in steps:
        mark = "  <- FLAG" if step["in_flag_column"] else ""
        typer.echo(f"{step['step']:22s} {100.0 * after[history.names.index(str(step['step'])) - 1]:6.2f}%{mark}")
    if not any(step["in_flag_column"] for step in steps):
        typer.echo(f"FLAG holds none of these: {100.0 * float(flags.mean()):.2f}% of it is set")


@app.command("restore")
def restore_command(
    ms: SetPath,
    step: Annotated[str, typer.Option(help=f"Flags as they were after this: {', '.join(flagging.REASONS)}.")],
) -> None:
    """Write the flags as they were after a step into the set's FLAG column.

    Example: contimg flags restore tile.ms --step single_polarization
    """
    vis = measurement_set.load(ms, "DATA")
    flagging.restore(vis, _reasons(ms, vis), step)
    measurement_set.write_flags(ms, vis.flags)
    typer.echo(f"{100.0 * float(vis.flags.mean()):.2f}% of {ms.name} is flagged, as after {step}")


def _reasons(ms: Path, vis: Visibilities) -> flagging.Reasons:
    """Return the set's history, in the numbers of today's steps."""
    history = flag_history.load(ms)
    if history.reasons.shape != vis.flags.shape or not set(history.names) <= set(flagging.REASONS):
        raise BadInputError(f"the history of {ms}'s flags belongs to another set or program: calibrate the tile again")
    today = np.array([flagging.REASONS.index(name) for name in history.names], np.uint8)
    return today[history.reasons] if history.names != list(flagging.REASONS) else history.reasons


def _report(ms: Path) -> tuple[Visibilities, flagging.FlagReport]:
    vis = measurement_set.load(ms, "DATA")
    return vis, flagging.summarize(vis, _reasons(ms, vis), FlaggingOptions().dead_fraction)
