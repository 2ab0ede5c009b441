r"""Tiles into a mosaic.

Every tile D (even noise σ, mean primary beam P) is brought to one restoring beam and one grid, its noise is measured
there, and the tiles are averaged with the weights of their beams:

    I = Σ (P²/σ²) (D/P) / Σ (P²/σ²)        noise = κ / √(Σ P²/σ²)

The weights are not normalized, so that the noise map is the noise; κ is measured (`noise_map`). Dividing by a sloping
beam would move peaks by a tenth of a pixel; resampling makes that good (`kernels.resample`).

Tiles are read one at a time, in the order of their times: the result does not depend on the order in which they are
given, nor on the number of threads, nor on what was kept from an earlier mosaic (`tile_cache`).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import accumulate, finish
from dsa110_contimg.kernels.resample import Grid
from dsa110_contimg.mosaic.astrometry import TileOffset
from dsa110_contimg.mosaic.common_beam import carried, common_beam
from dsa110_contimg.mosaic.grid import Frame, choose_frame, corner_of, grid_around, window_of
from dsa110_contimg.mosaic.noise_map import apply_factors, measure_factors
from dsa110_contimg.mosaic.placing import Plan, noise_of, place, plan, with_beam
from dsa110_contimg.mosaic.tile_cache import TileCache
from dsa110_contimg.mosaic.tiles import TileSource
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel

logger = logging.getLogger(__name__)


class TileContribution(NamedTuple):
    """What one tile brought."""

    name: str
    group_id: str
    mid_mjd: float
    noise_jy: float
    """Measured after convolution and resampling."""
    convolved: bool
    """Whether its beam had to be enlarged."""
    offset: TileOffset | None
    """From the catalogue; None where there is none, or too few sources tell."""
    shifted: bool
    """Whether the offset was taken out."""
    reused: bool
    """Whether it was kept from an earlier mosaic."""


@dataclass(frozen=True)
class MosaicResult:
    """A mosaic, its noise, its weight and its coverage on one grid."""

    image: SkyImage
    """Beam-corrected sky, Jy/beam; NaN where no tile's beam reaches the limit."""
    noise: SkyImage
    """Standard deviation of `image`, Jy/beam."""
    weight: SkyImage
    """Σ P²/σ², 1/(Jy/beam)²."""
    coverage: SkyImage
    """Number of tiles in each pixel; zero where `image` is NaN."""
    tiles: tuple[TileContribution, ...]
    noise_factor: float
    """κ over the whole mosaic: measured scatter over 1/√(Σ P²/σ²)."""


class Target(NamedTuple):
    """What all tiles are brought to."""

    frame: Frame
    beam: Beam
    options: MosaicOptions


def build(
    tiles: Sequence[TileSource],
    options: MosaicOptions,
    name: str,
    *,
    catalog: SkyModel | None = None,
    cache: TileCache | None = None,
) -> MosaicResult:
    """Make a mosaic.

    Parameters
    ----------
    tiles
        In memory or on disk; two passes are made over them, with one in memory at a time.
    options
        Beam limits, and whether offsets from the catalogue are taken out.
    name
        The mosaic's name, written as OBJECT.
    catalog
        Reference positions; None leaves the tiles' offsets unmeasured.
    cache
        Where placed tiles are kept for the next mosaic; None keeps none.

    Raises
    ------
    MosaicError
        If there are fewer than two tiles, or one has no beam or no usable pixel.
    """
    if len(tiles) < 2:
        raise MosaicError(f"mosaic {name} has {len(tiles)} tiles; it needs two at least")
    plans = [plan(source, options, catalog, cache) for source in tiles]
    plans.sort(key=lambda planned: (planned.mid_mjd, planned.source.name))
    frame = choose_frame([planned.footprint for planned in plans])
    beam = common_beam([carried(planned.beam, planned.footprint.center, frame) for planned in plans])
    target = Target(frame, beam, options)
    grid = grid_around([window_of(planned.footprint, frame) for planned in plans])
    sums = np.zeros((4, grid.ny, grid.nx), np.float32)
    contributions = tuple(_add(planned, target, grid, cache, sums) for planned in plans)
    finish(sums, options.pb_limit)
    image, weight, noise, coverage = sums
    if not coverage.any():
        raise MosaicError(f"mosaic {name} has no pixel with a beam of {options.pb_limit:g} or more (pb_limit)")
    factors = measure_factors(image, noise, beam, frame.cell_deg)
    apply_factors(noise, factors)
    template = _template(plans, contributions, grid, target)
    template.field_name = name
    template.header["NOISEFAC"] = factors.overall
    median_noise = float(np.median(noise[np.isfinite(noise)]))
    return MosaicResult(
        image=_plane(template, image, "mosaic", "Jy/beam", median_noise),
        noise=_plane(template, noise, "noise", "Jy/beam", median_noise),
        weight=_plane(template, weight, "weight", "(Jy/beam)^-2", float("nan")),
        coverage=_plane(template, coverage, "coverage", "", float("nan")),
        tiles=contributions,
        noise_factor=factors.overall,
    )


