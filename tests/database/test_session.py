import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

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
        pytest.raises(OperationalError, match="readonly"),
        get_session("products", read_only=True, in_memory=in_memory) as session,
    ):
        session.add(MSIndex(path="/a.ms"))
        session.flush()
    with get_session("products", in_memory=in_memory) as session:
        session.add(MSIndex(path="/a.ms"))


def test_another_root_means_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / name))
        assert all(path.is_relative_to(tmp_path / name) for path in init_databases())
        with get_session("products") as session:
            assert session.query(MSIndex).count() == 0
            session.add(MSIndex(path="/a.ms"))
    own = tmp_path / "own.sqlite3"
    monkeypatch.setenv("PIPELINE_PRODUCTS_DB", str(own))
    assert create_all("products") == own
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
    path = create_all("products")
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
    monkeypatch.setattr("dsa110_contimg.database.session.LOCK_TIMEOUT_S", 0.1)
    holder = sqlite3.connect(database_path("products"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigurationError, match="was locked for"), get_session("products") as session:
        session.add(MSIndex(path="/a.ms"))
    with get_session("products", read_only=True) as session:
        assert session.query(MSIndex).count() == 0
    holder.close()
