"""One tile, brought to the restoring beam and the grid of a mosaic.

What a mosaic needs to know of all its tiles stands in their headers. Then each is read once: it is measured, convolved
to the mosaic's beam in its own tangent plane, and resampled onto its window of the frame where its primary beam reaches
the limit; its noise is measured on the outcome. That depends on no pixel of another tile and may be kept.
"""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import robust_scatter
from dsa110_contimg.kernels.resample import Behind, Grid, nodes_of, resample, resample_linear
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.mosaic.astrometry import TileOffset, measure_offset
from dsa110_contimg.mosaic.common_beam import carried_back, convolve_to, pixel_covariance
from dsa110_contimg.mosaic.grid import Frame, footprint, image_grid, rotation_to_tile, window_of
from dsa110_contimg.mosaic.tile_cache import PlacedTile, TileCache, key_of
from dsa110_contimg.mosaic.tiles import Tile, TileSource, TileSummary, measure_pixels
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyModel


class Plan(NamedTuple):
    """What is known of a tile before its pixels are read."""

    source: TileSource
    summary: TileSummary
    beam: Beam
    catalog: SkyModel | None
    """Sources on it."""

    @property
    def order(self) -> tuple[float, str]:
        """What tiles are sorted by."""
        return self.summary.mid_mjd, self.summary.name


class Target(NamedTuple):
    """What all tiles are brought to."""

    frame: Frame
    beam: Beam
    options: MosaicOptions


def plan(source: TileSource, catalog: SkyModel | None) -> Plan:
    """Look at a tile's header.

    Raises
    ------
    MosaicError
        If it has no restoring beam.
    """
    summary = source.summary()
    if summary.image.beam is None:
        raise MosaicError(f"{summary.name} has no restoring beam (BMAJ, BMIN, BPA): image the tile again")
    return Plan(source, summary, summary.image.beam, None if catalog is None else _on_tile(catalog, summary))


def _on_tile(catalog: SkyModel, summary: TileSummary) -> SkyModel:
    """Return the sources within the circle around a tile: they do not change with the tiles beside it."""
    image = summary.image
    radius = 0.5 * np.hypot(*image.data.shape) * np.radians(image.cell_deg)
    away = separation(np.radians(catalog.ra_deg), np.radians(catalog.dec_deg), *np.radians(image.middle))
    return catalog.select(np.asarray(away <= radius))


def place(planned: Plan, target: Target, cache: TileCache | None) -> tuple[PlacedTile, bool]:
    """Return a tile on the mosaic's frame with its beam, and whether it was kept from an earlier mosaic.

    Raises
    ------
    MosaicError
        If it has no pixel that its primary beam makes usable, or no measurable noise.
    """
    if cache is None:
        return _made(planned, target), False
    image, sources = planned.summary.image, _content(planned.catalog)
    on_sky = (tuple(image.center), image.center_pixel, image.cell_deg, tuple(planned.beam))
    key = key_of(
        planned.source.identity(),
        on_sky,
        tuple(target.frame.center),
        target.frame.cell_deg,
        tuple(target.beam),
        target.options.tile_pb_limit,
        sources if target.options.apply_astrometry else "",
    )
    kept = cache.find(key)
    if kept is not None and sources in (kept.catalog, ""):
        return (kept if sources else replace(kept, offset=None)), True
    if kept is not None:
        offset = _offset(planned.source.load(), planned, target.options)
        placed = replace(kept, offset=offset, catalog=sources)
    else:
        placed = _made(planned, target)
    cache.keep(key, placed)
    return placed, kept is not None


def _made(planned: Plan, target: Target) -> PlacedTile:
    tile, (frame, options) = planned.source.load(), (target.frame, target.options)
    offset = _offset(tile, planned, options)
    window, rotation = (
        window_of(footprint(tile, options.tile_pb_limit), frame),
        rotation_to_tile(tile.image.center, frame),
    )
    grid, cell_arcsec = image_grid(tile.image), 3600.0 * frame.cell_deg
    wanted = carried_back(target.beam, tile.image.center, frame)
    smooth = convolve_to(tile.image.data, 3600.0 * tile.image.cell_deg, planned.beam, wanted)
    beam = np.ascontiguousarray(tile.beam.data, np.float32)
    response = _to_the_border(resample_linear(beam, grid, rotation, nodes_of(window.grid)))
    behind = Behind(response, options.tile_pb_limit, pixel_covariance(target.beam, cell_arcsec))
    across = target.beam.minor_arcsec / cell_arcsec
    moved = _moved(grid, offset if options.apply_astrometry else None)
    data = resample(smooth, moved, rotation, window.grid, behind, across=across)
    return PlacedTile(
        data,
        response,
        window.first,
        _noise_of(data, planned.summary.name),
        measure_pixels(tile),
        offset,
        _content(planned.catalog),
    )


def _offset(tile: Tile, planned: Plan, options: MosaicOptions) -> TileOffset | None:
    return None if planned.catalog is None else measure_offset(tile, planned.catalog, options.tile_pb_limit)


def _moved(grid: Grid, offset: TileOffset | None) -> Grid:
    """Return a tile's grid with its offset from the catalogue taken out."""
    if offset is None:
        return grid
    east, north = np.radians((offset.east_arcsec, offset.north_arcsec)) / 3600.0 / grid.cell
    # A source that lies too far east is found at a smaller x.
    return grid._replace(x_ref=grid.x_ref - float(east), y_ref=grid.y_ref + float(north))


def _to_the_border(response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Continue a primary beam to the nodes just outside of a tile, or the pixels at its border would have none."""
    for axis in (0, 1):
        for lines in (response.swapaxes(0, axis), response.swapaxes(0, axis)[::-1]):
            ahead = 2.0 * lines[1:-1] - lines[:-2]
            lines[2:] = np.where(np.isnan(lines[2:]), ahead, lines[2:])
    return response


def _noise_of(data: NDArray[np.float32], name: str) -> float:
    """Return the noise of a placed tile.

    Raises
    ------
    MosaicError
        If it cannot be measured.
    """
    # Every other pixel of every other line: half a beam is more.
    sigma = robust_scatter(data[::2, ::2])
    if not sigma > 0.0:
        raise MosaicError(f"{name} has no measurable noise: leave the tile out")
    return sigma


def _content(catalog: SkyModel | None) -> str:
    """Return the hash of a catalogue; empty without one."""
    if catalog is None:
        return ""
    digest = hashlib.sha256(repr((catalog.ref_freq_hz, catalog.spectrum.shape)).encode())
    for column in (catalog.ra_deg, catalog.dec_deg, catalog.flux_jy, catalog.spectrum):
        digest.update(np.ascontiguousarray(column, np.float64).data)
    return digest.hexdigest()
