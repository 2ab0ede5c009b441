"""Where a product comes from: the record, the header's cards and the commit, against the truth that was put in."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dsa110_contimg import provenance
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.options import ImagingOptions, MosaicOptions, PipelineOptions
from dsa110_contimg.visibilities import SkyImage, SkyPosition

SHA = hashlib.sha256(b"tile").hexdigest()
TABLES = [f"stage/caltables/2025-12-24T03:{minute:02d}:05_bpcal" for minute in range(10)]
INPUTS = [{"id": f"2025-12-24T03:{m:02d}:05", "role": "tile", "sha256": SHA} for m in range(10)]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    """A repository with a package in it, committed."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("X = 1\n")
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    yield package
    provenance._software.cache_clear()


@pytest.fixture
def runs_from(monkeypatch: pytest.MonkeyPatch, copy: Path) -> Path:
    monkeypatch.setattr(provenance, "_HERE", copy)
    provenance._software.cache_clear()
    return copy


def test_the_commit_is_that_of_the_working_copy(runs_from: Path) -> None:
    head = git(runs_from, "rev-parse", "HEAD")
    assert provenance.software()["commit"] == head
    assert provenance.software()["dirty"] is False


def test_a_changed_file_makes_it_dirty_and_another_file_does_not(copy: Path) -> None:
    (copy / "scratch.txt").write_text("not of the program")
    assert provenance._working_copy(copy)[1] is False
    (copy / "__init__.py").write_text("X = 2\n")
    commit, dirty = provenance._working_copy(copy)
    assert (commit, dirty) == (git(copy, "rev-parse", "HEAD"), True)


def test_it_is_asked_once(runs_from: Path) -> None:
    first = provenance.software()
    (runs_from / "__init__.py").write_text("X = 2\n")
    first["commit"] = "changed by the caller"
    assert provenance.software()["dirty"] is False
    assert provenance.software()["commit"] == git(runs_from, "rev-parse", "HEAD")


def test_a_package_inside_somebody_elses_repository_has_no_commit_of_it(copy: Path) -> None:
    installed = copy.parent / "venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert provenance._working_copy(installed) == (None, None)


def test_a_hook_of_another_repository_does_not_mislead(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(copy, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(copy.parent / "nowhere"))
    assert provenance._working_copy(copy) == (head, False)


def broken_git(_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: str(Path(__file__)))


def no_git(_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)


def slow_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "git"
    program.write_text("#!/bin/sh\nexec sleep 20\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(program))
    monkeypatch.setattr(provenance, "GIT_TIMEOUT_S", 0.1)


@pytest.mark.usefixtures("runs_from")
@pytest.mark.parametrize("fault", [broken_git, no_git, slow_git])
def test_without_git_the_commit_is_unknown_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object
) -> None:
    assert callable(fault)
    fault(tmp_path, monkeypatch)
    told = provenance.software()
    assert (told["name"], told["commit"], told["dirty"]) == ("dsa110-contimg", None, None)
    assert "PIPECOM" not in provenance.header_cards(provenance.record(activity="image", inputs=[], options=[]))


def test_a_program_that_pip_fetched_knows_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "f" * 40}}

    class Distribution:
        def read_text(self, name: str) -> str:
            return {"direct_url.json": json.dumps(told)}[name]

    monkeypatch.setattr("importlib.metadata.distribution", lambda _name: Distribution())
    assert provenance._fetched_commit() == "f" * 40


def test_options_of_every_stage_are_recorded_and_summed() -> None:
    options = PipelineOptions()
    all_of_them = provenance.record(activity="mosaic", inputs=INPUTS, options=options)
    some = provenance.record(activity="mosaic", inputs=INPUTS, options=[ImagingOptions(), MosaicOptions()])
    assert all_of_them["options"]["imaging"] == some["options"]["imaging"]
    assert set(some["options"]) == {"imaging", "mosaic"}
    assert all_of_them["options"]["imaging"]["robust"] == options.imaging.robust
    assert all_of_them["options_sha256"] != some["options_sha256"]


def test_one_changed_option_changes_the_sum_and_nothing_else_does() -> None:
    first = provenance.record(activity="image", inputs=[], options=ImagingOptions(), started_at=1.0, ended_at=2.0)
    same = provenance.record(activity="image", inputs=["other.ms"], options=[ImagingOptions()])
    other = provenance.record(activity="image", inputs=[], options=replace(ImagingOptions(), robust=0.25))
    assert first["options_sha256"] == same["options_sha256"]
    assert first["options_sha256"] != other["options_sha256"]


def test_a_record_is_json_and_a_time_not_known_is_absent() -> None:
    record = provenance.record(
        activity="image",
        inputs=[{"path": Path("a.ms"), "role": "visibilities", "sha256": None}],
        calibration_tables=[*TABLES, Path("b_gcal")],
        options=ImagingOptions(),
        ended_at=1.5,
    )
    assert json.loads(json.dumps(record)) == record
    assert record["inputs"] == [{"role": "visibilities", "path": "a.ms"}]
    assert record["calibration_tables"][-1] == {"role": "calibration table", "path": "b_gcal"}
    assert "started_at" not in record
    assert record["ended_at"] == 1.5


@pytest.mark.parametrize("nothing", [{"role": "tile"}, {"id": "", "path": ""}])
def test_an_input_without_a_name_is_refused(nothing: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="needs an id or a path"):
        provenance.record(activity="image", inputs=[nothing], options=ImagingOptions())


@pytest.mark.parametrize("options", [{"robust": 0.5}, ImagingOptions, replace(ImagingOptions(), gain=float("nan"))])
def test_what_are_no_options_is_refused(options: object) -> None:
    with pytest.raises(ConfigurationError, match=r"no options object|cannot be recorded"):
        provenance.record(activity="image", inputs=[], options=options)


def test_the_header_tells_the_record_and_reads_back(tmp_path: Path) -> None:
    record = provenance.record(
        activity="mosaic", inputs=INPUTS, calibration_tables=TABLES, options=PipelineOptions(), ended_at=3.0
    )
    cards = provenance.header_cards(record)
    image = SkyImage(np.zeros((4, 4), np.float32), SkyPosition(10.0, 20.0), cell_deg=0.1, header=dict(cards))
    first, again = (fits_image.save(image, tmp_path / name) for name in ("a.fits", "b.fits"))
    assert first.read_bytes() == again.read_bytes()
    assert fits_image.load(first).header == cards
    with fits.open(first, checksum=True) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
    assert header["INPUTS"].split(",") == [one["id"] for one in INPUTS]
    assert header["CALTABLES"].split(",") == [Path(table).name for table in TABLES]
    assert json.loads(header["OPTIONS"]) == record["options"]
    assert hashlib.sha256(header["OPTIONS"].encode()).hexdigest() == header["OPTHASH"] == record["options_sha256"]
    assert header["ORIGIN"] == f"dsa110-contimg {record['software']['version']}"


def test_the_header_says_when_the_program_was_changed(runs_from: Path) -> None:
    (runs_from / "__init__.py").write_text("X = 2\n")
    cards = provenance.header_cards(provenance.record(activity="image", inputs=[], options=[]))
    assert cards["PIPECOM"] == f"{git(runs_from, 'rev-parse', 'HEAD')}-dirty"
    assert {"INPUTS", "CALTABLES"}.isdisjoint(cards)
