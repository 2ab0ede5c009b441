"""`contimg serve`."""

import errno
import socket
from contextlib import suppress
from typing import Annotated

import typer

from dsa110_contimg.errors import ConfigurationError

GRACE_S = 10
"""How long a stop waits for answers that are under way."""
APPLICATION = "dsa110_contimg.dashboard.app:create_app"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; another one lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one and prints it.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
    proxy: Annotated[
        str | None, typer.Option(help="Address of a proxy that is believed who asked (X-Forwarded-For, -Proto).")
    ] = None,
) -> None:
    """Serve the dashboard, the REST API and the Virtual Observatory's services, until it is stopped.

    Reading is open, unless PIPELINE_REQUIRE_LOGIN is set. As long as there is no admin, a link is printed with which
    the first one sets a password; it works once, and for a day.

    Example: contimg serve --port 8000 --workers 2
    """
    import uvicorn

    from dsa110_contimg.api.access import session_key
    from dsa110_contimg.api.connections import Connection
    from dsa110_contimg.api.registry import check_registry
    from dsa110_contimg.cli.workers import Workers

    check_registry(None)
    session_key()
    config = uvicorn.Config(
        APPLICATION,
        factory=True,
        http=Connection,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        workers=workers,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    # The server shuts down in order at Ctrl-C, and then passes it on.
    with _listen(host, port) as listening, suppress(KeyboardInterrupt):
        family, address = listening.family, listening.getsockname()
        if workers == 1:
            _greet(family, host, address[1])
            uvicorn.Server(config).run(sockets=[listening])
        else:
            # Nobody else has the address, or it could not be listened on; the workers share it.
            listening.close()
            Workers(config, family, address, lambda: _greet(family, host, address[1])).run()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; an address that is taken is an error with the way out."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        way_out = "choose another --port" if taken else "check --host and --port"
        raise ConfigurationError(f"cannot listen on {host} port {port} ({error.strerror}): {way_out}") from error


def _greet(family: socket.AddressFamily, host: str, port: int) -> None:
    """Print the address, and the link of the first admin as long as there is none."""
    from dsa110_contimg.database import accounts

    shown = f"[{host}]" if family is socket.AF_INET6 else host
    address = f"http://{shown}:{port}"
    typer.echo(f"{address}/")
    if accounts.lacks_admin():
        link = f"{address}/invitation/{accounts.first_admin()}"
        typer.echo(f"There is no admin yet; this link makes one, once and within a day: {link}", err=True)
