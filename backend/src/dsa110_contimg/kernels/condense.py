r"""The samples of a row, condensed along frequency to as many points as its delays need.

Toward any direction of an image a row's phase turns evenly with frequency, by at most ±τ cycles per Hz: a function of
that band is known from points 1/(2 s τ) apart, and the value V_k at a channel is a sum of T of them,

    V_k = Σ_p B_kp m_p                                     (`kernels.interpolate`)

So the weighted samples V can be replaced, for every transform to and from the image, by

    r = Bᴴ W V        and, after a model of points m is taken off,        r ← r − (Bᴴ W B) m

with Bᴴ W B a real band of T diagonals. Nothing is averaged: what channels see at τ and below is kept. A row that
needs no fewer points than it has samples keeps its samples.

Before, each row is turned to a phase reference of its own, exp(−2πi w d f/c).
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel
from dsa110_contimg.kernels.interpolate import PLACES

SPEED_OF_LIGHT = 299792458.0
TAPS = 8


def points_per_row(
    delay_s: NDArray[np.float64], n_sample: int, spacing_hz: float, oversampling: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the points of each row and their distance in samples; distance 0 where the samples are kept.

    Parameters
    ----------
    delay_s
        (n_row,), the largest delay that matters.
    n_sample
        Samples of a row, evenly spaced.
    spacing_hz
        Their distance; 0 if they are not evenly spaced.
    oversampling
        Points per half period of that delay.
    """
    reach = 2.0 * oversampling * np.maximum(delay_s, 1e-12) * spacing_hz
    step = np.divide(1.0, reach, out=np.zeros_like(reach), where=reach > 0.0)
    step = np.minimum(step, max(1.0, n_sample - 1.0))
    points = np.floor(np.divide(n_sample - 1, step, out=np.zeros_like(step), where=step > 0.0)).astype(np.int64) + TAPS
    kept = (step < 1.0) | (points >= n_sample)
    return np.where(kept, n_sample, points), np.where(kept, 0.0, step)


@compiled_parallel
def place_points(
    uvw_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    rows: tuple[NDArray[np.int64], NDArray[np.float64]],
    rest_m: NDArray[np.float64],
    uvw: NDArray[np.floating],
    rest: NDArray[np.float32],
) -> None:
    """Fill the place of every point of a block's rows in wavelengths.

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    freq_hz
        (n_sample,), of the block.
    rows
        First point (n_row + 1,) and distance of points in samples (n_row,), 0 where points are samples.
    rest_m
        (n_row,), a further length, metres.
    uvw, rest
        (n_point, 3) and (n_point,), filled: both in wavelengths.
    """
    first, step = rows
    spacing = freq_hz[1] - freq_hz[0] if freq_hz.size > 1 else 0.0
    for row in prange(step.size):
        for j in range(first[row + 1] - first[row]):
            at = first[row] + j
            freq = freq_hz[0] + spacing * step[row] * (j - (TAPS // 2 - 1))
            if step[row] == 0.0:
                freq = freq_hz[j]
            scale = freq / SPEED_OF_LIGHT
            for axis in range(3):
                uvw[at, axis] = uvw_m[row, axis] * scale
            rest[at] = rest_m[row] * scale


@compiled_parallel
def condense(
    samples: tuple[NDArray[np.complex64], NDArray[np.float32]],
    freq_hz: NDArray[np.float64],
    turn_s: NDArray[np.float64],
    rows: tuple[NDArray[np.int64], NDArray[np.float64]],
    table: NDArray[np.float32],
    out: tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.float32]],
) -> None:
    """Fill r = Bᴴ W V, the same of visibilities of one, and the diagonals of Bᴴ W B of one block.

    Parameters
    ----------
    samples
        Visibilities and weights, (n_row, n_sample).
    freq_hz
        (n_sample,).
    turn_s
        (n_row,), w d/c: a sample is multiplied by exp(−2πi f turn).
    rows
        First point (n_row + 1,) and distance of points in samples (n_row,).
    table
        Of `interpolation_table`, with 8 taps.
    out
        (n_point,) twice and (n_point, 8), where element [p, d] couples points p and p + d.
    """
    vis, weights = samples
    first, step = rows
    points, ones, bands = out
    for row in prange(step.size):
        begin = first[row]
        points[begin : first[row + 1]] = 0.0
        ones[begin : first[row + 1]] = 0.0
        bands[begin : first[row + 1]] = 0.0
        for k in range(freq_hz.size):
            weight = weights[row, k]
            if weight == 0.0:
                continue
            angle = -2.0 * np.pi * freq_hz[k] * turn_s[row]
            one = weight * np.complex64(complex(np.cos(angle), np.sin(angle)))
            value = one * vis[row, k]
            if step[row] == 0.0:
                points[begin + k], ones[begin + k], bands[begin + k, 0] = value, one, weight
                continue
            place = k / step[row]
            node = int(place)
            near = table[int((place - node) * PLACES + 0.5)]
            at = begin + node
            for j in range(TAPS):
                points[at + j] += near[j] * value
                ones[at + j] += near[j] * one
                scaled = weight * near[j]
                for d in range(TAPS - j):
                    bands[at + j, d] += scaled * near[j + d]


@compiled_parallel
def take_off(
    points: NDArray[np.complex64],
    bands: NDArray[np.float32],
    rows: tuple[NDArray[np.int64], NDArray[np.float32]],
    theta: NDArray[np.float32],
    terms: NDArray[np.complex64],
) -> None:
    """Take the points m = ψ Σ_k (iθ)^k/k! terms_k of a model off: r ← r − (Bᴴ W B) m, in place.

    Parameters
    ----------
    points
        (n_point,), r.
    bands
        (n_point, 8).
    rows
        First point (n_row + 1,) and factor ψ of each row (n_row,).
    theta
        (n_point,).
    terms
        (n_term, n_point).
    """
    first, factor = rows
    for row in prange(factor.size):
        begin, n = first[row], first[row + 1] - first[row]
        model = np.empty(n, np.complex64)
        for p in range(n):
            total, power = terms[0, begin + p], np.complex64(1.0)
            for k in range(1, terms.shape[0]):
                power *= np.complex64(1j) * (theta[begin + p] / np.float32(k))
                total += power * terms[k, begin + p]
            model[p] = factor[row] * total
        for p in range(n):
            total = bands[begin + p, 0] * model[p]
            for d in range(1, min(TAPS, n - p)):
                total += bands[begin + p, d] * model[p + d]
            for d in range(1, min(TAPS, p + 1)):
                total += bands[begin + p - d, d] * model[p - d]
            points[begin + p] -= total


@compiled_parallel
def power_of_phase(
    points: NDArray[np.complex64], theta: NDArray[np.float32], power: int, out: NDArray[np.complex64]
) -> None:
    """Fill r (−iθ)^k/k!, k = `power`."""
    for p in prange(points.size):
        factor = np.complex64(1.0)
        for k in range(1, power + 1):
            factor *= np.complex64(-1j) * (theta[p] / np.float32(k))
        out[p] = factor * points[p]
