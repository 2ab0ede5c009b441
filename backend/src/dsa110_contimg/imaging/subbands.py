r"""Fluxes of bright sources in parts of the band: what tells a plasma lens from an error of the gains.

CLEAN gives a source one apparent flux for the whole band; c is what the PSF of one part q of the band makes of its
components. What the visibilities of the part hold beside the model is imaged, weights and accuracy as for the whole,
and read at the sources alone:

    r_k = Σ_l PSF_q(x_k − x_l) δ_l        solved for all sources together, as sidelobes of one reach the others
    S_k(f_q) = (c_k + taken off before + δ_k)/P_q          P_q mean beam of the part, less the loss by averaging

"Taken off before" are the visibilities of known sources (`bright_sources`), averaged over the part. Sources that a
brighter neighbor within two beams blends with are left out: parts of the band resolve them differently. Errors are the
rms of the part's residual around the source.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dsa110_contimg.imaging.bright_sources import TakenOff, mean_seen, seen_through_beam
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.samples import Block
from dsa110_contimg.imaging.smearing import AveragingLoss, separate
from dsa110_contimg.imaging.transform import Transform
from dsa110_contimg.kernels.fluxes import BeamShape, cutouts, stencil
from dsa110_contimg.kernels.noise import local_noise
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import Beam, SkyModel, Visibilities, apparent_spectrum, beam_response, sky_directions

FloatArray = NDArray[np.float64]

FEWEST_SIGMA = 20.0
"""A source is measured in parts from this signal-to-noise ratio in the whole band up."""
MOST_SOURCES = 200
ALONE_BEAMS = 2.0
LOWEST_RESPONSE = 0.2
ANNULUS_BEAMS = (1.5, 8.0)
MODEL_LEVEL = 0.03
"""Components are a source's own where the beam about it is above this."""
TAPS = 3


@dataclass(frozen=True)
class SubbandFluxes:
    """Fluxes of some sources in parts of the band; arrays (n_source, n_part), NaN where a part has no data."""

    names: list[str]
    freq_hz: FloatArray
    """(n_part,), weighted means."""
    flux_jy: FloatArray
    flux_err_jy: FloatArray


@dataclass(frozen=True)
class Cleaned:
    """What imaging has found, and how."""

    field: Field
    model: NDArray[np.float32]
    """(size, size), Jy/pixel."""
    noise_jy: float
    beam: Beam
    weight: FloatArray
    """(n_pointing, n_chan), imaging weights."""
    taken: TakenOff


def measure_subbands(
    vis: Visibilities, blocks: list[Block], cleaned: Cleaned, catalog: SkyModel, options: ImagingOptions
) -> SubbandFluxes | None:
    """Measure the bright sources of an image in parts of the band; None where there are none.

    Parameters
    ----------
    vis
        Gives phase center, pointings and channels.
    blocks
        With imaging weights, without the bright sources, CLEAN's model still in them.
    cleaned
        The image that they gave.
    catalog
        Sources around the field; what is measured are the bright ones among them.
    options
        Number of parts, and how the parts are imaged.
    """
    sky = _choose(vis, cleaned, catalog)
    if not len(sky):
        return None
    places = _pixels(vis, cleaned.field, sky)
    shape = _beam_shape(vis, cleaned)
    flux, error, freq = [], [], []
    for chosen, part in _parts(blocks, vis.freq_hz.size, options.subbands):
        weight = cleaned.weight[:, chosen]
        freq.append(float(np.sum(weight * vis.freq_hz[chosen]) / weight.sum()) if weight.sum() > 0.0 else np.nan)
        if not sum(float(block.weights.sum(dtype=np.float64)) for block in part) > 0.0:
            flux.append(np.full(len(sky), np.nan))
            error.append(np.full(len(sky), np.nan))
            continue
        loss = AveragingLoss(vis, part, smeared=options.smearing)
        samples = Transform(part, cleaned.field, options, separate(loss, cleaned.field))
        cleaned_jy, beyond, rms = _read(samples, cleaned, places, shape)
        left = loss.mean(sky_directions(vis, sky))
        response = left * mean_seen(beam_response(vis, sky.ra_deg, sky.dec_deg)[:, :, chosen], weight)
        taken = left * _taken_off(vis, cleaned, sky, chosen)
        flux.append((cleaned_jy + taken + beyond) / response)
        error.append(rms / response)
    return SubbandFluxes(sky.names, np.array(freq), np.stack(flux, axis=1), np.stack(error, axis=1))


def _choose(vis: Visibilities, cleaned: Cleaned, catalog: SkyModel) -> SkyModel:
    """Return the sources to measure, where imaging found them."""
    if not len(catalog) or vis.pointing_mjd.size == 0:
        return catalog.select(np.zeros(0, np.int64))
    sky = catalog.select(catalog.flux_at(vis.freq_hz).max(axis=1) > FEWEST_SIGMA * cleaned.noise_jy)
    if cleaned.taken.bright is not None:
        sky = _with_fitted(sky, cleaned.taken.bright.sky)
    x, y = _pixels(vis, cleaned.field, sky)
    apparent = apparent_spectrum(vis, sky).mean(axis=1)
    response = beam_response(vis, sky.ra_deg, sky.dec_deg).mean(axis=(0, 2))
    margin = ALONE_BEAMS * _beam_shape(vis, cleaned).major_px
    inside = (np.minimum(x, y) > margin) & (np.maximum(x, y) < cleaned.field.size - margin)
    usable = inside & (response > LOWEST_RESPONSE) & (apparent > FEWEST_SIGMA * cleaned.noise_jy)
    if len(sky):
        for one, two in cKDTree(np.stack([x, y], axis=1)).query_pairs(margin):
            usable[one if apparent[one] < apparent[two] else two] = False
    order = np.argsort(-apparent, kind="stable")
    return sky.select(order[usable[order]][:MOST_SOURCES])


