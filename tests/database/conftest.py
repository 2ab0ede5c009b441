import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.database import postgresql_server
from tests.database.postgresql_server import Server

from dsa110_contimg.database import init_databases, reset_engines
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.registry_rows import RegistryConnection, open_registry


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty PIPELINE_ROOT."""
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    yield tmp_path
    reset_engines()


@pytest.fixture(scope="session")
def empty_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a fresh installation, made once."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(folder))
        init_databases()
    reset_engines()
    return folder / "state"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    programs = postgresql_server.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql): its tests are left out")
    with postgresql_server.running(programs) as server:
        yield server


@pytest.fixture(scope="session")
def house_on_postgresql(postgresql: Server) -> str:
    """The name of a database that holds a fresh installation, made once."""
    name = postgresql.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_DATABASE_URL", postgresql.url(name))
        init_databases()
    reset_engines()
    return name


@pytest.fixture
def on_postgresql(postgresql: Server, house_on_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Fresh databases on a PostgreSQL server, configured."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", postgresql.url(house_on_postgresql))
    reset_engines()
    yield postgresql
    reset_engines()
    postgresql.clear(house_on_postgresql)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, house: Path) -> str:
    """Fresh databases, once as files and once on a PostgreSQL server."""
    assert house.exists()
    if request.param == "postgresql":
        request.getfixturevalue("on_postgresql")
    return str(request.param)


@pytest.fixture
def house(root: Path, empty_databases: Path) -> Path:
    """A PIPELINE_ROOT with all seven databases."""
    shutil.copytree(empty_databases, root / "state")
    return root


class Registry(NamedTuple):
    """A registry with its areas, and a way to put a product into staging."""

    root: Path
    conn: RegistryConnection
    roots: Roots

    def add(self, data_id: str = "m1", *, folder: bool = False, size: int = 5000) -> Path:
        """Write a mosaic (a file, or a folder like a CASA image) and register it."""
        path = self.roots.stage / "mosaics" / f"{data_id}{'.image' if folder else '.fits'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            (path / "table").mkdir(parents=True)
            (path / "table" / "data.f0").write_bytes(bytes(size % 251 for size in range(size)))
            (path / "table.lock").write_bytes(b"")
            (path / "empty").mkdir()
        else:
            path.write_bytes(bytes(size % 241 for size in range(size)))
        register_data_instance(self.conn, "mosaic", data_id, path)
        return path

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement as somebody else would type it, with ? for values, and commit."""
        if isinstance(self.conn, sqlite3.Connection):
            return [tuple(row) for row in self.conn.execute(statement, values)]
        with self.conn.begin():
            result = self.conn.exec_driver_sql(statement.replace("?", "%s"), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def refuse(self, event: str, message: str, condition: str = "1 = 1") -> None:
        """Let the database refuse INSERTs or UPDATEs that meet a condition, until `mend`."""
        if isinstance(self.conn, sqlite3.Connection):
            body = f"WHEN {condition} BEGIN SELECT RAISE(ABORT, '{message}'); END"
        else:
            self.sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$BEGIN RAISE EXCEPTION '{message}'; END$$"
            )
            body = f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
        self.sql(f"CREATE TRIGGER broken BEFORE {event} ON data_registry {body}")

    def mend(self) -> None:
        """Take back what `refuse` did."""
        plain = isinstance(self.conn, sqlite3.Connection)
        self.sql("DROP TRIGGER broken" if plain else "DROP FUNCTION refuse CASCADE")

    @property
    def idle(self) -> bool:
        """Whether no transaction was left open."""
        plain = isinstance(self.conn, sqlite3.Connection)
        return not (self.conn.in_transaction if plain else self.conn.in_transaction())  # type: ignore[operator]

    @property
    def file(self) -> sqlite3.Connection:
        """The connection of a registry that is a file."""
        assert isinstance(self.conn, sqlite3.Connection)
        return self.conn


@pytest.fixture
def registry_file(root: Path) -> Iterator[Registry]:
    """A registry in a file, on a plain connection."""
    (root / "stage").mkdir()
    conn = ensure_data_registry_db(root / "state" / "data_registry.sqlite3")
    yield Registry(root, conn, Roots(root / "stage", root / "products"))
    conn.close()


@pytest.fixture
def registry(root: Path, backend: str) -> Iterator[Registry]:
    """A registry in a file, and once more on a PostgreSQL server."""
    assert backend
    (root / "stage").mkdir()
    with open_registry() as conn:
        yield Registry(root, conn, Roots(root / "stage", root / "products"))
