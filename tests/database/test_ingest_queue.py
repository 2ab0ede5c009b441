import logging

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dsa110_contimg.database import IngestQueue, get_session
from dsa110_contimg.database import ingest_queue as queue
from dsa110_contimg.database.models import PerformanceMetrics

pytestmark = pytest.mark.usefixtures("backend")
GROUP = "2025-01-15T12:30:00"


def record(path: str, idx: int = 0, group: str = GROUP, now: float = 100.0) -> str:
    with get_session("ingest") as session:
        return queue.record_subband(session, group_id=group, subband_idx=idx, path=path, file_size=10, now=now)


def state() -> str:
    with get_session("ingest", read_only=True) as session:
        return session.get_one(IngestQueue, GROUP).state


def test_first_file_is_kept_and_a_second_one_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert record("/in/a_sb00.hdf5") == "recorded"
    assert record("/in/a_sb00.hdf5", now=150.0) == "known"
    with caplog.at_level(logging.WARNING):
        assert record("/in/b_sb00.hdf5") == "repeated"
    assert "/in/b_sb00.hdf5" in caplog.text
    # The same file, once its header told its true group.
    assert record("/in/a_sb00.hdf5", group="2025-01-15T12:30:01") == "known"
    assert record("/in/a_sb01.hdf5", 1, now=200.0) == "recorded"
    with get_session("ingest", read_only=True) as session:
        assert [row.file_path for row in queue.list_subbands(session, GROUP)] == ["/in/a_sb00.hdf5", "/in/a_sb01.hdf5"]
        row = session.get_one(IngestQueue, GROUP)
        assert (row.state, row.received_at, row.last_update, row.expected_subbands) == ("collecting", 100.0, 200.0, 16)
        paths = [f"/in/{name}_sb0{index}.hdf5" for name in "ab" for index in (0, 1)]
        assert queue.find_settled(session, paths) == ({"/in/a_sb00.hdf5", "/in/a_sb01.hdf5"}, {})
        assert queue.find_settled(session, paths[2:]) == (set(), {})


def test_the_normal_life_of_a_group() -> None:
    record("/in/a.hdf5")
    with get_session("ingest") as session:
        assert not queue.claim_group(session, GROUP)
        assert queue.mark_pending(session, GROUP)
        assert not queue.mark_pending(session, GROUP)
        assert [row.group_id for row in queue.list_groups(session, "pending")] == [GROUP]
        assert queue.claim_group(session, GROUP, now=300.0)
        assert not queue.claim_group(session, GROUP)
        assert [row.last_update for row in queue.list_groups(session, "processing")] == [300.0]
        assert queue.finish_group(session, GROUP)
        assert not queue.fail_group(session, GROUP, "too late")
    assert state() == "completed"


def test_failure_is_explained_and_may_be_retried() -> None:
    record("/in/a.hdf5")
    with get_session("ingest") as session:
        queue.mark_pending(session, GROUP)
        queue.claim_group(session, GROUP)
        assert queue.fail_group(session, GROUP, "frequencies contradict each other")
        row = session.get_one(IngestQueue, GROUP, populate_existing=True)
        assert (row.state, row.error_message) == ("failed", "frequencies contradict each other")
        assert queue.release_group(session, GROUP)
        row = session.get_one(IngestQueue, GROUP, populate_existing=True)
        assert (row.state, row.error_message, row.retry_count) == ("pending", None, 1)


def test_processing_means_in_progress_and_nonsense_is_refused() -> None:
    with get_session("ingest") as session:
        session.add(IngestQueue(group_id=GROUP, state="processing", received_at=1.0, last_update=1.0))
    assert state() == "in_progress"
    with pytest.raises(IntegrityError), get_session("ingest") as session:
        session.execute(text("UPDATE ingest_queue SET state = 'nonsense'"))
    with pytest.raises(IntegrityError), get_session("ingest") as session:
        session.add(PerformanceMetrics(group_id="none", recorded_at=1.0))


def test_a_quarantined_file_leaves_its_place_to_a_good_copy() -> None:
    record("/in/bad.hdf5", 3)
    with get_session("ingest") as session:
        queue.quarantine_file(session, "/in/bad.hdf5", "truncated: 10 of 145348600 bytes", GROUP, now=5.0)
        queue.quarantine_file(session, "/in/bad.hdf5", "times near MJD 55000", GROUP, now=9.0)
    assert record("/in/bad.hdf5", 3) == "quarantined"
    assert record("/in/good.hdf5", 3) == "recorded"
    with get_session("ingest") as session:
        (row,) = queue.list_quarantine(session, GROUP)
        assert (row.reason, row.quarantined_at) == ("times near MJD 55000", 9.0)
        settled = queue.find_settled(session, ["/in/bad.hdf5", "/in/good.hdf5", "/in/other.hdf5"])
        assert settled == ({"/in/good.hdf5"}, {"/in/bad.hdf5": 9.0})
        assert queue.release_file(session, "/in/bad.hdf5")
        assert not queue.release_file(session, "/in/bad.hdf5")
    assert record("/in/bad.hdf5", 3) == "repeated"
