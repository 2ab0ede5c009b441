r"""CLEAN with major cycles: the minor cycle approximates, the major one is exact.

A major cycle cleans, on the image, every pixel that may hold a component down to

    stop = max(0.03 · peak, auto_threshold · σ)

takes the components' visibilities off the samples, and images what is left. It gets there in sub-cycles, each a
factor 1 − mgain deeper than the one before; between them the components' sidelobes are taken off the image by one
convolution with the point spread function, which is a tenth of the work of an exact pass and right to a percent or
so (the w-term and the averaging by baseline make it vary over the field). A pixel may hold a component where the
residual exceeds auto_mask · σ (the local rms), and from then on wherever it, or a neighbor, already does: so faint
flux is collected around what is certain and nowhere else (Offringa & Smirnov 2017). The residual that is returned
is always the exact one of the model that is returned.

A cycle that leaves a higher peak than it found is undone and repeated with half the gain.
"""

import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.noise import local_sigma, robust_sigma
from dsa110_contimg.imaging.samples import Samples
from dsa110_contimg.kernels.clean import clean_pixels
from dsa110_contimg.options import ImagingOptions

logger = logging.getLogger(__name__)

MAJOR_DEPTH = 0.03
"""Where a major cycle stops, of its peak: well above what one point spread function for the field gets wrong."""
MOST_SETBACKS = 3
WORSE = 1.1
STALLED = 0.5
NEAR_NOISE = 3.0


@dataclass
class Deconvolution:
    """What CLEAN found."""

    model: NDArray[np.float32]
    """Jy/pixel."""
    residual: NDArray[np.float32]
    """Jy/beam, exact."""
    iterations: int
    major_cycles: int
    setbacks: int
    """Cycles that diverged and were repeated more gently."""
    reached_threshold: bool


def deconvolve(
    samples: Samples,
    dirty: NDArray[np.float32],
    psf: NDArray[np.float32],
    beam_pixels: float,
    brightest_jy: float,
    options: ImagingOptions,
) -> Deconvolution:
    """Run major cycles until nothing above the threshold is left.

    Parameters
    ----------
    samples
        Visibilities; the model is taken off them.
    dirty, psf
        Their image and point spread function.
    beam_pixels
        Major axis of the beam in pixels: the scale of the local rms.
    brightest_jy
        The brightest source, subtracted or not: what the gridder's accuracy refers to.
    options
        Gains, thresholds and limits.

    Raises
    ------
    ImagingError
        If CLEAN still diverges after three times half the gain.
    """
    state = Deconvolution(np.zeros_like(dirty), dirty, 0, 0, 0, False)
    accuracy_jy = 0.01 * options.epsilon * brightest_jy
    mask = np.zeros(dirty.shape, bool)
    sidelobes = _Sidelobes(psf, options.threads or -1)
    gain, last = options.gain, None
    while state.iterations < options.niter and state.major_cycles < options.max_major:
        allowed = mask | (np.abs(state.residual) > options.auto_mask * local_sigma(state.residual, beam_pixels))
        plan = _plan(_peak(state.residual, allowed), robust_sigma(state.residual), accuracy_jy, last, options)
        if plan is None:
            state.reached_threshold = True
            break
        increment, iterations = _descend(state, allowed, sidelobes, gain, plan, options)
        samples.subtract(increment)
        residual = samples.dirty()
        if _peak(residual, allowed) > WORSE * plan.peak:
            samples.subtract(-increment)
            state.setbacks += 1
            gain *= 0.5
            _check_setbacks(state, plan.peak, gain)
            continue
        state.model += increment
        state.residual, last = residual, plan
        state.iterations += iterations
        state.major_cycles += 1
        mask |= _grown(increment != 0.0)
        logger.info(
            "major cycle %d: peak %.4g to %.4g Jy, %d iterations", state.major_cycles, plan.peak, plan.stop, iterations
        )
    return state


