r"""Checks of an image: measure, then judge.

A check is one measured number, the limits it is held against, and its verdict. Ratios whose right value is one
(fluxes, noise) are judged by their distance from one. Nothing passes that was not measured: an unmeasured check
with limits counts as a warning. Quantities:

    dynamic range   peak / σ, σ the scatter of the bulk of the pixels
    flux ratio      median of measured over reference flux of isolated compact sources, all that the reference says
                    must be bright here (10 σ): choosing by the measured flux would hide a scale that is too low. Its
                    error is that of a median, √(π/2) σ/√n, σ the scatter of the ratios (by MAD: variable sources and
                    catalogue errors are in it), but never less than what the errors of the fluxes make of it
    completeness    fraction of the sources expected at 7 σ and more that are found at 5 σ and more
    astrometry      median distance between measured and reference positions, in beams; sees shifts and scatter
    noise map       scatter of image / noise map, which is one when the map is the noise
    over thermal    σ over the noise of a naturally weighted image of the same unflagged samples without any source,
                    SEFD/√(2 Δf Δt n): weights make it 1.5 to 2.5, residuals of sources and gains the rest
    stripes, bowls  amplitude of the strongest wave, and depth of the deepest box, in σ (`patterns`)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.coadd import robust_center_scatter, robust_scatter
from dsa110_contimg.kernels.variability import MEDIAN_ERROR
from dsa110_contimg.options import QAOptions
from dsa110_contimg.qa.patterns import deepest_bowl, pull, strongest_stripes
from dsa110_contimg.telescope import SEFD_JY
from dsa110_contimg.visibilities import Beam, SkyImage, Visibilities

RATIO_SNR = 10.0
EXPECTED_SNR = 7.0
DETECTION_SNR = 5.0
MIN_EXPECTED = 5
MIN_PIXELS = 100


class Verdict(StrEnum):
    """What a check, or all of them, concludes."""

    PASSED = "passed"
    """Measured and within its limits."""
    WARNING = "warning"
    """Usable, but a person should look before it is published."""
    FAILED = "failed"
    """Not usable."""
    UNMEASURED = "unmeasured"
    """There was nothing to measure it on; the reason says why."""


@dataclass(frozen=True)
class Check:
    """One measurement and its verdict."""

    name: str
    value: float | None
    """The measured value; None only when unmeasured or when nothing was found where something had to be."""
    warning: float | None
    """Limit of a warning; None where there is none."""
    failure: float | None
    """Limit of a failure; None where there is none."""
    verdict: Verdict
    reason: str
    """One sentence with the value and what it was measured on."""


@dataclass(frozen=True)
class ReferenceSources:
    """What photometry found at the positions of a reference catalogue; all arrays have shape (n,)."""

    name: Sequence[str]
    flux_jy: NDArray[np.float64]
    """Measured at the reference position, detected or not."""
    flux_err_jy: NDArray[np.float64]
    reference_jy: NDArray[np.float64]
    """Catalogue flux at the image's frequency."""
    local_noise_jy: NDArray[np.float64]
    offset_east_arcsec: NDArray[np.float64]
    """Measured minus reference position; NaN where no position could be measured."""
    offset_north_arcsec: NDArray[np.float64]
    isolated: NDArray[np.bool_]
    """Compact, with no neighbor that counts: fit for fluxes and positions."""


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of all checks: the worst; unmeasured limits, or no checks at all, are a warning."""
    if any(check.verdict is Verdict.FAILED for check in checks):
        return Verdict.FAILED
    open_limit = any(
        check.verdict is Verdict.UNMEASURED and (check.warning is not None or check.failure is not None)
        for check in checks
    )
    if open_limit or not checks or any(check.verdict is Verdict.WARNING for check in checks):
        return Verdict.WARNING
    return Verdict.PASSED


def thermal_noise_jy(n_samples: int, channel_hz: float, integration_s: float) -> float:
    """Return the noise (Jy/beam) of a naturally weighted image: SEFD / √(2 Δf Δt n).

    Parameters
    ----------
    n_samples
        Unflagged samples of cross-correlations, both hands counted.
    channel_hz, integration_s
        What one sample is the average of.
    """
    return float(SEFD_JY / np.sqrt(2.0 * channel_hz * integration_s * n_samples)) if n_samples else float("nan")


def thermal_noise_of(vis: Visibilities) -> float:
    """Return the noise (Jy/beam) that an image of visibilities would have without sources; NaN if all are flagged."""
    cross = vis.antenna1 != vis.antenna2
    n_samples = int(vis.flags[cross].size - np.count_nonzero(vis.flags[cross]))
    return thermal_noise_jy(n_samples, vis.channel_width_hz, vis.integration_s)


def image_checks(
    image: SkyImage, options: QAOptions, thermal_jy: float | None = None, noise: SkyImage | None = None
) -> list[Check]:
    """Check one image by itself.

    Parameters
    ----------
    image
        Restored, with even noise or beam-corrected; NaN outside its field.
    options
        Limits.
    thermal_jy
        The noise to expect (`thermal_noise_jy`); None leaves that comparison out.
    noise
        Noise map, where the noise is uneven: negative pixels are counted in its units.
    """
    finite = np.isfinite(image.data)
    fraction = float(finite.mean())
    checks = [
        at_least(
            "finite_fraction", fraction, None, options.min_finite_fraction, f"{fraction:.0%} of the pixels have a value"
        )
    ]
    center, sigma = robust_center_scatter(image.data)
    if finite.sum() < MIN_PIXELS or not sigma > 0.0:
        reason = f"{int(finite.sum())} finite pixels with a scatter of {sigma:g} Jy/beam: no noise can be measured"
        limits = {"dynamic_range": options.min_dynamic_range, "peak_snr": options.min_peak_snr}
        return [*checks, *(unmeasured(name, None, limit, reason) for name, limit in limits.items())]
    peak = float(np.max(image.data, where=finite, initial=-np.inf))
    local = _noise_around_peak(image, sigma)
    depth = sigma if noise is None else noise.data[finite]
    negative = float(np.mean(image.data[finite] < center - 3.0 * depth))
    checks += [
        at_least(
            "dynamic_range",
            peak / sigma,
            None,
            options.min_dynamic_range,
            f"the peak, {1e3 * peak:.4g} mJy/beam, is {peak / sigma:.1f} times the noise, {1e3 * sigma:.3g} mJy/beam",
        ),
        at_least(
            "peak_snr",
            peak / local,
            None,
            options.min_peak_snr,
            f"the peak is {peak / local:.1f} times the noise near it",
        ),
        at_most(
            "negative_fraction",
            negative,
            options.max_negative_fraction,
            None,
            f"{negative:.2%} of the pixels lie below -3 sigma",
        ),
    ]
    checks += pattern_checks(image, noise, options)
    if thermal_jy is not None:
        checks.append(thermal_check(sigma / thermal_jy, f"the noise of {1e3 * sigma:.3g} mJy/beam", options))
    return checks


def thermal_check(ratio: float | None, what: str, options: QAOptions) -> Check:
    """Judge the noise against the thermal noise; a ratio of None was not measured."""
    limits = options.noise_over_thermal_warning, options.noise_over_thermal_failure
    if ratio is None or not np.isfinite(ratio):
        return unmeasured("noise_over_thermal", *limits, f"the thermal noise is not known of {what}")
    return at_most("noise_over_thermal", ratio, *limits, f"{what} is {ratio:.2f} times the thermal noise")


def pattern_checks(image: SkyImage, noise: SkyImage | None, options: QAOptions) -> list[Check]:
    """Judge stripes and bowls."""
    pulls = pull(image.data, None if noise is None else noise.data)
    stripes, bowl = strongest_stripes(pulls), deepest_bowl(pulls, _beam_pixels(image))
    wave = f"every {stripes.period_pixels * 3600.0 * image.cell_deg:.0f} arcsec along {stripes.pa_deg:.0f} deg"
    checks = [
        at_most(
            "stripes",
            stripes.amplitude,
            options.stripes_warning,
            options.stripes_failure,
            f"the strongest stripes, {wave}, are {stripes.amplitude:.2f} sigma high",
        )
    ]
    limits = options.bowl_warning, options.bowl_failure
    if not np.isfinite(bowl.depth):
        return [*checks, unmeasured("bowl", *limits, "the image is smaller than a box of eight beams")]
    what = f"the deepest bowl, at pixel ({bowl.x:.0f}, {bowl.y:.0f}), is {bowl.depth:.2f} sigma deep"
    return [*checks, at_most("bowl", bowl.depth, *limits, what)]


def mosaic_checks(
    mosaic: SkyImage, noise: SkyImage, sources: ReferenceSources | None, options: QAOptions
) -> list[Check]:
    """Check a mosaic by itself, against its noise map, and against a reference catalogue.

    Parameters
    ----------
    mosaic, noise
        On one grid, Jy/beam.
    sources
        Measurements at the positions of reference sources inside the mosaic; None when there is no catalogue.
    options
        Limits.
    """
    checks = [check for check in image_checks(mosaic, options, noise=noise) if check.name != "finite_fraction"]
    return [*checks, noise_map_check(mosaic, noise, options), *source_checks(sources, mosaic.beam, options)]


def source_checks(sources: ReferenceSources | None, beam: Beam | None, options: QAOptions) -> list[Check]:
    """Check fluxes and positions on a tile or a mosaic against a reference catalogue.

    Parameters
    ----------
    sources
        Measurements at the positions of reference sources inside the image; None when there is no catalogue.
    beam
        The restoring beam, the unit of astrometry.
    options
        Limits.
    """
    if sources is None:
        reason = "no reference catalogue covers the image"
        return [
            unmeasured("flux_ratio", options.flux_ratio_warning, options.flux_ratio_failure, reason),
            unmeasured("flux_ratio_error", options.flux_ratio_warning, None, reason),
            unmeasured("completeness", options.completeness_warning, options.completeness_failure, reason),
            unmeasured("astrometry", options.astrometry_warning_beam, options.astrometry_failure_beam, reason),
        ]
    width = float(np.sqrt(beam.major_arcsec * beam.minor_arcsec)) if beam is not None else float("nan")
    return [
        *flux_ratio_checks(sources, options),
        completeness_check(sources, options),
        astrometry_check(sources, width, options),
    ]


def noise_map_check(image: SkyImage, noise: SkyImage, options: QAOptions) -> Check:
    """Compare the scatter of image / noise with one."""
    scatter = robust_scatter(image.data / noise.data)
    limits = options.noise_map_warning, options.noise_map_failure
    if not np.isfinite(scatter):
        return unmeasured("noise_map", *limits, "image and noise map have no pixel in common")
    return near_one("noise_map", scatter, *limits, "is the scatter of the image in units of its noise map")


class FluxScale(NamedTuple):
    """Measured over reference flux, and its 1σ error."""

    ratio: float
    error: float
    n_sources: int


def flux_scale_of(sources: ReferenceSources) -> FluxScale:
    """Return the flux scale on the isolated sources that must be bright; NaN where there are none."""
    use = _bright(sources)
    number = int(use.sum())
    if number == 0:
        return FluxScale(np.nan, np.nan, 0)
    ratios = sources.flux_jy[use] / sources.reference_jy[use]
    formal = float(np.sqrt(np.sum((sources.flux_err_jy[use] / sources.reference_jy[use]) ** -2.0)))
    scatter = float(1.4826 * np.median(np.abs(ratios - np.median(ratios))))
    error = MEDIAN_ERROR * max(scatter / np.sqrt(number), 1.0 / formal)
    return FluxScale(float(np.median(ratios)), error, number)


def flux_ratio_checks(sources: ReferenceSources, options: QAOptions) -> list[Check]:
    """Compare measured fluxes with the catalogue's; the second check is how well that ratio is known."""
    scale = flux_scale_of(sources)
    limits = options.flux_ratio_warning, options.flux_ratio_failure
    if scale.n_sources < options.min_reference_sources:
        needed = options.min_reference_sources
        reason = f"{scale.n_sources} isolated reference sources above {RATIO_SNR:g} sigma; {needed} are needed"
        return [unmeasured("flux_ratio", *limits, reason), unmeasured("flux_ratio_error", limits[0], None, reason)]
    what = f"± {scale.error:.3f} is the median flux ratio of {scale.n_sources} isolated sources"
    known = f"the flux ratio is known within {scale.error:.3f}"
    return [
        near_one("flux_ratio", scale.ratio, *limits, what),
        at_most("flux_ratio_error", scale.error, limits[0], None, known),
    ]


