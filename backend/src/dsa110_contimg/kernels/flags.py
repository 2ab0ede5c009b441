"""Flags by the reason for which each sample was thrown away.

*Reasons* are bytes of the visibilities' shape (n_row, n_chan, n_pol): 0 is a good sample, anything else the number of
the first step that flagged it. What has a reason keeps it.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.medians import channel_medians, count_up_to, median
from dsa110_contimg.kernels.sumthreshold import close_gaps

HIGHEST_MIDDLE = 10.0
"""No filter makes a channel stronger than so many times the band's median: more is cut off in means."""


@compiled
def _powers(vis: NDArray[np.complex64], reasons: NDArray[np.uint8], out: NDArray[np.float32]) -> bool:
    """Fill |V|² of a row's good samples, −1 where there are none; return whether some are not good."""
    high, none, zero = np.float32(np.inf), np.float32(-1.0), np.float32(0.0)
    for i in range(out.size):
        size2 = vis[i].real * vis[i].real + vis[i].imag * vis[i].imag
        out[i] = size2 if (reasons[i] == 0) & (size2 > zero) & (size2 < high) else none
    return count_up_to(out, zero) > 0.0


@compiled
def places(line: NDArray[np.uint8], out: NDArray[np.int32]) -> int:
    """Fill in where a line is not zero, and return at how many places; most of it is zero, eight samples at a look."""
    whole, count = line.size // 8, 0
    words = line[: 8 * whole].view(np.uint64)
    for word in range(whole + 1):
        if word == whole or words[word]:
            for i in range(8 * word, min(8 * word + 8, line.size)):
                # Written in any case: whether it stays is unforeseeable, and a branch would be mispredicted.
                out[count] = i
                count += 1 if line[i] else 0
    return count


@compiled
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


@compiled_parallel
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
        power = np.empty((rows.size, n_chan * n_pol), np.float32)
        table = np.empty_like(power)
        for t in range(rows.size):
            if _powers(vis[rows[t]].reshape(-1), reasons[rows[t]].reshape(-1), power[t]):
                for pol in range(n_pol):
                    bad[baseline, pol] += _enter_empty(vis[rows[t]], reasons[rows[t]], pol, codes)
        by_chan = channel_medians(power, table).reshape(n_chan, n_pol)
        for pol in range(n_pol):
            known = by_chan[:, pol][by_chan[:, pol] >= 0.0]
            whole = np.float32(median(known, known.size)) if known.size else np.float32(1.0)
            for chan in range(n_chan):
                middle = by_chan[chan, pol]
                middles[baseline, chan, pol] = np.sqrt(middle / whole) if middle > 0.0 else -1.0
    return middles, bad


@compiled_parallel
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


