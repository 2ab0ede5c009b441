r"""Visibilities of points and Gaussians seen through a drifting beam.

    V(row, f) = Σ_s A_s(t, f) T_s(row, f) exp(+2πi f/c (u l_s + v m_s + w (n_s − 1)))

A is the flux density times the primary beam at the row's integration. T is one for a point; a Gaussian of the full
widths θ along the unit vectors p and q, tangent to the sky at the source itself, has

    T = exp(−π²/(4 ln 2) · f²/c² · ((θ_p b·p)² + (θ_q b·q)²))        b = (u, v, w)

The correlator follows the direction on which the dishes look. Averaging over an integration, in which the path of a
source moves by ρ against that of this direction, and over a channel Δf, to which it is longer by τ, makes it weaker by

    D = sinc(f ρ) sinc(Δf τ)        ρ = b·k        τ = b·d        sinc x = sin πx / πx

with k and d of `smearing_axes`: the turn of the Earth, and the offset from where the dishes look at the time.

Channels are evenly spaced, so the phase of a channel is a product of two phasors, one for its block and one for its
place in the block, and T in one channel is that in the channel before times a factor that shrinks evenly:

    exp(iφ (f0 + (32 b + k) df)) = block[b] · step[k]

Both are powers of one phasor, multiplied up in double precision: two sines and cosines per source and row, by their
series, and an inner loop of single-precision multiplications that the compiler turns into vector instructions.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_in_place, compiled_parallel

SPEED_OF_LIGHT = 299792458.0
BLOCK = 32
TOGETHER = 4
"""Sources whose sum is added to the total at once: that is read and written a fourth of the times."""
EARTH_TURN_RAD_S = 7.292115e-5
UNRESOLVED = 1e-7
"""A Gaussian that loses less than this fraction of its flux on a baseline is a point to it."""
SMEARED = 3e-4
"""Turns during an integration or over a channel below which a source loses 1e-7 and less."""


def taper_axes(
    ra_rad: NDArray[np.float64],
    dec_rad: NDArray[np.float64],
    center_rad: tuple[float, float],
    gaussian: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the axes of Gaussians as vectors along u, v, w, scaled so that −log T = f² Σ (b·axis)².

    Parameters
    ----------
    ra_rad, dec_rad
        (n_source,), where they are: an angle is turned against the phase center's by the convergence of meridians.
    center_rad
        The phase center.
    gaussian
        (n_source, 3): full widths at half maximum and position angle, radians.

    Returns
    -------
    NDArray
        (n_source, 2, 3), seconds per metre.
    """
    turn, dec0 = ra_rad - center_rad[0], center_rad[1]
    sin, cos = np.sin(dec_rad), np.cos(dec_rad)
    east = np.stack([np.cos(turn), np.sin(dec0) * np.sin(turn), -np.cos(dec0) * np.sin(turn)], axis=1)
    north = np.stack(
        [
            -sin * np.sin(turn),
            sin * np.sin(dec0) * np.cos(turn) + cos * np.cos(dec0),
            cos * np.sin(dec0) - sin * np.cos(dec0) * np.cos(turn),
        ],
        axis=1,
    )
    sin_pa, cos_pa = np.sin(gaussian[:, 2:]), np.cos(gaussian[:, 2:])
    scale = np.pi / (2.0 * np.sqrt(np.log(2.0)) * SPEED_OF_LIGHT)
    major = scale * gaussian[:, :1] * (sin_pa * east + cos_pa * north)
    minor = scale * gaussian[:, 1:2] * (cos_pa * east - sin_pa * north)
    return np.ascontiguousarray(np.stack([major, minor], axis=1))


@compiled_in_place
def exponent(axes: NDArray[np.float64], u: float, v: float, w: float) -> float:
    """Return −log T / f² of one Gaussian on one baseline, s²."""
    along = axes[0, 0] * u + axes[0, 1] * v + axes[0, 2] * w
    across = axes[1, 0] * u + axes[1, 1] * v + axes[1, 2] * w
    return float(along * along + across * across)


def smearing_axes(
    lmn: NDArray[np.float64], followed: NDArray[np.float64], dec0_rad: float, integration_s: float
) -> NDArray[np.float64]:
    """Return k and d of each source at each time, along u, v, w, (n_source, 2 n_time, 3), seconds per metre.

    With du/dH = w cos δ − v sin δ, dv/dH = u sin δ and dw/dH = −u cos δ, where H is the hour angle of the phase center.

    Parameters
    ----------
    lmn
        (n_source, 3).
    followed
        (n_time, 3), the direction in which nothing is lost.
    dec0_rad
        Declination of the phase center.
    integration_s
        What is averaged over.
    """
    away = lmn[:, None, :] - followed[None, :, :]
    east, north, below = np.moveaxis(away, 2, 0)
    sin, cos = np.sin(dec0_rad), np.cos(dec0_rad)
    turned = np.stack([north * sin - below * cos, -east * sin, east * cos], axis=2)
    pairs = np.stack([turned * (EARTH_TURN_RAD_S * integration_s), away], axis=2) / SPEED_OF_LIGHT
    return np.asarray(pairs.reshape(len(lmn), -1, 3))


