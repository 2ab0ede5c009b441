"""Shifts that tiles were given are found, with honest errors, and taken out when asked."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.mosaic.astrometry import measure_offset
from dsa110_contimg.mosaic.build import build
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import SkyModel

SEED = 31
Strip = Callable[..., list[Tile]]


def field(ra: float, dec: float, n: int, width: float = 2.0) -> list[tuple[float, float, float]]:
    """Sources on both sides of a direction, north and south of it."""
    rng = np.random.default_rng(SEED)
    east = rng.uniform(-width, width, n) / np.cos(np.radians(dec))
    return [(float(ra + a) % 360.0, float(dec + d), float(f)) for a, d, f in
            zip(east, rng.uniform(-1.2, 1.2, n), rng.uniform(0.2, 2.0, n), strict=True)]  # fmt: skip


def model(sources: list[tuple[float, float, float]]) -> SkyModel:
    ra, dec, flux = np.array(sources).T
    return SkyModel([f"s{k}" for k in range(len(sources))], ra, dec, flux, np.zeros((len(sources), 1)))


def moved(tile: Tile, east_arcsec: float, north_arcsec: float) -> Tile:
    """The tile's pixels under another header: all sources lie that far from their places."""
    cell = 3600.0 * tile.image.cell_deg
    x, y = tile.image.center_pixel
    place = (x + east_arcsec / cell, y - north_arcsec / cell)
    return replace(tile, image=replace(tile.image, reference_pixel=place))


@pytest.mark.parametrize(("ra", "dec"), [(24.4, 33.2), (359.9, -20.0), (120.0, 84.0)])
def test_a_shift_is_found_within_its_error(tile: Callable[..., Tile], ra: float, dec: float) -> None:
    sources = field(ra, dec, 40)
    pulls = []
    for k in range(6):
        clean = tile((ra, dec), sources, index=k, sigma=5e-3)
        offset = measure_offset(moved(clean, 8.0, -5.0), model(sources), 0.2)
        assert offset is not None
        assert offset.n_sources >= 10
        assert 0.02 < min(offset[2:4]) <= max(offset[2:4]) < 1.0
        pulls.append((offset.east_arcsec - 8.0) / offset.east_error_arcsec)
        pulls.append((offset.north_arcsec + 5.0) / offset.north_error_arcsec)
    assert np.max(np.abs(pulls)) < 4.0
    assert 0.4 < np.std(pulls) < 1.8


def test_errors_of_the_catalogue_are_in_the_error(tile: Callable[..., Tile]) -> None:
    sources = field(24.4, 33.2, 40)
    clean = tile((24.4, 33.2), sources, sigma=1e-4)
    rng = np.random.default_rng(SEED)
    told = model(
        [(ra + rng.normal(0, 3.0) / 3600.0 / 0.84, dec + rng.normal(0, 3.0) / 3600.0, f) for ra, dec, f in sources]
    )
    offset, exact = measure_offset(clean, told, 0.2), measure_offset(clean, model(sources), 0.2)
    assert offset is not None
    assert exact is not None
    assert exact.north_error_arcsec < 0.02
    assert 0.25 < offset.north_error_arcsec < 1.5
    assert abs(offset.north_arcsec) < 4.0 * offset.north_error_arcsec


def test_a_source_that_moved_does_not_count(tile: Callable[..., Tile]) -> None:
    sources = field(24.4, 33.2, 30)
    told = [*sources[1:], (sources[0][0], sources[0][1] + 40.0 / 3600.0, sources[0][2])]
    offset = measure_offset(tile((24.4, 33.2), sources, sigma=1e-3), model(told), 0.2)
    assert offset is not None
    assert abs(offset.north_arcsec) < 0.1
    assert offset.north_error_arcsec < 0.1


def test_too_few_sources_tell_nothing(tile: Callable[..., Tile]) -> None:
    sources = field(24.4, 33.2, 2)
    clean = tile((24.4, 33.2), sources)
    assert measure_offset(clean, model(sources), 0.2) is None
    # Three that blend, three that are too faint, three behind the beam, three elsewhere.
    blend = [(24.4 + k * 1e-3, 33.2, 1.0) for k in range(3)]
    faint = [(24.0 + 0.3 * k, 33.2, 1e-5) for k in range(3)]
    outside = [(24.0 + 0.3 * k, 33.2 + 1.79, 1.0) for k in range(3)]
    elsewhere = [(204.0 + 3 * k, -33.2, 1.0) for k in range(3)]
    for others in (blend, faint, outside, elsewhere):
        assert measure_offset(clean, model(others), 0.5) is None


def test_the_mosaic_reports_and_corrects(strip: Strip) -> None:
    sources = field(0.0, 33.2, 60, width=3.0)
    given = [(6.0, 2.0), (0.0, 0.0), (-4.0, 7.0)]
    tiles = [moved(t, *shift) for t, shift in zip(strip(0.0, 33.2, 3, sources), given, strict=True)]
    reported = build(tiles, MosaicOptions(), "reported", catalog=model(sources))
    for contribution, shift in zip(reported.tiles, given, strict=True):
        assert contribution.offset is not None
        assert contribution.offset[:2] == pytest.approx(shift, abs=0.15)
        assert not contribution.shifted
    header = reported.image.header
    assert np.array(str(header["OFFEAST"]).split(","), float) == pytest.approx([6.0, 0.0, -4.0], abs=0.15)
    assert np.array(str(header["OFFNERR"]).split(","), float).max() < 0.05
    assert str(header["TILES"]).split(",") == [t.group_id for t in tiles]
    assert header["NSHIFTED"] == 0
    corrected = build(tiles, MosaicOptions(apply_astrometry=True), "corrected", catalog=model(sources))
    assert corrected.image.header["NSHIFTED"] == 3
    # West of the middle the first tile weighs most.
    west = [source for source in sources if 357.0 < source[0] < 359.0]
    shifts = []
    for result in (reported, corrected):
        whole = replace(result.image, data=np.ones_like(result.image.data), kind="beam")
        seen = replace(tiles[0], image=result.image, beam=whole, noise_jy=result.image.noise_jy)
        shifts.append(measure_offset(seen, model(west), 0.2))
    before, after = shifts
    assert before is not None
    assert after is not None
    assert before.east_arcsec > 2.0
    assert np.hypot(*after[:2]) < 0.4


def test_without_a_catalogue_nothing_is_claimed(strip: Strip) -> None:
    result = build(strip(24.4, 33.2, 2), MosaicOptions(apply_astrometry=True), "blind")
    assert all(t.offset is None and not t.shifted for t in result.tiles)
    assert result.image.header["OFFEAST"] == "-,-"
