"""What came back of sources put into an image: each measured at its place, and a blind search of all of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.kernels import fluxes, match
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.photometry.crossmatch import DetectedSources, find_sources
from dsa110_contimg.photometry.forced import Measurement
from dsa110_contimg.photometry.planes import detection_plane, to_pixel
from dsa110_contimg.pipeline.reference_sources import footprint
from dsa110_contimg.qa.checks import DETECTION_SNR
from dsa110_contimg.qa.recovery import Detections, RecoveredSources, Recovery
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, SkyPosition

MATCH_BEAMS = 0.5
REAL_BEAMS = 1.0


@dataclass(frozen=True)
class SearchedImage:
    """A restored tile with its primary beam, or a mosaic with its noise map."""

    name: str
    image: SkyImage
    centers: Sequence[SkyPosition]
    """Of the tiles, for distances."""
    beam: SkyImage | None = None
    noise: SkyImage | None = None

    @property
    def restoring_beam(self) -> Beam:
        """The restoring beam; an image without one is an error."""
        if self.image.beam is None:
            raise ImagingError(f"{self.name} has no restoring beam: nothing can be measured on it")
        return self.image.beam

    def response(self, sky: SkyModel | DetectedSources) -> NDArray[np.float64]:
        """Return the primary beam at sources; of a mosaic its best noise over the local one."""
        plane = detection_plane(self.image, self.beam, self.noise)
        return plane.beam_response_at(*to_pixel(self.image, sky.ra_deg, sky.dec_deg))

    def distance_deg(self, sky: SkyModel | DetectedSources) -> NDArray[np.float64]:
        """Return the distance of each source from the nearest center."""
        ra, dec = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
        apart = [separation(ra, dec, *np.radians(center)) for center in self.centers]
        return np.asarray(np.degrees(np.min(apart, axis=0)))


def recover(where: SearchedImage, sky: SkyModel, known: SkyModel) -> Recovery:
    """Measure injected sources on an image, and search it blindly.

    Parameters
    ----------
    where
        The image.
    sky
        What was injected.
    known
        What was there before.
    """
    inside = sky.select(footprint(where.image, sky))
    rows = forced.measure(where.image, inside, PhotometryOptions(), beam=where.beam, noise=where.noise)
    there = inside.select(np.array([isinstance(row, Measurement) for row in rows], bool))
    detected = find_sources(where.image, where.noise, DETECTION_SNR, beam=where.beam)
    reach = float(np.radians(where.restoring_beam.major_arcsec / 3600.0))
    found, matched, _apart = match.mutual_nearest(*_radians(detected), *_radians(there), radius=MATCH_BEAMS * reach)
    real = np.isin(np.arange(len(detected)), found)
    for others in (sky, known):
        if len(others) and len(detected):
            real |= match.nearest(*_radians(detected), *_radians(others))[1] < REAL_BEAMS * reach
    measured = [row for row in rows if isinstance(row, Measurement)]
    recovered = _recovered(where, there, measured, np.isin(np.arange(len(there)), matched))
    found_at = Detections(detected.snr, where.distance_deg(detected), where.response(detected), real)
    return Recovery(recovered, found_at)


def _recovered(
    where: SearchedImage, there: SkyModel, measured: Sequence[Measurement], found: NDArray[np.bool_]
) -> RecoveredSources:
    beam = where.restoring_beam
    along_error, across_error = _offset_errors(where, there)
    east, north = _column(measured, "offset_ra_arcsec"), _column(measured, "offset_dec_arcsec")
    sine, cosine = np.sin(np.radians(beam.pa_deg)), np.cos(np.radians(beam.pa_deg))
    return RecoveredSources(
        image=where.name,
        true_jy=there.flux_at(np.array([where.image.freq_hz]))[:, 0],
        flux_jy=_column(measured, "flux_jy"),
        error_jy=_column(measured, "flux_err_jy"),
        noise_jy=_column(measured, "local_rms_jyb"),
        response=where.response(there),
        distance_deg=where.distance_deg(there),
        along_arcsec=east * sine + north * cosine,
        across_arcsec=east * cosine - north * sine,
        found=found,
        major_arcsec=beam.major_arcsec,
        minor_arcsec=beam.minor_arcsec,
        along_error_arcsec=along_error,
        across_error_arcsec=across_error,
    )


def _offset_errors(where: SearchedImage, there: SkyModel) -> tuple[float, float]:
    """Return what the noise of an image, as it is correlated, makes of positions at S/N 1: arcsec along both axes."""
    plane = detection_plane(where.image, where.beam, where.noise)
    x, y = to_pixel(where.image, there.ra_deg, there.dec_deg)
    apparent = there.flux_jy * plane.response_at(x, y)
    _background, _rms, correlation = forced.local_statistics(plane, (x, y), apparent)
    covariance = fluxes.offset_covariance(plane.shape, correlation)
    sine, cosine = np.sin(plane.shape.pa_rad), np.cos(plane.shape.pa_rad)
    axes = np.array([[-sine, cosine], [-cosine, -sine]])
    along, across = 3600.0 * where.image.cell_deg * np.sqrt(np.einsum("ai,ij,aj->a", axes, covariance, axes))
    return float(along), float(across)


def _column(rows: Sequence[Measurement], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if getattr(row, name) is None else getattr(row, name) for row in rows], float)


def _radians(sky: SkyModel | DetectedSources) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.radians(sky.ra_deg), np.radians(sky.dec_deg)
