"""`contimg registry`: the commands of `database.cli`, and those that need the pipeline: `retract` and `remake`."""

import json
from typing import Annotated

import typer

from dsa110_contimg.database import cli
from dsa110_contimg.database.registry_rows import get_data, open_registry
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.reconcile import follow_products
from dsa110_contimg.pipeline.remake import remake

app = typer.Typer(help=cli.app.info.help, no_args_is_help=True, rich_markup_mode=None)
app.registered_commands += cli.app.registered_commands

Product = Annotated[str, typer.Argument(metavar="ID", help="The product.")]
By = Annotated[str, typer.Option(help="Who asks for it.")]
Reason = Annotated[str, typer.Option(help="Why; it stays in the row.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("retract")
def retract_command(
    data_id: Product,
    by: By,
    reason: Reason,
    successor: Annotated[str | None, typer.Option(help="The product that replaces it; else its newer version.")] = None,
    as_json: Json = False,
) -> None:
    """Take a published product back: its file goes to a tombstone folder, its fluxes leave the light curves.

    Example: contimg registry retract mosaic_2025-10-01_08-59-02 --by anna --reason "gains of antenna 12 jumped"
    """
    with open_registry() as connection:
        successor = successor or get_data(connection, data_id).superseded_by
        tombstone = retract(connection, data_id, reason=reason, by=by, successor=successor)
    follow_products(PhotometryOptions())
    told = {"data_id": data_id, "status": "retracted", "tombstone": str(tombstone), "successor": successor}
    typer.echo(json.dumps(told, indent=2) if as_json else f"{data_id} is retracted and lies in {tombstone}")


@app.command("remake")
def remake_command(data_id: Product, by: By, reason: Reason, as_json: Json = False) -> None:
    """Have a mosaic made anew from its tiles, as its next version; the old one stays until it is retracted.

    Example: contimg registry remake mosaic_2025-10-01_08-59-02 --by anna --reason "new weights"
    """
    version = remake(data_id, by=by, reason=reason)
    told = {"data_id": version, "supersedes": data_id}
    typer.echo(json.dumps(told, indent=2) if as_json else f"the next `contimg run` makes {version}")
