"""Backups of a PostgreSQL server, by its own tools.

`pg_dump` writes one file per schema, all from one exported snapshot: the seven databases of one moment. A dump is
verified by reading it back to its end with `pg_restore` and counting the rows of each table, which must be those
that the snapshot has. A schema is replaced in one transaction of `psql`: killed, it leaves the old one.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, text

from dsa110_contimg.config import child_environment, current_settings
from dsa110_contimg.database import server, session
from dsa110_contimg.database.explanations import explaining
from dsa110_contimg.database.standing import VERSION_TABLE
from dsa110_contimg.database.waiting import LOCK_TIMEOUT_S
from dsa110_contimg.errors import ConfigurationError

_PACKAGE = "install PostgreSQL's client programs (Debian's package postgresql-client), not older than the server"


@dataclass(frozen=True)
class Moment:
    """An open transaction, and the name by which other sessions see what it sees."""

    connection: Connection
    snapshot: str


@contextmanager
def one_moment() -> Iterator[Moment]:
    """Hold one state of all schemas until the block ends."""
    where = session.location("products")
    with explaining(where, "cannot be backed up"), session.get_engine("products", read_only=True).begin() as connection:
        yield Moment(connection, str(connection.scalar(text("SELECT pg_export_snapshot()"))))


def dump(moment: Moment, name: str, path: Path) -> None:
    """Write one schema to a file.

    Raises
    ------
    ConfigurationError
        If `pg_dump` is not installed or fails.
    """
    _run("pg_dump", "--format=custom", f"--schema={name}", f"--snapshot={moment.snapshot}", f"--file={path}", _dbname())


def count_rows(moment: Moment, name: str) -> dict[str, int]:
    """Return how many rows each table of a schema has in a moment."""
    query = text("SELECT tablename FROM pg_tables WHERE schemaname = :name ORDER BY tablename")
    tables = moment.connection.scalars(query, {"name": name}).all()
    return {
        table: int(moment.connection.scalar(text(f'SELECT count(*) FROM {name}."{table}"')) or 0) for table in tables
    }


def revision(moment: Moment, name: str) -> str | None:
    """Return the revision of a schema's tables in a moment."""
    found = moment.connection.scalar(text(f"SELECT version_num FROM {name}.{VERSION_TABLE}"))
    return None if found is None else str(found)


def verify(path: Path, rows: Mapping[str, int]) -> None:
    """Read a dump to its end and compare the rows of each table.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or holds other numbers of rows.
    """
    found: dict[str, int] = {}
    table = None
    with subprocess.Popen(
        [_program("pg_restore"), "--data-only", "--file=-", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if table is None and line.startswith(b"COPY "):
                table = line.split()[1].decode().partition(".")[2].strip('"')
                found[table] = 0
            elif line == b"\\.\n":
                table = None
            elif table is not None:
                found[table] += 1
        complaint = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise ConfigurationError(f"{path} is damaged ({_last_line(complaint)}): take another backup")
    if found != dict(rows):
        differing = sorted(key for key in {*found, *rows} if found.get(key) != rows.get(key))
        raise ConfigurationError(f"{path} does not hold the rows of {', '.join(differing)}: take another backup")


def restore(path: Path, name: str) -> None:
    """Make a schema what a dump of it holds, in one transaction.

    Raises
    ------
    ConfigurationError
        If the dump or the server refuses; the schema is unchanged then.
    """
    before = f"SET lock_timeout = '{LOCK_TIMEOUT_S:.0f}s'; DROP SCHEMA IF EXISTS {name} CASCADE;\n"
    with subprocess.Popen(
        [_program("pg_restore"), "--no-owner", "--file=-", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reader:
        statements, complaint = reader.communicate()
    if reader.returncode:
        raise ConfigurationError(f"{path} is damaged ({_last_line(complaint.decode())}): take another backup")
    quiet = ("--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
    _run("psql", *quiet, _dbname(), told=before.encode() + statements)


def program_version() -> str:
    """Return the version of `pg_dump`."""
    return _run("pg_dump", "--version").split()[2]


def _run(program: str, *arguments: str, told: bytes | None = None) -> str:
    password = _url().password
    done = subprocess.run(
        [_program(program), *arguments],
        input=told,
        capture_output=True,
        check=False,
        env=child_environment(**({"PGPASSWORD": str(password)} if password else {})),
    )
    if done.returncode:
        complaint = _last_line(done.stderr.decode(errors="replace"))
        raise ConfigurationError(f"{program} failed ({complaint}): check the server, or {_PACKAGE}")
    return done.stdout.decode()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(f"{name} is not installed, so a server cannot be backed up or restored: {_PACKAGE}")
    return found


def _url() -> URL:
    return server.parse_url(current_settings().database_url or "")


def _dbname() -> str:
    """Return the address as libpq writes it; the password goes through the environment, which `ps` does not show."""
    return f"--dbname={_url().set(drivername='postgresql', password=None).render_as_string()}"


def _last_line(complaint: str) -> str:
    lines = [line for line in complaint.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it gave no reason"
