"""`contimg token`: what programs show instead of a password."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsa110_contimg.cli.users import Json, utc

app = typer.Typer(help="Tokens of programs that use the API (Authorization: Bearer TOKEN).", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="User in whose name the program acts.")],
    label: Annotated[str, typer.Option(help="What the token is for.")] = "",
    days: Annotated[float | None, typer.Option(help="Days until it ends; without it, until revoked.", min=0.0)] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, this once.

    Example: contimg token add ada --label "nightly report" --days 365
    """
    from dsa110_contimg.database import access_tokens, audit

    number, token = access_tokens.add_token(name, label, days)
    audit.record(audit.COMMAND_LINE, "make token", f"token {number}", f"of {name}: {label}")
    typer.echo(json.dumps({"id": number, "user": name, "token": token}) if as_json else token)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Option(help="Only tokens of this user.")] = None,
    as_json: Json = False,
) -> None:
    """List the tokens, without what they are.

    Example: contimg token list --name ada
    """
    from dsa110_contimg.database import access_tokens

    tokens = access_tokens.list_tokens(name)
    if as_json:
        typer.echo(json.dumps([token._asdict() for token in tokens], indent=2))
        return
    table = Table("id", "user", "label", "made", "ends", "last used", "revoked", box=None)
    for token in tokens:
        times = (token.created_at, token.expires_at, token.last_used_at, token.revoked_at)
        table.add_row(str(token.id), token.user_name, token.label, *(utc(each) for each in times))
    Console(soft_wrap=True).print(table)


@app.command()
def revoke(number: Annotated[int, typer.Argument(metavar="ID", help="Number of the token.")]) -> None:
    """End a token.

    Example: contimg token revoke 3
    """
    from dsa110_contimg.database import access_tokens, audit

    access_tokens.revoke_token(number)
    audit.record(audit.COMMAND_LINE, "revoke token", f"token {number}")
    typer.echo(f"token {number} is revoked")
