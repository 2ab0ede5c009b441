"""Applying undoes corrupting; what has no solution is flagged; other strips are refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.apply import apply, mix
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains, SkyModel, Visibilities, predict

MakeTile = Callable[..., Visibilities]
MakeGains = Callable[..., NDArray[np.complex128]]
OPTIONS = CalibrationOptions()
N_TABLE = 15


def table_of(vis: Visibilities, values: NDArray[np.complex128], *, kind: str = "BP") -> Gains:
    """Return a table at mid-tile holding (n_antenna, n_freq, 2) values; antennas beyond them are flagged."""
    full = np.full((1, N_TABLE, *values.shape[1:]), np.nan + 1j * np.nan)
    full[0, : len(values)] = values
    return Gains(
        kind=kind,
        time_mjd=np.array([vis.mid_mjd]),
        freq_hz=vis.freq_hz.copy() if values.shape[1] > 1 else np.array([1.405e9]),
        values=full,
        flags=np.isnan(full.real),
        snr=np.full(full.shape, 50.0),
        reference_antenna="1",
        antenna_names=list(vis.antenna_names),
        antenna_itrf_m=vis.antenna_itrf_m,
        source="3C48",
        flux_anchor="3C48",
        dec_deg=33.2,
    )


def test_the_right_gains_restore_the_model(make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel) -> None:
    truth = make_gains()
    delays = np.random.default_rng(4).uniform(-100.0, 100.0, (14, 1, 2))
    blank = make_tile(noise_jy=0.0)
    slope = np.exp(2j * np.pi * delays * 1e-9 * (blank.freq_hz - 1.405e9)[None, :, None])
    vis = make_tile(truth * slope, noise_jy=0.0)
    apply(vis, [table_of(vis, delays.astype(complex), kind="K"), table_of(vis, truth)], OPTIONS)
    assert not vis.flags[vis.antenna1 < vis.antenna2].any()
    np.testing.assert_allclose(vis.vis[..., 0], predict(vis, sky), rtol=2e-5, atol=1e-4)
    np.testing.assert_allclose(vis.vis[..., 1], predict(vis, sky), rtol=2e-5, atol=1e-4)


def test_weights_become_inverse_variances_in_jansky(make_tile: MakeTile, make_gains: MakeGains) -> None:
    noise_jy = 0.7
    truth = make_gains(n_chan=96)
    vis = make_tile(truth, n_chan=96, noise_jy=0.0)
    rng = np.random.default_rng(9)
    raw_sigma = noise_jy * 0.07**2
    vis.vis += rng.normal(0, raw_sigma, vis.vis.shape) + 1j * rng.normal(0, raw_sigma, vis.vis.shape)
    apply(vis, [table_of(vis, truth)], OPTIONS)
    cross = vis.antenna1 < vis.antenna2
    gain2 = np.abs(truth[vis.antenna1] * np.conj(truth[vis.antenna2])) ** 2
    expected = 1.0 / (raw_sigma**2 / gain2).mean(axis=1)
    # The fringes that differences let through make the noise look larger by a few per cent at most.
    assert np.median(vis.weights[cross] / expected[cross]) == pytest.approx(1.0, abs=0.06)
    assert np.std(np.log(vis.weights[cross] / expected[cross])) < 5e-3


def test_no_solution_means_a_flag(make_tile: MakeTile, make_gains: MakeGains) -> None:
    truth = make_gains()
    vis = make_tile(truth)
    table = table_of(vis, truth)
    table.flags[0, 3] = True
    table.flags[0, :, 10] = True
    table.antenna_names[6] = "elsewhere"
    apply(vis, [table], OPTIONS)
    lost = np.isin(vis.antenna1, (3, 6)) | np.isin(vis.antenna2, (3, 6))
    assert vis.flags[lost].all()
    assert vis.flags[:, 10].all()
    assert (vis.weights[lost] == 0.0).all()
    rest = ~lost & (vis.antenna1 < vis.antenna2)
    assert not np.delete(vis.flags[rest], 10, axis=1).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0.0, -np.inf)])
def test_what_is_no_number_becomes_a_flag(bad: complex, make_tile: MakeTile, make_gains: MakeGains) -> None:
    truth = make_gains()
    vis = make_tile(truth)
    vis.vis[5, 3, 1] = vis.vis[9] = bad
    apply(vis, [table_of(vis, truth)], OPTIONS)
    assert vis.flags[5, 3, 1]
    assert vis.flags[9].all()
    assert np.isfinite(vis.vis).all()
    assert np.isfinite(vis.weights).all()
    assert (vis.weights[9] == 0.0).all()


def test_another_strips_table_is_refused_by_name(make_tile: MakeTile, make_gains: MakeGains) -> None:
    truth = make_gains()
    vis = make_tile(truth)
    before = vis.vis.copy()
    with pytest.raises(CalibrationError, match=r"BP table of 3C48 .* 16\.10 deg"):
        apply(vis, [replace(table_of(vis, truth), dec_deg=16.1)], OPTIONS)
    with pytest.raises(CalibrationError, match="dec_tolerance_deg"):
        apply(vis, [replace(table_of(vis, truth), dec_deg=np.nan)], OPTIONS)
    np.testing.assert_array_equal(vis.vis, before)
    table = table_of(vis, truth)
    with pytest.raises(CalibrationError, match=r"BP table of 3C48 covers .* MHz and synthetic 1314"):
        apply(vis, [replace(table, freq_hz=table.freq_hz + 300e6)], OPTIONS)
    with pytest.raises(CalibrationError, match="no calibration table"):
        apply(vis, [], OPTIONS)
    with pytest.raises(CalibrationError, match="no antenna name"):
        apply(vis, [replace(table_of(vis, truth), antenna_names=[f"a{i}" for i in range(N_TABLE)])], OPTIONS)


def test_times_between_solutions_are_interpolated(make_tile: MakeTile) -> None:
    vis = make_tile(n_time=5)
    truth = vis.vis.copy()
    times = vis.times_mjd
    ends = np.exp(1j * np.random.default_rng(1).uniform(-3.0, 3.0, (2, N_TABLE, 1, 2)))
    ends[1] = ends[0] * np.exp(0.8j * np.arange(N_TABLE) / N_TABLE)[:, None, None]
    table = replace(
        table_of(vis, ends[0], kind="2G"),
        time_mjd=times[[0, -1]],
        values=ends,
        flags=np.zeros(ends.shape, bool),
    )
    share = ((vis.time_mjd - times[0]) / (times[-1] - times[0]))[:, None, None]
    path = ends[0] * np.exp(0.8j * np.arange(N_TABLE) / N_TABLE * share[:, 0])[..., None, None]
    index = np.arange(vis.time_mjd.size)
    vis.vis *= (path[index, vis.antenna1] * np.conj(path[index, vis.antenna2])).astype(np.complex64)
    assert np.abs(vis.vis - truth).max() > 1.0
    apply(vis, [table], OPTIONS, measure_weights=False)
    np.testing.assert_allclose(vis.vis, truth, atol=2e-4)


def test_channels_are_matched_interpolated_or_flagged(make_tile: MakeTile) -> None:
    vis = make_tile(np.full((14, 32, 2), 2.0 + 0j), noise_jy=0.0)
    truth = vis.vis / 4.0
    table = table_of(vis, np.full((14, 32, 2), 2.0 + 0j))
    inner = np.r_[2:15, 16:30]
    table = replace(
        table,
        freq_hz=table.freq_hz[inner],
        values=table.values[:, :, inner],
        flags=table.flags[:, :, inner],
        snr=table.snr[:, :, inner],
    )
    apply(vis, [table], OPTIONS, measure_weights=False)
    assert vis.flags[:, [0, 1, 30, 31]].all()
    cross = vis.antenna1 < vis.antenna2
    assert not vis.flags[cross][:, 2:30].any()
    np.testing.assert_allclose(vis.vis[cross][:, 2:30], truth[cross][:, 2:30], rtol=1e-6)


def test_a_mixture_of_phases_stays_one() -> None:
    phases = np.exp(1j * np.linspace(-3.0, 3.0, 50))
    mixed = mix(phases, phases[::-1], np.full(50, 0.3))
    np.testing.assert_allclose(np.abs(mixed), 1.0, rtol=1e-12)
    assert np.isnan(mix(np.array([np.nan + 0j]), np.array([1.0 + 0j]), np.array([0.5]))).all()
    assert mix(np.array([np.nan + 0j]), np.array([1.0 + 0j]), np.array([1.0])) == 1.0
