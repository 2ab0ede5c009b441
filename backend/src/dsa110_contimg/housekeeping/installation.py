"""What is installed around the pipeline: the SQLite library, the Earth's orientation, optional engines, backups."""

import functools
import importlib.metadata
import importlib.util
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.utils import iers

from dsa110_contimg.housekeeping.backups import list_backups
from dsa110_contimg.housekeeping.findings import Finding, error, ok, warning
from dsa110_contimg.sqlite_library import FIRST_SOUND_VERSION, has_wal_reset_bug
from dsa110_contimg.telescope import unix_to_mjd

ENGINES = {"wsclean": ("--version",), "aoflagger": ("--version",)}
"""Optional programs, and how they tell their version."""
MODULES = ("casatools", "casatasks")
LEAST_PREDICTED_DAYS = 60.0
OLDEST_BACKUP_DAYS = 2.0
_PATIENCE_S = 20.0
_MEASURED = "I"


def sqlite_library() -> tuple[tuple[int, ...], str]:
    """Return the version of the SQLite library of this process, and the module that brought it."""
    return sqlite3.sqlite_version_info, sqlite3.connect.__module__


def check_sqlite(version: tuple[int, ...], module: str, *, on_server: bool) -> Finding:
    """Check that several processes may write one file."""
    shown = f"SQLite {'.'.join(map(str, version))} ({module})"
    if not has_wal_reset_bug(version):
        return ok("SQLite", shown)
    if on_server:
        return ok("SQLite", f"{shown}, not used: the databases are on a server")
    sound = ".".join(map(str, FIRST_SOUND_VERSION))
    found = f"{shown} can corrupt a database that two processes write (before {sound})"
    return error("SQLite", found, "install pysqlite3, and import dsa110_contimg before sqlite3")


@functools.cache
def iers_span() -> tuple[float, float]:
    """Return the last day (MJD) of which the packaged table has measured the Earth's orientation, and predicts it."""
    table = iers.IERS_A.open(iers.IERS_A_FILE)
    days = np.asarray(table["MJD"].value, dtype=np.float64)
    return float(days[np.asarray(table["UT1Flag_A"]) == _MEASURED].max()), float(days.max())


def check_iers(now: float, measured_mjd: float, predicted_mjd: float) -> Finding:
    """Check that the Earth's orientation is known for some time to come."""
    today = unix_to_mjd(now)
    found = f"measured until {today - measured_mjd:.0f} days ago, predicted for {predicted_mjd - today:.0f} days more"
    way_out = "upgrade astropy-iers-data"
    if today > predicted_mjd:
        return error("Earth orientation", f"predicted until {today - predicted_mjd:.0f} days ago only", way_out)
    if predicted_mjd - today < LEAST_PREDICTED_DAYS:
        return warning("Earth orientation", found, way_out)
    return ok("Earth orientation", found)


def check_engines() -> Iterator[Finding]:
    """Look for the optional engines; one that is missing is no fault, one that does not run is."""
    for name, arguments in ENGINES.items():
        found = shutil.which(name)
        yield _absent(name) if found is None else check_program(name, Path(found), arguments)
    for name in MODULES:
        if importlib.util.find_spec(name) is None:
            yield _absent(name)
        else:
            yield ok(name, importlib.metadata.version(name))


def check_program(name: str, path: Path, arguments: tuple[str, ...], patience_s: float = _PATIENCE_S) -> Finding:
    """Check that a program runs and tells its version."""
    way_out = f"install {name} anew, or remove it: nothing needs it"
    try:
        done = subprocess.run(
            [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=patience_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        return warning(name, f"{path} does not run: {failure}", way_out)
    told = (done.stdout or done.stderr).decode(errors="replace").strip().splitlines()
    if done.returncode:
        return warning(name, f"{path} ends with {done.returncode}: {told[-1] if told else 'no reason given'}", way_out)
    return ok(name, next((line.strip() for line in told if line.strip()), str(path)))


def check_backup(now: float, folder: Path) -> Finding:
    """Check that there is a recent backup."""
    way_out = "run `contimg backup`; a pipeline that runs without --once makes one each day"
    damaged = list[str]()
    made = list_backups(folder, damaged.append)
    if damaged:
        return error("backup", damaged[0], "move it away")
    if not made:
        return warning("backup", f"none in {folder}", way_out)
    days = (now - made[0].made_unix) / 86400.0
    found = f"{made[0].folder.name}, {days:.1f} days old, {len(made)} in all"
    return warning("backup", found, way_out) if days > OLDEST_BACKUP_DAYS else ok("backup", found)


def _absent(name: str) -> Finding:
    return ok(name, "not installed; optional")
