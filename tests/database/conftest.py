import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dsa110_contimg.database import init_databases, reset_engines
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.product_paths import Roots


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


@pytest.fixture
def house(root: Path, empty_databases: Path) -> Path:
    """A PIPELINE_ROOT with all seven databases."""
    shutil.copytree(empty_databases, root / "state")
    return root


class Registry(NamedTuple):
    """A registry with its areas, and a way to put a product into staging."""

    root: Path
    conn: sqlite3.Connection
    roots: Roots
    add: Callable[..., Path]


def add_product(
    roots: Roots, conn: sqlite3.Connection, data_id: str, *, folder: bool = False, size: int = 5000
) -> Path:
    """Write a mosaic (a file, or a folder like a CASA image) and register it."""
    path = roots.stage / "mosaics" / f"{data_id}{'.image' if folder else '.fits'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        (path / "table").mkdir(parents=True)
        (path / "table" / "data.f0").write_bytes(bytes(size % 251 for size in range(size)))
        (path / "table.lock").write_bytes(b"")
        (path / "empty").mkdir()
    else:
        path.write_bytes(bytes(size % 241 for size in range(size)))
    register_data_instance(conn, "mosaic", data_id, path)
    return path


@pytest.fixture
def registry(root: Path) -> Iterator[Registry]:
    roots = Roots(root / "stage", root / "products")
    roots.stage.mkdir()
    conn = ensure_data_registry_db(root / "state" / "data_registry.sqlite3")

    def add(data_id: str = "m1", **how: int) -> Path:
        return add_product(roots, conn, data_id, **how)  # type: ignore[arg-type]

    yield Registry(root, conn, roots, add)
    conn.close()
