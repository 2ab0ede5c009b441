"""`contimg serve`."""

import errno
import socket
from contextlib import suppress
from typing import Annotated

import typer

from dsa110_contimg.errors import ConfigurationError


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; another one lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one and prints it.", min=0, max=65535)] = 8000,
) -> None:
    """Serve the registry over HTTP, for reading, until it is stopped.

    Example: contimg serve --port 8000
    """
    import uvicorn

    from dsa110_contimg.api.app import create_app
    from dsa110_contimg.api.registry import check_registry

    check_registry(None)
    config = uvicorn.Config(create_app(), log_level="warning")
    # The server shuts down in order at Ctrl-C, and then passes it on.
    with _listen(host, port) as listening, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, and print its address; one that is taken is an error with the way out."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address, family=family)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        way_out = "choose another --port" if taken else "check --host and --port"
        raise ConfigurationError(f"cannot listen on {host} port {port} ({error.strerror}): {way_out}") from error
    shown = f"[{host}]" if family is socket.AF_INET6 else host
    typer.echo(f"http://{shown}:{listening.getsockname()[1]}/api/v1/data-registry")
    return listening
