"""Interference is found, clean data are left alone, and the report adds up."""

import json
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.flagging import (
    REASONS,
    FlagReport,
    band_edges,
    book,
    edge_channels,
    flag,
    restore,
    shadowed,
)
from dsa110_contimg.errors import CalibrationError, ConfigurationError
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.simulation import array
from dsa110_contimg.telescope import DISH_DIAMETER_M, meridian_icrs, tangent_basis_itrs
from dsa110_contimg.visibilities import SkyModel, Visibilities

MakeTile = Callable[..., Visibilities]
OPTIONS = FlaggingOptions()


def cross(vis: Visibilities) -> NDArray[np.bool_]:
    return np.asarray(vis.antenna1 < vis.antenna2)


def touched(vis: Visibilities, antenna: int) -> NDArray[np.bool_]:
    return np.asarray((vis.antenna1 == antenna) | (vis.antenna2 == antenna))


def interference(report: FlagReport) -> float:
    return sum(report.by_reason[name] for name in ("interference", "common_interference", "gaps", "given_up"))


@pytest.mark.parametrize("noise_jy", [0.0, 0.05, 1.0, 30.0])
def test_a_calibrator_and_its_field_are_not_interference(make_tile: MakeTile, noise_jy: float) -> None:
    vis = make_tile(n_ant=20, n_time=24, n_chan=96, noise_jy=noise_jy, seed=5)
    report = flag(vis, OPTIONS)
    assert interference(report) < 0.01
    assert report.total == pytest.approx(vis.flags[cross(vis)].mean())


def test_a_field_of_equals_is_not_interference(make_tile: MakeTile, sky: SkyModel) -> None:
    """Sources of like flux beat deeply: amplitudes run from zero to the sum of all."""
    equals = SkyModel(sky.names, sky.ra_deg, sky.dec_deg, np.full(len(sky), 5.0), sky.spectrum)
    vis = make_tile(n_ant=20, n_time=24, n_chan=96, noise_jy=0.3, seed=6, model=equals)
    assert interference(flag(vis, OPTIONS)) < 0.01


def test_strong_interference_is_found(make_tile: MakeTile) -> None:
    vis = make_tile(n_ant=12, n_time=24, n_chan=96, noise_jy=1.0, seed=8)
    rng = np.random.default_rng(8)
    times = np.unique(vis.time_mjd, return_inverse=True)[1]
    carrier, burst, spark = np.zeros((3, *vis.flags.shape), bool)
    carrier[:, [17, 60]] = True
    burst[times == 13] = True
    spark[rng.random(vis.flags.shape) < 0.002] = True
    for where in (carrier, burst, spark):
        phase = np.exp(2j * np.pi * rng.random(vis.flags.shape))
        vis.vis[where] += (80.0 * phase[where]).astype(np.complex64)
    report = flag(vis, OPTIONS)
    inside = cross(vis)
    for where in (carrier, burst, spark):
        assert vis.flags[inside][where[inside]].mean() > 0.98
    clean = inside[:, None, None] & ~(carrier | burst | spark)
    assert vis.flags[clean].mean() < 0.01
    assert interference(report) > 0.04


def test_a_weak_carrier_is_found_by_its_channel(make_tile: MakeTile) -> None:
    """Few samples of it are seven sigma, yet the median of the channel stands out."""
    vis = make_tile(n_ant=12, n_time=24, n_chan=96, noise_jy=3.0, seed=9)
    vis.vis[:, 40] += 24.0 * vis.vis[:, 40] / np.abs(vis.vis[:, 40])
    flag(vis, OPTIONS)
    assert vis.flags[cross(vis)][:, 40].mean() > 0.9


def test_empty_dead_and_half_dead_are_told_apart(make_tile: MakeTile) -> None:
    vis = make_tile(n_ant=12)
    vis.vis[touched(vis, 2)] = 0.0
    vis.vis[touched(vis, 7), :, 1] = np.nan
    vis.vis[:, 4, 0] = 0.0
    report = flag(vis, OPTIONS)
    assert report.dead_antennas == ["3"]
    assert report.half_dead_antennas == ["8"]
    assert vis.flags[touched(vis, 2)].all()
    assert vis.flags[touched(vis, 7)].all(), "half of Stokes I is no flux"
    healthy = cross(vis) & ~touched(vis, 2) & ~touched(vis, 7)
    assert vis.flags[healthy][:, 4, 0].all()
    assert vis.flags[healthy][:, 5:].mean() < 0.01
    assert report.present_antennas == [str(i + 1) for i in range(12)]
    assert report.by_antenna["3"] == 1.0
    assert "13" not in report.by_antenna
    assert vis.flags[vis.antenna1 == vis.antenna2].all()
    assert report.autocorrelations == pytest.approx(12 / 78)
    assert sum(report.by_reason.values()) == pytest.approx(report.total)
    assert report.total == pytest.approx(vis.flags[cross(vis)].mean())
    assert report.by_reason["single_polarization"] > 0.0
    assert json.loads(json.dumps(report.to_dict()))["dead_antennas"] == ["3"]


