r"""What is wrong with single antennas and channels of a solution: measured on arrays of gains.

Gains have the axes (n_time, n_antenna, n_freq, n_pol), NaN where flagged. Noise is measured between neighbors, so that
a curved bandpass is not taken for noise:

    scatter = 1.4826 · MAD(x_{i+1} − x_i) / √2

    noisy     an antenna's scatter, of phase or of relative amplitude, is several times that of the array
    jump      the phase steps between one group of channels and the next by more than the band's own slope
    spike     a channel's amplitude stands above those around it, or its phase apart from theirs: interference. Dips
              are left alone, as bandpasses have them
"""

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Floats = NDArray[np.float64]

NOISE_FACTOR = 4.0
NOISE_FLOOR_DEG = 3.0
WEAK_FACTOR = 4.0
JUMP_DEG = 45.0
CHANNELS_PER_STEP = 96
SPIKE_SIGMA = 6.0
SPIKE_AMPLITUDE = 0.25
SPIKE_PHASE_DEG = 20.0
AROUND = 9


def scatter(values: Floats, axis: int) -> Floats:
    """Return the robust scatter between neighbors along an axis; NaN where fewer than three pairs are known."""
    return scatter_of_steps(np.diff(values, axis=axis), axis)


def scatter_of_steps(step: Floats, axis: int) -> Floats:
    """Return the robust scatter of values whose steps from one to the next are given (NaN: unknown)."""
    known = np.isfinite(step)
    enough = known.sum(axis=axis) >= 3
    spread = np.abs(step - _middle(step, axis, keepdims=True))
    return np.asarray(np.where(enough, 1.4826 * _middle(spread, axis) / np.sqrt(2.0), np.nan))


def noisy(values: Complex, snr: Floats) -> NDArray[np.bool_]:
    """Return which antennas and polarizations are much noisier than the array, (n_antenna, n_pol).

    Noise is that of phases and relative amplitudes along the band, where there are channels enough, else the inverse
    of the signal-to-noise ratio.
    """
    if values.shape[2] >= AROUND:
        amplitude = np.abs(values)
        steps = np.angle(values[:, :, 1:] * np.conj(values[:, :, :-1]))
        relative = np.diff(amplitude / _middle(amplitude, 2, keepdims=True), axis=2)
        parts = [np.nan_to_num(scatter_of_steps(step, 2)).max(axis=0) for step in (steps, relative)]
        noise = np.degrees(np.maximum(*parts))
        return np.asarray(noise > max(NOISE_FLOOR_DEG, NOISE_FACTOR * _typical(noise)))
    ratio = np.where(np.isfinite(values.real), snr, 0.0).max(axis=(0, 2))
    return np.asarray((ratio > 0.0) & (ratio < _typical(ratio) / WEAK_FACTOR))


def jumps(values: Complex) -> NDArray[np.bool_]:
    """Return which antennas and polarizations have a step of phase in their band, (n_antenna, n_pol)."""
    n_freq = values.shape[2]
    width = max(1, n_freq // CHANNELS_PER_STEP)
    n_group = n_freq // width
    if n_group < AROUND:
        return np.zeros((values.shape[1], values.shape[3]), bool)
    shape = (values.shape[0], values.shape[1], n_group, width, values.shape[3])
    groups = _direction(values[:, :, : n_group * width]).reshape(shape).sum(axis=3)
    step = _direction(groups[:, :, 1:] * np.conj(groups[:, :, :-1]))
    slope = step.sum(axis=2, keepdims=True)
    turned = np.degrees(np.abs(np.angle(step * np.conj(slope))))
    return np.asarray((turned > JUMP_DEG).any(axis=(0, 2)))


def spikes(values: Complex) -> NDArray[np.bool_]:
    """Return which solutions stand out of the channels around them, of the shape of *values*."""
    if values.shape[2] < AROUND:
        return np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        amplitude = np.abs(values)
        around = _median_around(values)
        excess = amplitude / np.abs(around) - 1.0
        turned = np.degrees(np.angle(values * np.conj(around)))
        noise = [np.nan_to_num(scatter(part, 2))[:, :, None] for part in (excess, turned)]
        high = excess > np.maximum(SPIKE_AMPLITUDE, SPIKE_SIGMA * noise[0])
        apart = np.abs(turned) > np.maximum(SPIKE_PHASE_DEG, SPIKE_SIGMA * noise[1])
    return np.asarray(high | apart)


def roughness(values: Complex) -> float | None:
    """Return the median over antennas of the amplitude's relative scatter between channels; None without channels."""
    if values.shape[2] < AROUND:
        return None
    amplitude = np.abs(values)
    relative = scatter(amplitude / _middle(amplitude, 2, keepdims=True), 2)
    known = relative[np.isfinite(relative)]
    return float(np.median(known)) if known.size else None


def _median_around(values: Complex) -> Complex:
    """Return the median of real and imaginary parts over the channels around each; NaN where most are unknown."""
    half = AROUND // 2
    padded = np.pad(values, ((0, 0), (0, 0), (half, half), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, AROUND, axis=2)
    known = np.isfinite(windows.real).sum(axis=-1) > half
    middle = _middle(windows.real, -1) + 1j * _middle(windows.imag, -1)
    return np.asarray(np.where(known, middle, complex(np.nan, np.nan)))


def _middle(values: Floats, axis: int, *, keepdims: bool = False) -> Floats:
    """Return the lower median of what is known along an axis, NaN where nothing is (sorting puts NaN last)."""
    ordered = np.sort(values, axis=axis)
    which = np.maximum(np.isfinite(values).sum(axis=axis, keepdims=True) - 1, 0) // 2
    middle = np.take_along_axis(ordered, which, axis=axis)
    return np.asarray(middle if keepdims else np.squeeze(middle, axis))


def _direction(values: Complex) -> Complex:
    """Return values of amplitude one, zero where there is none."""
    filled = np.nan_to_num(values)
    size = np.abs(filled)
    return np.asarray(np.where(size > 0.0, filled / np.where(size > 0.0, size, 1.0), 0.0))


def _typical(values: Floats) -> float:
    """Return the median of the values above zero; zero if there are none."""
    found = values[values > 0.0]
    return float(np.median(found)) if found.size else 0.0
