"""What a sample does not share with its neighbors in frequency or time.

u is (3, n_time, n_chan): real part, imaginary part, weight (1 or 0); *others* is the same, made ready for means by
`clip`. |D|² is scaled to the noise of u itself: a mean of N neighbors adds 1/N of it. Far from the ends as many
neighbors are taken on either side, so that what is linear along them goes; sums of a power of two of channels are made
by doubling, and those of integrations run along, so that all channels are worked on at once.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled
from dsa110_contimg.kernels.lines import add_lines, add_to, fill_line
from dsa110_contimg.kernels.medians import median, select

CLIP = 1.3
"""What enters a mean is shortened to this many times the level, so that interference throws no shadow."""
LEAST_NEIGHBORS = 1.0
"""Next to strong interference at the beginning or the end one neighbor is all that is left, and it tells enough."""
LEAST_REACH = 2
OPENING = 4
SAMPLE = 256
MUCH_SKY, BEATING = 0.5, 1.5
"""Neighbors differ less than this, and the upper quartile of |u|² is above this, in medians of |u|²: the sky beats."""
HIGHEST_BEAT = 9.0
ONE = np.float32(1.0)
Line = NDArray[np.float32]
Plane = NDArray[np.float32]
Planes = NDArray[np.float32]


@compiled
def power_of(u: Planes, out: Plane) -> None:
    """Fill |u|²; −1 where the weight is 0."""
    re, im, weight, flat = u[0].reshape(-1), u[1].reshape(-1), u[2].reshape(-1), out.reshape(-1)
    for i in range(flat.size):
        power = re[i] * re[i] + im[i] * im[i]
        flat[i] = power if weight[i] > np.float32(0.0) else np.float32(-1.0)


@compiled
def _least(one: Line, two: Line, three: Line, four: Line, out: Line) -> None:
    for i in range(out.size):
        out[i] = min(min(one[i], two[i]), min(three[i], four[i]))


@compiled
def _largest(one: Line, two: Line, three: Line, four: Line, most: np.float32, out: Line) -> None:
    for i in range(out.size):
        out[i] = min(max(max(one[i], two[i]), max(three[i], four[i])), most)


@compiled
def open_channels(plane: Plane, highest: float) -> None:
    """Take away what is narrower than four channels (a gray opening), and what is above *highest*; in place.

    There are four channels at least.
    """
    n_run, most = plane.shape[1] + 1 - OPENING, np.float32(highest)
    lows = np.zeros(n_run + 6, np.float32)
    for t in range(plane.shape[0]):
        line = plane[t]
        _least(line[:n_run], line[1:], line[2:], line[3:], lows[3 : 3 + n_run])
        _largest(lows, lows[1:], lows[2:], lows[3:], most, line)


@compiled
def open_times(plane: Plane, work: Planes, highest: float) -> None:
    """Do as `open_channels` does along four integrations or more; *work* is scratch, (3, n_time, n_chan)."""
    n_time, most = plane.shape[0], np.float32(highest)
    lows = work.reshape(-1, plane.shape[1])[: n_time + 3]
    lows[:3] = 0.0
    lows[n_time:] = 0.0
    for t in range(n_time + 1 - OPENING):
        _least(plane[t], plane[t + 1], plane[t + 2], plane[t + 3], lows[t + 3])
    for t in range(n_time):
        _largest(lows[t], lows[t + 1], lows[t + 2], lows[t + 3], most, plane[t])


@compiled
def _sample(u: Planes, across: int) -> tuple[float, float, float]:
    """Return median and upper quartile of |u|², and the median of |u − its next neighbor|², of an even sample."""
    n_chan, size = u.shape[2], u.shape[1] * u.shape[2]
    re, im, weight = u[0].reshape(-1), u[1].reshape(-1), u[2].reshape(-1)
    shift, count = (n_chan if across else 1), 0
    line, steps = np.empty(SAMPLE, np.float32), np.empty(SAMPLE, np.float32)
    for i in range(0, size - shift, size // SAMPLE + 1):
        last = across == 0 and i % n_chan == n_chan - 1
        if weight[i] * weight[i + shift] > 0.0 and not last:
            dx, dy = re[i + shift] - re[i], im[i + shift] - im[i]
            line[count], steps[count] = re[i] * re[i] + im[i] * im[i], dx * dx + dy * dy
            count += 1
    if count == 0:
        return 0.0, 0.0, 0.0
    return median(line, count), select(line[:count], 3 * count // 4), median(steps, count)


@compiled
def find_levels(u: Planes, work: Planes, level: Planes) -> bool:
    """Fill *level*, for both directions, with how strong the sky is where it is strong and beats, else with zeros.

    Return whether it beats in either; *work* is scratch (3, n_time, n_chan), *level* (2, n_time, n_chan).
    """
    beats = False
    for across in range(2):
        middle, quartile, step = _sample(u, across)
        if level.shape[2 - across] > OPENING and step < MUCH_SKY * middle and quartile > BEATING * middle:
            power_of(u, level[across])
            beats = True
            # Interference that lasts is as broad as a beat: beyond what sources of like flux reach, it is cut off.
            if across == 0:
                open_channels(level[0], HIGHEST_BEAT * middle)
            else:
                open_times(level[1], work, HIGHEST_BEAT * middle)
        else:
            fill_line(level[across].reshape(-1), np.float32(0.0))
    return beats


@compiled
def clip(u: Planes, allowed: Plane, least2: float, level2: Plane, out: Planes) -> None:
    """Fill *out* with u (re, im, weight), shortened where |u|² is above CLIP² times a level: what enters the means.

    The level is *level2* (n_time, n_chan), and *least2* at least.
    """
    factor, low, tiny, one = np.float32(CLIP**2), np.float32(least2), np.float32(1e-30), np.float32(1.0)
    re, im, weight = u[0].reshape(-1), u[1].reshape(-1), u[2].reshape(-1)
    x, y, w = out[0].reshape(-1), out[1].reshape(-1), out[2].reshape(-1)
    free, level = allowed.reshape(-1), level2.reshape(-1)
    for i in range(re.size):
        size2 = re[i] * re[i] + im[i] * im[i]
        enters = weight[i] * free[i]
        share = enters * np.sqrt(min(one, factor * max(low, level[i]) / max(size2, tiny)))
        w[i] = enters
        x[i] = re[i] * share
        y[i] = im[i] * share


@compiled
def _deviation(re: Line, im: Line, weight: Line, rest: Planes, out: Line) -> None:
    """Fill |u − mean of the rest|², scaled to the noise of u, from the rest's sums (3, n_chan); −1 if there is none."""
    one, least, none, zero = np.float32(1.0), np.float32(LEAST_NEIGHBORS), np.float32(-1.0), np.float32(0.0)
    rest_re, rest_im, number = rest[0], rest[1], rest[2]
    for chan in range(out.size):
        n = number[chan]
        x = n * re[chan] - rest_re[chan]
        y = n * im[chan] - rest_im[chan]
        power = (x * x + y * y) / max(n * (n + one), one)
        out[chan] = power if (n >= least) & (weight[chan] > zero) else none


