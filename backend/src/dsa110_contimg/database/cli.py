"""The registry's commands: `contimg registry`, and `python -m dsa110_contimg.database.cli` for the registry alone.

The product is an argument; `--data-id ID`, as the specification prints it, says the same. Exit codes: 0 done, 1 refused
or failed, 2 wrong usage. Errors are one sentence.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer import Context
from typer.core import TyperCommand

from dsa110_contimg.database import fixity
from dsa110_contimg.database.criteria import publish_blockers
from dsa110_contimg.database.data_registration import reset_failed, retry_failed, trigger_auto_publish
from dsa110_contimg.database.models import LinkKind, ProductStatus
from dsa110_contimg.database.product_actions import publish_by_hand, retry_by_hand
from dsa110_contimg.database.product_entries import link_data, tag_data, untag_data
from dsa110_contimg.database.product_page import product_page, product_table
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.recovery import recover_publishing
from dsa110_contimg.database.registry_rows import (
    ProductRow,
    RegistryConnection,
    get_data,
    list_data,
    open_registry,
)
from dsa110_contimg.database.session import database_path, on_server
from dsa110_contimg.errors import ConfigurationError, PipelineError
from dsa110_contimg.prov_json import prov_document

app = typer.Typer(
    help="The registry of products: what is published, what is not, and why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Mode(StrEnum):
    """What becomes of the staged file."""

    MOVE = "move"
    COPY = "copy"


class _OfProduct(TyperCommand):
    """A command about one product, which `--data-id` may name."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, [word.removeprefix("--data-id=") for word in args if word != "--data-id"])


Product = Annotated[str, typer.Argument(metavar="ID", help="The product; --data-id ID says the same.")]
Database = Annotated[Path | None, typer.Option("--db", help="Registry file; else the configured registry.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Base = Annotated[Path | None, typer.Option("--products-base", help="Products area; else the configured one.")]


@app.callback()
def registry() -> None:
    """List products, explain them, publish them, verify them."""


@contextmanager
def open_named(db: Path | None) -> Iterator[RegistryConnection]:
    """Open the registry that a command names, or the configured one; none is made."""
    path = database_path("data_registry") if db is None and not on_server() else db
    if path is not None and not path.exists():
        raise ConfigurationError(f"registry {path} does not exist: name it with --db, or run `contimg init`")
    with open_registry(path) as conn:
        yield conn


def print_json(value: object) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2))


def _print(*parts: RenderableType) -> None:
    """Print for people; what is not a terminal has no width."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 10_000
    for part in parts:
        console.print(part, soft_wrap=not hasattr(part, "columns"))


@app.command("list")
def list_command(
    status: Annotated[ProductStatus | None, typer.Option(help="Only products of this status.")] = None,
    data_type: Annotated[str | None, typer.Option("--type", help="Only products of this type.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only products with this tag.")] = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """List products and what they wait for.

    Example: contimg registry list --status failed
    """
    with open_named(db) as conn:
        rows = list_data(conn, data_type=data_type, status=None if status is None else status.value, tag=tag)
    _print_list(rows, as_json=as_json)


def _print_list(rows: list[ProductRow], *, as_json: bool) -> None:
    if as_json:
        print_json([_brief(row) for row in rows])
    elif rows:
        _print(product_table(rows))
    else:
        typer.echo("nothing")


def _brief(row: ProductRow) -> dict[str, object]:
    told: dict[str, object] = asdict(row)
    del told["metadata_json"]
    return told | {"blockers": [] if row.status in {"published", "retracted"} else publish_blockers(row)}


def show_product(conn: RegistryConnection, data_id: str, *, as_json: bool) -> None:
    """Print all that is known about a product."""
    described = describe_product(conn, data_id)
    if as_json:
        print_json(described)
    else:
        _print(*product_page(described))


@app.command(cls=_OfProduct)
def show(data_id: Product, db: Database = None, as_json: Json = False) -> None:
    """Show where a product stands, each criterion with the figures behind it, and what to do next.

    Example: contimg registry show mosaic_2025-12-24_03-12-56
    """
    with open_named(db) as conn:
        show_product(conn, data_id, as_json=as_json)


@app.command(cls=_OfProduct)
def status(data_id: Product, db: Database = None, as_json: Json = False) -> None:
    """Show a product: another name of `show`.

    Example: contimg registry status mosaic_2025-12-24_03-12-56
    """
    show(data_id, db, as_json)


@app.command(cls=_OfProduct)
def publish(
    data_id: Product,
    mode: Annotated[Mode, typer.Option(help="What becomes of the staged file.")] = Mode.MOVE,
    by: Annotated[str | None, typer.Option(help="Who wants it; needed where QA or validation objects.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; needed where QA or validation objects.")] = None,
    products_base: Base = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Publish a product by hand; where QA or validation speaks against it, somebody signs for it.

    Example: contimg registry publish mosaic_2025-12-24_03-12-56 --by me --reason "looked at it"
    """
    with open_named(db) as conn:
        roots = Roots.configured(products_base)
        publish_by_hand(conn, data_id, mode=mode.value, by=by, reason=reason, roots=roots)
        show_product(conn, data_id, as_json=as_json)


