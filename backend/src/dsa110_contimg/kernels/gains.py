r"""Antenna gains from normal equations: an alternating solver, robust against baselines that the model misses.

With A and B of `normal_equations` and the other antennas held, the best gain of one is

    g_p = Σ_q A_pq g_q / Σ_q B_pq |g_q|²

and alternating over antennas, averaging every second iterate with the one before, converges fast (StEFCal: Salvini
& Wijnholds 2014, A&A 571, A97). For phases alone g_p = Σ_q A_pq g_q, scaled to length one.

Baselines that the model does not describe are weighed down: with the misfit D = A − g_p ḡ_q B, whose variance is
s² B, and s² from the median of |D|²/B over baselines, one with d = |D|²/(s² B) > 9 has (9/d)² of its weight.
For phases only the part of D across the phase counts, so that amplitudes need not be right.

The signal-to-noise ratio of a solution is |Σ A g| / √(s² Σ B|g|² / 2): about one where there is no signal, whatever
the solver returned. |g| over it is the error of the amplitude with the other antennas held (for phases alone: one over
it, in radians). As all N antennas are solved at once, errors are a little larger: by √((2n − 1)/(2n − 2)) for an
amplitude with n = N − 1 baselines, and a phase relative to a reference antenna has √(n/(n + 1)) of both errors in
square (exact where all baselines weigh the same).
"""

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel

FAR = 9.0
ROBUST_ROUNDS = 3
MAX_ITERATIONS = 300
SNR_CEILING = 1e6
LEAST_FREEDOM = 0.05
FAR_ABOVE = 2.5
CHI2_1_MEDIAN = 0.4549364
STEADY = 0.01
"""Weights that change by less need no other round."""
Equations = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Real and imaginary part of A, and B, each (n_antenna, n_antenna)."""


class Rules(NamedTuple):
    """How gains are solved."""

    phase_only: bool = False
    """Hold the amplitudes at one."""
    fewest: int = 4
    """Antennas with fewer baselines get no solution."""
    robust: bool = True
    """Weigh down baselines that misfit."""
    tolerance: float = 1e-6
    """Relative change of the gains at which the iteration ends."""


DEFAULT = Rules()


@compiled
def _antenna_sums(
    equations: Equations, gains: NDArray[np.complex128]
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Return Σ_q A_pq g_q and Σ_q B_pq |g_q|² of each antenna."""
    cross_re, cross_im, power = equations
    n_ant = gains.size
    top, bottom = np.zeros(n_ant, np.complex128), np.zeros(n_ant)
    re, im = gains.real.copy(), gains.imag.copy()
    square = re * re + im * im
    for p in range(n_ant):
        top_re, top_im, low = 0.0, 0.0, 0.0
        for q in range(n_ant):
            top_re += cross_re[p, q] * re[q] - cross_im[p, q] * im[q]
            top_im += cross_re[p, q] * im[q] + cross_im[p, q] * re[q]
            low += power[p, q] * square[q]
        top[p], bottom[p] = complex(top_re, top_im), low
    return top, bottom


@compiled
def _alternate(equations: Equations, gains: NDArray[np.complex128], phase_only: bool, tolerance: float) -> None:
    """Improve the gains in place until they move by less than the tolerance."""
    for iteration in range(MAX_ITERATIONS):
        top, bottom = _antenna_sums(equations, gains)
        moved, size = 0.0, 0.0
        for p in range(gains.size):
            scale = abs(top[p]) if phase_only else bottom[p]
            new = top[p] / scale if scale > 0.0 else 0.0j
            if iteration % 2:
                new = 0.5 * (new + gains[p])
                if phase_only and abs(new) > 0.0:
                    new /= abs(new)
            step = new - gains[p]
            moved += step.real * step.real + step.imag * step.imag
            size += new.real * new.real + new.imag * new.imag
            gains[p] = new
        if iteration % 2 and moved <= tolerance**2 * size:
            break


@compiled
def _start(equations: Equations, gains: NDArray[np.complex128], phase_only: bool) -> None:
    """Fill in first gains where none are known: phases from the best-connected antenna, one amplitude for all."""
    cross_re, cross_im, power = equations
    n_ant = gains.size
    strength = (cross_re * cross_re + cross_im * cross_im).sum(axis=1)
    connected = power.sum(axis=1)
    reference, total = np.argmax(strength), connected.sum()
    size = 1.0 if phase_only or total <= 0.0 else np.sqrt(np.sqrt(strength * n_ant).sum() / total)
    for p in range(n_ant):
        if gains[p] == 0.0 and connected[p] > 0.0:
            toward = complex(cross_re[p, reference], cross_im[p, reference])
            gains[p] = size if abs(toward) == 0.0 else size * toward / abs(toward)


