"""The figures behind a mosaic's validation: what was measured on its tiles, with limits and verdicts.

`mosaic.consistency` says in sentences what is wrong with a set of tiles; here is each measured value, wrong or not,
as a row of `qa_checks`. The two use the same measurements and limits. How well the tiles agree on fluxes is added when
they are measured: `tile_fluxes`.
"""

from collections.abc import Sequence

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import MSIndex, Photometry, QACheck
from dsa110_contimg.mosaic.build import TileContribution
from dsa110_contimg.mosaic.consistency import (
    BEAM_TOLERANCE,
    CELL_TOLERANCE,
    PEAK_RESPONSE,
    SIZE_TOLERANCE,
    TileSetMetrics,
)
from dsa110_contimg.mosaic.tiles import TileMetrics
from dsa110_contimg.options import MosaicOptions, QAOptions
from dsa110_contimg.pipeline.reference_sources import UNFIT
from dsa110_contimg.qa.checks import Check, at_least, at_most, thermal_check, unmeasured
from dsa110_contimg.qa.tile_agreement import TileFluxes
from dsa110_contimg.visibilities import SkyImage


def consistency_checks(metrics: TileSetMetrics, n_given: int, options: MosaicOptions, qa: QAOptions) -> list[Check]:
    """Return the figures behind `validate_tiles_consistency`.

    Parameters
    ----------
    metrics
        What was measured on the tiles that could be read.
    n_given
        How many tiles were to be read.
    options, qa
        The limits that validation used.
    """
    counts = _counts(metrics.tiles, n_given)
    return [*counts, *_extremes(metrics, qa), *_spans(metrics, options)] if metrics.tiles else counts


def _counts(tiles: Sequence[TileMetrics], n_given: int) -> list[Check]:
    """Count the tiles that lack something."""
    lacking = {
        "tiles_unreadable": (n_given - len(tiles), "cannot be read"),
        "tiles_uncalibrated": (sum(not tile.calibrated for tile in tiles), "name no calibration tables"),
        "tiles_without_pbcor": (sum(not tile.has_pbcor for tile in tiles), "have no beam-corrected image"),
        "tiles_without_beam": (sum(tile.beam is None for tile in tiles), "have no restoring beam"),
        "tiles_without_noise": (sum(tile.dynamic_range is None for tile in tiles), "have no measurable noise or peak"),
        "tiles_repeated": (len(tiles) - len({tile.group_id for tile in tiles}), "are another's group again"),
    }
    checks = [at_most(name, n, None, 0.0, f"{n} of {n_given} tiles {what}") for name, (n, what) in lacking.items()]
    return [at_least("tiles_readable", len(tiles), None, 2.0, f"{len(tiles)} of {n_given} tiles can be read"), *checks]


def _extremes(metrics: TileSetMetrics, qa: QAOptions) -> list[Check]:
    """Return the tile that is worst in each respect."""
    tiles, median = metrics.tiles, metrics.median_noise_jy
    ranges = {tile.name: tile.dynamic_range for tile in tiles if tile.dynamic_range is not None}
    peaks = [tile.beam_peak for tile in tiles]
    low, high = PEAK_RESPONSE
    checks = [
        at_least("tile_beam_peak_min", min(peaks), None, low, f"primary beams peak at {min(peaks):.3f} and more"),
        at_most("tile_beam_peak_max", max(peaks), None, high, f"primary beams peak at {max(peaks):.3f} and less"),
    ]
    if ranges:
        name, value = min(ranges.items(), key=lambda item: item[1])
        what = f"the lowest dynamic range is {value:.1f}, of {name}"
        checks.append(at_least("tile_dynamic_range", value, None, qa.min_dynamic_range, what))
    noises = [tile for tile in tiles if np.isfinite(tile.noise_jy)]
    if median is not None and noises:
        noisiest = max(noises, key=lambda tile: tile.noise_jy)
        value = noisiest.noise_jy / median
        what = f"the noisiest tile has {value:.2f} times the median noise: {noisiest.name}"
        checks.append(at_most("tile_noise_ratio", value, None, qa.max_noise_over_median, what))
    return [*checks, _beam_spread(tiles)]


def _beam_spread(tiles: Sequence[TileMetrics]) -> Check:
    axes = [(t.beam.major_arcsec, t.beam.minor_arcsec) for t in tiles if t.beam is not None]
    if len(axes) < 2:
        return unmeasured("tile_beam_spread", None, BEAM_TOLERANCE, f"{len(axes)} tiles have a restoring beam")
    value = float(np.max(np.abs(np.array(axes) / np.median(axes, axis=0) - 1.0)))
    what = f"axes of restoring beams are up to {value:.1%} from their median"
    return at_most("tile_beam_spread", value, None, BEAM_TOLERANCE, what)


