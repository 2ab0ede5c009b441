r"""Visibilities from delays: what an interferometer that points at s0 measures of point sources.

    V_pq(t, f) = Σ_s A_s(t, f) exp(+2πi f (τ_q − τ_p)),        τ_p(t, s) = r_p · (s(t) − s0) / c

A_s = S_s(f) P(θ_s(t), f) is the flux density behind the primary beam (an Airy disk). Sampled at a channel's center
this factors into antennas, E_p = exp(2πi f τ_p), and V = E* diag(A) Eᵀ is one matrix product per channel and time.

Averaged over a channel of width Δf and an integration Δt the terms do not factor. To first order in both,

    sinc(Δf τ) · sinc(f τ' Δt),        τ = τ_q − τ_p,   τ' = dτ/dt,   sinc x = sin πx / πx .

Within an integration the stopped direction follows the sky, so that τ' = −ω ẑ × (s − s0) · b / c with ω the turn
of the Earth: a source in the phase center does not smear.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j1

from dsa110_contimg.compiled import compiled

SPEED_OF_LIGHT = 299792458.0


def airy_beam(theta_rad: ArrayLike, freq_hz: ArrayLike, diameter_m: float) -> NDArray[np.float64]:
    """Return the power beam (2 J1(x)/x)², x = π D sin θ f/c; angles and frequencies broadcast."""
    x = np.maximum(np.pi * diameter_m / SPEED_OF_LIGHT * np.abs(np.sin(theta_rad)) * np.asarray(freq_hz), 1e-9)
    return np.asarray((2.0 * j1(x) / x) ** 2)


@compiled
def _antenna_phasors(tau_s: NDArray[np.float64], first_hz: float, step_hz: float, out: NDArray[np.complex64]) -> None:
    """Fill exp(2πi f τ) into out (n_chan, n_ant, n_source) for evenly spaced channels; tau_s (n_ant, n_source)."""
    n_chan, n_ant, n_source = out.shape
    for ant in range(n_ant):
        re, im = np.empty(n_source), np.empty(n_source)
        step_re, step_im = np.empty(n_source), np.empty(n_source)
        for s in range(n_source):
            turns = first_hz * tau_s[ant, s]
            turns -= np.floor(turns)
            re[s], im[s] = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
            turn = 2 * np.pi * step_hz * tau_s[ant, s]
            step_re[s], step_im[s] = np.cos(turn), np.sin(turn)
        for chan in range(n_chan):
            for s in range(n_source):
                out[chan, ant, s] = complex(re[s], im[s])
                next_re = re[s] * step_re[s] - im[s] * step_im[s]
                im[s] = re[s] * step_im[s] + im[s] * step_re[s]
                re[s] = next_re


def sampled_visibilities(
    tau_s: NDArray[np.float64], amplitude_jy: NDArray[np.float32], freq_hz: NDArray[np.float64]
) -> NDArray[np.complex64]:
    """Return conj(E_p) E_q summed over sources, at channel centers.

    Parameters
    ----------
    tau_s
        (n_antenna, n_source), seconds.
    amplitude_jy
        (n_chan, n_source), flux behind the beam.
    freq_hz
        (n_chan,), evenly spaced.

    Returns
    -------
    NDArray
        (n_chan, n_antenna, n_antenna), element [c, p, q] in Jy.
    """
    phasors = np.empty((freq_hz.size, *tau_s.shape), np.complex64)
    step = freq_hz[1] - freq_hz[0] if freq_hz.size > 1 else 0.0
    _antenna_phasors(tau_s, float(freq_hz[0]), float(step), phasors)
    weighted = phasors * amplitude_jy[:, None, :]
    np.conjugate(phasors, out=phasors)
    return np.asarray(phasors @ weighted.transpose(0, 2, 1))


@compiled
def _sinc(x: float) -> float:
    return 1.0 if abs(x) < 1e-8 else np.sin(np.pi * x) / (np.pi * x)


@compiled
def smeared_visibilities(
    tau_s: NDArray[np.float64],
    tau_rate: NDArray[np.float64],
    amplitude_jy: NDArray[np.float32],
    freq_hz: NDArray[np.float64],
    channel_hz: float,
    integration_s: float,
) -> NDArray[np.complex64]:
    """Return the same as `sampled_visibilities`, averaged over channel and integration.

    Parameters
    ----------
    tau_s, tau_rate
        (n_antenna, n_source): delays in seconds and their change per second.
    amplitude_jy
        (n_chan, n_source).
    freq_hz
        (n_chan,), evenly spaced; over these the time smearing is interpolated linearly, which a subband allows.
    channel_hz, integration_s
        What is averaged over.
    """
    n_ant, n_source = tau_s.shape
    n_chan = freq_hz.size
    step_hz = (freq_hz[-1] - freq_hz[0]) / max(n_chan - 1, 1)
    out = np.zeros((n_chan, n_ant, n_ant), np.complex64)
    for q in range(n_ant):
        total = np.empty(n_chan, np.complex128)
        for p in range(q + 1):
            total[:] = 0.0
            for s in range(n_source):
                tau, rate = tau_s[q, s] - tau_s[p, s], tau_rate[q, s] - tau_rate[p, s]
                turns, turn = freq_hz[0] * tau, 2 * np.pi * step_hz * tau
                phasor = complex(np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns))
                step = complex(np.cos(turn), np.sin(turn))
                band = _sinc(channel_hz * tau)
                low, high = _sinc(freq_hz[0] * rate * integration_s), _sinc(freq_hz[-1] * rate * integration_s)
                slope = (high - low) / max(n_chan - 1, 1)
                for chan in range(n_chan):
                    total[chan] += (amplitude_jy[chan, s] * band * (low + slope * chan)) * phasor
                    phasor *= step
            for chan in range(n_chan):
                out[chan, p, q] = total[chan]
                out[chan, q, p] = np.conj(total[chan])
    return out
