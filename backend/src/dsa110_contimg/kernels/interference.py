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
from numba import njit, prange
from numpy.typing import NDArray

from dsa110_contimg.kernels.medians import median
from dsa110_contimg.kernels.residuals import (
    FAST,
    OPENING,
    clip,
    less_channels,
    less_times,
    open_channels,
    open_times,
    power_of,
)
from dsa110_contimg.kernels.sumthreshold import ABSENT, FOUND, GOOD, search_channels, search_times

LEAST_SIGMA = 0.02
"""σ is at least this fraction of the amplitude, so that data without noise are not flagged for their rounding."""
SAMPLE, SMALL_SAMPLE = 1024, 256
RAYLEIGH = 2.0 * np.log(2.0)
"""Median of |noise|² over σ²."""
MUCH_SKY, BEATING = 0.5, 1.5
"""Neighbors differ less than this, and the upper quartile of |u|² is above this, in medians of |u|²: the sky beats."""
HIGHEST_BEAT = 9.0
ATTEMPTS = 3
QUIET = 8.0
"""In scatters of clean amplitudes: below it a sample found at first goes on taking part in the means."""
SEARCH_AGAIN, SEARCH_ONCE_MORE = 0.004, 0.03
"""A baseline on which a larger fraction was found is searched a second and a third time."""
POWER_STEPS = 8.0
"""Steps of the stored power per unit of Σ |D|² / σ²; 0 is no value and 255 the largest one."""
LARGEST = np.float32(1e15)
PARTS = 64
"""Baselines are shared out among so many, each with memory of its own to work in."""
Line = NDArray[np.float32]
Complex = NDArray[np.complex64]
Planes = NDArray[np.float32]
Planes4 = NDArray[np.float32]
Plane8 = NDArray[np.uint8]
Scratch = tuple[Planes, Planes, Planes, Planes, Planes, Line]
"""Σ |D|²/σ² and how many polarizations, (2, n_time, n_chan); what enters means; what does so; |D|²; a sample."""
Work = tuple[Plane8, Plane8, Planes, Scratch]
"""What is found; states; running sums; the rest."""
LONGEST_LINE = 16
LONGEST_BURST = 256


@njit(cache=True)
def _variance(power: NDArray[np.float32], weight: NDArray[np.float32], scratch: Line) -> float:
    """Return σ² of the real part from the median of |D|², which is 2 ln 2 σ² for noise."""
    n_time, n_chan = power.shape
    stride, count = power.size // SAMPLE + 1, 0
    for t in range(n_time):
        for chan in range((t * n_chan) % stride, n_chan, stride):
            if weight[t, chan] > 0.0 and power[t, chan] >= 0.0:
                scratch[count] = power[t, chan]
                count += 1
    return median(scratch, count) / RAYLEIGH if count else 0.0


@njit(cache=True, fastmath=FAST)
def _add(
    power: NDArray[np.float32],
    weight: NDArray[np.float32],
    variance: float,
    total: NDArray[np.float32],
    number: NDArray[np.float32],
) -> None:
    """Add |D|²/σ² of one polarization to the sum of all, and count."""
    scale, most = np.float32(1.0 / variance if variance > 0.0 else 0.0), np.float32(1e6)
    zero, one = np.float32(0.0), np.float32(1.0)
    for t in range(power.shape[0]):
        line, good, out, count = power[t], weight[t], total[t], number[t]
        for chan in range(line.size):
            fine = good[chan] if line[chan] >= zero else zero
            out[chan] += fine * min(line[chan] * scale, most)
            count[chan] += fine * one


@njit(cache=True)
def _chi(n: int) -> tuple[float, float]:
    """Return median and scatter of √(Σ |D|²/σ²) over n polarizations."""
    part = 1.0 - 1.0 / (9.0 * n)
    return part * np.sqrt(2.0 * n * part), 0.707 - 0.054 / n


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _standardize(total: NDArray[np.float32], number: NDArray[np.float32], n_pol: int, state: Plane8) -> None:
    """Turn Σ |D|²/σ² into x, in place; what lacks some polarizations is judged as one. Set the states."""
    whole, alone = _chi(n_pol), _chi(1)
    middle, factor = np.float32(whole[0]), np.float32(1.0 / whole[1])
    middle_one, factor_one = np.float32(alone[0]), np.float32(1.0 / alone[1])
    least, one = np.float32(n_pol), np.float32(1.0)
    for t in range(total.shape[0]):
        line, count, states = total[t], number[t], state[t]
        for chan in range(line.size):
            full = count[chan] >= least
            share = line[chan] if full else line[chan] / max(count[chan], one)
            line[chan] = (np.sqrt(share) - (middle if full else middle_one)) * (factor if full else factor_one)
        for chan in range(line.size):
            states[chan] = GOOD if count[chan] > 0 else ABSENT


