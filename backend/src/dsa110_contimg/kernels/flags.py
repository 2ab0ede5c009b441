r"""Amplitudes that stand out: interference, and samples that hold nothing.

On each baseline and polarization, with a(t, f) = |V| and σ = 1.4826 · MAD (a Gaussian's standard deviation), a
sample is an outlier when it exceeds

    median_tf(a) + k σ_tf                  the whole baseline: strong bursts and strong carriers
    median_t(a | f) + k σ(a − median_t)    its own channel: bursts in a quiet part of the band

and a whole channel (or integration) is one when its median exceeds the median of all channel (integration)
medians by k σ of them: steady carriers and broad-band bursts that no single sample betrays. Only upward: fringes
of several sources and notches of the bandpass pull amplitudes down. σ is never taken below 2 % of the median, so
that data without noise are not flagged for their rounding. What one pass finds no longer counts in the next.

The work is done one baseline at a time on a small scratch array: no full-size copy is ever made.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826
LEAST_SIGMA = 0.02
SAMPLE = 2048
LINE_SAMPLE = 192
FEWEST_MEDIANS = 8


@njit(cache=True)
def _median(values: NDArray[np.float32], count: int) -> float:
    """Return the upper median of the first *count* values, which are reordered (Hoare's selection)."""
    low, high, target = 0, count - 1, count // 2
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if target <= right:
            high = right
        elif target >= left:
            low = left
        else:
            break
    return float(values[target])


@njit(cache=True)
def _limit(values: NDArray[np.float32], count: int, scale: float) -> float:
    """Return median + scale · σ of the first *count* values, which are destroyed."""
    if count == 0:
        return np.inf
    middle = _median(values, count)
    for i in range(count):
        values[i] = abs(values[i] - np.float32(middle))
    return middle + scale * max(MAD_TO_SIGMA * _median(values, count), LEAST_SIGMA * middle)


@njit(cache=True, fastmath=True)
def _exchange(low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    """Order two rows element by element: the vector instruction that the sorting network is made of."""
    for chan in range(low.size):
        x, y = low[chan], high[chan]
        low[chan], high[chan] = min(x, y), max(x, y)


@njit(cache=True)
def _sort_columns(table: NDArray[np.float32]) -> None:
    """Sort each column of (n_time, n_chan) by merge exchange (Knuth, TAOCP 3, 5.2.2 M), all columns at once."""
    n, top = table.shape[0], 1
    while 2 * top < n:
        top *= 2
    width = top
    while width > 0 and n > 1:
        merge, rest, distance = top, 0, width
        while True:
            for i in range(n - distance):
                if i & width == rest:
                    _exchange(table[i], table[i + distance])
            if merge == width:
                break
            distance, merge, rest = merge - width, merge // 2, width
        width //= 2


@njit(cache=True)
def _channel_medians(amp: NDArray[np.float32], scratch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median over time of each channel's good samples; −1 where there are none."""
    n_time, n_chan = amp.shape
    count = np.zeros(n_chan, np.int64)
    for t in range(n_time):
        for chan in range(n_chan):
            good = amp[t, chan] >= 0.0
            count[chan] += good
            scratch[t, chan] = amp[t, chan] if good else np.float32(3e38)
    _sort_columns(scratch)
    out = np.full(n_chan, np.float32(-1.0))
    for chan in range(n_chan):
        if count[chan]:
            out[chan] = scratch[count[chan] // 2, chan]
    return out


@njit(cache=True)
def _time_medians(amp: NDArray[np.float32], scratch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median over (a sample of the) channels of each integration's good samples; −1 where none are."""
    n_time, n_chan = amp.shape
    out = np.full(n_time, np.float32(-1.0))
    stride = n_chan // LINE_SAMPLE + 1
    for t in range(n_time):
        count = 0
        for chan in range(0, n_chan, stride):
            if amp[t, chan] >= 0.0:
                scratch[count] = amp[t, chan]
                count += 1
        if count:
            out[t] = _median(scratch, count)
    return out


@njit(cache=True)
def _medians_limit(medians: NDArray[np.float32], scale: float) -> float:
    """Return above which a line's median stands out among the medians of all lines; infinity if they are few."""
    good = medians[medians >= 0.0]
    return _limit(good, good.size, scale) if good.size >= FEWEST_MEDIANS else np.inf


@njit(cache=True)
def _sample(amp: NDArray[np.float32], middle: NDArray[np.float32], scratch: NDArray[np.float32]) -> int:
    """Collect |a − middle of its channel| over an even sample of the good amplitudes; return how many."""
    n_time, n_chan = amp.shape
    stride, count = amp.size // SAMPLE + 1, 0
    for t in range(n_time):
        for chan in range((t * n_chan) % stride, n_chan, stride):
            if amp[t, chan] >= 0.0:
                scratch[count] = abs(amp[t, chan] - middle[chan])
                count += 1
    return count


@njit(cache=True)
def _one_pass(amp: NDArray[np.float32], scale: float, table: NDArray[np.float32]) -> int:
    """Flag (set to −1) outliers of one baseline's amplitudes (n_time, n_chan); return how many."""
    n_time, n_chan = amp.shape
    flat = table.reshape(-1)
    by_chan = _channel_medians(amp, table)
    by_time = _time_medians(amp, flat)
    count = _sample(amp, np.zeros(n_chan, np.float32), flat)
    overall = _limit(flat, count, scale)
    count = _sample(amp, by_chan, flat)
    spread = scale * MAD_TO_SIGMA * _median(flat, count) if count else np.inf
    limit = np.empty(n_chan, np.float32)
    chan_limit, time_limit = _medians_limit(by_chan, scale), _medians_limit(by_time, scale)
    for chan in range(n_chan):
        limit[chan] = min(overall, by_chan[chan] + max(spread, scale * LEAST_SIGMA * by_chan[chan]))
        if by_chan[chan] > chan_limit:
            limit[chan] = -0.5
    found = 0
    for t in range(n_time):
        whole = by_time[t] > time_limit
        for chan in range(n_chan):
            if amp[t, chan] >= 0.0 and (whole or amp[t, chan] > limit[chan]):
                amp[t, chan] = -1.0
                found += 1
    return found


@njit(cache=True, parallel=True)
def flag_outliers(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    order: NDArray[np.int64],
    start: NDArray[np.int64],
    scale: float,
    passes: int,
) -> None:
    """Flag outliers in place.

    Parameters
    ----------
    vis, flags
        (n_row, n_chan, n_pol).
    order, start
        Rows by baseline, as `baselines.baseline_rows` gives them.
    scale
        Outliers are this many σ above the median.
    passes
        Most passes over a baseline; one that finds nothing is the last.
    """
    n_chan, n_pol = vis.shape[1], vis.shape[2]
    for task in prange((start.size - 1) * n_pol):
        baseline, pol = task // n_pol, task % n_pol
        rows = order[start[baseline] : start[baseline + 1]]
        n_time = rows.size
        amp, table = np.empty((n_time, n_chan), np.float32), np.empty((n_time, n_chan), np.float32)
        for t in range(n_time):
            for chan in range(n_chan):
                value = vis[rows[t], chan, pol]
                size = np.sqrt(value.real * value.real + value.imag * value.imag)
                amp[t, chan] = np.float32(-1.0) if flags[rows[t], chan, pol] else size
        found = 0
        for _ in range(passes):
            news = _one_pass(amp, scale, table)
            found += news
            if news == 0:
                break
        if found:
            for t in range(n_time):
                for chan in range(n_chan):
                    if amp[t, chan] < 0.0:
                        flags[rows[t], chan, pol] = True


@njit(cache=True, parallel=True)
def flag_empty(vis: NDArray[np.complex64], flags: NDArray[np.bool_]) -> None:
    """Flag zero and non-finite samples in place; both arrays (n_row, n_chan, n_pol)."""
    for row in prange(vis.shape[0]):
        for chan in range(vis.shape[1]):
            for pol in range(vis.shape[2]):
                size = abs(vis[row, chan, pol].real) + abs(vis[row, chan, pol].imag)
                if not (0.0 < size < np.inf):
                    flags[row, chan, pol] = True


@njit(cache=True, parallel=True)
def rows_with_data(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows have an unflagged sample, (n_row,), at the first that is found."""
    found = np.zeros(flags.shape[0], np.bool_)
    for row in prange(flags.shape[0]):
        for flag in flags[row].flat:
            if not flag:
                found[row] = True
                break
    return found


@njit(cache=True, parallel=True)
def count_flags(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of flagged channels of each row and polarization, (n_row, n_pol)."""
    counts = np.zeros((flags.shape[0], flags.shape[2]), np.int64)
    for row in prange(flags.shape[0]):
        for pol in range(flags.shape[2]):
            count = 0
            for chan in range(flags.shape[1]):
                count += flags[row, chan, pol]
            counts[row, pol] = count
    return counts
