"""Interference that many baselines share, though it is too faint on each of them.

The power of all baselines of an antenna, Σ |D|²/σ² as `interference.find_interference` leaves it, is averaged; in units
of its own scatter, SumThreshold searches that mean along times, channels, and lines that drift through the channels as
satellites do. A baseline is flagged where the means of both of its antennas stand out (`flags.enter_common`).
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.medians import MAD_TO_SIGMA, median
from dsa110_contimg.kernels.sumthreshold import ABSENT, FOUND, GOOD, search_channels, search_drifts, search_times

SLOPES = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
"""Channels per integration."""
COMMON_FIRST = 4.2
LONGEST_LINE = 16


@compiled_parallel
def antenna_power(
    power: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64], n_antenna: int
) -> NDArray[np.float32]:
    """Return the mean power of each antenna's baselines in units of its scatter, (n_antenna, n_time, n_chan).

    Scatter is measured per antenna (1.4826 MAD); −1e9 where no baseline has a value.
    """
    n_time, n_chan = power.shape[1], power.shape[2]
    out = np.full((n_antenna, n_time, n_chan), np.float32(-1e9))
    for antenna in prange(n_antenna):
        total, number = np.zeros((n_time, n_chan), np.float32), np.zeros((n_time, n_chan), np.float32)
        for baseline in range(first.size):
            if antenna not in (first[baseline], second[baseline]):
                continue
            for t in range(n_time):
                for chan in range(n_chan):
                    level = power[baseline, t, chan]
                    total[t, chan] += np.float32(level)
                    number[t, chan] += np.float32(1.0) if level else np.float32(0.0)
        _in_scatters(total, number, out[antenna])
    return out


@compiled
def _in_scatters(total: NDArray[np.float32], number: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fill *out* with (total/number − median) · √(number/largest number) / scatter."""
    largest, count = number.max(), 0
    values = np.empty(total.size, np.float32)
    for t in range(total.shape[0]):
        for chan in range(total.shape[1]):
            if 4.0 * number[t, chan] > largest:
                out[t, chan] = total[t, chan] / number[t, chan]
                values[count] = out[t, chan]
                count += 1
    if count == 0:
        return
    middle = np.float32(median(values, count))
    for i in range(count):
        values[i] = abs(values[i] - middle)
    scatter = max(np.float32(MAD_TO_SIGMA * median(values, count)), np.float32(1e-3 * middle))
    for t in range(total.shape[0]):
        for chan in range(total.shape[1]):
            if out[t, chan] > -1e8:
                out[t, chan] = (out[t, chan] - middle) / scatter * np.sqrt(number[t, chan] / largest)


@compiled_parallel
def find_common(excess: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where an antenna's mean power stands out, also along drifts; in and out (n_antenna, n_time, n_chan)."""
    n_antenna, n_time, n_chan = excess.shape
    out = np.zeros(excess.shape, np.bool_)
    for antenna in prange(n_antenna):
        x = excess[antenna]
        state = np.zeros((n_time, n_chan), np.uint8)
        for t in range(n_time):
            for chan in range(n_chan):
                state[t, chan] = GOOD if x[t, chan] > -1e8 else ABSENT
        sums = np.empty((2, n_time + 1, n_chan + 1), np.float32)
        search_times(x, state, sums, COMMON_FIRST, 1)
        search_channels(x, state, sums, COMMON_FIRST, (1, LONGEST_LINE))
        for slope in SLOPES:
            search_drifts(x, state, sums, COMMON_FIRST, slope)
        out[antenna] = state == FOUND
    return out
