"""`contimg simulate OUT`: telescope-exact subband files of a known sky, with their truth beside them."""

import inspect
import json
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dsa110_contimg.errors import PipelineError
from dsa110_contimg.simulation import SimulationOptions, Truth
from dsa110_contimg.simulation import simulate as run_simulation


def _is_list(kind: object) -> bool:
    return str(kind).startswith("tuple[")


def _default_text(item: "Field[Any]", kind: object) -> Any:  # noqa: ANN401 - whatever the field holds
    values: Any = item.default
    return ",".join(str(value) for value in values) if _is_list(kind) else values


def _parse(name: str, kind: object, value: Any) -> Any:  # noqa: ANN401 - whatever the field holds
    """Turn a comma-separated text into the tuple that the field wants."""
    if not _is_list(kind):
        return value
    words = [word.strip() for word in str(value).split(",") if word.strip()]
    if kind == tuple[str, ...]:
        return tuple(words)
    try:
        return tuple(int(word) for word in words)
    except ValueError as error:
        raise typer.BadParameter(
            f"--{name.replace('_', '-')} {value} is not a list of numbers such as 0,7,14"
        ) from error


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag per field of SimulationOptions, with the field's sentence as its help."""
    hints = get_type_hints(SimulationOptions)
    shown = [item for item in fields(SimulationOptions) if "help" in item.metadata and item.default is not MISSING]
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default_text(item, hints[item.name]),
            annotation=Annotated[
                str if _is_list(hints[item.name]) else hints[item.name],
                typer.Option(help=item.metadata["help"], show_default=_default_text(item, hints[item.name]) != ""),
            ],
        )
        for item in shown
    ]
    command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)} | {"return": None}
    return command


def _summary(out: Path, truth: Truth) -> dict[str, Any]:
    return {
        "folder": str(out),
        "seed": truth.seed,
        "groups": len(truth.groups),
        "files": sum(len(group.files) for group in truth.groups),
        "sources": len(truth.sources),
        "noise_sigma_jy": truth.noise_sigma_jy,
        "ese": truth.ese or None,
        "control": truth.control or None,
        "planted": [source.name for source in truth.sources if source.planted],
        "first_group": truth.groups[0].group_id,
        "last_group": truth.groups[-1].group_id,
    }


def _print_summary(console: Console, summary: dict[str, Any]) -> None:
    console.print(
        f"{summary['groups']} groups ({summary['files']} files) in {summary['folder']}, "
        f"{summary['first_group']} to {summary['last_group']}; seed {summary['seed']}"
    )
    console.print(f"{summary['sources']} sources; noise {summary['noise_sigma_jy']:.3f} Jy per visibility")
    for role in ("ese", "control"):
        if summary[role]:
            planted = " (planted: nothing drawn or listed fitted)" if summary[role] in summary["planted"] else ""
            console.print(f"{role}: {summary[role]}{planted}")
    console.print("truth.json holds all that is in them, catalog.csv what a survey would list")


@_with_options
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the files; made if it does not exist.")],
    overwrite: Annotated[bool, typer.Option(help="Replace the simulation that the folder holds already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    **values: Any,  # noqa: ANN401 - one per field of SimulationOptions
) -> None:
    """Write subband files as the telescope does, of a sky that is known, with truth.json and catalog.csv.

    Example: contimg simulate incoming --transit 3C48 --tiles 3 --days 0,7,14 --antennas 40 --channels 3 --ese auto
    """
    hints = get_type_hints(SimulationOptions)
    options = SimulationOptions(**{name: _parse(name, hints[name], value) for name, value in values.items()})
    errors = Console(stderr=True)
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task("", total=None)
            truth = run_simulation(
                out, options, lambda done, total: bar.update(task, completed=done, total=total), overwrite=overwrite
            )
    except PipelineError as error:
        errors.print(f"error: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    summary = _summary(out, truth)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        _print_summary(Console(soft_wrap=True, highlight=False), summary)
