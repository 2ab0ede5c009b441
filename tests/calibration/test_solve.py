"""Corrupt with known gains, and get them back."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.calibration.problem import Prediction
from dsa110_contimg.calibration.reference import referenced
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains, SkyModel, Visibilities

MakeTile = Callable[..., Visibilities]
MakeGains = Callable[..., NDArray[np.complex128]]
OPTIONS = CalibrationOptions(reference_antenna="3")


def solve_k_bp(vis: Visibilities, sky: SkyModel | Prediction, options: CalibrationOptions = OPTIONS) -> list[Gains]:
    return solve_bandpass(vis, sky, options, source="3C48", flux_anchor="3C48")


def product(k: Gains, bp: Gains) -> NDArray[np.complex128]:
    """Return the whole gain, (n_antenna, n_chan, n_pol)."""
    turns = k.values[0].real * 1e-9 * (bp.freq_hz - k.freq_hz[0])[None, :, None]
    return np.asarray(bp.values[0] * np.exp(2j * np.pi * turns))


def test_bandpass_and_delays_give_the_true_gains_back(
    make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel
) -> None:
    truth = make_gains(delays_ns=60.0)
    k, bp = solve_k_bp(make_tile(truth), sky)
    solved = product(k, bp)[:14]
    assert np.abs(solved).min() > 0.01, "an all-zero answer would pass the next line for flagged antennas"
    want = referenced(truth[None], 2)[0]
    error = np.abs(solved / want - 1.0)
    assert np.median(error) < 0.01
    assert error.max() < 0.06
    assert np.mean(np.abs(solved) / np.abs(want)) == pytest.approx(1.0, abs=1e-3), "the flux scale"


def test_without_noise_gains_are_exact(make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel) -> None:
    truth = make_gains(delays_ns=60.0)
    k, bp = solve_k_bp(make_tile(truth, noise_jy=0.0), sky)
    solved = product(k, bp)[:14]
    assert np.any(solved)
    np.testing.assert_allclose(solved, referenced(truth[None], 2)[0], rtol=1e-4)


@pytest.mark.parametrize(("n_chan", "seed"), [(96, 3), (768, 4)])
def test_delays_of_200_ns_are_recovered_across_gaps(n_chan: int, seed: int, make_tile: MakeTile, sky: SkyModel) -> None:
    rng = np.random.default_rng(seed)
    delays = rng.uniform(-200.0, 200.0, (8, 2))
    blank = make_tile(n_ant=8, n_time=3, n_chan=n_chan, noise_jy=0.0)
    turns = delays[:, None, :] * 1e-9 * (blank.freq_hz - 1.405e9)[None, :, None]
    phases = rng.uniform(-3.0, 3.0, (8, 1, 2))
    vis = make_tile(0.07 * np.exp(1j * (2 * np.pi * turns + phases)), n_ant=8, n_time=3, n_chan=n_chan)
    subband = n_chan // 16
    vis.flags[:, 3 * subband : 5 * subband] = True
    vis.flags[:, 10 * subband : 11 * subband] = True
    k, bp = solve_k_bp(vis, sky)
    np.testing.assert_allclose(k.values[0, :8, 0].real, delays - delays[2], atol=0.05)
    assert bp.flags[:, :, 3 * subband : 5 * subband].all()
    assert not bp.flags[0, :8, : 3 * subband].any()


def test_phases_that_drift_do_not_dim_the_bandpass(make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel) -> None:
    truth = make_gains()
    vis = make_tile(truth, n_time=24)
    rate = np.random.default_rng(5).normal(0.0, 0.8, 15)
    elapsed = (vis.time_mjd - vis.mid_mjd) / np.ptp(vis.time_mjd)
    turn = np.exp(1j * elapsed * (rate[vis.antenna1] - rate[vis.antenna2]))
    vis.vis *= turn[:, None, None].astype(np.complex64)
    _k, bp = solve_k_bp(vis, sky)
    ratio = np.abs(bp.values[0, :14]) / np.abs(truth)
    assert np.mean(ratio) == pytest.approx(1.0, abs=2e-3)


def test_a_five_percent_gain_error_is_seen(make_tile: MakeTile, sky: SkyModel) -> None:
    gains = np.ones((14, 32, 2), complex)
    gains[4] *= 1.05
    solved = solve_gains(make_tile(gains), sky, OPTIONS, kind="G", source="3C48", flux_anchor="3C48")
    amplitude = np.abs(solved.values[0, :14, 0])
    assert amplitude[4] == pytest.approx([1.05, 1.05], abs=0.005)
    assert np.delete(amplitude, 4, axis=0) == pytest.approx(1.0, abs=0.005)


def test_phase_only_solutions_recover_phases_and_cannot_move_the_flux_scale(make_tile: MakeTile, sky: SkyModel) -> None:
    rng = np.random.default_rng(11)
    phases = np.exp(1j * rng.uniform(-3.0, 3.0, (14, 1, 2)))
    wrong_scale = 1.3
    vis = make_tile(np.broadcast_to(wrong_scale * phases, (14, 32, 2)))
    gp = solve_gains(vis, sky, OPTIONS, kind="GP", source="catalogue", flux_anchor="3C48")
    assert gp.flux_anchor == "none"
    assert np.abs(gp.values[~gp.flags]) == pytest.approx(1.0, abs=1e-12)
    difference = np.degrees(np.angle(gp.values[0, :14, 0] * np.conj(phases[:, 0] * np.conj(phases[2, 0]))))
    assert np.abs(difference).max() < 0.5
    before = np.abs(vis.vis).mean(dtype=float)
    apply(vis, [gp], OPTIONS, measure_weights=False)
    assert np.abs(vis.vis).mean(dtype=float) == pytest.approx(before, rel=1e-6)


def test_short_intervals_follow_phases(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile(n_time=24)
    minute = ((vis.time_mjd - vis.time_mjd.min()) * 86400.0 + 6.5) // 61.9
    drift = np.random.default_rng(2).normal(0.0, 0.5, (5, 15))
    turn = drift[minute.astype(int), vis.antenna1] - drift[minute.astype(int), vis.antenna2]
    vis.vis *= np.exp(1j * turn).astype(np.complex64)[:, None, None]
    solved = solve_gains(vis, sky, OPTIONS, kind="2G", source="3C48")
    assert solved.values.shape == (5, 15, 1, 2)
    want = drift[:, :14] - drift[:, 2:3]
    assert np.any(np.abs(want) > 0.3)
    np.testing.assert_allclose(np.angle(solved.values[:, :14, 0, 0] * np.exp(-1j * want)), 0.0, atol=0.02)


def test_dead_and_absent_antennas_are_flagged_never_one(
    make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel
) -> None:
    vis = make_tile(make_gains())
    dead = (vis.antenna1 == 5) | (vis.antenna2 == 5)
    vis.vis[dead] = 0.0
    vis.flags[dead] = True
    for table in [*solve_k_bp(vis, sky), solve_gains(vis, sky, OPTIONS, kind="GP", source="3C48")]:
        for antenna in (5, 14):
            assert table.flags[:, antenna].all()
            assert not np.isfinite(table.values[:, antenna]).any()
        assert not table.flags[:, :5].any()
        assert "15" not in table.metadata["present_antennas"].split(",")
        assert "6" in table.metadata["present_antennas"].split(",")


def test_an_antenna_of_pure_noise_is_flagged(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile(n_chan=4, n_time=6)
    noisy = (vis.antenna1 == 8) | (vis.antenna2 == 8)
    rng = np.random.default_rng(3)
    vis.vis[noisy] = rng.normal(0, 5, vis.vis[noisy].shape) + 1j * rng.normal(0, 5, vis.vis[noisy].shape)
    options = replace(OPTIONS, min_snr=5.0)
    gp = solve_gains(vis, sky, options, kind="GP", source="3C48")
    assert gp.flags[:, 8].all()
    assert not gp.flags[:, :8].any()


def test_signal_to_noise_tells_the_scatter_of_the_solutions(make_tile: MakeTile, sky: SkyModel) -> None:
    tables = [
        solve_gains(make_tile(seed=seed, noise_jy=20.0), sky, OPTIONS, kind="G", source="3C48", flux_anchor="3C48")
        for seed in range(100, 116)
    ]
    # Each seed draws its own array, but the solutions have one true value.
    amplitude = np.abs([table.values[0, :14, 0, 0] for table in tables])
    expected = np.median([1.0 / table.snr[0, :14, 0, 0] for table in tables])
    assert amplitude.std() == pytest.approx(expected, rel=0.15)


def test_one_baseline_that_the_model_misses_is_weighted_down(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile(noise_jy=0.1)
    vis.vis[(vis.antenna1 == 0) & (vis.antenna2 == 1)] *= 3.0
    solved = solve_gains(vis, sky, OPTIONS, kind="G", source="3C48", flux_anchor="3C48")
    assert np.abs(solved.values[0, :14, 0]) == pytest.approx(1.0, abs=0.01)


def test_the_model_may_be_given_as_visibilities(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile()
    one = solve_gains(vis, sky, OPTIONS, kind="GP", source="3C48")
    two = solve_gains(vis, Prediction.of(vis, sky), OPTIONS, kind="GP", source="3C48")
    np.testing.assert_array_equal(one.values, two.values)


def test_the_healthiest_antenna_is_the_reference(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile()
    half = (vis.antenna1 < 7) | (vis.antenna2 < 7)
    vis.flags[half & (vis.time_mjd > 0), :16] = True
    _k, bp = solve_bandpass(vis, sky, CalibrationOptions(), source="3C48", flux_anchor="3C48")
    assert int(bp.reference_antenna) - 1 >= 7
    reference = bp.values[0, int(bp.reference_antenna) - 1, 16:]
    np.testing.assert_allclose(np.angle(reference), 0.0, atol=1e-9)


def test_what_cannot_be_solved_says_so(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile()
    with pytest.raises(CalibrationError, match="reference antenna 99"):
        solve_k_bp(vis, sky, replace(OPTIONS, reference_antenna="99"))
    with pytest.raises(CalibrationError, match="3C286 is to set the flux scale"):
        solve_bandpass(vis, sky, OPTIONS, source="3C286", flux_anchor="3C286")
    with pytest.raises(CalibrationError, match="sky model of synthetic is empty"):
        solve_k_bp(vis, sky.select(np.zeros(13, bool)))
    nowhere = Prediction(np.full(vis.vis.shape[:2], np.nan, np.complex64), 1, np.nan)
    with pytest.raises(CalibrationError, match="is no number"):
        solve_k_bp(vis, nowhere)
    alone = copy.deepcopy(vis)
    alone.flags[(vis.antenna1 != 4) | (vis.antenna2 != 4)] = True
    with pytest.raises(CalibrationError, match="no antenna"):
        solve_k_bp(alone, sky)
    vis.flags[:] = True
    with pytest.raises(CalibrationError, match="no antenna"):
        solve_k_bp(vis, sky)
    with pytest.raises(CalibrationError, match="no antenna"):
        solve_gains(vis, sky, OPTIONS, kind="GP", source="3C48")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_values_that_are_no_number_or_zero_change_nothing(
    bad: float, make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel
) -> None:
    vis = make_tile(make_gains(), n_ant=8)
    spoiled = np.random.default_rng(1).random(vis.vis.shape) < 0.1
    vis.flags[spoiled] = True
    want = solve_k_bp(vis, sky)
    vis.vis[spoiled], vis.flags[:] = bad, False
    vis.weights[0] = np.nan
    vis.weights[1] = -1.0
    flagged = copy.deepcopy(vis)
    for one, two in zip(solve_k_bp(vis, sky), want, strict=True):
        assert not two.flags[:, :8].any()
        np.testing.assert_allclose(one.values[:, :8], two.values[:, :8], rtol=2e-2, atol=5e-3 * (one.kind == "K"))
        np.testing.assert_array_equal(one.flags, two.flags)
    apply(flagged, want, OPTIONS)
    assert np.isfinite(flagged.vis[~flagged.flags]).all()


def test_amplitudes_solved_without_an_anchor_cannot_move_the_flux_scale(make_tile: MakeTile, sky: SkyModel) -> None:
    rng = np.random.default_rng(8)
    true = rng.uniform(0.9, 1.1, (14, 1, 2)) * np.exp(1j * rng.uniform(-1.0, 1.0, (14, 1, 2)))
    true /= np.exp(np.log(np.abs(true)).mean(axis=0))
    vis = make_tile(np.broadcast_to(1.2 * true, (14, 32, 2)))
    solved = solve_gains(vis, sky, OPTIONS, kind="G", source="catalogue", flux_anchor="catalogue")
    assert solved.flux_anchor == "none"
    np.testing.assert_allclose(np.log(np.abs(solved.values[0, :14])).mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.abs(solved.values[0, :14]), np.abs(true), rtol=0.01)


def test_a_reference_that_fades_takes_nobody_along(make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel) -> None:
    truth = make_gains(delays_ns=40.0)
    vis = make_tile(truth, noise_jy=0.2)
    third = (vis.antenna1 == 2) | (vis.antenna2 == 2)
    vis.flags[third, 10:15, 0] = True
    vis.flags[third, :, 1] = True
    k, bp = solve_k_bp(vis, sky)
    assert bp.reference_antenna == "3"
    assert bp.flags[0, 2, 10:15, 0].all()
    others = np.arange(14) != 2
    assert not bp.flags[0, :14][others].any()
    solved = product(k, bp)[:14]
    # The reference's own ripple is what the others' phases jump by where it comes back.
    turn = np.angle(solved[..., 0] * np.conj(referenced(truth[None], 2)[0, ..., 0]))
    assert np.abs(turn[others]).max() < 0.05
    for_y = product(k, bp)[:14, :, 1]
    stand_in = int(np.flatnonzero(np.abs(np.angle(for_y[others])).max(axis=1) < 1e-6)[0])
    want = referenced(truth[None, others], stand_in)[0, ..., 1]
    np.testing.assert_allclose(np.angle(for_y[others] * np.conj(want)), 0.0, atol=0.05)


def test_a_reference_that_fades_for_a_minute_leaves_phases_steady(make_tile: MakeTile, sky: SkyModel) -> None:
    vis = make_tile(n_time=24)
    minute = ((vis.time_mjd - vis.time_mjd.min()) * 86400.0 + 6.5) // 61.9
    third = (vis.antenna1 == 2) | (vis.antenna2 == 2)
    vis.flags[third & (minute == 2)] = True
    drift = 0.3 * np.arange(5)[:, None] * np.random.default_rng(2).normal(0.0, 0.3, 15)
    turn = drift[minute.astype(int), vis.antenna1] - drift[minute.astype(int), vis.antenna2]
    vis.vis *= np.exp(1j * turn).astype(np.complex64)[:, None, None]
    solved = solve_gains(vis, sky, OPTIONS, kind="2G", source="3C48")
    others = np.arange(14) != 2
    assert solved.flags[2, 2].all()
    assert not solved.flags[:, :14][:, others].any()
    want = drift[:, :14] - drift[:, 2:3]
    np.testing.assert_allclose(np.angle(solved.values[:, :14, 0, 0] * np.exp(-1j * want))[:, others], 0.0, atol=0.02)


def rms_over_bound(solved: NDArray[np.complex128], truth: NDArray[np.complex128], information: float) -> float:
    """Return the rms relative error of gains (n_antenna, n_chan, n_pol) over the Cramér-Rao bound; NaN is left out."""
    n, other = len(truth), np.arange(len(truth)) != 2
    bound = np.sqrt(((2 * n - 3) / ((n - 2) * (2 * n - 2)) + 2.0 / n) / information)
    return float(np.sqrt(np.nanmean(np.abs(solved / truth - 1.0)[other] ** 2)) / bound)


@pytest.mark.parametrize("spoiled_jy", [0.0, 200.0, 1e12])
def test_gains_are_within_the_bound_also_with_interference_that_flagging_left(
    spoiled_jy: float, make_gains: MakeGains, make_tile: MakeTile
) -> None:
    n_ant, n_chan, n_time, flux, noise = 16, 96, 24, 16.0, 5.0
    blank = make_tile(n_ant=n_ant, n_time=n_time, n_chan=n_chan, noise_jy=0.0)
    truth = make_gains(n_ant, n_chan, delays_ns=20.0)
    rng = np.random.default_rng(31)
    draw = rng.normal(0.0, noise, (*blank.vis.shape, 2))
    signal = flux + draw[..., 0] + 1j * draw[..., 1]
    lost: NDArray[np.bool_] = np.less(rng.random(signal.shape), 0.1 if spoiled_jy else 0.0)
    signal[lost] += spoiled_jy * np.exp(2j * np.pi * rng.random(np.count_nonzero(lost)))
    lost &= rng.random(signal.shape) < 0.98
    blank.vis[:] = signal * truth[blank.antenna1] * np.conj(truth[blank.antenna2])
    blank.flags[lost] = True
    model = Prediction(np.full(blank.vis.shape[:2], flux, np.complex64), 1, flux)
    information = (flux / noise) ** 2 * n_time * (1.0 - lost.mean())
    ratio = {}
    for robust in (True, False) if spoiled_jy < 1e3 else (True,):
        k, bp = solve_bandpass(blank, model, replace(OPTIONS, robust=robust), source="3C48", flux_anchor="3C48")
        assert not bp.flags[0, :n_ant].any()
        ratio[robust] = rms_over_bound(product(k, bp)[:n_ant], referenced(truth[None], 2)[0], information)
    print(ratio)
    assert ratio[True] < 1.2
    assert spoiled_jy != 200.0 or ratio[False] > 1.5, "the interference would do harm"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Thousands of small solves wait for each other's threads where cores are shared."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_errors_are_the_scatter_of_many_noise_realizations(make_gains: MakeGains, make_tile: MakeTile) -> None:
    n_ant, n_chan, flux = 10, 24, 16.0
    vis = make_tile(n_ant=n_ant, n_time=12, n_chan=n_chan, noise_jy=0.0)
    truth = make_gains(n_ant, n_chan, delays_ns=20.0)
    model = Prediction(np.full(vis.vis.shape[:2], flux, np.complex64), 1, flux)
    print("seed 41")
    rng = np.random.default_rng(41)
    values: dict[str, list[NDArray[np.float64]]] = {"K": [], "BP": [], "G": [], "GP": []}
    errors: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in values}
    for _ in range(400):
        noise = rng.normal(0.0, 4.0, (*vis.vis.shape, 2))
        jansky = flux + noise[..., 0] + 1j * noise[..., 1]
        vis.vis[:] = jansky * truth[vis.antenna1] * np.conj(truth[vis.antenna2])
        tables = solve_bandpass(vis, model, OPTIONS, source="3C48", flux_anchor="3C48")
        vis.vis[:] = jansky
        tables.append(solve_gains(vis, model, OPTIONS, kind="G", source="3C48", flux_anchor="3C48"))
        tables.append(solve_gains(vis, model, OPTIONS, kind="GP", source="3C48"))
        for table in tables:
            found = table.values[:, :n_ant]
            number = {"K": found.real, "GP": np.angle(found)}.get(table.kind, np.abs(found))
            values[table.kind].append(np.delete(number, 2, axis=1))
            errors[table.kind].append(np.delete(table.errors[:, :n_ant], 2, axis=1))
            assert np.isnan(table.errors[:, n_ant]).all()
    for kind, found_values in values.items():
        scatter, error = np.array(found_values).var(axis=0, ddof=1).mean(), (np.array(errors[kind]) ** 2).mean()
        print(kind, np.sqrt(scatter / error))
        assert np.sqrt(scatter / error) == pytest.approx(1.0, abs=0.05)
