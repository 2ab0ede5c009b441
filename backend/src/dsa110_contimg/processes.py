"""Which process is which: an id is used again, a pair of id and start time is not (until the next boot)."""

from pathlib import Path

_START_FIELD = 19


def start_ticks(pid: int) -> int | None:
    """Return when a process of this machine started, in clock ticks since boot; None if it no longer runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold spaces.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[_START_FIELD])
