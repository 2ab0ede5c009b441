"""Who holds a lease: a process, named so that another process of the same machine can see that it is gone.

An owner is `host:pid:start`, with the start time of the process in clock ticks since boot: process ids are
used again, a pair of id and start time is not (until the next boot, when it belongs to nobody).
"""

import os
import socket

from dsa110_contimg.processes import start_ticks


def this_process() -> str:
    """Return the owner name of this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{start_ticks(os.getpid()) or 0}"


def is_gone(owner: str | None) -> bool:
    """Return whether an owner certainly no longer runs: a process of this machine that does not exist."""
    parts = (owner or "").rsplit(":", 2)
    if len(parts) != 3 or parts[0] != socket.gethostname() or not parts[1].isdigit() or parts[2] == "0":
        return False
    return str(start_ticks(int(parts[1]))) != parts[2]
