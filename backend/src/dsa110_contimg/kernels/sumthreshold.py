r"""SumThreshold: runs of samples that are too strong together, though none of them need be alone.

On a plane x(t, f) of unit scatter about zero, a run of M neighbors in time or in frequency is interference when
the mean of those not found yet exceeds (Offringa et al. 2010, MNRAS 405, 155)

    χ_M = max(χ_1 / M^p, k σ_M)            M = 1, 2, 4 ...

The first term is theirs, with ρ = 2^p. The second is ours: σ_M is the measured scatter of such means (1.4826 MAD), so
that a plane whose neighbors are alike, as fringes are, is not taken for interference. What is found at one length
does not count at the next.

A satellite that drifts through the channels is a run in time once the plane is sheared along with it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dsa110_contimg.kernels.medians import MAD_TO_SIGMA, median

GOOD, FOUND, ABSENT = 0, 1, 2
"""States of a sample."""
EXPONENT = 0.45
LEAST_SCATTERS = 4.5
SAMPLED_RUNS = 160
Line = NDArray[np.float32]
FAST = {"nnan", "ninf", "nsz", "reassoc", "contract", "arcp"}


@njit(cache=True, fastmath=FAST)
def _search_singles(x: NDArray[np.float32], state: NDArray[np.uint8], first: float) -> int:
    """Mark single samples above a limit as FOUND; return how many."""
    high, total = np.float32(first), 0
    for t in range(x.shape[0]):
        line, states, found = x[t], state[t], np.uint32(0)
        for chan in range(line.size):
            found += np.uint32((line[chan] > high) & (states[chan] == GOOD))
        if found > 0:
            for chan in range(line.size):
                if line[chan] > high and states[chan] == GOOD:
                    states[chan] = FOUND
                    total += 1
    return total


@njit(cache=True)
def run_limit(first: float, size: int, means: NDArray[np.float32], count: int) -> float:
    """Return above which the mean of *size* samples is interference; *means* is a sample of such, and destroyed."""
    limit = float(first / size**EXPONENT)
    if size == 1 or count < SAMPLED_RUNS // 4:
        return limit
    for i in range(count):
        means[i] = abs(means[i])
    return float(max(limit, LEAST_SCATTERS * MAD_TO_SIGMA * median(means, count)))


@njit(cache=True, fastmath=FAST)
def _sum_channels(x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32], t: int) -> None:
    """Fill sums[0 and 1, t] with running sums along the channels: of good samples, and of their number."""
    one, zero = np.float32(1.0), np.float32(0.0)
    total, number = zero, zero
    line, states, totals, numbers = x[t], state[t], sums[0, t], sums[1, t]
    totals[0], numbers[0] = zero, zero
    for chan in range(line.size):
        good = one if states[chan] == GOOD else zero
        total += good * line[chan]
        number += good
        totals[chan + 1] = total
        numbers[chan + 1] = number


@njit(cache=True, fastmath=FAST)
def _sum_times(x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32]) -> None:
    """Fill sums with running sums along the times."""
    one, zero = np.float32(1.0), np.float32(0.0)
    for t in range(x.shape[0]):
        line, states = x[t], state[t]
        total, number, totals, numbers = sums[0, t], sums[1, t], sums[0, t + 1], sums[1, t + 1]
        for chan in range(line.size):
            good = one if states[chan] == GOOD else zero
            totals[chan] = total[chan] + good * line[chan]
            numbers[chan] = number[chan] + good


@njit(cache=True)
def _sum_some_times(
    x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32], changed: NDArray[np.bool_]
) -> None:
    """Do as `_sum_times` does for channels that changed, and forget that they did."""
    for chan in np.flatnonzero(changed):
        total, number = np.float32(0.0), np.float32(0.0)
        for t in range(x.shape[0]):
            if state[t, chan] == GOOD:
                total += x[t, chan]
                number += np.float32(1.0)
            sums[0, t + 1, chan], sums[1, t + 1, chan] = total, number
        changed[chan] = False


@njit(cache=True, fastmath=FAST)
def _excess(last: Line, first: Line, last_number: Line, first_number: Line, limit: float) -> bool:
    """Return whether sum − limit · number is positive in any run, from running sums at its end and its beginning."""
    high, zero, hits = np.float32(limit), np.float32(0.0), np.uint32(0)
    for i in range(first.size):
        over = last[i] - first[i] - high * (last_number[i] - first_number[i])
        hits += np.uint32(over > zero)
    return bool(hits > 0)


@njit(cache=True)
def _sampled_limit(sums: NDArray[np.float32], first: float, size: int, along: int) -> float:
    """Return the limit of runs along times (0) or channels (1), from an even sample of them."""
    step_t, step_f = (size, 0) if along == 0 else (0, size)
    # The tables have one line more than the plane, in both directions.
    n_time, n_chan = sums.shape[1] - max(step_t, 1), sums.shape[2] - max(step_f, 1)
    means = np.empty(SAMPLED_RUNS, np.float32)
    stride, count, index = max(1, (n_time * n_chan) // SAMPLED_RUNS), 0, 0
    while index < n_time * n_chan and count < SAMPLED_RUNS:
        t, chan = index // n_chan, index % n_chan
        number = sums[1, t + step_t, chan + step_f] - sums[1, t, chan]
        if 2.0 * number >= size:
            means[count] = (sums[0, t + step_t, chan + step_f] - sums[0, t, chan]) / number
            count += 1
        index += stride
    return run_limit(first, size, means, count)


@njit(cache=True)
def search_channels(
    x: NDArray[np.float32],
    state: NDArray[np.uint8],
    sums: NDArray[np.float32],
    first: float,
    sizes: tuple[int, int],
) -> int:
    """Mark runs along the channels as FOUND; return how many samples.

    Parameters
    ----------
    x
        (n_time, n_chan), unit scatter about zero.
    state
        Same shape; only GOOD samples count, and only they are marked.
    sums
        Scratch, (2, n_time + 1, n_chan + 1).
    first
        χ_1.
    sizes
        Shortest and longest run, powers of two.
    """
    n_time, n_chan = x.shape
    found, size = 0, sizes[0]
    if size == 1:
        found, size = _search_singles(x, state, first), 2
    for t in range(n_time):
        _sum_channels(x, state, sums, t)
    while size <= min(sizes[1], n_chan):
        limit = _sampled_limit(sums, first, size, 1)
        for t in range(n_time):
            last, begin = sums[0, t][size:], sums[0, t][: n_chan + 1 - size]
            last_number, begin_number = sums[1, t][size:], sums[1, t][: n_chan + 1 - size]
            if not _excess(last, begin, last_number, begin_number, limit):
                continue
            end, high = 0, np.float32(limit)
            for i in range(n_chan + 1 - size):
                if last[i] - begin[i] > high * (last_number[i] - begin_number[i]):
                    for chan in range(max(i, end), i + size):
                        if state[t, chan] == GOOD:
                            state[t, chan] = FOUND
                            found += 1
                    end = i + size
            _sum_channels(x, state, sums, t)
        size *= 2
    return found


@njit(cache=True)
def search_times(
    x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32], first: float, shortest: int
) -> int:
    """Mark runs along the times, of *shortest* samples up to all of them, as FOUND; else as `search_channels`."""
    n_time, n_chan = x.shape
    found, size = 0, min(shortest, n_time)
    if shortest == 1:
        found, size = _search_singles(x, state, first), 2
    sums[:, 0] = 0.0
    changed = np.zeros(n_chan, np.bool_)
    _sum_times(x, state, sums)
    while size <= n_time:
        limit = _sampled_limit(sums, first, size, 0)
        news = 0
        for t in range(n_time + 1 - size):
            last, last_number, begin, begin_number = sums[0, t + size], sums[1, t + size], sums[0, t], sums[1, t]
            if not _excess(last[:n_chan], begin[:n_chan], last_number[:n_chan], begin_number[:n_chan], limit):
                continue
            high = np.float32(limit)
            for chan in range(n_chan):
                if last[chan] - begin[chan] > high * (last_number[chan] - begin_number[chan]):
                    changed[chan] = True
                    for inside in range(t, t + size):
                        if state[inside, chan] == GOOD:
                            state[inside, chan] = FOUND
                            news += 1
        if news:
            _sum_some_times(x, state, sums, changed)
        found += news
        size = n_time if size < n_time < 2 * size else 2 * size
    return found


@njit(cache=True)
def search_drifts(
    x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32], first: float, slope: float
) -> int:
    """Mark runs of 8 times and more that drift by *slope* channels per integration; else as `search_times`."""
    n_time, n_chan = x.shape
    straight, standing = np.zeros_like(x), np.full(x.shape, np.uint8(ABSENT))
    for t in range(n_time):
        shift = int(np.floor(slope * t + 0.5))
        for chan in range(max(0, -shift), min(n_chan, n_chan - shift)):
            straight[t, chan] = x[t, chan + shift]
            standing[t, chan] = state[t, chan + shift]
    if search_times(straight, standing, sums, first, 8) == 0:
        return 0
    found = 0
    for t in range(n_time):
        shift = int(np.floor(slope * t + 0.5))
        for chan in range(max(0, -shift), min(n_chan, n_chan - shift)):
            if standing[t, chan] == FOUND and state[t, chan + shift] == GOOD:
                state[t, chan + shift] = FOUND
                found += 1
    return found


@njit(cache=True)
def close_gaps(found: NDArray[np.bool_], gap: float, gains: NDArray[np.float32]) -> None:
    r"""Grow one line of flags by the scale-invariant rank operator, in place (Offringa et al. 2012, A&A 539, A95).

    A sample is flagged if it lies in some run of which at least the fraction 1 − *gap* is flagged: with
    ψ = gap where flagged and gap − 1 elsewhere, if max over runs around it of Σ ψ is not negative.
    *gains* is scratch of at least the line's length.
    """
    n, before = found.size, 0.0
    for i in range(n):
        psi = gap if found[i] else gap - 1.0
        before = max(before, 0.0) + psi
        gains[i] = before
    after = 0.0
    for i in range(n - 1, -1, -1):
        psi = gap if found[i] else gap - 1.0
        after = max(after, 0.0) + psi
        if gains[i] + after - psi >= -1e-4:
            found[i] = True
