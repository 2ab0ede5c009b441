"""The machine under the pipeline: file systems, room, permissions, clock, memory.

A database file belongs on a local disk: SQLite's write-ahead log is shared memory, and a network file system keeps
the locks of one machine from another. Everything else may lie on one.
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import NamedTuple

import psutil

from dsa110_contimg import naming
from dsa110_contimg.formats import scratch
from dsa110_contimg.housekeeping.findings import Finding, error, ok, warning

NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"}
)
VOLATILE = frozenset({"tmpfs", "ramfs"})
SPARE = 1.5
STATE_FLOOR_BYTES = 2e9
"""Room for a backup of the databases, for their logs, and for their tables written anew."""
LEAST_FREE_INODES = 0.02
LEAST_MEMORY_BYTES = 8e9
"""A tile's visibilities, weights, flags and model at full size, twice: while it is read and while it is imaged."""
FUTURE_S = 120.0
"""A correlator node's clock may be this far ahead."""
STEP_S = 5.0
_TIMEX_BYTES, _TIME_ERROR = 1024, 5


class Mount(NamedTuple):
    """Where a file system is mounted, and of what kind it is."""

    point: str
    kind: str


def list_mounts() -> list[Mount]:
    """Return what is mounted, in order of mounting: of two on one point the later one is seen."""
    return [Mount(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


def mount_of(path: Path, mounts: list[Mount]) -> Mount | None:
    """Return the mount that a path lies on, or would lie on."""
    resolved = path.resolve()
    above = [mount for mount in mounts if resolved.is_relative_to(mount.point)]
    deepest = max((len(Path(mount.point).parts) for mount in above), default=0)
    return next((mount for mount in reversed(above) if len(Path(mount.point).parts) == deepest), None)


def is_network(mount: Mount) -> bool:
    """Return whether a mount is a network file system, or one that may be."""
    return mount.kind in NETWORK or mount.kind.startswith("fuse")


def check_file_system(name: str, path: Path, mounts: list[Mount], *, databases: bool = False) -> Finding:
    """Check that a folder may lie where it does."""
    mount = mount_of(path, mounts)
    if mount is None:
        return warning(name, f"{path}: of no known file system", "check the mounts of this machine")
    found = f"{path} on {mount.kind}"
    remote = is_network(mount)
    if databases and remote:
        way_out = "set PIPELINE_STATE_DIR to a local disk, or PIPELINE_DATABASE_URL to a PostgreSQL server"
        return error(name, f"{found}, a network file system, which damages database files", way_out)
    if mount.kind in VOLATILE:
        return warning(name, f"{found}, which is empty after the next boot", "choose a folder on a disk")
    return ok(name, f"{found}, a network file system: new files are found by polling" if remote else found)


def check_room(name: str, path: Path, floor_bytes: float, setting: str = "") -> Finding:
    """Check the free bytes and inodes of a folder's file system, as an ordinary user has them.

    The floor may come from a setting, which is named then.
    """
    try:
        room = os.statvfs(_existing(path))
    except OSError as failure:
        return error(name, f"{path}: {failure.strerror}", "check the mount")
    free = room.f_bavail * room.f_frsize
    found, floor = f"{free / 1e9:.1f} GB free", f"the floor of {floor_bytes / 1e9:.1f} GB"
    way_out = "make room (`contimg clean --dry-run` says what may go)" + (f", or lower {setting}" if setting else "")
    if room.f_files and room.f_favail < LEAST_FREE_INODES * room.f_files:
        return error(name, f"{found}, but {room.f_favail} of {room.f_files} inodes", way_out)
    if free < floor_bytes:
        return error(name, f"{found}, below {floor}", way_out)
    if free < SPARE * floor_bytes:
        return warning(name, f"{found}, near {floor}", way_out)
    return ok(name, found)


def check_reading(name: str, path: Path) -> Finding:
    """Check that a folder can be listed."""
    try:
        with os.scandir(path) as entries:
            some = next(entries, None)
            if some is not None and some.is_file():
                Path(some.path).open("rb").close()
    except FileNotFoundError:
        return error(name, f"{path} does not exist", "run `contimg init`, or check PIPELINE_INCOMING_DIR and its mount")
    except OSError as failure:
        return error(name, f"{path}: {failure.strerror}", f"give {_me()} the right to read it")
    return ok(name, str(path))


_WRITING = {errno.EROFS: "mount it for writing", errno.ENOSPC: "make room"}


def check_writing(name: str, path: Path, made_by: str = "contimg init") -> Finding:
    """Check that a file can be written, flushed, renamed and removed in a folder."""
    trial = scratch.scratch_path(path / "contimg-doctor")
    renamed = trial.with_name(trial.name.replace("contimg-doctor", "contimg-doctor-2"))
    try:
        with trial.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        trial.rename(renamed)
    except FileNotFoundError:
        return warning(name, f"{path} does not exist", f"run `{made_by}`")
    except OSError as failure:
        return error(
            name, f"{path}: {failure.strerror}", _WRITING.get(failure.errno or 0, f"give {_me()} the right to write it")
        )
    finally:
        for left in (trial, renamed):
            with contextlib.suppress(OSError):
                left.unlink()
    return ok(name, str(path))


def newest_stamp_unix(incoming: Path) -> float | None:
    """Return the latest time that a subband file's name tells, or None without files."""
    try:
        with os.scandir(incoming) as entries:
            stamps = {subband.stamp for entry in entries if (subband := naming.parse_subband(Path(entry.name)))}
    except OSError:
        return None
    return naming.stamp_unix(max(stamps)) if stamps else None


def check_clock(
    now: float, newest_stamp: float | None, newest_row: float | None, *, synchronized: bool | None
) -> Finding:
    """Check the clock against the telescope's files, against what was recorded before, and against the time servers."""
    name, way_out = "clock", "set the clock and let chrony or ntpd keep it"
    if newest_stamp is not None and newest_stamp - now > FUTURE_S:
        return error(name, f"the newest file is {newest_stamp - now:.0f} s in the future", way_out)
    if newest_row is not None and newest_row - now > STEP_S:
        found = f"{newest_row - now:.0f} s before what the last run recorded: it has stepped back"
        return error(name, found, f"{way_out}; leases and backups wait until it has caught up")
    if synchronized is False:
        return warning(name, "not synchronized with a time server", way_out)
    told = "not known to be synchronized" if synchronized is None else "synchronized"
    ahead = "" if newest_stamp is None else f", {now - newest_stamp:.0f} s after the newest file"
    return ok(name, f"{told}{ahead}")


def is_synchronized() -> bool | None:
    """Return what the kernel says about its clock; None where it cannot be asked."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state = int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state != _TIME_ERROR


def cores_and_memory() -> tuple[int, int, int]:
    """Return the cores that this process may use, and the machine's memory: all of it, and what is free (bytes)."""
    memory = psutil.virtual_memory()
    return len(os.sched_getaffinity(0)), int(memory.total), int(memory.available)


def check_memory(cores: int, total_bytes: int, available_bytes: int) -> Finding:
    """Check that a tile fits into memory."""
    found = f"{cores} cores, {total_bytes / 1e9:.0f} GB, {available_bytes / 1e9:.0f} GB of it free"
    if total_bytes < LEAST_MEMORY_BYTES:
        return warning("memory", found, f"a tile at full size needs {LEAST_MEMORY_BYTES / 1e9:.0f} GB: run one worker")
    return ok("memory", found)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.resolve().parents) if folder.exists())


def _me() -> str:
    return f"user {os.geteuid()}"
