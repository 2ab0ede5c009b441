r"""CLEAN with major cycles: the minor cycle approximates, the major one is exact.

A major cycle cleans, on the image, every pixel that may hold a component down to

    stop = max(left · peak, auto_threshold · σ)        left = 10 rms sidelobes, 0.05 to 1 − mgain

takes the components' visibilities off the samples, and images what is left. A pixel may hold a component where the
residual exceeds auto_mask · σ (the local rms), and from then on wherever it, or a neighbor, already does: so faint
flux is collected around what is certain and nowhere else (Offringa & Smirnov 2017). The residual that is returned
is always the exact one of the model that is returned.

With several scales (`scales`), each major cycle cleans the one on which the residual stands out most.

A cycle that leaves a higher peak than it found is undone and repeated with half the gain. Where that does not help, and
what is left is near the noise, CLEAN ends with what it has; where more is left it is an error.
"""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.noise import NoiseMap, noise_map
from dsa110_contimg.imaging.scales import Scale, make_scales
from dsa110_contimg.imaging.transform import Transform
from dsa110_contimg.kernels.clean import clean_pixels, grow_mask, pixels_allowed
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
    samples: Transform,
    dirty: NDArray[np.float32],
    psf: NDArray[np.float32],
    beam_pixels: float,
    brightest_jy: float,
    options: ImagingOptions,
    catalog: NDArray[np.bool_] | None = None,
) -> Deconvolution:
    """Run major cycles until nothing above the threshold is left.

    Parameters
    ----------
    samples
        Visibilities; the model is taken off them.
    dirty, psf
        Their image and point spread function.
    beam_pixels
        Major axis of the beam.
    brightest_jy
        What the gridder's accuracy refers to.
    options, catalog
        Gains, thresholds and limits; pixels, (n, n), in which components may start whatever the noise.

    Raises
    ------
    ImagingError
        If CLEAN still diverges after three times half the gain.
    """
    options = replace(options, mgain=cycle_depth(psf, beam_pixels, options.mgain))
    state = Deconvolution(np.zeros_like(dirty), dirty, 0, 0, 0, False)
    accuracy_jy = 0.01 * options.epsilon * brightest_jy
    mask = np.zeros(dirty.shape, bool) if catalog is None else catalog
    scales = make_scales(psf, beam_pixels, options.scales)
    gain, last = options.gain, None
    while state.iterations < options.niter and state.major_cycles < options.max_major:
        views = (_view(state.residual, scale, mask, beam_pixels, options) for scale in scales)
        view = max(views, key=lambda one: _peak(one.values))
        plan = _plan(_peak(view.values), view.noise.whole_jy, accuracy_jy, last, options)
        if plan is None:
            state.reached_threshold = True
            break
        found = _minor_cycle(view, gain, plan.stop, options.niter - state.iterations)
        pixels, fluxes = view.scale.spread(found.pixels, found.heights, len(dirty))
        samples.subtract(pixels, fluxes)
        residual = samples.dirty()
        if _peak(_at(view.scale.seen(residual), view.pixels)) > WORSE * plan.peak:
            samples.subtract(pixels, -fluxes)
            state.setbacks += 1
            gain *= 0.5
            if _given_up(state, plan.peak, NEAR_NOISE * options.auto_mask * view.noise.whole_jy, gain):
                break
            continue
        state.model[pixels[:, 0], pixels[:, 1]] += fluxes.astype(np.float32)
        state.residual, last = residual, plan
        state.iterations += found.iterations
        state.major_cycles += 1
        grow_mask(mask, pixels)
        logger.info("major cycle %d: peak %.4g to %.4g Jy", state.major_cycles, plan.peak, plan.stop)
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


def _given_up(state: Deconvolution, peak: float, near_noise: float, gain: float) -> bool:
    """Return whether CLEAN ends where it is: nothing but what is near the noise is left, and it grows at any gain.

    Raises
    ------
    ImagingError
        If more than that is left.
    """
    logger.warning("CLEAN diverged in major cycle %d: repeated with gain %.3f", state.major_cycles + 1, gain)
    if state.setbacks <= MOST_SETBACKS:
        return False
    if peak > near_noise:
        raise ImagingError(
            f"CLEAN diverges: the peak grew from {peak:.4g} Jy even with a gain of {2.0 * gain:.3f}; "
            "check the calibration, or lower --mgain"
        )
    return True


class _View(NamedTuple):
    """What one scale sees of a residual."""

    scale: Scale
    noise: NoiseMap
    pixels: NDArray[np.int32]
    """(n_pixel, 2), where components may be."""
    values: NDArray[np.float32]


class _Found(NamedTuple):
    """Components of one minor cycle."""

    pixels: NDArray[np.int32]
    """(n_component, 2), (y, x)."""
    heights: NDArray[np.float64]
    iterations: int


def _view(
    residual: NDArray[np.float32],
    scale: Scale,
    mask: NDArray[np.bool_],
    beam_pixels: float,
    options: ImagingOptions,
) -> _View:
    plane = scale.seen(residual)
    noise = noise_map(plane, beam_pixels)
    level = np.asarray((np.inf if options.mask == "catalog" else options.auto_mask) * noise.sigma, np.float32)
    pixels = pixels_allowed(plane, mask, noise.nodes(), level)
    return _View(scale, noise, pixels, _at(plane, pixels))


def _at(image: NDArray[np.float32], pixels: NDArray[np.int32]) -> NDArray[np.float32]:
    return image[pixels[:, 0], pixels[:, 1]]


def _peak(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max(initial=0.0))


def _minor_cycle(view: _View, gain: float, stop: float, max_iterations: int) -> _Found:
    deep = np.abs(view.values) >= stop
    values, pixels = view.values[deep], view.pixels[deep]
    heights, iterations, _left = clean_pixels(values, pixels, view.scale.psf, gain, stop, max_iterations)
    hit = heights != 0.0
    return _Found(pixels[hit], heights[hit], iterations)
