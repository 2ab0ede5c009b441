"""`contimg`: every command of the pipeline."""

import sys
from pkgutil import resolve_name
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from dsa110_contimg import __version__
from dsa110_contimg.config import current_settings
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.memory import keep_freed_memory
from dsa110_contimg.monitoring.logs import configure_logs, log_path

COMMANDS = {
    "demo": "demo:demo",
    "simulate": "simulate:simulate",
    "init": "process:init",
    "run": "process:run",
    "worker": "worker:worker",
    "status": "status:status",
    "retry": "status:retry",
    "convert": "convert:convert",
    "image": "image:image",
    "hips": "atlas:hips",
    "moc": "atlas:moc",
    "catalog": "catalog:app",
    "calibrators": "calibrators:app",
    "flags": "flags:app",
    "lightcurve": "lightcurve:lightcurve",
    "spectrum": "spectrum:spectrum",
    "candidates": "candidates:app",
    "alerts": "alerts:app",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "clean": "clean:clean",
    "doctor": "doctor:doctor",
    "registry": "registry:app",
    "report": "report:app",
    "serve": "serve:serve",
    "user": "users:app",
    "token": "tokens:app",
}
"""Module and function of each command, or the application of several."""


class Commands(typer.core.TyperGroup):
    """Imports a command when it is asked for, so that one command does not wait for what only others need."""

    def list_commands(self, _context: Any) -> list[str]:  # noqa: ANN401 - typer does not export click's type
        """Return the names, as help lists them."""
        return list(COMMANDS)

    def get_command(self, _context: Any, name: str) -> Any:  # noqa: ANN401
        """Return a command by name, or None."""
        if name not in COMMANDS:
            return None
        found = resolve_name(f"dsa110_contimg.cli.{COMMANDS[name]}")
        root = typer.Typer(rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            root.add_typer(found, name=name)
        else:
            root.command(name)(found)
        return typer.main.get_group(root).commands[name]


app = typer.Typer(
    cls=Commands,
    help="DSA-110 continuum pipeline: subband files in, published mosaics and light curves out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to which thing.")] = False,
) -> None:
    """Set up what every command shares."""
    if version:
        typer.echo(f"contimg {__version__}")
        raise typer.Exit
    settings = current_settings()
    configure_logs(log_path(settings) if settings.state.is_dir() else None, verbose=verbose)


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
