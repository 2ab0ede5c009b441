r"""From calibrated visibilities to images.

    bright sources fitted and subtracted → dirty and psf → CLEAN in major cycles → restored → divided by the beam

Images have flat noise: they show the sky times the primary beam, in Jy/beam. `pbcor` divides by the beam of the tile,
the mean over its pointings and channels, and is blank where that is below a limit.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError, ImagingError
from dsa110_contimg.imaging import wsclean
from dsa110_contimg.imaging.bright_sources import (
    NOTHING,
    BrightSources,
    TakenOff,
    even_channels,
    resolution_rad,
    take_off,
    without,
)
from dsa110_contimg.imaging.deconvolve import Deconvolution, deconvolve
from dsa110_contimg.imaging.field import Field, check_visibilities, choose_field
from dsa110_contimg.imaging.masks import catalog_mask
from dsa110_contimg.imaging.noise import NoiseMap, noise_map, robust_sigma
from dsa110_contimg.imaging.primary_beam import response_image, with_beam_file
from dsa110_contimg.imaging.restore import Components, fit_beam, restored
from dsa110_contimg.imaging.samples import Block, average, expected_noise, pointing_weights, weigh
from dsa110_contimg.imaging.scales import widths_in_pixels
from dsa110_contimg.imaging.smearing import AveragingLoss, separate
from dsa110_contimg.imaging.subbands import Cleaned, SubbandFluxes, measure_subbands
from dsa110_contimg.imaging.transform import Transform
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, SkyPosition, Visibilities

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86400.0
MUCH_NOISIER = 3.0
ENGINES = ("own", "wsclean")
Planes = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ImagingSummary:
    """What imaging measured."""

    noise_jy: float
    """Robust standard deviation of the residual."""
    peak_jy: float
    """Brightest pixel of the restored image, before the beam correction."""
    peak_position: SkyPosition
    dynamic_range: float
    """Peak over noise."""
    iterations: int
    major_cycles: int
    setbacks: int
    """Major cycles that diverged and were repeated with a lower gain."""
    reached_threshold: bool
    beam: Beam
    size: int
    cell_arcsec: float
    n_samples: int
    """Stokes I samples with a weight, after averaging."""
    bright: BrightSources | None
    """What was fitted, subtracted from the visibilities and restored."""
    subtracted: tuple[SkyModel, ...]
    """All that was: bright sources as fitted, fainter ones as the catalogue has them."""
    expected_noise_jy: float
    """What the visibilities' own scatter gives the image, calibration errors and unknown sources apart."""
    local: NoiseMap
    """Noise and background of the residual around each pixel."""


