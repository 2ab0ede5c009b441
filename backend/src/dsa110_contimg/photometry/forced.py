r"""Forced photometry: the flux at every position that the catalogue knows, detected or not.

On the detection plane (`planes`), with the estimator that `kernels.fluxes` explains,

    flux = Σ w (flat − background)/response        σ = rms √(wᵀRw)/response        snr = flux/σ

Sources within each other's reach are solved together. A position below `limit_sigma` carries an upper limit,
max(flux, 0) + limit_sigma · σ, and keeps its measured flux, which may be negative. A position that cannot be measured
is `Missing`, with the reason. One entry per catalogue source comes back, in the catalogue's order.

`peak_jyb` is what the image shows at the position; `flux_jy` is the point-source flux: background taken off and
neighbors' shares taken away. Its error holds the noise and, for a blend, a fraction (the systematic of an
epoch) of what the neighbors put there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels import fluxes
from dsa110_contimg.kernels import noise as noise_kernels
from dsa110_contimg.kernels.close_sources import brightest_within, hide_sources, link, take_off_neighbors
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry import blends
from dsa110_contimg.photometry.planes import (
    DetectionPlane,
    detection_plane,
    tangent_offsets_arcsec,
    to_pixel,
    to_sky,
)
from dsa110_contimg.visibilities import SkyImage, SkyModel

FloatArray = NDArray[np.float64]

NOISE_BEAMS = 8.0
"""Noise and background are those of a disc of this radius."""
HIDDEN_SIGMA = 3.0
CONFUSED_BEAMS = 1.5
NEAR_BRIGHT_BEAMS, NEAR_BRIGHT_RATIO = 10.0, 30.0
LOW_BEAM_RESPONSE = 0.2
OFFSET_SNR = 10.0
"""Positions are fitted from this signal-to-noise ratio up."""
NEIGHBOR_LEVEL = 1e-4
AT_ONCE = 2000
"""Sources whose pixels stay in the cache."""
POSITION_FLOOR = 0.03 * 2.0 * np.sqrt(2.0 * np.log(2.0))
"""What calibration leaves of a position, over the error of a source of the noise's height: 3 % of the beam."""


class PhotometryFlag(IntFlag):
    """What to know about a measurement before using it."""

    EDGE = 1
    """Blank pixels or the border of the image lie within a beam of the source."""
    LOW_BEAM = 2
    """The primary beam (of a mosaic: the best noise over the local noise) is below 0.2."""
    CONFUSED = 4
    """Another catalogue source lies within 1.5 beams; the two were solved together."""
    NEGATIVE = 8
    """The measured flux is below zero."""
    NEAR_BRIGHT = 16
    """A source 30 times brighter lies within ten beams: its residual may be in the flux."""
    TWIN = 32
    """A brighter entry of the catalogue lies in the same place (0.9 of the beam): the flux is that of both."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One flux of one source in one image; fluxes in Jy, brightness in Jy/beam."""

    source_id: str
    ra_deg: float
    dec_deg: float
    nvss_flux_mjy: float | None
    peak_jyb: float
    """The image, interpolated at the position."""
    peak_err_jyb: float
    """Of the brightness as such: noise, and the floor of the flux scale."""
    snr: float | None
    """On the flat-noise image; None where the image has no noise."""
    flux_jy: float
    flux_err_jy: float
    """Against other fluxes of the image: noise and blends, without the flux scale that all of them share."""
    local_rms_jyb: float
    background_jyb: float
    upper_limit_jyb: float | None
    pb_response: float | None
    offset_ra_arcsec: float | None
    """Fitted minus catalogue position, on the sky, east positive."""
    offset_dec_arcsec: float | None
    offset_ra_err_arcsec: float | None
    offset_dec_err_arcsec: float | None
    """Condon's errors, with a floor of 3 % of the beam."""
    sep_from_center_deg: float
    flags: PhotometryFlag


@dataclass(frozen=True, slots=True)
class Missing:
    """A position that this image cannot measure, and why."""

    source_id: str
    reason: str


@dataclass(frozen=True)
class _Located:
    """Sources that lie on good pixels; arrays (n,)."""

    sky: SkyModel
    x: FloatArray
    y: FloatArray
    response: FloatArray

    @property
    def apparent(self) -> FloatArray:
        """Catalogue flux as the plane shows it; zero where the catalogue has none."""
        return np.asarray(np.nan_to_num(self.sky.flux_jy) * self.response)