@compiled_parallel
def enter_rows(reasons: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    """Enter a code for every good sample of each row that has one, (n_row,)."""
    for row in prange(reasons.shape[0]):
        if codes[row]:
            _enter_line(reasons[row].reshape(-1), codes[row])


@compiled
def _enter_line(line: NDArray[np.uint8], code: int) -> None:
    new = np.uint8(code)
    for i in range(line.size):
        line[i] = line[i] if line[i] else new


@compiled_parallel
def enter_channels(reasons: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    """Enter a code for every good sample of each channel that has one, (n_chan,)."""
    chosen = np.flatnonzero(codes)
    for row in prange(reasons.shape[0]):
        for chan in chosen:
            for pol in range(reasons.shape[2]):
                if reasons[row, chan, pol] == 0:
                    reasons[row, chan, pol] = codes[chan]


@compiled_parallel
def enter_flags(reasons: NDArray[np.uint8], flags: NDArray[np.bool_], code: int) -> None:
    """Enter a code for every flagged sample that has no reason."""
    for row in prange(reasons.shape[0]):
        for chan in range(reasons.shape[1]):
            for pol in range(reasons.shape[2]):
                if flags[row, chan, pol] and reasons[row, chan, pol] == 0:
                    reasons[row, chan, pol] = code


@compiled_parallel
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
    n_chan, n_pol = reasons.shape[1], reasons.shape[2]
    for baseline in prange(start.size - 1):
        one, two = first[baseline], second[baseline]
        always = carriers[one] & carriers[two]
        hits, where = np.empty(n_chan, np.uint8), np.empty(n_chan, np.int32)
        for t in range(start[baseline + 1] - start[baseline]):
            line = reasons[order[start[baseline] + t]]
            _shared(power[baseline, t], (common[one, t], common[two, t], always), least, hits)
            for chan in where[: places(hits, where)]:
                for pol in range(n_pol):
                    if line[chan, pol] == 0:
                        line[chan, pol] = code


@compiled
def _shared(
    level: NDArray[np.uint8],
    who: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    least: int,
    out: NDArray[np.uint8],
) -> None:
    """Fill where one line of a baseline has what both antennas have, now or always."""
    one, two, always, low = who[0], who[1], who[2], np.uint8(least)
    for chan in range(out.size):
        strong, none = level[chan] >= low, level[chan] == 0
        out[chan] = (strong & ((one[chan] & two[chan]) | always[chan])) | (none & always[chan])


@compiled_parallel
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
        found, where = np.zeros((rows.size, n_chan), np.bool_), np.empty(n_chan * n_pol, np.int32)
        bad, hits = 0, 0
        for t in range(rows.size):
            line = reasons[rows[t]].reshape(-1)
            count = places(line, where)
            bad += count
            for place in where[:count]:
                if codes[0] <= line[place] <= codes[1]:
                    found[t, place // n_pol] = True
                    hits += 1
        if not hits:
            continue
        _close_plane(found, limits[0], where)
        given_up = bad > limits[1] * found.size * n_pol
        for t in range(rows.size):
            line = reasons[rows[t]]
            for chan in where[: places(found[t].view(np.uint8), where)]:
                for pol in range(n_pol):
                    if line[chan, pol] == 0:
                        line[chan, pol] = codes[2]
            if given_up:
                _enter_line(line.reshape(-1), codes[3])


@compiled
def _may_close(line: NDArray[np.bool_], least: float, where: NDArray[np.int32]) -> bool:
    """Return whether a line may have gaps that close: one gap takes *least* samples around it, k gaps k times as many.

    They lie in k + 1 runs, so that one run has half of *least* or more.
    """
    count = places(line.view(np.uint8), where)
    if count < least:
        return False
    run, longest = 1, 1
    for i in range(1, count):
        run = run + 1 if where[i] == where[i - 1] + 1 else 1
        longest = max(longest, run)
    return 2 * longest >= least


@compiled
def _close_plane(found: NDArray[np.bool_], gap: float, where: NDArray[np.int32]) -> None:
    """Close gaps along times and along channels, each from what was found."""
    n_time, n_chan = found.shape
    scratch, least = np.empty(max(n_time, n_chan), np.float32), (0.999 - gap) / max(gap, 1e-6)
    across = found.copy()
    for t in range(n_time):
        if _may_close(found[t], least, where):
            close_gaps(across[t], gap, scratch)
    for chan in range(n_chan if least < n_time else 0):
        column = found[:, chan].copy()
        if _may_close(column, least, where):
            close_gaps(column, gap, scratch)
            for t in range(n_time):
                across[t, chan] |= column[t]
    found[:] = across


@compiled_parallel
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
        here, n_here, where = by_moment[now], 0, np.empty(n_chan * n_pol, np.int32)
        for row in range(n_row):
            if moment[row] != now:
                continue
            n_here += 1
            line, own = reasons[row].reshape(-1), by_row[row]
            own[:, 0] = n_chan
            for place in where[: places(line, where)]:
                reason, chan = line[place], place // n_pol
                own[place - chan * n_pol, reason] += 1
                own[place - chan * n_pol, 0] -= 1
                here[chan, reason] += 1
        for chan in range(n_chan):
            here[chan, 0] = n_here * n_pol - here[chan, 1:].sum()
    return by_row, by_moment


@compiled_parallel
def set_flags(flags: NDArray[np.bool_], reasons: NDArray[np.uint8], last: int) -> None:
    """Flag exactly what has a reason from 1 to *last*."""
    for row in prange(reasons.shape[0]):
        _flag_line(reasons[row].reshape(-1), np.uint8(last), flags[row].reshape(-1))


@compiled
def _flag_line(line: NDArray[np.uint8], last: np.uint8, out: NDArray[np.bool_]) -> None:
    for i in range(out.size):
        out[i] = (line[i] > 0) & (line[i] <= last)


@compiled_parallel
def rows_with_data(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows have an unflagged sample, (n_row,), at the first that is found."""
    found = np.zeros(flags.shape[0], np.bool_)
    for row in prange(flags.shape[0]):
        for flag in flags[row].flat:
            if not flag:
                found[row] = True
                break
    return found
