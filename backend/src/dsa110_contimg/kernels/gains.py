r"""Antenna gains from visibilities and a model: normal equations, an alternating solver, delays.

A baseline (p, q) sees V = g_p M ḡ_q plus noise. Least squares needs of the data, per solution, only

    A_pq = Σ w V conj(M')        B_pq = Σ w |M'|²        M' = c_p M c̄_q

where c are gains that are known already. With the other antennas held, the best gain of one is

    g_p = Σ_q A_pq g_q / Σ_q B_pq |g_q|²

and alternating over antennas, averaging every second iterate with the one before, converges fast (StEFCal: Salvini
& Wijnholds 2014, A&A 571, A97). For phases alone g_p = Σ_q A_pq g_q, scaled to length one.

Baselines that the model does not describe are weighted down: with the misfit D = A − g_p ḡ_q B, whose variance is
s² B, and s² from the median of |D|²/B over baselines, Student's t gives the weight (ν + 2)/(ν + 2 |D|²/(s² B)).
For phases only the part of D across the phase counts, so that amplitudes need not be right.
The signal-to-noise ratio of a solution is |Σ A g| / √(s² Σ B|g|² / 2): about one where there is no signal,
whatever the solver returned.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from dsa110_contimg.kernels.baselines import BaselineRows

STUDENT_NU = 10.0
ROBUST_ROUNDS = 2
MAX_ITERATIONS = 300
TOLERANCE = 1e-7
SNR_CEILING = 1e6
LEAST_FREEDOM = 0.05
FAR_ABOVE = 2.5
CHI2_1_MEDIAN = 0.4549364


@njit(cache=True, parallel=True, fastmath=True)
def normal_equations(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    weights: NDArray[np.float32],
    model: NDArray[np.complex64],
    known: NDArray[np.complex64],
    rows: BaselineRows,
    slots: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Accumulate A and B of each baseline, solution interval, channel group and polarization.

    Parameters
    ----------
    vis, flags
        (n_row, n_chan, n_pol).
    weights
        (n_row, n_pol); a row of weight zero takes no part.
    model
        (n_row, n_chan), the same for every polarization.
    known
        (n_known_time, n_antenna, n_chan, n_pol), gains c that corrupt the model first; zero drops a sample.
    rows
        Rows by baseline; `first` and `second` index the antennas of `known`.
    slots
        Solution interval of each row, channel group of each channel, and index of each row into `known`.

    Returns
    -------
    tuple
        A (n_baseline, n_interval, n_group, n_pol) and B of the same shape.
    """
    order, start, first, second = rows
    interval, group, when = slots
    n_base, n_chan, n_pol = start.size - 1, vis.shape[1], vis.shape[2]
    n_interval, n_group = interval.max() + 1, group.max() + 1
    cross = np.zeros((n_base, n_interval, n_group, n_pol), np.complex128)
    power = np.zeros((n_base, n_interval, n_group, n_pol))
    for base in prange(n_base):
        p, q = first[base], second[base]
        for row in order[start[base] : start[base + 1]]:
            slot, epoch = interval[row], when[row]
            for chan in range(n_chan):
                for pol in range(n_pol):
                    if flags[row, chan, pol]:
                        continue
                    weight = weights[row, pol]
                    seen = known[epoch, p, chan, pol] * model[row, chan] * np.conj(known[epoch, q, chan, pol])
                    cross[base, slot, group[chan], pol] += weight * vis[row, chan, pol] * np.conj(seen)
                    power[base, slot, group[chan], pol] += weight * (seen.real * seen.real + seen.imag * seen.imag)
    return cross, power


