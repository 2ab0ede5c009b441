r"""CLEAN with major cycles: the minor cycle approximates, the major one is exact.

A major cycle cleans, on the image, every pixel that may hold a component down to

    stop = max(left · peak, auto_threshold · σ)        left = 10 rms sidelobes, 0.05 to 1 − mgain

takes the components' visibilities off the samples, and images what is left. A pixel may hold a component where the
residual exceeds auto_mask · σ (the local rms), and from then on wherever it, or a neighbor, already does: so faint
flux is collected around what is certain and nowhere else (Offringa & Smirnov 2017). The residual that is returned
is always the exact one of the model that is returned.

A cycle that leaves a higher peak than it found is undone and repeated with half the gain.
"""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.noise import local_sigma, robust_sigma
from dsa110_contimg.imaging.samples import Samples
from dsa110_contimg.kernels.clean import clean_pixels
from dsa110_contimg.options import ImagingOptions

logger = logging.getLogger(__name__)

MOST_SETBACKS = 3
WORSE = 1.1
STALLED = 0.5
NEAR_NOISE = 3.0
LIKE_THE_BRIGHTEST = 100
DEEPEST = 0.95
MAIN_LOBE_BEAMS = 1.5


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
    options = replace(options, mgain=cycle_depth(psf, beam_pixels, options.mgain))
    state = Deconvolution(np.zeros_like(dirty), dirty, 0, 0, 0, False)
    accuracy_jy = 0.01 * options.epsilon * brightest_jy
    mask = np.zeros(dirty.shape, bool)
    gain, last = options.gain, None
    while state.iterations < options.niter and state.major_cycles < options.max_major:
        allowed = mask | (np.abs(state.residual) > options.auto_mask * local_sigma(state.residual, beam_pixels))
        plan = _plan(_peak(state.residual, allowed), robust_sigma(state.residual), accuracy_jy, last, options)
        if plan is None:
            state.reached_threshold = True
            break
        where = allowed & (np.abs(state.residual) >= plan.stop)
        increment, iterations = _minor_cycle(
            state.residual, psf, where, gain, plan.stop, options.niter - state.iterations
        )
        samples.subtract(increment)
        residual = samples.dirty(quick=not plan.final)
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
        logger.info("major cycle %d: peak %.4g to %.4g Jy", state.major_cycles, plan.peak, plan.stop)
    if last is not None and not last.final:
        state.residual = samples.dirty()
    return state


def cycle_depth(psf: NDArray[np.float32], beam_pixels: float, least: float) -> float:
    """Return by which fraction the peak falls in a major cycle: `least`, or more on an array of low sidelobes.

    A hundred sources like the brightest raise their sidelobes to ten times the rms of one: cleaned any deeper,
    sidelobes would pass for sources.
    """
    sides = psf.copy()
    center, reach = psf.shape[0] // 2, int(np.ceil(MAIN_LOBE_BEAMS * beam_pixels))
    main_lobe = slice(max(0, center - reach), center + reach + 1)
    sides[main_lobe, main_lobe] = 0.0
    confusion = np.sqrt(LIKE_THE_BRIGHTEST * np.mean(np.square(sides), dtype=np.float64))
    return max(least, min(1.0 - float(confusion), DEEPEST))


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
        stop = max((1.0 - options.mgain) * peak, floor)
        return _Plan(peak, stop, final=stop == floor)
    stalled = peak > STALLED * last.peak and peak < NEAR_NOISE * options.auto_mask * noise
    if last.final and stalled:
        return None
    stop = floor if stalled else max((1.0 - options.mgain) * peak, floor)
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
