"""What comes in: groups by the start of their data, whatever the order; bad files by name; a cost that is new's."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, update
from tests import syscalls
from tests.pipeline.incoming_files import write_file, write_group

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_engine, get_session, ingest_queue, reset_engines
from dsa110_contimg.database.models import HDF5FileIndex, IngestQueue, SubbandFile
from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.formats import uvh5
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline import ingest
from dsa110_contimg.pipeline.entries import still_there
from dsa110_contimg.pipeline.ingest import Intake, bootstrap_directory, close_groups, offer_groups

SETTLED = ConversionOptions(settle_s=0.0)
GROUP, NEXT = "2026-01-25T00:00:10", "2026-01-25T00:05:19"


def groups() -> dict[str, list[int]]:
    """Return the subbands of each group in the queue."""
    found: dict[str, list[int]] = {}
    with get_session("ingest", read_only=True) as session:
        for row in session.scalars(select(SubbandFile).order_by(SubbandFile.group_id, SubbandFile.subband_idx)):
            found.setdefault(row.group_id, []).append(row.subband_idx)
    return found


def refused() -> dict[str, str]:
    with get_session("ingest", read_only=True) as session:
        return {Path(row.path).name: row.reason for row in ingest_queue.list_quarantine(session)}


def stored() -> dict[str, int | None]:
    with get_session("hdf5", read_only=True) as session:
        return {row.filename: row.stored for row in session.scalars(select(HDF5FileIndex))}


def set_state(group_id: str, state: str) -> None:
    with get_session("ingest") as session:
        session.execute(update(IngestQueue).where(IngestQueue.group_id == group_id).values(state=state))


@contextmanager
def statements(*names: str) -> Iterator[list[str]]:
    """Yield the statements that some databases execute in the block."""
    seen: list[str] = []

    def note(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    for name in names:
        event.listen(get_engine(name), "before_cursor_execute", note)
    yield seen
    for name in names:
        event.remove(get_engine(name), "before_cursor_execute", note)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two groups whose nodes disagree about the time by up to 40 s, a repeated subband, and half a second of jitter."""
    folder = tmp_path_factory.mktemp("pool")
    made = []
    for start in (GROUP, NEXT):
        for index in range(8):
            stamp = naming.group_id_of(40587.0 + (naming.stamp_unix(start) + 5.0 * index) / 86400.0)
            made.append(write_file(folder, stamp, index, naming.stamp_unix(start) + 0.3))
    return made


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(data=st.data())
def test_any_order_of_arrival_makes_the_same_groups(
    pool: list[Path], empty_databases: Path, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(pool))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(pool) - 1), max_size=3)))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as root:
        shutil.copytree(empty_databases, Path(root) / "state")
        patch.setenv("PIPELINE_ROOT", root)
        reset_engines()
        incoming = Path(root) / "incoming"
        incoming.mkdir()
        intake = Intake(incoming, SETTLED)
        for first, last in zip([0, *cuts], [*cuts, len(order)], strict=True):
            for path in order[first:last]:
                os.link(path, incoming / path.name)
            intake.scan()
        assert groups() == {GROUP: list(range(8)), NEXT: list(range(8))}
        reset_engines()


def test_a_scan_costs_what_is_new(house: Settings) -> None:
    write_group(house.incoming, GROUP)
    intake = Intake(house.incoming, SETTLED)
    assert len(intake.scan().recorded) == 16
    with statements("ingest", "hdf5") as idle:
        assert intake.scan() == ingest.ScanReport()
    assert idle == []
    write_group(house.incoming, NEXT, 1)
    with statements("ingest", "hdf5") as busy:
        assert len(intake.scan().recorded) == 1
    looks = [text for text in busy if text.startswith("SELECT")]
    assert looks
    assert all("WHERE" in text for text in looks), "a look at a whole table grows with the months"
    assert len(Intake(house.incoming, SETTLED).scan().known) == 17


def test_what_a_plan_of_the_database_says(house: Settings) -> None:
    """The looks of a scan and of an offer go by indexes."""
    write_group(house.incoming, GROUP)
    with statements("ingest", "hdf5") as seen:
        bootstrap_directory(house.incoming, SETTLED)
        bootstrap_directory(house.incoming, SETTLED)
        offer_groups(SETTLED, time.time())
    for name in ("ingest", "hdf5"):
        with get_session(name) as session:
            tables = ("ingest_queue", "subband_files", "quarantine") if name == "ingest" else ("hdf5_file_index",)
            for text in {text for text in seen if text.startswith("SELECT") and f"FROM {tables[0]}" in text}:
                holes = text.count("?")
                plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", ("x",) * holes)
                steps = [str(row[3]) for row in plan]
                whole = [step for step in steps if step.startswith("SCAN") and "idx_hdf5_stored" not in step]
                assert whole == [], text


