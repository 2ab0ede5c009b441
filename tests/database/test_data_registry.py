"""The data registry's Python examples of S0, in their order, and the rules behind them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dsa110_contimg.database import Job, data_registration, data_registry, get_session
from dsa110_contimg.database.data_registration import (
    MAX_ATTEMPTS,
    finalize_data,
    publish_blockers,
    publish_data_instance,
    publish_ready,
    reset_failed,
    retry_failed,
    set_photometry_status,
    update_qa_status,
)
from dsa110_contimg.database.data_registry import (
    ensure_data_registry_db,
    get_data,
    link_data,
    list_data,
    list_links,
    register_data_instance,
)
from dsa110_contimg.errors import ConfigurationError, PublishError
from dsa110_contimg.pipeline.streaming_mosaic import submit_photometry_job

if TYPE_CHECKING:
    from tests.database.conftest import Registry

NEVER = 1e11
"""Later than any time that a failure waits for."""
READY = """
    SELECT data_id, stage_path FROM data_registry WHERE status='staging' AND auto_publish_enabled=1
    AND qa_status='passed' AND validation_status='validated' AND finalization_status='finalized'
    AND (photometry_status='completed' OR photometry_status IS NULL)
"""


def test_the_examples_in_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    stage_path = root / "stage" / "mosaics" / "mosaic_2025-11-18_12-00-00.fits"
    stage_path.parent.mkdir(parents=True)
    stage_path.write_bytes(b"SIMPLE")
    conn = ensure_data_registry_db(Path("state/data_registry.sqlite3"))
    register_data_instance(
        conn,
        data_type="mosaic",
        data_id="mosaic_2025-11-18_12-00-00",
        stage_path=str(stage_path),
        auto_publish=True,
    )
    row = get_data(conn, "mosaic_2025-11-18_12-00-00")
    assert (row.status, row.qa_status, row.validation_status, row.finalization_status) == (
        "staging",
        "pending",
        "pending",
        "pending",
    )
    update_qa_status(conn, data_id=row.data_id, qa_status="passed", validation_status="validated")
    conn.execute(
        "UPDATE data_registry SET photometry_status='running', photometry_job_id=? WHERE data_id=?", ("7", row.data_id)
    )
    finalize_data(conn, data_id=row.data_id, qa_status="passed", validation_status="validated")
    assert get_data(conn, row.data_id).status == "staging", "photometry still runs"
    conn.execute("UPDATE data_registry SET photometry_status='completed' WHERE data_id=?", (row.data_id,))
    other = sqlite3.connect("state/data_registry.sqlite3")
    other.row_factory = sqlite3.Row
    assert [found["data_id"] for found in other.execute(READY)] == [row.data_id]
    other.close()
    success = publish_data_instance(
        conn, data_id=row.data_id, published_dir=str(root / "products" / "mosaics"), mode="move"
    )
    assert success is True
    row = get_data(conn, row.data_id)
    assert row.published_path == str(root / "products" / "mosaics" / stage_path.name)
    assert Path(row.published_path).read_bytes() == b"SIMPLE"
    assert not stage_path.exists()
    conn.close()


def test_finalizing_publishes_by_itself(registry: Registry) -> None:
    registry.add()
    assert finalize_data(registry.conn, "m1", "passed", "validated", roots=registry.roots)
    assert get_data(registry.conn, "m1").status == "published"
    assert finalize_data(registry.conn, "m1", "failed", "invalid", roots=registry.roots), "it stays as it is"
    assert get_data(registry.conn, "m1").qa_status == "passed"
    with pytest.raises(PublishError, match="its QA can no longer change"):
        update_qa_status(registry.conn, "m1", "failed")
    update_qa_status(registry.conn, "m1", "passed", "validated")


@pytest.mark.parametrize(
    ("qa", "validation", "finalization", "status"),
    [
        ("warning", "validated", "finalized", "staging"),
        ("failed", "validated", "rejected", "staging"),
        ("passed", "invalid", "rejected", "staging"),
        ("running", "validated", "pending", "staging"),
        (None, None, "pending", "staging"),
    ],
)
def test_what_is_not_published(
    registry: Registry, qa: str | None, validation: str | None, finalization: str, status: str
) -> None:
    source = registry.add()
    assert not finalize_data(registry.conn, "m1", qa, validation, roots=registry.roots)
    row = get_data(registry.conn, "m1")
    assert (row.finalization_status, row.status) == (finalization, status)
    assert source.exists()


def test_without_auto_publish_a_person_publishes(registry: Registry) -> None:
    source = registry.add()
    registry.sql("UPDATE data_registry SET auto_publish_enabled = 0")
    assert not finalize_data(registry.conn, "m1", "passed", "validated", roots=registry.roots)
    assert get_data(registry.conn, "m1").status == "validated"
    assert source.exists()
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots)


def test_blockers_agree_with_the_printed_query(registry: Registry) -> None:
    registry.add()
    values = itertools.product(
        ("staging", "failed"),
        ("passed", "warning", None),
        ("validated", None),
        ("finalized", "pending"),
        (1, 0),
        (None, "completed", "running", "failed"),
    )
    allowed = 0
    for combination in values:
        registry.sql(
            "UPDATE data_registry SET status=?, qa_status=?, validation_status=?, finalization_status=?,"
            " auto_publish_enabled=?, photometry_status=?",
            *combination,
        )
        selected = registry.sql(READY)
        assert (publish_blockers(get_data(registry.conn, "m1")) == []) == bool(selected), combination
        allowed += bool(selected)
    assert allowed == 2
    assert len(publish_blockers(get_data(registry.conn, "m1"))) == 6


def test_registering_again(registry: Registry) -> None:
    path = registry.add()
    finalize_data(registry.conn, "m1", "passed", "validated", roots=registry.roots)
    before = get_data(registry.conn, "m1")
    assert register_data_instance(registry.conn, "mosaic", "m1", path) == "m1"
    assert get_data(registry.conn, "m1") == before, "a published product is not reset"
    with pytest.raises(PublishError, match="registered already"):
        register_data_instance(registry.conn, "mosaic", "m1", registry.roots.stage / "other.fits")
    with pytest.raises(PublishError, match="registered already"):
        register_data_instance(registry.conn, "image", "m1", path)
    for data_id in ("a/b", "..", "", "a\nb", "../x", "a..b"):
        with pytest.raises(PublishError, match="cannot be a product id"):
            register_data_instance(registry.conn, "mosaic", data_id, path)
    with pytest.raises(PublishError, match="no data type"):
        register_data_instance(registry.conn, "film", "m2", path)
    assert [row.data_id for row in list_data(registry.conn, status="published")] == ["m1"]
    assert list_data(registry.conn, data_type="image") == []


def test_statuses_are_checked(registry: Registry) -> None:
    registry.add()
    with pytest.raises(PublishError, match="'fine' is no QA status"):
        update_qa_status(registry.conn, "m1", "fine")
    with pytest.raises(PublishError, match="'fine' is no validation status"):
        update_qa_status(registry.conn, "m1", "passed", "fine")
    with pytest.raises(PublishError, match="'fine' is no photometry status"):
        set_photometry_status(registry.conn, "m1", "fine")
    with pytest.raises(PublishError, match="no product 'm9'"):
        update_qa_status(registry.conn, "m9", "passed")
    with pytest.raises(PublishError, match="no way to publish"):
        publish_data_instance(registry.conn, "m1", mode="auto", roots=registry.roots)
    registry.sql("UPDATE data_registry SET status = 'retracted'")
    with pytest.raises(PublishError, match="was retracted"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots)


def fail(registry: Registry, data_id: str = "m1") -> bytes:
    """Let a product that passed everything fail once, for its file is gone; return what the file held."""
    source = registry.add(data_id)
    content = source.read_bytes()
    source.unlink()
    assert not finalize_data(registry.conn, data_id, "passed", "validated", roots=registry.roots)
    row = get_data(registry.conn, data_id)
    assert (row.status, row.publish_attempts) == ("failed", 1)
    assert "does not exist" in (row.publish_error or "")
    return content


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures are wanted here."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.usefixtures("quiet")
def test_retries_stop_after_three(registry: Registry) -> None:
    content = fail(registry)
    source = Path(get_data(registry.conn, "m1").stage_path)
    assert retry_failed(registry.conn, roots=registry.roots) == {"m1": False}
    assert retry_failed(registry.conn, roots=registry.roots) == {"m1": False}
    assert get_data(registry.conn, "m1").publish_attempts == MAX_ATTEMPTS == 3
    assert retry_failed(registry.conn, roots=registry.roots) == {}
    assert publish_ready(registry.conn, now=NEVER, roots=registry.roots) == {}
    with pytest.raises(PublishError, match="does not exist"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots)
    assert get_data(registry.conn, "m1").publish_attempts == 4, "what a person tries counts too"
    source.write_bytes(content)
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots), "a person may go on"
    row = get_data(registry.conn, "m1")
    assert (row.publish_error, row.retry_at) == (None, None)


@pytest.mark.usefixtures("quiet")
def test_a_failure_is_tried_again_when_its_time_has_come(registry: Registry) -> None:
    start = time.time()
    content = fail(registry)
    waits = []
    for attempts in (1, 2):
        row = get_data(registry.conn, "m1")
        assert row.publish_attempts == attempts
        assert row.retry_at is not None
        waits.append(row.retry_at - start)
        assert publish_ready(registry.conn, now=row.retry_at - 0.001, roots=registry.roots) == {}, "not yet"
        assert get_data(registry.conn, "m1") == row
        if attempts == 1:
            assert publish_ready(registry.conn, now=row.retry_at, roots=registry.roots) == {"m1": False}
    assert waits[1] > waits[0] > 0.0, "each failure waits longer"
    Path(row.stage_path).write_bytes(content)
    assert publish_ready(registry.conn, now=row.retry_at, roots=registry.roots) == {"m1": True}
    row = get_data(registry.conn, "m1")
    assert (row.status, row.publish_error, row.retry_at) == ("published", None, None)
    assert row.noted["automatic"] is True
    assert publish_ready(registry.conn, now=NEVER, roots=registry.roots) == {}


@pytest.mark.usefixtures("quiet")
def test_all_that_is_ready_is_published_and_one_failure_stops_none(registry: Registry) -> None:
    fail(registry, "broken")
    for name in ("ready1", "ready2", "doubtful", "waiting"):
        registry.add(name)
        registry.sql(
            "UPDATE data_registry SET qa_status = ?, validation_status = 'validated', finalization_status = ?"
            " WHERE data_id = ?",
            *("warning" if name == "doubtful" else "passed", "pending" if name == "waiting" else "finalized", name),
        )
    outcome = publish_ready(registry.conn, now=NEVER, roots=registry.roots)
    assert outcome == {"broken": False, "ready1": True, "ready2": True}
    assert {row.data_id for row in list_data(registry.conn, status="staging")} == {"doubtful", "waiting"}


@pytest.mark.usefixtures("quiet")
def test_what_was_judged_anew_is_not_tried_again(registry: Registry) -> None:
    fail(registry)
    update_qa_status(registry.conn, "m1", "warning")
    before = get_data(registry.conn, "m1")
    assert publish_ready(registry.conn, now=NEVER, roots=registry.roots) == {}
    assert retry_failed(registry.conn, roots=registry.roots) == {}
    assert get_data(registry.conn, "m1") == before


@pytest.mark.usefixtures("quiet")
def test_what_a_person_asked_for_is_tried_again_as_it_was_asked_for(registry: Registry) -> None:
    source = registry.add()
    content = source.read_bytes()
    finalize_data(registry.conn, "m1", "warning", "validated", roots=registry.roots)
    source.unlink()
    folder = registry.roots.products / "mosaics" / "specials"
    with pytest.raises(PublishError, match="does not exist"):
        publish_data_instance(
            registry.conn, "m1", folder, "copy", roots=registry.roots, by="ana", reason="calibrator field"
        )
    source.write_bytes(content)
    assert publish_ready(registry.conn, now=NEVER, roots=registry.roots) == {"m1": True}
    row = get_data(registry.conn, "m1")
    assert (row.published_path, row.publish_mode) == (str(folder / "m1.fits"), "copy")
    assert (row.noted["by"], row.noted["reason"], row.noted["automatic"]) == ("ana", "calibrator field", False)
    assert source.read_bytes() == content


@pytest.mark.usefixtures("quiet")
def test_a_crashed_attempt_counts_when_it_is_taken_over(registry: Registry) -> None:
    registry.add()
    registry.sql("UPDATE data_registry SET status = 'publishing', attempt = 1, owner = 'elsewhere:1:1'")
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots)
    row = get_data(registry.conn, "m1")
    assert (row.status, row.publish_attempts, row.attempt) == ("published", 1, 2)


@pytest.mark.usefixtures("quiet")
def test_reset_is_that_of_the_specification(registry: Registry) -> None:
    content = fail(registry)
    before = get_data(registry.conn, "m1")
    reset_failed(registry.conn, "m1")
    row = get_data(registry.conn, "m1")
    forgotten = {"status": "staging", "publish_attempts": 0, "publish_error": None, "retry_at": None}
    assert row == dataclasses.replace(before, **forgotten)  # type: ignore[arg-type]
    for data_id, sentence in (("m1", "m1 is staging, not failed"), ("m9", "no product 'm9'")):
        with pytest.raises(PublishError, match=sentence):
            reset_failed(registry.conn, data_id)
    assert get_data(registry.conn, "m1") == row
    Path(row.stage_path).write_bytes(content)
    assert publish_ready(registry.conn, roots=registry.roots) == {"m1": True}


def test_both_modules_export_both_groups() -> None:
    shared = {
        "ensure_data_registry_db",
        "register_data_instance",
        "update_qa_status",
        "finalize_data",
        "publish_data_instance",
        "register_data",
        "trigger_auto_publish",
        "publish_data_manual",
        "register_pipeline_data",
        "register_mosaic_in_data_registry",
        "finalize_mosaic",
    }
    for module in (data_registry, data_registration):
        assert shared <= set(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    path.write_bytes(b"nothing that SQLite knows" * 100)
    with pytest.raises(ConfigurationError, match="is not a SQLite database"):
        ensure_data_registry_db(path)


@pytest.mark.parametrize("row_factory", [None, sqlite3.Row, lambda _cursor, row: {"data_id": row}])
@pytest.mark.parametrize("isolation_level", [None, "DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
def test_any_plain_connection_is_served(root: Path, isolation_level: str | None, row_factory: object) -> None:
    ensure_data_registry_db(root / "registry.sqlite3").close()
    conn = sqlite3.connect(root / "registry.sqlite3", isolation_level=isolation_level)  # type: ignore[arg-type]
    conn.row_factory = row_factory  # type: ignore[assignment]
    register_data_instance(conn, "mosaic", "m1", "/stage/m1.fits")
    conn.execute("UPDATE data_registry SET photometry_status = 'running'")
    assert get_data(conn, "m1").photometry_status == "running", "its own open transaction is seen"
    update_qa_status(conn, "m1", "passed")
    assert not conn.in_transaction
    conn.close()
    with closing(sqlite3.connect(root / "registry.sqlite3")) as other:
        found = other.execute("SELECT qa_status, photometry_status FROM data_registry").fetchall()
    assert found == [("passed", "running")]


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "autocommit"), reason="this sqlite3 has no `autocommit`")
@pytest.mark.parametrize("autocommit", [True, False])
def test_connections_with_autocommit_are_served(root: Path, autocommit: bool) -> None:
    ensure_data_registry_db(root / "registry.sqlite3").close()
    conn = sqlite3.connect(root / "registry.sqlite3")
    conn.autocommit = autocommit  # type: ignore[attr-defined,unused-ignore]
    register_data_instance(conn, "mosaic", "m1", "/stage/m1.fits")
    conn.execute("UPDATE data_registry SET photometry_status = 'running'")
    update_qa_status(conn, "m1", "passed")
    conn.commit()
    with closing(sqlite3.connect(root / "registry.sqlite3")) as other:
        found = other.execute("SELECT qa_status, photometry_status FROM data_registry").fetchall()
    conn.close()
    assert found == [("passed", "running")]


def test_bad_input_changes_nothing(registry: Registry) -> None:
    registry.add()
    before = list_data(registry.conn)
    for refused in (
        lambda: list_data(registry.conn, status="nowhere"),
        lambda: list_data(registry.conn, data_type="film"),
        lambda: get_data(registry.conn, "m9"),
        lambda: link_data(registry.conn, "m1", "m9", "supersedes"),
        lambda: set_photometry_status(registry.conn, "m9", "running"),
        lambda: finalize_data(registry.conn, "m9", "passed", "validated"),
        lambda: publish_data_instance(registry.conn, "m9"),
        lambda: submit_photometry_job("m9"),
    ):
        with pytest.raises(PublishError, match=r"'m9'|'nowhere' is no status|'film' is no data type") as told:
            refused()
        assert "\n" not in str(told.value)
    assert list_data(registry.conn) == before
    assert list_links(registry.conn, "m1") == []
    with get_session("products", read_only=True) as session:
        assert session.query(Job).count() == 0


def test_a_file_that_cannot_be_written_is_a_sentence(registry_file: Registry) -> None:
    registry_file.add()
    registry_file.sql("PRAGMA query_only = ON")
    with pytest.raises(ConfigurationError, match=r"registry\.sqlite3 cannot be written: check the permissions"):
        update_qa_status(registry_file.conn, "m1", "passed")
    assert get_data(registry_file.conn, "m1").qa_status == "pending"
    with closing(sqlite3.connect(":memory:")) as foreign, pytest.raises(ConfigurationError, match="lacks tables"):
        get_data(foreign, "m1")
