"""Measurement Sets: what goes in comes out, other programs can read it, and half a set never has its final name."""

import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from casacore import tables

from dsa110_contimg import conversion, renaming
from dsa110_contimg.errors import BadInputError, UnreadableDataError
from dsa110_contimg.formats import measurement_set, scratch
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.simulation import SimulationOptions, faults, simulate
from dsa110_contimg.visibilities import Visibilities

SUBTABLES = {
    "ANTENNA", "DATA_DESCRIPTION", "FEED", "FIELD", "FLAG_CMD", "HISTORY", "OBSERVATION", "POINTING", "POLARIZATION",
    "PROCESSOR", "SOURCE", "SPECTRAL_WINDOW", "STATE",
}  # fmt: skip
MAIN_COLUMNS = {
    "ANTENNA1", "ANTENNA2", "DATA", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA", "UVW", "TIME", "INTERVAL",
    "EXPOSURE", "TIME_CENTROID", "FIELD_ID", "DATA_DESC_ID", "SCAN_NUMBER", "FEED1", "FEED2", "ARRAY_ID",
    "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID", "FLAG_CATEGORY",
}  # fmt: skip


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Visibilities:
    folder = tmp_path_factory.mktemp("subbands")
    options = SimulationOptions(
        antennas=6, channels=2, integrations=3, missing_subbands=("3",), dead_stations=(28,), min_apparent_jy=0.3
    )
    truth = simulate(folder, options)
    return conversion.load_group([folder / name for name in truth.groups[0].files], ConversionOptions())


@pytest.fixture
def saved(tile: Visibilities, tmp_path: Path) -> Path:
    return measurement_set.save(tmp_path / "tile.ms", tile)


def test_what_is_written_is_read(tile: Visibilities, saved: Path) -> None:
    read = measurement_set.load(saved, "DATA")
    for item in fields(Visibilities):
        ours, theirs = getattr(tile, item.name), getattr(read, item.name)
        if item.name in ("time_mjd", "pointing_mjd"):
            np.testing.assert_allclose(theirs, ours, rtol=0.0, atol=1e-10)  # seconds on disk, days here
        elif item.name in ("pointing_icrs_deg", "phase_center"):
            np.testing.assert_allclose(theirs, ours, rtol=0.0, atol=1e-11)  # radians on disk
        elif isinstance(ours, float):
            assert theirs == pytest.approx(ours, rel=1e-9), item.name
        else:
            np.testing.assert_array_equal(theirs, ours, err_msg=item.name)


def test_raw_flags_are_where_the_data_are_zero(tile: Visibilities, saved: Path) -> None:
    np.testing.assert_array_equal(tile.flags, tile.vis == 0.0)
    calibrated = replace(tile, vis=tile.vis * 3.0, flags=np.ones_like(tile.flags), weights=tile.weights * 0.5)
    measurement_set.write_calibrated(saved, calibrated)
    raw = measurement_set.load_raw(saved)
    np.testing.assert_array_equal(raw.vis, tile.vis)
    np.testing.assert_array_equal(raw.flags, tile.flags)
    assert (raw.weights == 1.0).all()


def test_calibrated_data_are_read_back_and_can_be_written_again(tile: Visibilities, saved: Path) -> None:
    for factor in (2.0, 5.0):
        calibrated = replace(tile, vis=tile.vis * factor, weights=tile.weights * factor)
        measurement_set.write_calibrated(saved, calibrated)
        read = measurement_set.load(saved)
        np.testing.assert_array_equal(read.vis, calibrated.vis)
        np.testing.assert_array_equal(read.weights, calibrated.weights)
        with tables.table(str(saved), ack=False) as table:
            np.testing.assert_allclose(table.getcol("SIGMA"), factor**-0.5, rtol=1e-6)


def test_casacore_finds_a_standard_set(tile: Visibilities, saved: Path) -> None:
    with tables.table(str(saved), ack=False) as table:
        assert set(table.colnames()) == MAIN_COLUMNS, "no CORRECTED_DATA before calibration: CASA would find it empty"
        assert table.getkeyword("MS_VERSION") == 2.0
        assert set(table.getkeywords()) >= SUBTABLES
        assert table.nrows() == 63
        assert table.getcolkeyword("UVW", "QuantumUnits") == ["m", "m", "m"]
        assert table.getcolkeyword("TIME", "MEASINFO")["Ref"] == "UTC"
        for name in SUBTABLES:
            with tables.table(table.getkeyword(name), ack=False) as subtable:
                assert subtable.colnames()
    with tables.table(str(saved / "SPECTRAL_WINDOW"), ack=False) as spectral:
        assert (spectral.nrows(), spectral.getcell("NUM_CHAN", 0)) == (1, 32)
        assert np.all(np.diff(spectral.getcell("CHAN_FREQ", 0)) > 0.0)
    with tables.table(str(saved / "FIELD"), ack=False) as field:
        assert field.nrows() == 1
        np.testing.assert_allclose(np.degrees(field.getcell("PHASE_DIR", 0)[0]) % 360.0, tile.phase_center, atol=1e-9)
    with tables.table(str(saved / "POLARIZATION"), ack=False) as polarization:
        assert list(polarization.getcell("CORR_TYPE", 0)) == [9, 12]
    with tables.table(str(saved / "ANTENNA"), ack=False) as antenna:
        np.testing.assert_array_equal(antenna.getcol("POSITION"), tile.antenna_itrf_m)