def _spans(metrics: TileSetMetrics, options: MosaicOptions) -> list[Check]:
    """Return how far the tiles lie apart in time, declination and scale."""
    limits = {
        "tile_gap_min": (metrics.max_gap_min, options.max_gap_min, "minutes from tile to tile at most"),
        "tile_span_min": (metrics.span_min, options.tiles * options.max_gap_min, "minutes from first to last"),
        "tile_dec_spread_deg": (metrics.dec_spread_deg, options.max_dec_step_deg, "degrees of declination apart"),
        "tile_cell_spread": (metrics.cell_spread, CELL_TOLERANCE, "relative spread of the pixel sizes"),
        "tile_size_spread": (metrics.size_spread, SIZE_TOLERANCE, "of the median width is how far a field is from it"),
    }
    return [
        unmeasured(name, None, limit, "one tile alone spans nothing")
        if value is None
        else at_most(name, value, None, limit, f"{value:.4g} {what}")
        for name, (value, limit, what) in limits.items()
    ]


def offset_check(tiles: Sequence[TileContribution], mosaic: SkyImage, qa: QAOptions) -> Check:
    """Judge the tile whose sources are left farthest from the catalogue, in beams of the mosaic."""
    limits = qa.astrometry_warning_beam, qa.astrometry_failure_beam
    measured = [(tile, tile.offset) for tile in tiles if tile.offset is not None]
    if not measured or mosaic.beam is None:
        return unmeasured("tile_offset", *limits, "no tile has three isolated catalogue sources above 10 sigma")
    width = float(np.sqrt(mosaic.beam.major_arcsec * mosaic.beam.minor_arcsec))
    left = [0.0 if t.shifted else float(np.hypot(o.east_arcsec, o.north_arcsec)) / width for t, o in measured]
    worst = int(np.argmax(left))
    tile, offset = measured[worst]
    taken = ", taken out" if tile.shifted else ""
    what = (
        f'{tile.name} lies {offset.east_arcsec:+.2f} ± {offset.east_error_arcsec:.2f}" east, '
        f'{offset.north_arcsec:+.2f} ± {offset.north_error_arcsec:.2f}" north of the catalogue, by {offset.n_sources} '
        f"sources{taken}; the largest of {len(measured)} of {len(tiles)} tiles, {left[worst]:.3f} beams"
    )
    return at_most("tile_offset", left[worst], *limits, what)


def tile_fluxes(session: Session, tiles: Sequence[MSIndex]) -> list[TileFluxes]:
    """Return what was measured on tiles, in their order, over one list of sources."""
    rows = {tile.path: _rows(session, tile) for tile in tiles if tile.imagename}
    sources = sorted({source for measured in rows.values() for source in measured})
    return [
        TileFluxes(
            tile.group_id or tile.path,
            *np.array([rows[tile.path].get(source, (np.nan,) * 3) for source in sources], float).reshape(-1, 3).T,
        )
        for tile in tiles
        if tile.imagename
    ]


def noise_over_thermal(session: Session, tiles: Sequence[MSIndex]) -> list[float]:
    """Return the noise of tiles over their thermal noise, of those where it was measured."""
    subjects = [tile.group_id for tile in tiles]
    rows = select(QACheck.value).where(QACheck.subject.in_(subjects), QACheck.name == "noise_over_thermal")
    return [value for value in session.scalars(rows) if value is not None]


def thermal_check_of(mosaic: SkyImage, of_tiles: Sequence[float], qa: QAOptions) -> Check:
    """Judge the noise of a mosaic: that of its tiles over their thermal noise, times what coadding added (NOISEFAC)."""
    added = float(mosaic.header.get("NOISEFAC", np.nan))
    ratio = added * float(np.median(of_tiles)) if of_tiles else None
    return thermal_check(ratio, f"the noise of the mosaic's {len(of_tiles)} measured tiles", qa)


def _rows(session: Session, tile: MSIndex) -> dict[str, tuple[float | None, ...]]:
    """Return flux, error and catalogue flux (Jy) by source; the latter only where the source is fit for comparison."""
    columns = (Photometry.source_id, Photometry.flux_jy, Photometry.flux_err_jy, Photometry.nvss_flux_mjy)
    measured = session.execute(select(*columns, Photometry.flags).where(Photometry.image_path == tile.imagename))
    return {
        source: (flux, error, None if reference is None or (flags or 0) & UNFIT else reference / 1e3)
        for source, flux, error, reference, flags in measured
    }
