r"""What the image shows against what the catalogue knows: flux scale, astrometry, completeness, new sources.

Peaks of the detection plane above `detection_sigma` get a beam fitted to them, and are paired with catalogue sources
that are each other's nearest. A pair counts if its de Ruiter radius is below 5.68 with position errors of

    σ_axis = θ_axis/(2 √(2 ln 2) SNR)  (Condon 1997)      and a floor of 3 % of the beam (calibration)

and it is no farther than half a beam: radii follow the beam and the signal, since 10" fit no beam of 59" x 18".
Ratios and offsets are medians over isolated sources, with errors from the scatter (1.2533 · 1.4826 MAD/√n).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dsa110_contimg.kernels import fluxes, match
from dsa110_contimg.kernels.noise import robust_sigma
from dsa110_contimg.kernels.variability import MEDIAN_ERROR
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import local_statistics
from dsa110_contimg.photometry.planes import (
    DetectionPlane,
    detection_plane,
    tangent_offsets_arcsec,
    to_pixel,
    to_sky,
)
from dsa110_contimg.visibilities import SkyImage, SkyModel

FloatArray = NDArray[np.float64]

POSITION_FLOOR_BEAM = 0.03
MAX_SEPARATION_BEAM = 0.5
ISOLATION_BEAMS = 2.0
NEW_BEAMS = 1.0
"""A detection this far from every catalogue source is new: nearer ones may be a blend."""


@dataclass(frozen=True)
class DetectedSources:
    """Peaks of an image with a beam fitted to each; arrays (n,), brightest first."""

    ra_deg: FloatArray
    dec_deg: FloatArray
    flux_jy: FloatArray
    flux_err_jy: FloatArray
    snr: FloatArray

    def __len__(self) -> int:
        return self.ra_deg.size

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "DetectedSources":
        """Return the sources that a mask or index array picks."""
        return DetectedSources(
            self.ra_deg[keep], self.dec_deg[keep], self.flux_jy[keep], self.flux_err_jy[keep], self.snr[keep]
        )


@dataclass(frozen=True)
class Estimate:
    """A median over sources: value, its error, scatter of one source (1.4826 MAD), and how many."""

    value: float
    error: float
    scatter: float
    n: int


@dataclass(frozen=True)
class CrossmatchResult:
    """How an image compares with a catalogue; None is not measurable."""

    detected: DetectedSources
    catalogue_index: NDArray[np.int64]
    detected_index: NDArray[np.int64]
    """(n_pair,) each."""
    separation_arcsec: FloatArray
    flux_ratio: Estimate | None
    """Measured over catalogue flux, isolated pairs only."""
    offset_ra_arcsec: Estimate | None
    offset_dec_arcsec: Estimate | None
    """Measured minus catalogue, on the sky."""
    completeness: float | None
    """Fraction found of isolated catalogue sources that should show at twice the detection limit."""
    n_expected: int
    new: DetectedSources
    """Detections that no catalogue source explains."""


def isolated(sky: SkyModel, radius_deg: float) -> NDArray[np.bool_]:
    """Return the sources without a neighbor in the same list within a radius, (n_source,)."""
    apart = match.neighbor_separation(np.radians(sky.ra_deg), np.radians(sky.dec_deg))
    return np.asarray(apart > np.radians(radius_deg))


def find_sources(
    image: SkyImage, noise: SkyImage | None, threshold: float, *, beam: SkyImage | None = None
) -> DetectedSources:
    """Find point sources: peaks above a signal-to-noise ratio, with a beam fitted to each.

    Parameters
    ----------
    image
        Restored tile or mosaic, Jy/beam.
    noise, beam
        Noise map of a mosaic, or drift-averaged primary beam of a tile.
    threshold
        In units of the local noise.
    """
    return _find(detection_plane(image, beam, noise), threshold)


def _find(plane: DetectionPlane, threshold: float) -> DetectedSources:
    """Find peaks on the detection plane and fit a beam to each."""
    flat = np.where(np.isfinite(plane.flat), plane.flat, -np.inf)
    offsets = fluxes.stencil(plane.shape, 0.5)
    half = int(np.abs(offsets).max())
    footprint = np.zeros((2 * half + 1, 2 * half + 1), np.bool_)
    footprint[offsets[:, 1] + half, offsets[:, 0] + half] = True
    sigma = plane.sigma()
    peaks = (flat == maximum_filter(flat, footprint=footprint)) & (flat > 0.7 * threshold * sigma)
    y, x = (index.astype(np.float64) for index in np.nonzero(peaks))
    if not x.size:
        return DetectedSources(*(np.zeros(0) for _ in range(5)))
    background, rms, _correlation = local_statistics(plane, (x, y), flat[y.astype(int), x.astype(int)])
    values, dx, dy = plane.sky_cutouts(x, y, fluxes.stencil(plane.shape, fluxes.OFFSET_LEVEL))
    height, shift_x, shift_y = fluxes.fit_offsets(values - background[:, None], dx, dy, plane.shape)
    ra, dec = to_sky(plane.image, x + shift_x, y + shift_y)
    response = plane.response_at(x + shift_x, y + shift_y)
    snr = height / np.where(rms > 0.0, rms, np.nan)
    with np.errstate(invalid="ignore"):
        found = DetectedSources(ra, dec, height / response, rms / response, snr)
        kept = np.flatnonzero((snr > threshold) & np.isfinite(ra) & np.isfinite(response))
    return found.select(kept[np.argsort(-snr[kept], kind="stable")])


def crossmatch(
    image: SkyImage,
    sources: SkyModel,
    options: PhotometryOptions,
    *,
    beam: SkyImage | None = None,
    noise: SkyImage | None = None,
) -> CrossmatchResult:
    """Find the sources of an image and compare them with a catalogue."""
    plane = detection_plane(image, beam, noise)
    detected = _find(plane, options.detection_sigma)
    catalogue, found, apart = _pairs(plane, detected, sources)
    alone = isolated(sources, ISOLATION_BEAMS * plane.shape.major_px * image.cell_deg)
    good = alone[catalogue] & (sources.flux_jy[catalogue] > 0.0)
    ratio = detected.flux_jy[found[good]] / sources.flux_jy[catalogue[good]]
    east, north = tangent_offsets_arcsec(
        detected.ra_deg[found[good]],
        detected.dec_deg[found[good]],
        sources.ra_deg[catalogue[good]],
        sources.dec_deg[catalogue[good]],
    )
    expected = _expected(plane, sources, 2.0 * options.detection_sigma) & alone
    recovered = np.isin(np.flatnonzero(expected), catalogue)
    _nearest, distance = match.nearest(*_radians(detected), *_radians(sources))
    beam_rad = np.radians(plane.shape.major_px * image.cell_deg)
    unpaired = ~np.isin(np.arange(len(detected)), found)
    return CrossmatchResult(
        detected=detected,
        catalogue_index=catalogue,
        detected_index=found,
        separation_arcsec=3600.0 * np.degrees(apart),
        flux_ratio=estimate(ratio),
        offset_ra_arcsec=estimate(east),
        offset_dec_arcsec=estimate(north),
        completeness=float(recovered.mean()) if recovered.size else None,
        n_expected=int(expected.sum()),
        new=detected.select(np.flatnonzero(unpaired & (distance > NEW_BEAMS * beam_rad))),
    )


def _radians(sky: SkyModel | DetectedSources) -> tuple[FloatArray, FloatArray]:
    return np.radians(sky.ra_deg), np.radians(sky.dec_deg)


def _pairs(
    plane: DetectionPlane, detected: DetectedSources, sources: SkyModel
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Return indices of catalogue and detections that belong together, and their separations (rad)."""
    beam_rad = np.radians(plane.shape.major_px * plane.image.cell_deg)
    found, catalogue, apart = match.mutual_nearest(
        *_radians(detected), *_radians(sources), radius=MAX_SEPARATION_BEAM * beam_rad
    )
    east, north = tangent_offsets_arcsec(
        detected.ra_deg[found], detected.dec_deg[found], sources.ra_deg[catalogue], sources.dec_deg[catalogue]
    )
    # The beam as the ellipse of the position error: along and across it, in units of its widths.
    sine, cosine = np.sin(plane.shape.pa_rad), np.cos(plane.shape.pa_rad)
    axes = np.stack([east * sine + north * cosine, east * cosine - north * sine], axis=1)
    widths = 3600.0 * plane.image.cell_deg * np.array([plane.shape.major_px, plane.shape.minor_px])
    fitted = widths / (2.0 * np.sqrt(2.0 * np.log(2.0)) * detected.snr[found, None])
    radius = match.de_ruiter(axes, fitted, np.broadcast_to(POSITION_FLOOR_BEAM * widths, fitted.shape))
    kept = radius < match.DE_RUITER_LIMIT
    return catalogue[kept], found[kept], apart[kept]


def _expected(plane: DetectionPlane, sources: SkyModel, sigma: float) -> NDArray[np.bool_]:
    """Return the catalogue sources that the image should show at so many sigma."""
    x, y = to_pixel(plane.image, sources.ra_deg, sources.dec_deg)
    x, y = np.nan_to_num(x, nan=-9.0), np.nan_to_num(y, nan=-9.0)
    apparent = np.nan_to_num(sources.flux_jy * plane.response_at(x, y))
    there = np.isfinite(fluxes.bilinear(plane.flat, x, y)) & (apparent > 0.0)
    result = np.zeros(len(sources), np.bool_)
    if there.any():
        index = np.flatnonzero(there)
        _background, rms, _correlation = local_statistics(plane, (x[index], y[index]), apparent[index])
        result[index] = apparent[index] > sigma * rms
    return result


def estimate(values: FloatArray) -> Estimate | None:
    """Return the median of a sample with its error and scatter; None for an empty one."""
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    middle, scatter = robust_sigma(values)
    return Estimate(middle, MEDIAN_ERROR * scatter / float(np.sqrt(values.size)), scatter, values.size)