@compiled
def smearing_at(axes: NDArray[np.float64], time: int) -> int:
    """Return the row of a source's axes that holds k at a time (d is the next); 0 where nothing is smeared."""
    if axes.shape[0] < 4:
        return 0
    return 2 + 2 * time if axes.shape[0] > 4 else 2


@compiled
def along_axis(axis: NDArray[np.float64], u: float, v: float, w: float) -> float:
    """Return b·axis."""
    return float(axis[0] * u + axis[1] * v + axis[2] * w)


@compiled
def sinc(x: float) -> float:
    """Return sin πx / πx."""
    return 1.0 if abs(x) < 1e-6 else float(np.sin(np.pi * x) / (np.pi * x))


@compiled
def _fill_smeared(
    flux: NDArray[np.float32],
    motion_s: float,
    delay_s: float,
    band: tuple[float, float],
    out: NDArray[np.float32],
) -> None:
    """Fill flux · D, linear in between over each block of channels."""
    first_hz, step_hz = band
    whole = sinc(step_hz * delay_s)
    for start in range(0, out.size, BLOCK):
        low = whole * sinc((first_hz + step_hz * start) * motion_s)
        high = whole * sinc((first_hz + step_hz * (start + BLOCK)) * motion_s)
        slope = np.float32((high - low) / BLOCK)
        for k in range(min(BLOCK, out.size - start)):
            out[start + k] = flux[start + k] * (np.float32(low) + slope * np.float32(k))


@compiled
def _fill_tapered(
    flux: NDArray[np.float32], exponent_s2: float, first_hz: float, step_hz: float, out: NDArray[np.float32]
) -> None:
    """Fill flux · T: in double precision the errors of 768 products stay below 1e-10."""
    value = np.exp(-exponent_s2 * first_hz * first_hz)
    ratio = np.exp(-exponent_s2 * step_hz * (2.0 * first_hz + step_hz))
    bend = np.exp(-2.0 * exponent_s2 * step_hz * step_hz)
    for k in range(out.size):
        out[k] = flux[k] * value
        value *= ratio
        ratio *= bend


@compiled
def _fill_weakened(
    flux: NDArray[np.float32],
    axes: NDArray[np.float64],
    time: int,
    uvw_m: NDArray[np.float64],
    band: tuple[float, float],
    out: NDArray[np.float32],
) -> bool:
    """Fill flux · T · D and return True, or return False where neither takes anything away."""
    first_hz, step_hz = band
    highest_hz = max(first_hz, first_hz + step_hz * (out.size - 1))
    resolved, weakened = exponent(axes, uvw_m[0], uvw_m[1], uvw_m[2]), False
    if resolved * highest_hz**2 > UNRESOLVED:
        _fill_tapered(flux, resolved, first_hz, step_hz, out)
        flux, weakened = out, True
    at = smearing_at(axes, time)
    if at:
        motion = along_axis(axes[at], uvw_m[0], uvw_m[1], uvw_m[2])
        delay_s = along_axis(axes[at + 1], uvw_m[0], uvw_m[1], uvw_m[2])
        if abs(motion) * highest_hz > SMEARED or abs(delay_s) * abs(step_hz) > SMEARED:
            _fill_smeared(flux, motion, delay_s, band, out)
            weakened = True
    return weakened


@compiled_in_place
def _phasor(turns: float) -> complex:
    """Return exp(2πi turns) to 1e-11: the series of half the angle, a quarter turn at most, and its double."""
    half = np.pi * (turns - np.rint(turns))
    x = half * half
    sine, cosine = 1.0 - x / 210.0, 1.0 - x / 182.0
    sine, cosine = 1.0 - x / 156.0 * sine, 1.0 - x / 132.0 * cosine
    sine, cosine = 1.0 - x / 110.0 * sine, 1.0 - x / 90.0 * cosine
    sine, cosine = 1.0 - x / 72.0 * sine, 1.0 - x / 56.0 * cosine
    sine, cosine = 1.0 - x / 42.0 * sine, 1.0 - x / 30.0 * cosine
    sine, cosine = 1.0 - x / 20.0 * sine, 1.0 - x / 12.0 * cosine
    sine, cosine = half * (1.0 - x / 6.0 * sine), 1.0 - x / 2.0 * cosine
    return complex(cosine * cosine - sine * sine, 2.0 * sine * cosine)


