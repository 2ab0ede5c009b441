r"""Delays from the phases of gains over frequency, g(f) ∝ exp(2πi τ (f − f0)).

The peak of the delay spectrum, by FFT and then by Newton's method. With the phase noise σ of a channel, from the
coherence of the n unit phasors after the fit, σ² = −2 ln |⟨·⟩| n/(n − 2), the error of the delay is

    σ_τ = σ / (2π √Σ (f − f̄)²)

The ratio is one of amplitudes, √n ⟨·⟩/σ: about one, or less, for random phases at a given delay. The best of m
independent delays (band times range) reaches |⟨·⟩|² = ln(m)/n on random phases; below twice that there is no delay,
or the few channels of a noisy antenna that pass by chance would have one.
"""

import numpy as np
import scipy.fft
from numpy.typing import NDArray

SNR_CEILING = 1e6
NEWTON_STEPS = 4
PARAMETERS = 2


def fit_delays(
    gains: NDArray[np.complex128], freq_hz: NDArray[np.float64], reference_hz: float, limit_ns: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit the delays of several lines.

    Parameters
    ----------
    gains
        (n_line, n_chan), phases relative to the reference antenna; zero where there is no solution.
    freq_hz
        (n_chan,), ascending; gaps are missing multiples of the smallest step.
    reference_hz
        f0.
    limit_ns
        Delays are sought within ± this, and within ± half the inverse of the channel spacing.

    Returns
    -------
    tuple
        Delays in ns, their signal-to-noise ratios (in phase, of the whole band) and their errors in ns, (n_line,); NaN
        and zero for a line with less than three solutions, or whose phases may be random.
    """
    size = np.abs(gains)
    unit = np.where(size > 0.0, gains / np.where(size > 0.0, size, 1.0), 0.0)
    step = float(np.diff(freq_hz).min()) if freq_hz.size > 1 else 1.0
    grid = np.rint((freq_hz - freq_hz[0]) / step).astype(np.int64)
    length = 8 * int(2 ** np.ceil(np.log2(grid[-1] + 1)))
    padded = np.zeros((len(unit), length), np.complex64)
    padded[:, grid] = unit
    spectrum = np.abs(scipy.fft.fft(padded, axis=1, workers=-1, overwrite_x=True))
    trial_s = np.fft.fftfreq(length, step)
    spectrum[:, np.abs(trial_s) > limit_ns * 1e-9] = -1.0
    delay = trial_s[spectrum.argmax(axis=1)]
    offset = freq_hz - reference_hz
    for _ in range(NEWTON_STEPS):
        turned = unit * np.exp(-2j * np.pi * delay[:, None] * offset)
        total, slope, bend = turned.sum(axis=1), turned @ offset, turned @ offset**2
        gradient = 2.0 * np.pi * np.imag(np.conj(total) * slope)
        curvature = 4.0 * np.pi**2 * (np.abs(slope) ** 2 - np.real(np.conj(total) * bend))
        newton = np.where(curvature < 0.0, -gradient / np.where(curvature < 0.0, curvature, 1.0), 0.0)
        delay = delay + np.clip(newton, -0.5 / (length * step), 0.5 / (length * step))
    trials = max((freq_hz[-1] - freq_hz[0]) * min(2e-9 * limit_ns, 1.0 / step), 1.0)
    return _with_errors(unit, offset, delay, 2.0 * np.log(trials))


def _with_errors(
    unit: NDArray[np.complex128], offset_hz: NDArray[np.float64], delay_s: NDArray[np.float64], chance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return delays in ns, signal-to-noise ratios and errors in ns of unit phasors (n_line, n_chan).

    A delay needs n |⟨·⟩|² above *chance*.
    """
    there = unit != 0.0
    count = there.sum(axis=1)
    n = np.maximum(count, PARAMETERS + 1)
    coherence = np.abs((unit * np.exp(-2j * np.pi * delay_s[:, None] * offset_hz)).sum(axis=1)) / n
    coherence = np.clip(coherence, 1e-12, 1.0 - 1e-15)
    certain = (count > PARAMETERS) & (n * coherence**2 > chance)
    sigma = np.sqrt(-2.0 * np.log(coherence) * n / (n - PARAMETERS))
    mean = there @ offset_hz / n
    spread = np.sqrt(np.maximum(there @ offset_hz**2 - n * mean**2, 1.0))
    snr = np.where(certain, np.minimum(coherence * np.sqrt(n) / sigma, SNR_CEILING), 0.0)
    error_ns = np.where(certain, 1e9 * sigma / (2.0 * np.pi * spread), np.nan)
    return np.where(certain, delay_s * 1e9, np.nan), snr, error_ns


def unwrap_delays(delay_ns: NDArray[np.float64], period_ns: float) -> NDArray[np.float64]:
    """Return delays moved by whole periods so that together they span the least.

    Channels of spacing Δf cannot tell τ from τ + 1/Δf. The delays lie on a circle of that length; cutting it in its
    widest gap puts all on one stretch. NaN stays; the first finite delay's own period is arbitrary.
    """
    known = np.sort(np.mod(delay_ns[np.isfinite(delay_ns)], period_ns))
    if not known.size:
        return delay_ns
    gaps = np.diff(np.append(known, known[0] + period_ns))
    cut = known[(gaps.argmax() + 1) % known.size]
    return np.asarray(cut + np.mod(delay_ns - cut + 1e-9 * period_ns, period_ns) - 1e-9 * period_ns)