def measure(
    image: SkyImage,
    sources: SkyModel,
    options: PhotometryOptions,
    *,
    beam: SkyImage | None = None,
    noise: SkyImage | None = None,
) -> list[Measurement | Missing]:
    """Measure every source of a list in one image.

    Parameters
    ----------
    image
        Restored image of a tile (`image` or `pbcor`, with `beam`) or a mosaic (with `noise`), in Jy/beam.
    sources
        Positions and catalogue fluxes; all are measured, so that the caller chooses.
    options
        Significance of a limit, and the systematic of an epoch.
    beam
        Drift-averaged primary beam on the image's pixels.
    noise
        Noise map on the image's pixels; wins over `beam`.

    Returns
    -------
    list
        One entry per source, in the order of `sources`.
    """
    if len(sources) == 0:
        return []
    plane = detection_plane(image, beam, noise)
    x, y = to_pixel(image, sources.ra_deg, sources.dec_deg)
    reasons = _unmeasurable(plane, x, y)
    index = np.flatnonzero([reason is None for reason in reasons])
    result: list[Measurement | Missing | None] = [
        None if why is None else Missing(name, why) for name, why in zip(sources.names, reasons, strict=True)
    ]
    if index.size:
        located = _Located(sources.select(index), x[index], y[index], plane.response_at(x[index], y[index]))
        for position, row in zip(index.tolist(), _measure_located(plane, located, options), strict=True):
            whole = isfinite(row.flux_jy + row.flux_err_jy + row.peak_jyb)
            result[position] = row if whole else Missing(row.source_id, "no finite flux: is the beam sampled?")
    return [entry for entry in result if entry is not None]


def _unmeasurable(plane: DetectionPlane, x: FloatArray, y: FloatArray) -> list[str | None]:
    """Return why each position cannot be measured, or None."""
    ny, nx = plane.flat.shape
    behind = ~np.isfinite(x + y)
    column, row = np.where(behind, -9.0, x), np.where(behind, -9.0, y)
    inside = (column >= -0.5) & (column < nx - 0.5) & (row >= -0.5) & (row < ny - 0.5)
    pixel = np.where(inside, np.rint(row), 0).astype(np.int64), np.where(inside, np.rint(column), 0).astype(np.int64)
    cases = {
        "behind the tangent plane of the image": behind,
        "outside the image": ~inside,
        "blank pixel at the position": ~np.isfinite(plane.flat[pixel]),
        "no beam response at the position": ~np.isfinite(plane.response_at(column, row)),
    }
    reasons: list[str | None] = [None] * x.size
    for reason, found in reversed(cases.items()):
        for place in np.flatnonzero(found).tolist():
            reasons[place] = reason
    return reasons


def _measure_located(plane: DetectionPlane, located: _Located, options: PhotometryOptions) -> Iterator[Measurement]:
    """Measure sources that all lie on good pixels; one row each."""
    positions = (located.x, located.y)
    background, rms, correlation = local_statistics(plane, positions, located.apparent)
    peak = blends.read(
        plane.flat, positions, background, fluxes.interpolated_peak(plane.shape), plane.shape, correlation
    )
    reading = peak
    if options.estimator == "matched":
        matched = fluxes.matched_filter(plane.shape)
        reading = blends.read(plane.flat, positions, background, matched, plane.shape, correlation)
    solved = blends.deblend(reading, rms, located.apparent, options.systematic)
    flux, error = solved.flux, solved.error
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(error > 0.0, flux / error, np.nan)
        limit = np.where(snr < options.limit_sigma, np.maximum(flux, 0.0) + options.limit_sigma * error, np.nan)
    offsets = _offsets_arcsec(plane, located, background, solved, snr)
    flags = _flags(plane, located, solved)
    center = separation(*np.radians([located.sky.ra_deg, located.sky.dec_deg]), *np.radians(plane.image.middle))
    shown = peak.value + background
    over = located.response
    columns = [
        located.sky.names,
        located.sky.ra_deg.tolist(),
        located.sky.dec_deg.tolist(),
        _numbers(1000.0 * located.sky.flux_jy),
        (shown / over).tolist(),
        (np.hypot(rms * peak.factor, options.systematic * shown) / over).tolist(),
        _numbers(snr),
        (flux / over).tolist(),
        (error / over).tolist(),
        (rms / over).tolist(),
        (background / over).tolist(),
        _numbers(limit / over),
        [None] * over.size if plane.relative or plane.response is None else over.tolist(),
        *(_numbers(offset) for offset in offsets),
        np.degrees(center).tolist(),
        _as_flags(flags),
    ]
    return (Measurement(*row) for row in zip(*columns, strict=True))


def _numbers(values: FloatArray) -> list[float | None]:
    """Return numbers, None for what is none."""
    return [value if finite else None for value, finite in zip(values.tolist(), np.isfinite(values), strict=True)]


def _as_flags(bits: NDArray[np.int64]) -> list[PhotometryFlag]:
    known = {value: PhotometryFlag(value) for value in np.unique(bits).tolist()}
    return [known[value] for value in bits.tolist()]


