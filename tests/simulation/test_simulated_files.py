"""The files against the telescope's own layout, read with h5py and with pyuvdata."""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.coordinates import EarthLocation
from numpy.testing import assert_allclose, assert_array_equal

from dsa110_contimg.naming import group_id_of, parse_subband, stamp_unix
from dsa110_contimg.simulation import SimulationOptions, Truth, array, simulate
from dsa110_contimg.simulation.array import CORRELATOR_STATIONS, choose_stations, subband_frequencies

PER_FILE = {
    "latitude": "f8",
    "longitude": "f8",
    "altitude": "f8",
    "telescope_name": "S8",
    "instrument": "S3",
    "object_name": "S6",
    "phase_type": "S5",
    "phase_center_app_dec": "f8",
    "Nants_data": "i8",
    "Nants_telescope": "i8",
    "antenna_diameters": "f8",
    "antenna_names": "S4",
    "antenna_numbers": "i8",
    "antenna_positions": "f8",
    "ant_1_array": "i8",
    "ant_2_array": "i8",
    "Nbls": "i8",
    "Nblts": "i8",
    "Ntimes": "i8",
    "Nfreqs": "i8",
    "Npols": "i8",
    "Nspws": "i8",
    "uvw_array": "f4",
    "time_array": "f8",
    "integration_time": "f8",
    "freq_array": "f8",
    "channel_width": "f8",
    "spw_array": "i8",
    "polarization_array": "i8",
}


def _file(observation: tuple[Path, Truth], group: int = 0, subband: int = 0) -> Path:
    folder, truth = observation
    return next(folder / name for name in truth.groups[group].files if f"_sb{subband:02d}" in name)


def test_header_fields_have_the_telescopes_types_and_shapes(observation: tuple[Path, Truth]) -> None:
    with h5py.File(_file(observation)) as file:
        header, data = file["Header"], file["Data"]
        assert not file.attrs
        for name, dtype in PER_FILE.items():
            assert header[name].dtype == np.dtype(dtype), name
        assert header["history"].dtype.kind == "S"
        assert set(header) == {*PER_FILE, "history", "extra_keywords"}
        rows = 78 * 4
        shapes = {"antenna_positions": (117, 3), "uvw_array": (rows, 3), "freq_array": (1, 6), "channel_width": ()}
        assert {name: header[name].shape for name in shapes} == shapes
        assert header["phase_type"][()] == b"drift"
        assert header["telescope_name"][()] == b"OVRO_MMA"
        assert header["object_name"][()] == b"search"
        assert_array_equal(header["antenna_names"][:3], [b"1", b"2", b"3"])
        assert_array_equal(header["antenna_numbers"][...], np.arange(117))
        assert_array_equal(header["polarization_array"][...], [-5, -6])
        assert_array_equal(header["spw_array"][...], [1])
        counts = [int(header[name][()]) for name in ("Nbls", "Nblts", "Ntimes", "Nfreqs", "Npols", "Nspws")]
        assert counts == [78, rows, 4, 6, 2, 1]
        assert set(header["integration_time"][...]) == {12.884902000427246}
        extra = header["extra_keywords"]
        assert extra["phase_center_dec"][()] == header["phase_center_app_dec"][()] == np.radians(33.2)
        assert extra["ha_phase_center"][()] == 0.0
        assert extra["phase_center_epoch"].dtype.kind == "O", "a variable-length text, unlike the others"
        assert extra["phase_center_epoch"].asstr()[()] == "HADEC"
        assert len(extra["applied_delays_ns"][()].split()) == 234
        assert {name: (data[name].dtype.str, data[name].shape) for name in data} == {
            "visdata": ("<c8", (rows, 1, 6, 2)),
            "flags": ("|b1", (rows, 1, 6, 2)),
            "nsamples": ("<f4", (rows, 1, 6, 2)),
        }
        assert data["visdata"].compression is None
        assert data["visdata"].maxshape[0] is None
        assert not data["flags"][...].any()
        assert set(data["nsamples"][...].ravel()) == {96.0}


