r"""Bright sources, predicted with the drifting beam and subtracted before imaging.

The sky moves through the primary beam during a tile, which modulates each source in time and channel; CLEAN's one
static model leaves 0.04 % of a source at the center and 0.5 % of one a degree off. A source of 0.3 Jy or more is
therefore described by visibilities, S(f) P(t, f) exp(iφ), and taken off exactly.

Fainter sources whose modulation would leave more than a tenth of the noise are taken off with the catalogue's fluxes
and restored with the same. What the catalogue has wrong, a few per cent of the flux or the dip of a source that varies,
stays in the residual and is cleaned: the image shows what the data say, less of it through CLEAN.

Only the spectrum and the first guess come from the catalogue: flux and position are fitted to the data, of all
bright sources at once, with the imaging weights. What the fit misses stays in the residual and is imaged. In the
restored image a bright source is a component of its flux times the mean beam, with the weights of the image. With two
terms, a spectral index is fitted too: S(f) = S (1 + δ ln f/f0), a source beside the source (Sault & Wieringa 1994).
"""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.imaging.field import longest_baseline_m
from dsa110_contimg.imaging.samples import Block, average, expected_noise, nearest_pointing, parts
from dsa110_contimg.imaging.smearing import AveragingLoss
from dsa110_contimg.kernels.predict import predict_evenly_spaced
from dsa110_contimg.kernels.source_fit import source_normal_equations
from dsa110_contimg.kernels.sphere import from_direction_cosines, separation
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.telescope import SPEED_OF_LIGHT
from dsa110_contimg.visibilities import (
    SkyModel,
    Visibilities,
    apparent_spectrum,
    beam_response,
    predict,
    sky_axes,
    sky_directions,
)

logger = logging.getLogger(__name__)

BRIGHT_APPARENT_JY = 0.3
MOST_SOURCES = 24
MODULATION_LEFT = 0.03
"""Largest residual beside a source over the rms of its modulation (0.008 at the center, 0.03 a degree off)."""
OF_THE_NOISE = 0.1
"""A full tile of 300 sources then has 0.238 mJy of noise; with 1 it has 0.273, without any source 0.226."""
MOST_KNOWN = 300
"""Each takes 0.036 s of the processor on a full tile, which had 260."""
FIT_ROUNDS = 3
BLEND_BEAMS = 1.5
LARGEST_SHIFT_BEAMS = 0.5
PLAUSIBLE_FACTOR = (0.1, 10.0)


@dataclass(frozen=True)
class BrightSources:
    """What was taken off the visibilities."""

    sky: SkyModel
    """With the fitted fluxes and positions."""
    factor: NDArray[np.float64]
    """(n_source,), fitted over catalogue flux."""
    shift_arcsec: NDArray[np.float64]
    """(n_source, 2), fitted less catalogue position, toward east and north."""
    apparent_jy: NDArray[np.float64]
    """(n_source,), flux as the image sees it: the mean over pointings and channels, less the loss by averaging."""
    index_change: NDArray[np.float64]
    """(n_source,), fitted less catalogue spectral index; zeros where it was not fitted."""


class KnownSources(NamedTuple):
    """Fainter sources that were taken off with the catalogue's fluxes."""

    sky: SkyModel
    amplitude: NDArray[np.float64]
    """(n_pointing, n_source, n_chan), S(f) P(t, f), Jy."""
    apparent_jy: NDArray[np.float64]
    """(n_source,), what the image shows of them before the beam correction."""


class TakenOff(NamedTuple):
    """What does not reach CLEAN, and is restored."""

    bright: BrightSources | None
    known: KnownSources | None

    def sources(self) -> list[tuple[SkyModel, NDArray[np.float64]]]:
        """Return the sources with the flux that is restored, by kind."""
        return [(one.sky, one.apparent_jy) for one in (self.bright, self.known) if one is not None]


NOTHING = TakenOff(None, None)


