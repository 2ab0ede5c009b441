r"""One set imaged by two engines: what they make of the noise, the beam and the fluxes.

Both get the same visibilities, weights, pixels and thresholds. The hundred brightest sources of the first image that
have no other within three beams are measured on both, at the same positions, before the correction for the primary
beam: point sources have the same flux whatever beam an engine restores with.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.imaging.image import ImagingResult
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ImagingOptions, PhotometryOptions
from dsa110_contimg.photometry.crossmatch import DetectedSources, find_sources, isolated
from dsa110_contimg.photometry.forced import Measurement, measure
from dsa110_contimg.pipeline.reference_sources import ISOLATION_BEAMS
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, Visibilities

BRIGHTEST = 100
DETECTION_SNR = 5.0


@dataclass(frozen=True)
class EngineFigures:
    """What one engine's images measure."""

    engine: str
    noise_jy: float
    """Robust scatter of the residual."""
    residual_rms_jy: float
    peak_jy: float
    beam: Beam
    iterations: int
    major_cycles: int


@dataclass(frozen=True)
class ComparedSource:
    """One source in both images, Jy before the correction for the primary beam."""

    ra_deg: float
    dec_deg: float
    first_jy: float
    second_jy: float
    error_jy: float
    """Noise of the first image at the source."""


@dataclass(frozen=True)
class Comparison:
    """Two engines on the same visibilities; ratios are second over first, None where nothing was compared."""

    first: EngineFigures
    second: EngineFigures
    sources: tuple[ComparedSource, ...]
    """The brightest isolated ones, brightest first."""

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Fluxes, second over first, (n_source,)."""
        return np.array([source.second_jy / source.first_jy for source in self.sources])

    def summary(self) -> dict[str, float | int | None]:
        """Return the ratios that tell whether the engines agree."""
        ratios = self.ratios
        known = ratios.size > 0
        return {
            "noise_ratio": self.second.noise_jy / self.first.noise_jy,
            "residual_rms_ratio": self.second.residual_rms_jy / self.first.residual_rms_jy,
            "peak_ratio": self.second.peak_jy / self.first.peak_jy,
            "beam_major_ratio": self.second.beam.major_arcsec / self.first.beam.major_arcsec,
            "beam_minor_ratio": self.second.beam.minor_arcsec / self.first.beam.minor_arcsec,
            "n_sources": ratios.size,
            "flux_ratio_median": float(np.median(ratios)) if known else None,
            "flux_ratio_scatter": float(1.4826 * np.median(np.abs(ratios - np.median(ratios)))) if known else None,
            "flux_ratio_farthest": float(ratios[np.argmax(np.abs(ratios - 1.0))]) if known else None,
            "n_within_1_percent": int(np.sum(np.abs(ratios - 1.0) <= 0.01)),
        }

    def to_dict(self) -> dict[str, object]:
        """Return plain values, ready for JSON."""
        return {**asdict(self), "summary": self.summary()}


def compare_engines(
    vis: Visibilities, first: ImagingResult, options: ImagingOptions, engine: str, *, bright: SkyModel | None = None
) -> Comparison:
    """Image visibilities once more with another engine and compare.

    Parameters
    ----------
    vis
        What `first` was made of.
    first
        Made with `options`.
    options
        Settings for both.
    engine
        Name of the other engine.
    bright
        Catalogue sources, as given for `first`.

    Raises
    ------
    ConfigurationError
        If there is no such engine, or it is not installed.
    ImagingError
        If it fails.
    """
    second = make_image(vis, replace(options, engine=engine), bright=bright)
    return Comparison(_figures(options.engine, first), _figures(engine, second), _compared(first.image, second.image))


def _figures(engine: str, made: ImagingResult) -> EngineFigures:
    summary = made.summary
    rms = float(np.nanstd(made.residual.data))
    return EngineFigures(
        engine, summary.noise_jy, rms, summary.peak_jy, summary.beam, summary.iterations, summary.major_cycles
    )


def _compared(first: SkyImage, second: SkyImage) -> tuple[ComparedSource, ...]:
    """Measure the brightest isolated sources of the first image on both."""
    found = _sky(find_sources(first, None, DETECTION_SNR))
    if len(found) == 0:
        return ()
    beam_arcsec = max(image.beam.major_arcsec for image in (first, second) if image.beam is not None)
    alone = isolated(found, ISOLATION_BEAMS * beam_arcsec / 3600.0) if len(found) > 1 else np.ones(1, bool)
    # All are measured, so that what neighbors put into each other's place is taken away; the isolated ones count.
    pairs = zip(*(measure(image, found, PhotometryOptions()) for image in (first, second)), strict=True)
    both = [
        ComparedSource(one.ra_deg, one.dec_deg, one.flux_jy, two.flux_jy, one.local_rms_jyb)
        for (one, two), keep in zip(pairs, alone, strict=True)
        if keep and isinstance(one, Measurement) and isinstance(two, Measurement)
    ]
    return tuple(sorted(both, key=lambda source: -source.first_jy)[:BRIGHTEST])


def _sky(found: DetectedSources) -> SkyModel:
    names = [f"source {number + 1}" for number in range(len(found))]
    return SkyModel(names, found.ra_deg, found.dec_deg, found.flux_jy, np.zeros((len(found), 1)))
