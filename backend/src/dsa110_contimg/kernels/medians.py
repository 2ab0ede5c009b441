"""Medians by selection and by sorting networks; scatter as 1.4826 MAD, a Gaussian's standard deviation."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826


@njit(cache=True)
def median(values: NDArray[np.float32], count: int) -> float:
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


@njit(cache=True, fastmath=True)
def _exchange(low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
    """Order two rows element by element: the vector instruction that the sorting network is made of."""
    for chan in range(low.size):
        x, y = low[chan], high[chan]
        low[chan], high[chan] = min(x, y), max(x, y)


@njit(cache=True)
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


@njit(cache=True)
def channel_medians(amp: NDArray[np.float32], scratch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median over time of each channel's good samples; −1 where there are none."""
    n_time, n_chan = amp.shape
    count = np.zeros(n_chan, np.int64)
    for t in range(n_time):
        for chan in range(n_chan):
            good = amp[t, chan] >= 0.0
            count[chan] += good
            scratch[t, chan] = amp[t, chan] if good else np.float32(3e38)
    sort_columns(scratch)
    out = np.full(n_chan, np.float32(-1.0))
    for chan in range(n_chan):
        if count[chan]:
            out[chan] = scratch[count[chan] // 2, chan]
    return out