def select_bright(vis: Visibilities, sky: SkyModel, min_jy: float = BRIGHT_APPARENT_JY) -> SkyModel:
    """Return the sources whose mean flux through the beam reaches a limit, brightest first, blends joined.

    Parameters
    ----------
    vis
        Gives pointings, channels and the longest baseline.
    sky
        Catalogue sources around the field.
    min_jy
        Apparent flux density.
    """
    if len(sky) == 0:
        return sky
    candidates = sky.select(sky.flux_at(vis.freq_hz).max(axis=1) >= min_jy)
    if len(candidates) == 0:
        return candidates
    apparent = apparent_spectrum(vis, candidates).mean(axis=1)
    order = np.argsort(-apparent, kind="stable")
    candidates = candidates.select(order[apparent[order] >= min_jy])
    return candidates.select(np.array(_without_blends(candidates, resolution_rad(vis)), np.int64)[:MOST_SOURCES])


def resolution_rad(vis: Visibilities) -> float:
    """Return the resolution of the longest baseline, λ/b."""
    return float(SPEED_OF_LIGHT / np.mean(vis.freq_hz) / longest_baseline_m(vis))


def _without_blends(sky: SkyModel, resolution: float) -> list[int]:
    # Two components closer than this cannot be told apart by the fit: the brighter stands for both.
    ra, dec = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    kept: list[int] = []
    for i in range(len(sky)):
        if not kept or separation(ra[kept], dec[kept], ra[i], dec[i]).min() > BLEND_BEAMS * resolution:
            kept.append(i)
    return kept


class _State(NamedTuple):
    """What is fitted."""

    lm: NDArray[np.float64]
    factor: NDArray[np.float64]
    slope: NDArray[np.float64]
    """Of the factor with ln f."""


def fit_bright(
    vis: Visibilities,
    blocks: list[Block],
    sky: SkyModel,
    weight: NDArray[np.float64],
    options: ImagingOptions,
    loss: AveragingLoss,
) -> BrightSources | None:
    """Fit flux, position and perhaps spectral index of bright sources to weighted samples; None where none is left.

    Parameters
    ----------
    vis
        Gives phase center, pointings and channels.
    blocks
        Stokes I with imaging weights; not changed.
    sky
        Sources to fit.
    weight
        (n_pointing, n_chan), imaging weights, for the apparent flux.
    options
        Number of spectral terms, and whether the correlator's averaging counts.
    loss
        By averaging.
    """
    while len(sky):
        fitted = _fit(vis, blocks, sky, options)
        limit = np.degrees(LARGEST_SHIFT_BEAMS * resolution_rad(vis)) * 3600.0
        factor, shift = fitted.factor, fitted.shift_arcsec
        sane = (factor > PLAUSIBLE_FACTOR[0]) & (factor < PLAUSIBLE_FACTOR[1]) & (np.hypot(*shift.T) < limit)
        if sane.all():
            left = loss.mean(sky_directions(vis, fitted.sky))
            return replace(fitted, apparent_jy=mean_seen(seen_through_beam(vis, fitted.sky), weight) * left)
        for i in np.flatnonzero(~sane):
            logger.warning(
                "%s is not the catalogue's point source (flux %.2f times, %.1f arcsec off): it is left to CLEAN",
                sky.names[i], factor[i], float(np.hypot(*shift[i])),
            )  # fmt: skip
        sky = sky.select(sane)
    return None


def _fit(vis: Visibilities, blocks: list[Block], sky: SkyModel, options: ImagingOptions) -> BrightSources:
    center = np.radians(vis.phase_center)
    first = sky_directions(vis, sky)[:, :2]
    state = _State(first.copy(), np.ones(len(sky)), np.zeros(len(sky)))
    for _ in range(FIT_ROUNDS):
        state = _one_round(vis, blocks, sky, state, options)
    ra, dec = from_direction_cosines(*(state.lm.T * vis.aberration), *center)
    change = state.slope / state.factor
    spectrum = sky.spectrum.copy() if sky.spectrum.shape[1] else np.zeros((len(sky), 1))
    spectrum[:, 0] += change
    flux = sky.flux_jy * state.factor * (sky.ref_freq_hz / float(vis.freq_hz.mean())) ** change
    fitted = replace(sky, ra_deg=np.degrees(ra), dec_deg=np.degrees(dec), flux_jy=flux, spectrum=spectrum)
    shift = np.degrees(state.lm - first) * 3600.0 * vis.aberration
    return BrightSources(fitted, state.factor, shift, np.full(len(sky), np.nan), change)