class _Plan(NamedTuple):
    """What the next major cycle does."""

    peak: float
    stop: float
    final: bool


def _plan(peak: float, noise: float, accuracy_jy: float, last: _Plan | None, options: ImagingOptions) -> _Plan | None:
    """Decide how deep the next cycle goes; None ends CLEAN.

    Once a cycle has gone down to the floor, only what would start a component anew is worth another. When near the
    noise a cycle took less than half of the peak away, what is left is not a matter of depth (a source that the
    drifting beam modulates, an error of calibration): one more cycle goes straight down to the floor.
    """
    floor = max(options.auto_threshold * noise, accuracy_jy)
    if peak <= floor or (last is not None and last.final and peak <= max(floor, options.auto_mask * noise)):
        return None
    if last is None:
        stop = max(MAJOR_DEPTH * peak, floor)
        return _Plan(peak, stop, final=stop == floor)
    stalled = peak > STALLED * last.peak and peak < NEAR_NOISE * options.auto_mask * noise
    if last.final and stalled:
        return None
    stop = floor if stalled else max(MAJOR_DEPTH * peak, floor)
    return _Plan(peak, stop, final=stop == floor)


def _check_setbacks(state: Deconvolution, peak: float, gain: float) -> None:
    logger.warning("CLEAN diverged in major cycle %d: repeated with gain %.3f", state.major_cycles + 1, gain)
    if state.setbacks > MOST_SETBACKS:
        raise ImagingError(
            f"CLEAN diverges: the peak grew from {peak:.4g} Jy even with a gain of {2.0 * gain:.3f}; "
            "check the calibration, or lower --mgain"
        )


def _peak(image: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(np.abs(image[where]).max(initial=0.0))


class _Sidelobes:
    """The point spread function, ready to be convolved with components (periodically: far sidelobes wrap)."""

    def __init__(self, psf: NDArray[np.float32], threads: int) -> None:
        self.psf, self._threads = psf, threads
        self._transform: NDArray[np.complex64] | None = None

    def of(self, components: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the dirty image of components, Jy/beam."""
        if self._transform is None:
            self._transform = fft.rfft2(fft.ifftshift(self.psf), workers=self._threads)
        product = fft.rfft2(components, workers=self._threads)
        product *= self._transform
        return np.asarray(fft.irfft2(product, s=components.shape, workers=self._threads))


def _descend(
    state: Deconvolution,
    allowed: NDArray[np.bool_],
    sidelobes: _Sidelobes,
    gain: float,
    plan: _Plan,
    options: ImagingOptions,
) -> tuple[NDArray[np.float32], int]:
    """Clean one major cycle's depth in sub-cycles; return the components and the number of iterations."""
    residual, level, left = state.residual, plan.peak, options.niter - state.iterations
    total, iterations = np.zeros_like(residual), 0
    while level > plan.stop and iterations < left:
        level = max((1.0 - options.mgain) * level, plan.stop)
        where = allowed & (np.abs(residual) >= level)
        increment, done = _minor_cycle(residual, sidelobes.psf, where, gain, level, left - iterations)
        total += increment
        iterations += done
        if level > plan.stop:
            residual = residual - sidelobes.of(increment)
    return total, iterations


def _minor_cycle(
    residual: NDArray[np.float32],
    psf: NDArray[np.float32],
    where: NDArray[np.bool_],
    gain: float,
    stop: float,
    max_iterations: int,
) -> tuple[NDArray[np.float32], int]:
    pixels = np.argwhere(where).astype(np.int32)
    values = residual[where]
    fluxes, iterations, _left = clean_pixels(values, pixels, psf, gain, stop, max_iterations)
    increment = np.zeros_like(residual)
    increment[pixels[:, 0], pixels[:, 1]] = fluxes
    return increment, iterations


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask and its eight neighbors."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    across = grown.copy()
    across[:, 1:] |= grown[:, :-1]
    across[:, :-1] |= grown[:, 1:]
    return across
