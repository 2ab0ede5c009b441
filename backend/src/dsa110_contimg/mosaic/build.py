r"""Tiles into a mosaic.

Every tile D (even noise σ, mean primary beam P) is brought to one restoring beam and one grid, its noise is measured
there, and the tiles are averaged with the weights of their beams:

    I = Σ (P²/σ²) (D/P) / Σ (P²/σ²)        noise = κ / √(Σ P²/σ²)

The weights are not normalized, so that the noise map is the noise; κ is measured (`noise_map`). Dividing by a sloping
beam would move peaks by a tenth of a pixel; resampling makes that good (`kernels.resample`).

Each tile is read once, in the order of their times, and not at all if it was kept from an earlier mosaic
(`tile_cache`). The result depends neither on that, nor on the order in which they are given, nor on the number of
threads.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import accumulate, finish
from dsa110_contimg.kernels.resample import Grid, node_step
from dsa110_contimg.mosaic.astrometry import TileOffset
from dsa110_contimg.mosaic.common_beam import strip_beam
from dsa110_contimg.mosaic.grid import (
    Window,
    border,
    choose_frame,
    corner_of,
    grid_around,
    part_of,
    strip_reach,
    window_of,
)
from dsa110_contimg.mosaic.noise_map import apply_factors, measure_factors
from dsa110_contimg.mosaic.placing import Plan, Target, place, plan
from dsa110_contimg.mosaic.tile_cache import TileCache
from dsa110_contimg.mosaic.tiles import TileMetrics, TileSource, tile_metrics
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import SkyImage, SkyModel

logger = logging.getLogger(__name__)
NOISE_STEP = 5
"""The median of a noise map is that of every fifth pixel of every fifth line: it is smooth."""


class TileContribution(NamedTuple):
    """What one tile brought."""

    name: str
    group_id: str
    mid_mjd: float
    noise_jy: float
    """Measured after convolution and resampling."""
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
    measured: tuple[TileMetrics, ...]
    """What validation judges (`consistency.judge_tiles`)."""
    noise_factor: float
    """κ over the whole mosaic: measured scatter over 1/√(Σ P²/σ²)."""


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
        In memory or on disk; the pixels of one are in memory at a time.
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
    plans = sorted((plan(source, catalog) for source in tiles), key=lambda planned: planned.order)
    target = _target(plans, options)
    (image, weight, noise, coverage), grid, placed = _coadded(plans, target, cache)
    if not coverage.any():
        raise MosaicError(f"mosaic {name} has no pixel with a beam of {options.pb_limit:g} or more (pb_limit)")
    factors = measure_factors(image, noise, target.beam, target.frame.cell_deg)
    apply_factors(noise, factors)
    contributions = tuple(tile for tile, _, _ in placed)
    template = _template(plans, contributions, grid, target)
    template.field_name = name
    template.header["NOISEFAC"] = factors.overall
    some = noise[::NOISE_STEP, ::NOISE_STEP]
    median_noise = float(np.nanmedian(some if np.isfinite(some).any() else noise))
    return MosaicResult(
        image=_plane(template, image, "mosaic", "Jy/beam", median_noise),
        noise=_plane(template, noise, "noise", "Jy/beam", median_noise),
        weight=_plane(template, weight, "weight", "(Jy/beam)^-2", float("nan")),
        coverage=_plane(template, coverage, "coverage", "", float("nan")),
        tiles=contributions,
        measured=tuple(metrics for _, metrics, _ in placed),
        noise_factor=factors.overall,
    )


def _target(plans: Sequence[Plan], options: MosaicOptions) -> Target:
    """Choose frame and beam."""
    images = [planned.summary.image for planned in plans]
    frame = choose_frame(images)
    beams = [(planned.beam, planned.summary.image.center) for planned in plans]
    return Target(frame, strip_beam(beams, frame, strip_reach(images, frame, options.tiles)), options)


def _coadded(
    plans: Sequence[Plan], target: Target, cache: TileCache | None
) -> tuple[list[NDArray[np.float32]], Grid, list[tuple[TileContribution, TileMetrics, Window]]]:
    """Return image, weight, noise and coverage with their grid, and what each tile brought."""
    whole = grid_around([window_of(border(planned.summary.image), target.frame) for planned in plans])
    sums = np.zeros((4, whole.ny, whole.nx), np.float32)
    placed = [_add(planned, target, whole, cache, sums) for planned in plans]
    kept = sum(tile.reused for tile, _, _ in placed)
    logger.info("%d of %d tiles were kept from an earlier mosaic of this frame and beam", kept, len(placed))
    finish(sums, target.options.pb_limit)
    grid, part = part_of(whole, [window for _, _, window in placed])
    return [_trimmed(plane, part) for plane in sums], grid, placed


def _add(
    planned: Plan, target: Target, grid: Grid, cache: TileCache | None, sums: NDArray[np.float32]
) -> tuple[TileContribution, TileMetrics, Window]:
    """Add one tile to the sums, on the mosaic's frame and with its beam."""
    placed, reused = place(planned, target, cache)
    step, limit = node_step(grid.cell), target.options.tile_pb_limit
    corner = corner_of(placed.first, grid)
    accumulate(sums, placed.data, placed.response, step, placed.noise_jy, limit, corner)
    summary = planned.summary
    logger.info("%s %s: noise %.3f mJy/beam", "kept" if reused else "added", summary.name, 1e3 * placed.noise_jy)
    contribution = TileContribution(
        name=summary.name,
        group_id=summary.group_id,
        mid_mjd=summary.mid_mjd,
        noise_jy=placed.noise_jy,
        offset=placed.offset,
        shifted=target.options.apply_astrometry and placed.offset is not None,
        reused=reused,
    )
    ny, nx = placed.data.shape
    y, x = placed.first
    window = Window(placed.first, Grid(ny, nx, float(-x), float(-y), grid.cell))
    return contribution, tile_metrics(summary, placed.figures), window


def _trimmed(plane: NDArray[np.float32], part: tuple[slice, slice]) -> NDArray[np.float32]:
    """Return part of a plane, moved to the front of its own memory: a mosaic is a gigabyte."""
    wanted = plane[part]
    moved = plane.reshape(-1)[: wanted.size].reshape(wanted.shape)
    # A row never ends behind the beginning of the next one that is read.
    for row, source in zip(moved, wanted, strict=True):
        row[:] = source
    return moved


def _template(plans: Sequence[Plan], contributions: Sequence[TileContribution], grid: Grid, target: Target) -> SkyImage:
    """Return what the planes have in common, without pixels."""
    summaries = [planned.summary.image for planned in plans]
    tables = {table for image in summaries for table in str(image.header.get("CALTABLES", "")).split(",") if table}
    header: dict[str, str | float | int] = {
        "NTILES": len(plans),
        "CALTABLES": ",".join(sorted(tables)),
        "PBLIMIT": target.options.pb_limit,
        "TILEPBL": target.options.tile_pb_limit,
        "WEIGHTS": "PB^2/sigma^2, not normalized",
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