def test_full_band_has_the_real_labels() -> None:
    top, bottom = subband_frequencies(0, 48), subband_frequencies(15, 48)
    assert_allclose(
        [top[0], top[-1], bottom[0], bottom[-1]], [1498.643188e6, 1487.168579e6, 1322.861938e6, 1311.387329e6], atol=1
    )
    assert_allclose(subband_frequencies(1, 48)[[0, -1]], [1486.924438e6, 1475.449829e6], atol=1)
    assert_allclose(np.diff(top), -244140.625)


@pytest.mark.parametrize("channels", [1, 3, 6, 48])
def test_fewer_channels_are_wider_and_fill_the_same_band(channels: int) -> None:
    width = array.channel_width(channels)
    freq = np.concatenate([subband_frequencies(s, channels) for s in range(16)])
    assert_allclose(np.diff(freq), -width)
    assert_allclose([freq[0] + width / 2, freq[-1] - width / 2], [1498.765258789e6, 1311.265258789e6], atol=1)
    if channels == 6:
        assert width == 1953125.0


def test_frequencies_descend_in_the_files(observation: tuple[Path, Truth]) -> None:
    labels = []
    for subband in (0, 1, 15):
        with h5py.File(_file(observation, 0, subband)) as file:
            labels.append(file["Header/freq_array"][0])
    assert np.all(np.diff(np.concatenate(labels)) < 0)