def completeness_check(sources: ReferenceSources, options: QAOptions) -> Check:
    """Count the expected sources that were found."""
    expected = sources.reference_jy >= EXPECTED_SNR * sources.local_noise_jy
    limits = options.completeness_warning, options.completeness_failure
    number = int(expected.sum())
    if number < MIN_EXPECTED:
        reason = f"{number} sources are expected above {EXPECTED_SNR:g} sigma; {MIN_EXPECTED} are needed"
        return unmeasured("completeness", *limits, reason)
    found = sources.flux_jy[expected] >= DETECTION_SNR * sources.local_noise_jy[expected]
    fraction = float(np.mean(found))
    what = f"{int(found.sum())} of {number} sources expected above {EXPECTED_SNR:g} sigma were found"
    return at_least("completeness", fraction, *limits, what)


def astrometry_check(sources: ReferenceSources, beam_arcsec: float, options: QAOptions) -> Check:
    """Compare measured positions with the catalogue's, in beams (geometric mean of the axes)."""
    use = _bright(sources)
    limits = options.astrometry_warning_beam, options.astrometry_failure_beam
    number = int(use.sum())
    if number < options.min_reference_sources or not beam_arcsec > 0.0:
        reason = f"{number} isolated reference sources above {RATIO_SNR:g} sigma and a beam of {beam_arcsec:g} arcsec"
        return unmeasured("astrometry", *limits, f"{reason}; {options.min_reference_sources} and a beam are needed")
    east, north = sources.offset_east_arcsec[use], sources.offset_north_arcsec[use]
    measured = np.isfinite(east) & np.isfinite(north)
    if 2 * measured.sum() < number:
        reason = f"only {int(measured.sum())} of {number} expected bright sources are near their positions"
        return Check("astrometry", None, *limits, Verdict.FAILED, reason)
    distance = float(np.median(np.hypot(east[measured], north[measured]))) / beam_arcsec
    what = (
        f"the median offset of {int(measured.sum())} sources is {distance:.3f} beams "
        f'(median shift {np.median(east[measured]):+.2f}" east, {np.median(north[measured]):+.2f}" north)'
    )
    return at_most("astrometry", distance, *limits, what)