@compiled
def _reach(place: int, size: int, half: int) -> int:
    """Return how far to look from a place: as far on both sides, or what is not linear enters; two at the very ends."""
    return max(min(half, place, size - 1 - place), min(half, LEAST_REACH))


@compiled
def _sum_ends(line: Line, half: int, out: Line) -> None:
    """Fill sums over the neighbors of the first and the last *half* channels, all of which begin at the end."""
    n, last = line.size, 0
    low, high = np.float32(0.0), np.float32(0.0)
    for place in range(min(half, (n + 1) // 2)):
        while last < min(place + _reach(place, n, half) + 1, n):
            low += line[last]
            high += line[n - 1 - last]
            last += 1
        out[place], out[n - 1 - place] = low - line[place], high - line[n - 1 - place]


@compiled
def _sum_neighbors(line: Line, half: int, work: Planes, out: Line) -> None:
    """Fill sums over *half* channels (a power of two) to either side; work is scratch (2, n_chan)."""
    n, size, now = line.size, 1, line
    turn = 0
    while size < half and 2 * half < n:
        count = n + 1 - 2 * size
        add_lines(now[:count], now[size:], ONE, work[turn][:count])
        now, size, turn = work[turn], 2 * size, 1 - turn
    if 2 * half < n:
        add_lines(now[: n - 2 * half], now[half + 1 :], ONE, out[half : n - half])
    _sum_ends(line, half, out)


@compiled
def less_channels(u: Planes, others: Planes, half: int, out: Plane) -> None:
    """Fill (n_time, n_chan) with |D_f|²; *half* is a power of two."""
    n_time, n_chan = out.shape
    rest, work = np.empty((3, n_chan), np.float32), np.empty((2, n_chan), np.float32)
    for t in range(n_time):
        for part in range(3):
            _sum_neighbors(others[part, t], half, work, rest[part])
        _deviation(u[0, t], u[1, t], u[2, t], rest, out[t])


@compiled
def less_times(u: Planes, others: Planes, half: int, out: Plane) -> None:
    """Fill (n_time, n_chan) with |D_t|²."""
    n_time, n_chan = out.shape
    sums, rest = np.zeros((3, n_chan), np.float32), np.empty((3, n_chan), np.float32)
    first, last = 0, 0
    for t in range(n_time):
        reach = _reach(t, n_time, half)
        while last < min(t + reach + 1, n_time):
            for part in range(3):
                add_to(sums[part], others[part, last], ONE)
            last += 1
        while first < t - reach:
            for part in range(3):
                add_to(sums[part], others[part, first], -ONE)
            first += 1
        for part in range(3):
            add_lines(sums[part], others[part, t], -ONE, rest[part])
        _deviation(u[0, t], u[1, t], u[2, t], rest, out[t])