def test_the_telescopes_files_are_not_touched(house: Settings) -> None:
    paths = [*write_group(house.incoming, GROUP), house.incoming / f"{NEXT}_sb00.hdf5"]
    paths[-1].write_bytes(b"no data")
    before = {path: unread(path) for path in paths}
    house.incoming.chmod(0o555)
    times = house.incoming.stat().st_mtime_ns
    reason = syscalls.unavailable()
    if reason is None:
        traced = syscalls.trace(lambda: _scan_traced(house.incoming))
        assert traced.code == 0
        inside = [call for call in traced.calls if any(str(house.incoming) in path for path in call.paths)]
        assert any(call.name == "openat" for call in inside)
        reading = {"openat", "read", "pread64", "close", "fstat", "newfstatat", "stat", "lstat", "getdents64", "statx"}
        reading |= {"lseek", "readlink", "access", "ioctl", "mmap", "fcntl", "flock", "fstatfs", "statfs", "faccessat2"}
        assert {call.name for call in inside} <= reading
    report = bootstrap_directory(house.incoming, SETTLED)
    assert len(report.recorded) == 16 or len(report.known) == 17
    assert {path: unread(path) for path in paths} == before
    assert (house.incoming.stat().st_mtime_ns, sorted(house.incoming.iterdir())) == (times, sorted(paths))
    house.incoming.chmod(0o755)


