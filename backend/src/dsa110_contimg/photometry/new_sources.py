"""Sources that no catalogue knows: what is left of an image when the known ones are taken away, searched blindly.

Every known source is taken away with the flux that it has in this image, so that one that brightened is not new. SEP
(Barbary 2016, JOSS 1, 58; the engine of SExtractor) finds islands on the detection plane, whose noise is even; the
pipeline's own photometry measures them.

Sidelobes of known sources are no discovery. Left out is what is fainter than 1 % of a source within ten beams; fainter
than 0.1 % of one exactly east, west, north or south, where the array's two arms put stripes that cross the image; and
fainter than half of a source within ten beams that lies beyond the image, where CLEAN could not take it away.
"""

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

from dsa110_contimg.kernels import match
from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.photometry.crossmatch import NEW_BEAMS
from dsa110_contimg.photometry.forced import NEAR_BRIGHT_BEAMS, Measurement, PhotometryFlag
from dsa110_contimg.photometry.planes import detection_plane, to_pixel, to_sky
from dsa110_contimg.visibilities import SkyImage, SkyModel

FloatArray = NDArray[np.float64]

REACH_BEAMS = 2.0
"""A beam is below 1e-4 of its peak at this many full widths from its center."""
SIDELOBE, STRIPE, UNCLEAN = 0.01, 0.001, 0.5
"""Largest sidelobes, relative to the source: near it, along the arms, and of one that was not cleaned."""
STRIPE_BEAMS = 1.0
LEAST_PIXELS = 3
DOUBTFUL = PhotometryFlag.EDGE | PhotometryFlag.LOW_BEAM


@dataclass(frozen=True)
class NewSource:
    """A detection that no catalogue explains."""

    ra_deg: float
    dec_deg: float
    flux_jy: float
    flux_err_jy: float
    snr: float


def with_sources(image: SkyImage, ra_deg: FloatArray, dec_deg: FloatArray, flux_jy: FloatArray) -> SkyImage:
    """Return a copy of an image with point sources of given fluxes added; negative ones are taken away."""
    plane = detection_plane(image)
    data = image.data.copy()
    x, y = to_pixel(image, ra_deg, dec_deg)
    for column, row, flux in zip(x, y, flux_jy, strict=True):
        if np.isfinite(column + row + flux):
            _add_beam(data, column, row, flux, plane.shape)
    return SkyImage(**{**vars(image), "data": data})


def _add_beam(data: NDArray[np.float32], column: float, row: float, flux: float, shape: BeamShape) -> None:
    reach = int(np.ceil(REACH_BEAMS * shape.major_px))
    x0, y0 = int(np.rint(column)), int(np.rint(row))
    rows = slice(max(0, y0 - reach), max(0, y0 + reach + 1))
    columns = slice(max(0, x0 - reach), max(0, x0 + reach + 1))
    patch = data[rows, columns]
    y, x = np.mgrid[rows.start : rows.start + patch.shape[0], columns.start : columns.start + patch.shape[1]]
    patch += (flux * beam_kernel(x - column, y - row, shape)).astype(np.float32)


def search_new(image: SkyImage, noise: SkyImage, known: SkyModel, options: PhotometryOptions) -> list[NewSource]:
    """Find the sources of a mosaic that a list of known ones does not explain, the most significant first.

    Parameters
    ----------
    image, noise
        Mosaic in Jy/beam, and its noise map.
    known
        Every source that any catalogue knows there, faint ones too.
    options
        `new_sigma` is the threshold.
    """
    measured = [row for row in forced.measure(image, known, options, noise=noise) if isinstance(row, Measurement)]
    places = np.array([(row.ra_deg, row.dec_deg, row.flux_jy) for row in measured]).reshape(-1, 3)
    # A twin's flux is that of both entries.
    kept = np.array([not row.flags & PhotometryFlag.TWIN for row in measured], bool)
    residual = with_sources(image, places[kept, 0], places[kept, 1], -places[kept, 2])
    ra, dec = _islands(residual, noise, options.new_sigma)
    fresh = _unexplained(ra, dec, known, image)
    names = [f"new {index}" for index in range(int(fresh.sum()))]
    found = SkyModel(names, ra[fresh], dec[fresh], np.full(len(names), np.nan), np.zeros((len(names), 1)))
    rows = [row for row in forced.measure(residual, found, options, noise=noise) if isinstance(row, Measurement)]
    strong = [row for row in rows if (row.snr or 0.0) >= options.new_sigma and not row.flags & DOUBTFUL]
    beyond = _beyond(known, {row.source_id for row in measured})
    strong = [row for row in strong if not _sidelobe(row, places, beyond, image)]
    return [_new(row) for row in sorted(strong, key=lambda row: -(row.snr or 0.0))]