@compiled_in_place
def _fill_powers(out: NDArray[np.float32], at: int, count: int, first: complex, ratio: complex) -> None:
    """Fill first · ratioᵏ for k = 0 ... count − 1, real parts, then imaginary ones.

    Four interleaved chains hide the multiplier's latency.
    """
    step = ratio * ratio
    chain0 = first
    chain1, chain2 = chain0 * ratio, chain0 * step
    chain3 = chain1 * step
    step *= step
    for k in range(at, at + count, 4):
        i = k + count
        out[k], out[i] = chain0.real, chain0.imag
        out[k + 1], out[i + 1] = chain1.real, chain1.imag
        out[k + 2], out[i + 2] = chain2.real, chain2.imag
        out[k + 3], out[i + 3] = chain3.real, chain3.imag
        chain0 *= step
        chain1 *= step
        chain2 *= step
        chain3 *= step


@compiled_in_place
def _fill_phasors(
    path_m: float, band: tuple[float, float], steps: NDArray[np.float32], blocks: NDArray[np.float32], place: int
) -> None:
    """Fill the phasors of one of the sources that are summed together."""
    first_hz, step_hz = band
    ratio = _phasor(path_m * step_hz / SPEED_OF_LIGHT)
    _fill_powers(steps, place * 2 * BLOCK, BLOCK, complex(1.0, 0.0), ratio)
    for _ in range(5):
        ratio *= ratio
    count = blocks.size // (2 * TOGETHER)
    _fill_powers(blocks, place * 2 * count, count, _phasor(path_m * first_hz / SPEED_OF_LIGHT), ratio)


@compiled_in_place
def _add_block(
    flux: NDArray[np.float32],
    steps: NDArray[np.float32],
    blocks: NDArray[np.float32],
    block: int,
    total: NDArray[np.float32],
) -> None:
    """Add four sources to one block of channels; few arrays, at fixed distances, let the compiler see no overlap."""
    count, sources, sums = blocks.size // (2 * TOGETHER), block * TOGETHER * BLOCK, block * 2 * BLOCK
    re0, im0 = blocks[block], blocks[block + count]
    re1, im1 = blocks[block + 2 * count], blocks[block + 3 * count]
    re2, im2 = blocks[block + 4 * count], blocks[block + 5 * count]
    re3, im3 = blocks[block + 6 * count], blocks[block + 7 * count]
    for k in range(BLOCK):
        cos0, sin0 = steps[k], steps[k + BLOCK]
        cos1, sin1 = steps[k + 2 * BLOCK], steps[k + 3 * BLOCK]
        cos2, sin2 = steps[k + 4 * BLOCK], steps[k + 5 * BLOCK]
        cos3, sin3 = steps[k + 6 * BLOCK], steps[k + 7 * BLOCK]
        flux0, flux1 = flux[sources + k], flux[sources + k + BLOCK]
        flux2, flux3 = flux[sources + k + 2 * BLOCK], flux[sources + k + 3 * BLOCK]
        total[sums + k] += (
            flux0 * (re0 * cos0 - im0 * sin0)
            + flux1 * (re1 * cos1 - im1 * sin1)
            + flux2 * (re2 * cos2 - im2 * sin2)
            + flux3 * (re3 * cos3 - im3 * sin3)
        )
        total[sums + k + BLOCK] += (
            flux0 * (re0 * sin0 + im0 * cos0)
            + flux1 * (re1 * sin1 + im1 * cos1)
            + flux2 * (re2 * sin2 + im2 * cos2)
            + flux3 * (re3 * sin3 + im3 * cos3)
        )


