"""What a sample does not share with its neighbors in frequency or time.

u is (3, n_time, n_chan): real part, imaginary part, weight (1 or 0); *others* is the same, made ready for means by
`clip`. |D|² is scaled to the noise of u itself: a mean of N neighbors adds 1/N of it. Far from the ends as many
neighbors are taken on either side, so that what is linear along them goes; sums run along, so that many cost as
little as few.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FAST = {"nnan", "ninf", "nsz", "reassoc", "contract", "arcp"}
CLIP = 1.3
"""What enters a mean is shortened to this many times the level, so that interference throws no shadow."""
LEAST_NEIGHBORS = 1.0
"""Next to strong interference at the beginning or the end one neighbor is all that is left, and it tells enough."""
LEAST_REACH = 2
OPENING = 4
Line = NDArray[np.float32]
Plane = NDArray[np.float32]
Planes = NDArray[np.float32]


@njit(cache=True, fastmath=FAST)
def power_of(u: Planes, out: Plane) -> None:
    """Fill |u|²."""
    re, im = u[0], u[1]
    for t in range(re.shape[0]):
        for chan in range(re.shape[1]):
            out[t, chan] = re[t, chan] * re[t, chan] + im[t, chan] * im[t, chan]


@njit(cache=True, fastmath=FAST)
def _sink(line: Line, other: Line) -> None:
    for i in range(line.size):
        line[i] = min(line[i], other[i])


@njit(cache=True, fastmath=FAST)
def _lift(line: Line, other: Line) -> None:
    for i in range(line.size):
        line[i] = max(line[i], other[i])


@njit(cache=True)
def open_channels(plane: Plane, one: Line, two: Line) -> None:
    """Take away what is narrower than four channels (a gray opening), in place; what is broader stays.

    There are five channels at least; *one* and *two* are scratch, (n_chan,).
    """
    n = plane.shape[1]
    n_run = n + 1 - OPENING
    for t in range(plane.shape[0]):
        line = plane[t]
        one[:] = line
        _sink(one[: n - 1], line[1:])
        two[:] = one
        _sink(two[:n_run], one[2 : n - 1])
        line[:n_run] = two[:n_run]
        line[n_run:] = two[n_run - 1]
        for distance in range(1, OPENING):
            _lift(line[distance:n_run], two[: n_run - distance])


@njit(cache=True)
def open_times(plane: Plane, work: Plane) -> None:
    """Do as `open_channels` does along integrations, of which there are five at least; scratch of the same shape."""
    n_run = plane.shape[0] + 1 - OPENING
    for t in range(n_run):
        for distance in range(1, OPENING):
            _sink(plane[t], plane[t + distance])
    work[:n_run] = plane[:n_run]
    for t in range(plane.shape[0]):
        plane[t] = work[min(t, n_run - 1)]
        for other in range(max(t - OPENING + 1, 0), min(t, n_run - 1)):
            _lift(plane[t], work[other])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def clip(u: Planes, allowed: Plane, least2: float, level2: Plane, out: Planes) -> None:
    """Fill *out* with u (re, im, weight), shortened where |u|² is above CLIP² times a level: what enters the means.

    The level is *level2* (n_time, n_chan), and *least2* at least.
    """
    factor, low, tiny, one = np.float32(CLIP**2), np.float32(least2), np.float32(1e-30), np.float32(1.0)
    for t in range(u.shape[1]):
        re, im, weight, free, level = u[0, t], u[1, t], u[2, t], allowed[t], level2[t]
        x, y, w = out[0, t], out[1, t], out[2, t]
        for chan in range(re.size):
            size2 = re[chan] * re[chan] + im[chan] * im[chan]
            w[chan] = weight[chan] * free[chan]
            share = w[chan] * np.sqrt(min(one, factor * max(low, level[chan]) / max(size2, tiny)))
            x[chan] = re[chan] * share
            y[chan] = im[chan] * share


@njit(cache=True, fastmath=FAST)
def _less(one: Line, other: Line, out: Line) -> None:
    for i in range(out.size):
        out[i] = one[i] - other[i]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _deviation(re: Line, im: Line, rest: NDArray[np.float32], out: Line) -> None:
    """Fill |u − mean of the rest|², scaled to the noise of u, from the rest's sums (3, n_chan); −1 if there is none."""
    one, least, none = np.float32(1.0), np.float32(LEAST_NEIGHBORS), np.float32(-1.0)
    rest_re, rest_im, number = rest[0], rest[1], rest[2]
    for chan in range(out.size):
        n = number[chan]
        x = n * re[chan] - rest_re[chan]
        y = n * im[chan] - rest_im[chan]
        out[chan] = (x * x + y * y) / max(n * (n + one), one) if n >= least else none