def test_flags_that_were_there_stay(make_tile: MakeTile) -> None:
    vis = make_tile()
    vis.flags[:, 20:24] = True
    report = flag(vis, OPTIONS)
    assert vis.flags[:, 20:24].all()
    assert report.by_reason["before"] == pytest.approx(4 / 32)


def test_edges_of_subbands(make_tile: MakeTile) -> None:
    vis = make_tile(n_chan=96)
    edges = edge_channels(vis.freq_hz, 1)
    np.testing.assert_array_equal(np.flatnonzero(edges)[:4], [0, 5, 6, 11])
    assert edges.sum() == 32
    assert not edge_channels(vis.freq_hz, 0).any()
    flag(vis, FlaggingOptions(edge_channels=1))
    assert vis.flags[:, edges].all()


def test_edges_of_the_band(make_tile: MakeTile) -> None:
    np.testing.assert_array_equal(np.flatnonzero(band_edges(10, 2)), [0, 1, 8, 9])
    assert not band_edges(10, 0).any()
    vis = make_tile(n_chan=96)
    report = flag(vis, FlaggingOptions(band_edge_channels=3))
    assert report.by_reason["edges"] == pytest.approx(6 / 96)
    assert report.channel_reasons["edges"][0] == 1.0
    assert report.channel_reasons["edges"][50] == 0.0


def test_a_sample_keeps_its_first_reason_and_any_step_comes_back(make_tile: MakeTile) -> None:
    vis = make_tile(n_ant=12)
    vis.flags[:, 9] = True
    vis.vis[touched(vis, 2)] = 0.0
    vis.vis[touched(vis, 7), :, 1] = 0.0
    report = flag(vis, FlaggingOptions(edge_channels=1))
    np.testing.assert_array_equal(report.reasons > 0, vis.flags)
    assert "reasons" not in report.to_dict()
    late = ~vis.flags & (np.random.default_rng(3).random(vis.flags.shape) < 0.1)
    vis.flags |= late
    book(vis.flags, report.reasons, "calibration")
    final = vis.flags.copy()
    seen = np.zeros_like(final)
    for code, step in enumerate(REASONS):
        restore(vis, report.reasons, step)
        assert (vis.flags | ~seen).all(), "flags only grow from step to step"
        np.testing.assert_array_equal(vis.flags & ~seen, report.reasons == code if code else np.zeros_like(seen))
        seen = vis.flags.copy()
    np.testing.assert_array_equal(seen, final)
    restore(vis, report.reasons, "before")
    expected = cross(vis)[:, None, None] & (vis.vis == 0.0)
    expected[:, 9] = True
    np.testing.assert_array_equal(vis.flags, expected)
    restore(vis, report.reasons, "empty")
    np.testing.assert_array_equal(vis.flags, cross(vis)[:, None, None] & (vis.vis == 0.0))
    with pytest.raises(ConfigurationError, match="not a step"):
        restore(vis, report.reasons, "breakfast")


@pytest.mark.parametrize(("dec_deg", "shaded"), [(33.2, False), (-30.0, True), (71.0, False)])
def test_the_antenna_behind_is_shadowed(make_tile: MakeTile, dec_deg: float, shaded: bool) -> None:
    """Low in the south, the dishes of the north-south arm stand before one another; those of the other arm do not."""
    vis = make_tile(n_ant=4, n_time=3)
    position = np.empty_like(vis.antenna_itrf_m)
    position[:4] = array.station_positions()[[70, 71, 4, 5]]
    ra, dec = (float(v[0]) for v in meridian_icrs(dec_deg, np.array([vis.mid_mjd])))
    basis = tangent_basis_itrs(ra, dec, vis.times_mjd)[np.searchsorted(vis.times_mjd, vis.time_mjd)]
    vis.uvw_m[:] = np.einsum("rij,rj->ri", basis, position[vis.antenna1] - position[vis.antenna2])
    behind = shadowed(vis, DISH_DIAMETER_M)
    north = int(np.argmax(position[:2, 2]))
    assert behind.any() == shaded
    if shaded:
        assert behind[:, north].all()
        assert behind.sum() == vis.times_mjd.size
        report = flag(vis, OPTIONS)
        assert report.antenna_reasons[str(north + 1)]["shadowed"] == 1.0
        assert report.by_reason["shadowed"] == pytest.approx(0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, complex(0.0, -np.inf), complex(np.nan, 1.0), 0.0, 1e30])
