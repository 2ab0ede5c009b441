"""Interference is found, clean data are left alone, and the report adds up."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.flagging import edge_channels, flag
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities

MakeTile = Callable[..., Visibilities]
OPTIONS = FlaggingOptions()


def cross(vis: Visibilities) -> NDArray[np.bool_]:
    return np.asarray(vis.antenna1 < vis.antenna2)


def touched(vis: Visibilities, antenna: int) -> NDArray[np.bool_]:
    return np.asarray((vis.antenna1 == antenna) | (vis.antenna2 == antenna))


@pytest.mark.parametrize("noise_jy", [0.0, 0.05, 1.0, 30.0])
def test_a_calibrator_and_its_field_are_not_interference(make_tile: MakeTile, noise_jy: float) -> None:
    vis = make_tile(n_ant=20, n_time=24, n_chan=96, noise_jy=noise_jy, seed=5)
    report = flag(vis, OPTIONS)
    assert report.by_reason["outliers"] < 0.01
    assert report.total == pytest.approx(vis.flags[cross(vis)].mean())


def test_a_field_of_equals_is_not_interference(make_tile: MakeTile, sky: SkyModel) -> None:
    """Sources of like flux beat deeply: amplitudes run from zero to the sum of all."""
    equals = SkyModel(sky.names, sky.ra_deg, sky.dec_deg, np.full(len(sky), 5.0), sky.spectrum)
    vis = make_tile(n_ant=20, n_time=24, n_chan=96, noise_jy=0.3, seed=6, model=equals)
    assert flag(vis, OPTIONS).by_reason["outliers"] < 0.01


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
    assert report.by_reason["outliers"] > 0.04


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
    assert not vis.flags[healthy][:, 5:].any()
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
