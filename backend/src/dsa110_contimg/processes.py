"""Which process is which: an id is used again, a pair of id and start time is not (until the next boot)."""

from pathlib import Path

_START_FIELD = 19
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def start_ticks(pid: int) -> int | None:
    """Return when a process of this machine started, in clock ticks since boot; None if it no longer runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold spaces.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[_START_FIELD])


def out_of_memory_kills() -> int | None:
    """Return how many processes the kernel has killed for want of memory since boot; None where it does not tell."""
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(counters[counters.index("oom_kill") + 1]) if "oom_kill" in counters else None


def control_groups() -> list[Path]:
    """Return the folders of the control groups that limit this process, its own first; none where there are none."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        # The second version has one tree, the first one tree for each kind of limit.
        tree = _CONTROL_GROUPS / controllers if controllers else _CONTROL_GROUPS
        own = tree / name.lstrip("/")
        folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(tree)]
    return [folder for folder in folders if folder.is_dir()]