def _islands(residual: SkyImage, noise: SkyImage, threshold: float) -> tuple[FloatArray, FloatArray]:
    """Return where SEP finds islands on the detection plane (ra_deg, dec_deg)."""
    plane = detection_plane(residual, None, noise)
    blank = ~np.isfinite(plane.flat)
    flat = np.ascontiguousarray(np.where(blank, 0.0, plane.flat), np.float32)
    objects = sep.extract(
        flat, 0.8 * threshold, err=float(plane.sigma()), mask=blank, minarea=LEAST_PIXELS, filter_kernel=None
    )
    ra, dec = to_sky(residual, objects["x"].astype(np.float64), objects["y"].astype(np.float64))
    return np.asarray(ra), np.asarray(dec)


def _unexplained(ra_deg: FloatArray, dec_deg: FloatArray, known: SkyModel, image: SkyImage) -> NDArray[np.bool_]:
    """Say which positions lie farther than a beam from every known source."""
    if not len(known) or not ra_deg.size or image.beam is None:
        return np.ones(ra_deg.size, bool)
    places = (*np.radians([ra_deg, dec_deg]), *np.radians([known.ra_deg, known.dec_deg]))
    _index, apart = match.nearest(*places)
    return np.asarray(apart > np.radians(NEW_BEAMS * image.beam.major_arcsec / 3600.0))


def _beyond(known: SkyModel, measured: set[str]) -> FloatArray:
    """Return the known sources that the image does not hold, (ra, dec, catalogue's flux in Jy), (n, 3)."""
    there = np.array([name not in measured for name in known.names], bool)
    return np.stack([known.ra_deg[there], known.dec_deg[there], known.flux_jy[there]], axis=1)


def _sidelobe(row: Measurement, places: FloatArray, beyond: FloatArray, image: SkyImage) -> bool:
    """Say whether a detection may be a sidelobe of a source in the image or beyond it (ra, dec, flux; (n, 3))."""
    beam = image.beam.major_arcsec / 3600.0 if image.beam is not None else 0.0
    east, north = _offsets(row, places)
    near = np.hypot(east, north) < NEAR_BRIGHT_BEAMS * beam
    along = np.minimum(np.abs(east), np.abs(north)) < STRIPE_BEAMS * beam
    largest = places[:, 2] * np.where(near, SIDELOBE, np.where(along, STRIPE, 0.0))
    unclean = np.hypot(*_offsets(row, beyond)) < NEAR_BRIGHT_BEAMS * beam
    return bool(np.any(row.flux_jy < largest) or np.any(unclean & (row.flux_jy < UNCLEAN * beyond[:, 2])))


def _offsets(row: Measurement, places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far east and north places lie of a detection, deg."""
    east = (places[:, 0] - row.ra_deg + 180.0) % 360.0 - 180.0
    return east * np.cos(np.radians(row.dec_deg)), places[:, 1] - row.dec_deg


def _new(row: Measurement) -> NewSource:
    dec = row.dec_deg + (row.offset_dec_arcsec or 0.0) / 3600.0
    east = (row.offset_ra_arcsec or 0.0) / 3600.0 / max(np.cos(np.radians(dec)), 1e-6)
    return NewSource((row.ra_deg + east) % 360.0, dec, row.flux_jy, row.flux_err_jy, row.snr or 0.0)