@njit(cache=True)
def _residual(u: Planes, others: Planes, t: int, sums: Planes, out: Line) -> None:
    """Fill |D|² of one integration from sums[0] (3, n_chan) over the neighbors and itself; sums[1] is scratch."""
    for part in range(3):
        _less(sums[0, part], others[part, t], sums[1, part])
    _deviation(u[0, t], u[1, t], sums[1], out)


@njit(cache=True)
def _reach(place: int, size: int, half: int) -> int:
    """Return how far to look from a place: as far on both sides, or what is not linear enters; two at the very ends."""
    return max(min(half, place, size - 1 - place), min(half, LEAST_REACH))


@njit(cache=True, fastmath=FAST)
def _increase(total: Planes, others: Planes, t: int, sign: float) -> None:
    """Add one integration to sums (3, n_chan), or take it away."""
    factor = np.float32(sign)
    for part in range(3):
        out, line = total[part], others[part, t]
        for chan in range(line.size):
            out[chan] += factor * line[chan]


@njit(cache=True, fastmath=FAST)
def _run_sums(others: Planes, t: int, half: int, running: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    """Fill *sums* with those over the neighbors of each channel and itself; *running* (3, n_chan + 1) is scratch."""
    n_chan = sums.shape[1]
    # Three sums side by side: each waits for its own last addition only.
    x, y, number = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    one, two, three = others[0, t], others[1, t], others[2, t]
    first, second, third = running[0], running[1], running[2]
    first[0], second[0], third[0] = x, y, number
    for chan in range(n_chan):
        x += one[chan]
        y += two[chan]
        number += three[chan]
        first[chan + 1], second[chan + 1], third[chan + 1] = x, y, number
    for part in range(3):
        total, out = running[part], sums[part]
        if 2 * half < n_chan:
            # Slices, as an index that might be negative for all the compiler knows makes this ten times slower.
            _less(total[2 * half + 1 :], total[: n_chan - 2 * half], out[half : n_chan - half])
        for distance in range(min(half, n_chan)):
            for chan in (distance, n_chan - 1 - distance):
                reach = _reach(chan, n_chan, half)
                out[chan] = total[min(chan + reach + 1, n_chan)] - total[max(chan - reach, 0)]


@njit(cache=True)
def less_channels(u: Planes, others: Planes, half: int, out: NDArray[np.float32]) -> None:
    """Fill (n_time, n_chan) with |D_f|²."""
    n_time, n_chan = out.shape
    sums, running = np.empty((2, 3, n_chan), np.float32), np.empty((3, n_chan + 1), np.float32)
    for t in range(n_time):
        _run_sums(others, t, half, running, sums[0])
        _residual(u, others, t, sums, out[t])


@njit(cache=True)
def less_times(u: Planes, others: Planes, half: int, out: NDArray[np.float32]) -> None:
    """Fill (n_time, n_chan) with |D_t|²."""
    n_time, n_chan = out.shape
    sums = np.zeros((2, 3, n_chan), np.float32)
    first, last = 0, 0
    for t in range(n_time):
        reach = _reach(t, n_time, half)
        while last < min(t + reach + 1, n_time):
            _increase(sums[0], others, last, 1.0)
            last += 1
        while first < t - reach:
            _increase(sums[0], others, first, -1.0)
            first += 1
        _residual(u, others, t, sums, out[t])
