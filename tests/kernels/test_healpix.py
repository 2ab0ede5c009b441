"""Tiles hold what the sky holds at their pixels' centers: beside astropy-healpix, on every face, at the poles too."""

import numpy as np
import pytest
from astropy import units
from astropy_healpix import HEALPix
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsa110_contimg.kernels.healpix import direction, resample_tile, tile_place, touches
from dsa110_contimg.kernels.resample import Grid, tangent_frame

WIDTH = 64
CELL = np.radians(30.0 / 3600.0)
FWHM = 4.0 * CELL
CENTERS = [(0.1, 33.0), (359.95, -2.0), (83.0, 85.0), (200.0, 90.0), (310.0, -89.9)]


def pixel_directions(order: int, tile: int) -> NDArray[np.float64]:
    """Return the unit vectors of a tile's pixels by astropy-healpix, (WIDTH, WIDTH, 3), the first row at the bottom."""
    face, x, y = tile_place(order, tile)
    down, right = np.meshgrid(np.arange(WIDTH)[::-1], np.arange(WIDTH), indexing="ij")
    number = np.full(down.shape, face << 2 * order + 12, np.int64)
    for bit in range(order + 6):
        number |= (((WIDTH * x + down) >> bit) & 1) << 2 * bit
        number |= (((WIDTH * y + right) >> bit) & 1) << 2 * bit + 1
    lon, lat = HEALPix(nside=WIDTH << order, order="nested").healpix_to_lonlat(number)
    ra, dec = lon.to_value(units.rad), lat.to_value(units.rad)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def ours(order: int, tile: int) -> NDArray[np.float64]:
    face, x, y = tile_place(order, tile)
    side = WIDTH << order
    u, v = WIDTH * x + np.arange(WIDTH)[::-1] + 0.5, WIDTH * y + np.arange(WIDTH) + 0.5
    return np.array([[direction(face, a / side, b / side) for b in v] for a in u])


def sources(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions of three sources off the center on both axes, (3, 3)."""
    east, north = np.array([[40.0, 25.0], [-33.0, 48.0], [-51.0, -44.5]]).T * CELL
    return np.stack([east, north, np.sqrt(1.0 - east**2 - north**2)], axis=-1) @ frame


def profile(sky: NDArray[np.float64], at: NDArray[np.float64], frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a Gaussian in the tangent plane of a frame, seen in directions (..., 3)."""
    offset = (sky - at) @ frame[:2].T
    return np.asarray(np.exp(-4.0 * np.log(2.0) * (offset**2).sum(axis=-1) / FWHM**2))


def field(center: tuple[float, float], shape: tuple[int, int] = (150, 170)) -> tuple[NDArray[np.float32], Grid]:
    frame = tangent_frame(*np.radians(center))
    grid = Grid(*shape, 83.0, 71.0, float(CELL))
    east, north = -(np.arange(shape[1]) - 83.0) * CELL, (np.arange(shape[0]) - 71.0) * CELL
    plane = np.stack(np.broadcast_arrays(east[None, :], north[:, None]), axis=-1)
    toward = np.sqrt(1.0 - (plane**2).sum(axis=-1))
    sky = np.concatenate([plane, toward[..., None]], axis=-1) @ frame
    image = sum(flux * profile(sky, at, frame) for flux, at in zip((1.0, 2.0, 0.5), sources(frame), strict=True))
    return np.asarray(image, np.float32), grid


@pytest.mark.parametrize("order", [0, 1, 4])
def test_pixels_lie_where_astropy_healpix_has_them(order: int) -> None:
    side = 4**order
    tiles = {face * side + place for face in range(12) for place in (0, side // 3, side - 1)}
    for tile in tiles:
        np.testing.assert_allclose(ours(order, tile), pixel_directions(order, tile), atol=3e-15)


@pytest.mark.parametrize("center", CENTERS)
def test_a_tile_shows_the_sources_at_their_places(center: tuple[float, float]) -> None:
    order, frame = 7, tangent_frame(*np.radians(center))
    image, grid = field(center)
    healpix = HEALPix(nside=1 << order, order="nested")
    found = 0
    for flux, at in zip((1.0, 2.0, 0.5), sources(frame), strict=True):
        lon, lat = np.arctan2(at[1], at[0]), np.arcsin(at[2])
        tile = int(healpix.lonlat_to_healpix(lon * units.rad, lat * units.rad))
        values = resample_tile(image, grid, frame, order, tile, WIDTH)
        near = profile(pixel_directions(order, tile), at, frame)
        np.testing.assert_allclose(values[near > 0.3], flux * near[near > 0.3], atol=2e-3 * flux)
        found += int((near > 0.3).sum())
    assert found > 40


def test_blank_pixels_and_the_edge_stay_blank() -> None:
    center = CENTERS[0]
    image, grid = field(center)
    frame = tangent_frame(*np.radians(center))
    lon, lat = (angle * units.deg for angle in center)
    tile = int(HEALPix(nside=32, order="nested").lonlat_to_healpix(lon, lat))
    whole = resample_tile(image, grid, frame, 5, tile, WIDTH)
    image[:, 100:] = np.nan
    part = resample_tile(image, grid, frame, 5, tile, WIDTH)
    east = pixel_directions(5, tile) @ frame[0]
    kept = np.isfinite(part)
    assert 0 < kept.sum() < np.isfinite(whole).sum() < WIDTH**2
    assert (east[kept] > (83.0 - 100.0 + 3.0) * CELL).all()
    np.testing.assert_array_equal(part[kept], whole[kept])


@given(st.floats(0.0, 360.0), st.floats(-90.0, 90.0), st.integers(0, 6))
def test_no_tile_with_a_value_is_passed_over(ra_deg: float, dec_deg: float, order: int) -> None:
    image, grid = field((ra_deg, dec_deg), (40, 60))
    frame = tangent_frame(*np.radians([ra_deg, dec_deg]))
    healpix = HEALPix(nside=1 << order, order="nested")
    corners = np.array([[-83.0, -71.0], [-24.0, -71.0], [-24.0, -32.0], [-83.0, -32.0]]) * [-CELL, CELL]
    sky = np.concatenate([corners, np.sqrt(1.0 - (corners**2).sum(axis=1))[:, None]], axis=1) @ frame
    tiles = healpix.lonlat_to_healpix(
        np.arctan2(sky[:, 1], sky[:, 0]) * units.rad, np.arcsin(np.clip(sky[:, 2], -1, 1)) * units.rad
    )
    assert all(touches(order, int(tile), frame, grid) for tile in tiles)
    side = 1 << order
    face, x, y = tile_place(order, int(tiles[0]))
    opposite = -np.array(direction(face, (x + 0.5) / side, (y + 0.5) / side))
    far = healpix.lonlat_to_healpix(
        np.arctan2(opposite[1], opposite[0]) * units.rad, np.arcsin(opposite[2]) * units.rad
    )
    assert order < 2 or not touches(order, int(far), frame, grid)
    assert image.shape == (40, 60)