@dataclass(frozen=True)
class ImagingResult:
    """The images of one tile; dirty and psf are of the visibilities without the bright sources."""

    dirty: SkyImage
    psf: SkyImage
    model: SkyImage
    """CLEAN components, Jy/pixel; what was subtracted is in `summary.subtracted`."""
    residual: SkyImage
    image: SkyImage
    pbcor: SkyImage | None
    """None where the primary beam is not known."""
    beam: SkyImage | None
    summary: ImagingSummary
    subbands: SubbandFluxes | None = None
    """Fluxes of bright catalogue sources in parts of the band."""

    @property
    def rms(self) -> SkyImage:
        """The noise of the residual in boxes, before the beam correction: a pixel is a box."""
        return self._map("rms", self.summary.local.sigma)

    @property
    def background(self) -> SkyImage:
        """The median of the residual in boxes, before the beam correction: a pixel is a box."""
        return self._map("background", self.summary.local.background)

    def local_noise(self) -> SkyImage:
        """Return the noise around each pixel of the image, joined bilinearly between the boxes."""
        data = self.summary.local.image(self.summary.local.sigma)
        return replace(self.residual, data=data, kind="noise", header=dict(self.residual.header))

    def _map(self, kind: str, values: NDArray[np.float32]) -> SkyImage:
        size = self.summary.size
        box = size / len(values)
        center = (size // 2 + 0.5) / box - 0.5
        return replace(
            self.residual,
            data=values.copy(),
            kind=kind,
            cell_deg=self.residual.cell_deg * box,
            reference_pixel=(center, center),
            noise_jy=float("nan"),
            header=dict(self.residual.header),
        )


def image(vis: Visibilities, options: ImagingOptions, *, bright: SkyModel | None = None) -> ImagingResult:
    """Image the visibilities of one field.

    Parameters
    ----------
    vis
        Calibrated, in Jy.
    options
        Pixels, weights, CLEAN.
    bright
        Catalogue sources around the field: they are subtracted and restored, the bright ones with fluxes and positions
        fitted to the data. Ignored where the set has no pointings, as the beam is not known there.

    Raises
    ------
    ConfigurationError
        If the engine is not known, or not installed.
    ImagingError
        If nothing is left to image, or CLEAN diverges.
    """
    check_engine(options.engine)
    with _threads(options.threads):
        check_visibilities(vis)
        vis = with_beam_file(vis, options.beam_file)
        field = choose_field(vis, options)
        mask = catalog_mask(vis, field, bright, options)
        blocks = average(vis)
        weigh(blocks, field, options)
        weight = pointing_weights(vis, blocks)
        if not weight.sum() > 0.0:
            raise ImagingError("no visibility has a weight: all are flagged, or beyond the reach of the pixels")
        loss = AveragingLoss(vis, blocks, smeared=options.smearing)
        taken = take_off(vis, blocks, bright, weight, loss, options)
        components = _components(vis, field, taken)
        if options.engine == "wsclean":
            widths = _component_widths(vis, blocks, field, options)
            left = vis if taken == NOTHING else replace(vis, vis=without(vis, taken, options))
            planes, cleaned, beam = _by_wsclean(left, field, components, options, mask, widths)
        else:
            samples = Transform(blocks, field, options, separate(loss, field))
            planes, cleaned, beam = _by_ourselves(vis, samples, components, options, mask)
        response = response_image(vis, field, weight, loss, options.spectral_index)
        subbands = None
        if options.subbands and options.engine == "own" and bright is not None and even_channels(vis):
            noise = robust_sigma(planes["residual"])
            found = Cleaned(field, cleaned.model, noise, beam, weight, taken)
            subbands = measure_subbands(vis, blocks, found, bright, options)
    measured = _Measured(cleaned, beam, taken, response, weight, blocks, expected_noise(blocks), subbands)
    return _result(vis, options, field, planes, measured)


def check_engine(name: str) -> None:
    """Refuse an engine that is not known or not installed.

    Raises
    ------
    ConfigurationError
        With the way out.
    """
    if name not in ENGINES:
        raise ConfigurationError(f"there is no imaging engine {name!r}: choose {' or '.join(ENGINES)}")
    if name == "wsclean":
        wsclean.installed()


def _by_ourselves(
    vis: Visibilities,
    samples: Transform,
    components: Components,
    options: ImagingOptions,
    mask: NDArray[np.bool_] | None,
) -> tuple[Planes, Deconvolution, Beam]:
    psf, dirty = samples.psf(), samples.dirty()
    cell_arcsec = float(np.degrees(samples.field.cell_rad)) * 3600.0
    beam = _fitted_beam(vis, psf, cell_arcsec)
    brightest_jy = max(float(np.abs(dirty).max()), float(components.flux_jy.max(initial=0.0)))
    cleaned = deconvolve(samples, dirty, psf, beam.major_arcsec / cell_arcsec, brightest_jy, options, mask)
    sky = restored(cleaned.residual, cleaned.model, components, beam, cell_arcsec)
    planes = {"dirty": dirty, "psf": psf, "model": cleaned.model, "residual": cleaned.residual, "image": sky}
    return planes, cleaned, beam


def _fitted_beam(vis: Visibilities, psf: NDArray[np.float32], cell_arcsec: float) -> Beam:
    return fit_beam(psf, cell_arcsec, float(np.degrees(resolution_rad(vis))) * 3600.0)


def _component_widths(vis: Visibilities, blocks: list[Block], field: Field, options: ImagingOptions) -> list[float]:
    """Return the widths (pixels) of the components of a multi-scale CLEAN, which are given in beams."""
    if not options.scales:
        return []
    cell_arcsec = float(np.degrees(field.cell_rad)) * 3600.0
    beam = _fitted_beam(vis, Transform(blocks, field, options).psf(), cell_arcsec)
    return widths_in_pixels(options.scales, beam.major_arcsec / cell_arcsec, field.size)


def _by_wsclean(
    vis: Visibilities,
    field: Field,
    components: Components,
    options: ImagingOptions,
    mask: NDArray[np.bool_] | None,
    widths: Sequence[float],
) -> tuple[Planes, Deconvolution, Beam]:
    made = wsclean.clean(vis, field, options, mask, widths)
    cell_arcsec = float(np.degrees(field.cell_rad)) * 3600.0
    sky = restored(made.image, np.zeros_like(made.image), components, made.beam, cell_arcsec)
    cleaned = made.cleaned
    planes = {"dirty": made.dirty, "psf": made.psf, "model": cleaned.model, "residual": cleaned.residual, "image": sky}
    return planes, cleaned, made.beam


@dataclass(frozen=True)
class _Measured:
    cleaned: Deconvolution
    beam: Beam
    taken: TakenOff
    response: NDArray[np.float32] | None
    weight: NDArray[np.float64]
    blocks: list[Block]
    expected_jy: float
    subbands: SubbandFluxes | None


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before) if threads else before)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _components(vis: Visibilities, field: Field, taken: TakenOff) -> Components:
    """Return what is restored beside the components of CLEAN."""
    places, fluxes = [np.empty((0, 2))], [np.empty(0)]
    for sky, apparent_jy in taken.sources():
        center = np.radians(vis.phase_center)
        lmn = direction_cosines(np.radians(sky.ra_deg), np.radians(sky.dec_deg), *center)
        x = field.size // 2 - lmn[:, 0] / vis.aberration / field.cell_rad
        y = field.size // 2 + lmn[:, 1] / vis.aberration / field.cell_rad
        places.append(np.stack([y, x], axis=1))
        fluxes.append(apparent_jy)
    return Components(np.concatenate(places), np.concatenate(fluxes))


