r"""Bright sources, predicted with the drifting beam and subtracted before imaging.

The sky moves through the primary beam during a tile, which modulates each source in time and channel; CLEAN's one
static model leaves 0.04 % of a source at the center and 0.5 % of one a degree off. A source of 0.3 Jy or more is
therefore described by visibilities, S(f) P(t, f) exp(iφ), and taken off exactly.

Only the spectrum and the first guess come from the catalogue: flux and position are fitted to the data, of all
bright sources at once, with the imaging weights. What the fit misses stays in the residual and is imaged. In the
restored image a bright source is a component of its flux times the mean beam, with the weights of the image.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.imaging.field import longest_baseline_m
from dsa110_contimg.imaging.samples import Block, nearest_pointing
from dsa110_contimg.kernels.source_fit import source_normal_equations
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines, separation
from dsa110_contimg.telescope import SPEED_OF_LIGHT
from dsa110_contimg.visibilities import SkyModel, Visibilities, apparent_spectrum, beam_response

logger = logging.getLogger(__name__)

BRIGHT_APPARENT_JY = 0.3
MOST_SOURCES = 24
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
    """(n_source,), flux as the image sees it: the mean over pointings and channels."""


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


def fit_bright(
    vis: Visibilities, blocks: list[Block], sky: SkyModel, weight: NDArray[np.float64]
) -> BrightSources | None:
    """Fit flux and position of bright sources to weighted samples; None where none is left.

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
    """
    while len(sky):
        fitted, factor, shift = _fit(vis, blocks, sky)
        limit = np.degrees(LARGEST_SHIFT_BEAMS * resolution_rad(vis)) * 3600.0
        sane = (factor > PLAUSIBLE_FACTOR[0]) & (factor < PLAUSIBLE_FACTOR[1]) & (np.hypot(*shift.T) < limit)
        if sane.all():
            return BrightSources(fitted, factor, shift, apparent_flux(vis, fitted, weight))
        for i in np.flatnonzero(~sane):
            logger.warning(
                "%s is not the catalogue's point source (flux %.2f times, %.1f arcsec off): it is left to CLEAN",
                sky.names[i], factor[i], float(np.hypot(*shift[i])),
            )  # fmt: skip
        sky = sky.select(sane)
    return None


def _fit(
    vis: Visibilities, blocks: list[Block], sky: SkyModel
) -> tuple[SkyModel, NDArray[np.float64], NDArray[np.float64]]:
    center = np.radians(vis.phase_center)
    first = direction_cosines(np.radians(sky.ra_deg), np.radians(sky.dec_deg), *center)[:, :2] / vis.aberration
    lm, factor = first.copy(), np.ones(len(sky))
    for _ in range(FIT_ROUNDS):
        step = _one_round(vis, blocks, sky, lm, factor)
        factor = factor + step[:, 0]
        lm = lm + step[:, 1:]
    ra, dec = from_direction_cosines(*(lm.T * vis.aberration), *center)
    fitted = replace(sky, ra_deg=np.degrees(ra), dec_deg=np.degrees(dec), flux_jy=sky.flux_jy * factor)
    return fitted, factor, np.degrees(lm - first) * 3600.0 * vis.aberration


def _one_round(
    vis: Visibilities, blocks: list[Block], sky: SkyModel, lm: NDArray[np.float64], factor: NDArray[np.float64]
) -> NDArray[np.float64]:
    lmn = np.column_stack([lm, np.sqrt(1.0 - np.sum(lm**2, axis=1))])
    time_index, n_column = nearest_pointing(vis), 3 * len(sky)
    matrix, vector = np.zeros((n_column, n_column)), np.zeros(n_column)
    spacing = float(vis.freq_hz[1] - vis.freq_hz[0]) if vis.freq_hz.size > 1 else 0.0
    axes = sky.taper_axes(vis.phase_center)
    amplitude = beam_response(vis, sky.ra_deg, sky.dec_deg) * sky.flux_at(vis.freq_hz)
    for block in blocks:
        joined = amplitude.reshape(*amplitude.shape[:2], -1, block.n_average).mean(axis=3)
        part = source_normal_equations(
            (block.vis, block.weights), block.uvw_m, time_index[block.rows],
            (block.freq_hz, block.n_average, spacing), (lmn, axes), joined, factor,
        )  # fmt: skip
        matrix += part[0]
        vector += part[1]
    scale = np.sqrt(np.diag(matrix))
    scale[scale == 0.0] = 1.0
    # Columns of very different size (a flux, an angle): scaled, the matrix is well conditioned.
    solution = np.linalg.lstsq(matrix / np.outer(scale, scale), vector / scale, rcond=1e-10)[0] / scale
    return np.asarray(solution.reshape(-1, 3))


def apparent_flux(vis: Visibilities, sky: SkyModel, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each source's flux before the beam correction: the weighted mean over pointings and channels."""
    seen = beam_response(vis, sky.ra_deg, sky.dec_deg) * sky.flux_at(vis.freq_hz)
    return np.asarray(np.einsum("tsf,tf->s", seen, weight) / weight.sum())
