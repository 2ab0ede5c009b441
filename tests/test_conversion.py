"""From subband files to one tile, against the sky that was simulated by other formulas."""

import functools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsa110_contimg import conversion, telescope
from dsa110_contimg.errors import IncompleteGroupError, InconsistentGroupError, UnreadableDataError
from dsa110_contimg.formats import measurement_set, uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.simulation import SimulationOptions, geometry, simulate
from dsa110_contimg.simulation.faults import lose_integrations, move_pointing, poison, rewrite_modern, shift_times
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities, predict

OPTIONS = ConversionOptions()
PLAIN = SimulationOptions(
    antennas=24,
    channels=2,
    integrations=4,
    noise=False,
    gain_amplitude=1.0,
    gain_scatter=0.0,
    phase_range_deg=0.0,
    delay_ns=0.0,
    calibrators=False,
    min_apparent_jy=0.0,
)
STRIPS = [(33.2, 24.0), (71.6, 200.0), (16.1, 359.9)]
OFFSETS_DEG = ((0.9, 0.0), (0.0, 0.8), (-0.7, -0.5))
FLUXES_JY = (2.5, 1.5, 1.0)


def observe(folder: Path, declination: float, ra_deg: float) -> tuple[list[Path], SkyModel]:
    """Simulate one tile with sources off its center on both axes; return its files and its sky."""
    start_mjd = geometry.transit_mjd(ra_deg, declination, 60990.0)
    start = str(np.datetime64(round((start_mjd - 40587.0) * 86400.0), "s"))
    ra = np.array([(ra_deg + east / np.cos(np.radians(declination))) % 360.0 for east, _north in OFFSETS_DEG])
    dec = np.array([declination + north for _east, north in OFFSETS_DEG])
    lines = [f"S{i},{ra[i]:.9f},{dec[i]:.9f},{flux},-0.8\n" for i, flux in enumerate(FLUXES_JY)]
    folder.mkdir(parents=True)
    (folder / "sky.csv").write_text("name,ra_deg,dec_deg,flux_jy,alpha\n" + "".join(lines))
    truth = simulate(folder / "in", replace(PLAIN, declination=declination, start=start, sky=str(folder / "sky.csv")))
    sky = SkyModel(
        names=[source.name for source in truth.sources],
        ra_deg=np.array([source.ra_deg for source in truth.sources]),
        dec_deg=np.array([source.dec_deg for source in truth.sources]),
        flux_jy=np.array([source.flux_jy for source in truth.sources]),
        spectrum=np.array([source.spectrum for source in truth.sources]),
        ref_freq_hz=truth.sources[0].ref_hz,
    )
    return [folder / "in" / name for name in truth.groups[0].files], sky


