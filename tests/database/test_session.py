import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dsa110_contimg.config import DATABASES
from dsa110_contimg.database import (
    Image,
    MSIndex,
    create_all,
    get_engine,
    get_scoped_session,
    get_session,
    init_databases,
    reset_engines,
)
from dsa110_contimg.database.models import ProductsBase
from dsa110_contimg.database.session import database_path
from dsa110_contimg.errors import ConfigurationError


def test_settings_of_a_connection(house: Path) -> None:
    with get_session("products") as session:
        values = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous", "query_only")
        }
    assert values == {
        "journal_mode": "wal",
        "busy_timeout": 30000,
        "foreign_keys": 1,
        "synchronous": 2,
        "query_only": 0,
    }
    assert database_path("master_sources") == house / "state" / "catalogs" / "master_sources.sqlite3"


def test_commit_rollback_and_objects_that_outlive_the_session(house: Path) -> None:
    assert house.exists()
    with get_session("products") as session:
        session.add(MSIndex(path="/a.ms"))
        session.add(Image(path="/a.fits", ms_path="/a.ms", type="dirty"))
        session.commit()
        session.add(MSIndex(path="/b.ms"))
    with pytest.raises(RuntimeError, match="stop"), get_session("products") as session:
        session.add(MSIndex(path="/c.ms"))
        session.flush()
        raise RuntimeError("stop")
    with get_session("products", read_only=True) as session:
        paths = [row.path for row in session.query(MSIndex).order_by(MSIndex.path)]
        image = session.query(Image).filter_by(type="dirty").one()
    assert paths == ["/a.ms", "/b.ms"]
    assert (image.format, image.pbcor, image.ms_path) == ("fits", 0, "/a.ms")


def test_foreign_keys_hold_in_files_only(house: Path) -> None:
    assert house.exists()
    with pytest.raises(IntegrityError), get_session("products") as session:
        session.add(Image(path="/x.fits", ms_path="/none.ms", type="image"))
    # As printed in S3.
    engine = get_engine("products", in_memory=True)
    ProductsBase.metadata.create_all(engine)
    with get_session("products", in_memory=True) as session:
        session.add(Image(path="/test.fits", ms_path="/test.ms", type="dirty"))
        session.commit()
        result = session.query(Image).first()
        assert result is not None
        assert result.path == "/test.fits"
    reset_engines()
    create_all("products", in_memory=True)
    with get_session("products", in_memory=True) as session:
        assert session.query(Image).count() == 0


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_read_only_session_refuses_to_write(house: Path, in_memory: bool) -> None:
    assert house.exists()
    create_all("products", in_memory)
    with (
        pytest.raises(ConfigurationError, match="was opened to be read only: open it without read_only to write"),
        get_session("products", read_only=True, in_memory=in_memory) as session,
    ):
        session.add(MSIndex(path="/a.ms"))
        session.flush()
    with get_session("products", in_memory=in_memory) as session:
        session.add(MSIndex(path="/a.ms"))


def test_another_root_means_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / name))
        assert all(Path(file).is_relative_to(tmp_path / name) for file in init_databases())
        with get_session("products") as session:
            assert session.query(MSIndex).count() == 0
            session.add(MSIndex(path="/a.ms"))
    own = tmp_path / "own.sqlite3"
    monkeypatch.setenv("PIPELINE_PRODUCTS_DB", str(own))
    assert create_all("products") == str(own)
    assert own.exists()
    reset_engines()


