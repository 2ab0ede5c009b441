"""Whether a set of tiles belongs together.

`validate_tiles_consistency` measures every tile and judges the set; `judge_tiles` judges what was measured when a
mosaic was made of them. What was measured is returned with the judgment. Its outcome is the mosaic's validation; the
quality of the image itself is judged elsewhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, MosaicError
from dsa110_contimg.mosaic.tiles import TileMetrics, TileSource, measure_tile
from dsa110_contimg.options import MosaicOptions, QAOptions
from dsa110_contimg.telescope import TILE_SECONDS

CELL_TOLERANCE = 1e-9
BEAM_TOLERANCE = 0.25
SIZE_TOLERANCE = 0.1
"""A field follows the band's middle, which missing subbands move by a few percent."""
PEAK_RESPONSE = (0.5, 1.001)
MINUTES_PER_DAY = 1440.0


class TileSetMetrics(NamedTuple):
    """What was measured on the set; None with fewer than two tiles."""

    n_tiles: int
    median_noise_jy: float | None
    max_gap_min: float | None
    span_min: float | None
    dec_spread_deg: float | None
    cell_spread: float | None
    size_spread: float | None
    """Largest distance of a field's width from the median, over the median."""
    tiles: tuple[TileMetrics, ...]


class TileCheckResult(NamedTuple):
    """Whether the tiles may be coadded, why not, and what was measured."""

    ok: bool
    issues: tuple[str, ...]
    metrics: TileSetMetrics


def validate_tiles_consistency(
    tiles: Sequence[TileSource], options: MosaicOptions, qa: QAOptions | None = None
) -> TileCheckResult:
    """Judge whether tiles may be coadded; reads them one at a time.

    Parameters
    ----------
    tiles
        In memory or on disk; the order does not matter.
    options
        Longest gap, change of declination and number of tiles.
    qa
        Smallest dynamic range and largest noise over the median.

    Returns
    -------
    TileCheckResult
        Unpacks as (ok, issues, metrics); each issue names its tile, the measured value and the limit.
    """
    unreadable: list[str] = []
    measured: list[TileMetrics] = []
    for source in tiles:
        try:
            measured.append(measure_tile(source.load()))
        except (BadInputError, MosaicError) as error:
            unreadable.append(str(error))
    return judge_tiles(measured, options, qa, unreadable=unreadable)


def judge_tiles(
    measured: Sequence[TileMetrics],
    options: MosaicOptions,
    qa: QAOptions | None = None,
    *,
    unreadable: Sequence[str] = (),
) -> TileCheckResult:
    """Judge tiles that were measured as `validate_tiles_consistency` does; *unreadable* tells what others lack."""
    qa = qa or QAOptions()
    issues = list(unreadable)
    measured = sorted(measured, key=lambda tile: (tile.mid_mjd, tile.name))
    metrics = _set_metrics(measured)
    if len(measured) < 2:
        issues.append(f"{len(measured)} readable tiles; a mosaic needs two at least")
    for tile in measured:
        issues += _tile_issues(tile, qa)
    issues += _set_issues(metrics, options, qa)
    return TileCheckResult(not issues, tuple(issues), metrics)


def _set_metrics(tiles: Sequence[TileMetrics]) -> TileSetMetrics:
    if len(tiles) < 2:
        return TileSetMetrics(len(tiles), None, None, None, None, None, None, tuple(tiles))
    minutes = np.array([tile.mid_mjd for tile in tiles]) * MINUTES_PER_DAY
    decs = np.array([tile.dec_deg for tile in tiles])
    return TileSetMetrics(
        n_tiles=len(tiles),
        median_noise_jy=float(np.median([tile.noise_jy for tile in tiles])),
        max_gap_min=float(np.max(np.diff(minutes))),
        span_min=float(np.ptp(minutes)) + TILE_SECONDS / 60.0,
        dec_spread_deg=float(np.ptp(decs)),
        cell_spread=_cell_spread(tiles),
        size_spread=float(np.max(_from_median([tile.width_deg for tile in tiles]))),
        tiles=tuple(tiles),
    )


def _cell_spread(tiles: Sequence[TileMetrics]) -> float:
    """Return the relative spread of the pixel sizes.

    Aberration changes the scale of the sky by up to 1e-4 and the images carry it in their pixel size: sizes that
    agree before or after it is taken out agree.
    """
    cells = np.array([tile.cell_arcsec for tile in tiles])
    bare = cells / np.array([tile.aberration for tile in tiles])
    return float(min(np.ptp(cells) / cells.mean(), np.ptp(bare) / bare.mean()))


def _from_median(values: Sequence[float]) -> NDArray[np.float64]:
    """Return how far values lie from their median, over the median."""
    middle = float(np.median(values))
    return np.abs(np.asarray(values) / middle - 1.0)