def unread(path: Path) -> tuple[int, ...]:
    """Return all that is known about a file except when it was last read."""
    now = path.stat()
    return (now.st_mode, now.st_ino, now.st_nlink, now.st_uid, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _scan_traced(incoming: Path) -> None:
    syscalls.begin()
    bootstrap_directory(incoming, SETTLED)


def test_a_late_file_is_told_and_changes_nothing(house: Settings) -> None:
    write_group(house.incoming, GROUP, 15)
    intake = Intake(house.incoming, SETTLED)
    intake.scan()
    set_state(GROUP, "completed")
    late = write_file(house.incoming, GROUP, 15, naming.stamp_unix(GROUP))
    assert intake.scan().late == [late]
    assert intake.scan().late == []
    assert groups() == {GROUP: list(range(15))}
    assert Intake(house.incoming, SETTLED).scan().late == []


@pytest.mark.parametrize(("ends", "told"), [("completed", "late"), ("failed", "recorded")])
def test_a_file_that_comes_during_the_conversion_waits_for_its_end(house: Settings, ends: str, told: str) -> None:
    write_group(house.incoming, GROUP, 11)
    intake = Intake(house.incoming, SETTLED)
    intake.scan()
    set_state(GROUP, "in_progress")
    late = write_file(house.incoming, GROUP, 11, naming.stamp_unix(GROUP))
    assert intake.scan().unfinished == [late]
    assert groups() == {GROUP: list(range(11))}
    set_state(GROUP, ends)
    assert getattr(intake.scan(), told) == [late]
    with get_session("ingest", read_only=True) as session:
        state = session.get_one(IngestQueue, GROUP).state
    assert (len(groups()[GROUP]), state) == ((11, "completed") if ends == "completed" else (12, "collecting"))


def test_the_index_says_what_is_on_disk(house: Settings) -> None:
    paths = write_group(house.incoming, GROUP, 3)
    intake = Intake(house.incoming, SETTLED)
    intake.scan()
    content = paths[0].read_bytes()
    paths[0].unlink()
    intake.scan()
    assert stored() == {paths[0].name: 0, paths[1].name: 1, paths[2].name: 1}
    paths[1].unlink()
    Intake(house.incoming, SETTLED).scan()
    assert list(stored().values()) == [0, 0, 1], "another process sees it, too"
    paths[0].write_bytes(content)
    assert intake.scan().known == [paths[0]]
    assert stored()[paths[0].name] == 1
    assert groups() == {GROUP: [0, 1, 2]}


def test_a_file_that_goes_before_its_conversion_may_come_back(house: Settings) -> None:
    paths = write_group(house.incoming, GROUP, 12)
    intake = Intake(house.incoming, SETTLED)
    intake.scan()
    content = paths[4].read_bytes()
    paths[4].unlink()
    assert still_there(GROUP, paths) == [path for path in paths if path != paths[4]]
    assert (4 in groups()[GROUP], refused()) == (False, {})
    set_state(GROUP, "failed")
    paths[4].write_bytes(content)
    assert intake.scan([paths[4].name], whole=False).recorded == [paths[4]]
    assert groups()[GROUP] == list(range(12))


def test_a_folder_that_has_gone_is_no_files_fault(house: Settings) -> None:
    paths = write_group(house.incoming, GROUP, 12)
    intake = Intake(house.incoming, SETTLED)
    intake.scan()
    away = house.incoming.rename(house.incoming.with_name("unmounted"))
    with pytest.raises(ConfigurationError, match="does not exist"):
        intake.scan()
    with pytest.raises(ConfigurationError, match="is not there: mount it"):
        still_there(GROUP, paths)
    house.incoming.mkdir()
    intake.scan()
    assert set(stored().values()) == {0}, "an empty mount point looks like this"
    house.incoming.rmdir()
    away.rename(house.incoming)
    assert len(intake.scan().known) == 12
    assert (set(stored().values()), groups(), refused()) == ({1}, {GROUP: list(range(12))}, {})


def test_odd_names_and_kinds_are_refused_by_name_or_taken(house: Settings) -> None:
    good = write_file(house.incoming, GROUP, 0, naming.stamp_unix(GROUP))
    odd = good.rename(house.incoming / "a b\n%s;'\"ü\\.hdf5")
    (house.incoming / f"{GROUP}_sb01.hdf5").mkdir()
    (house.incoming / f"{GROUP}_sb02.hdf5").symlink_to(house.incoming / "nowhere")
    os.mkfifo(house.incoming / f"{GROUP}_sb03.hdf5")
    Path(os.fsdecode(os.fsencode(house.incoming) + b"/caf\xe9.hdf5")).write_bytes(b"x")
    (house.incoming / "loop.hdf5").symlink_to("loop.hdf5")
    intake = Intake(house.incoming, SETTLED)
    report = intake.scan()
    assert report.recorded == [odd]
    reasons = refused()
    assert "is a folder or a device" in reasons.pop(f"{GROUP}_sb01.hdf5")
    assert "is a folder or a device" in reasons.pop(f"{GROUP}_sb03.hdf5")
    assert "nothing is there" in reasons.pop("nowhere")
    assert "nothing is there" in reasons.pop("loop.hdf5")
    assert "not UTF-8" in reasons.pop("caf\\xe9.hdf5")
    assert reasons == {}
    assert (intake.scan(), len(Intake(house.incoming, SETTLED).scan().known)) == (ingest.ScanReport(), 6)
    write_file(house.stage.parent, GROUP, 2, naming.stamp_unix(GROUP)).rename(house.incoming / "nowhere")
    assert intake.scan().recorded == [house.incoming / f"{GROUP}_sb02.hdf5"]
    assert (groups(), "nowhere" in refused()) == ({GROUP: [0, 2]}, False)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    house: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(house.incoming, GROUP, 0, naming.stamp_unix(GROUP))
    read = uvh5.read_header

    def replaced(name: Path) -> uvh5.SubbandHeader:
        header = read(name)
        write_file(house.incoming, GROUP, 0, naming.stamp_unix(GROUP) + 300.0)
        return header

    intake = Intake(house.incoming, SETTLED)
    with monkeypatch.context() as patch:
        patch.setattr(uvh5, "read_header", replaced)
        assert intake.scan().unfinished == [path]
    assert groups() == {}
    assert intake.scan().recorded == [path]
    assert groups() == {"2026-01-25T00:05:10": [0]}, "the new file's data, not those that were read first"


def test_trouble_of_a_disk_refuses_no_file(house: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(house.incoming, GROUP, 0, naming.stamp_unix(GROUP))

    def broken(name: Path) -> uvh5.SubbandHeader:
        error = OSError(5, "Input/output error")
        raise BadInputError(f"{name} is not a readable HDF5 file: {error}") from error

    intake = Intake(house.incoming, SETTLED)
    with monkeypatch.context() as patch:
        patch.setattr(uvh5, "read_header", broken)
        assert intake.scan().unfinished == [path]
    assert refused() == {}
    assert intake.scan().recorded == [path]


def test_a_clock_that_steps_loses_no_file_and_no_group(house: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    path = house.incoming / f"{GROUP}_sb00.hdf5"
    path.write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 86400.0)
        assert bootstrap_directory(house.incoming, ConversionOptions(settle_s=60.0)).quarantined == [path]
    write_file(house.incoming, GROUP, 0, naming.stamp_unix(GROUP))
    os.utime(path, (now + 3600.0, now + 3600.0))
    assert bootstrap_directory(house.incoming, SETTLED).recorded == [path], "refused in a future that never came"
    assert offer_groups(SETTLED, now + 5.0) == []
    assert offer_groups(SETTLED, now - 7200.0) == [GROUP], "its last file is two hours ahead: it waited long enough"


def test_a_copy_with_a_date_in_the_future_is_judged(house: Settings) -> None:
    path = house.incoming / f"{GROUP}_sb00.hdf5"
    path.write_bytes(b"")
    os.utime(path, (time.time() + 86400.0, time.time() + 86400.0))
    assert bootstrap_directory(house.incoming, ConversionOptions(settle_s=60.0)).quarantined == [path]


def test_a_group_names_the_files_that_were_refused_near_its_stamp(house: Settings) -> None:
    write_group(house.incoming, GROUP, 3)
    for stamp in ("2026-01-25T00:01:05", NEXT):
        (house.incoming / f"{stamp}_sb07.hdf5").write_bytes(b"no data")
    bootstrap_directory(house.incoming, SETTLED)
    close_groups()
    with get_session("ingest", read_only=True) as session:
        near = ingest_queue.list_quarantine(session, GROUP, tolerance_s=SETTLED.group_tolerance_s)
        assert [Path(row.path).name for row in near] == ["2026-01-25T00:01:05_sb07.hdf5"]
        assert ingest_queue.list_quarantine(session, GROUP) == []