def _add(
    planned: Plan, target: Target, grid: Grid, cache: TileCache | None, sums: NDArray[np.float32]
) -> TileContribution:
    """Add one tile to the sums, on the mosaic's frame and with its beam."""
    limit = target.options.tile_pb_limit
    placed, reused = place(planned, target.frame, target.options, cache)
    data, convolved = with_beam(placed, planned, target.frame, target.beam)
    sigma = noise_of(data, placed.response, limit, planned.source.name)
    accumulate(sums, data, placed.response, sigma, limit, corner_of(placed.first, grid))
    logger.info("added %s: noise %.3f mJy/beam", planned.source.name, 1e3 * sigma)
    return TileContribution(
        name=planned.source.name,
        group_id=planned.group_id,
        mid_mjd=planned.mid_mjd,
        noise_jy=sigma,
        convolved=convolved,
        offset=planned.offset,
        shifted=target.options.apply_astrometry and planned.offset is not None,
        reused=reused,
    )


def _template(plans: Sequence[Plan], contributions: Sequence[TileContribution], grid: Grid, target: Target) -> SkyImage:
    """Return what the planes have in common, without pixels."""
    summaries = [planned.summary for planned in plans]
    tables = {table for image in summaries for table in str(image.header.get("CALTABLES", "")).split(",") if table}
    header: dict[str, str | float | int] = {
        "NTILES": len(plans),
        "CALTABLES": ",".join(sorted(tables)),
        "PBLIMIT": target.options.pb_limit,
        "TILEPBL": target.options.tile_pb_limit,
        "WEIGHTS": "PB^2/sigma^2, not normalized",
        "NCONVOLV": sum(tile.convolved for tile in contributions),
        **_tile_cards(contributions),
    }
    return SkyImage(
        data=np.empty((0, 0), np.float32),
        center=target.frame.center,
        cell_deg=target.frame.cell_deg,
        beam=target.beam,
        freq_hz=float(np.mean([image.freq_hz for image in summaries])),
        bandwidth_hz=float(np.mean([image.bandwidth_hz for image in summaries])),
        start_mjd=min(image.start_mjd for image in summaries),
        end_mjd=max(image.end_mjd for image in summaries),
        exposure_s=float(np.sum([image.exposure_s for image in summaries])),
        header=header,
        reference_pixel=(grid.x_ref, grid.y_ref),
    )


def _tile_cards(contributions: Sequence[TileContribution]) -> dict[str, str | float | int]:
    """Return lists with one entry per tile, in order of time; what was not measured is "-"."""

    def listed(values: Sequence[float | None], digits: int) -> str:
        return ",".join("-" if value is None else f"{value:.{digits}g}" for value in values)

    offsets = [tile.offset for tile in contributions]
    return {
        "TILES": ",".join(tile.group_id for tile in contributions),
        "TILENOIS": listed([tile.noise_jy for tile in contributions], 5),
        "OFFEAST": listed([offset and offset.east_arcsec for offset in offsets], 4),
        "OFFEERR": listed([offset and offset.east_error_arcsec for offset in offsets], 3),
        "OFFNORTH": listed([offset and offset.north_arcsec for offset in offsets], 4),
        "OFFNERR": listed([offset and offset.north_error_arcsec for offset in offsets], 3),
        "OFFNSRC": listed([None if offset is None else float(offset.n_sources) for offset in offsets], 6),
        "NSHIFTED": sum(tile.shifted for tile in contributions),
    }


def _plane(template: SkyImage, data: NDArray[np.float32], kind: str, unit: str, noise_jy: float) -> SkyImage:
    return replace(template, data=data, kind=kind, unit=unit, noise_jy=noise_jy, header=dict(template.header))
