"""Flags by the reason for which each sample was thrown away.

*Reasons* are bytes of the visibilities' shape (n_row, n_chan, n_pol): 0 is a good sample, anything else the number of
the first step that flagged it. What has a reason keeps it.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from dsa110_contimg.kernels.medians import channel_medians, median
from dsa110_contimg.kernels.sumthreshold import close_gaps

HIGHEST_MIDDLE = 10.0
"""No filter makes a channel stronger than so many times the band's median: more is cut off in means."""


@njit(cache=True)
def _amplitudes(vis: NDArray[np.complex64], reasons: NDArray[np.uint8], pol: int, out: NDArray[np.float32]) -> int:
    """Fill the amplitudes of a row's good samples, −1 where there are none; return how many those are."""
    high, none, zero, bad = np.float32(np.inf), np.float32(-1.0), np.float32(0.0), np.uint32(0)
    for chan in range(out.size):
        value = vis[chan, pol]
        size2 = value.real * value.real + value.imag * value.imag
        good = (reasons[chan, pol] == 0) & (size2 > zero) & (size2 < high)
        out[chan] = np.sqrt(size2) if good else none
        bad += np.uint32(not good)
    return int(bad)


@njit(cache=True)
def _enter_empty(vis: NDArray[np.complex64], reasons: NDArray[np.uint8], pol: int, codes: tuple[int, int]) -> int:
    """Enter codes[0] for empty samples of a row without a reason, or with codes[1]; return how many have a reason."""
    bad = 0
    for chan in range(reasons.shape[0]):
        value = vis[chan, pol]
        size2 = value.real * value.real + value.imag * value.imag
        if not (0.0 < size2 < np.inf) and (reasons[chan, pol] == 0 or reasons[chan, pol] == codes[1]):
            reasons[chan, pol] = codes[0]
        bad += 1 if reasons[chan, pol] else 0
    return bad


