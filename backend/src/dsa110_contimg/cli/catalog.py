"""`contimg catalog`: the sources that calibration models and photometry measures, and the surveys they come from."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer import Context
from typer.core import TyperCommand

from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database.catalog_query import CATALOGS, CatalogEntry, cone_search
from dsa110_contimg.database.session import get_session
from dsa110_contimg.database.source_names import resolve
from dsa110_contimg.pipeline.catalogs import IMPORTABLE, CatalogImport, import_catalog
from dsa110_contimg.visibilities import SkyPosition

app = typer.Typer(help="The catalogue of known sources.", no_args_is_help=True)

SHOWN_BAD_ROWS = 10
_NEGATIVE = re.compile(r"-\.?\d")
_LINE = "{:9}  {:32}  {:>10}  {:>10}  {:>9}  {:>6}  {:>5}  {:>11}"


@app.callback()
def catalog() -> None:
    """Import catalogues, and search them."""


@app.command("import")
def import_command(
    survey: Annotated[
        str, typer.Argument(help=f"Which survey the file holds: {', '.join(IMPORTABLE)}; csv has our own columns.")
    ],
    file: Annotated[Path, typer.Argument(help="Catalogue file, as the survey publishes it.")],
) -> None:
    """Replace a survey by a file's entries, and match all surveys anew.

    Example: contimg catalog import nvss NVSSVZ.FIT.gz
    """
    if survey not in IMPORTABLE:
        raise typer.BadParameter(f"{survey!r} cannot be imported; {', '.join(IMPORTABLE)} can")
    initialize(Settings())
    _print_import(file, _import_with_bar(file, survey))


def _import_with_bar(file: Path, survey: str) -> CatalogImport:
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        return import_catalog(
            file,
            survey,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None),
        )


def _print_import(file: Path, result: CatalogImport) -> None:
    typer.echo(f"{result.n_rows} sources from {file}")
    if result.set_aside:
        typer.echo(f"{result.set_aside} more are duplicates or artifacts by the survey's own flags")
    if result.bad_rows:
        typer.echo(f"{len(result.bad_rows)} more could not be used:")
        for reason in result.bad_rows[:SHOWN_BAD_ROWS]:
            typer.echo(f"  {reason}")
        if len(result.bad_rows) > SHOWN_BAD_ROWS:
            typer.echo(f"  and {len(result.bad_rows) - SHOWN_BAD_ROWS} more")


class _Signed(TyperCommand):
    """A command that takes -30.25 for a number: to its parser whatever starts with a dash is an option."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        ctx.ignore_unknown_options = any(_NEGATIVE.match(word) for word in args)
        return super().parse_args(ctx, args)


@app.command("query", cls=_Signed)
def query_command(
    ra_deg: Annotated[float, typer.Argument(metavar="RA", help="Right ascension (deg, ICRS).")],
    dec_deg: Annotated[float, typer.Argument(metavar="DEC", help="Declination (deg, ICRS).")],
    radius_deg: Annotated[float, typer.Argument(metavar="RADIUS", help="Radius of the search (deg).")],
    catalogs: Annotated[
        list[str] | None, typer.Option("--catalog", help=f"One of {', '.join(CATALOGS).lower()}; repeatable; else all.")
    ] = None,
    min_flux_jy: Annotated[float, typer.Option(help="Leave out fainter entries (Jy).")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what catalogues have around a position, the nearest first.

    Example: contimg catalog query 202.7845 30.5092 0.1
    """
    found = cone_search(SkyPosition(ra_deg, dec_deg), radius_deg, catalogs or CATALOGS, min_flux_jy)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in found]))
        return
    typer.echo(_LINE.format("catalogue", "source", "RA (deg)", "Dec (deg)", "flux (Jy)", "GHz", "index", "arcsec away"))
    for entry in found:
        typer.echo(_line(entry))


@app.command("resolve", cls=_Signed)
def resolve_command(
    spelling: Annotated[list[str], typer.Argument(metavar="NAME", help="A name or a position, in any usual form.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which source of the catalogue a name or a position means.

    Example: contimg catalog resolve 3C 286
    """
    words = " ".join(spelling)
    with (
        get_session("master_sources", read_only=True) as master,
        get_session("calibrators", read_only=True) as calibrators,
    ):
        found = resolve(master, calibrators, words)
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in found]))
    for one in [] if as_json else found:
        away = f"{3600.0 * one.separation_deg:.1f} arcsec away"
        typer.echo(f"{one.source_id}  {one.ra_deg:.6f}  {one.dec_deg:+.6f}  {away}")
    if not found:
        typer.echo(f"{words!r} fits no source of the catalogue", err=True)
        raise typer.Exit(1)


def _line(entry: CatalogEntry) -> str:
    numbers = ((entry.flux_jy, ".4g"), (entry.freq_ghz, ".4g"), (entry.spectral_index, "+.2f"))
    return _LINE.format(
        entry.catalog,
        entry.source_id,
        f"{entry.ra_deg:.6f}",
        f"{entry.dec_deg:+.6f}",
        *("" if value is None else format(value, shape) for value, shape in numbers),
        f"{3600.0 * entry.separation_deg:.1f}",
    )
