"""Medians by counting and by sorting networks; scatter as 1.4826 MAD, a Gaussian's standard deviation."""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled

MAD_TO_SIGMA = 1.4826
BLOCK = 256
"""Columns that are sorted at a time, so that they stay in the fastest cache."""
LAST = 3e38
INFINITE = 0x7F800000
"""Bits of an infinite float32."""


@compiled
def count_up_to(values: NDArray[np.float32], limit: np.float32) -> float:
    """Return how many values are not above a limit, counted in float32, which is exact to 2²⁴."""
    one, zero, number = np.float32(1.0), np.float32(0.0), np.float32(0.0)
    for i in range(values.size):
        number += one if values[i] <= limit else zero
    return float(number)


@compiled
def select(values: NDArray[np.float32], rank: int) -> float:
    """Return what stands at *rank* when the values, without NaN, are in order.

    Halves the range of bit patterns, which are in order as the numbers are: at most 32 counts, each without branches.
    """
    number = np.empty(1, np.float32)
    bits, low, high = number.view(np.int32), -INFINITE - 1, INFINITE
    while low < high:
        middle = (low + high) >> 1
        # Bits of negative numbers run the other way.
        bits[0] = middle if middle >= 0 else middle ^ 0x7FFFFFFF
        if count_up_to(values, number[0]) > rank:
            high = middle
        else:
            low = middle + 1
    bits[0] = low if low >= 0 else low ^ 0x7FFFFFFF
    return float(number[0])


@compiled
def median(values: NDArray[np.float32], count: int) -> float:
    """Return the upper median of the first *count* values."""
    return select(values[:count], count // 2)


@compiled
def _exchange(low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    """Order two rows element by element: the vector instruction that the sorting network is made of.

    With `min` and `max`, or fastmath, the compiler makes none of it: four times slower.
    """
    for chan in range(low.size):
        x, y = low[chan], high[chan]
        low[chan] = np.minimum(x, y)
        high[chan] = np.maximum(x, y)


@compiled
def sort_columns(table: NDArray[np.float32]) -> None:
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


@compiled
def _sortable(line: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Put what is no sample behind all others."""
    zero, last = np.float32(0.0), np.float32(LAST)
    for i in range(out.size):
        out[i] = line[i] if line[i] >= zero else last


@compiled
def channel_medians(amp: NDArray[np.float32], scratch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median over time of each channel's good samples; −1 where there are none."""
    n_time, n_chan = amp.shape
    out = np.empty(n_chan, np.float32)
    for begin in range(0, n_chan, BLOCK):
        end = min(begin + BLOCK, n_chan)
        table = scratch.reshape(-1)[: n_time * (end - begin)].reshape(n_time, end - begin)
        for t in range(n_time):
            _sortable(amp[t][begin:end], table[t])
        sort_columns(table)
        for chan in range(end - begin):
            count = n_time
            while count > 0 and table[count - 1, chan] >= LAST:
                count -= 1
            out[begin + chan] = table[count // 2, chan] if count else np.float32(-1.0)
    return out
