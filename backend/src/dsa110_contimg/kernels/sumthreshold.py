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
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled
from dsa110_contimg.kernels.lines import add_lines, copy_line, fill_line
from dsa110_contimg.kernels.medians import MAD_TO_SIGMA, median

GOOD, FOUND, ABSENT = 0, 1, 2
"""States of a sample."""
EXPONENT = 0.45
LEAST_SCATTERS = 4.5
SAMPLED_RUNS = 160
Line = NDArray[np.float32]
Line8 = NDArray[np.uint8]


@compiled
def _search_singles(x: NDArray[np.float32], state: NDArray[np.uint8], first: float) -> None:
    """Mark single samples above a limit as FOUND."""
    line, states, high = x.reshape(-1), state.reshape(-1), np.float32(first)
    for i in range(line.size):
        states[i] = FOUND if (line[i] > high) & (states[i] == GOOD) else states[i]


@compiled
def _number_found(state: NDArray[np.uint8]) -> int:
    number = 0
    for value in state.flat:
        number += value == FOUND
    return number


@compiled
def run_limit(first: float, size: int, means: NDArray[np.float32], count: int) -> float:
    """Return above which the mean of *size* samples is interference; *means* is a sample of such, and destroyed."""
    limit = float(first / size**EXPONENT)
    if size == 1 or count < SAMPLED_RUNS // 4:
        return limit
    for i in range(count):
        means[i] = abs(means[i])
    return float(max(limit, LEAST_SCATTERS * MAD_TO_SIGMA * median(means, count)))


@compiled
def _good_only(line: Line, states: Line8, total: Line, number: Line) -> None:
    """Fill sums over one sample: the good ones, and how many they are."""
    one, zero = np.float32(1.0), np.float32(0.0)
    for chan in range(line.size):
        good = one if states[chan] == GOOD else zero
        total[chan] = good * line[chan]
        number[chan] = good


@compiled
def _double(sums: Line, size: int, scratch: Line) -> None:
    """Turn sums over *size* samples, one beginning at each, into those over twice as many; in place."""
    copy_line(sums, scratch[: sums.size])
    count = sums.size - size
    add_lines(scratch[:count], scratch[size:], np.float32(1.0), sums[:count])


@compiled
def _sum_channels(line: Line, states: Line8, sums: tuple[Line, Line], size: int, scratch: Line) -> None:
    """Fill sums over runs of *size* channels, a power of two."""
    total, number, now = sums[0][: line.size], sums[1][: line.size], 1
    _good_only(line, states, total, number)
    while now < size:
        _double(total, now, scratch)
        _double(number, now, scratch)
        now *= 2


@compiled
def _add_good(line: Line, states: Line8, before: tuple[Line, Line], after: tuple[Line, Line]) -> None:
    """Fill *after* with *before* and the good samples of a line, and with their number."""
    one, zero = np.float32(1.0), np.float32(0.0)
    total, number, totals, numbers = before[0], before[1], after[0], after[1]
    for chan in range(line.size):
        good = one if states[chan] == GOOD else zero
        totals[chan] = total[chan] + good * line[chan]
        numbers[chan] = number[chan] + good


@compiled
def _sum_times(x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32]) -> None:
    """Fill sums with running sums along the times."""
    for t in range(x.shape[0]):
        _add_good(x[t], state[t], (sums[0, t], sums[1, t]), (sums[0, t + 1], sums[1, t + 1]))


@compiled
def _any_above(total: Line, number: Line, limit: float) -> bool:
    """Return whether sum − limit · number is positive anywhere."""
    high, zero, one, hits = np.float32(limit), np.float32(0.0), np.float32(1.0), np.float32(0.0)
    for i in range(total.size):
        hits += one if total[i] - high * number[i] > zero else zero
    return bool(hits > zero)


@compiled
def _above(total: Line, number: Line, limit: float, out: Line8) -> None:
    high = np.float32(limit)
    for i in range(total.size):
        out[i] = np.uint8(1) if total[i] > high * number[i] else np.uint8(0)