def _tile_issues(tile: TileMetrics, qa: QAOptions) -> list[str]:
    issues = []
    if not tile.has_pbcor:
        issues.append(f"{tile.name} has no beam-corrected image")
    if not tile.calibrated:
        issues.append(f"{tile.name} names no calibration tables (CALTABLES)")
    if tile.dynamic_range is None:
        issues.append(f"{tile.name} has no measurable noise or peak")
    elif tile.dynamic_range < qa.min_dynamic_range:
        issues.append(f"{tile.name} has a dynamic range of {tile.dynamic_range:.2f}, below {qa.min_dynamic_range:g}")
    if not PEAK_RESPONSE[0] <= tile.beam_peak <= PEAK_RESPONSE[1]:
        issues.append(
            f"{tile.name} has a primary beam that peaks at {tile.beam_peak:.3f}, "
            f"outside {PEAK_RESPONSE[0]:g} to {PEAK_RESPONSE[1]:g}"
        )
    if tile.beam is None:
        issues.append(f"{tile.name} has no restoring beam (BMAJ, BMIN, BPA)")
    return issues


def _set_issues(metrics: TileSetMetrics, options: MosaicOptions, qa: QAOptions) -> list[str]:
    """Judge the tiles against each other."""
    if metrics.median_noise_jy is None or metrics.cell_spread is None:
        return []
    issues = [*_noise_and_beam_issues(metrics, qa), *_size_issues(metrics)]
    for before, after in zip(metrics.tiles[:-1], metrics.tiles[1:], strict=True):
        gap = (after.mid_mjd - before.mid_mjd) * MINUTES_PER_DAY
        if after.group_id == before.group_id:
            issues.append(f"{before.name} and {after.name} are the same group {after.group_id}: coadd each once")
        if gap > options.max_gap_min:
            issues.append(
                f"{gap:.2f} minutes lie between {before.name} and {after.name}; at most {options.max_gap_min:g} may"
            )
    longest = options.tiles * options.max_gap_min
    if metrics.span_min is not None and metrics.span_min > longest:
        issues.append(f"the tiles span {metrics.span_min:.1f} minutes; at most {longest:g} are allowed")
    if metrics.dec_spread_deg is not None and metrics.dec_spread_deg > options.max_dec_step_deg:
        middle = float(np.median([tile.dec_deg for tile in metrics.tiles]))
        farthest = max(metrics.tiles, key=lambda tile: abs(tile.dec_deg - middle))
        issues.append(
            f"declinations spread by {metrics.dec_spread_deg:.3f} degrees, of at most {options.max_dec_step_deg:g}: "
            f"{farthest.name} lies at {farthest.dec_deg:+.3f}, the median is {middle:+.3f}"
        )
    return issues


def _size_issues(metrics: TileSetMetrics) -> list[str]:
    """Judge pixels and fields; the tile that differs most is named."""
    issues = []
    if metrics.cell_spread is not None and metrics.cell_spread > CELL_TOLERANCE:
        cells = [tile.cell_arcsec for tile in metrics.tiles]
        odd = int(np.argmax(_from_median(cells)))
        issues.append(
            f'pixel sizes differ: {metrics.tiles[odd].name} has {cells[odd]:.6f}", '
            f'the median is {np.median(cells):.6f}"'
        )
    widths = [tile.width_deg for tile in metrics.tiles]
    for tile, apart in zip(metrics.tiles, _from_median(widths), strict=True):
        if apart > SIZE_TOLERANCE:
            ny, nx = tile.shape
            issues.append(
                f"{tile.name} has {nx} x {ny} pixels, a field of {tile.width_deg:.2f} degrees; the median is "
                f"{np.median(widths):.2f}, at most {SIZE_TOLERANCE:.0%} apart is allowed"
            )
    return issues


def _noise_and_beam_issues(metrics: TileSetMetrics, qa: QAOptions) -> list[str]:
    issues = []
    median_noise = metrics.median_noise_jy or float("nan")
    beams = [tile.beam for tile in metrics.tiles if tile.beam is not None]
    for tile in metrics.tiles:
        if tile.noise_jy > qa.max_noise_over_median * median_noise:
            issues.append(
                f"{tile.name} has {tile.noise_jy / median_noise:.1f} times the median noise "
                f"({1e3 * tile.noise_jy:.2f} mJy/beam); at most {qa.max_noise_over_median:g} times is allowed"
            )
        if tile.beam is None:
            continue
        for axis in ("major", "minor"):
            size = getattr(tile.beam, f"{axis}_arcsec")
            median = float(np.median([getattr(beam, f"{axis}_arcsec") for beam in beams]))
            if abs(size / median - 1.0) > BEAM_TOLERANCE:
                issues.append(
                    f'{tile.name} has a beam with a {axis} axis of {size:.1f}", the median is {median:.1f}"; '
                    f"at most {BEAM_TOLERANCE:.0%} apart is allowed"
                )
    return issues
