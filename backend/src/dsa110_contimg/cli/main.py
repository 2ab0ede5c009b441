"""`contimg`: every command of the pipeline."""

import logging
import sys
from typing import Annotated

import typer

from dsa110_contimg import __version__
from dsa110_contimg.cli import catalog, demo, image, process, simulate
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.memory import keep_freed_memory

app = typer.Typer(
    help="DSA-110 continuum pipeline: subband files in, published mosaics and light curves out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.command("init")(process.init)
app.command("run")(process.run)
app.command("status")(process.status)
app.command("image")(image.image)
app.add_typer(catalog.app, name="catalog")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to which thing.")] = False,
) -> None:
    """Set up what every command shares."""
    if version:
        typer.echo(f"contimg {__version__}")
        raise typer.Exit
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def main() -> None:
    """Run a command; what is wrong with its input is one sentence, not a traceback."""
    keep_freed_memory()
    try:
        app()
    except PipelineError as error:
        typer.echo(f"contimg: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"contimg: {error}; check the path, its permissions and the free space", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