@compiled
def _mark(hits: Line8, states: Line8) -> None:
    for i in range(hits.size):
        states[i] = FOUND if (hits[i] > 0) & (states[i] == GOOD) else states[i]


@compiled
def _either(hits: Line8, others: Line8) -> None:
    for i in range(hits.size):
        hits[i] |= others[i]


@compiled
def _widen(hits: Line8, size: int, scratch: Line8) -> None:
    """Turn where runs of *size* samples (a power of two) begin into what they cover, in place."""
    reach = 1
    while reach < size:
        copy_line(hits, scratch)
        _either(hits[reach:], scratch)
        reach *= 2


@compiled
def _sampled_limit(sums: NDArray[np.float32], first: float, size: int, n: tuple[int, int], step: int) -> float:
    """Return the limit of n[0] by n[1] runs from an even sample; *step* is 0 if the sums do not run along times."""
    means = np.empty(SAMPLED_RUNS, np.float32)
    count, running = 0, np.float32(step > 0)
    for index in range(0, n[0] * n[1], n[0] * n[1] // SAMPLED_RUNS + 1):
        t, chan = index // n[1], index % n[1]
        number = sums[1, t + step, chan] - running * sums[1, t, chan]
        if 2.0 * number >= size:
            means[count] = (sums[0, t + step, chan] - running * sums[0, t, chan]) / number
            count += 1
    return run_limit(first, size, means, count)


@compiled
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
    before, size = _number_found(state), sizes[0]
    if size == 1:
        _search_singles(x, state, first)
        size = 2
    line, hits = np.empty(n_chan, np.float32), np.empty((2, n_chan), np.uint8)
    for t in range(n_time):
        _sum_channels(x[t], state[t], (sums[0, t], sums[1, t]), size // 2, line)
    while size <= min(sizes[1], n_chan):
        n = n_chan + 1 - size
        for t in range(n_time):
            _double(sums[0, t][:n_chan], size // 2, line)
            _double(sums[1, t][:n_chan], size // 2, line)
        limit = _sampled_limit(sums, first, size, (n_time, n), 0)
        for t in range(n_time):
            if _any_above(sums[0, t][:n], sums[1, t][:n], limit):
                fill_line(hits[0], np.uint8(0))
                _above(sums[0, t][:n], sums[1, t][:n], limit, hits[0])
                _widen(hits[0], size, hits[1])
                _mark(hits[0], state[t])
                _sum_channels(x[t], state[t], (sums[0, t], sums[1, t]), size, line)
        size *= 2
    return _number_found(state) - before


@compiled
def search_times(
    x: NDArray[np.float32], state: NDArray[np.uint8], sums: NDArray[np.float32], first: float, shortest: int
) -> int:
    """Mark runs along the times, of *shortest* samples up to all of them, as FOUND; else as `search_channels`."""
    n_time, n_chan = x.shape
    before, size = _number_found(state), min(shortest, n_time)
    if shortest == 1:
        _search_singles(x, state, first)
        size = 2
    sums[:, 0] = 0.0
    line, number, hits = np.empty(n_chan, np.float32), np.empty(n_chan, np.float32), np.empty(n_chan, np.uint8)
    _sum_times(x, state, sums)
    while size <= n_time:
        limit, news = _sampled_limit(sums, first, size, (n_time + 1 - size, n_chan), size), False
        for t in range(n_time + 1 - size):
            add_lines(sums[0, t + size], sums[0, t], np.float32(-1.0), line)
            add_lines(sums[1, t + size], sums[1, t], np.float32(-1.0), number)
            if _any_above(line, number, limit):
                _above(line, number, limit, hits)
                for inside in range(t, t + size):
                    _mark(hits, state[inside])
                news = True
        if news:
            _sum_times(x, state, sums)
        size = n_time if size < n_time < 2 * size else 2 * size
    return _number_found(state) - before


@compiled
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


@compiled
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