def test_scoped_sessions_are_per_thread(house: Path) -> None:
    assert house.exists()
    factory = get_scoped_session("products")
    assert get_scoped_session("products") is factory
    seen = []

    def work(name: str) -> None:
        session = factory()
        session.add(MSIndex(path=name))
        session.commit()
        seen.append(session)
        factory.remove()

    threads = [threading.Thread(target=work, args=(f"/{i}.ms",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(session) for session in seen}) == 4
    with get_session("products") as session:
        assert session.query(MSIndex).count() == 4


def test_failures_are_sentences(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no database 'nothing'"):
        get_engine("nothing")
    with (
        pytest.raises(ConfigurationError, match=r"products\.sqlite3 does not exist: run `contimg init`"),
        get_session("products"),
    ):
        pass
    path = Path(create_all("products"))
    path.write_bytes(b"this is not a database, and long enough to be read as one" * 20)
    with pytest.raises(ConfigurationError, match="is not a SQLite database"), get_session("products") as session:
        session.query(MSIndex).all()
    with pytest.raises(ConfigurationError, match="is not a SQLite database"):
        create_all("products")
    bare = root / "state" / "ingest.sqlite3"
    sqlite3.connect(bare).close()
    with pytest.raises(ConfigurationError, match=r"lacks tables"), get_session("ingest") as session:
        session.execute(text("SELECT * FROM ingest_queue"))
    (root / "file").write_text("")
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(root / "file" / "state"))
    with pytest.raises(ConfigurationError, match="cannot be made"):
        create_all("products")


def test_a_lock_that_is_held_too_long_is_a_sentence(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.exists()
    monkeypatch.setattr("dsa110_contimg.database.waiting.LOCK_TIMEOUT_S", 0.1)
    holder = sqlite3.connect(database_path("products"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigurationError, match="was locked for"), get_session("products") as session:
        session.add(MSIndex(path="/a.ms"))
    with get_session("products", read_only=True) as session:
        assert session.query(MSIndex).count() == 0
    holder.close()


@contextmanager
def without_rights() -> Iterator[None]:
    """Be a user who may read everything and write nothing of root's."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked_state(house: Path) -> Iterator[Path]:
    """The databases in a folder that cannot be written; one row is in them."""
    with get_session("products") as session:
        session.add(MSIndex(path="/a.ms"))
    state = house / "state"
    opened = [folder for folder in house.parents if folder.stat().st_mode & 0o5 != 0o5]
    modes = {folder: folder.stat().st_mode for folder in [*opened, house, state]}
    for folder in modes:
        folder.chmod(0o755)
    state.chmod(0o555)
    for path in state.glob("*.sqlite3"):
        path.chmod(0o444)
    yield state
    for folder, mode in modes.items():
        folder.chmod(mode)


def test_a_folder_that_cannot_be_written_can_be_read(locked_state: Path) -> None:
    before = sorted(locked_state.iterdir())
    with without_rights():
        with get_session("products", read_only=True) as session:
            assert session.query(MSIndex).one().path == "/a.ms"
        with pytest.raises(ConfigurationError, match="cannot be"), get_session("products") as session:
            session.add(MSIndex(path="/b.ms"))
    assert sorted(locked_state.iterdir()) == before


def test_a_log_beside_a_file_is_never_ignored(locked_state: Path) -> None:
    """What a killed writer left in the log is committed: without it the file alone would be an older truth."""
    log = locked_state / "products.sqlite3-wal"
    locked_state.chmod(0o755)
    log.write_bytes(b"frames of a killed writer")
    locked_state.chmod(0o555)
    with (
        without_rights(),
        pytest.raises(ConfigurationError, match="cannot be opened: check the folder's permissions"),
        get_session("products", read_only=True) as session,
    ):
        session.query(MSIndex).all()


@pytest.mark.parametrize("name", DATABASES)
def test_reading_makes_nothing(root: Path, name: str) -> None:
    (root / "state" / "catalogs").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="does not exist"), get_session(name, read_only=True):
        pass
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        get_engine(name, read_only=True).connect()
    assert not any(path.is_file() for path in root.rglob("*"))


def test_a_damaged_file_is_a_sentence(house: Path) -> None:
    with get_session("products") as session:
        session.add_all(MSIndex(path=f"/{number:05d}.ms", field_name="x" * 200) for number in range(2000))
    path = house / "state" / "products.sqlite3"
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(bytes(200_000))
    damaged = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is damaged: restore it"), get_session("products") as session:
        session.add(MSIndex(path="/b.ms"))
        assert session.query(MSIndex).order_by(MSIndex.field_name, MSIndex.path).all()
    assert path.read_bytes() == damaged


def test_paths_with_signs_that_an_address_would_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "what? 100% #1" / "products.sqlite3"
    monkeypatch.setenv("PIPELINE_PRODUCTS_DB", str(path))
    assert create_all("products") == str(path)
    with get_session("products", read_only=True) as session:
        assert session.query(MSIndex).count() == 0
    assert path.exists()
    reset_engines()