def _one_round(vis: Visibilities, blocks: list[Block], sky: SkyModel, state: _State, options: ImagingOptions) -> _State:
    n, two = len(sky), options.spectral_terms > 1
    lmn = np.column_stack([state.lm, np.sqrt(1.0 - np.sum(state.lm**2, axis=1))])
    axes, factor = sky_axes(vis, sky, smeared=options.smearing), state.factor
    amplitude = seen_through_beam(vis, sky)
    if two:
        # The second term is a source at the same place, of the first one's amplitude times ln f/f0.
        lmn, axes = np.concatenate([lmn, lmn]), np.concatenate([axes, axes])
        factor = np.concatenate([factor, state.slope])
        amplitude = np.concatenate([amplitude, amplitude * np.log(vis.freq_hz / vis.freq_hz.mean())], axis=1)
    matrix, vector = _normal_equations(vis, blocks, (lmn, axes), amplitude, factor)
    if two:
        # Both terms share a position: that of the second moves with the first.
        pairs = np.eye(matrix.shape[0]).reshape(-1, 2 * n, 3)
        pairs[:, :n, 1:] += pairs[:, n:, 1:]
        keep = np.concatenate([pairs[:, :n].reshape(-1, 3 * n), pairs[:, n:, 0]], axis=1)
        matrix, vector = keep.T @ matrix @ keep, keep.T @ vector
    scale = np.sqrt(np.diag(matrix))
    scale[scale == 0.0] = 1.0
    # Columns of very different size (a flux, an angle): scaled, the matrix is well conditioned.
    solution = np.linalg.lstsq(matrix / np.outer(scale, scale), vector / scale, rcond=1e-10)[0] / scale
    step = solution[: 3 * n].reshape(-1, 3)
    return _State(state.lm + step[:, 1:], state.factor + step[:, 0], state.slope + (solution[3 * n :] if two else 0.0))


