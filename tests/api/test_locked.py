"""A database that another process has locked: whoever asks is told so, within seconds."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from fastapi.testclient import TestClient

from dsa110_contimg.database.models import Role
from dsa110_contimg.database.session import database_path, reset_engines
from dsa110_contimg.database.waiting import in_a_hurry, lock_wait_s

AT_MOST_S = 5.0
QUESTIONS = [
    ("products", "/api/v1/sources"), ("products", "/api/v1/images"), ("products", "/vo/cone?RA=0&DEC=37&SR=1"),
    ("products", "/vo/sia2/query?POS=CIRCLE 0 37 1"), ("data_registry", "/api/v1/data-registry"),
    ("data_registry", "/api/v1/mosaics"), ("ingest", "/api/v1/queue"), ("hdf5", "/api/v1/hdf5/inventory"),
    ("cal_registry", "/api/v1/caltables"),
]  # fmt: skip


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let another process, as it seems, change a database in a way that keeps even readers out."""
    reset_engines()
    with closing(sqlite3.connect(database_path(name), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE being_migrated (x)")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_a_question_to_a_locked_database_is_answered_soon(surveyed: TestClient, name: str, question: str) -> None:
    with locked(name):
        begun = time.monotonic()
        answer = surveyed.get(question)
        took = time.monotonic() - begun
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "locked" in answer.json()["detail"]
    assert answer.headers["retry-after"]
    assert took < AT_MOST_S
    assert surveyed.get(question).status_code == 200


@pytest.mark.parametrize("page", ["/", "/health", "/sources"])
def test_a_page_of_many_parts_waits_once(surveyed: TestClient, page: str) -> None:
    with locked("products"):
        begun = time.monotonic()
        answer = surveyed.get(page, headers={"Accept": "text/html"})
        took = time.monotonic() - begun
    assert answer.status_code in {200, 503}
    assert "locked" in answer.text
    assert took < AT_MOST_S


def test_a_token_is_known_while_its_database_cannot_be_written(
    surveyed: TestClient, bearer: Callable[[Role], dict[str, str]]
) -> None:
    header = bearer(Role.ADMIN)
    with closing(sqlite3.connect(database_path("data_registry"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert surveyed.get("/api/v1/audit", headers=header).status_code == 200
        assert time.monotonic() - begun < AT_MOST_S
        other.execute("ROLLBACK")


def test_work_waits_longer_than_a_question() -> None:
    assert lock_wait_s() == 30.0
    with in_a_hurry(1.0):
        assert 0.5 < lock_wait_s() <= 1.0
        with in_a_hurry(0.0):
            assert lock_wait_s() == 0.1
    assert lock_wait_s() == 30.0
