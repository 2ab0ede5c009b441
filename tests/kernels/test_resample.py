"""Resampling keeps peaks and positions, and knows where it has no data."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.resample import (
    Behind,
    Grid,
    frame_rotation,
    input_pixels,
    interpolation_table,
    nodes_of,
    resample,
    resample_linear,
    resample_spline,
    tangent_frame,
)
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines

CELL = np.radians(6.0 / 3600.0)


def gaussians(size: int, fwhm: float, rng: np.random.Generator, n: int = 40) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for _ in range(n):
        x0, y0 = rng.uniform(10, size - 10, 2)
        image = np.maximum(image, np.exp(-4 * np.log(2) * ((x - x0) ** 2 + (y - y0) ** 2) / fwhm**2))
    return image.astype(np.float32)


def test_table_rows_are_exact_at_pixels_and_sum_to_one() -> None:
    table = interpolation_table()
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(table[0], np.eye(8)[3], atol=1e-4)
    np.testing.assert_allclose(table[-1], np.eye(8)[4], atol=1e-4)
    np.testing.assert_allclose(table[300], table[-301, ::-1], atol=1e-4)


@pytest.mark.parametrize("dec", [16.1, 71.6, 89.0])
def test_rotation_is_the_sky(dec: float) -> None:
    """The kernel's mapping is the one that spherical trigonometry gives, across right ascension 0."""
    out, grid = Grid(31, 41, 20.0, 15.0, CELL * 60), Grid(50, 50, 25.0, 24.0, CELL * 50)
    center, tile = np.radians([359.7, dec]), np.radians([0.6, dec + 0.2])
    x, y = input_pixels(grid, frame_rotation(*tile, *center), out)
    j, i = np.mgrid[:31, :41]
    ra, dec_rad = from_direction_cosines(-(i - 20.0) * out.cell, (j - 15.0) * out.cell, *center)
    lmn = direction_cosines(ra, dec_rad, *tile)
    np.testing.assert_allclose(x, 25.0 - lmn[..., 0] / grid.cell, atol=1e-9)
    np.testing.assert_allclose(y, 24.0 + lmn[..., 1] / grid.cell, atol=1e-9)


def test_frames_are_orthonormal() -> None:
    frame = tangent_frame(1.0, 0.7)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(np.cross(frame[0], frame[1]), frame[2], atol=1e-15)


@pytest.mark.parametrize(("fwhm", "limit"), [(3.0, 2.5e-3), (3.5, 1.2e-3), (4.0, 7e-4), (6.0, 5e-4)])
def test_loses_less_than_two_thousandths_of_a_peak(fwhm: float, limit: float) -> None:
    """Against Gaussians known everywhere, at random shifts; three and a half pixels a beam stay within 0.2 %."""
    rng = np.random.default_rng(42)
    size, middle = 64, 32.0
    y, x = np.mgrid[:size, :size]
    image = np.exp(-4 * np.log(2) * ((x - middle) ** 2 + (y - middle) ** 2) / fwhm**2).astype(np.float32)
    worst = 0.0
    for _ in range(30):
        dx, dy = rng.uniform(-0.5, 0.5, 2)
        out = Grid(24, 24, 12.0 + dx, 12.0 + dy, CELL)
        got = resample(image, Grid(size, size, middle, middle, CELL), np.eye(3), out)
        j, i = np.mgrid[:24, :24]
        truth = np.exp(-4 * np.log(2) * ((i - 12.0 - dx) ** 2 + (j - 12.0 - dy) ** 2) / fwhm**2)
        worst = max(worst, float(np.abs(got - truth).max()))
    assert worst < limit


def test_agrees_with_the_spline() -> None:
    rng = np.random.default_rng(3)
    image = gaussians(200, 4.5, rng)
    grid, out = Grid(200, 200, 100.0, 100.0, CELL), Grid(150, 170, 80.3, 70.8, CELL * 1.03)
    rotation = frame_rotation(1.0, 0.8, 1.0005, 0.8003)
    got, plain = resample(image, grid, rotation, out), resample_spline(image, grid, rotation, out)
    both = np.isfinite(got) & np.isfinite(plain)
    assert both.mean() > 0.8
    assert np.abs(got - plain)[both].max() < 2e-3
    # Maxima of Gaussians have kinks, where a straight line is as good as any curve.
    smooth = gaussians(200, 60.0, rng)
    linear = resample_linear(smooth, grid, rotation, out)
    assert np.nanmax(np.abs(linear - resample_spline(smooth, grid, rotation, out))) < 7e-3


def test_flux_is_kept() -> None:
    """Σ of surface brightness times pixel area, for pixels of another size."""
    image = gaussians(120, 5.0, np.random.default_rng(9), n=1)
    grid, out = Grid(120, 120, 60.0, 60.0, CELL), Grid(110, 110, 55.2, 55.7, CELL * 1.1)
    got = resample(image, grid, np.eye(3), out)
    assert np.nansum(got) * 1.1**2 == pytest.approx(image.sum(), rel=1e-3)


def test_missing_pixels_spread_to_what_needs_them() -> None:
    image = np.ones((40, 40), np.float32)
    image[20, 20] = np.nan
    grid = Grid(40, 40, 20.0, 20.0, CELL)
    got = resample(image, grid, np.eye(3), Grid(40, 40, 20.3, 20.3, CELL))
    missing = np.argwhere(np.isnan(got[8:32, 8:32])) + 8
    assert missing.min(axis=0).tolist() == [17, 17]
    assert missing.max(axis=0).tolist() == [24, 24]
    assert np.isnan(got[0, 0])
    np.testing.assert_allclose(got[np.isfinite(got)], 1.0, rtol=1e-5)