def _normal_equations(
    vis: Visibilities,
    blocks: list[Block],
    sources: tuple[NDArray[np.float64], NDArray[np.float64]],
    amplitude: NDArray[np.float64],
    factor: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    time_index, n_column = nearest_pointing(vis), 3 * factor.size
    matrix, vector = np.zeros((n_column, n_column)), np.zeros(n_column)
    spacing = float(vis.freq_hz[1] - vis.freq_hz[0]) if vis.freq_hz.size > 1 else 0.0
    for block in blocks:
        joined = amplitude.reshape(*amplitude.shape[:2], -1, block.n_average).mean(axis=3)
        part = source_normal_equations(
            (block.vis, block.weights), block.uvw_m, time_index[block.rows],
            (block.freq_hz, block.n_average, spacing), sources, joined, factor,
        )  # fmt: skip
        matrix += part[0]
        vector += part[1]
    return matrix, vector


def select_modulated(vis: Visibilities, sky: SkyModel, noise_jy: float) -> SkyModel:
    """Return the sources whose modulation by the drifting beam CLEAN should not meet, strongest first.

    Parameters
    ----------
    vis
        Gives pointings and channels.
    sky
        Catalogue sources, without those that were fitted.
    noise_jy
        Expected noise of the image.
    """
    if len(sky) == 0:
        return sky
    least = OF_THE_NOISE * noise_jy
    sky = sky.select(MODULATION_LEFT * sky.flux_at(vis.freq_hz).max(axis=1) > least)
    coarse = replace(vis, freq_hz=vis.freq_hz[:: max(1, vis.freq_hz.size // 16)])
    seen = seen_through_beam(coarse, sky)
    left = MODULATION_LEFT * seen.std(axis=(0, 2))
    order = np.argsort(-left, kind="stable")
    return sky.select(order[left[order] > least][:MOST_KNOWN])


def listed_sources(vis: Visibilities, sky: SkyModel, weight: NDArray[np.float64], loss: AveragingLoss) -> KnownSources:
    """Return sources as the catalogue has them; `weight` (n_pointing, n_chan) makes the mean of the image."""
    seen = seen_through_beam(vis, sky)
    return KnownSources(sky, seen, mean_seen(seen, weight) * loss.mean(sky_directions(vis, sky)))


def take_off_known(vis: Visibilities, blocks: list[Block], known: KnownSources, options: ImagingOptions) -> None:
    """Take known sources off the blocks, in place.

    Parameters
    ----------
    vis
        Gives phase center, pointings and channels.
    blocks
        Stokes I of evenly spaced channels.
    known
        The sources.
    options
        Whether the correlator's averaging counts.
    """
    sky, seen = known.sky, known.amplitude
    lmn, axes = sky_directions(vis, sky), sky_axes(vis, sky, smeared=options.smearing)
    time_index = nearest_pointing(vis)
    for block in blocks:
        joined = seen.reshape(*seen.shape[:2], -1, block.n_average).mean(axis=3)
        amplitude, step = joined.astype(np.float32), float(np.diff(block.freq_hz[:2]).sum())
        for rows in parts(block.rows.size):
            block.vis[rows] -= predict_evenly_spaced(
                block.uvw_m[rows], time_index[block.rows[rows]], block.freq_hz[0], step, lmn, amplitude, axes
            )


def without(vis: Visibilities, taken: TakenOff, options: ImagingOptions) -> NDArray[np.complex64]:
    """Return visibilities, every channel and hand of them, less what does not reach CLEAN.

    Parameters
    ----------
    vis
        Of evenly spaced channels; not changed.
    taken
        Bright and known sources.
    options
        Whether the correlator's averaging counts.
    """
    left = vis.vis.copy()
    every = Block(np.arange(len(left)), 1, vis.uvw_m, vis.freq_hz, left[:0, :, 0], np.empty((0, 0), np.float32))
    for rows in parts(len(left)):
        part = replace(every, rows=every.rows[rows], uvw_m=vis.uvw_m[rows], vis=np.zeros_like(left[rows, :, 0]))
        if taken.bright is not None:
            seen = replace(vis, uvw_m=vis.uvw_m[rows], time_mjd=vis.time_mjd[rows])
            part.vis -= predict(seen, taken.bright.sky, smeared=options.smearing)
        if taken.known is not None:
            take_off_known(vis, [part], taken.known, options)
        left[rows] += part.vis[:, :, None]
    return left


def seen_through_beam(vis: Visibilities, sky: SkyModel) -> NDArray[np.float64]:
    """Return S(f) P(t, f) of sources, (n_pointing, n_source, n_chan), Jy."""
    return np.asarray(beam_response(vis, sky.ra_deg, sky.dec_deg) * sky.flux_at(vis.freq_hz))


def mean_seen(seen: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each source's flux before the beam correction: the weighted mean over pointings and channels."""
    return np.asarray(np.einsum("tsf,tf->s", seen, weight) / weight.sum())


def take_off(
    vis: Visibilities,
    blocks: list[Block],
    sky: SkyModel | None,
    weight: NDArray[np.float64],
    loss: AveragingLoss,
    options: ImagingOptions,
) -> TakenOff:
    """Fit bright sources and take them off the blocks, in place; fainter ones as the catalogue has them.

    Parameters
    ----------
    vis
        What the blocks are averages of.
    blocks
        Stokes I with imaging weights.
    sky
        Catalogue sources around the field.
    weight
        (n_pointing, n_chan), imaging weights.
    loss
        By averaging.
    options
        Whether anything is taken off, spectral terms, smearing.
    """
    if sky is None or not options.subtract_bright or vis.pointing_mjd.size == 0 or not even_channels(vis):
        return NOTHING
    chosen = select_bright(vis, sky)
    fitted = fit_bright(vis, blocks, chosen, weight, options, loss)
    if fitted is not None:
        for block, left in zip(blocks, average(vis, fitted.sky, smeared=options.smearing), strict=True):
            block.vis = left.vis
        logger.info("subtracted %d bright sources: %s", len(fitted.sky), ", ".join(fitted.sky.names))
    done = set() if fitted is None else set(fitted.sky.names)
    rest = sky.select(np.array([name not in done for name in sky.names], bool))
    modulated = select_modulated(vis, rest, expected_noise(blocks))
    if len(modulated) == 0:
        return TakenOff(fitted, None)
    known = listed_sources(vis, modulated, weight, loss)
    take_off_known(vis, blocks, known, options)
    logger.info("subtracted %d fainter sources as the catalog has them", len(modulated))
    return TakenOff(fitted, known)


def even_channels(vis: Visibilities) -> bool:
    """Return whether channels are evenly spaced, as prediction wants them."""
    return bool(np.allclose(np.diff(vis.freq_hz), vis.channel_width_hz))