def _bright(sources: ReferenceSources) -> NDArray[np.bool_]:
    """Return which sources must be clearly visible if the image is right."""
    return sources.isolated & (sources.reference_jy >= RATIO_SNR * sources.local_noise_jy)


def _noise_around_peak(image: SkyImage, default: float) -> float:
    """Return the scatter in a box of 30 beams around the peak, without the 6 beams in its middle."""
    y, x = np.unravel_index(np.nanargmax(image.data), image.data.shape)
    beam_pixels = 5.0 if image.beam is None else image.beam.major_arcsec / (3600.0 * image.cell_deg)
    outer, inner = int(15 * beam_pixels) + 1, int(3 * beam_pixels) + 1
    low_y, low_x = max(int(y) - outer, 0), max(int(x) - outer, 0)
    box = image.data[low_y : y + outer + 1, low_x : x + outer + 1].copy()
    box[max(y - inner - low_y, 0) : y + inner + 1 - low_y, max(x - inner - low_x, 0) : x + inner + 1 - low_x] = np.nan
    local = robust_scatter(box) if np.isfinite(box).sum() >= MIN_PIXELS else default
    return local if local > 0.0 else default


def _beam_pixels(image: SkyImage) -> float:
    """Return the geometric mean of the beam's axes in pixels; five where an image has no beam."""
    beam = image.beam
    return 5.0 if beam is None else float(np.sqrt(beam.major_arcsec * beam.minor_arcsec)) / (3600.0 * image.cell_deg)


