"""Bad files, folders and disks: refused by name, with the right exit code, and the neighbors finish."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import pytest
from sqlalchemy import select
from tests.integration.conftest import install

from dsa110_contimg import naming
from dsa110_contimg.cli.main import main
from dsa110_contimg.config import Settings
from dsa110_contimg.database import MSIndex, get_session, ingest_queue, reset_engines
from dsa110_contimg.database.models import IngestQueue
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import ConversionOptions, PipelineOptions
from dsa110_contimg.pipeline.ingest import bootstrap_directory, close_groups, is_closed, offer_groups
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.runner import execute
from dsa110_contimg.simulation import faults

Tiny = Callable[[], list[Path]]
OPTIONS = PipelineOptions()
SETTLED = ConversionOptions(settle_s=0.0)


def corrupt_data(path: Path) -> Path:
    """Damage the data behind a sound header."""
    with h5py.File(path, "r+") as file:
        shape, kind = file["Data/visdata"].shape, file["Data/visdata"].dtype
        del file["Data/visdata"]
        storage = [(str(path.with_name("gone.raw")), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("Data/visdata", shape=shape, dtype=kind, external=storage)
    return path


AT_THE_SCAN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (faults.truncate, "is truncated"),
    "empty": (faults.make_empty, "is not a readable HDF5 file"),
    "foreign": (faults.make_foreign, "is not a readable HDF5 file"),
    "other hdf5": (faults.make_other_hdf5, "is an HDF5 file but not UVH5"),
    "no times": (faults.remove_field, "lacks an entry"),
    "Nblts": (faults.break_nblts, "is inconsistent: Nblts is"),
    "MJD 55000": (faults.shift_times_to_mjd, "lost its clock"),
    "moved band": (faults.move_band, "MHz|frequencies are those of subband"),
    "lost integrations": (faults.lose_integrations, "is inconsistent: Nblts is"),
}
AT_CONVERSION: dict[str, tuple[Callable[[Path], Path], str]] = {
    "moved pointing": (lambda path: faults.move_pointing(path, 40.0), "differ in declination: 40.0000 and 33.2000"),
    "moved times": (lambda path: faults.shift_times(path, 0.02), "differ in times_mjd"),
}


def ingest_and_convert(settings: Settings) -> dict[str, str]:
    """Scan, close every group and convert; return group ids and how they ended."""
    bootstrap_directory(settings.incoming, SETTLED)
    close_groups()
    ended = {}
    with get_session("ingest", read_only=True) as session:
        groups = [group.group_id for group in ingest_queue.list_groups(session, "pending")]
    for group_id in groups:
        outcome = execute(Job(Stage.CONVERT, group_id), this_process(), settings, OPTIONS)
        ended[group_id] = f"{outcome.result} {outcome.error}".strip()
    return ended


def quarantined() -> dict[str, str]:
    with get_session("ingest", read_only=True) as session:
        return {Path(row.path).name: row.reason for row in ingest_queue.list_quarantine(session)}


def flagged_subbands(settings: Settings, group_id: str) -> set[int]:
    """Return the subbands of which everything is flagged, in a tile of one channel per subband."""
    vis = measurement_set.load(naming.ms_path(settings.stage, group_id), "DATA")
    return {15 - channel for channel in range(16) if vis.flags[:, channel].all()}


@pytest.mark.parametrize("defect", [*AT_THE_SCAN, *AT_CONVERSION])
def test_a_bad_file_is_quarantined_and_its_group_and_neighbor_go_on(house: Settings, tiny: Tiny, defect: str) -> None:
    break_it, reason = (AT_THE_SCAN | AT_CONVERSION)[defect]
    victim = break_it(tiny()[5])
    ended = ingest_and_convert(house)
    assert list(ended.values()) == ["completed", "completed"]
    refused = quarantined()
    assert list(refused) == [victim.name]
    assert re.search(reason, refused[victim.name])
    first, second = ended
    assert (flagged_subbands(house, first), flagged_subbands(house, second)) == ({5}, set())
    assert bootstrap_directory(house.incoming, SETTLED).quarantined == [], "a settled refusal is not repeated"


def test_data_damaged_behind_a_sound_header_are_left_out(house: Settings, tiny: Tiny) -> None:
    victim = corrupt_data(tiny()[7])
    ended = ingest_and_convert(house)
    assert list(ended.values()) == ["completed", "completed"]
    assert "cannot be read to its end" in quarantined()[victim.name]
    assert flagged_subbands(house, next(iter(ended))) == {7}


def test_five_bad_files_fail_their_group_by_name_and_good_copies_save_it(house: Settings, tiny: Tiny) -> None:
    files = tiny()
    kept = {path: path.read_bytes() for path in files[:5]}
    for path in kept:
        faults.truncate(path)
    ended = ingest_and_convert(house)
    first, second = sorted(ended) if len(ended) == 2 else (None, None)
    assert first is not None
    assert ended[first].startswith(f"failed group {first} lacks subbands [0, 1, 2, 3, 4]; at least 12 are needed")
    assert ended[second or ""] == "completed"
    with get_session("ingest", read_only=True) as session:
        row = session.get(IngestQueue, first)
        assert row is not None
        assert (row.state, "lacks subbands" in (row.error_message or "")) == ("failed", True)
    time.sleep(0.02)
    for path, content in kept.items():
        path.write_bytes(content)
        os.utime(path, (0, 0))  # a copy that keeps its old date
    report = bootstrap_directory(house.incoming, SETTLED)
    assert sorted(report.recorded) == sorted(kept)
    assert quarantined() == {}
    assert ingest_and_convert(house) == {first: "completed"}
    assert flagged_subbands(house, first) == set()


def test_a_group_without_majority_fails_by_name(house: Settings, tiny: Tiny) -> None:
    for path in tiny()[:8]:
        faults.move_pointing(path, 40.0)
    first, second = (ended := ingest_and_convert(house))
    assert "no majority of the files of group" in ended[first]
    assert ended[second] == "completed"
    assert quarantined() == {}


def test_a_repeated_subband_keeps_the_first(house: Settings, tiny: Tiny) -> None:
    copy = faults.repeat(tiny()[3])
    report = bootstrap_directory(house.incoming, SETTLED)
    assert report.repeated == [copy]
    assert list(ingest_and_convert(house).values()) == ["completed", "completed"]
    assert bootstrap_directory(house.incoming, SETTLED).repeated == []


def test_unfinished_names_and_fresh_fragments_are_left_for_later(house: Settings, tiny: Tiny) -> None:
    files = tiny()
    unfinished = faults.mark_unfinished(files[0])
    fragments = [faults.truncate(files[1]), faults.make_empty(files[2])]
    report = bootstrap_directory(house.incoming, ConversionOptions(settle_s=60.0))
    assert sorted(report.unfinished) == sorted([unfinished, *fragments])
    assert report.quarantined == []
    assert sorted(bootstrap_directory(house.incoming, SETTLED).quarantined) == sorted(fragments)


def test_a_second_bad_copy_is_refused_once(house: Settings, tiny: Tiny) -> None:
    victim = faults.truncate(tiny()[0])
    bootstrap_directory(house.incoming, SETTLED)
    time.sleep(0.02)
    faults.make_foreign(victim)
    assert bootstrap_directory(house.incoming, SETTLED).quarantined == [victim]
    assert "not a readable HDF5" in quarantined()[victim.name]
    assert bootstrap_directory(house.incoming, SETTLED).quarantined == []


def test_a_group_is_offered_when_complete_or_after_its_wait(house: Settings, tiny: Tiny) -> None:
    files = tiny()
    files[20].unlink()
    bootstrap_directory(house.incoming, SETTLED)
    now = time.time()
    with get_session("ingest", read_only=True) as session:
        complete, partial = ingest_queue.list_groups(session)
    assert is_closed(complete, 16, OPTIONS.conversion, now)
    assert not is_closed(partial, 15, OPTIONS.conversion, now)
    assert offer_groups(OPTIONS.conversion, now) == [complete.group_id]
    assert offer_groups(OPTIONS.conversion, now + 601.0) == [partial.group_id]


def test_a_missing_incoming_folder_is_one_sentence(house: Settings) -> None:
    with pytest.raises(ConfigurationError, match="does not exist: set PIPELINE_INCOMING_DIR"):
        bootstrap_directory(house.incoming / "typo")


class Ended(NamedTuple):
    code: int
    output: str
    errors: str

    @property
    def sentence(self) -> str:
        """The only line of the error output."""
        (line,) = [line for line in self.errors.splitlines() if line.strip()]
        return line


@pytest.fixture
def contimg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Run commands below a root of their own, as an operator does."""
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    reset_engines()

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["contimg", *arguments])
        capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        output, errors = capsys.readouterr()
        assert "Traceback" not in output + errors
        return Ended(int(code or 0), output, errors)

    yield run
    reset_engines()