@compiled_parallel
def _sum_sources(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int64],
    band: tuple[float, float],
    lmn: NDArray[np.float64],
    fluxes: tuple[NDArray[np.float32], NDArray[np.float32]],
    axes: NDArray[np.float64],
) -> NDArray[np.complex64]:
    (amplitude, packed), weak = fluxes, np.zeros(lmn.shape[0], np.bool_)
    for source in range(weak.size):
        weak[source] = np.any(axes[source] != 0.0)
    n_row, n_source, n_chan = uvw_m.shape[0], lmn.shape[0], amplitude.shape[2]
    n_block = (n_chan + BLOCK - 1) // BLOCK
    out = np.empty((n_row, n_chan), np.complex64)
    for row in prange(n_row):
        time, total = time_index[row], np.zeros(2 * BLOCK * n_block, np.float32)
        steps = np.zeros(2 * BLOCK * TOGETHER, np.float32)
        blocks = np.zeros(2 * TOGETHER * ((n_block + 3) // 4 * 4), np.float32)
        one, mixed = np.empty(n_chan, np.float32), np.empty(n_block * TOGETHER * BLOCK, np.float32)
        for group in range(packed.shape[1]):
            flux, changed = packed[time, group], False
            for place in range(min(TOGETHER, n_source - group * TOGETHER)):
                source = group * TOGETHER + place
                l, m, n = lmn[source, 0], lmn[source, 1], lmn[source, 2]  # noqa: E741
                path_m = uvw_m[row, 0] * l + uvw_m[row, 1] * m + uvw_m[row, 2] * (n - 1.0)
                _fill_phasors(path_m, band, steps, blocks, place)
                if weak[source] and _fill_weakened(amplitude[time, source], axes[source], time, uvw_m[row], band, one):
                    if not changed:
                        mixed[:] = packed[time, group]
                        flux, changed = mixed, True
                    for chan in range(n_chan):
                        block = chan // BLOCK
                        mixed[(block * (TOGETHER - 1) + place) * BLOCK + chan] = one[chan]
            for block in range(n_block):
                _add_block(flux, steps, blocks, block, total)
        for chan in range(n_chan):
            at = chan // BLOCK * BLOCK + chan
            out[row, chan] = complex(total[at], total[at + BLOCK])
    return out


def _packed(amplitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return fluxes in the order in which they are summed: time, group of sources, then block, source, channel."""
    n_time, n_source, n_chan = amplitude.shape
    n_group, n_block = -(-n_source // TOGETHER), -(-n_chan // BLOCK)
    filled = np.zeros((n_time, n_group * TOGETHER, n_block * BLOCK), np.float32)
    filled[:, :n_source, :n_chan] = amplitude
    order = filled.reshape(n_time, n_group, TOGETHER, n_block, BLOCK).swapaxes(2, 3)
    return np.ascontiguousarray(order).reshape(n_time, n_group, n_block * TOGETHER * BLOCK)


def predict_evenly_spaced(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int64],
    first_hz: float,
    step_hz: float,
    lmn: NDArray[np.float64],
    amplitude: NDArray[np.float32],
    axes: NDArray[np.float64],
) -> NDArray[np.complex64]:
    """Sum sources.

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    time_index
        (n_row,), integration of each row.
    first_hz, step_hz
        The first channel and the channel spacing.
    lmn
        (n_source, 3).
    amplitude
        (n_time, n_source, n_chan), Jy: flux times beam.
    axes
        (n_source, 2, 3), of `taper_axes`, zeros are points; those of `smearing_axes` after them smear besides: of one
        time for all, or of every one.

    Returns
    -------
    NDArray
        (n_row, n_chan), complex64.
    """
    fluxes = amplitude, _packed(amplitude)
    return np.asarray(_sum_sources(uvw_m, time_index, (float(first_hz), float(step_hz)), lmn, fluxes, axes))


def predict_numpy(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int64],
    freq_hz: NDArray[np.float64],
    lmn: NDArray[np.float64],
    amplitude: NDArray[np.float32],
    axes: NDArray[np.float64],
) -> NDArray[np.complex64]:
    """Sum sources, plainly: the specification of the fast kernel, for channels spaced at will."""
    path = uvw_m @ (lmn - np.array([0.0, 0.0, 1.0])).T
    along = np.einsum("rk,sak->rsa", uvw_m, axes)
    resolved = np.sum(along[:, :, :2] ** 2, axis=2)
    width = freq_hz[1] - freq_hz[0] if freq_hz.size > 1 else 0.0
    motion, loss = np.zeros_like(path), np.ones_like(path)
    if axes.shape[1] > 2:
        at = np.minimum(2 + 2 * time_index, axes.shape[1] - 2)[:, None], np.arange(lmn.shape[0])
        motion, delay = (along[np.arange(len(path))[:, None], at[1], at[0] + step] for step in (0, 1))
        loss = np.sinc(delay * width)
    out = np.zeros((uvw_m.shape[0], freq_hz.size), np.complex64)
    for chan, freq in enumerate(freq_hz):
        fringe = np.exp(2j * np.pi * freq / SPEED_OF_LIGHT * path - resolved * freq**2)
        out[:, chan] = np.sum(amplitude[time_index, :, chan] * loss * np.sinc(freq * motion) * fringe, axis=1)
    return out
