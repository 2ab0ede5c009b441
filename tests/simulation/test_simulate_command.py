"""The command, its refusals, and files made bad."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from dsa110_contimg.cli.simulate import simulate as command
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.naming import parse_subband
from dsa110_contimg.simulation import SimulationOptions, faults, load_truth, simulate, uvh5_writer

app = typer.Typer()
app.command()(command)
TINY = ["--antennas", "4", "--channels", "2", "--integrations", "2", "--subbands", "0,5", "--min-flux-jy", "0.2"]
TINY_OPTIONS = SimulationOptions(antennas=4, channels=2, integrations=2, subbands=(0, 5), min_flux_jy=0.2)


def test_command_writes_files_and_prints_json(tmp_path: Path) -> None:
    out = tmp_path / "new" / "incoming"
    result = CliRunner().invoke(app, [str(out), *TINY, "--days", "0,3", "--smear", "--seed", "9", "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["groups"], summary["files"], summary["seed"]) == (2, 4, 9)
    truth = load_truth(out)
    assert truth.options["smear"] is True
    assert truth.options["days"] == [0, 3]


def test_command_prints_its_seed_and_refuses_a_taken_folder(tmp_path: Path) -> None:
    first = CliRunner().invoke(app, [str(tmp_path), *TINY, "--ese", "auto"])
    assert first.exit_code == 0, first.output
    assert "seed 1" in first.stdout
    assert "ese:" in first.stdout
    again = CliRunner().invoke(app, [str(tmp_path), *TINY])
    assert again.exit_code == 1
    assert "holds a simulation already" in again.stderr
    assert CliRunner().invoke(app, [str(tmp_path), *TINY, "--subbands", "7", "--overwrite"]).exit_code == 0
    assert [path.name[-9:] for path in tmp_path.glob("*.hdf5")] == ["sb07.hdf5"]


def test_every_option_is_a_flag_with_its_sentence() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400", "TERM": "dumb"})
    assert result.exit_code == 0
    assert "Example: contimg simulate" in result.stdout
    for item in fields(SimulationOptions):
        if "help" in item.metadata:
            assert f"--{item.name.replace('_', '-')}" in result.stdout, item.name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--antennas", "500"], "--antennas 500"),
        (["--channels", "0"], "--channels 0"),
        (["--declination", "nan"], "--declination nan"),
        (["--subbands", "16"], "--subbands"),
        (["--days", "7,0"], "--days"),
        (["--missing-subbands", "x"], "--missing-subbands x"),
        (["--start", "yesterday"], "--start yesterday"),
        (["--start", "1960-01-01"], "Earth-rotation table"),
        (["--transit", "Vega"], "--transit Vega"),
        (["--sky", "nowhere.fits"], "nowhere.fits does not exist"),
        (["--ese", "NGC 1"], "no source NGC 1"),
        (["--min-flux-jy", "5"], "the sky is empty"),
        (["--dead-stations", "10"], "stations [10] are not in this correlator"),
    ],
)
def test_absurd_options_get_one_sentence(tmp_path: Path, flags: list[str], words: str) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "out"), *TINY, *flags])
    assert result.exit_code == 1, result.output
    assert words in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_unreadable_list_is_a_usage_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, [str(tmp_path / "out"), "--days", "a,b"]).exit_code == 2


def test_unwritable_folder_and_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        simulate(tmp_path / "file" / "out", TINY_OPTIONS)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage())
    with pytest.raises(ConfigurationError, match="GB free"):
        simulate(tmp_path / "full", TINY_OPTIONS)
    assert list((tmp_path / "full").iterdir()) == []


class _Usage:
    free = 1000


def test_nothing_half_written_has_a_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def fail(*_args: object) -> None:
        seen.append([p.name for p in tmp_path.glob("*.hdf5")])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uvh5_writer, "_write_data", fail)
    with pytest.raises(ConfigurationError, match="No space left"):
        simulate(tmp_path, TINY_OPTIONS)
    assert len(seen[0]) == 1
    assert seen[0][0].endswith("_sb00_incomplete.hdf5")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def good(tmp_path: Path) -> Path:
    truth = simulate(tmp_path, TINY_OPTIONS)
    return tmp_path / truth.groups[0].files[0]


def test_unreadable_faults(good: Path) -> None:
    size = good.stat().st_size
    assert faults.truncate(good).stat().st_size == size // 2
    with pytest.raises(OSError):
        h5py.File(good)
    assert faults.make_foreign(good).read_text().startswith("this is not")
    with h5py.File(faults.make_other_hdf5(good)) as file:
        assert "Header" not in file
    assert faults.make_empty(good).stat().st_size == 0


def test_faults_contradict_the_header(good: Path) -> None:
    faults.break_nblts(good)
    faults.lose_integrations(good, 1)
    faults.move_band(good)
    faults.move_pointing(good, 54.0)
    faults.shift_times_to_mjd(good)
    faults.poison(good)
    with h5py.File(good) as file:
        header = file["Header"]
        assert header["Nblts"][()] == 27
        assert file["Data/visdata"].shape[0] == 10
        assert header["freq_array"][0, 0] > 1540e6
        assert np.degrees(header["phase_center_app_dec"][()]) == pytest.approx(54.0)
        assert header["time_array"][0] == 2455000.5
        assert not np.isfinite(file["Data/visdata"][:10]).any()
    faults.remove_field(good)
    with h5py.File(good) as file:
        assert "time_array" not in file["Header"]


def test_shifted_repeated_unfinished_and_modern_files(good: Path) -> None:
    with h5py.File(good) as file:
        before = file["Header/time_array"][0]
        data = file["Data/visdata"][:, 0]
    faults.shift_times(good, 309.0)
    with h5py.File(good) as file:
        assert (file["Header/time_array"][0] - before) * 86400 == pytest.approx(309.0, abs=1e-3)
    twin = faults.repeat(good)
    assert twin != good
    assert twin.read_bytes() == good.read_bytes()
    first, second = parse_subband(good), parse_subband(twin)
    assert first is not None
    assert second is not None
    assert first.index == second.index
    with h5py.File(faults.rewrite_modern(twin)) as file:
        assert file["Data/visdata"].shape == (20, 2, 2)
        assert np.array_equal(file["Data/visdata"][...], data)
        assert file["Header/uvw_array"].dtype == np.float64
    unfinished = parse_subband(faults.mark_unfinished(good))
    assert unfinished is not None
    assert unfinished.unfinished
    with pytest.raises(ValueError, match="subband file"):
        faults.repeat(good.with_name("notes.txt"))