def test_a_run_without_a_catalogue_is_one_sentence(contimg: Callable[..., Ended]) -> None:
    ended = contimg("run", "--once")
    assert ended.code == 1
    assert "no catalogue of known sources has been imported: run `contimg catalog import" in ended.sentence


def test_an_incoming_folder_that_is_not_there_is_one_sentence(
    contimg: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_INCOMING_DIR", str(tmp_path / "typo"))
    ended = contimg("run", "--once")
    assert ended.code == 1
    assert "typo does not exist: check PIPELINE_INCOMING_DIR" in ended.sentence
    assert not (tmp_path / "typo").exists()


def test_a_stage_folder_that_cannot_be_written_is_one_sentence(contimg: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "stage").write_text("a file stands here")
    ended = contimg("run", "--once")
    assert ended.code == 1
    assert "stage cannot be written" in ended.sentence


def test_an_unknown_option_is_refused(contimg: Callable[..., Ended]) -> None:
    ended = contimg("run", "--onec")
    assert ended.code == 2
    assert "No such option: --onec" in ended.errors


def test_a_run_over_bad_files_ends_with_1_and_says_why(
    contimg: Callable[..., Ended], tmp_path: Path, good_incoming: Path
) -> None:
    """Ten files of three groups are bad in ten ways; the tiles are calibrated, imaged and coadded all the same."""
    truth = install(Settings(), good_incoming)
    faulty = [*AT_THE_SCAN.values(), AT_CONVERSION["moved pointing"]]
    victims = [
        break_it(Settings().incoming / truth.groups[number % 3].files[number])
        for number, (break_it, _reason) in enumerate(faulty)
    ]
    for path in victims:
        os.utime(path, (0, 0))  # long settled
    ended = contimg("run", "--once", "--threads", "1", "--tiles", "3", "--overlap", "0", "--size", "600",
                    "--cell-arcsec", "18")  # fmt: skip
    assert ended.code == 1
    said = contimg("status").output
    for path, (_break, reason) in zip(victims, faulty, strict=True):
        (line,) = [line for line in said.splitlines() if line.startswith((f"  {path}: ", f"  {path} ("))]
        assert re.search(reason, line)
        assert f"quarantined: {path.name}" in ended.output
    groups, tiles, mosaics = said.splitlines()[1:4]
    assert groups.split()[1:] == ["3", "completed"]
    assert tiles.split()[1:] == ["3", "photometry_complete"]
    assert mosaics.split()[2:] == ["1", "completed"]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_full_disk_stops_the_run_with_one_sentence_and_loses_nothing(
    contimg: Callable[..., Ended], tmp_path: Path, tiny_incoming: Path
) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    install(Settings(), tiny_incoming)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", stage], check=False, capture_output=True
    ).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        ended = contimg("run", "--once")
        assert ended.code == 1
        assert "MB are needed but 1 MB are free" in ended.errors
        assert "make room or repair it; run again when that is done" in ended.errors
        assert [path for path in stage.rglob("*") if path.is_file()] == []
    finally:
        subprocess.run(["umount", stage], check=True)
    assert contimg("run", "--once").code in (0, 1)
    with get_session("products", read_only=True) as session:
        assert len(list(session.scalars(select(MSIndex)))) == 2, "with room, both groups are converted"
