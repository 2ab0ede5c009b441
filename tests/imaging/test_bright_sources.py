"""Bright sources come off the visibilities with the flux of the data, not of the catalogue."""

from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.imaging.bright_sources import select_bright
from dsa110_contimg.imaging.image import image
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.simulation.injection import inject
from dsa110_contimg.visibilities import SkyModel, Visibilities

TILE = Tile(dec_deg=16.0, n_times=12, n_channels=16, channel_width_hz=187.5e6 / 16)
OPTIONS = ImagingOptions(size=480, cell_arcsec=24.0, threads=1)


def wrong_catalogue(sky: SkyModel) -> SkyModel:
    """Fluxes 10 % off, positions by half an arcsecond."""
    flux = sky.flux_jy * (1.0 + 0.1 * (-1.0) ** np.arange(len(sky)))
    return replace(sky, flux_jy=flux, ra_deg=sky.ra_deg + 0.4 / 3600.0, dec_deg=sky.dec_deg - 0.3 / 3600.0)


@pytest.mark.parametrize("east_deg", [0.0, 1.0])
def test_a_sixteen_jansky_source_leaves_nothing_behind(east_deg: float) -> None:
    vis = empty_tile(TILE)
    sky = sources(vis, np.array([[east_deg, 0.05]]), np.array([16.0]))
    add_sources(vis, sky)
    add_noise(vis, 0.01, seed=2)
    result = image(vis, OPTIONS, bright=wrong_catalogue(sky))
    bright = result.summary.bright
    assert bright is not None
    assert np.abs(result.residual.data).max() < 1e-3 * 16.0 * 0.5
    assert bright.sky.flux_jy[0] == pytest.approx(16.0, rel=1e-3)
    np.testing.assert_allclose(bright.shift_arcsec[0], [-0.4 * np.cos(np.radians(16.0)), 0.3], atol=0.03)
    assert result.pbcor is not None
    peak = peak_near(result.pbcor, sky, 0)
    assert peak.flux_jy == pytest.approx(16.0, rel=2e-3)
    assert np.hypot(peak.dx, peak.dy) < 0.05


def test_without_subtraction_the_drift_limits_the_image() -> None:
    vis = empty_tile(TILE)
    sky = sources(vis, np.array([[1.0, 0.05]]), np.array([16.0]))
    add_sources(vis, sky)
    add_noise(vis, 0.01, seed=2)
    taken = image(vis, OPTIONS, bright=wrong_catalogue(sky))
    left = image(vis, replace(OPTIONS, subtract_bright=False), bright=wrong_catalogue(sky))
    assert left.summary.bright is None
    assert np.abs(left.residual.data).max() > 5.0 * np.abs(taken.residual.data).max()


def test_sidelobes_of_one_do_not_enter_the_flux_of_another() -> None:
    vis = empty_tile(TILE)
    sky = sources(vis, np.array([[0.2, 0.1], [-0.35, 0.4], [0.6, -0.5]]), np.array([16.0, 1.0, 0.8]))
    add_sources(vis, sky)
    add_noise(vis, 0.01, seed=4)
    bright = image(vis, OPTIONS, bright=wrong_catalogue(sky)).summary.bright
    assert bright is not None
    assert len(bright.sky) == 3
    np.testing.assert_allclose(np.sort(bright.sky.flux_jy)[::-1], [16.0, 1.0, 0.8], rtol=3e-3)


def test_a_source_that_is_not_there_is_not_invented() -> None:
    vis = empty_tile(TILE)
    real = sources(vis, np.array([[0.4, 0.3]]), np.array([5.0]))
    catalogue = sources(vis, np.array([[0.4, 0.3], [-0.5, -0.2]]), np.array([5.0, 2.0]))
    add_sources(vis, real)
    add_noise(vis, 0.01, seed=9)
    result = image(vis, OPTIONS, bright=catalogue)
    assert result.summary.bright is not None
    assert result.summary.bright.sky.names == ["s0"]
    assert result.pbcor is not None
    x, y = 240 + round(0.5 * 150), 240 - round(0.2 * 150)
    assert np.abs(result.pbcor.data[y - 5 : y + 6, x - 5 : x + 6]).max() < 0.01


def test_selection_looks_through_the_beam_and_joins_blends() -> None:
    vis = empty_tile(TILE)
    offsets = np.array([[0.0, 0.3], [0.0, 0.3005], [0.0, 2.4], [-0.5, 0.0]])
    sky = sources(vis, offsets, np.array([1.0, 2.0, 3.0, 0.2]))
    assert select_bright(vis, sky).names == ["s1"]
    assert len(select_bright(vis, sky.select(np.array([3])))) == 0


def test_without_pointings_nothing_is_subtracted() -> None:
    vis = replace(empty_tile(TILE), pointing_mjd=np.empty(0), pointing_icrs_deg=np.empty((0, 2)))
    sky = sources(vis, np.array([[0.4, 0.3]]), np.array([5.0]))
    add_sources(vis, sky, drifting=False)
    result = image(vis, OPTIONS, bright=sky)
    assert result.summary.bright is None
    assert peak_near(result.image, sky, 0).flux_jy == pytest.approx(5.0, rel=0.01)


def smeared(tile: Tile, east_deg: float) -> tuple[Visibilities, SkyModel]:
    """A 16 Jy source whose visibilities are means over each integration and channel, as the dishes see it drift by."""
    vis = empty_tile(tile)
    sky = sources(vis, np.array([[east_deg, 0.05]]), np.array([16.0]))
    inject(vis, sky, smear=True)
    return vis, sky


@pytest.mark.parametrize(
    ("dec_deg", "east_deg"),
    [pytest.param(62.0, 0.3, marks=pytest.mark.slow), (16.0, 1.0), pytest.param(85.0, -1.0, marks=pytest.mark.slow)],
)
def test_the_dynamic_range_beside_a_calibrator(dec_deg: float, east_deg: float) -> None:
    tile = replace(TILE, dec_deg=dec_deg, n_antennas=14, n_channels=48, channel_width_hz=187.5e6 / 48)
    vis, sky = smeared(tile, east_deg)
    options = replace(OPTIONS, smearing=True, niter=300)
    result = image(vis, options, bright=wrong_catalogue(sky))
    peak, residual = float(result.image.data.max()), result.residual.data
    y, x = np.unravel_index(int(result.image.data.argmax()), residual.shape)
    rows, columns = np.ogrid[: residual.shape[0], : residual.shape[1]]
    beams = np.hypot(rows - y, columns - x) * 24.0 / result.summary.beam.major_arcsec
    over_rms, over_worst = peak / residual[beams > 20.0].std(), peak / np.abs(residual).max()
    print(f"dec {dec_deg} {east_deg} deg off: peak over rms {over_rms:.0f}, over the largest residual {over_worst:.0f}")
    assert over_rms > 20000.0
    assert over_worst > 5000.0
    assert result.pbcor is not None
    assert peak_near(result.pbcor, sky, 0).flux_jy == pytest.approx(16.0, rel=3e-3)
    if east_deg == 1.0:
        blind = image(vis, replace(options, smearing=False), bright=wrong_catalogue(sky))
        assert np.abs(blind.residual.data).max() > 3.0 * np.abs(residual).max()
