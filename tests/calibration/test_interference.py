"""Known interference at the telescope's channel width is found; a strong source far off and a rough band are not."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.flagging import FlagReport, flag
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.simulation.interference import Geometry, InterferenceTruth, draw_transmitters, inject
from dsa110_contimg.telescope import tangent_basis_itrs
from dsa110_contimg.visibilities import SkyModel, Visibilities

N_ANT, N_TIME, N_CHAN = 12, 24, 768
NOISE_JY = 2.6
MakeTile = Callable[..., Visibilities]
NOTCHES_MHZ = (1350.0, 1395.0, 1405.0, 1422.0, 1475.0)


def rough_gains(freq_hz: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.complex128]:
    """Raw amplitudes with edges of subbands and notches, delays of some nanoseconds."""
    place = np.arange(freq_hz.size) % 48
    edge = 1.0 - 0.4 * np.exp(-np.minimum(place, 47 - place))
    notch = 1.0 - sum(0.5 * np.exp(-0.5 * ((1e-6 * freq_hz - f) / 0.4) ** 2) for f in NOTCHES_MHZ)
    amplitude = 0.068 * rng.uniform(0.8, 1.2, (N_ANT, 1, 2)) * (edge * notch)[:, None]
    turns = rng.random((N_ANT, 1, 2)) + rng.normal(0.0, 5e-9, (N_ANT, 1, 2)) * (freq_hz[:, None] - 1.405e9)
    return np.asarray(amplitude * np.exp(2j * np.pi * turns))


def off_center(vis: Visibilities) -> SkyModel:
    """16 Jy a degree off on both axes, and others."""
    ra0, dec0 = vis.phase_center
    ra = ra0 + np.array([0.7, -0.9, 0.3, -0.2]) / np.cos(np.radians(dec0))
    dec = dec0 + np.array([0.7, 0.4, -0.8, 0.9])
    return SkyModel(list("abcd"), ra, dec, np.array([16.0, 2.0, 1.0, 0.5]), np.full((4, 1), -0.7))


def build(make_tile: MakeTile, seed: int) -> tuple[Visibilities, NDArray[np.complex128]]:
    rng = np.random.default_rng(seed)
    frame = make_tile(n_ant=N_ANT, n_time=1, n_chan=N_CHAN, noise_jy=0.0, seed=seed)
    gains = rough_gains(frame.freq_hz, rng)
    sky = off_center(frame)
    return make_tile(gains, n_ant=N_ANT, n_time=N_TIME, n_chan=N_CHAN, noise_jy=NOISE_JY, seed=seed, model=sky), gains


def contaminate(
    vis: Visibilities, gains: NDArray[np.complex128], counts: dict[str, int], seed: int, sparks: float = 0.0
) -> InterferenceTruth:
    center = tangent_basis_itrs(*vis.phase_center, np.array([vis.mid_mjd]))[0][2]
    geometry = Geometry(
        vis.antenna_itrf_m[:N_ANT] + 3e6, center, vis.freq_hz, vis.channel_width_hz, vis.integration_s, N_TIME
    )
    rows = (vis.antenna1, vis.antenna2, np.searchsorted(vis.times_mjd, vis.time_mjd))
    level = (np.abs(gains) * np.sqrt(NOISE_JY)).astype(np.float32)
    transmitters = draw_transmitters(geometry, counts, (2.0, 60.0), seed)
    return inject(vis.vis, rows, level, geometry, transmitters, (sparks, 7.0, seed))


def lost(report: FlagReport) -> float:
    return sum(report.by_reason[name] for name in ("interference", "common_interference", "gaps", "given_up"))


def test_a_strong_source_far_off_and_a_rough_band_are_not_interference(make_tile: MakeTile) -> None:
    vis, _gains = build(make_tile, 21)
    assert lost(flag(vis, FlaggingOptions())) < 0.01


@pytest.mark.parametrize(
    ("counts", "sparks"),
    [({"line": 12}, 0.0), ({"burst": 3}, 0.0), ({"broadband": 4}, 0.0), ({"satellite": 6}, 0.0), ({}, 0.002)],
    ids=["lines", "bursts", "broadband", "satellites", "sparks"],
)
def test_known_interference_is_found(make_tile: MakeTile, counts: dict[str, int], sparks: float) -> None:
    vis, gains = build(make_tile, 22)
    truth = contaminate(vis, gains, counts, 22, sparks)
    flag(vis, FlaggingOptions())
    inside = vis.antenna1 != vis.antenna2
    flags, tenths = vis.flags[inside], truth.tenths[inside]
    large = np.broadcast_to(truth.large[inside][:, :, None], flags.shape)
    assert (tenths >= 60).sum() > 100
    assert flags[tenths >= 60].mean() > 0.95
    if counts:
        assert flags[(tenths >= 30) & large].mean() > 0.90
    assert flags[tenths == 0].mean() < 0.01


def test_what_is_injected_is_what_the_truth_says(make_tile: MakeTile) -> None:
    vis, gains = build(make_tile, 23)
    before = vis.vis.copy()
    truth = contaminate(vis, gains, {"line": 3, "satellite": 2}, 23, 0.001)
    level = np.abs(gains[vis.antenna1] * gains[vis.antenna2]) * NOISE_JY
    strength = np.abs(vis.vis - before) / level
    alone = (truth.tenths > 5) & (truth.tenths < 250)
    # Several transmitters on one sample add in the truth, and beat in the data.
    assert np.median(np.abs(10.0 * strength[alone] - truth.tenths[alone])) < 0.5
    assert strength[truth.tenths == 0].max() < 0.1