def _with_fitted(sky: SkyModel, fitted: SkyModel) -> SkyModel:
    """Return a list with the positions and spectra that were fitted to some of its sources."""
    known = {name: place for place, name in enumerate(fitted.names)}
    names = [name for name in sky.names if name not in known]
    rest = sky.select(np.array([name not in known for name in sky.names], bool))
    return SkyModel(
        names=[*fitted.names, *names],
        ra_deg=np.concatenate([fitted.ra_deg, rest.ra_deg]),
        dec_deg=np.concatenate([fitted.dec_deg, rest.dec_deg]),
        flux_jy=np.concatenate([fitted.flux_jy, rest.flux_jy]),
        spectrum=np.concatenate([fitted.spectrum, rest.spectrum]),
        ref_freq_hz=sky.ref_freq_hz,
    )


def _pixels(vis: Visibilities, field: Field, sky: SkyModel) -> tuple[FloatArray, FloatArray]:
    lmn = sky_directions(vis, sky)
    return field.size // 2 - lmn[:, 0] / field.cell_rad, field.size // 2 + lmn[:, 1] / field.cell_rad


def _beam_shape(vis: Visibilities, cleaned: Cleaned) -> BeamShape:
    cell_arcsec = 3600.0 * float(np.degrees(cleaned.field.cell_rad)) * vis.aberration
    beam = cleaned.beam
    return BeamShape(beam.major_arcsec / cell_arcsec, beam.minor_arcsec / cell_arcsec, float(np.radians(beam.pa_deg)))


def _parts(blocks: list[Block], n_chan: int, count: int) -> Iterator[tuple[slice, list[Block]]]:
    """Yield the channels of each part of the band, and the blocks of them."""
    coarsest = max(block.n_average for block in blocks)
    edges = np.rint(np.linspace(0, n_chan // coarsest, count + 1)).astype(int) * coarsest
    edges[-1] = n_chan
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = []
        for block in blocks:
            chosen = slice(low // block.n_average, high // block.n_average)
            vis, weights = np.ascontiguousarray(block.vis[:, chosen]), np.ascontiguousarray(block.weights[:, chosen])
            part.append(Block(block.rows, block.n_average, block.uvw_m, block.freq_hz[chosen], vis, weights))
        yield slice(low, high), part


def _read(
    samples: Transform, cleaned: Cleaned, places: tuple[FloatArray, FloatArray], shape: BeamShape
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return what each source has in CLEAN's model and beyond it, and the rms around it, in a part of the band (Jy)."""
    psf = samples.psf()
    pixels = np.argwhere(cleaned.model != 0.0).astype(np.int32)
    if len(pixels):
        samples.subtract(pixels, cleaned.model[pixels[:, 0], pixels[:, 1]].astype(np.float64))
    residual = samples.dirty()
    x, y = places
    middle = cleaned.field.size // 2
    apart = [(axis[:, None] - axis[None, :]).ravel() + middle for axis in (x, y)]
    mixing = interpolated(psf, *apart).reshape(x.size, x.size)
    model, dx, dy = cutouts(cleaned.model, x, y, stencil(shape, MODEL_LEVEL))
    near = interpolated(psf, middle - dx.ravel(), middle - dy.ravel()).reshape(dx.shape)
    cleaned_jy = np.sum(np.nan_to_num(model) * near, axis=1)
    beyond = np.asarray(np.linalg.solve(mixing, interpolated(residual, x, y)))
    radii = (ANNULUS_BEAMS[0] * shape.major_px, ANNULUS_BEAMS[1] * shape.major_px)
    _background, rms = local_noise(residual, np.isfinite(residual), x, y, radii)
    return np.asarray(cleaned_jy, np.float64), beyond, rms


def interpolated(plane: NDArray[np.float32], x: FloatArray, y: FloatArray) -> FloatArray:
    """Return values between the pixels of an image (Lanczos, three pixels to each side), (n,); zero outside of it."""
    taps = np.arange(1 - TAPS, TAPS + 1)
    weights, columns = [], []
    for place, length in ((x, plane.shape[1]), (y, plane.shape[0])):
        whole = np.floor(place).astype(np.int64)
        distance = taps - (place - whole)[:, None]
        weight = np.sinc(distance) * np.sinc(distance / TAPS)
        index = whole[:, None] + taps
        weight /= weight.sum(axis=1, keepdims=True)
        weights.append(np.where((index >= 0) & (index < length), weight, 0.0))
        columns.append(np.clip(index, 0, length - 1))
    values = plane[columns[1][:, :, None], columns[0][:, None, :]]
    return np.asarray(np.einsum("nyx,ny,nx->n", values, weights[1], weights[0]))


def _taken_off(vis: Visibilities, cleaned: Cleaned, sky: SkyModel, chosen: slice) -> FloatArray:
    """Return what was taken off the visibilities of each source before CLEAN, as a part of the band sees it."""
    taken = np.zeros(len(sky))
    for group, _apparent in cleaned.taken.sources():
        place = {name: i for i, name in enumerate(group.names)}
        here = [i for i, name in enumerate(sky.names) if name in place]
        some = group.select(np.array([place[sky.names[i]] for i in here], np.int64))
        taken[here] = mean_seen(seen_through_beam(vis, some)[:, :, chosen], cleaned.weight[:, chosen])
    return taken
