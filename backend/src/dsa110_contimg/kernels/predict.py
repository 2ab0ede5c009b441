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

Both are powers of one phasor, multiplied up in double precision: three sines and cosines per source and row, and
an inner loop of single-precision multiplications that the compiler turns into vector instructions.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_in_place, compiled_parallel

SPEED_OF_LIGHT = 299792458.0
BLOCK = 32
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
def _fill_powers(re: NDArray[np.float32], im: NDArray[np.float32], phase: float, turn: float) -> None:
    """Fill exp(i (phase + k turn)) for k = 0, 1, 2 ...: four interleaved chains hide the multiplier's latency."""
    single = complex(np.cos(turn), np.sin(turn))
    step = single * single
    step *= step
    chain0 = complex(np.cos(phase), np.sin(phase))
    chain1 = chain0 * single
    chain2 = chain1 * single
    chain3 = chain2 * single
    for k in range(0, re.size - 3, 4):
        re[k], im[k] = chain0.real, chain0.imag
        re[k + 1], im[k + 1] = chain1.real, chain1.imag
        re[k + 2], im[k + 2] = chain2.real, chain2.imag
        re[k + 3], im[k + 3] = chain3.real, chain3.imag
        chain0 *= step
        chain1 *= step
        chain2 *= step
        chain3 *= step


@compiled_parallel
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
    n_row, n_source, n_chan = uvw_m.shape[0], lmn.shape[0], amplitude.shape[2]
    n_block = (n_chan + BLOCK - 1) // BLOCK
    out = np.zeros((n_row, n_chan), np.complex64)
    for row in prange(n_row):
        total_re, total_im = np.zeros(n_chan, np.float32), np.zeros(n_chan, np.float32)
        tapered = np.empty(n_chan, np.float32)
        step_re, step_im = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
        block_re, block_im = np.empty(n_block + 3, np.float32), np.empty(n_block + 3, np.float32)
        for source in range(n_source):
            path = (
                uvw_m[row, 0] * lmn[source, 0] + uvw_m[row, 1] * lmn[source, 1] + uvw_m[row, 2] * (lmn[source, 2] - 1.0)
            )
            turn = 2.0 * np.pi * path / SPEED_OF_LIGHT
            _fill_powers(step_re, step_im, 0.0, turn * step_hz)
            _fill_powers(block_re, block_im, turn * first_hz, turn * step_hz * BLOCK)
            flux = amplitude[time_index[row], source]
            if _fill_weakened(flux, axes[source], time_index[row], uvw_m[row], (first_hz, step_hz), tapered):
                flux = tapered
            for block in range(n_block):
                re, im, start = block_re[block], block_im[block], block * BLOCK
                for k in range(min(BLOCK, n_chan - start)):
                    total_re[start + k] += flux[start + k] * (re * step_re[k] - im * step_im[k])
                    total_im[start + k] += flux[start + k] * (re * step_im[k] + im * step_re[k])
        for chan in range(n_chan):
            out[row, chan] = complex(total_re[chan], total_im[chan])
    return out


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
