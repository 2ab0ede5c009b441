"""`contimg user`: who may change what."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsa110_contimg.database.models import Role

app = typer.Typer(help="Users of the API and the dashboard, and their roles.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[str, typer.Argument(help="Name of the user.")]
Url = Annotated[str, typer.Option(help="Where the dashboard is served, for the printed link.")]
LOCAL = "http://127.0.0.1:8000"


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.VIEWER,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Add a user and print the link with which the user sets a password, once and within a day.

    Example: contimg user add ada --role operator
    """
    from dsa110_contimg.database import accounts, audit

    secret = accounts.add_user(name, role)
    audit.record(audit.COMMAND_LINE, "add user", f"user {name}", f"role {role}")
    _print_link(name, url, secret, as_json)


@app.command()
def link(name: Name, url: Url = LOCAL, as_json: Json = False) -> None:
    """Print a new link with which a user sets a password; links of before no longer work.

    Example: contimg user link ada
    """
    from dsa110_contimg.database import accounts, audit

    secret = accounts.invite(name)
    audit.record(audit.COMMAND_LINE, "make link", f"user {name}")
    _print_link(name, url, secret, as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the users.

    Example: contimg user list
    """
    from dsa110_contimg.database import accounts

    users = accounts.list_users()
    if as_json:
        typer.echo(json.dumps([user._asdict() for user in users], indent=2))
        return
    table = Table("name", "role", "password", "tokens", "last login", box=None)
    for user in users:
        password = "set" if user.has_password else "not yet"
        table.add_row(user.name, user.role, password, str(user.n_tokens), utc(user.last_login_at))
    Console(soft_wrap=True).print(table)


@app.command()
def role(name: Name, new: Annotated[Role, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")]) -> None:
    """Give a user another role; sessions of the user end.

    Example: contimg user role ada admin
    """
    from dsa110_contimg.database import accounts, audit

    accounts.change_role(name, new)
    audit.record(audit.COMMAND_LINE, "change role", f"user {name}", f"role {new}")
    typer.echo(f"{name} is {new}")


@app.command()
def remove(name: Name) -> None:
    """Remove a user with all tokens; what the user did stays in the audit.

    Example: contimg user remove ada
    """
    from dsa110_contimg.database import accounts, audit

    accounts.remove_user(name)
    audit.record(audit.COMMAND_LINE, "remove user", f"user {name}")
    typer.echo(f"{name} is removed")


def _print_link(name: str, url: str, secret: str, as_json: bool) -> None:
    address = f"{url.rstrip('/')}/invitation/{secret}"
    typer.echo(json.dumps({"name": name, "link": address}) if as_json else address)


def utc(unix: float | None) -> str:
    """Return a time for a table, or a dash for none."""
    return "–" if unix is None else f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M}"
