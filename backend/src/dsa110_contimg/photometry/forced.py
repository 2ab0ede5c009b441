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

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dsa110_contimg.kernels import fluxes
from dsa110_contimg.kernels import noise as noise_kernels
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

NOISE_ANNULUS_BEAMS = (2.0, 8.0)
CONFUSED_BEAMS = 1.5
NEAR_BRIGHT_BEAMS, NEAR_BRIGHT_RATIO = 10.0, 30.0
LOW_BEAM_RESPONSE = 0.2
OFFSET_SNR = 10.0
"""Positions are fitted from this signal-to-noise ratio up."""


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


@dataclass(frozen=True)
class Measurement:
    """One flux of one source in one image; fluxes in Jy, brightness in Jy/beam."""

    source_id: str
    ra_deg: float
    dec_deg: float
    nvss_flux_mjy: float | None
    peak_jyb: float
    """The image, interpolated at the position."""
    peak_err_jyb: float
    snr: float | None
    """On the flat-noise image; None where the image has no noise."""
    flux_jy: float
    flux_err_jy: float
    local_rms_jyb: float
    background_jyb: float
    upper_limit_jyb: float | None
    pb_response: float | None
    offset_ra_arcsec: float | None
    """Fitted minus catalogue position, on the sky, east positive."""
    offset_dec_arcsec: float | None
    sep_from_center_deg: float
    flags: PhotometryFlag


@dataclass(frozen=True)
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
    result: list[Measurement | Missing] = [
        Missing(name, why or "") for name, why in zip(sources.names, reasons, strict=True)
    ]
    if index.size:
        located = _Located(sources.select(index), x[index], y[index], plane.response_at(x[index], y[index]))
        for position, row in zip(index, _measure_located(plane, located, options), strict=True):
            whole = np.isfinite([row.peak_jyb, row.flux_jy, row.flux_err_jy]).all()
            result[position] = row if whole else Missing(row.source_id, "no finite flux: is the beam sampled?")
    return result


def _unmeasurable(plane: DetectionPlane, x: FloatArray, y: FloatArray) -> list[str | None]:
    """Return why each position cannot be measured, or None."""
    ny, nx = plane.flat.shape
    reasons: list[str | None] = []
    response = plane.response_at(np.nan_to_num(x, nan=-9.0), np.nan_to_num(y, nan=-9.0))
    for column, row, gain in zip(x, y, response, strict=True):
        if not np.isfinite(column + row):
            reasons.append("behind the tangent plane of the image")
        elif not (-0.5 <= column < nx - 0.5 and -0.5 <= row < ny - 0.5):
            reasons.append("outside the image")
        elif not np.isfinite(plane.flat[int(np.rint(row)), int(np.rint(column))]):
            reasons.append("blank pixel at the position")
        else:
            reasons.append(None if np.isfinite(gain) else "no beam response at the position")
    return reasons


