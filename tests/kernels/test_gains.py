"""Normal equations against numpy, the solver against truth, delays against truth."""

import numpy as np
import pytest

from dsa110_contimg.kernels.baselines import baseline_rows
from dsa110_contimg.kernels.gains import fit_delays, normal_equations, solve_antennas, solve_one, unwrap_delays

N_ANT = 9


def test_normal_equations_are_their_definition() -> None:
    rng = np.random.default_rng(1)
    first, second = np.triu_indices(4)
    antenna1, antenna2 = np.tile(first, 6).astype(np.int32), np.tile(second, 6).astype(np.int32)
    shape = (antenna1.size, 5, 2)
    vis = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    model = (rng.normal(size=shape[:2]) + 1j * rng.normal(size=shape[:2])).astype(np.complex64)
    known = (rng.normal(size=(2, 4, 5, 2)) + 1j * rng.normal(size=(2, 4, 5, 2))).astype(np.complex64)
    flags = rng.random(shape) < 0.2
    vis[flags] = np.nan
    weights = rng.uniform(0.5, 2.0, (antenna1.size, 2)).astype(np.float32)
    interval = np.repeat([0, 0, 1, 1, 2, 2], first.size)
    group = np.array([0, 0, 1, 1, 1])
    when = np.repeat([0, 0, 0, 1, 1, 1], first.size)
    rows = baseline_rows(antenna1, antenna2)
    cross, power = normal_equations(vis, flags, weights, model, known, rows, (interval, group, when))
    index = np.arange(antenna1.size)
    seen = known[when[index], antenna1] * model[:, :, None] * np.conj(known[when[index], antenna2])
    weighted = np.where(flags, 0.0, weights[:, None, :])
    one = weighted * np.where(flags, 0.0, vis) * np.conj(seen)
    two = weighted * np.abs(seen) ** 2
    for base, (p, q) in enumerate(zip(rows.first, rows.second, strict=True)):
        for slot in range(3):
            mine = (antenna1 == p) & (antenna2 == q) & (interval == slot)
            for g in range(2):
                want = one[mine][:, group == g].sum(axis=(0, 1)), two[mine][:, group == g].sum(axis=(0, 1))
                np.testing.assert_allclose(cross[base, slot, g], want[0], rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(power[base, slot, g], want[1], rtol=1e-5)


def true_equations(gains: np.ndarray, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = gains.size
    power = np.triu(rng.uniform(0.5, 2.0, (n, n)), 1)
    spread = np.triu(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)), 1) * noise
    cross = np.triu(np.outer(gains, np.conj(gains)), 1) * power + spread * np.sqrt(power)
    return cross + cross.conj().T, power + power.T


@pytest.mark.parametrize("phase_only", [False, True])
def test_the_solver_finds_random_gains(phase_only: bool) -> None:
    rng = np.random.default_rng(2)
    size = np.ones(N_ANT) if phase_only else rng.uniform(0.02, 5.0, N_ANT)
    truth = size * np.exp(1j * rng.uniform(-np.pi, np.pi, N_ANT))
    solved, snr = solve_one(*true_equations(truth, 0.0, 3), phase_only, 4)
    assert np.all(np.abs(solved) > 0.01)
    turned = solved * np.exp(-1j * np.angle(solved[0])) * np.exp(1j * np.angle(truth[0]))
    np.testing.assert_allclose(turned, truth, rtol=1e-6)
    assert (snr > 1e3).all()


def test_antennas_without_enough_baselines_have_no_solution() -> None:
    cross, power = true_equations(np.exp(1j * np.arange(9.0)), 0.01, 4)
    for q in range(6):
        cross[8, q] = cross[q, 8] = power[8, q] = power[q, 8] = 0.0
    solved, snr = solve_one(cross, power, False, 4)
    assert solved[8] == 0.0
    assert snr[8] == 0.0
    assert (np.abs(solved[:8]) > 0.5).all()


def test_noise_alone_has_a_ratio_of_about_one() -> None:
    ratios = [solve_one(*true_equations(np.zeros(30, complex), 1.0, seed), True, 4)[1] for seed in range(20)]
    assert np.median(ratios) < 2.5


def test_solutions_of_different_slots_do_not_mix() -> None:
    rng = np.random.default_rng(6)
    truth = rng.uniform(0.5, 2.0, (2, N_ANT, 3, 2)) * np.exp(2j * np.pi * rng.random((2, N_ANT, 3, 2)))
    first, second = np.triu_indices(N_ANT, 1)
    power = np.ones((first.size, 2, 3, 2))
    cross = (truth[:, first] * np.conj(truth[:, second])).swapaxes(0, 1).copy()
    solved, _snr = solve_antennas(cross, power, first, second, N_ANT, False, 4)
    assert np.abs(solved).min() > 0.1
    anchor = truth[:, :1] * np.conj(solved[:, :1])
    np.testing.assert_allclose(solved * anchor / np.abs(anchor), truth, rtol=1e-5)


@pytest.mark.parametrize("step_hz", [244140.625, 1953125.0])
def test_delays_are_found_between_the_bins_and_across_gaps(step_hz: float) -> None:
    rng = np.random.default_rng(7)
    freq = np.arange(1311.3e6, 1498.7e6, step_hz)
    keep = np.ones(freq.size, bool)
    keep[freq.size // 4 : freq.size // 3] = False
    freq = freq[keep]
    delays = np.append(rng.uniform(-200.0, 200.0, 12), [0.0, 1000.0 if step_hz < 1e6 else 250.0])
    gains = np.exp(2j * np.pi * (delays[:, None] * 1e-9 * (freq - 1.405e9) + rng.random((delays.size, 1))))
    gains[3, ::3] = 0.0
    noise = rng.normal(0, 0.1, gains.shape) + 1j * rng.normal(0, 0.1, gains.shape)
    found, snr = fit_delays(np.where(gains == 0.0, 0.0, gains + noise), freq, 1.405e9, 2000.0)
    np.testing.assert_allclose(found, delays, atol=0.15 if step_hz > 1e6 else 0.05)
    assert (snr > 50).all()


def test_a_line_without_solutions_has_no_delay() -> None:
    gains = np.zeros((2, 16), complex)
    gains[1] = 1.0
    found, snr = fit_delays(gains, 1.4e9 + 1e6 * np.arange(16, dtype=np.float64), 1.4e9, 100.0)
    assert np.isnan(found[0])
    assert snr[0] == 0.0
    assert found[1] == pytest.approx(0.0, abs=1e-9)


def test_delays_on_a_circle_are_cut_in_the_widest_gap() -> None:
    truth = np.array([-190.0, -120.0, np.nan, 0.0, 90.0, 200.0])
    wrapped = (truth - 200.0 + 256.0) % 512.0 - 256.0
    unwrapped = unwrap_delays(wrapped, 512.0)
    np.testing.assert_allclose(unwrapped - unwrapped[3], truth)