@app.command(cls=_OfProduct)
def retry(
    data_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The product; --data-id ID says the same.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that failed, up to three times.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the failures first: the count starts anew.")] = False,
    products_base: Base = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Publish again what failed, at once and as it was asked for; one that is named also beyond the limit.

    Example: contimg registry retry mosaic_2025-12-24_04-00-00
    """
    if every == (data_id is not None):
        raise typer.BadParameter("name a product, or say --all")
    roots = Roots.configured(products_base)
    with open_named(db) as conn:
        if data_id is not None:
            retry_by_hand(conn, data_id, reset=reset, elsewhere=products_base is not None, roots=roots)
            show_product(conn, data_id, as_json=as_json)
            return
        failed = list_data(conn, status="failed")
        outcome = _retry_all(conn, failed, roots, reset=reset)
        rows = [get_data(conn, row.data_id) for row in failed]
    _print_list(rows, as_json=as_json)
    raise typer.Exit(0 if all(outcome) else 1)


def _retry_all(conn: RegistryConnection, failed: list[ProductRow], roots: Roots, *, reset: bool) -> list[bool]:
    """Return whether each product that was tried is published; after a reset those that meet the criteria are."""
    if not reset:
        return list(retry_failed(conn, roots=roots).values())
    for row in failed:
        reset_failed(conn, row.data_id)
    return [trigger_auto_publish(conn, row.data_id, mode=row.publish_mode or "move", roots=roots) for row in failed]


@app.command()
def recover(products_base: Base = None, db: Database = None, as_json: Json = False) -> None:
    """Finish or undo publications and retractions that a crash interrupted.

    Example: contimg registry recover
    """
    with open_named(db) as conn:
        done = recover_publishing(conn, roots=Roots.configured(products_base))
    if as_json:
        print_json([{"data_id": one.data_id, "action": one.action.value, "status": one.status} for one in done])
        return
    for one in done:
        typer.echo(f"{one.data_id}: {one.action.value}, now {one.status}")
    if not done:
        typer.echo("nothing")


@app.command()
def verify(
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only what was published since then (UTC)."),
    ] = None,
    products_base: Base = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Read published products again and compare them with their checksums; exit code 1 if anything is wrong.

    Example: contimg registry verify --since 2025-12-01
    """
    moment = None if since is None else since.replace(tzinfo=UTC).timestamp()
    with open_named(db) as conn:
        report = _verify_with_bar(conn, moment, Roots.configured(products_base))
    if as_json:
        print_json(report.as_dict())
    else:
        _print_report(report)
    raise typer.Exit(0 if report.intact else 1)


def _verify_with_bar(conn: RegistryConnection, since: float | None, roots: Roots) -> fixity.FixityReport:
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def tell(data_id: str, done: int, total: int) -> None:
            bar.update(task, description=data_id, completed=done, total=total)

        return fixity.verify(conn, since=since, roots=roots, tell=tell)


def _print_report(report: fixity.FixityReport) -> None:
    findings = {name: getattr(report, name) for name in ("changed", "missing", "unverified", "unknown")}
    kept = {f"retracted, {name}": getattr(report.retracted, name) for name in ("changed", "missing", "unverified")}
    for name, found in (findings | kept).items():
        for finding in found:
            typer.echo(f"{name}: {finding.sentence}")
    counts = {"sound": report.sound, "retracted and sound": report.retracted.sound, **findings}
    typer.echo(", ".join(f"{len(found)} {name}" for name, found in counts.items()))


@app.command(cls=_OfProduct)
def tag(
    data_id: Product,
    word: Annotated[str, typer.Argument(metavar="TAG", help="One word.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it off instead.")] = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Put a tag on a product.

    Example: contimg registry tag mosaic_2025-12-24_03-12-56 paper1
    """
    with open_named(db) as conn:
        (untag_data if remove else tag_data)(conn, data_id, word)
        show_product(conn, data_id, as_json=as_json)


@app.command()
def link(
    parent_id: Annotated[str, typer.Argument(metavar="PARENT", help="The product that came first.")],
    child_id: Annotated[str, typer.Argument(metavar="CHILD", help="What was made from it, or replaces it.")],
    kind: Annotated[LinkKind, typer.Argument(metavar="KIND", help=f"One of {', '.join(LinkKind)}.")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Record that a product was made from another, or replaces it.

    Example: contimg registry link mosaic_2025-12-24_03-12-56 mosaic_2025-12-24_03-12-56_2 supersedes
    """
    with open_named(db) as conn:
        link_data(conn, parent_id, child_id, kind.value)
        show_product(conn, child_id, as_json=as_json)


@app.command(cls=_OfProduct)
def provenance(
    data_id: Product,
    out: Annotated[Path | None, typer.Option(help="File to write; else it is printed.")] = None,
    db: Database = None,
) -> None:
    """Tell where a product comes from, as a PROV-JSON document.

    Example: contimg registry provenance mosaic_2025-12-24_03-12-56 --out provenance.json
    """
    with open_named(db) as conn:
        document = json.dumps(prov_document(describe_product(conn, data_id)), indent=2)
    if out is None:
        typer.echo(document)
    else:
        out.write_text(document + "\n", encoding="utf-8")
        typer.echo(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        app(args=argv, prog_name="dsa110_contimg.database.cli")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (PipelineError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