def test_behind_the_sky_is_missing() -> None:
    image = np.ones((40, 40), np.float32)
    grid = Grid(40, 40, 20.0, 20.0, np.radians(2.0))
    opposite = resample(image, grid, frame_rotation(np.pi, 0.0, 0.0, 0.0), Grid(10, 10, 5.0, 5.0, np.radians(2.0)))
    assert np.isnan(opposite).all()
    wide = resample_linear(image, grid, np.eye(3), Grid(80, 80, 40.0, 40.0, np.radians(2.0)))
    assert np.isnan(wide[0, 0])
    assert wide[40, 40] == 1.0


@pytest.mark.parametrize("angle", [0.0, 40.0, 120.0])
def test_a_source_behind_a_slope_stays_where_it_is(angle: float) -> None:
    """Divided by its beam, plainly, it moves by S ∇ln P: here 0.2 pixels."""
    y, x = np.mgrid[:81, :81].astype(float)
    spread = (30.0, 8.0, 20.0)
    slope = 0.008 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    beam = np.exp(slope[0] * (x - 40.0) + slope[1] * (y - 40.0)).astype(np.float32)
    inverse = np.linalg.inv([[spread[0], spread[1]], [spread[1], spread[2]]])
    dx, dy = x - 40.3, y - 39.6
    shape = np.exp(-0.5 * (inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2))
    at_source = np.exp(slope @ [0.3, -0.4])
    grid = Grid(81, 81, 40.0, 40.0, CELL)
    out = Grid(61, 61, 30.0, 30.0, CELL)
    response, step = beam[10:71, 10:71], 6
    nodes = np.ascontiguousarray(response[::step, ::step])
    assert nodes.shape == nodes_of(out)[:2]
    image = (at_source * shape).astype(np.float32)
    got = resample(image, grid, np.eye(3), out, Behind(nodes, 0.0, spread)) / response
    plain = resample(image, grid, np.eye(3), out) / response
    truth = shape[10:71, 10:71]
    assert np.abs(plain - truth).max() > 0.015
    assert np.nanmax(np.abs(got - truth)) < 6e-3
    assert np.abs(got - truth)[25:36, 25:36].max() < 1.5e-3


def test_only_what_the_beam_reaches_is_made() -> None:
    image = np.ones((40, 40), np.float32)
    grid = Grid(40, 40, 20.0, 20.0, np.radians(0.02))
    response = np.tile(np.linspace(0.0, 1.0, 40, dtype=np.float32), (40, 1))
    response[20, 30] = np.nan
    assert response.shape == nodes_of(grid)[:2]
    got = resample(image, grid, np.eye(3), grid, Behind(response, 0.5, (0.0, 0.0, 0.0)))
    assert np.isnan(got[:, :20]).all()
    assert np.isnan(got[20, 30])
    np.testing.assert_allclose(got[5:35, 25:29], 1.0, rtol=1e-5)


@pytest.mark.parametrize("dec", [16.1, 85.0])
def test_nodes_are_as_good_as_every_pixel(dec: float) -> None:
    """At the end of a strip, 8 degrees from the center of the mosaic, with eight taps and with four."""
    cell, fwhm = np.radians(3.0 / 3600.0), 13.0
    image = gaussians(300, fwhm, np.random.default_rng(12), n=1)
    center, tile = np.radians([0.0, dec]), np.radians([8.3, dec + 0.4])
    east, north, _ = direction_cosines(*tile, *center)
    grid, out = Grid(300, 300, 150.0, 150.0, cell), Grid(331, 347, 170.3 + east / cell, 160.8 - north / cell, cell)
    rotation = frame_rotation(*tile, *center)
    plain = resample_spline(image, grid, rotation, out)
    for across, limit in ((0.0, 8e-4), (fwhm, 1.2e-3)):
        got = resample(image, grid, rotation, out, across=across)
        both = np.isfinite(got) & np.isfinite(plain)
        assert both.mean() > 0.6
        assert np.abs(got - plain)[both].max() < limit


@pytest.mark.parametrize("fwhm", [8.0, 10.0, 13.0])
def test_four_taps_lose_less_than_a_thousandth_of_a_wide_peak(fwhm: float) -> None:
    rng = np.random.default_rng(43)
    y, x = np.mgrid[:96, :96] - 48.0
    image = np.exp(-4 * np.log(2) * (x**2 + y**2) / fwhm**2).astype(np.float32)
    grid = Grid(96, 96, 48.0, 48.0, CELL)
    worst = []
    for _ in range(20):
        dx, dy = rng.uniform(-0.5, 0.5, 2)
        got = resample(image, grid, np.eye(3), Grid(40, 40, 20.0 + dx, 20.0 + dy, CELL), across=fwhm)
        j, i = np.mgrid[:40, :40]
        truth = np.exp(-4 * np.log(2) * ((i - 20.0 - dx) ** 2 + (j - 20.0 - dy) ** 2) / fwhm**2)
        worst.append(float(np.abs(got - truth).max()))
    assert max(worst) < 1e-3