def unmeasured(name: str, warning: float | None, failure: float | None, reason: str) -> Check:
    """Return a check for which there was nothing to measure."""
    return Check(name, None, warning, failure, Verdict.UNMEASURED, reason)


def near_one(name: str, value: float, warning: float | None, failure: float, what: str) -> Check:
    """Return a check of a ratio whose right value is one."""
    verdict = _verdict(warning is not None and abs(value - 1.0) > warning, abs(value - 1.0) > failure)
    warns = "" if warning is None else f"{warning:g} from one warns, "
    limits = f"more than {warns}{failure:g}{'' if warns else ' from one'} fails"
    return Check(name, value, warning, failure, verdict, f"{value:.3f} {what}; {limits}")


def at_least(name: str, value: float, warning: float | None, failure: float | None, what: str) -> Check:
    """Return a check of a value that should not be small."""
    verdict = _verdict(warning is not None and value < warning, failure is not None and value < failure)
    return Check(name, value, warning, failure, verdict, f"{what}; {_limits('below', warning, failure)}")


def at_most(name: str, value: float, warning: float | None, failure: float | None, what: str) -> Check:
    """Return a check of a value that should not be large."""
    verdict = _verdict(warning is not None and value > warning, failure is not None and value > failure)
    return Check(name, value, warning, failure, verdict, f"{what}; {_limits('above', warning, failure)}")


def _verdict(warns: bool, fails: bool) -> Verdict:
    return Verdict.FAILED if fails else Verdict.WARNING if warns else Verdict.PASSED


def _limits(side: str, warning: float | None, failure: float | None) -> str:
    parts = [f"{limit:g} {word}" for limit, word in ((warning, "warns"), (failure, "fails")) if limit is not None]
    return f"{side} " + ", ".join(parts)
