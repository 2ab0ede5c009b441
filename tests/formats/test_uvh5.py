"""Subband files: what a good header says, and each defect in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg import telescope
from dsa110_contimg.errors import BadInputError, UnfinishedFileError
from dsa110_contimg.formats.uvh5 import SubbandHeader, read_header
from dsa110_contimg.formats.uvh5_file import read_parts
from dsa110_contimg.simulation import SimulationOptions, Truth, faults, simulate


@pytest.fixture(scope="module")
def observation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("uvh5")
    options = SimulationOptions(antennas=5, channels=4, integrations=3, subbands=(0, 9), min_apparent_jy=0.5)
    return folder, simulate(folder, options)


@pytest.fixture
def good(observation: tuple[Path, Truth], tmp_path: Path) -> Path:
    folder, truth = observation
    name = truth.groups[0].files[1]
    return Path(shutil.copy(folder / name, tmp_path / name))


def read_visibilities(header: SubbandHeader) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    """Return a file's data and flags in one piece each."""
    shape = header.times_mjd.size * header.ant_1.size, header.freq_hz.size
    parts = list(read_parts(header.path, shape, header.pol_index))
    rows = np.cumsum([0, *(len(vis) for _first, vis, _bad in parts)])
    assert [first for first, _vis, _bad in parts] == rows[:-1].tolist()
    return np.concatenate([vis for _first, vis, _bad in parts]), np.concatenate([bad for _first, _vis, bad in parts])


def edit(name: str, value: object) -> Callable[[Path], Path]:
    """Return a fault that sets a header entry to a value."""

    def change(path: Path) -> Path:
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = value
        return path

    return change


def test_a_good_header(good: Path, observation: tuple[Path, Truth]) -> None:
    header, (_folder, truth) = read_header(good), observation
    group = truth.groups[0]
    assert (header.index, header.group_id, header.times_mjd.size) == (9, group.group_id, 3)
    assert header.start_mjd == pytest.approx(group.start_mjd, abs=1e-9)
    assert header.dec_app_deg == pytest.approx(33.2, abs=1e-6)
    assert header.freq_hz[0] > header.freq_hz[-1]
    assert header.channel_width_hz == pytest.approx(telescope.SUBBAND_WIDTH_HZ / 4)
    assert len(header.ant_1) == 15
    assert [int(header.antenna_names[row]) for row in np.unique(header.ant_1)] == sorted(truth.stations)
    vis, flags = read_visibilities(header)
    assert vis.shape == flags.shape == (45, 4, 2)
    assert not flags.any()


def test_a_file_that_pyuvdata_rewrote_says_the_same(good: Path, tmp_path: Path) -> None:
    old, (vis, _flags) = read_header(good), read_visibilities(read_header(good))
    folder = tmp_path / "modern"
    folder.mkdir()
    new = read_header(faults.rewrite_modern(Path(shutil.copy(good, folder / good.name))))
    np.testing.assert_array_equal(new.freq_hz, old.freq_hz)
    assert new.channel_width_hz == old.channel_width_hz
    np.testing.assert_array_equal(read_visibilities(new)[0], vis)


def test_pyuvdata_agrees(good: Path) -> None:
    uvdata = pytest.importorskip("pyuvdata").UVData()
    uvdata.read(good, file_type="uvh5", run_check=False)
    header = read_header(good)
    vis, _flags = read_visibilities(header)
    order = [int(np.flatnonzero(uvdata.polarization_array == code)[0]) for code in (-5, -6)]
    np.testing.assert_array_equal(np.squeeze(uvdata.data_array).reshape(45, 4, 2)[..., order], vis)
    np.testing.assert_allclose(np.unique(uvdata.time_array) - 2400000.5, header.times_mjd, atol=1e-9)


DEFECTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (faults.truncate, "is truncated"),
    "empty": (faults.make_empty, "is not a readable HDF5 file"),
    "foreign": (faults.make_foreign, "is not a readable HDF5 file"),
    "other hdf5": (faults.make_other_hdf5, "is an HDF5 file but not UVH5"),
    "no times": (faults.remove_field, "lacks an entry that UVH5 files have"),
    "no data": (lambda path: faults.remove_field(path, "Data/flags"), "lacks an entry that UVH5 files have"),
    "Nblts": (faults.break_nblts, "is inconsistent: Nblts is 52"),
    "MJD 55000": (faults.shift_times_to_mjd, "the correlator had lost its clock"),
    "clock": (lambda path: faults.shift_times(path, 7200.0), r"(7199|7200|7201) s from the stamp in its name"),
    "band": (faults.move_band, "which is no subband of the band|its frequencies are those of subband"),
    "band far": (lambda path: faults.move_band(path, 500e6), "which is no subband of the band"),
    "lost integrations": (lambda path: faults.lose_integrations(path, 1), "is inconsistent: Nblts is 45, but"),
    "telescope": (edit("Header/telescope_name", b"MeerKAT"), "comes from telescope MeerKAT"),
    "phased": (edit("Header/phase_type", b"phased"), "has been phased since the correlator wrote it"),
    "Nfreqs": (edit("Header/Nfreqs", 7), "is inconsistent: visdata is"),
    "width": (edit("Header/channel_width", np.nan), "which is no subband of the band"),
    "integration": (edit("Header/integration_time", np.full(45, -1.0)), "has absurd times"),
    "dec": (edit("Header/phase_center_app_dec", 0.1), "gives two declinations"),
    "polarizations": (edit("Header/polarization_array", [-1, -2]), "XX \\(-5\\) and YY \\(-6\\) are needed"),
    "antennas": (edit("Header/antenna_numbers", np.arange(200, 317)), "which its table lacks"),
    "positions": (edit("Header/antenna_positions", np.zeros((3, 3))), "have positions of shape"),
    "no position": (edit("Header/antenna_positions", np.full((117, 3), np.nan)), "whose position is no number"),
    "text": (edit("Header/Nbls", b"many"), "holds an entry of the wrong kind"),
    "frequencies": (edit("Header/freq_array", np.full((1, 4), np.nan)), "holds an entry of the wrong kind"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_named_in_one_sentence(good: Path, defect: str) -> None:
    break_it, sentence = DEFECTS[defect]
    with pytest.raises(BadInputError, match=sentence) as caught:
        read_header(break_it(good))
    assert good.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_clock_beyond_the_earth_rotation_table_is_named(good: Path) -> None:
    moved = faults.shift_times_to_mjd(good, 70000.0)
    nameless = moved.rename(moved.with_name("copy.hdf5"))
    with pytest.raises(BadInputError, match=r"copy\.hdf5 cannot be placed on the sky: MJD 70000"):
        read_header(nameless)


def test_an_unfinished_name_is_not_opened(good: Path) -> None:
    faults.make_foreign(good)
    with pytest.raises(UnfinishedFileError, match="still being written"):
        read_header(faults.mark_unfinished(good))


def test_a_wrong_number_in_the_name_is_named(good: Path) -> None:
    moved = good.rename(good.with_name(good.name.replace("_sb09", "_sb03")))
    with pytest.raises(BadInputError, match="is called subband 3, but its frequencies are those of subband 9"):
        read_header(moved)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        read_header(tmp_path / "gone.hdf5")


def test_the_order_of_polarizations_is_the_files(good: Path) -> None:
    vis, _flags = read_visibilities(read_header(good))
    with h5py.File(good, "r+") as file:
        file["Header/polarization_array"][...] = file["Header/polarization_array"][...][::-1]
        for name in ("visdata", "flags", "nsamples"):
            file["Data"][name][...] = file["Data"][name][...][..., ::-1]
    np.testing.assert_array_equal(read_visibilities(read_header(good))[0], vis)