@njit(cache=True, fastmath=FAST)
def _keep(state: Plane8, found: Plane8) -> None:
    """Leave out of a search what another one has found."""
    for t in range(found.shape[0]):
        line, states = found[t], state[t]
        for chan in range(line.size):
            states[chan] = FOUND if line[chan] and states[chan] == GOOD else states[chan]


@njit(cache=True, fastmath=FAST)
def _merge(found: Plane8, state: Plane8) -> int:
    """Add what is FOUND; return how much there is now."""
    count = 0
    for t in range(found.shape[0]):
        line, states = found[t], state[t]
        for chan in range(line.size):
            line[chan] = np.uint8(1) if states[chan] == FOUND else line[chan]
            count += 1 if line[chan] else 0
    return count


@njit(cache=True, fastmath=FAST)
def _forget(found: Plane8, number: Planes, half_times: int) -> None:
    """Forget what was found where it is judged anew: by both residuals, or by that across times if it is free of sky.

    That across channels alone does not do: within a broad burst what was not found is like what was.
    """
    alone = np.float32(half_times > 0)
    for t in range(found.shape[0]):
        line, across, along = found[t], number[0, t], number[1, t]
        for chan in range(line.size):
            line[chan] = np.uint8(0) if along[chan] * max(across[chan], alone) > 0.0 else line[chan]


@njit(cache=True, fastmath=FAST)
def _store(total: NDArray[np.float32], number: NDArray[np.float32], n_pol: int, power: Plane8) -> None:
    """Keep the larger of what is kept and the power, in steps."""
    one, steps, most = np.float32(1.0), np.float32(POWER_STEPS), np.float32(255.0)
    for t in range(total.shape[0]):
        line, count, out = total[t], number[t], power[t]
        for chan in range(line.size):
            level = np.uint8(min(one + steps * line[chan], most)) if count[chan] >= n_pol else np.uint8(0)
            out[chan] = max(out[chan], level)


@njit(cache=True)
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


