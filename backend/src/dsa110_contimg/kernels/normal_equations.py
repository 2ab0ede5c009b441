r"""Normal equations of antenna gains.

A baseline (p, q) sees V = g_p M ḡ_q plus noise. Least squares needs of the data, per solution, only

    A_pq = Σ w V conj(M')        B_pq = Σ w |M'|²        M' = c_p M c̄_q

where c are gains that are known already. The data are read once, into cells of one channel and a minute (`accumulate`,
c = 1); whatever solutions are wanted is then a sum over cells (`combine`), as gains hold still within one.

With gains T of all antennas roughly known, the misfit of a cell is D = A − T_p T̄_q B, of variance s² B. The s² of a
baseline is the mean of |D|²/B over those of its cells that are not far above its median (`noise_power`). Cells are
weighted by 1/s², and one that misfits by more than three sigma, d = |D|²/(s² B) > 9, by (9/d)² of that: interference
that flagging left over loses its say, and clean data keep all of theirs (one cell in 8,000 of Gaussian noise is
touched). To begin with, when no gains are known, a cell with 17 times the visibility that its baseline's median has is
left out altogether (`drop_absurd`): one of a million times would be all that a first solution sees.
"""

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.baselines import BaselineRows

FAR = 9.0
ABSURD = 300.0
FEWEST_CELLS = 30
ENOUGH_CELLS = 800
ENOUGH_FOR_MEDIAN = 200
CHANNEL_STRIDE = 4
LEAST_NOISE = 1e-9


class Equations(NamedTuple):
    """A and B, (n_baseline, n_interval, n_chan, n_pol)."""

    cross: NDArray[np.complex64]
    power: NDArray[np.float32]


