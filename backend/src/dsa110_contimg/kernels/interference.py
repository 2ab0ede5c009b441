r"""Interference in visibilities: what neither the sky nor the noise can be.

The sky turns slowly from channel to channel and from integration to integration, the more slowly the shorter the
baseline. With gains' amplitudes taken out (u = V / (β_p β_q), β(f) the shape of each antenna's band), the residuals

    across channels  D_f = u − mean of u over the 2h neighboring channels       carriers, satellites, sparks
    across times     D_t = u − mean of u over the 2k neighboring integrations   bursts

hold noise and interference, not the sky, with h, k as wide as the baseline allows (`neighbors`). Where not even the
next neighbor is alike (h or k = 0) nothing is subtracted and the amplitude itself is looked at. With σ² per baseline
and polarization from the median of |D|², and both polarizations together,

    x = (√(Σ_pol |D|² / σ²) − its median) / its scatter

has unit scatter for noise alone. SumThreshold (`sumthreshold`) searches x_f along times and channels and x_t along
channels. A baseline on which much was found is searched again without it.

What is too faint on each baseline is looked for in what baselines share (`common_interference`).
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.lines import fill_line
from dsa110_contimg.kernels.medians import median
from dsa110_contimg.kernels.residuals import clip, find_levels, less_channels, less_times, power_of
from dsa110_contimg.kernels.sumthreshold import ABSENT, FOUND, GOOD, search_channels, search_times

LEAST_SIGMA = 0.02
"""σ is at least this fraction of the amplitude, so that data without noise are not flagged for their rounding."""
SAMPLE = 1024
RAYLEIGH = 2.0 * np.log(2.0)
"""Median of |noise|² over σ²."""
QUIET = 8.0
"""In scatters of clean amplitudes: below it a sample found at first goes on taking part in the means."""
SEARCH_AGAIN = 0.004
"""A baseline on which a larger fraction was found is searched a second time."""
POWER_STEPS = 8.0
"""Steps of the stored power per unit of Σ |D|² / σ²; 0 is no value and 255 the largest one."""
LARGEST = np.float32(1e15)
PARTS = 64
"""Baselines are shared out among so many, each with memory of its own to work in."""
Line = NDArray[np.float32]
Complex = NDArray[np.complex64]
Planes = NDArray[np.float32]
Planes4 = NDArray[np.float32]
Line8 = NDArray[np.uint8]
Plane8 = NDArray[np.uint8]
Planes8 = NDArray[np.uint8]
Scratch = tuple[Planes, Planes, Planes4, NDArray[np.float64], Line]
"""What enters means (1); what does so; levels of the sky (n_pol, 2, n_time, n_chan); σ²; a sample."""
Work = tuple[Plane8, Planes8, Planes4, Planes, Planes, Scratch]
"""What is found; states; |D|² (2, n_pol, n_time, n_chan); running sums; two lines; the rest."""
LONGEST_LINE = 16
LONGEST_BURST = 64


@compiled
def _variance(power: Planes, weight: Planes, scratch: Line) -> float:
    """Return σ² of the real part from the median of |D|² where there is one, which is 2 ln 2 σ² for noise."""
    flat, good, stride, count = power.reshape(-1), weight.reshape(-1), power.size // SAMPLE + 1, 0
    for i in range(0, flat.size, stride):
        scratch[count] = flat[i]
        count += 1 if good[i] > 0.0 and flat[i] >= 0.0 else 0
    return median(scratch, count) / RAYLEIGH if count else 0.0


@compiled
def _chi(n: int) -> tuple[float, float]:
    """Return median and scatter of √(Σ |D|²/σ²) over n polarizations."""
    part = 1.0 - 1.0 / (9.0 * n)
    return part * np.sqrt(2.0 * n * part), 0.707 - 0.054 / n


@compiled
def _add(power: Line, variance: float, total: Line, number: Line) -> None:
    """Add |D|²/σ² of one polarization to the sum of all, and count."""
    scale, most = np.float32(1.0 / variance if variance > 0.0 else 0.0), np.float32(1e6)
    zero, one = np.float32(0.0), np.float32(1.0)
    for chan in range(power.size):
        fine = one if power[chan] >= zero else zero
        total[chan] += fine * min(power[chan] * scale, most)
        number[chan] += fine


@compiled
def _finish(total: Line, number: Line, n_pol: int, x: Line, states: Line8) -> None:
    """Turn Σ |D|²/σ² into a mean where some polarizations lack, and that into x; set the states."""
    whole, alone = _chi(n_pol), _chi(1)
    middle, factor = np.float32(whole[0]), np.float32(1.0 / whole[1])
    middle_one, factor_one = np.float32(alone[0]), np.float32(1.0 / alone[1])
    least, zero, one = np.float32(n_pol), np.float32(0.0), np.float32(1.0)
    for chan in range(x.size):
        full = number[chan] >= least
        share = np.sqrt(total[chan] / (one if full else max(number[chan], one)))
        x[chan] = (share - (middle if full else middle_one)) * (factor if full else factor_one)
        states[chan] = GOOD if number[chan] > zero else ABSENT


@compiled
def _store(total: Line, number: Line, n_pol: int, level: Line8) -> None:
    """Keep the larger of what is kept and the power, in steps."""
    least, zero, one = np.float32(n_pol), np.float32(0.0), np.float32(1.0)
    steps, most = np.float32(POWER_STEPS), np.float32(255.0)
    for chan in range(level.size):
        new = min(one + steps * total[chan], most) if number[chan] >= least else zero
        level[chan] = np.uint8(max(np.float32(level[chan]), new))


@compiled
def _standardize(planes: Planes, variances: NDArray[np.float64], lines: Planes, state: Plane8, power: Plane8) -> None:
    """Turn |D|² of all polarizations into x, which takes the place of the first; set the states.

    What lacks some polarizations is judged as one. *lines* is scratch (2, n_chan). *power*, in steps, grows to
    Σ |D|²/σ² where that is larger; it may be of no size.
    """
    n_pol, total, number = planes.shape[0], lines[0], lines[1]
    for t in range(state.shape[0]):
        fill_line(total, np.float32(0.0))
        fill_line(number, np.float32(0.0))
        for pol in range(n_pol):
            _add(planes[pol, t], variances[pol], total, number)
        if power.size:
            _store(total, number, n_pol, power[t])
        _finish(total, number, n_pol, planes[0, t], state[t])


@compiled
def _merge(found: Plane8, state: Plane8) -> int:
    """Add what is FOUND; return how much there is now."""
    line, states, count = found.reshape(-1), state.reshape(-1), 0
    for i in range(line.size):
        line[i] |= np.uint8(states[i] == FOUND)
        count += line[i]
    return count


@compiled
def _keep(found: Plane8, state: Plane8) -> None:
    """Leave out of a search what another one has found."""
    line, states = found.reshape(-1), state.reshape(-1)
    for i in range(line.size):
        states[i] = FOUND if line[i] and states[i] == GOOD else states[i]


@compiled
def _forget(found: Plane8, state: Planes8, half_times: int) -> None:
    """Forget what was found where it is judged anew: by both residuals, or by that across times if it is free of sky.

    That across channels alone does not do: within a broad burst what was not found is like what was.
    """
    line, across, along = found.reshape(-1), state[0].reshape(-1), state[1].reshape(-1)
    alone = np.uint8(0 if half_times > 0 else 255)
    for i in range(line.size):
        # States that are GOOD are 0.
        line[i] = np.uint8(0) if along[i] | (across[i] & alone) == GOOD else line[i]


@compiled
def _allow(x: Planes4, found: Plane8, lenient: bool, allowed: Planes) -> None:
    """Let in means what was not found and, if *lenient*, what is not strong.

    A run may have drawn in clean neighbors of strong interference: they are needed to be judged by.
    """
    one, other, line, free = x[0, 0].reshape(-1), x[1, 0].reshape(-1), found.reshape(-1), allowed.reshape(-1)
    limit = np.float32(QUIET if lenient else -1e9)
    for i in range(free.size):
        quiet = max(one[i], other[i]) < limit
        free[i] = np.float32(1.0) if quiet | (line[i] == 0) else np.float32(0.0)


@compiled
def _allow_for_sky(power: NDArray[np.float32], across: int, turn: float, sky: float) -> None:
    """Make |D|² at the ends, whose neighbors lie on one side, smaller where the sky may leave as much as the noise.

    *sky* is its power in units of the noise's.
    """
    n = power.shape[1 - across]
    for end in range(min(2, n // 2)):
        lean = 1.5 if end == 0 else 2.0 / 3.0
        scale = np.float32(1.0 / (1.0 + sky * (lean * turn) ** 2))
        for place in (end, n - 1 - end):
            if across == 0:
                power[:, place] *= scale
            else:
                power[place] *= scale


@compiled
def _look(
    u: Planes4,
    half: NDArray[np.int64],
    turn: NDArray[np.float64],
    beats: NDArray[np.bool_],
    scratch: Scratch,
    out: Planes4,
) -> None:
    """Fill |D|² across channels [0] and times [1], and σ² of each; only what is allowed enters means."""
    allowed, others, levels, variances, line = scratch
    for pol in range(u.shape[0]):
        one, weight = u[pol], u[pol, 2]
        power_of(one, out[0, pol])
        amplitude2 = RAYLEIGH * _variance(out[0, pol], weight, line)
        for across in range(2):
            h, plane = half[across], out[across, pol]
            if h == 0:
                power_of(one, plane)
                variance = _variance(plane, weight, line)
            else:
                if across == 0 or beats[pol] or half[0] == 0:
                    clip(one, allowed, amplitude2, levels[pol, across], others)
                if across == 0:
                    less_channels(one, others, h, plane)
                else:
                    less_times(one, others, h, plane)
                variance = _variance(plane, others[2], line)
                sky2 = max(amplitude2 - RAYLEIGH * variance, 0.0)
                variance = max(variance, sky2 * (turn[across] ** 2 * (h + 1) * (2 * h + 1) / 12.0) ** 2)
                _allow_for_sky(plane, across, turn[across], sky2 / max(variance, 1e-30))
            variances[across, pol] = max(variance, LEAST_SIGMA**2 * amplitude2)


@compiled
def _judge(
    u: Planes4,
    half: NDArray[np.int64],
    turn: NDArray[np.float64],
    beats: NDArray[np.bool_],
    work: Work,
    power: Plane8,
) -> None:
    """Fill x across channels and times, planes[:, 0], with their states, and the power that antennas share."""
    _found, state, planes, _sums, lines, scratch = work
    _look(u, half, turn, beats, scratch, planes)
    power[:] = 0
    for across in range(2):
        # Without neighbors in time the sky's own power is left, of which no antenna's mean is made.
        own = power if across == 0 or half[1] > 0 else power[:0]
        _standardize(planes[across], scratch[3][across], lines, state[across], own)


@compiled
def _search_baseline(
    u: Planes4, half: NDArray[np.int64], turn: NDArray[np.float64], first: float, work: Work, power: Plane8
) -> None:
    """Search one baseline: fill work[0], where interference is, and the power that antennas share.

    u is (n_pol, 3, n_time, n_chan): real part, imaginary part, weight (1 or 0).
    """
    found, state, planes, sums, _lines, scratch = work
    beats = np.empty(u.shape[0], np.bool_)
    found[:] = 0
    scratch[0][:] = 1.0
    for pol in range(u.shape[0]):
        beats[pol] = find_levels(u[pol], scratch[1], scratch[2][pol])
    _judge(u, half, turn, beats, work, power)
    search_times(planes[0, 0], state[0], sums, first, 1)
    search_channels(planes[1, 0], state[1], sums, first, (1, LONGEST_LINE))
    _merge(found, state[0])
    if _merge(found, state[1]) > SEARCH_AGAIN * found.size:
        _allow(planes, found, half[1] > 0, scratch[0])
        _judge(u, half, turn, beats, work, power)
        _forget(found, state, half[1])
        _keep(found, state[0])
        search_times(planes[0, 0], state[0], sums, first, 1)
    search_channels(planes[0, 0], state[0], sums, first, (1, LONGEST_LINE))
    _merge(found, state[0])
    _keep(found, state[1])
    search_channels(planes[1, 0], state[1], sums, first, (1, LONGEST_BURST))
    _merge(found, state[1])


@compiled
def _work(n_pol: int, n_time: int, n_chan: int) -> tuple[Planes4, Work]:
    """Return what one thread works in."""
    plane, four = (n_time, n_chan), (n_pol, 2, n_time, n_chan)
    others, lines = np.empty((3, n_time, n_chan), np.float32), np.empty((2, n_chan), np.float32)
    variances, line = np.empty((2, n_pol), np.float64), np.empty(SAMPLE, np.float32)
    scratch = (np.empty(plane, np.float32), others, np.empty(four, np.float32), variances, line)
    sums = np.empty((2, n_time + 1, n_chan + 1), np.float32)
    u, planes = np.empty((n_pol, 3, n_time, n_chan), np.float32), np.empty((2, n_pol, n_time, n_chan), np.float32)
    return u, (np.empty(plane, np.uint8), np.empty((2, n_time, n_chan), np.uint8), planes, sums, lines, scratch)


@compiled
def _fill(vis: Complex, reasons: Plane8, shape: NDArray[np.float32], t: int, u: Planes4) -> bool:
    """Fill one integration of u with V over the shape of the band; return whether there is anything in it."""
    zero, any_good = np.float32(0.0), False
    for pol in range(u.shape[0]):
        re, im, weight = u[pol, 0, t], u[pol, 1, t], u[pol, 2, t]
        for chan in range(re.size):
            fine = reasons[chan, pol] == 0 and shape[chan, pol] > zero
            scale = np.float32(1.0) / shape[chan, pol] if fine else zero
            value = vis[chan, pol]
            re[chan] = min(max(value.real * scale, -LARGEST), LARGEST) if fine else zero
            im[chan] = min(max(value.imag * scale, -LARGEST), LARGEST) if fine else zero
            weight[chan] = np.float32(fine)
            any_good |= fine
    return any_good


@compiled_parallel
def find_interference(
    vis: NDArray[np.complex64],
    reasons: NDArray[np.uint8],
    baselines: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    level: NDArray[np.float32],
    neighbors: tuple[NDArray[np.int64], NDArray[np.float64]],
    search: tuple[float, int],
    power: NDArray[np.uint8],
) -> None:
    """Search every baseline and enter what is found into *reasons*.

    Parameters
    ----------
    vis, reasons
        (n_row, n_chan, n_pol); samples that have a reason already do not take part.
    baselines
        order, start, first, second: as `baselines.baseline_rows` gives them.
    level
        Shape of each antenna's band, (n_antenna, n_chan, n_pol); 0 where it is not known.
    neighbors
        Half-widths h and k of each baseline, and by how many radians the sky may turn from one channel and integration
        to the next, both (n_baseline, 2).
    search
        χ_1, and the code that is entered.
    power
        (n_baseline, n_time, n_chan), zeros; filled with the power of all polarizations in steps.
    """
    order, start, first, second = baselines
    half, turn = neighbors
    n_chan, n_pol, n_baseline = vis.shape[1], vis.shape[2], start.size - 1
    for part in prange(min(PARTS, n_baseline)):
        u, work = _work(n_pol, start[part + 1] - start[part], n_chan)
        for baseline in range(part, n_baseline, PARTS):
            rows = order[start[baseline] : start[baseline + 1]]
            if rows.size != u.shape[2]:
                u, work = _work(n_pol, rows.size, n_chan)
            shape, any_good = level[first[baseline]] * level[second[baseline]], False
            for t in range(rows.size):
                any_good |= _fill(vis[rows[t]], reasons[rows[t]], shape, t, u)
            if any_good:
                own = power[baseline, : rows.size]
                _search_baseline(u, half[baseline], turn[baseline], search[0], work, own)
                for t in range(rows.size):
                    _enter(reasons[rows[t]], work[0][t], search[1])


@compiled
def _enter(reasons: Plane8, found: NDArray[np.uint8], code: int) -> None:
    for chan in np.flatnonzero(found):
        for pol in range(reasons.shape[1]):
            if reasons[chan, pol] == 0:
                reasons[chan, pol] = code
