r"""Tiles into a mosaic.

Every tile D (even noise σ, mean primary beam P) is brought to one restoring beam and one grid, its noise is measured
there, and the tiles are averaged with the weights of their beams:

    I = Σ (P²/σ²) (D/P) / Σ (P²/σ²)        noise = κ / √(Σ P²/σ²)

The weights are not normalized, so that the noise map is the noise. κ is measured: the scatter of I √(Σ P²/σ²),
sources left out, in blocks of half a degree. It is one where tiles have even and independent noise; sidelobes of
bright sources, which neighboring tiles share, make it larger.

Tiles are read one at a time, in the order of their times: the result does not depend on the order in which they are
given, nor on the number of threads.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import accumulate, finish, robust_scatter
from dsa110_contimg.kernels.resample import resample, resample_linear
from dsa110_contimg.mosaic.common_beam import beams_agree, common_beam, convolve_to
from dsa110_contimg.mosaic.grid import (
    Footprint,
    MosaicGrid,
    choose_grid,
    footprint,
    image_grid,
    rotation_to_tile,
    window_of,
)
from dsa110_contimg.mosaic.tiles import Tile, TileSource
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyImage

logger = logging.getLogger(__name__)

BLOCK_DEG = 0.5
BLOCK_BEAMS = 1000.0


class TileContribution(NamedTuple):
    """What one tile brought."""

    name: str
    group_id: str
    mid_mjd: float
    noise_jy: float
    """Measured after convolution and resampling."""
    convolved: bool
    """Whether its beam had to be enlarged."""


@dataclass(frozen=True)
class MosaicResult:
    """A mosaic, its noise and its weight on one grid."""

    image: SkyImage
    """Beam-corrected sky, Jy/beam; NaN where no tile's beam reaches the limit."""
    noise: SkyImage
    """Standard deviation of `image`, Jy/beam."""
    weight: SkyImage
    """Σ P²/σ², 1/(Jy/beam)²."""
    tiles: tuple[TileContribution, ...]
    noise_factor: float
    """κ over the whole mosaic: measured scatter over 1/√(Σ P²/σ²)."""


class _Plan(NamedTuple):
    """What is known of a tile before its pixels are used."""

    source: TileSource
    mid_mjd: float
    beam: Beam
    footprint: Footprint
    summary: SkyImage
    """The image's metadata; its pixels are dropped."""


def build(tiles: Sequence[TileSource], options: MosaicOptions, name: str) -> MosaicResult:
    """Make a mosaic.

    Parameters
    ----------
    tiles
        In memory or on disk; two passes are made over them, with one in memory at a time.
    options
        Beam limits.
    name
        The mosaic's name, written as OBJECT.

    Raises
    ------
    MosaicError
        If there are fewer than two tiles, or one has no beam or no usable pixel.
    """
    if len(tiles) < 2:
        raise MosaicError(f"mosaic {name} has {len(tiles)} tiles; it needs two at least")
    plans = sorted((_plan(source, options) for source in tiles), key=lambda plan: (plan.mid_mjd, plan.source.name))
    beam = common_beam([plan.beam for plan in plans])
    grid = choose_grid([plan.footprint for plan in plans])
    sums = np.zeros((3, grid.grid.ny, grid.grid.nx), np.float32)
    contributions = tuple(_add(plan, beam, grid, options, sums) for plan in plans)
    image, noise = finish(sums, options.pb_limit)
    if not np.isfinite(noise).any():
        raise MosaicError(f"mosaic {name} has no pixel with a beam of {options.pb_limit:g} or more (pb_limit)")
    factor = robust_scatter(image / noise)
    noise *= noise_factor_map(image / noise, block_pixels(beam, grid.cell_deg), factor)
    weight = np.where(np.isfinite(image), sums[1], np.float32(np.nan))
    template = _template(plans, contributions, grid, beam, options)
    template.field_name = name
    template.header["NOISEFAC"] = factor
    median_noise = float(np.nanmedian(noise))
    return MosaicResult(
        image=_plane(template, image, "mosaic", "Jy/beam", median_noise),
        noise=_plane(template, noise, "noise", "Jy/beam", median_noise),
        weight=_plane(template, weight, "weight", "(Jy/beam)^-2", float("nan")),
        tiles=contributions,
        noise_factor=factor,
    )


def block_pixels(beam: Beam, cell_deg: float) -> int:
    """Return the side of the blocks in which noise is measured: half a degree, or a thousand beams if larger."""
    beam_pixels = np.pi / (4.0 * np.log(2.0)) * beam.major_arcsec * beam.minor_arcsec / (3600.0 * cell_deg) ** 2
    return int(max(BLOCK_DEG / cell_deg, np.sqrt(BLOCK_BEAMS * beam_pixels)))