def local_statistics(
    plane: DetectionPlane, positions: tuple[FloatArray, FloatArray], apparent: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return background and rms around positions, (n,), and the noise autocorrelation, known sources masked."""
    usable = np.isfinite(plane.flat)
    sigma = plane.sigma()
    # A source is hidden down to half the noise; one below three times it stays, and is one of hundreds of beams.
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(apparent > HIDDEN_SIGMA * sigma, np.maximum(0.5 * sigma / apparent, 1e-6), 1.0)
    hide_sources(usable, positions, level, fluxes.quadratic_form(plane.shape))
    background, rms = noise_kernels.noise_around(plane.flat, usable, *positions, NOISE_BEAMS * plane.shape.major_px)
    # An image smaller than the disc still has a noise: that of the whole of it.
    background, rms = np.nan_to_num(background), np.where(np.isfinite(rms), rms, sigma)
    reach = int(np.ceil(2.0 * plane.shape.major_px)) + 6
    return background, rms, noise_kernels.noise_autocorrelation(plane.flat, usable, reach)


def _offsets_arcsec(
    plane: DetectionPlane, located: _Located, background: FloatArray, solved: blends.Solved, snr: FloatArray
) -> FloatArray:
    """Return how far bright sources lie east and north of the catalogue, and the errors of both, (4, n)."""
    found = np.full((4, located.x.size), np.nan)
    bright = np.flatnonzero((np.nan_to_num(snr) >= OFFSET_SNR) & ~solved.twin)
    if not bright.size:
        return found
    x, y = located.x[bright], located.y[bright]
    shift_x, shift_y = _fitted_shifts(plane, (x, y), background[bright], solved.flux[bright])
    ra, dec = to_sky(plane.image, x + shift_x, y + shift_y)
    sky, cell = located.sky, 3600.0 * plane.image.cell_deg
    found[:2, bright] = tangent_offsets_arcsec(ra, dec, sky.ra_deg[bright], sky.dec_deg[bright])
    floors = fluxes.position_errors(plane.shape, np.ones(1) / POSITION_FLOOR)
    errors = fluxes.position_errors(plane.shape, snr[bright])
    found[2:, bright] = [cell * np.hypot(error, floor) for error, floor in zip(errors, floors, strict=True)]
    found[2:, np.isnan(found[0])] = np.nan
    return found


def _fitted_shifts(
    plane: DetectionPlane, positions: tuple[FloatArray, FloatArray], background: FloatArray, flux: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return how far beams fitted to the pixels around positions lie from them without their neighbors, (n,) each."""
    (x, y), form = positions, fluxes.quadratic_form(plane.shape)
    offsets = fluxes.stencil(plane.shape, fluxes.OFFSET_LEVEL)
    near, shift = link(x, y, plane.shape, NEIGHBOR_LEVEL), np.empty((2, x.size))
    for start in range(0, x.size, AT_ONCE):
        part = slice(start, min(x.size, start + AT_ONCE))
        values, dx, dy = plane.sky_cutouts(x[part], y[part], offsets)
        values -= background[part, None]
        pixels, first = (dx + x[part, None], dy + y[part, None]), near.first[part.start : part.stop + 1]
        take_off_neighbors(values, pixels, positions, flux, (first, near.other), form)
        _height, *shift[:, part] = fluxes.fit_offsets(values, dx, dy, plane.shape)
    return shift[0], shift[1]


def _flags(plane: DetectionPlane, located: _Located, solved: blends.Solved) -> NDArray[np.int64]:
    """Return the bits of each source, (n,)."""
    angle = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)[:, None]
    around = [
        np.rint(center + plane.shape.major_px * shift).astype(np.int64)
        for center, shift in ((located.x, np.cos(angle)), (located.y, np.sin(angle)))
    ]
    ny, nx = plane.flat.shape
    inside = (around[0] >= 0) & (around[0] < nx) & (around[1] >= 0) & (around[1] < ny)
    there = np.isfinite(plane.flat[np.where(inside, around[1], 0), np.where(inside, around[0], 0)])
    apparent, width = located.apparent, plane.shape.major_px
    brightest = brightest_within(located.x, located.y, apparent, NEAR_BRIGHT_BEAMS * width)
    bits = {
        PhotometryFlag.EDGE: ~np.all(inside & there, axis=0),
        PhotometryFlag.LOW_BEAM: plane.beam_response_at(located.x, located.y) < LOW_BEAM_RESPONSE,
        PhotometryFlag.CONFUSED: brightest_within(located.x, located.y, apparent, CONFUSED_BEAMS * width) > -np.inf,
        PhotometryFlag.NEGATIVE: solved.flux < 0.0,
        PhotometryFlag.NEAR_BRIGHT: brightest > NEAR_BRIGHT_RATIO * apparent,
        PhotometryFlag.TWIN: solved.twin,
    }
    return np.asarray(np.sum([np.where(found, int(bit), 0) for bit, found in bits.items()], axis=0, dtype=np.int64))