@pytest.fixture(scope="module", params=STRIPS, ids=lambda strip: f"dec{strip[0]}")
def strip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], SkyModel]:
    declination, ra_deg = request.param
    return observe(tmp_path_factory.mktemp("strip") / "tile", declination, ra_deg)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The 16 files of a very small array."""
    options = SimulationOptions(antennas=4, channels=2, integrations=3, min_apparent_jy=0.5)
    folder = tmp_path_factory.mktemp("group")
    truth = simulate(folder, options)
    return [folder / name for name in truth.groups[0].files]


@pytest.fixture
def copies(group: list[Path], tmp_path: Path) -> list[Path]:
    """The same files, to be damaged."""
    return [Path(shutil.copy(path, tmp_path / path.name)) for path in group]


@functools.cache
def tile_of(paths: tuple[Path, ...]) -> Visibilities:
    return conversion.load_group(paths, OPTIONS)


def largest_error(vis: Visibilities, sky: SkyModel) -> float:
    """Return the largest difference from the predicted sky over the whole flux, on cross products."""
    cross = vis.antenna1 != vis.antenna2
    model = predict(vis, sky)
    difference = np.abs(vis.vis[cross] - model[cross, :, None])
    return float(difference.max() / sky.flux_at(vis.freq_hz).sum(axis=0).max())


def test_off_center_sources_are_where_and_as_bright_as_predicted(strip: tuple[list[Path], SkyModel]) -> None:
    paths, sky = strip
    vis = tile_of(tuple(paths))
    error = largest_error(vis, sky)
    print(f"largest error {error:.1e} of the flux at {vis.phase_center}")
    assert error < 1e-3
    cross = vis.antenna1 != vis.antenna2
    assert not vis.flags[cross].any()


def test_mirrored_files_fail_that_test(strip: tuple[list[Path], SkyModel], tmp_path: Path) -> None:
    paths, sky = strip
    mirrored = [Path(shutil.copy(path, tmp_path / path.name)) for path in paths]
    for path in mirrored:
        with h5py.File(path, "r+") as file:
            file["Data/visdata"][...] = np.conj(file["Data/visdata"][...])
    assert largest_error(conversion.load_group(mirrored, OPTIONS), sky) > 0.3


def test_a_sky_off_by_an_arcsecond_fails_that_test(strip: tuple[list[Path], SkyModel]) -> None:
    paths, sky = strip
    moved = replace(sky, dec_deg=sky.dec_deg + 1.0 / 3600.0)
    assert largest_error(tile_of(tuple(paths)), moved) > 5e-3


def test_the_phase_center_is_the_meridian_at_mid_time(strip: tuple[list[Path], SkyModel]) -> None:
    paths, _sky = strip
    vis = tile_of(tuple(paths))
    header = uvh5.read_header(paths[0])
    overhead = telescope.icrs_to_itrs(*vis.phase_center, vis.mid_mjd)[0, 0]
    meridian = telescope.meridian_itrs(header.dec_app_deg)
    assert np.degrees(np.arccos(np.clip(overhead @ meridian, -1.0, 1.0))) * 3600.0 < 0.01
    drift = separation(*np.radians(vis.pointing_icrs_deg[0]), *np.radians(vis.pointing_icrs_deg[-1]))
    sidereal = 360.98565 * (header.times_mjd[-1] - header.times_mjd[0]) * np.cos(np.radians(header.dec_app_deg))
    assert np.degrees(float(drift)) == pytest.approx(sidereal, rel=2e-4)


def test_uvw_are_a_rotation_of_the_baselines(strip: tuple[list[Path], SkyModel]) -> None:
    paths, _sky = strip
    vis = tile_of(tuple(paths))
    baseline = vis.antenna_itrf_m[vis.antenna1] - vis.antenna_itrf_m[vis.antenna2]
    length = np.linalg.norm(baseline, axis=1)
    np.testing.assert_allclose(np.linalg.norm(vis.uvw_m, axis=1), length, rtol=1e-9, atol=1e-9)
    assert np.all(vis.antenna1 <= vis.antenna2)
    first, last = vis.uvw_m[vis.time_mjd == vis.times_mjd[0]], vis.uvw_m[vis.time_mjd == vis.times_mjd[-1]]
    assert np.abs(first - last).max() > 0.1, "the Earth has turned"


def test_channels_ascend_and_fill_the_band(group: list[Path]) -> None:
    vis = tile_of(tuple(group))
    np.testing.assert_allclose(np.diff(vis.freq_hz), telescope.SUBBAND_WIDTH_HZ / 2, rtol=1e-9)
    lower_edge = vis.freq_hz[0] - 0.25 * telescope.SUBBAND_WIDTH_HZ
    assert lower_edge == pytest.approx(1311.387329e6 - 0.5 * 244140.625, abs=10.0), "the telescope's lowest channel"


def test_missing_subbands_are_flagged_and_the_others_are_not_touched(group: list[Path]) -> None:
    missing = (0, 7, 15)
    whole, partial = (
        tile_of(tuple(group)),
        conversion.load_group([path for index, path in enumerate(group) if index not in missing], OPTIONS),
    )
    lost = np.zeros(32, bool)
    for index in missing:
        lost[2 * (15 - index) : 2 * (15 - index) + 2] = True
    assert partial.flags[:, lost].all()
    assert (partial.vis[:, lost] == 0.0).all()
    np.testing.assert_array_equal(partial.freq_hz, whole.freq_hz)
    np.testing.assert_array_equal(partial.vis[:, ~lost], whole.vis[:, ~lost])
    np.testing.assert_array_equal(partial.flags[:, ~lost], whole.flags[:, ~lost])
    assert not partial.flags[:, ~lost].any()


def test_eleven_subbands_are_too_few(group: list[Path]) -> None:
    with pytest.raises(IncompleteGroupError, match=r"lacks subbands \[0, 1, 2, 3, 4\]; at least 12") as caught:
        conversion.load_group(group[5:], OPTIONS)
    assert caught.value.missing == (0, 1, 2, 3, 4)
    assert conversion.load_group(group[5:], ConversionOptions(min_subbands=11)).flags[:, -1].all()
    with pytest.raises(IncompleteGroupError, match="2025-10-01T00:00:00"):
        conversion.check_group([], OPTIONS, "2025-10-01T00:00:00")


def test_a_subband_twice_is_refused(group: list[Path]) -> None:
    with pytest.raises(InconsistentGroupError, match="twice"):
        conversion.load_group([*group, group[3]], OPTIONS)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(16)))
def test_the_order_of_arrival_leaves_no_trace(group: list[Path], order: Sequence[int]) -> None:
    vis, expected = conversion.load_group([group[i] for i in order], OPTIONS), tile_of(tuple(group))
    np.testing.assert_array_equal(vis.vis, expected.vis)
    np.testing.assert_array_equal(vis.flags, expected.flags)
    np.testing.assert_array_equal(vis.uvw_m, expected.uvw_m)


def test_files_that_pyuvdata_rewrote_mix_with_the_correlators(copies: list[Path], group: list[Path]) -> None:
    for path in copies[::2]:
        rewrite_modern(path)
    vis, expected = conversion.load_group(copies, OPTIONS), tile_of(tuple(group))
    np.testing.assert_array_equal(vis.vis, expected.vis)
    np.testing.assert_array_equal(vis.flags, expected.flags)


def test_blocks_of_rows_make_up_the_tile(copies: list[Path], group: list[Path], tmp_path: Path) -> None:
    """Chunks of 7 of the 30 rows, one subband missing: five blocks, read ahead into two buffers."""
    for path in copies[:-1]:
        with h5py.File(path, "r+") as file:
            for name, values in {name: file["Data"][name][...] for name in file["Data"]}.items():
                del file["Data"][name]
                file["Data"].create_dataset(name, data=values, chunks=(7, 1, 1, 2))
    whole = conversion.load_group(list(group[:-1]), OPTIONS)
    frame, blocks = conversion.begin([uvh5.read_header(path) for path in copies[:-1]], OPTIONS)
    measurement_set.save_blocks(tmp_path / "tile.ms", frame, blocks)
    saved = measurement_set.load(tmp_path / "tile.ms", "DATA")
    np.testing.assert_array_equal(saved.vis, whole.vis)
    np.testing.assert_array_equal(saved.flags, whole.flags)
    np.testing.assert_array_equal(saved.uvw_m, whole.uvw_m)
    assert len(list(conversion.begin(headers_of(tuple(copies[:-1])), OPTIONS)[1])) == 5


@pytest.mark.parametrize("value", [complex(np.nan, 1.0), complex(1.0, np.inf), 0j])
def test_what_is_no_number_or_zero_is_flagged(copies: list[Path], group: list[Path], value: complex) -> None:
    poison(copies[2], value, rows=10)
    vis, whole = conversion.load_group(copies, OPTIONS), tile_of(tuple(group))
    bad = np.zeros_like(vis.flags)
    bad[:10, 26:28] = True
    np.testing.assert_array_equal(vis.flags, bad)
    np.testing.assert_array_equal(vis.vis, np.where(bad, 0.0, whole.vis))


def test_flags_and_samples_of_the_file_count(copies: list[Path]) -> None:
    with h5py.File(copies[0], "r+") as file:
        file["Data/flags"][3, 0, 1, 0] = True
        file["Data/nsamples"][5] = 0.0
    vis = conversion.load_group(copies, OPTIONS)
    expected = np.zeros_like(vis.flags)
    expected[3, 30, 0] = True  # frequencies descend in the file: its second channel is the lower one
    expected[5, 30:] = True
    np.testing.assert_array_equal(vis.flags, expected)


@functools.cache
def headers_of(paths: tuple[Path, ...]) -> list[SubbandHeader]:
    return [uvh5.read_header(path) for path in paths]


def test_the_odd_file_out_is_named(copies: list[Path]) -> None:
    move_pointing(copies[3], 34.0)
    shift_times(copies[9], 0.2)
    found = conversion.dissenters(headers_of(tuple(copies)))
    assert [(header.index, header.path) for header, _reason in found] == [(3, copies[3]), (9, copies[9])]
    assert "differ in declination: 34.0000 and 33.2000 deg" in found[0][1]
    assert "differ in times_mjd" in found[1][1]
    with pytest.raises(InconsistentGroupError, match="differ in declination"):
        conversion.load_group(copies, OPTIONS)


@given(odd=st.sets(st.integers(0, 15), max_size=10))
@settings(max_examples=25, deadline=None)
def test_a_minority_is_named_and_half_is_not(group: list[Path], odd: set[int]) -> None:
    headers = [
        replace(header, dec_app_deg=header.dec_app_deg + (0.5 if header.index in odd else 0.0))
        for header in headers_of(tuple(group))
    ]
    if len(odd) == 8:
        with pytest.raises(InconsistentGroupError, match="no majority of the files of group"):
            conversion.dissenters(headers)
    else:
        named = {header.index for header, _reason in conversion.dissenters(headers)}
        assert named == (odd if len(odd) < 8 else set(range(16)) - odd)


def test_every_kind_of_contradiction_is_seen(group: list[Path]) -> None:
    good = headers_of(tuple(group))
    wrong: dict[str, SubbandHeader] = {
        "integration_s": replace(good[0], integration_s=3.22),
        "ant_1": replace(good[0], ant_1=good[0].ant_2, ant_2=good[0].ant_1),
        "antenna_names": replace(good[0], antenna_names=(*good[0].antenna_names[:-1], "X")),
        "antenna positions": replace(good[0], antenna_itrf_m=good[0].antenna_itrf_m + 0.01),
        "channels": replace(good[0], freq_hz=good[0].freq_hz[:1]),
        "do not continue": replace(good[0], freq_hz=good[0].freq_hz + 3e6),
    }
    for what, header in wrong.items():
        ((found, reason),) = conversion.dissenters([header, *good[1:]])
        assert found is header
        assert what in reason
    assert conversion.dissenters(good) == []
    assert conversion.dissenters([]) == []


@pytest.mark.parametrize("kept", [2, 4], ids=["fewer rows", "more rows"])
def test_a_file_that_changed_after_its_header_was_read_is_named(copies: list[Path], kept: int) -> None:
    headers = headers_of(tuple(copies))
    lose_integrations(copies[4], kept)
    with pytest.raises(UnreadableDataError, match="its data are not the 30 rows x 2 channels of its header"):
        conversion.assemble(headers, OPTIONS)


def test_data_that_are_damaged_behind_a_sound_header_are_named(copies: list[Path]) -> None:
    headers = headers_of(tuple(copies))
    with h5py.File(copies[4], "r+") as file:
        del file["Data/visdata"]
        file["Data/visdata"] = h5py.ExternalLink("nowhere.h5", "/x")
    with pytest.raises(UnreadableDataError, match="cannot be read to its end") as caught:
        conversion.assemble(headers, OPTIONS)
    assert caught.value.path == copies[4]


def test_field_names_are_truncated_sexagesimal() -> None:
    assert conversion.field_name(SkyPosition(24.42, 33.16)) == "J0137+33"
    assert conversion.field_name(SkyPosition(359.9, -5.2)) == "J2359-05"


def test_positions_are_the_tables_of_the_files(group: list[Path]) -> None:
    vis: NDArray[np.float64] = tile_of(tuple(group)).antenna_itrf_m
    heights = np.linalg.norm(vis, axis=1)
    assert np.all((heights > 6.36e6) & (heights < 6.38e6))
