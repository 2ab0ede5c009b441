"""`python -m dsa110_contimg.database.cli status|publish|retry|list|recover --db FILE [--data-id ID]`.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage. Errors are one sentence.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dsa110_contimg.database.data_registration import publish_blockers, publish_data_instance
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.recovery import recover_publishing
from dsa110_contimg.database.registry_rows import (
    ProductRow,
    RegistryConnection,
    get_data,
    list_data,
    open_registry,
)
from dsa110_contimg.database.session import database_path, on_server
from dsa110_contimg.errors import ConfigurationError, PipelineError, PublishError

Report = list[dict[str, object]]


def _describe(row: ProductRow) -> dict[str, object]:
    described: dict[str, object] = dataclasses.asdict(row)
    described["metadata"] = row.details
    del described["metadata_json"]
    described["blockers"] = [] if row.status == "published" else publish_blockers(row)
    return described


def _status(conn: RegistryConnection, args: argparse.Namespace) -> Report:
    return [_describe(get_data(conn, args.data_id))]


def _list(conn: RegistryConnection, args: argparse.Namespace) -> Report:
    return [_describe(row) for row in list_data(conn, status=args.status)]


def _publish(conn: RegistryConnection, args: argparse.Namespace) -> Report:
    roots = Roots.configured(args.products_base)
    done = publish_data_instance(conn, args.data_id, mode=args.mode, roots=roots, by=args.by, reason=args.reason)
    if not done:
        raise PublishError(f"product {args.data_id} is already claimed by {get_data(conn, args.data_id).owner}")
    return _status(conn, args)


def _retry(conn: RegistryConnection, args: argparse.Namespace) -> Report:
    row = get_data(conn, args.data_id)
    if row.status != "failed":
        raise PublishError(f"product {args.data_id} is {row.status}, not failed: there is nothing to retry")
    return _publish(conn, args)


def _recover(conn: RegistryConnection, args: argparse.Namespace) -> Report:
    done = recover_publishing(conn, roots=Roots.configured(args.products_base))
    return [{"data_id": one.data_id, "action": one.action.value, "status": one.status} for one in done]


_COMMANDS: dict[str, tuple[Callable[[RegistryConnection, argparse.Namespace], Report], str]] = {
    "status": (_status, "show one product and what keeps it from being published"),
    "list": (_list, "list products"),
    "publish": (_publish, "publish one product"),
    "retry": (_retry, "publish one product again that failed"),
    "recover": (_recover, "finish or undo publications that a crash interrupted"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dsa110_contimg.database.cli", description="The registry of products.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, sentence) in _COMMANDS.items():
        command = commands.add_parser(name, help=sentence, description=sentence.capitalize() + ".")
        command.add_argument("--db", type=Path, default=None, help="registry file (default: the configured one)")
        command.add_argument("--json", action="store_true", help="print JSON")
        if name in {"status", "publish", "retry"}:
            command.add_argument("--data-id", required=True, help="the product")
        if name in {"publish", "retry", "recover"}:
            command.add_argument("--products-base", type=Path, help="products area (default: the configured one)")
        if name in {"publish", "retry"}:
            command.add_argument("--mode", choices=("move", "copy"), default="move", help="move (default) or copy")
            command.add_argument("--by", help="who publishes")
            command.add_argument("--reason", help="why, if QA or validation failed")
        if name == "list":
            command.add_argument("--status", help="only products of this status")
    return parser


def _text(report: Report) -> str:
    if not report:
        return "nothing\n"
    lines = []
    for entry in report:
        told = {k: v for k, v in entry.items() if k not in {"metadata", "data_id"} and v not in (None, [], "")}
        lines.append(f"{entry['data_id']}: " + ", ".join(f"{key} {value}" for key, value in told.items()))
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    path = args.db
    if path is None and not on_server():
        path = database_path("data_registry")
    try:
        if path is not None and not path.exists():
            raise ConfigurationError(f"registry {path} does not exist: name it with --db, or run `contimg init`")
        with open_registry(path) as conn:
            report = _COMMANDS[args.command][0](conn, args)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if args.json else _text(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
