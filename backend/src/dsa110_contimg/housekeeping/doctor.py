"""`contimg doctor`: everything that must be right around the pipeline, each with what was found and the way out.

A check is a small function of facts (a version, a list of mounts, two times) that returns a finding; reading the
facts is a step of its own, so that each check is shown a real defect in its test. Nothing is changed: what is
written to try a folder is removed again.
"""

import time
from collections.abc import Iterator

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import session
from dsa110_contimg.housekeeping import database_checks, installation, machine
from dsa110_contimg.housekeeping.findings import Finding, Grade


def examine(settings: Settings, *, now: float | None = None) -> Iterator[Finding]:
    """Yield every finding, the machine first."""
    moment = time.time() if now is None else now
    yield from _machine(settings, moment)
    yield from _installation(settings, moment)
    yield from _databases(settings, moment)


def is_fit(findings: list[Finding]) -> bool:
    """Return whether none of the findings is an error."""
    return all(finding.grade is not Grade.ERROR for finding in findings)


def _machine(settings: Settings, now: float) -> Iterator[Finding]:
    mounts = machine.list_mounts()
    folders = {"stage": settings.stage, "products": settings.products, "state": settings.state}
    folders |= {"incoming": settings.incoming, "backups": settings.backups}
    for name, folder in folders.items():
        yield machine.check_file_system(f"file system of {name}", folder, mounts)
    if not session.on_server():
        for path in sorted({session.database_path(name).parent for name in DATABASES}):
            yield machine.check_file_system("file system of databases", path, mounts, databases=True)
    for name in ("stage", "products"):
        yield machine.check_room(f"room in {name}", folders[name], settings.min_free_gb * 1e9, "PIPELINE_MIN_FREE_GB")
    yield machine.check_room("room in state", folders["state"], machine.STATE_FLOOR_BYTES)
    yield machine.check_reading("reading incoming", settings.incoming)
    for name in ("stage", "products", "state"):
        yield machine.check_writing(f"writing {name}", folders[name])
    yield machine.check_writing("writing backups", folders["backups"], made_by="contimg backup")
    newest = machine.newest_stamp_unix(settings.incoming)
    yield machine.check_clock(now, newest, database_checks.newest_row_unix(), synchronized=machine.is_synchronized())
    yield machine.check_memory(*machine.cores_and_memory())


def _installation(settings: Settings, now: float) -> Iterator[Finding]:
    yield installation.check_sqlite(*installation.sqlite_library(), on_server=session.on_server())
    yield installation.check_iers(now, *installation.iers_span())
    yield from installation.check_engines()
    yield installation.check_backup(now, settings.backups)


def _databases(settings: Settings, now: float) -> Iterator[Finding]:
    if session.on_server():
        server = list(database_checks.check_server())
        yield from server
        if not is_fit(server[:1]):
            return  # Each database would say the same.
    for name in DATABASES:
        yield database_checks.check_standing(name)
    yield database_checks.check_catalogue()
    yield database_checks.check_owners(settings, now)
    yield database_checks.check_leases(now)
