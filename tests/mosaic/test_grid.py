"""Grids stand still while tiles come and go, wherever on the sky."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.mosaic.grid import (
    Footprint,
    choose_frame,
    corner_of,
    footprint,
    grid_around,
    window_of,
)
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.visibilities import SkyImage, SkyPosition

STEP_DEG = 1.292


def prints(ra: float, dec: float, n: int, cell_deg: float = 3.0 / 3600.0) -> list[Footprint]:
    """Footprints of 3.6 degrees in a row."""
    side = np.radians(1.8) * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [1, 0], [-1, 0], [0, 1], [0, -1]])
    outline = np.concatenate([side, np.sqrt(1.0 - (side**2).sum(axis=1))[:, None]], axis=1)
    return [Footprint(SkyPosition((ra + k * STEP_DEG) % 360.0, dec), cell_deg, outline) for k in range(n)]


@pytest.mark.parametrize("dec", [-40.0, 16.1, 33.2, 71.6, 85.0])
def test_a_tile_more_seldom_moves_the_frame(dec: float) -> None:
    """Windows count from the center: the same for nine tiles as for ten, but where the lattice point changes."""
    same = 0
    starts = np.arange(0.0, 360.0, 9.7)
    for ra in starts:
        tiles = prints(float(ra), dec, 10)
        more, fewer = choose_frame(tiles), choose_frame(tiles[:9])
        assert abs((more.center.ra_deg - ra - 4.5 * STEP_DEG + 180.0) % 360.0 - 180.0) <= 2.6
        assert abs(more.center.dec_deg - dec) < 1.0
        if more == fewer:
            same += 1
            assert window_of(tiles[3], more) == window_of(tiles[3], fewer)
    assert same > 0.8 * len(starts)


@pytest.mark.parametrize(("ra", "dec"), [(357.0, 33.2), (120.0, 85.0), (10.0, -70.0)])
def test_the_grid_holds_its_windows(ra: float, dec: float) -> None:
    tiles = prints(ra, dec, 6)
    frame = choose_frame(tiles)
    windows = [window_of(tile, frame) for tile in tiles]
    grid = grid_around(windows)
    corners = np.array([corner_of(window.first, grid) for window in windows])
    ends = corners + [window.grid[:2] for window in windows]
    assert corners.min(axis=0).tolist() == [1, 1]
    assert (ends.max(axis=0) + 1).tolist() == [grid.ny, grid.nx]
    assert max(grid[:2]) < 14.0 / frame.cell_deg


def test_pixels_have_the_tiles_size_whatever_the_season() -> None:
    """Aberration makes the size differ by 1e-4 over the year."""
    sizes = {choose_frame(prints(10.0, 33.2, 3, 3.0 * k / 3600.0)).cell_deg for k in (0.9999, 1.0, 1.0001)}
    assert sizes == {3.0 / 3600.0}
    assert choose_frame(prints(10.0, 33.2, 3, 2.345 / 3600.0)).cell_deg * 3600.0 == pytest.approx(2.345)


def test_tiles_all_over_the_sky_are_refused() -> None:
    with pytest.raises(MosaicError, match="hemisphere"):
        choose_frame([prints(0.0, 0.0, 1)[0], prints(150.0, 0.0, 1)[0]])


def test_the_footprint_is_where_the_beam_reaches(tile: Callable[..., Tile]) -> None:
    whole = tile((359.9, 33.2), size=200, cell_arcsec=72.0)
    whole.image.data[:, 120:] = np.nan
    print_ = footprint(whole, 0.5)
    x, y = whole.image.center_pixel
    cell = np.radians(whole.image.cell_deg)
    columns, rows = x - print_.outline[:, 0] / cell, y + print_.outline[:, 1] / cell
    usable = np.nonzero((whole.beam.data >= 0.5) & np.isfinite(whole.image.data))
    assert (columns.min(), columns.max()) == pytest.approx((usable[1].min(), 119))
    assert (rows.min(), rows.max()) == pytest.approx((usable[0].min(), usable[0].max()))
    with pytest.raises(MosaicError, match="leave the tile out"):
        footprint(replace(whole, beam=replace(whole.beam, data=0.1 * whole.beam.data)), 0.5)


def test_the_middle_of_an_image_is_not_its_reference() -> None:
    image = SkyImage(np.zeros((100, 200), np.float32), SkyPosition(359.0, 33.0), 0.01, reference_pixel=(10.0, 70.0))
    apart = np.degrees(separation(*np.radians(image.middle), *np.radians(image.center)))
    assert apart == pytest.approx(np.hypot(0.9, 0.2), rel=1e-3)
    assert image.middle.ra_deg == pytest.approx(359.0 - 0.9 / np.cos(np.radians(32.8)), abs=1e-2)
    assert replace(image, reference_pixel=None).middle == image.center