def test_products_run_over_the_lower_triangle_of_the_correlator_order() -> None:
    layout_stations = np.array(CORRELATOR_STATIONS)
    assert layout_stations.size == 96
    assert tuple(layout_stations[[0, 8, 9, 18, 19, 46, 47, 48, 49, 82, 83, 95]]) == (
        (1, 9, 11, 20, 24, 51, 102, 116, 68, 101, 103, 115)
    )
    first, second = array.baselines(96)
    assert first.size == 4656
    assert list(zip(first[:6], second[:6], strict=True)) == [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    assert np.any(layout_stations[first] > layout_stations[second]), "ant_1 > ant_2 happens"


def test_rows_are_time_major_and_uvw_constant(observation: tuple[Path, Truth]) -> None:
    _, truth = observation
    with h5py.File(_file(observation)) as file:
        ant_1, ant_2, uvw, times = (
            file[f"Header/{name}"][...] for name in ("ant_1_array", "ant_2_array", "uvw_array", "time_array")
        )
        positions = file["Header/antenna_positions"][...]
    assert_array_equal(times, np.repeat(times[::78], 78))
    assert_allclose(np.diff(times[::78]) * 86400.0, 12.884901888, atol=1e-4)
    assert_allclose(times[0], truth.groups[0].start_mjd + 2400000.5 + 12.884901888 / 2 / 86400, atol=1e-9)
    assert_array_equal(uvw.reshape(4, 78, 3)[1:], uvw.reshape(4, 78, 3)[:-1])
    pairs = [(truth.stations[j] - 1, truth.stations[i] - 1) for i in range(12) for j in range(i + 1)]
    assert list(zip(ant_1[:78], ant_2[:78], strict=True)) == pairs
    lengths = np.linalg.norm(positions[ant_2] - positions[ant_1], axis=1)
    assert_allclose(np.linalg.norm(uvw, axis=1), lengths, rtol=1e-6)


def test_positions_are_offsets_from_the_headers_place(observation: tuple[Path, Truth]) -> None:
    with h5py.File(_file(observation)) as file:
        header = file["Header"]
        place = EarthLocation.from_geodetic(*(header[n][()] for n in ("longitude", "latitude", "altitude")))
        absolute = np.array([axis.value for axis in place.geocentric]) + header["antenna_positions"][...]
    station = EarthLocation.from_geocentric(*absolute[116], unit="m").geodetic
    assert_allclose([station.lat.deg, station.lon.deg], [37.2315343, -118.2966607], atol=1e-9)
    assert_allclose(station.height.value, 1182.6, atol=1e-5)
    core = absolute[np.array(CORRELATOR_STATIONS) - 1]
    longest = max(np.linalg.norm(core - one, axis=1).max() for one in core)
    assert_allclose(longest, 2601.6, atol=0.1)


def test_times_are_bit_identical_and_stamps_differ(observation: tuple[Path, Truth]) -> None:
    folder, truth = observation
    full = truth.groups[0]
    times = [h5py.File(folder / name)["Header/time_array"][...].tobytes() for name in full.files]
    assert len(times) == 3
    assert len(set(times)) == 1
    stamps = {stamp_unix(name[:19]) for group in truth.groups for name in group.files if group is full}
    assert all(0 <= stamp + 1 - (full.start_mjd - 40587.0) * 86400.0 <= 4 for stamp in stamps)
    delays = [
        stamp_unix(name[:19]) - (group.start_mjd - 40587.0) * 86400.0 for group in truth.groups for name in group.files
    ]
    assert max(delays) - min(delays) > 0.5


def test_files_groups_and_names_agree(observation: tuple[Path, Truth]) -> None:
    folder, truth = observation
    assert sorted(p.name for p in folder.glob("*.hdf5")) == sorted(n for g in truth.groups for n in g.files)
    assert [(g.epoch, g.tile, len(g.files)) for g in truth.groups] == [(0, 0, 3), (0, 1, 2), (1, 0, 3), (1, 1, 3)]
    for group in truth.groups:
        assert group.group_id == group_id_of(group.start_mjd)
        assert all(parse_subband(folder / name) is not None for name in group.files)
    assert {p.name for p in folder.iterdir() if p.suffix != ".hdf5"} == {"truth.json", "catalog.csv"}


def test_epochs_are_sidereal_days_and_the_transit_is_in_the_middle_tile(observation: tuple[Path, Truth]) -> None:
    _, truth = observation
    assert_allclose(np.diff(truth.epoch_mjd) * 86400.0, 7 * 86164.0905, atol=1e-3)
    assert_allclose(truth.groups[1].ra_deg, 24.4220792, atol=5e-3)
    assert_allclose(truth.groups[3].ra_deg, truth.groups[1].ra_deg, atol=5e-3)


def test_pyuvdata_reads_the_file(observation: tuple[Path, Truth]) -> None:
    uvdata = pytest.importorskip("pyuvdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uv = uvdata.UVData()
        uv.read(
            _file(observation),
            file_type="uvh5",
            run_check=False,
            run_check_acceptability=False,
            strict_uvw_antpos_check=False,
            check_extra=False,
        )
    assert (uv.Nants_telescope, uv.Nbls, uv.Ntimes, uv.Nfreqs, uv.Npols) == (117, 78, 4, 6, 2)
    with h5py.File(_file(observation)) as file:
        assert_array_equal(uv.data_array, file["Data/visdata"][:, 0])
        assert_allclose(uv.uvw_array, file["Header/uvw_array"][...])
    positions = uv.telescope.antenna_positions
    expected = positions[uv.ant_2_array] - positions[uv.ant_1_array]
    assert_allclose(np.linalg.norm(expected, axis=1), np.linalg.norm(uv.uvw_array, axis=1), rtol=1e-6)


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    options = SimulationOptions(antennas=6, channels=2, integrations=2, subbands=(3,), min_flux_jy=0.2, seed=5)
    other = SimulationOptions(antennas=6, channels=2, integrations=2, subbands=(3,), min_flux_jy=0.2, seed=6)
    data = []
    for index, one in enumerate((options, options, other)):
        truth = simulate(tmp_path / str(index), one)
        with h5py.File(tmp_path / str(index) / truth.groups[0].files[0]) as file:
            data.append(file["Data/visdata"][...].tobytes())
    assert data[0] == data[1] != data[2]


@pytest.mark.parametrize("count", [2, 12, 40, 95])
def test_a_smaller_array_spreads_over_arms_and_outriggers(count: int) -> None:
    stations = choose_stations(count)
    assert len(set(stations)) == count
    order = [CORRELATOR_STATIONS.index(s) for s in stations]
    assert order == sorted(order)
    if count >= 12:
        assert {1 if s <= 51 else 2 if s <= 102 else 3 for s in stations} == {1, 2, 3}
