"""`contimg catalog import`: the sources that calibration models and photometry measures."""

from pathlib import Path
from typing import Annotated

import typer

from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.pipeline.catalogs import import_catalog

app = typer.Typer(help="The catalogue of known sources.", no_args_is_help=True)


@app.callback()
def catalog() -> None:
    """Import the catalogue of known sources."""


@app.command("import")
def import_command(
    survey: Annotated[str, typer.Argument(help="Which survey the file holds: nvss, or csv for our own columns.")],
    file: Annotated[Path, typer.Argument(help="Catalogue file.")],
) -> None:
    """Replace the catalogue of known sources by a file's.

    Example: contimg catalog import nvss NVSSVZ.FIT.gz
    """
    if survey not in ("nvss", "csv"):
        raise typer.BadParameter(f"{survey!r} cannot be imported yet; nvss and csv can")
    initialize(Settings())
    typer.echo(f"{import_catalog(file)} sources from {file}")
