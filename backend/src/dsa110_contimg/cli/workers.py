"""Processes that answer side by side, each with a socket of its own."""

import socket
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

STARTUP_S = 60.0
"""How long a worker may take until it listens."""


class Workers(Multiprocess):
    """Workers that listen on one address, each on its own socket: the kernel spreads the connections over them.

    From a socket that all share, one that is awake takes whatever waits: of 50 clients it got 50 as often as 25, and
    they waited twice as long as need be.

    Parameters
    ----------
    config
        Of the server, with the number of workers.
    family, address
        Where to listen.
    ready
        Called once, when all of them listen.
    """

    def __init__(
        self,
        config: Config,
        family: socket.AddressFamily,
        address: Any,  # noqa: ANN401 - by family
        ready: Callable[[], None],
    ) -> None:
        self._family, self._address, self._ready = family, address, ready
        super().__init__(config, sockets=[])

    def init_processes(self) -> None:
        """Start the workers, and wait until they listen."""
        super().init_processes()
        if all(process.wait_until_ready(STARTUP_S) for process in self.processes):
            self._ready()

    @property
    def sockets(self) -> list[socket.socket]:
        """A socket for one worker that starts: this process keeps none, or connections would wait at it for ever."""
        own = socket.socket(self._family, socket.SOCK_STREAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(self._address)
        own.set_inheritable(True)
        return [own]

    @sockets.setter
    def sockets(self, _none: list[socket.socket]) -> None:
        pass
