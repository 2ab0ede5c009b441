"""Files that arrive while the pipeline runs: told of at once, listed where nobody tells, through lost folders."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest
from tests.pipeline.incoming_files import write_file, write_group
from tests.pipeline.test_ingest import GROUP, NEXT, groups, refused

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.housekeeping.machine import Mount
from dsa110_contimg.options import ConversionOptions, PipelineOptions
from dsa110_contimg.pipeline import incoming
from dsa110_contimg.pipeline.arrivals import Arrivals
from dsa110_contimg.pipeline.ingest import ScanReport
from dsa110_contimg.pipeline.streaming_converter import _polling_loop

TOLD_ONLY = ConversionOptions(settle_s=0.0, relist_s=3600.0, poll_s=3600.0)
LISTED = ConversionOptions(settle_s=0.0, poll_s=0.0)
LONG_S = 30.0
START = naming.stamp_unix(GROUP)


@pytest.fixture
def come() -> Event:
    return Event()


@pytest.fixture
def told(house: Settings, come: Event) -> Iterator[Arrivals]:
    """A watched folder after its first listing."""
    if not incoming.tells_of_changes(house.incoming):
        pytest.skip("the file system of the test folder tells nobody of new files")
    with Arrivals(house.incoming, TOLD_ONLY, come.set) as arrivals:
        assert come.wait(LONG_S)
        come.clear()
        arrivals.collect()
        yield arrivals


def collect_until(arrivals: Arrivals, come: Event, enough: Callable[[ScanReport], bool]) -> ScanReport:
    """Collect whenever something has come, until there is enough; return all that was found."""
    total, deadline = ScanReport(), time.monotonic() + LONG_S
    while not enough(total):
        assert come.wait(deadline - time.monotonic()), f"nobody told of it: {total}"
        come.clear()
        for kind, paths in vars(arrivals.collect()).items():
            getattr(total, kind).extend(paths)
    return total


def test_a_new_file_is_told_of_without_a_listing(
    house: Settings, told: Arrivals, come: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsa110_contimg.pipeline.ingest.list_names", pytest.fail)
    assert told.collect() == ScanReport()
    assert told.next_look_s > 3000.0, "idle costs nothing"
    paths = write_group(house.incoming, GROUP)
    found = collect_until(told, come, lambda report: len(report.recorded) == 16)
    assert sorted(found.recorded) == paths
    (house.incoming / "notes.txt").write_text("no data")
    assert told.collect() == ScanReport()


def test_a_file_that_grows_and_one_that_gets_its_final_name_are_taken_when_whole(
    house: Settings, told: Arrivals, come: Event
) -> None:
    whole = write_file(house.stage.parent, GROUP, 0, START).read_bytes()
    growing = house.incoming / naming.subband_name(GROUP, 0)
    unfinished = house.incoming / naming.subband_name(GROUP, 1, unfinished=True)
    unfinished.write_bytes(write_file(house.stage.parent, GROUP, 1, START).read_bytes())
    growing.write_bytes(whole[:30000])
    seen = collect_until(told, come, lambda report: unfinished in report.unfinished and bool(report.quarantined))
    assert seen.recorded == []
    growing.write_bytes(whole)
    unfinished.rename(house.incoming / naming.subband_name(GROUP, 1))
    collect_until(told, come, lambda report: len(report.recorded) == 2)
    assert (groups(), refused()) == ({GROUP: [0, 1]}, {})


def test_a_folder_that_goes_and_comes_back_while_it_is_watched(
    house: Settings, told: Arrivals, come: Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(incoming, "LOOK_MS", 100)
    write_file(house.incoming, GROUP, 0, START)
    collect_until(told, come, lambda report: len(report.recorded) == 1)
    away = house.incoming.rename(house.incoming.with_name("away"))
    told._next_listing = 0.0
    assert told.collect() == ScanReport()
    assert "does not exist" in (told.trouble or "")
    told._next_listing = 0.0
    told.collect()
    assert len([record for record in caplog.records if "nothing new is taken" in record.message]) == 1
    write_file(away, GROUP, 1, START)
    away.rename(house.incoming)
    collect_until(told, come, lambda report: len(report.recorded) == 1)
    assert told.trouble is None
    write_file(house.incoming, GROUP, 2, START)
    collect_until(told, come, lambda report: len(report.recorded) == 1)
    assert (groups(), refused()) == ({GROUP: [0, 1, 2]}, {})


def test_a_name_that_is_not_utf_8_ends_no_watch(
    house: Settings, told: Arrivals, come: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "LOOK_MS", 100)
    with open(os.fsencode(house.incoming) + b"/caf\xe9.hdf5", "wb") as file:  # noqa: PTH123 - a Path has text
        file.write(b"x")
    collect_until(told, come, lambda report: len(report.quarantined) == 1)
    write_file(house.incoming, GROUP, 0, START)
    collect_until(told, come, lambda report: len(report.recorded) == 1)


def test_a_notice_that_was_lost_is_made_good_by_the_listing(house: Settings, told: Arrivals, come: Event) -> None:
    write_group(house.incoming, NEXT, 2)
    assert come.wait(LONG_S)
    told._watcher.take()  # type: ignore[union-attr]
    assert told.collect() == ScanReport()
    told._next_listing = 0.0
    found = told.collect()
    assert len(found.recorded) == 2


@pytest.mark.parametrize(
    ("kind", "tells"), [("ext4", True), ("xfs", True), ("nfs4", False), ("fuse.sshfs", False), ("9p", False)]
)
def test_the_file_system_decides_whether_it_is_watched(
    house: Settings, monkeypatch: pytest.MonkeyPatch, kind: str, tells: bool
) -> None:
    mounts = [Mount("/", "ext4"), Mount(str(house.incoming), kind)]
    monkeypatch.setattr(incoming, "list_mounts", lambda: mounts)
    assert incoming.tells_of_changes(house.incoming) is tells
    monkeypatch.setattr(incoming, "list_mounts", list)
    assert not incoming.tells_of_changes(house.incoming), "nobody knows: it is listed"


def test_without_notices_the_folder_is_listed(house: Settings) -> None:
    with Arrivals(house.incoming, LISTED, notices=False) as arrivals:
        assert arrivals.collect() == ScanReport()
        paths = write_group(house.incoming, GROUP, 3)
        assert arrivals.collect().recorded == paths
        shutil.rmtree(house.incoming)
        assert arrivals.collect() == ScanReport()
        assert arrivals.trouble is not None


def test_a_folder_that_was_never_there_is_an_error(house: Settings) -> None:
    house.incoming.rmdir()
    with Arrivals(house.incoming, LISTED, notices=False) as arrivals, pytest.raises(ConfigurationError, match="set "):
        arrivals.collect()


@pytest.mark.parametrize("kind", ["ext4", "nfs"])
def test_the_polling_loop_records_until_it_is_told_to_stop(
    house: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(incoming, "list_mounts", lambda: [Mount("/", kind)])
    stop = Event()
    loop = Thread(target=_polling_loop, args=(house, PipelineOptions(), stop, 0.05))
    loop.start()
    try:
        write_group(house.incoming, GROUP)
        deadline = time.monotonic() + LONG_S
        while groups() != {GROUP: list(range(16))}:
            assert time.monotonic() < deadline
            stop.wait(0.05)
    finally:
        stop.set()
        loop.join()