@njit(cache=True, fastmath=True)
def _antenna_sums(
    cross: NDArray[np.complex128], power: NDArray[np.float64], gains: NDArray[np.complex128]
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Return Σ_q A_pq g_q and Σ_q B_pq |g_q|² of each antenna; the matrices are (n_antenna, n_antenna)."""
    n_ant = gains.size
    top, bottom = np.zeros(n_ant, np.complex128), np.zeros(n_ant)
    re, im = gains.real.copy(), gains.imag.copy()
    square = re * re + im * im
    for p in range(n_ant):
        top_re, top_im, low = 0.0, 0.0, 0.0
        for q in range(n_ant):
            a = cross[p, q]
            top_re += a.real * re[q] - a.imag * im[q]
            top_im += a.real * im[q] + a.imag * re[q]
            low += power[p, q] * square[q]
        top[p], bottom[p] = complex(top_re, top_im), low
    return top, bottom


@njit(cache=True)
def _alternate(
    cross: NDArray[np.complex128], power: NDArray[np.float64], gains: NDArray[np.complex128], phase_only: bool
) -> None:
    """Improve the gains in place until they move by less than the tolerance."""
    for iteration in range(MAX_ITERATIONS):
        top, bottom = _antenna_sums(cross, power, gains)
        moved, size = 0.0, 0.0
        for p in range(gains.size):
            scale = abs(top[p]) if phase_only else bottom[p]
            new = top[p] / scale if scale > 0.0 else 0.0j
            if iteration % 2:
                new = 0.5 * (new + gains[p])
                if phase_only and abs(new) > 0.0:
                    new /= abs(new)
            moved += abs(new - gains[p]) ** 2
            size += abs(new) ** 2
            gains[p] = new
        if iteration % 2 and moved <= TOLERANCE**2 * size:
            break


@njit(cache=True)
def _start(cross: NDArray[np.complex128], power: NDArray[np.float64], phase_only: bool) -> NDArray[np.complex128]:
    """Return first gains: phases from the baselines to the best-connected antenna, one amplitude for all."""
    n_ant = power.shape[0]
    reference, best, total_power, total_cross = 0, -1.0, 0.0, 0.0
    for p in range(n_ant):
        strength = np.sum(np.abs(cross[p]))
        total_cross += strength
        total_power += np.sum(power[p])
        if strength > best:
            reference, best = p, strength
    size = 1.0 if phase_only or total_power <= 0.0 else np.sqrt(total_cross / total_power)
    gains = np.zeros(n_ant, np.complex128)
    for p in range(n_ant):
        toward = cross[p, reference]
        if p == reference or abs(toward) == 0.0:
            gains[p] = size
        else:
            gains[p] = size * toward / abs(toward)
        if np.sum(power[p]) == 0.0:
            gains[p] = 0.0
    return gains


@njit(cache=True)
def _noise_and_weights(
    cross: NDArray[np.complex128], power: NDArray[np.float64], gains: NDArray[np.complex128], phase_only: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each antenna's s² (noise power of a sample of weight one) and Student's weights (n_antenna, n_antenna).

    s² is the whole array's, but for antennas whose own misfits are far above it.
    """
    n_ant = gains.size
    misfit = np.full((n_ant, n_ant), -1.0)
    values = np.empty(n_ant * n_ant // 2 + 1)
    count, used = 0, 0
    for p in range(n_ant):
        used += abs(gains[p]) > 0.0
        for q in range(p + 1, n_ant):
            if power[p, q] > 0.0:
                if phase_only:
                    across = (cross[p, q] * np.conj(gains[p]) * gains[q]).imag
                    misfit[p, q] = 2.0 * across * across / power[p, q]
                else:
                    misfit[p, q] = abs(cross[p, q] - gains[p] * np.conj(gains[q]) * power[p, q]) ** 2 / power[p, q]
                misfit[q, p] = misfit[p, q]
                values[count] = misfit[p, q]
                count += 1
    robust = np.ones((n_ant, n_ant))
    if count == 0:
        return np.full(n_ant, np.inf), robust
    # The median of an exponential (|D|²) and of a chi-square of one degree (its part across the phase), in means;
    # the fit itself took the share used / count of the freedoms.
    to_mean = CHI2_1_MEDIAN if phase_only else np.log(2.0)
    to_mean *= max(1.0 - used / count, LEAST_FREEDOM)
    noise = np.median(values[:count]) / to_mean
    own = np.full(n_ant, noise)
    for p in range(n_ant):
        mine = misfit[p][misfit[p] >= 0.0]
        if mine.size and np.median(mine) / to_mean > FAR_ABOVE * noise:
            own[p] = np.median(mine) / to_mean
    dimension = 1.0 if phase_only else 2.0
    if noise > 0.0:
        for p in range(n_ant):
            for q in range(n_ant):
                if misfit[p, q] >= 0.0:
                    deviation = dimension * misfit[p, q] / noise
                    robust[p, q] = (STUDENT_NU + dimension) / (STUDENT_NU + deviation)
    return own, robust


@njit(cache=True)
def _drop_lonely(cross: NDArray[np.complex128], power: NDArray[np.float64], fewest: int) -> None:
    """Zero the equations of antennas with fewer baselines than *fewest*, until none is left."""
    n_ant, again = power.shape[0], True
    while again:
        again = False
        for p in range(n_ant):
            baselines = np.sum(power[p] > 0.0)
            if 0 < baselines < fewest:
                power[p], power[:, p] = 0.0, 0.0
                cross[p], cross[:, p] = 0.0, 0.0
                again = True


@njit(cache=True)
def solve_one(
    cross: NDArray[np.complex128], power: NDArray[np.float64], phase_only: bool, fewest: int
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Solve one set of gains from the matrices A (Hermitian) and B, (n_antenna, n_antenna); B is destroyed.

    Returns gains, zero where there is no solution, and signal-to-noise ratios, (n_antenna,).
    """
    _drop_lonely(cross, power, fewest)
    gains = _start(cross, power, phase_only)
    weighted_cross, weighted_power = cross.copy(), power.copy()
    noise = np.full(gains.size, np.inf)
    for round_ in range(ROBUST_ROUNDS + 1):
        _alternate(weighted_cross, weighted_power, gains, phase_only)
        noise, robust = _noise_and_weights(cross, power, gains, phase_only)
        if round_ < ROBUST_ROUNDS:
            weighted_cross, weighted_power = cross * robust, power * robust
    top, bottom = _antenna_sums(weighted_cross, weighted_power, gains)
    snr = np.zeros(gains.size)
    for p in range(gains.size):
        if bottom[p] > 0.0 and abs(gains[p]) > 0.0:
            error = np.sqrt(0.5 * noise[p] * bottom[p])
            snr[p] = min(abs(top[p]) / error, SNR_CEILING) if error > 0.0 else SNR_CEILING
        else:
            gains[p] = 0.0
    return gains, snr


@njit(cache=True, parallel=True)
def solve_antennas(
    cross: NDArray[np.complex128],
    power: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    n_ant: int,
    phase_only: bool,
    fewest: int,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Solve every interval, channel group and polarization on its own.

    Parameters
    ----------
    cross, power
        A and B from `normal_equations`, (n_baseline, n_interval, n_group, n_pol).
    first, second
        Antennas of each baseline.
    n_ant
        Number of antennas.
    phase_only
        Hold the amplitudes at one.
    fewest
        Antennas with fewer baselines get no solution.

    Returns
    -------
    tuple
        Gains (n_interval, n_antenna, n_group, n_pol), zero where there is no solution, and their signal-to-noise
        ratios. Phases are free by one constant per interval, group and polarization.
    """
    n_base, n_interval, n_group, n_pol = cross.shape
    gains = np.zeros((n_interval, n_ant, n_group, n_pol), np.complex128)
    snr = np.zeros((n_interval, n_ant, n_group, n_pol))
    for task in prange(n_interval * n_group * n_pol):
        interval, group, pol = task // (n_group * n_pol), task // n_pol % n_group, task % n_pol
        a, b = np.zeros((n_ant, n_ant), np.complex128), np.zeros((n_ant, n_ant))
        for base in range(n_base):
            p, q = first[base], second[base]
            a[p, q] += cross[base, interval, group, pol]
            a[q, p] += np.conj(cross[base, interval, group, pol])
            b[p, q] += power[base, interval, group, pol]
            b[q, p] += power[base, interval, group, pol]
        gains[interval, :, group, pol], snr[interval, :, group, pol] = solve_one(a, b, phase_only, fewest)
    return gains, snr


def fit_delays(
    gains: NDArray[np.complex128], freq_hz: NDArray[np.float64], reference_hz: float, limit_ns: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Fit g(f) ∝ exp(2πi τ (f − f0)): the peak of the delay spectrum, by FFT and then by Newton's method.

    Parameters
    ----------
    gains
        (n_line, n_chan), phases relative to the reference antenna; zero where there is no solution.
    freq_hz
        (n_chan,), ascending; gaps are missing multiples of the smallest step.
    reference_hz
        f0.
    limit_ns
        Delays are sought within ± this, and within ± half the inverse of the channel spacing.

    Returns
    -------
    tuple
        Delays in ns and their signal-to-noise ratios (in phase, of the whole band), (n_line,); NaN and zero for a
        line without solutions.
    """
    size = np.abs(gains)
    unit = np.where(size > 0.0, gains / np.where(size > 0.0, size, 1.0), 0.0)
    step = float(np.diff(freq_hz).min()) if freq_hz.size > 1 else 1.0
    grid = np.rint((freq_hz - freq_hz[0]) / step).astype(np.int64)
    length = 8 * int(2 ** np.ceil(np.log2(grid[-1] + 1)))
    padded = np.zeros((len(unit), length), np.complex128)
    padded[:, grid] = unit
    spectrum = np.abs(np.fft.fft(padded, axis=1))
    trial_s = np.fft.fftfreq(length, step)
    spectrum[:, np.abs(trial_s) > limit_ns * 1e-9] = -1.0
    delay = trial_s[spectrum.argmax(axis=1)]
    offset = freq_hz - reference_hz
    for _ in range(6):
        turned = unit * np.exp(-2j * np.pi * delay[:, None] * offset)
        total, slope = turned.sum(axis=1), (turned * offset).sum(axis=1)
        bend = (turned * offset**2).sum(axis=1)
        gradient = 2.0 * np.pi * np.imag(np.conj(total) * slope)
        curvature = 4.0 * np.pi**2 * (np.abs(slope) ** 2 - np.real(np.conj(total) * bend))
        newton = np.where(curvature < 0.0, -gradient / np.where(curvature < 0.0, curvature, 1.0), 0.0)
        delay = delay + np.clip(newton, -0.5 / (length * step), 0.5 / (length * step))
    count = (size > 0.0).sum(axis=1)
    coherence = np.abs((unit * np.exp(-2j * np.pi * delay[:, None] * offset)).sum(axis=1)) / np.maximum(count, 1)
    scatter = np.sqrt(np.maximum(1.0 - coherence**2, 1e-12) / 2.0)
    snr = np.where(count > 1, coherence * np.sqrt(count) / scatter, 0.0)
    return np.where(count > 1, delay * 1e9, np.nan), np.minimum(snr, SNR_CEILING)


def unwrap_delays(delay_ns: NDArray[np.float64], period_ns: float) -> NDArray[np.float64]:
    """Return delays moved by whole periods so that together they span the least.

    Channels of spacing Δf cannot tell τ from τ + 1/Δf. The delays lie on a circle of that length; cutting it in its
    widest gap puts all on one stretch. NaN stays; the first finite delay's own period is arbitrary.
    """
    known = np.sort(np.mod(delay_ns[np.isfinite(delay_ns)], period_ns))
    if not known.size:
        return delay_ns
    gaps = np.diff(np.append(known, known[0] + period_ns))
    cut = known[(gaps.argmax() + 1) % known.size]
    return np.asarray(cut + np.mod(delay_ns - cut + 1e-9 * period_ns, period_ns) - 1e-9 * period_ns)