@njit(cache=True, parallel=True)
def first_look(
    vis: NDArray[np.complex64],
    reasons: NDArray[np.uint8],
    order: NDArray[np.int64],
    start: NDArray[np.int64],
    codes: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Enter a reason for zero and non-finite samples, and return what each baseline holds.

    Parameters
    ----------
    vis, reasons
        (n_row, n_chan, n_pol).
    order, start
        Rows by baseline, as `baselines.baseline_rows` gives them.
    codes
        The reason, and the one that gives way to it.

    Returns
    -------
    middles
        Median amplitude over time of the good samples, over its own median over the channels,
        (n_baseline, n_chan, n_pol); −1 where there are none.
    bad
        Number of samples with a reason, (n_baseline, n_pol).
    """
    n_chan, n_pol = vis.shape[1], vis.shape[2]
    n_baseline = start.size - 1
    middles, bad = np.empty((n_baseline, n_chan, n_pol), np.float32), np.zeros((n_baseline, n_pol), np.int64)
    for baseline in prange(n_baseline):
        rows = order[start[baseline] : start[baseline + 1]]
        amp = np.empty((n_pol, rows.size, n_chan), np.float32)
        table = np.empty((rows.size, n_chan), np.float32)
        for t in range(rows.size):
            for pol in range(n_pol):
                own = amp[pol, t]
                if _amplitudes(vis[rows[t]], reasons[rows[t]], pol, own) > 0:
                    bad[baseline, pol] += _enter_empty(vis[rows[t]], reasons[rows[t]], pol, codes)
        for pol in range(n_pol):
            by_chan = channel_medians(amp[pol], table)
            known = by_chan[by_chan >= 0.0]
            whole = np.float32(median(known, known.size)) if known.size else np.float32(1.0)
            for chan in range(n_chan):
                middles[baseline, chan, pol] = by_chan[chan] / whole if by_chan[chan] > 0.0 else -1.0
    return middles, bad


@njit(cache=True, parallel=True)
def antenna_means(
    middles: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64], n_antenna: int
) -> NDArray[np.float32]:
    """Return the mean of the positive values of each antenna's baselines, (n_antenna, n_chan, n_pol); else 0."""
    n_chan, n_pol = middles.shape[1], middles.shape[2]
    out = np.zeros((n_antenna, n_chan, n_pol), np.float32)
    for antenna in prange(n_antenna):
        number = np.zeros((n_chan, n_pol), np.float32)
        for baseline in range(first.size):
            if antenna in (first[baseline], second[baseline]):
                for chan in range(n_chan):
                    for pol in range(n_pol):
                        if middles[baseline, chan, pol] > 0.0:
                            out[antenna, chan, pol] += min(middles[baseline, chan, pol], np.float32(HIGHEST_MIDDLE))
                            number[chan, pol] += np.float32(1.0)
        for chan in range(n_chan):
            for pol in range(n_pol):
                out[antenna, chan, pol] /= max(number[chan, pol], np.float32(1.0))
    return out


@njit(cache=True, parallel=True)
def enter_rows(reasons: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    """Enter a code for every good sample of each row that has one, (n_row,)."""
    for row in prange(reasons.shape[0]):
        if codes[row]:
            for chan in range(reasons.shape[1]):
                for pol in range(reasons.shape[2]):
                    if reasons[row, chan, pol] == 0:
                        reasons[row, chan, pol] = codes[row]


@njit(cache=True, parallel=True)
def enter_channels(reasons: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    """Enter a code for every good sample of each channel that has one, (n_chan,)."""
    chosen = np.flatnonzero(codes)
    for row in prange(reasons.shape[0]):
        for chan in chosen:
            for pol in range(reasons.shape[2]):
                if reasons[row, chan, pol] == 0:
                    reasons[row, chan, pol] = codes[chan]


@njit(cache=True, parallel=True)
def enter_flags(reasons: NDArray[np.uint8], flags: NDArray[np.bool_], code: int) -> None:
    """Enter a code for every flagged sample that has no reason."""
    for row in prange(reasons.shape[0]):
        for chan in range(reasons.shape[1]):
            for pol in range(reasons.shape[2]):
                if flags[row, chan, pol] and reasons[row, chan, pol] == 0:
                    reasons[row, chan, pol] = code


@njit(cache=True, parallel=True)
def enter_common(
    reasons: NDArray[np.uint8],
    baselines: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    common: NDArray[np.bool_],
    carriers: NDArray[np.bool_],
    own: tuple[NDArray[np.uint8], int, int],
) -> None:
    """Enter a code where both antennas of a baseline stand out, and the baseline does not contradict.

    Parameters
    ----------
    reasons
        (n_row, n_chan, n_pol).
    baselines
        order, start, first, second.
    common
        (n_antenna, n_time, n_chan).
    carriers
        Channels in which an antenna stands out most of the time, (n_antenna, n_chan).
    own
        The power of each baseline in steps, (n_baseline, n_time, n_chan), and how many it needs; the code. A carrier's
        sample without a power (0) is flagged.
    """
    order, start, first, second = baselines
    power, least, code = own
    for baseline in prange(start.size - 1):
        one, two = first[baseline], second[baseline]
        always = carriers[one] & carriers[two]
        for t in range(start[baseline + 1] - start[baseline]):
            row = order[start[baseline] + t]
            for chan in range(reasons.shape[1]):
                level = power[baseline, t, chan]
                shared = common[one, t, chan] and common[two, t, chan]
                if (level >= least and (shared or always[chan])) or (level == 0 and always[chan]):
                    for pol in range(reasons.shape[2]):
                        if reasons[row, chan, pol] == 0:
                            reasons[row, chan, pol] = code


@njit(cache=True, parallel=True)
def finish_baselines(
    reasons: NDArray[np.uint8],
    order: NDArray[np.int64],
    start: NDArray[np.int64],
    codes: tuple[int, int, int, int],
    limits: tuple[float, float],
) -> None:
    """Close gaps between what interference left, and give up baselines of which hardly anything is left.

    Parameters
    ----------
    reasons
        (n_row, n_chan, n_pol).
    order, start
        Rows by baseline.
    codes
        First and last reason that is interference; what to enter for gaps; what to enter for what is given up.
    limits
        Gap of the scale-invariant rank operator; flagged fraction above which a baseline is given up.
    """
    n_chan, n_pol = reasons.shape[1], reasons.shape[2]
    for baseline in prange(start.size - 1):
        rows = order[start[baseline] : start[baseline + 1]]
        bad, hits = 0, 0
        for row in rows:
            few, many = _count_between(reasons[row].reshape(-1), codes[0], codes[1])
            hits += few
            bad += many
        if not hits:
            continue
        found = np.zeros((rows.size, n_chan), np.bool_)
        for t in range(rows.size):
            for chan in range(n_chan):
                for pol in range(n_pol):
                    found[t, chan] |= codes[0] <= reasons[rows[t], chan, pol] <= codes[1]
        _close_plane(found, limits[0])
        given_up = bad > limits[1] * found.size * n_pol
        for t in range(rows.size):
            for chan in range(n_chan):
                if found[t, chan] or given_up:
                    for pol in range(n_pol):
                        if reasons[rows[t], chan, pol] == 0:
                            reasons[rows[t], chan, pol] = codes[2] if found[t, chan] else codes[3]


@njit(cache=True)
def _count_between(line: NDArray[np.uint8], first: int, last: int) -> tuple[int, int]:
    """Return how many values are from *first* to *last*, and how many are not zero."""
    low, high = np.uint8(first), np.uint8(last)
    inside, other = 0, 0
    for value in line:
        inside += 1 if low <= value <= high else 0
        other += 1 if value else 0
    return inside, other


@njit(cache=True)
def _close_plane(found: NDArray[np.bool_], gap: float) -> None:
    """Close gaps along times and along channels, each from what was found."""
    n_time, n_chan = found.shape
    scratch = np.empty(max(n_time, n_chan), np.float32)
    across = found.copy()
    # One gap takes (1 − gap)/gap samples around it: most lines have fewer.
    least, by_chan = (0.999 - gap) / max(gap, 1e-6), np.zeros(n_chan, np.uint32)
    for t in range(n_time):
        by_chan += found[t]
        if found[t].sum() >= least:
            close_gaps(across[t], gap, scratch)
    for chan in range(n_chan):
        if least <= by_chan[chan] < n_time:
            column = found[:, chan].copy()
            close_gaps(column, gap, scratch)
            for t in range(n_time):
                across[t, chan] |= column[t]
    found[:] = across


@njit(cache=True, parallel=True)
def count_reasons(
    reasons: NDArray[np.uint8], moment: NDArray[np.int64], n_moment: int, n_reason: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many samples have each reason, (n_row, n_pol, n_reason) and (n_moment, n_chan, n_reason).

    Rows whose *moment* (their integration) is negative do not count.
    """
    n_row, n_chan, n_pol = reasons.shape
    by_row = np.zeros((n_row, n_pol, n_reason), np.int64)
    by_moment = np.zeros((n_moment, n_chan, n_reason), np.int64)
    for now in prange(n_moment):
        here, n_here = by_moment[now], 0
        for row in range(n_row):
            if moment[row] != now:
                continue
            n_here += 1
            line, own = reasons[row], by_row[row]
            own[:, 0] = n_chan
            for chan in range(n_chan):
                for pol in range(n_pol):
                    reason = line[chan, pol]
                    if reason:
                        own[pol, reason] += 1
                        own[pol, 0] -= 1
                        here[chan, reason] += 1
        for chan in range(n_chan):
            here[chan, 0] = n_here * n_pol - here[chan, 1:].sum()
    return by_row, by_moment


@njit(cache=True, parallel=True)
def set_flags(flags: NDArray[np.bool_], reasons: NDArray[np.uint8], last: int) -> None:
    """Flag exactly what has a reason from 1 to *last*."""
    for row in prange(reasons.shape[0]):
        for chan in range(reasons.shape[1]):
            for pol in range(reasons.shape[2]):
                flags[row, chan, pol] = 0 < reasons[row, chan, pol] <= last


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