def test_values_that_are_no_visibilities(make_tile: MakeTile, value: complex) -> None:
    vis = make_tile(n_ant=8, n_time=8, n_chan=96, noise_jy=1.0, seed=11)
    where = np.zeros(vis.flags.shape, bool)
    where[np.random.default_rng(11).random(vis.flags.shape[:2]) < 0.02] = True
    vis.vis[where] = value
    flag(vis, OPTIONS)
    inside = cross(vis)
    assert vis.flags[inside][where[inside]].all()
    assert vis.flags[inside][~where[inside]].mean() < 0.02


@pytest.mark.parametrize(("n_time", "n_chan"), [(1, 32), (2, 3), (3, 1), (5, 5)])
def test_a_handful_of_integrations_and_channels(make_tile: MakeTile, n_time: int, n_chan: int) -> None:
    vis = make_tile(n_ant=8, n_time=n_time, n_chan=n_chan, noise_jy=1.0, seed=13)
    vis.vis[3, 0] = 1e18
    flag(vis, OPTIONS)
    assert vis.flags[3, 0].all()
    assert vis.flags[cross(vis)].mean() < 0.1


def test_all_flagged_is_a_state(make_tile: MakeTile) -> None:
    vis = make_tile(n_ant=5)
    vis.vis[:] = np.nan
    report = flag(vis, OPTIONS)
    assert vis.flags.all()
    assert report.total == 1.0
    assert report.dead_antennas == report.present_antennas


def test_one_antenna_that_is_left_has_nobody_to_correlate_with(make_tile: MakeTile) -> None:
    vis = make_tile(n_ant=5)
    vis.flags[cross(vis) & ~(touched(vis, 2))] = True
    vis.vis[touched(vis, 0) | touched(vis, 1) | touched(vis, 3) | touched(vis, 4)] = 0.0
    assert flag(vis, OPTIONS).total == 1.0
    only = vis.antenna1 == vis.antenna2
    vis.vis, vis.flags = vis.vis[only], vis.flags[only]
    vis.antenna1, vis.antenna2, vis.time_mjd = vis.antenna1[only], vis.antenna2[only], vis.time_mjd[only]
    vis.uvw_m = vis.uvw_m[only]
    with pytest.raises(CalibrationError, match="no cross-correlations"):
        flag(vis, OPTIONS)


def test_an_unknown_engine_is_refused(make_tile: MakeTile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="own, aoflagger"):
        flag(make_tile(n_ant=4), FlaggingOptions(engine="magic"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match="not installed"):
        flag(make_tile(n_ant=4), FlaggingOptions(engine="aoflagger"))


@pytest.mark.skipif(shutil.which("aoflagger") is None, reason="AOFlagger is not installed")
def test_aoflagger_as_the_engine(make_tile: MakeTile) -> None:
    vis = make_tile(n_ant=6, n_time=24, n_chan=96, noise_jy=1.0, seed=12)
    vis.vis[:, 40] += np.exp(2j * np.pi * np.random.default_rng(12).random(vis.vis[:, 40].shape)) * 200.0
    vis.vis[touched(vis, 2)] = 0.0
    report = flag(vis, FlaggingOptions(engine="aoflagger"))
    healthy = cross(vis) & ~touched(vis, 2)
    assert vis.flags[healthy][:, 40].mean() > 0.95
    assert report.dead_antennas == ["3"]
    assert report.by_reason["gaps"] + report.by_reason["given_up"] < 0.02
    # AOFlagger takes a tenth of clean fringes for interference: how much is its own affair, that it is not all is ours.
    assert vis.flags[healthy].mean() < 0.2
    assert report.by_reason["interference"] > 0.005