@compiled_parallel
def _accumulate(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    weights: NDArray[np.float32],
    model: NDArray[np.complex64],
    rows: BaselineRows,
    interval: NDArray[np.int64],
    n_interval: int,
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    order, start, _first, _second = rows
    n_base, n_chan, n_pol = start.size - 1, vis.shape[1], vis.shape[2]
    cross = np.zeros((n_base, n_interval, n_chan, n_pol), np.complex64)
    power = np.zeros((n_base, n_interval, n_chan, n_pol), np.float32)
    for base in prange(n_base):
        for row in order[start[base] : start[base + 1]]:
            slot = interval[row]
            for chan in range(n_chan):
                m = model[row, chan]
                m_power = m.real * m.real + m.imag * m.imag
                for pol in range(n_pol):
                    v = vis[row, chan, pol]
                    v_power = v.real * v.real + v.imag * v.imag
                    if flags[row, chan, pol] or not (np.float32(0.0) < v_power < np.float32(np.inf)):
                        continue
                    weight = weights[row, pol]
                    re = weight * (v.real * m.real + v.imag * m.imag)
                    im = weight * (v.imag * m.real - v.real * m.imag)
                    cross[base, slot, chan, pol] += complex(re, im)
                    power[base, slot, chan, pol] += weight * m_power
    return cross, power


def accumulate(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    weights: NDArray[np.float32],
    model: NDArray[np.complex64],
    rows: BaselineRows,
    interval: NDArray[np.int64],
) -> Equations:
    """Sum A and B of each baseline, interval, channel and polarization.

    Parameters
    ----------
    vis, flags
        (n_row, n_chan, n_pol); zeros and what is no number take no part.
    weights
        (n_row, n_pol), finite; a row of weight zero takes no part.
    model
        (n_row, n_chan), the same for every polarization.
    rows
        Rows by baseline.
    interval
        Interval of each row, (n_row,).
    """
    return Equations(*_accumulate(vis, flags, weights, model, rows, interval, int(interval.max()) + 1))


@compiled
def _strengths(
    cross: NDArray[np.complex64], power: NDArray[np.float32], stride: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |A|²/B and B of every *stride*-th channel of (n_interval, n_chan), where B is not zero."""
    n_interval, n_chan = power.shape
    strength = np.empty(n_interval * ((n_chan + stride - 1) // stride))
    weight = np.empty(strength.size)
    count = 0
    for slot in range(n_interval):
        for chan in range(0, n_chan, stride):
            a, b = cross[slot, chan], np.float64(power[slot, chan])
            if b > 0.0:
                re, im = np.float64(a.real), np.float64(a.imag)
                strength[count], weight[count] = (re * re + im * im) / b, b
                count += 1
    return strength[:count], weight[:count]


@compiled_parallel
def drop_absurd(cells: Equations) -> None:
    """Zero the cells whose |A|²/B² is 300 times the median of their baseline, in place.

    A cell with less than the median B, near a null of the model, is judged as if it had that.
    """
    cross, power = cells
    n_base, n_interval, n_chan, n_pol = cross.shape
    stride = max(1, n_interval * n_chan // ENOUGH_FOR_MEDIAN)
    for base in prange(n_base):
        least, limit = np.zeros(n_pol, np.float32), np.full(n_pol, np.float32(np.inf))
        for pol in range(n_pol):
            strength, weight = _strengths(cross[base, :, :, pol], power[base, :, :, pol], stride)
            if strength.size:
                least[pol] = np.median(weight)
                limit[pol] = ABSURD * np.median(strength / np.maximum(weight, least[pol]))
        for slot in range(n_interval):
            for chan in range(n_chan):
                for pol in range(n_pol):
                    a, b = cross[base, slot, chan, pol], power[base, slot, chan, pol]
                    if a.real * a.real + a.imag * a.imag > limit[pol] * b * max(b, least[pol]):
                        cross[base, slot, chan, pol] = 0.0
                        power[base, slot, chan, pol] = 0.0


@compiled_parallel
def _mean_misfit(
    cells: Equations, total: NDArray[np.complex64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean |D|²/B of each baseline and polarization, and from how many cells."""
    cross, power = cells
    n_base, n_interval, n_chan, n_pol = cross.shape
    stride = max(1, min(CHANNEL_STRIDE, n_interval * n_chan // ENOUGH_CELLS))
    out, counts = np.zeros((n_base, n_pol)), np.zeros((n_base, n_pol), np.int64)
    for base in prange(n_base):
        p, q = first[base], second[base]
        misfit = np.empty(n_interval * ((n_chan + stride - 1) // stride))
        for pol in range(n_pol):
            count, size = 0, 0.0
            for slot in range(n_interval):
                epoch = min(slot, total.shape[0] - 1)
                for chan in range(0, n_chan, stride):
                    b = power[base, slot, chan, pol]
                    place = min(chan, total.shape[2] - 1)
                    gain = total[epoch, p, place, pol] * np.conj(total[epoch, q, place, pol])
                    if b > 0.0 and gain != 0.0:
                        d = cross[base, slot, chan, pol] - gain * b
                        misfit[count] = (d.real * d.real + d.imag * d.imag) / b
                        size += b * (gain.real * gain.real + gain.imag * gain.imag)
                        count += 1
            if count:
                limit = FAR * np.median(misfit[:count]) / np.log(2.0)
                near, mean = 0, 0.0
                for i in range(count):
                    if misfit[i] <= limit:
                        mean += misfit[i]
                        near += 1
                out[base, pol] = max(mean / near, LEAST_NOISE * size / count)
                counts[base, pol] = count
    return out, counts


def noise_power(cells: Equations, total: NDArray[np.complex64], rows: BaselineRows) -> NDArray[np.float64]:
    """Return s² of each baseline and polarization, (n_baseline, n_pol); a baseline with few cells takes the typical.

    Parameters
    ----------
    cells
        Of `accumulate`.
    total
        (n_interval or 1, n_antenna, n_chan or 1, n_pol), gains T; zero is unknown.
    rows
        `first` and `second` index the antennas of `total`.
    """
    noise, counts = _mean_misfit(cells, total, rows.first, rows.second)
    for pol in range(noise.shape[1]):
        measured = counts[:, pol] > 0
        typical = float(np.median(noise[measured, pol])) if measured.any() else 1.0
        noise[counts[:, pol] < FEWEST_CELLS, pol] = typical
    return noise


@compiled_parallel
def _combine(
    cells: Equations,
    known: NDArray[np.complex64] | None,
    rows: BaselineRows,
    slots: tuple[NDArray[np.int64], NDArray[np.int64]],
    total: NDArray[np.complex64] | None,
    noise: NDArray[np.float64] | None,
    robust: bool,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    cross, power = cells
    _order, _start, first, second = rows
    into, group = slots
    n_base, n_interval, n_chan, n_pol = cross.shape
    shape = (n_base, into.max() + 1, group.max() + 1, n_pol)
    out_cross, out_power = np.zeros(shape, np.complex128), np.zeros(shape)
    for base in prange(n_base):
        p, q = first[base], second[base]
        for slot in range(n_interval):
            for pol in range(n_pol):
                weight = np.float32(1.0)
                if noise is not None:
                    weight = np.float32(1.0 / noise[base, pol])
                for chan in range(n_chan):
                    a, b, w = cross[base, slot, chan, pol], power[base, slot, chan, pol], weight
                    if noise is not None and total is not None:
                        epoch, place = min(slot, total.shape[0] - 1), min(chan, total.shape[2] - 1)
                        t = total[epoch, p, place, pol] * np.conj(total[epoch, q, place, pol])
                        if robust:
                            re, im = a.real - t.real * b, a.imag - t.imag * b
                            far = (re * re + im * im) * weight
                            if far > FAR * b and (t.real != 0.0 or t.imag != 0.0):
                                w = weight * (np.float32(FAR) * b / far) ** 2
                    if known is not None:
                        epoch, place = min(slot, known.shape[0] - 1), min(chan, known.shape[2] - 1)
                        c = known[epoch, p, place, pol] * np.conj(known[epoch, q, place, pol])
                        a = a * np.conj(c)
                        b = b * (c.real * c.real + c.imag * c.imag)
                    out_cross[base, into[slot], group[chan], pol] += w * a
                    out_power[base, into[slot], group[chan], pol] += w * b
    return out_cross, out_power


def combine(
    cells: Equations,
    known: NDArray[np.complex64] | None,
    rows: BaselineRows,
    slots: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    judged: tuple[NDArray[np.complex64], NDArray[np.float64]] | None = None,
    robust: bool = True,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Sum cells into the equations of the wanted solutions.

    Parameters
    ----------
    cells
        Of `accumulate`.
    known
        (n_interval or 1, n_antenna, n_chan or 1, n_pol), gains c that corrupt the model first; zero drops a cell,
        None is one.
    rows
        `first` and `second` index the antennas of the gains.
    slots
        The solution interval of each of the cells' intervals, and the channel group of each channel.
    judged
        Gains T as `noise_power` takes them, and its s²; None weighs all cells by what the data say.
    robust
        Weigh down cells that misfit.

    Returns
    -------
    tuple
        A (n_baseline, n_slot, n_group, n_pol) and B of the same shape.
    """
    total, noise = (None, None) if judged is None else judged
    cross, power = _combine(cells, known, rows, slots, total, noise, robust)
    return cross, power