def noise_factor_map(pull: NDArray[np.float32], block: int, default: float) -> NDArray[np.float32]:
    """Return the local scatter of a map that should have scatter one, interpolated between blocks, (ny, nx).

    Parameters
    ----------
    pull
        (ny, nx), image over noise; NaN outside.
    block
        Side of a block in pixels.
    default
        For blocks that are less than a quarter full.
    """
    rows, columns = (_edges(length, block) for length in pull.shape)
    factors = np.full((rows.size - 1, columns.size - 1), default)
    for j in range(rows.size - 1):
        for i in range(columns.size - 1):
            part = pull[rows[j] : rows[j + 1], columns[i] : columns[i + 1]]
            if np.isfinite(part).mean() >= 0.25:
                factors[j, i] = robust_scatter(part)
    return _interpolation(rows) @ factors.astype(np.float32) @ _interpolation(columns).T


def _edges(length: int, block: int) -> NDArray[np.int64]:
    return np.linspace(0, length, max(1, round(length / block)) + 1).astype(np.int64)


def _interpolation(edges: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the weights with which block values make pixel values, linear between centers, (n_pixel, n_block)."""
    centers = 0.5 * (edges[:-1] + edges[1:] - 1)
    unit = np.eye(centers.size)
    pixels = np.arange(edges[-1])
    return np.stack([np.interp(pixels, centers, row) for row in unit], axis=1).astype(np.float32)


def _plan(source: TileSource, options: MosaicOptions) -> _Plan:
    tile = source.load()
    if tile.image.beam is None:
        raise MosaicError(f"{tile.name} has no restoring beam (BMAJ, BMIN, BPA): image the tile again")
    return _Plan(
        source,
        tile.mid_mjd,
        tile.image.beam,
        footprint(tile, options.tile_pb_limit),
        _plane(tile.image, np.empty((0, 0), np.float32), "image", tile.image.unit, tile.noise_jy),
    )


def _add(
    plan: _Plan, beam: Beam, mosaic: MosaicGrid, options: MosaicOptions, sums: NDArray[np.float32]
) -> TileContribution:
    """Bring one tile to the common beam and grid, measure its noise there, and add it to the sums."""
    tile = plan.source.load()
    data = tile.image.data
    convolved = not beams_agree(plan.beam, beam)
    if convolved:
        data = convolve_to(data, tile.image.cell_deg * 3600.0, plan.beam, beam)
    window, rotation = window_of(plan.footprint, mosaic), rotation_to_tile(plan.footprint, mosaic)
    grid = image_grid(tile.image)
    response = resample_linear(np.ascontiguousarray(tile.beam.data, np.float32), grid, rotation, window.grid)
    data = resample(data, grid, rotation, window.grid)
    sigma = _noise(tile, data, response, options.tile_pb_limit)
    accumulate(sums, data, response, sigma, options.tile_pb_limit, window.corner)
    logger.info("added %s: noise %.3f mJy/beam", tile.name, 1e3 * sigma)
    return TileContribution(tile.name, tile.group_id, tile.mid_mjd, sigma, convolved)


def _noise(tile: Tile, data: NDArray[np.float32], response: NDArray[np.float32], limit: float) -> float:
    sigma = robust_scatter(np.where(response >= limit, data, np.float32(np.nan)))
    if not sigma > 0.0:
        raise MosaicError(f"{tile.name} has no measurable noise: leave the tile out")
    return sigma


def _template(
    plans: Sequence[_Plan],
    contributions: Sequence[TileContribution],
    grid: MosaicGrid,
    beam: Beam,
    options: MosaicOptions,
) -> SkyImage:
    """Return what the three planes have in common, without pixels."""
    summaries = [plan.summary for plan in plans]
    tables = {table for image in summaries for table in str(image.header.get("CALTABLES", "")).split(",") if table}
    header: dict[str, str | float | int] = {
        "NTILES": len(plans),
        "CALTABLES": ",".join(sorted(tables)),
        "PBLIMIT": options.pb_limit,
        "TILEPBL": options.tile_pb_limit,
        "WEIGHTS": "PB^2/sigma^2, not normalized",
        "NCONVOLV": sum(tile.convolved for tile in contributions),
    }
    return SkyImage(
        data=np.empty((0, 0), np.float32),
        center=grid.center,
        cell_deg=grid.cell_deg,
        beam=beam,
        freq_hz=float(np.mean([image.freq_hz for image in summaries])),
        bandwidth_hz=float(np.mean([image.bandwidth_hz for image in summaries])),
        start_mjd=min(image.start_mjd for image in summaries),
        end_mjd=max(image.end_mjd for image in summaries),
        exposure_s=float(np.sum([image.exposure_s for image in summaries])),
        header=header,
        reference_pixel=(grid.grid.x_ref, grid.grid.y_ref),
    )


def _plane(template: SkyImage, data: NDArray[np.float32], kind: str, unit: str, noise_jy: float) -> SkyImage:
    return replace(template, data=data, kind=kind, unit=unit, noise_jy=noise_jy, header=dict(template.header))
