"""The solver against truth: gains, their signal-to-noise ratios and errors."""

import numpy as np
import pytest

from dsa110_contimg.kernels.gains import Rules, amplitude_errors, phase_errors, solve_antennas, solve_one

N_ANT = 9


def solved_one(cross: np.ndarray, power: np.ndarray, *, phase_only: bool = False) -> tuple[np.ndarray, np.ndarray]:
    gains, snr = solve_one(cross, power, np.zeros(len(power), complex), Rules(phase_only, tolerance=1e-8))
    return gains, snr


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
    solved, snr = solved_one(*true_equations(truth, 0.0, 3), phase_only=phase_only)
    assert np.all(np.abs(solved) > 0.01)
    turned = solved * np.exp(-1j * np.angle(solved[0])) * np.exp(1j * np.angle(truth[0]))
    np.testing.assert_allclose(turned, truth, rtol=1e-6)
    assert (snr > 1e3).all()


def test_antennas_without_enough_baselines_have_no_solution() -> None:
    cross, power = true_equations(np.exp(1j * np.arange(9.0)), 0.01, 4)
    for q in range(6):
        cross[8, q] = cross[q, 8] = power[8, q] = power[q, 8] = 0.0
    solved, snr = solved_one(cross, power)
    assert solved[8] == 0.0
    assert snr[8] == 0.0
    assert (np.abs(solved[:8]) > 0.5).all()


def test_noise_alone_has_a_ratio_of_about_one() -> None:
    ratios = [solved_one(*true_equations(np.zeros(30, complex), 1.0, seed), phase_only=True)[1] for seed in range(20)]
    assert np.median(ratios) < 2.5


def test_solutions_of_different_slots_do_not_mix() -> None:
    rng = np.random.default_rng(6)
    truth = rng.uniform(0.5, 2.0, (2, N_ANT, 3, 2)) * np.exp(2j * np.pi * rng.random((2, N_ANT, 3, 2)))
    first, second = np.triu_indices(N_ANT, 1)
    power = np.ones((first.size, 2, 3, 2))
    cross = (truth[:, first] * np.conj(truth[:, second])).swapaxes(0, 1).copy()
    solved, _snr = solve_antennas((cross, power), (first, second), np.zeros(truth.shape, complex))
    assert np.abs(solved).min() > 0.1
    anchor = truth[:, :1] * np.conj(solved[:, :1])
    np.testing.assert_allclose(solved * anchor / np.abs(anchor), truth, rtol=1e-5)


def test_a_known_start_leads_to_the_same_gains() -> None:
    truth = np.exp(1j * np.arange(9.0))
    cross, power = true_equations(truth, 0.2, 8)
    fresh, _snr = solved_one(cross.copy(), power.copy())
    warm, _snr = solve_one(cross, power, truth + 0.1, Rules(tolerance=1e-8))
    np.testing.assert_allclose(warm * np.conj(warm[0]), fresh * np.conj(fresh[0]), atol=1e-6)


@pytest.mark.parametrize("phase_only", [False, True])
def test_errors_are_the_scatter_of_many_noise_realizations(phase_only: bool) -> None:
    n_ant, n_try, noise = 14, 1500, 0.1
    print("seed 12")
    rng = np.random.default_rng(12)
    truth = (1.0 if phase_only else rng.uniform(0.8, 1.2, n_ant)) * np.exp(2j * np.pi * rng.random(n_ant))
    first, second = np.triu_indices(n_ant, 1)
    draw = rng.normal(size=(2, first.size, n_try, 1, 1))
    cross = (truth[first] * np.conj(truth[second]))[:, None, None, None] + noise * (draw[0] + 1j * draw[1])
    start = np.zeros((n_try, n_ant, 1, 1), complex)
    gains, snr = solve_antennas((cross, np.ones(cross.shape)), (first, second), start, Rules(phase_only))
    if phase_only:
        value = np.angle(gains * np.conj(gains[:, 2:3]) * np.conj(truth / truth[2])[:, None, None])
        error = phase_errors(gains, snr, 2)
        assert (error[:, 2] == 0.0).all()
    else:
        value, error = np.abs(gains), amplitude_errors(gains, snr)
    other = np.arange(n_ant) != 2
    ratio = value[:, other].std(axis=0) / np.sqrt((error[:, other] ** 2).mean(axis=0))
    np.testing.assert_allclose(ratio, 1.0, atol=0.08)
    assert ratio.mean() == pytest.approx(1.0, abs=0.03)
