"""One tile, brought to the restoring beam and the grid of a mosaic.

What a tile brings is planned before any pixel is used: its footprint, its beam, and how far its sources lie from the
catalogue. Then it is resampled onto its window of the frame, which depends on no other tile and may be kept;
convolved to the beam that all of them can have; and its noise is measured.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import robust_scatter
from dsa110_contimg.kernels.resample import Behind, resample, resample_linear
from dsa110_contimg.mosaic.astrometry import TileOffset, measure_offset
from dsa110_contimg.mosaic.common_beam import beams_agree, carried, convolve_to, pixel_covariance
from dsa110_contimg.mosaic.grid import Footprint, Frame, footprint, image_grid, rotation_to_tile, window_of
from dsa110_contimg.mosaic.tile_cache import PlacedTile, TileCache, content_of, key_of
from dsa110_contimg.mosaic.tiles import TileSource
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel


class Plan(NamedTuple):
    """What is known of a tile before its pixels are used."""

    source: TileSource
    group_id: str
    mid_mjd: float
    beam: Beam
    footprint: Footprint
    summary: SkyImage
    """The image's metadata; its pixels are dropped."""
    offset: TileOffset | None
    """From the catalogue; None where too few sources tell."""
    content: str
    """Hash of its pixels; empty where nothing is kept."""


def plan(source: TileSource, options: MosaicOptions, catalog: SkyModel | None, cache: TileCache | None) -> Plan:
    """Look at a tile.

    Raises
    ------
    MosaicError
        If it has no restoring beam, or no pixel that its primary beam makes usable.
    """
    tile = source.load()
    if tile.image.beam is None:
        raise MosaicError(f"{tile.name} has no restoring beam (BMAJ, BMIN, BPA): image the tile again")
    return Plan(
        source,
        tile.group_id,
        tile.mid_mjd,
        tile.image.beam,
        footprint(tile, options.tile_pb_limit),
        tile.image.without_pixels(),
        measure_offset(tile, catalog, options.tile_pb_limit) if catalog is not None else None,
        content_of(tile) if cache is not None else "",
    )


def place(planned: Plan, frame: Frame, options: MosaicOptions, cache: TileCache | None) -> tuple[PlacedTile, bool]:
    """Return a tile on the mosaic's frame, and whether it was kept from an earlier mosaic."""
    if cache is None:
        return _resampled(planned, frame, options), False
    key = key_of(planned.content, frame, options.tile_pb_limit, _shift(planned, options))
    kept = cache.find(key)
    if kept is not None:
        return kept, True
    placed = _resampled(planned, frame, options)
    cache.keep(key, placed)
    return placed, False


def _resampled(planned: Plan, frame: Frame, options: MosaicOptions) -> PlacedTile:
    tile = planned.source.load()
    window, rotation = window_of(planned.footprint, frame), rotation_to_tile(tile.image.center, frame)
    grid = image_grid(tile.image)
    response = resample_linear(np.ascontiguousarray(tile.beam.data, np.float32), grid, rotation, window.grid)
    east, north = np.radians(_shift(planned, options)) / 3600.0 / grid.cell
    # A source that lies too far east is found at a smaller x.
    moved = grid._replace(x_ref=grid.x_ref - float(east), y_ref=grid.y_ref + float(north))
    beam = carried(planned.beam, tile.image.center, frame)
    # Pixels below the limit are wanted, too: convolution carries them across it.
    behind = Behind(response, 0.0, pixel_covariance(beam, 3600.0 * frame.cell_deg))
    return PlacedTile(resample(tile.image.data, moved, rotation, window.grid, behind), response, window.first)


def with_beam(placed: PlacedTile, planned: Plan, frame: Frame, beam: Beam) -> tuple[NDArray[np.float32], bool]:
    """Return a placed tile's pixels with the mosaic's restoring beam, and whether that is not its own."""
    own = carried(planned.beam, planned.footprint.center, frame)
    if beams_agree(own, beam):
        return placed.data, False
    return convolve_to(placed.data, 3600.0 * frame.cell_deg, own, beam), True


def noise_of(data: NDArray[np.float32], response: NDArray[np.float32], limit: float, name: str) -> float:
    """Return the noise of a tile where its primary beam reaches a limit.

    Raises
    ------
    MosaicError
        If it cannot be measured.
    """
    # Every other pixel of every other line: half a beam is more.
    sigma = robust_scatter(np.where(response[::2, ::2] >= limit, data[::2, ::2], np.float32(np.nan)))
    if not sigma > 0.0:
        raise MosaicError(f"{name} has no measurable noise: leave the tile out")
    return sigma


def _shift(planned: Plan, options: MosaicOptions) -> tuple[float, float]:
    """Return how far a tile's sources are to be moved back (east, north), arcsec."""
    if not options.apply_astrometry or planned.offset is None:
        return 0.0, 0.0
    return planned.offset.east_arcsec, planned.offset.north_arcsec
