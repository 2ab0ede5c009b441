"""Bad days of a daemon: folders that go, disks that fill, workers that hang or die, files that are no files."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.database import postgresql_server
from tests.database.postgresql_server import Server
from tests.integration import snapshot
from tests.integration.bad_days import Day, mounted
from tests.integration.bad_days_daemon import OPTIONS, WAIT_S, told
from tests.integration.conftest import below
from tests.pipeline.incoming_files import write_file

from dsa110_contimg import naming
from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.pipeline.notices import read_notices
from dsa110_contimg.pipeline.runner import run
from dsa110_contimg.simulation import faults


def prepare(settings: Settings) -> None:
    """Make an installation that may run."""
    initialize(settings)
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("NVSS J000000.0+000000", 0.0, 0.0, 1.0, None)])


@pytest.fixture(scope="module")
def _day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    root = tmp_path_factory.mktemp("bad_days")
    (root / "state").mkdir()
    with mounted(root / "state", "-t", "tmpfs", "-o", "size=48m", "tmpfs"), below(root) as settings:
        prepare(settings)
        day = Day(settings, heed=True)
        day.start()
        yield day
        assert day.stop() == 0


@pytest.fixture
def day(_day: Day) -> Iterator[Day]:
    """The daemon of this module, at work."""
    with below(_day.root):
        yield _day
        _day.until(_day.is_at_work, "at work again")


def test_an_incoming_folder_that_goes_and_comes_back(day: Day) -> None:
    away = day.root / "away"
    in_hand, waiting, late = day.next_group(), day.next_group(), day.next_group()
    day.hold_in_hand(in_hand)
    day.deliver(waiting, range(13))
    day.until(lambda: len(day.subbands(waiting)) == 13, "recorded")
    day.settings.incoming.rename(away)
    day.deliver(waiting, range(13, 16), away)
    day.deliver(late, folder=away)
    day.until(lambda: day.says(f"incoming folder {day.settings.incoming} does not exist"), "told")
    day.release(in_hand)
    day.until(lambda: day.says("is not there: mount it"), "told why a job waits")
    time.sleep(WAIT_S)
    assert day.state(waiting) == "collecting", "what is not there cannot be waited for"
    away.rename(day.settings.incoming)
    day.until(lambda: day.is_done(in_hand, waiting, late), "converted")
    day.check_innocent(in_hand, waiting, late)
    assert [day.empty_subbands(group) for group in (in_hand, waiting, late)] == [set()] * 3
    assert "nothing new is taken until it is back" in day.log()
    assert "the incoming folder is back" in day.log()
    assert day.refused() == {}


@pytest.mark.slow
def test_a_mount_point_that_is_left_empty_and_mounted_again(day: Day) -> None:
    disk, incoming = day.root / "disk", str(day.settings.incoming)
    disk.mkdir(exist_ok=True)
    in_hand, waiting = day.next_group(), day.next_group()
    for path in day.settings.incoming.iterdir():
        path.unlink()
    with mounted(day.settings.incoming, "--bind", str(disk)) as done:
        if not done:
            pytest.skip("nothing can be mounted here")
        day.hold_in_hand(in_hand)
        day.deliver(waiting, range(13))
        day.until(lambda: len(day.subbands(waiting)) == 13, "recorded")
    day.deliver(waiting, range(13, 16), disk)
    day.until(lambda: day.says(f"incoming folder {incoming} is empty, but held files: mount"), "told")
    day.release(in_hand)
    day.until(lambda: day.says(f"{in_hand}, is empty: mount it"), "told why a job waits")
    time.sleep(WAIT_S)
    assert day.state(waiting) == "collecting"
    with mounted(day.settings.incoming, "--bind", str(disk)):
        day.until(lambda: day.is_done(in_hand, waiting), "converted")
    day.check_innocent(in_hand, waiting)
    assert [day.empty_subbands(group) for group in (in_hand, waiting)] == [set()] * 2
    assert day.refused() == {}


def test_files_that_are_no_subbands_and_some_that_become_one(day: Day) -> None:
    group = day.next_group()
    start = naming.stamp_unix(group)
    other = write_file(day.root, group, 1, start).read_bytes()
    growing, closed, repeated = day.file(group, 1), day.file(group, 5), day.file(group, 6)
    growing.write_bytes(other[:20000])
    day.deliver(group, range(6, 15))
    day.until(lambda: 6 in day.subbands(group), "recorded")
    faults.truncate(write_file(day.settings.incoming, group, 0, start))
    day.file(group, 2).touch()
    day.file(group, 3).mkdir()
    day.file(group, 4).symlink_to(day.file(group, 4).name)
    write_file(day.root, group, 5, start).rename(closed.with_suffix(".tmp")).chmod(0)
    closed.with_suffix(".tmp").rename(closed)
    (day.settings.incoming / "notes.hdf5").write_text("no data")
    strange = write_file(day.root, group, 15, start).rename(day.settings.incoming / "a strange name.hdf5")
    again = naming.subband_name(naming.group_id_of(day.mjd(group) + 1.0 / 86400.0), 6)
    write_file(day.root, group, 6, start + 0.2).rename(day.settings.incoming / again)
    for size in range(30000, len(other), 12000):
        time.sleep(0.3)
        growing.write_bytes(other[:size])
        assert 1 not in day.subbands(group), "a part of a file is no file"
    growing.write_bytes(other)
    bad = {day.file(group, number).name: number for number in (0, 2, 3, 4, 5)} | {"notes.hdf5": None}
    day.until(lambda: set(day.refused()) == set(bad), f"refused {sorted(bad)}")
    reasons = {number: day.seen()["quarantined"][str(day.settings.incoming / name)] for name, number in bad.items()}
    assert "is truncated" in reasons[0]
    assert "not a readable HDF5 file" in reasons[2]
    assert "is a folder or a device" in reasons[3]
    assert "nothing is there" in reasons[4]
    assert "Permission denied" in reasons[5]
    assert "not a readable HDF5 file" in reasons[None]
    closed.chmod(0o644)
    day.until(lambda: day.is_done(group), "converted")
    day.check_innocent(group)
    assert day.empty_subbands(group) == {0, 2, 3, 4}
    assert closed.name not in day.refused()
    assert f"{repeated.name}" in day.log()
    assert strange.exists()
    assert sorted(day.refused()) == sorted(name for name, number in bad.items() if number != 5)


def fill(folder: Path) -> Path:
    """Fill a disk, and return the file that does it."""
    filler = folder / "filler"
    with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 65536)
            file.flush()
    return filler


def test_a_disk_that_fills_in_the_middle_of_a_job_and_has_room_again(day: Day) -> None:
    in_hand, waiting = day.next_group(), day.next_group()
    with mounted(day.settings.stage, "-t", "tmpfs", "-o", "size=24m", "tmpfs") as done:
        if not done:
            pytest.skip("a small file system cannot be mounted here")
        day.hold_in_hand(in_hand, word="hold writing")
        filler = fill(day.settings.stage)
        day.until(lambda: day.says(f"are free below {day.settings.stage}, less than the floor"), "told")
        day.deliver(waiting)
        day.release(in_hand)
        day.until(lambda: (row := day.job(in_hand)) is not None and row.state == "pending", "given back")
        row = day.job(in_hand)
        assert row is not None
        assert (row.failures, row.deaths) == (0, None), "a full disk is no fault of a group"
        assert "are free below" in (row.error or "")
        assert "make room" in day.seen()["waiting"][row.job_id]
        assert [path.name for path in day.settings.stage.rglob("*.ms")] == []
        assert day.job(waiting) is None or not day.is_done(waiting)
        filler.unlink()
        day.until(lambda: day.is_done(in_hand, waiting), "converted")
        day.check_innocent(in_hand, waiting)
        assert [day.empty_subbands(group) for group in (in_hand, waiting)] == [set()] * 2
    assert "the run goes on" in day.log()


@pytest.mark.slow
def test_databases_on_a_disk_that_is_full_and_has_room_again(day: Day) -> None:
    if not day.settings.state.is_mount():
        pytest.skip("a small file system cannot be mounted here")
    in_hand, waiting = day.next_group(), day.next_group()
    before = len(day.said())
    day.hold_in_hand(in_hand)
    filler = fill(day.settings.state)
    day.deliver(waiting)
    words = (f"are free below {day.settings.state}, less than the floor", "because the disk is full")
    day.until(lambda: any(word in day.said(before) for word in words), "told")
    day.release(in_hand)
    time.sleep(2.0)
    filler.unlink()
    day.until(lambda: day.is_done(in_hand, waiting), "converted")
    day.check_innocent(in_hand, waiting)


@pytest.mark.slow
@pytest.mark.parametrize("area", ["stage", "state"])
def test_a_folder_that_turns_read_only(day: Day, area: str) -> None:
    folder = getattr(day.settings, area)
    in_hand, waiting = day.next_group(), day.next_group()
    day.hold_in_hand(in_hand, word="hold writing")
    before = len(day.said())
    with mounted(folder, "--bind", str(folder)) as done:
        if not done or subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=False).returncode:
            pytest.skip("nothing can be mounted read-only here")
        day.deliver(waiting)
        day.until(lambda: f"{folder} cannot be written" in day.said(before), "told")
        if area == "stage":
            day.until(lambda: day.says(f"the stage folder {folder} cannot be written: mend its mount"), "seen")
        day.release(in_hand)
        time.sleep(2.0)
    day.until(lambda: day.is_done(in_hand, waiting), "converted")
    day.check_innocent(in_hand, waiting)
    assert "Traceback" not in day.said(before)


def test_a_worker_that_hangs_is_stopped_and_its_job_done_by_another(day: Day) -> None:
    hangs, neighbor = day.next_group(), day.next_group()
    day.tell(hangs, "hang")
    day.tell("limit", "4.0")
    day.deliver(hangs)
    day.until(lambda: not told(hangs).exists(), "hung")
    day.release("limit")
    day.deliver(neighbor)
    day.until(lambda: day.is_done(neighbor), "converted beside it")
    assert not day.is_done(hangs)
    day.until(lambda: "its time limit" in day.seen()["waiting"].get(f"convert:{hangs}", ""), "told")
    day.until(lambda: day.is_done(hangs), "converted by another")
    row = day.job(hangs)
    assert row is not None
    assert (row.state, row.attempt, row.failures, row.deaths) == ("completed", 2, 1, None)
    assert f"convert:{hangs} stopped: it was stopped after 4 s, its time limit" in day.log()
    day.check_innocent(neighbor)


@pytest.mark.slow
@pytest.mark.parametrize(("word", "cause"), [("kill", "was killed by SIGKILL"), ("starve", "MemoryError")])
def test_a_group_that_kills_its_worker_each_time_is_given_up_with_its_cause(day: Day, word: str, cause: str) -> None:
    poisoned, before, after = day.next_group(), day.next_group(), day.next_group()
    day.tell(poisoned, word)
    for group in (before, poisoned, after):
        day.deliver(group)
    day.until(lambda: day.state(poisoned) == "failed" and day.is_done(before, after), "given up")
    row = day.job(poisoned)
    assert row is not None
    assert (row.state, row.attempt, row.failures, row.deaths) == ("failed", 3, 0, 2), "one death in company is forgiven"
    seen = day.seen()
    assert cause in seen["failed"][row.job_id]
    assert cause in seen["failed"][poisoned], "the group says so, too"
    (listed,) = [failure for failure in seen["last_failures"] if failure["name"] == row.job_id]
    assert "retry" in listed["remedy"]
    if word == "kill":
        assert f"these are the last words of {poisoned}" in (row.log_tail or "")
    day.check_innocent(before, after)


@pytest.fixture
def server() -> Iterator[Server]:
    programs = postgresql_server.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with postgresql_server.running(programs) as server:
        yield server


def columns(settings: Settings, *groups: str) -> dict[str, dict[str, str]]:
    """Return a digest of each column of each tile."""
    return {group: snapshot._table(naming.ms_path(settings.stage, group)) for group in groups}


@pytest.mark.slow
def test_a_database_server_that_dies_and_comes_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.url(server.create())
    (tmp_path / "with_server").mkdir()
    monkeypatch.setenv("PIPELINE_DATABASE_URL", address)
    with below(tmp_path / "with_server") as settings:
        prepare(settings)
        day = Day(settings)
        day.start()
        try:
            groups = survive_the_server(day, server)
        finally:
            assert day.stop() == 0
        day.check_innocent(*groups)
        assert day.tiles() == sorted(groups)
        assert "Traceback" not in day.said()
        disturbed = columns(settings, *groups)
    monkeypatch.delenv("PIPELINE_DATABASE_URL")
    with below(tmp_path / "quiet") as settings:
        prepare(settings)
        shutil.copytree(day.settings.incoming, settings.incoming, dirs_exist_ok=True)
        run(settings, OPTIONS, once=True)
        assert columns(settings, *groups) == disturbed


def survive_the_server(day: Day, server: Server) -> list[str]:
    """Take the server away in the middle of two jobs and bring it back; return the groups that were processed."""
    computing, writing, waiting = (day.next_group() for _ in range(3))
    day.hold_in_hand(computing)
    day.hold_in_hand(writing, word="hold writing")
    day.deliver(waiting, range(13))
    day.until(lambda: len(day.subbands(waiting)) == 13, "recorded")
    server.crash()
    day.release(computing)
    day.release(writing)
    day.deliver(waiting, range(13, 16))
    day.until(lambda: any("start the server" in (run.paused or "") for run in read_notices(day.settings)), "told")
    with pytest.raises(ConfigurationError, match="cannot be reached: start the server"):
        day.seen()
    time.sleep(2.0)
    server.start()
    day.until(lambda: day.is_done(computing, writing, waiting), "converted")
    day.until(day.is_at_work, "at work again")
    assert day.refused() == {}
    assert "the run goes on" in day.log()
    return [computing, writing, waiting]


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.slow
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (apt-get install faketime)")
@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_that_is_set_by_an_hour(tmp_path: Path, step_s: int) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    with below(tmp_path / "root") as settings:
        prepare(settings)
        day = Day(settings, environment)
        day.start()
        try:
            groups = live_through_a_step(day, offset, step_s)
        finally:
            assert day.stop() == 0
        day.check_innocent(*groups)
        assert day.tiles() == sorted(groups)
        assert [day.empty_subbands(group) for group in groups] == [set()] * len(groups)
        assert day.refused() == {}


def live_through_a_step(day: Day, offset: Path, step_s: int) -> list[str]:
    """Set the clock in the middle of two jobs and of a group's arrival; return the groups."""
    in_hand, writing, late, fault = (day.next_group() for _ in range(4))
    day.hold_in_hand(in_hand)
    day.hold_in_hand(writing, word="hold writing")
    day.deliver(late, range(13))
    day.until(lambda: len(day.subbands(late)) == 13, "recorded")
    offset.write_text(f"{step_s:+d}")
    day.until(lambda: f"the clock was set by {step_s:+d} s" in day.log(), "noticed")
    time.sleep(1.0)
    assert day.state(late) == "collecting", "an hour on the clock is no hour that it waited"
    day.deliver(late, range(13, 16))
    day.release(in_hand)
    day.release(writing)
    day.deliver(fault)
    groups = [in_hand, writing, late, fault]
    day.until(lambda: day.is_done(*groups), "converted")
    return groups
