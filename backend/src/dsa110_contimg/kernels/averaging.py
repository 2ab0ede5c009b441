r"""Stokes I, averaged over as many channels as the baseline allows.

    I = (XX + YY)/2        weight = w_XX + w_YY        both hands unflagged, or the sample is lost

(one hand alone would measure I + Q, and where the other has died the one is rarely healthy).

The mean of n channels, Δf apart, attenuates a source whose wave reaches the two antennas τ seconds apart by

    D = sin(n x) / (n sin x)        x = π Δf τ        τ ≤ (|uv| sin θ + |w| (1 − cos θ)) / c

within θ of the phase center. Each row takes the largest n of 1, 2, 4, 8 that loses no more than it may.
"""

from collections.abc import Sequence

import numpy as np
from numba import prange
from numpy.typing import ArrayLike, NDArray

from dsa110_contimg.compiled import compiled_parallel, is_finite

SPEED_OF_LIGHT = 299792458.0
GROUP_SIZES = (1, 2, 4, 8)


def averaging_factor(delay_s: ArrayLike, channel_width_hz: float, n_channels: int) -> NDArray[np.float64]:
    """Return the amplitude D that averaging `n_channels` leaves of a source with a residual delay."""
    x = np.pi * channel_width_hz * np.asarray(delay_s, dtype=float)
    small = np.abs(x) < 1e-9
    safe = np.where(small, 1.0, x)
    return np.asarray(np.where(small, 1.0, np.sin(n_channels * safe) / (n_channels * np.sin(safe))))


def channels_per_sample(
    uvw_m: NDArray[np.float64],
    channel_width_hz: float,
    radius_rad: float,
    max_loss: float = 0.01,
    sizes: Sequence[int] = GROUP_SIZES,
) -> NDArray[np.int64]:
    """Return how many channels each row may average, shape (n_row,).

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    channel_width_hz
        Channel spacing.
    radius_rad
        Distance from the phase center within which the loss counts.
    max_loss
        Largest loss of amplitude that averaging may add.
    sizes
        Numbers of channels to choose from, ascending; the first is taken where none is good enough.
    """
    across = np.hypot(uvw_m[:, 0], uvw_m[:, 1]) * np.sin(radius_rad)
    delay = (across + np.abs(uvw_m[:, 2]) * (1.0 - np.cos(radius_rad))) / SPEED_OF_LIGHT
    chosen = np.full(uvw_m.shape[0], sizes[0], np.int64)
    for size in sizes[1:]:
        # Beyond the first null of D its value no longer measures the loss.
        gentle = np.pi * channel_width_hz * delay * size < 1.0
        chosen[gentle & (1.0 - averaging_factor(delay, channel_width_hz, size) <= max_loss)] = size
    return chosen


@compiled_parallel
def average_stokes_i(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    weights: NDArray[np.float32],
    rows: NDArray[np.int64],
    n_average: int,
    subtract: NDArray[np.complex64],
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Form Stokes I of some rows, averaged over groups of channels.

    Parameters
    ----------
    vis, flags
        (n_row, n_chan, n_pol), the parallel hands.
    weights
        (n_row, n_pol), per channel.
    rows
        (n_selected,), rows to average.
    n_average
        Channels of one sample; divides n_chan.
    subtract
        (n_selected, n_chan), Stokes I to take off first; (0, 0) for nothing.

    Returns
    -------
    tuple
        Samples and their weights, shape (n_selected, n_chan // n_average); weight 0 where nothing is left.
    """
    n_pol = vis.shape[2]
    n_out = vis.shape[1] // n_average
    out = np.zeros((rows.size, n_out), np.complex64)
    out_weight = np.zeros((rows.size, n_out), np.float32)
    for index in prange(rows.size):
        row = rows[index]
        weight, usable = np.float32(0.0), True
        for pol in range(n_pol):
            weight += weights[row, pol]
            usable = usable and weights[row, pol] > 0.0
        if not usable:
            continue
        for group in range(n_out):
            total, count = np.complex64(0.0), 0
            for chan in range(group * n_average, (group + 1) * n_average):
                sample, good = np.complex64(0.0), True
                for pol in range(n_pol):
                    sample += vis[row, chan, pol]
                    good = good and not flags[row, chan, pol]
                if good and is_finite(sample.real) and is_finite(sample.imag):
                    total += sample / np.float32(n_pol)
                    if subtract.size > 0:
                        total -= subtract[index, chan]
                    count += 1
            if count > 0:
                out[index, group] = total / np.float32(count)
                out_weight[index, group] = weight * np.float32(count)
    return out, out_weight