@njit(cache=True)
def _sample(u: Planes, across: int, line: Line) -> tuple[float, float, float]:
    """Return median and upper quartile of |u|², and the median of |u − its next neighbor|², of an even sample."""
    n_time, n_chan = u.shape[1], u.shape[2]
    last_t, last_chan = n_time - across, n_chan - 1 + across
    stride, count = n_time * n_chan // SMALL_SAMPLE + 1, 0
    steps = np.empty(SMALL_SAMPLE + n_time + 1, np.float32)
    for t in range(last_t):
        for chan in range((t * n_chan) % stride, last_chan, stride):
            other_t, other_chan = t + across, chan + 1 - across
            if u[2, t, chan] * u[2, other_t, other_chan] > 0.0:
                x, y = u[0, t, chan], u[1, t, chan]
                dx, dy = u[0, other_t, other_chan] - x, u[1, other_t, other_chan] - y
                line[count], steps[count] = x * x + y * y, dx * dx + dy * dy
                count += 1
    if count == 0:
        return 0.0, 0.0, 0.0
    middle, step = median(line, count), median(steps, count)
    return middle, median(line[count // 2 :], count - count // 2), step


@njit(cache=True)
def _levels(u: Planes, across: int, scratch: Scratch) -> None:
    """Fill scratch[4] with how strong the sky is where it is strong and beats, else with zeros; scratch[3] is used."""
    level, work = scratch[4], scratch[3]
    middle, quartile, step = _sample(u, across, scratch[5])
    if level.shape[1 - across] > OPENING and step < MUCH_SKY * middle and quartile > BEATING * middle:
        power_of(u, level)
        if across == 0:
            open_channels(level, work[0, 0], work[1, 0])
        else:
            open_times(level, work[0])
        # Interference that lasts is as broad as a beat: beyond what sources of like flux reach, it is cut off.
        np.minimum(level, np.float32(HIGHEST_BEAT * middle), level)
    else:
        level[:] = 0.0


@njit(cache=True)
def _look(u: Planes4, half: NDArray[np.int64], turn: NDArray[np.float64], scratch: Scratch) -> None:
    """Fill Σ |D|²/σ² across channels [0] and times [1] over the polarizations; only what is allowed enters means."""
    total, number, allowed, others, plane, line = scratch
    total[:] = 0.0
    number[:] = 0.0
    for pol in range(u.shape[0]):
        one, weight = u[pol], u[pol, 2]
        power_of(one, plane)
        amplitude2 = RAYLEIGH * _variance(plane, weight, line)
        for across in range(2):
            h = half[across]
            if h == 0:
                power_of(one, plane)
                variance = _variance(plane, weight, line)
            else:
                _levels(one, across, scratch)
                clip(one, allowed, amplitude2, plane, others)
                if across == 0:
                    less_channels(one, others, h, plane)
                else:
                    less_times(one, others, h, plane)
                variance = _variance(plane, others[2], line)
                sky2 = max(amplitude2 - RAYLEIGH * variance, 0.0)
                variance = max(variance, sky2 * (turn[across] ** 2 * (h + 1) * (2 * h + 1) / 12.0) ** 2)
                _allow_for_sky(plane, across, turn[across], sky2 / max(variance, 1e-30))
            _add(plane, weight, max(variance, LEAST_SIGMA**2 * amplitude2), total[across], number[across])


@njit(cache=True)
def _search_baseline(
    u: Planes4, half: NDArray[np.int64], turn: NDArray[np.float64], first: float, work: Work, power: Plane8
) -> None:
    """Search one baseline: fill work[0], where interference is, and the power that antennas share.

    u is (n_pol, 3, n_time, n_chan): real part, imaginary part, weight (1 or 0).
    """
    found, state, sums, scratch = work
    total, number, allowed = scratch[0], scratch[1], scratch[2]
    n_pol, n_time, n_chan = u.shape[0], u.shape[2], u.shape[3]
    found[:] = 0
    allowed[:] = 1.0
    for attempt in range(ATTEMPTS):
        _look(u, half, turn, scratch)
        power[:] = 0
        _store(total[0], number[0], n_pol, power)
        if half[1] > 0:
            _store(total[1], number[1], n_pol, power)
        _forget(found, number, half[1])
        count = 0
        for across in range(2):
            _standardize(total[across], number[across], n_pol, state)
            _keep(state, found)
            if across == 0:
                search_times(total[0], state, sums, first, 1)
                search_channels(total[0], state, sums, first, (1, LONGEST_LINE))
            else:
                search_channels(total[1], state, sums, first, (1, LONGEST_BURST))
            count = _merge(found, state)
        if count <= (SEARCH_AGAIN if attempt == 0 else SEARCH_ONCE_MORE) * found.size:
            break
        for t in range(n_time):
            for chan in range(n_chan):
                # A run may have drawn in clean neighbors of strong interference: they are needed to be judged by.
                quiet = attempt == 0 and half[1] > 0 and max(total[0, t, chan], total[1, t, chan]) < QUIET
                allowed[t, chan] = np.float32(quiet or found[t, chan] == 0)


@njit(cache=True)
def _work(n_pol: int, n_time: int, n_chan: int) -> tuple[Planes4, Work]:
    """Return what one thread works in."""
    plane = (n_time, n_chan)
    pair, three = np.empty((2, n_time, n_chan), np.float32), np.empty((3, n_time, n_chan), np.float32)
    line = np.empty(SAMPLE + n_time + 1, np.float32)
    scratch = (pair, pair.copy(), np.empty(plane, np.float32), three, np.empty(plane, np.float32), line)
    sums = np.empty((2, n_time + 1, n_chan + 1), np.float32)
    u = np.empty((n_pol, 3, n_time, n_chan), np.float32)
    return u, (np.empty(plane, np.uint8), np.empty(plane, np.uint8), sums, scratch)


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, parallel=True)
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


@njit(cache=True)
def _enter(reasons: Plane8, found: NDArray[np.uint8], code: int) -> None:
    for chan in np.flatnonzero(found):
        for pol in range(reasons.shape[1]):
            if reasons[chan, pol] == 0:
                reasons[chan, pol] = code
