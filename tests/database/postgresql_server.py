"""A PostgreSQL server of the tests' own, from the installed package: started once per worker, gone with it.

It listens on a socket in a temporary folder only. As root it runs as the user postgres, since PostgreSQL refuses
root. It ends when its standard input does: also when the tests are killed.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from dsa110_contimg.config import DATABASES

UNTIL_STDIN_ENDS = '"$@" & child=$!; read -r _; kill -INT $child; wait $child'
FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=16MB", "max_connections=30")


def find_programs() -> Path | None:
    """Return the folder of initdb and postgres, or None where they are not installed."""
    linked = shutil.which("initdb")
    folders = [Path(linked).resolve().parent] if linked else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Server:
    """A running server."""

    def __init__(self, folder: Path, programs: Path, owner: str) -> None:
        self.folder, self._programs, self._owner = folder, programs, owner
        self._numbers, self._process = itertools.count(), self._begin()

    def _begin(self) -> "subprocess.Popen[bytes]":
        options = [part for setting in FAST for part in ("-c", setting)]
        data = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-c", "listen_addresses="]
        command = ["sh", "-c", UNTIL_STDIN_ENDS, "sh", str(self._programs / "postgres"), *data, *options]
        environment = {"PATH": os.defpath}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                user=self._owner,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 60.0
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def end(self) -> None:
        """Let it end, and wait until it has."""
        self._process.communicate(timeout=60)

    def crash(self) -> None:
        """End it at once, whatever its clients are doing; what they committed is there after `start`."""
        stop = [str(self._programs / "pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop"]
        subprocess.run(stop, user=self._owner, cwd=self.folder, check=True, capture_output=True)
        self.end()

    def start(self) -> None:
        """Start it again."""
        self._process = self._begin()
        self.wait()

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """Return a connection that commits each statement."""
        return psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True)

    def create(self) -> str:
        """Make a database and return its name."""
        name = f"house_{next(self._numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def clear(self, database: str) -> None:
        """Remove every row, and what `Registry.refuse` made: much faster than a database for each test."""
        with self.connect(database) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("SET lock_timeout = '10s'")
            tables = (
                "SELECT 'DELETE FROM ' || schemaname || '.' || tablename FROM pg_tables"
                " WHERE schemaname = ANY(%s) AND tablename <> 'alembic_version'"
            )
            sequences = "SELECT 'ALTER SEQUENCE ' || schemaname || '.' || sequencename || ' RESTART' FROM pg_sequences"
            deletes = connection.execute(tables, (list(DATABASES),)).fetchall()
            restarts = connection.execute(f"{sequences} WHERE last_value IS NOT NULL".encode()).fetchall()
            statements = [str(row[0]) for row in deletes + restarts]
            statements.append("DROP FUNCTION IF EXISTS data_registry.refuse CASCADE")
            connection.execute(";".join(statements).encode())

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())


@contextmanager
def running(programs: Path) -> Iterator[Server]:
    """Run a server in a temporary folder."""
    owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="contimg-postgresql-"))
    shutil.chown(folder, owner)
    data = folder / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run([*initdb, "--locale=C"], user=owner, cwd=folder, check=True, capture_output=True)
    (data / "pg_hba.conf").write_text("local all guest scram-sha-256\nlocal all all trust\n")
    server = Server(folder, programs, owner)
    try:
        server.wait()
        yield server
    finally:
        server.end()
        shutil.rmtree(folder)
