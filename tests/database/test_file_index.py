"""The index of every file ever seen, and the queue's doors, on both kinds of database."""

import pytest

from dsa110_contimg.database import file_index, get_session
from dsa110_contimg.database import ingest_queue as queue
from dsa110_contimg.database.upserts import Value

pytestmark = pytest.mark.usefixtures("backend")
GROUP = "2025-01-15T12:30:00"


def row(path: str) -> dict[str, Value]:
    name = path.rpartition("/")[2]
    return {
        "path": path,
        "filename": name,
        "group_id": GROUP,
        "subband_code": "sb00",
        "timestamp_iso": GROUP,
        "timestamp_mjd": 60690.5,
        "stored": 1,
    }


def test_files_go_and_come_back() -> None:
    inside, outside = ["/in/a.hdf5", "/in/b.hdf5"], ["/in/below/c.hdf5", "/IN/d.hdf5", "/in_/e.hdf5", "/in%/f.hdf5"]
    with get_session("hdf5") as session:
        file_index.enter(session, [row(path) for path in [*inside, *outside]])
        assert sorted(file_index.list_stored(session, "/in")) == inside
        assert list(file_index.list_stored(session, "/in_")) == ["/in_/e.hdf5"]
        file_index.set_stored(session, inside[:1], stored=False)
        assert list(file_index.list_stored(session, "/in")) == inside[1:]
        assert file_index.find_stored(session, [*inside, "/in/unknown.hdf5"]) == dict(
            zip(inside, (False, True), strict=True)
        )
        file_index.enter(session, [row(inside[0])])
        assert sorted(file_index.list_stored(session, "/in")) == inside


def record(path: str, idx: int) -> str:
    with get_session("ingest") as session:
        return queue.record_subband(session, group_id=GROUP, subband_idx=idx, path=path, file_size=1, now=1.0)


def test_a_group_takes_files_until_it_is_claimed() -> None:
    assert record("/in/a.hdf5", 0) == "recorded"
    with get_session("ingest") as session:
        queue.mark_pending(session, GROUP)
    assert record("/in/b.hdf5", 1) == "recorded"
    with get_session("ingest") as session:
        assert queue.count_subbands(session, "pending") == {GROUP: 2}
        assert queue.count_subbands(session, "collecting") == {}
        queue.claim_group(session, GROUP)
    assert (record("/in/c.hdf5", 2), record("/in/a.hdf5", 0)) == ("deferred", "known")
    with get_session("ingest") as session:
        queue.finish_group(session, GROUP)
    assert (record("/in/c.hdf5", 2), record("/in/b.hdf5", 1)) == ("late", "known")
    with get_session("ingest") as session:
        assert queue.count_subbands(session, "completed") == {GROUP: 2}
        assert queue.forget_file(session, "/in/a.hdf5")
        assert not queue.forget_file(session, "/in/a.hdf5")


def test_refused_files_are_found_by_their_stamp() -> None:
    with get_session("ingest") as session:
        for number, stamp in enumerate(["2025-01-15T12:28:59", "2025-01-15T12:29:00", "2025-01-15T12:31:00", None]):
            queue.quarantine_file(session, f"/in/{number}.hdf5", "truncated", stamp, now=1.0)
        near = queue.list_quarantine(session, GROUP, tolerance_s=60.0)
        assert [one.path for one in near] == ["/in/1.hdf5", "/in/2.hdf5"]