KILLED = """
import os, signal, sys
from pathlib import Path
from dsa110_contimg.formats import measurement_set
path, moment = Path(sys.argv[1]), sys.argv[2]
vis = measurement_set.load(path)
vis.vis *= 2.0
setattr(measurement_set, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
measurement_set.write_calibrated(path, vis)
"""


@pytest.mark.parametrize("moment", ["flush_folder", "exchange"])
def test_a_kill_while_calibrated_data_are_written_leaves_the_set_as_it_was(
    tile: Visibilities, saved: Path, moment: str
) -> None:
    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in saved.rglob("*") if file.is_file()}

    measurement_set.write_calibrated(saved, tile)
    before = content()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(saved), moment])
    assert killed.returncode == -signal.SIGKILL
    assert content() == before
    assert scratch.remove_abandoned([saved.parent])
    measurement_set.write_calibrated(saved, replace(tile, vis=2.0 * tile.vis))
    np.testing.assert_array_equal(measurement_set.load(saved).vis, 2.0 * tile.vis)
    assert list(saved.parent.iterdir()) == [saved]


def test_folders_change_names_where_the_file_system_cannot_do_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renaming, "_renameat2", None)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    scratch.exchange(tmp_path / "one", tmp_path / "other")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*/*")) == ["one/other", "other/one"]


def test_what_the_disk_refuses_while_a_folder_is_written_is_raised(tmp_path: Path) -> None:
    (tmp_path / "gone_TSM0").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError), scratch.flushing(tmp_path, "*_TSM*"):
        pass


def test_a_set_is_never_replaced(tile: Visibilities, saved: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already and is not replaced"):
        measurement_set.save(saved, tile)


def test_a_write_that_fails_leaves_nothing(tile: Visibilities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(measurement_set, "flush_folder", full)
    with pytest.raises(OSError, match="No space left"):
        measurement_set.save(tmp_path / "deep" / "tile.ms", tile)
    assert list((tmp_path / "deep").iterdir()) == []


def test_verify_sees_what_is_not_what_was_written(tile: Visibilities, saved: Path) -> None:
    last_cell = tile.vis[-1]
    measurement_set.verify(saved, tile, last_cell)
    with pytest.raises(BadInputError, match="is not what was written to it"):
        measurement_set.verify(saved, tile, last_cell + np.complex64(1.0))
    with pytest.raises(BadInputError, match="is not what was written to it"):
        measurement_set.verify(saved, replace(tile, time_mjd=tile.time_mjd[:-1]), last_cell)


def test_other_things_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is not a Measurement Set"):
        measurement_set.load(tmp_path / "nothing.ms")
    with pytest.raises(BadInputError, match="is a table but not a Measurement Set"):
        measurement_set.load(saved / "ANTENNA")
    with pytest.raises(BadInputError, match="has no column MODEL_DATA"):
        measurement_set.load(saved, "MODEL_DATA")
    with pytest.raises(BadInputError, match=r"has no field 3; it holds \[0\]"):
        measurement_set.load(saved, field=3)
    broken = tmp_path / "broken.ms"
    shutil.copytree(saved, broken)
    (broken / "table.dat").write_bytes(b"nonsense")
    with pytest.raises(BadInputError, match="cannot be opened as a Measurement Set"):
        measurement_set.load(broken)


@pytest.mark.parametrize("part", ["table.f0_TSM0", "table.f1_TSM0", "table.f2", "ANTENNA/table.f0", "FIELD/table.dat"])
@pytest.mark.parametrize("left", [None, 0.5, 0.0], ids=["missing", "cut off", "empty"])
def test_a_set_that_lost_a_part_is_named(saved: Path, part: str, left: float | None) -> None:
    if left is None:
        (saved / part).unlink()
    else:
        faults.truncate(saved / part, left)
    with pytest.raises(UnreadableDataError, match=r"tile\.ms cannot be read to its end") as caught:
        measurement_set.load_raw(saved)
    assert "\n" not in str(caught.value)


def test_several_fields_or_windows_must_be_chosen_from(saved: Path) -> None:
    with tables.table(str(saved), readonly=False, ack=False) as table:
        table.putcell("FIELD_ID", 0, 1)
    with pytest.raises(BadInputError, match=r"holds fields \[0, 1\]; choose one"):
        measurement_set.load(saved)
    assert measurement_set.load(saved, "DATA", field=0).time_mjd.size == 62
    with tables.table(str(saved), readonly=False, ack=False) as table:
        table.putcell("DATA_DESC_ID", 0, 1)
    with pytest.raises(BadInputError, match="holds 2 spectral windows; split out one"):
        measurement_set.load(saved)


def test_descending_channels_of_other_telescopes_are_turned(tile: Visibilities, tmp_path: Path) -> None:
    turned = replace(tile, vis=tile.vis[:, ::-1], flags=tile.flags[:, ::-1], freq_hz=tile.freq_hz[::-1])
    read = measurement_set.load(measurement_set.save(tmp_path / "turned.ms", turned), "DATA")
    np.testing.assert_array_equal(read.freq_hz, tile.freq_hz)
    np.testing.assert_array_equal(read.vis, tile.vis)
    np.testing.assert_array_equal(read.flags, tile.flags)


def test_parallel_hands_in_the_other_order_are_turned(tile: Visibilities, saved: Path) -> None:
    with tables.table(str(saved / "POLARIZATION"), readonly=False, ack=False) as polarization:
        polarization.putcell("CORR_TYPE", 0, [12, 9])
    np.testing.assert_array_equal(measurement_set.load(saved, "DATA").vis, tile.vis[..., ::-1])
