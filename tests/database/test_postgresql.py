"""What is particular to PostgreSQL; what both backends share is tested where it is, with the fixture `backend`."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError
from tests.database.postgresql_server import Server

from dsa110_contimg.config import DATABASES
from dsa110_contimg.database import Job, MSIndex, cli, get_session, leases, reset_engines
from dsa110_contimg.database.data_registry import register_data_instance
from dsa110_contimg.database.models import METADATA, DataProduct, MonitoringSource
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.errors import ConfigurationError, FencedError

pytestmark = pytest.mark.usefixtures("on_postgresql")


def address() -> str:
    return os.environ["PIPELINE_DATABASE_URL"]


def rows(name: str, query: str) -> list[tuple[object, ...]]:
    with get_session(name, read_only=True) as session:
        return [tuple(row) for row in session.execute(text(query))]


def test_one_schema_per_database() -> None:
    found = rows("products", "SELECT schemaname, count(*) FROM pg_tables GROUP BY 1 ORDER BY 1")
    ours = {
        str(schema): int(str(count)) for schema, count in found if schema not in ("pg_catalog", "information_schema")
    }
    assert set(ours) == set(DATABASES)
    assert all(ours[name] >= len(METADATA[name].tables) for name in DATABASES)
    views = {str(view) for (view,) in rows("products", "SELECT viewname FROM pg_views")}
    assert {"light_curves", "photometry_timeseries", "good_references", "final_references"} <= views


@pytest.mark.parametrize("name", DATABASES)
def test_settings_of_a_connection(name: str) -> None:
    settings = ("search_path", "timezone", "lock_timeout", "transaction_isolation", "transaction_read_only")
    found: dict[bool, list[object]] = {}
    for read_only in (False, True):
        with get_session(name, read_only=read_only) as session:
            found[read_only] = [session.scalar(text(f"SHOW {setting}")) for setting in settings]
    assert found[False] == [name, "UTC", "30s", "read committed", "off"]
    assert found[True] == [name, "UTC", "30s", "repeatable read", "on"]


def test_a_read_only_session_refuses_to_write_and_sees_one_moment() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"schema products was opened to be read only: open it without"),
        get_session("products", read_only=True) as session,
    ):
        session.add(MSIndex(path="/a.ms"))
        session.flush()
    with get_session("products", read_only=True) as reader:
        assert reader.query(MSIndex).count() == 0
        with get_session("products") as writer:
            writer.add(MSIndex(path="/a.ms"))
        assert reader.query(MSIndex).count() == 0, "it began before"
    assert rows("products", "SELECT path FROM ms_index") == [("/a.ms",)]


def test_nan_is_null_and_large_numbers_are_whole() -> None:
    with get_session("products") as session:
        session.add(MSIndex(path="/a.ms", mid_mjd=float("nan"), pointing_dec_deg=0.1 + 0.2))
    assert rows("products", "SELECT mid_mjd, pointing_dec_deg FROM ms_index") == [(None, 0.1 + 0.2)]
    with pytest.raises(IntegrityError), get_session("products") as session:
        session.add(MonitoringSource(source_id="s", ra_deg=float("nan"), dec_deg=1.0))
    with get_session("data_registry") as session:
        session.add(
            DataProduct(
                data_type="ms", data_id="m", base_path="/", stage_path="/m", created_at=1, staged_at=1, size_bytes=2**40
            )
        )
    assert rows("data_registry", "SELECT size_bytes FROM data_registry") == [(2**40,)]


def test_writers_take_turns() -> None:
    """Each adds what it has read to it: were two inside at once, a number would come twice."""

    def work() -> None:
        for _ in range(10):
            with get_session("products") as session:
                number = session.query(MSIndex).count()
                time.sleep(0.001)
                session.add(MSIndex(path=f"/{number}.ms"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows("products", "SELECT count(*) FROM ms_index") == [(40,)]


def test_an_attempt_that_shows_its_token_cannot_be_overtaken_before_it_commits() -> None:
    with get_session("products") as session:
        leases.ensure_job(session, "image", "a", now=1.0)
        assert leases.claim_job(session, "image:a", "old", 10.0, 10.0) == 1
    claimed: list[int | None] = []

    def overtake() -> None:
        with get_session("products") as session:
            claimed.append(leases.claim_job(session, "image:a", "new", 10.0, 99.0))

    thread = threading.Thread(target=overtake)
    with get_session("products") as session:
        leases.check_token(session, "image:a", 1)
        thread.start()
        time.sleep(0.3)
        leases.complete_job(session, "image:a", 1, 30.0)
    thread.join()
    assert claimed == [None], "it is completed"
    assert rows("products", "SELECT state, attempt FROM jobs") == [("completed", 1)]


def test_a_token_is_safe_from_programs_that_take_no_turns(on_postgresql: Server) -> None:
    with get_session("products") as session:
        leases.ensure_job(session, "image", "a", now=1.0)
        leases.claim_job(session, "image:a", "old", 10.0, 10.0)
    with on_postgresql.connect(make_url(address()).database or "") as other:
        other.execute("SET lock_timeout = '200ms'")
        with get_session("products") as session:
            leases.check_token(session, "image:a", 1)
            with pytest.raises(Exception, match="lock timeout"):
                other.execute("UPDATE products.jobs SET attempt = 2")
        other.execute("UPDATE products.jobs SET attempt = 2")
    with pytest.raises(FencedError), get_session("products") as session:
        leases.check_token(session, "image:a", 1)
    with get_session("products", read_only=True) as session:
        assert session.get_one(Job, "image:a").attempt == 2


def _hold(pipe: Pipe) -> None:
    with get_session("products") as session:
        session.add(MSIndex(path="/lost.ms"))
        session.flush()
        pipe.send("holds")
        signal.pause()


def test_a_killed_writer_holds_nobody_up() -> None:
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_hold, args=(theirs,))
    child.start()
    assert mine.poll(60)
    mine.recv()
    child.kill()
    child.join()
    with get_session("products") as session:
        session.add(MSIndex(path="/next.ms"))
    assert rows("products", "SELECT path FROM ms_index") == [("/next.ms",)]


def test_a_lock_that_is_held_too_long_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsa110_contimg.database.waiting.LOCK_TIMEOUT_S", 0.2)
    reset_engines()
    with get_session("products") as holder:
        holder.add(MSIndex(path="/a.ms"))
        holder.flush()
        with (
            pytest.raises(ConfigurationError, match="was locked for"),
            get_session("products") as session,
        ):
            session.add(MSIndex(path="/b.ms"))
        with get_session("ingest") as session:
            session.execute(text("DELETE FROM quarantine"))
    assert rows("products", "SELECT path FROM ms_index") == [("/a.ms",)]


def other_database(name: str) -> Callable[[str], str]:
    return lambda url: make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda url: url.partition("host=")[0] + "host=/nowhere", "cannot be reached: start the server, or check"),
        (lambda _: "postgresql://ana:secret@127.0.0.1:1/house", "cannot be reached: start the server, or check"),
        (lambda url: url.replace("postgres@", "guest:wrong@"), "does not accept this user or password: check PIPELINE"),
        (lambda url: url.replace("postgres@", "nobody@"), "does not accept this user or password: check PIPELINE"),
        (other_database("none"), "does not exist on the server: create it there"),
        (other_database("template1"), "lacks tables of this version: run `contimg init`"),
        (lambda _: "sqlite:///products.sqlite3", "is no address of a PostgreSQL server: write postgresql"),
        (lambda _: "localhost", "is no address of a PostgreSQL server: write postgresql"),
    ],
)
def test_failures_are_sentences(change: Callable[[str], str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATABASE_URL", change(address()))
    with (
        pytest.raises(ConfigurationError, match=sentence) as told,
        get_session("products", read_only=True) as session,
    ):
        session.query(MSIndex).all()
    assert "secret" not in str(told.value)
    assert "wrong" not in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(ConfigurationError, match=sentence), open_registry() as conn:
        register_data_instance(conn, "mosaic", "m1", "/m1.fits")


def test_installing_at_once_from_two_places(on_postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name = on_postgresql.create()
    monkeypatch.setenv("PIPELINE_DATABASE_URL", on_postgresql.url(name))
    command = [sys.executable, "-c", "from dsa110_contimg.database import init_databases as i; print(*i(), sep='\\n')"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    for out, _ in told:
        where = out.splitlines()
        assert all(line.endswith(f"schema {schema}") for line, schema in zip(where, DATABASES, strict=True))
    assert rows("products", "SELECT count(*) FROM jobs") == [(0,)]
    reset_engines()
    on_postgresql.drop(name)


def test_the_registry_command_reads_the_server(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "stage" / "mosaics" / "m1.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SIMPLE")
    with open_registry() as conn:
        register_data_instance(conn, "mosaic", "m1", path)
    assert cli.main(["publish", "--data-id", "m1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["published_path"]).read_bytes() == b"SIMPLE"
    assert not list(root.rglob("*.sqlite3"))