def _measure_located(plane: DetectionPlane, located: _Located, options: PhotometryOptions) -> list[Measurement]:
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
    flux, error, twin = blends.deblend(reading, rms, located.apparent, options.systematic)
    snr = np.where(error > 0.0, flux / np.where(error > 0.0, error, 1.0), np.nan)
    east, north = _offsets_arcsec(plane, located, background, np.where((snr >= OFFSET_SNR) & ~twin, flux, np.nan))
    flags = _flags(plane, located) | np.where(flux < 0.0, int(PhotometryFlag.NEGATIVE), 0)
    center = separation(*np.radians([located.sky.ra_deg, located.sky.dec_deg]), *np.radians(plane.image.middle))
    limit = (np.maximum(flux, 0.0) + options.limit_sigma * error) / located.response
    return [
        Measurement(
            source_id=name,
            ra_deg=float(located.sky.ra_deg[i]),
            dec_deg=float(located.sky.dec_deg[i]),
            nvss_flux_mjy=_number(1000.0 * located.sky.flux_jy[i]),
            peak_jyb=float((peak.value[i] + background[i]) / located.response[i]),
            peak_err_jyb=float(rms[i] * peak.factor[i] / located.response[i]),
            snr=_number(snr[i]),
            flux_jy=float(flux[i] / located.response[i]),
            flux_err_jy=float(error[i] / located.response[i]),
            local_rms_jyb=float(rms[i] / located.response[i]),
            background_jyb=float(background[i] / located.response[i]),
            upper_limit_jyb=float(limit[i]) if snr[i] < options.limit_sigma else None,
            pb_response=None if plane.relative or plane.response is None else float(located.response[i]),
            offset_ra_arcsec=_number(east[i]),
            offset_dec_arcsec=_number(north[i]),
            sep_from_center_deg=float(np.degrees(center[i])),
            flags=PhotometryFlag(int(flags[i])),
        )
        for i, name in enumerate(located.sky.names)
    ]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def local_statistics(
    plane: DetectionPlane, positions: tuple[FloatArray, FloatArray], apparent: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return background and rms around positions, (n,), and the noise autocorrelation, known sources masked."""
    usable = np.isfinite(plane.flat)
    sigma = plane.sigma()
    for x, y, brightness in zip(*positions, apparent, strict=True):
        if brightness > 3.0 * sigma:
            offsets = fluxes.stencil(plane.shape, max(0.5 * sigma / brightness, 1e-6))
            column, row = int(np.rint(x)) + offsets[:, 0], int(np.rint(y)) + offsets[:, 1]
            inside = (column >= 0) & (column < usable.shape[1]) & (row >= 0) & (row < usable.shape[0])
            usable[row[inside], column[inside]] = False
    radii = (NOISE_ANNULUS_BEAMS[0] * plane.shape.major_px, NOISE_ANNULUS_BEAMS[1] * plane.shape.major_px)
    background, rms = noise_kernels.local_noise(plane.flat, usable, *positions, radii)
    # An image smaller than the annulus still has a noise: that of the whole of it.
    background, rms = np.nan_to_num(background), np.where(np.isfinite(rms), rms, sigma)
    reach = int(np.ceil(2.0 * plane.shape.major_px)) + 6
    return background, rms, noise_kernels.noise_autocorrelation(plane.flat, usable, reach)


def _offsets_arcsec(
    plane: DetectionPlane, located: _Located, background: FloatArray, flux: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return fitted minus catalogue positions (east, north), NaN for sources whose flux is given as NaN."""
    east, north = np.full(flux.size, np.nan), np.full(flux.size, np.nan)
    bright = np.flatnonzero(np.isfinite(flux))
    if not bright.size:
        return east, north
    x, y = located.x[bright], located.y[bright]
    values, dx, dy = plane.sky_cutouts(x, y, fluxes.stencil(plane.shape, fluxes.OFFSET_LEVEL))
    values -= background[bright, None]
    reach = 2.5 * plane.shape.major_px
    tree = cKDTree(np.stack([x, y], axis=1))
    for first, second in tree.query_pairs(reach):
        for target, other in ((first, second), (second, first)):
            apart_x, apart_y = dx[target] + x[target] - x[other], dy[target] + y[target] - y[other]
            values[target] -= flux[bright[other]] * fluxes.beam_kernel(apart_x, apart_y, plane.shape)
    _height, shift_x, shift_y = fluxes.fit_offsets(values, dx, dy, plane.shape)
    ra, dec = to_sky(plane.image, x + shift_x, y + shift_y)
    sky = located.sky
    east[bright], north[bright] = tangent_offsets_arcsec(ra, dec, sky.ra_deg[bright], sky.dec_deg[bright])
    return east, north


def _flags(plane: DetectionPlane, located: _Located) -> NDArray[np.int64]:
    """Return the bits that follow from where a source lies."""
    flags = np.zeros(located.x.size, np.int64)
    angle = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)[:, None]
    around = [
        np.rint(center + plane.shape.major_px * shift).astype(np.int64)
        for center, shift in ((located.x, np.cos(angle)), (located.y, np.sin(angle)))
    ]
    ny, nx = plane.flat.shape
    inside = (around[0] >= 0) & (around[0] < nx) & (around[1] >= 0) & (around[1] < ny)
    there = np.isfinite(plane.flat[np.where(inside, around[1], 0), np.where(inside, around[0], 0)])
    flags[~np.all(inside & there, axis=0)] |= PhotometryFlag.EDGE
    flags[plane.beam_response_at(located.x, located.y) < LOW_BEAM_RESPONSE] |= PhotometryFlag.LOW_BEAM
    tree = cKDTree(np.stack([located.x, located.y], axis=1))
    apparent = located.apparent
    for first, second in tree.query_pairs(NEAR_BRIGHT_BEAMS * plane.shape.major_px):
        distance = np.hypot(located.x[first] - located.x[second], located.y[first] - located.y[second])
        if distance < CONFUSED_BEAMS * plane.shape.major_px:
            flags[[first, second]] |= PhotometryFlag.CONFUSED
        faint, bright = (first, second) if apparent[first] < apparent[second] else (second, first)
        if apparent[bright] > NEAR_BRIGHT_RATIO * apparent[faint]:
            flags[faint] |= PhotometryFlag.NEAR_BRIGHT
    return flags