@compiled
def _misfits(
    equations: Equations, gains: NDArray[np.complex128], phase_only: bool
) -> tuple[NDArray[np.float64], float]:
    """Return |D|²/B of each baseline, (n_antenna, n_antenna), negative where there is none, and s²."""
    cross_re, cross_im, power = equations
    n_ant = gains.size
    re, im = gains.real.copy(), gains.imag.copy()
    misfit = np.empty((n_ant, n_ant))
    values = np.empty(n_ant * n_ant // 2 + 1)
    count = 0
    for p in range(n_ant):
        for q in range(n_ant):
            b = power[p, q]
            there = b if b > 0.0 else 1.0
            gain_re, gain_im = re[p] * re[q] + im[p] * im[q], im[p] * re[q] - re[p] * im[q]
            if phase_only:
                across = cross_im[p, q] * gain_re - cross_re[p, q] * gain_im
                square = 2.0 * across * across
            else:
                d_re, d_im = cross_re[p, q] - gain_re * b, cross_im[p, q] - gain_im * b
                square = d_re * d_re + d_im * d_im
            misfit[p, q] = square / there if b > 0.0 else -1.0
        for q in range(p + 1, n_ant):
            if misfit[p, q] >= 0.0:
                values[count] = misfit[p, q]
                count += 1
    if count == 0:
        return misfit, np.inf
    # The median of an exponential (|D|²) and of a chi-square of one degree (its part across the phase), in means;
    # the fit itself took the share of the freedoms that its gains have.
    to_mean = CHI2_1_MEDIAN if phase_only else np.log(2.0)
    used = np.sum(np.abs(gains) > 0.0)
    return misfit, np.median(values[:count]) / (to_mean * max(1.0 - used / count, LEAST_FREEDOM))


@compiled
def _weigh_down(misfit: NDArray[np.float64], noise: float, weights: NDArray[np.float64]) -> bool:
    """Set the weight of each baseline, one up to three sigma; return whether any has changed much."""
    limit, changed = FAR * noise, False
    for p in range(misfit.shape[0]):
        for q in range(misfit.shape[0]):
            weight = (limit / misfit[p, q]) ** 2 if misfit[p, q] > limit else 1.0
            changed |= abs(weight - weights[p, q]) > STEADY
            weights[p, q] = weight
    return changed


@compiled
def _own_noise(misfit: NDArray[np.float64], weights: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Return each antenna's s²: the whole array's, but for antennas whose own misfits are far above it."""
    n_ant = misfit.shape[0]
    own = np.full(n_ant, noise)
    for p in range(n_ant):
        total, weight = 0.0, 0.0
        for q in range(n_ant):
            if misfit[p, q] >= 0.0:
                total += weights[p, q] * misfit[p, q]
                weight += weights[p, q]
        if weight > 0.0 and total / weight > FAR_ABOVE * noise:
            own[p] = total / weight
    return own


@compiled
def _drop_lonely(cross: NDArray[np.complex128], power: NDArray[np.float64], fewest: int) -> None:
    """Zero the equations of antennas with fewer baselines than *fewest*, until none is left."""
    n_ant, again = power.shape[0], True
    while again:
        again = False
        for p in range(n_ant):
            baselines = 0
            for q in range(n_ant):
                baselines += power[p, q] > 0.0
            if 0 < baselines < fewest:
                power[p], power[:, p] = 0.0, 0.0
                cross[p], cross[:, p] = 0.0, 0.0
                again = True


@compiled
def solve_one(
    cross: NDArray[np.complex128],
    power: NDArray[np.float64],
    gains: NDArray[np.complex128],
    rules: Rules,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Solve one set of gains from the matrices A (Hermitian) and B, (n_antenna, n_antenna); both may be changed.

    Starts from *gains* where they are not zero, and changes them. Returns gains, zero where there is no solution, and
    signal-to-noise ratios, (n_antenna,).
    """
    phase_only, fewest, robust, tolerance = rules
    _drop_lonely(cross, power, fewest)
    equations = cross.real.copy(), cross.imag.copy(), power
    _start(equations, gains, phase_only)
    _alternate(equations, gains, phase_only, tolerance)
    misfit, noise = _misfits(equations, gains, phase_only)
    weights, weighted = np.ones(power.shape), equations
    for _round in range(ROBUST_ROUNDS if robust else 0):
        if not _weigh_down(misfit, noise, weights):
            break
        weighted = equations[0] * weights, equations[1] * weights, power * weights
        _alternate(weighted, gains, phase_only, tolerance)
        misfit, noise = _misfits(equations, gains, phase_only)
    own = _own_noise(misfit, weights, noise)
    top, bottom = _antenna_sums(weighted, gains)
    snr = np.zeros(gains.size)
    for p in range(gains.size):
        if bottom[p] > 0.0 and abs(gains[p]) > 0.0:
            error = np.sqrt(0.5 * own[p] * bottom[p])
            snr[p] = min(abs(top[p]) / error, SNR_CEILING) if error > 0.0 else SNR_CEILING
        else:
            gains[p] = 0.0
    return gains, snr


@compiled_parallel
def _solve_all(
    cross: NDArray[np.complex128],
    power: NDArray[np.float64],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    start: NDArray[np.complex128],
    rules: Rules,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    first, second = pairs
    n_base, n_interval, n_group, n_pol = cross.shape
    n_ant = start.shape[1]
    gains, snr = np.zeros(start.shape, np.complex128), np.zeros(start.shape)
    for task in prange(n_interval * n_group * n_pol):
        interval, group, pol = task // (n_group * n_pol), task // n_pol % n_group, task % n_pol
        a, b = np.zeros((n_ant, n_ant), np.complex128), np.zeros((n_ant, n_ant))
        for base in range(n_base):
            p, q = first[base], second[base]
            a[p, q] += cross[base, interval, group, pol]
            a[q, p] += np.conj(cross[base, interval, group, pol])
            b[p, q] += power[base, interval, group, pol]
            b[q, p] += power[base, interval, group, pol]
        gains[interval, :, group, pol], snr[interval, :, group, pol] = solve_one(
            a, b, start[interval, :, group, pol].copy(), rules
        )
    return gains, snr


def solve_antennas(
    equations: tuple[NDArray[np.complex128], NDArray[np.float64]],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    start: NDArray[np.complex128],
    rules: Rules = DEFAULT,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Solve every interval, channel group and polarization on its own.

    Parameters
    ----------
    equations
        A and B from `normal_equations.combine`, (n_baseline, n_interval, n_group, n_pol).
    pairs
        First and second antenna of each baseline.
    start
        Gains to start from, (n_interval, n_antenna, n_group, n_pol); zero where none are known.
    rules
        Which gains, and how far to go.

    Returns
    -------
    tuple
        Gains, shaped as the start, zero where there is no solution, and their signal-to-noise ratios. Phases are free
        by one constant per interval, group and polarization.
    """
    cross, power = equations
    gains, snr = _solve_all(cross, power, pairs, start, rules)
    return gains, snr


def amplitude_errors(gains: NDArray[np.complex128], snr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1σ of |g|, (n_interval, n_antenna, n_group, n_pol); NaN where there is no solution."""
    n = np.maximum((gains != 0.0).sum(axis=1, keepdims=True) - 1, 2)
    safe = np.where(snr > 0.0, snr, np.nan)
    return np.asarray(np.abs(gains) / safe * np.sqrt((2.0 * n - 1.0) / (2.0 * n - 2.0)))


def phase_errors(gains: NDArray[np.complex128], snr: NDArray[np.float64], reference: int) -> NDArray[np.float64]:
    """Return 1σ (radians) of phases relative to the reference antenna, whose own is zero; NaN without a solution.

    Where the reference has no solution, its share is left out: phases are then referred to the rest of the array.
    """
    n = np.maximum((gains != 0.0).sum(axis=1, keepdims=True) - 1, 1)
    variance = np.where(snr > 0.0, 1.0 / np.where(snr > 0.0, snr, 1.0) ** 2, np.nan)
    anchor = np.nan_to_num(variance[:, reference : reference + 1])
    errors = np.sqrt((variance + anchor) * n / (n + 1.0))
    errors[:, reference] = np.where(np.isfinite(errors[:, reference]), 0.0, np.nan)
    return np.asarray(errors)
