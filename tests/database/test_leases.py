import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from dsa110_contimg.database import Job, JobState, create_all, get_session, leases, reset_engines
from dsa110_contimg.database.ownership import is_gone, this_process
from dsa110_contimg.errors import FencedError

JOB = "image:/stage/a.ms"


def job(session: Session) -> Job:
    return session.get_one(Job, JOB, populate_existing=True)


@pytest.fixture
def session(backend: str) -> Iterator[Session]:
    assert backend
    with get_session("products") as session:
        assert leases.ensure_job(session, "image", "/stage/a.ms", 5, now=1.0) == JOB
        yield session


def test_ensure_is_idempotent(session: Session) -> None:
    leases.claim_job(session, JOB, "me", 60.0, 10.0)
    assert leases.ensure_job(session, "image", "/stage/a.ms", 9, now=99.0) == JOB
    assert (job(session).state, job(session).priority, job(session).created_at) == ("running", 5, 1.0)


def test_the_normal_life_of_a_job(session: Session) -> None:
    assert leases.claim_job(session, JOB, "me", 60.0, 10.0) == 1
    assert leases.claim_job(session, JOB, "you", 60.0, 20.0) is None
    leases.heartbeat(session, JOB, 1, 60.0, 60.0)
    assert leases.claim_job(session, JOB, "you", 60.0, 110.0) is None
    leases.check_token(session, JOB, 1)
    leases.complete_job(session, JOB, 1, 115.0)
    assert (job(session).state, job(session).lease_expires_at) == ("completed", None)
    assert leases.claim_job(session, JOB, "you", 60.0, 1e9) is None
    with pytest.raises(FencedError):
        leases.complete_job(session, JOB, 1, 116.0)


def test_an_expired_lease_is_taken_over_and_the_old_owner_is_fenced(session: Session) -> None:
    assert leases.claim_job(session, JOB, "old", 60.0, 10.0) == 1
    assert leases.claim_job(session, JOB, "new", 60.0, 70.5) == 2
    overtaken: list[Callable[[], None]] = [
        lambda: leases.check_token(session, JOB, 1),
        lambda: leases.heartbeat(session, JOB, 1, 60.0, 71.0),
        lambda: leases.complete_job(session, JOB, 1, 71.0),
        lambda: fail(session, 1, "x", None, 71.0, retry=True),
        lambda: leases.postpone_job(session, JOB, 1, "x", None, 71.0),
    ]
    for late in overtaken:
        with pytest.raises(FencedError, match=r"attempt 1 of job image:/stage/a\.ms"):
            late()
    assert not leases.expire_lease(session, JOB, 1, 71.0)
    assert (job(session).state, job(session).owner, job(session).lease_expires_at) == ("running", "new", 130.5)
    leases.check_token(session, JOB, 2)
    assert leases.expire_lease(session, JOB, 2, 72.0)
    assert leases.claim_job(session, JOB, "third", 60.0, 72.0) == 3


def test_failures_waiting_and_reopening(session: Session) -> None:
    leases.claim_job(session, JOB, "me", 60.0, 10.0)
    fail(session, 1, "no memory", "last words", 11.0, retry=True)
    assert (job(session).state, job(session).error, job(session).log_tail) == ("pending", "no memory", "last words")
    assert leases.claim_job(session, JOB, "me", 60.0, 12.0) == 2
    leases.postpone_job(session, JOB, 2, "awaiting_transit", 500.0, 13.0)
    assert leases.claim_job(session, JOB, "me", 60.0, 499.0) is None
    assert leases.claim_job(session, JOB, "me", 60.0, 500.0) == 3
    leases.postpone_job(session, JOB, 3, "awaiting_transit", None, 501.0)
    assert leases.claim_job(session, JOB, "me", 60.0, 1e9) is None
    assert leases.wake_job(session, JOB, 502.0)
    assert leases.claim_job(session, JOB, "me", 60.0, 503.0) == 4
    fail(session, 4, "hopeless", None, 504.0, retry=False)
    assert leases.claim_job(session, JOB, "me", 60.0, 1e9) is None
    assert leases.reopen_job(session, JOB, 505.0)
    assert not leases.reopen_job(session, JOB, 505.0)
    assert leases.claim_job(session, JOB, "me", 60.0, 506.0) == 5
    assert [row.job_id for row in leases.list_jobs(session, state=JobState.RUNNING, subject="/stage/a.ms")] == [JOB]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["claim", "beat", "complete", "fail", "retry", "wait"]),
            st.integers(0, 2),
            st.integers(1, 40),
        ),
        max_size=25,
    )
)
def test_never_two_owners_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    """Three workers act in any order; only the newest attempt ever changes the row."""
    reset_engines()
    create_all("products", in_memory=True)
    now, tokens = 0.0, dict[int, int]()
    with get_session("products", in_memory=True) as session:
        leases.ensure_job(session, "image", "/stage/a.ms", now=0.0)
        for action, worker, wait in steps:
            now += wait
            before = job(session)
            held, newest, running = tokens.get(worker), before.attempt, before.state == "running"
            lease = before.lease_expires_at
            if action == "claim":
                token = leases.claim_job(session, JOB, str(worker), 50.0, now)
                assert (token is None) or token == newest + 1
                assert token is None or not running or (lease is not None and lease < now)
                if token is not None:
                    tokens[worker] = token
                continue
            try:
                if action == "beat":
                    leases.heartbeat(session, JOB, held or 0, 50.0, now)
                elif action == "complete":
                    leases.complete_job(session, JOB, held or 0, now)
                elif action == "wait":
                    leases.postpone_job(session, JOB, held or 0, "waits", now + 5.0, now)
                else:
                    fail(session, held or 0, "x", None, now, retry=action == "retry")
            except FencedError:
                assert held != newest or not running
            else:
                assert held == newest
                assert running


def test_a_process_that_is_gone_is_recognized() -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import dsa110_contimg.database.ownership as o; print(o.this_process(), flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    owner = child.stdout.readline().strip()
    assert not is_gone(owner)
    child.communicate("\n")
    assert is_gone(owner)
    assert not is_gone(this_process())
    assert not is_gone(None)
    assert not is_gone("another-machine:1:1")
    host, pid, start = this_process().rsplit(":", 2)
    assert pid == str(os.getpid())
    assert is_gone(f"{host}:{pid}:{int(start) + 1}"), "the same id, used again by a later process"


def fail(session: Session, attempt: int, error: str, tail: str | None, now: float, *, retry: bool) -> None:
    failure = leases.Failure(leases.FailureKind.ERROR, for_good=not retry)
    leases.fail_job(session, JOB, attempt, failure, error=error, log_tail=tail, now=now)