def _result(
    vis: Visibilities,
    options: ImagingOptions,
    field: Field,
    planes: Planes,
    measured: _Measured,
) -> ImagingResult:
    noise = robust_sigma(planes["residual"])
    _warn_of_noise(vis, noise, measured.expected_jy)
    template = _template(vis, options, field, measured, noise)
    images = {
        kind: replace(template, data=data, kind=kind, header=dict(template.header)) for kind, data in planes.items()
    }
    images["model"].unit, images["model"].beam = "Jy/pixel", None
    images["psf"].unit = ""
    response, corrected = None, None
    if measured.response is not None:
        response = replace(template, data=measured.response, kind="beam", unit="", beam=None, noise_jy=float("nan"))
        data = np.full_like(measured.response, np.nan)
        np.divide(planes["image"], measured.response, out=data, where=measured.response >= options.pb_limit)
        corrected = replace(template, data=data, kind="pbcor", header={**template.header, "PBLIMIT": options.pb_limit})
    summary = _summary(images["image"], measured, field, noise)
    return ImagingResult(**images, pbcor=corrected, beam=response, summary=summary, subbands=measured.subbands)


def _template(vis: Visibilities, options: ImagingOptions, field: Field, measured: _Measured, noise: float) -> SkyImage:
    band = measured.weight.sum(axis=0)
    times = vis.times_mjd
    half = 0.5 * vis.integration_s / SECONDS_PER_DAY
    cleaned = measured.cleaned
    header: dict[str, str | float | int] = {
        "ENGINE": options.engine,
        "WEIGHTING": options.weighting,
        "NITER": cleaned.iterations,
        "NMAJOR": cleaned.major_cycles,
        "NSUBTRAC": sum(len(sky) for sky, _ in measured.taken.sources()),
        "TELESCOP": vis.telescope,
    }
    if options.weighting == "briggs":
        header["ROBUST"] = options.robust
    return SkyImage(
        data=np.empty((0, 0), np.float32),
        center=vis.phase_center,
        cell_deg=float(np.degrees(field.cell_rad)) * vis.aberration,
        beam=measured.beam,
        freq_hz=float(np.sum(band * vis.freq_hz) / band.sum()),
        bandwidth_hz=float(vis.freq_hz.size * vis.channel_width_hz),
        start_mjd=float(times[0]) - half,
        end_mjd=float(times[-1]) + half,
        exposure_s=float(times.size * vis.integration_s),
        noise_jy=noise,
        field_name=vis.field_name,
        header=header,
    )


def _warn_of_noise(vis: Visibilities, noise_jy: float, expected_jy: float) -> None:
    """Say that something is in the image that neither its visibilities' scatter nor its sources explain."""
    if noise_jy > MUCH_NOISIER * expected_jy:
        logger.warning(
            "%s: noise of %.3g mJy where the visibilities scatter by %.3g mJy: errors of calibration, interference, "
            "or a bright source outside the image that the catalog does not have",
            vis.field_name or "the image", 1e3 * noise_jy, 1e3 * expected_jy,
        )  # fmt: skip


def _summary(sky: SkyImage, measured: _Measured, field: Field, noise: float) -> ImagingSummary:
    peak = int(np.nanargmax(sky.data))
    y, x = divmod(peak, field.size)
    peak_jy = float(sky.data[y, x])
    cleaned = measured.cleaned
    return ImagingSummary(
        noise_jy=noise,
        peak_jy=peak_jy,
        peak_position=pixel_position(sky, x, y),
        dynamic_range=peak_jy / noise if noise > 0.0 else float("inf"),
        iterations=cleaned.iterations,
        major_cycles=cleaned.major_cycles,
        setbacks=cleaned.setbacks,
        reached_threshold=cleaned.reached_threshold,
        beam=measured.beam,
        size=field.size,
        cell_arcsec=sky.cell_deg * 3600.0,
        n_samples=sum(int(np.count_nonzero(block.weights)) for block in measured.blocks),
        bright=measured.taken.bright,
        subtracted=tuple(sky for sky, _ in measured.taken.sources()),
        expected_noise_jy=measured.expected_jy,
        local=noise_map(measured.cleaned.residual, measured.beam.major_arcsec / (3600.0 * sky.cell_deg)),
    )


def pixel_position(sky: SkyImage, x: float, y: float) -> SkyPosition:
    """Return the ICRS position of a zero-based pixel."""
    x0, y0 = sky.center_pixel
    cell = np.radians(sky.cell_deg)
    ra, dec = from_direction_cosines(-(x - x0) * cell, (y - y0) * cell, *np.radians(sky.center))
    return SkyPosition(float(np.degrees(ra)), float(np.degrees(dec)))
