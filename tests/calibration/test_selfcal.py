"""A tile with phase errors, imaged, self-calibrated on what CLEAN found, and imaged again."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.calibration.selfcal import components_sky, self_calibrate
from dsa110_contimg.imaging.image import ImagingResult, image
from dsa110_contimg.options import CalibrationOptions, ImagingOptions
from dsa110_contimg.visibilities import SkyImage, SkyModel, Visibilities

IMAGING = ImagingOptions(size=384, cell_arcsec=9.0, threads=1)
OPTIONS = CalibrationOptions(selfcal_rounds=2)
OFFSETS = np.array([[0.2637, 0.1211], [-0.3593, 0.2071], [0.1313, -0.3117], [-0.1071, -0.2503]])
FLUXES = np.array([3.0, 0.5, 1.4, 0.25])


def sky_of(vis: Visibilities) -> SkyModel:
    return components_sky(vis, image(vis, IMAGING).model)


def tile_of(dec_deg: float) -> tuple[Visibilities, SkyModel]:
    vis = empty_tile(Tile(dec_deg=dec_deg, n_times=10))
    sky = sources(vis, OFFSETS, FLUXES)
    add_sources(vis, sky)
    add_noise(vis, 0.05, seed=5)
    return vis, sky


def spoil(vis: Visibilities, seed: int) -> None:
    """Turn each antenna by a constant phase and one that drifts."""
    print(f"phase seed {seed}")
    rng = np.random.default_rng(seed)
    times, when = np.unique(vis.time_mjd, return_inverse=True)
    ramp = np.linspace(-1.0, 1.0, times.size)[:, None]
    phase = rng.normal(0.0, 0.4, (1, vis.n_antennas)) + ramp * rng.normal(0.0, 0.3, (1, vis.n_antennas))
    turn = np.exp(1j * (phase[when, vis.antenna1] - phase[when, vis.antenna2]))
    vis.vis *= turn[:, None, None].astype(np.complex64)


def fluxes(result: ImagingResult, sky: SkyModel) -> NDArray[np.float64]:
    assert result.pbcor is not None
    return np.array([peak_near(result.pbcor, sky, index).flux_jy for index in range(len(sky))])


@pytest.mark.parametrize(("dec_deg", "rounds", "noise", "flux"), [(16.1, 4, 1.5, 0.01), (62.0, 2, 6.0, 0.05)])
def test_phase_errors_go_and_fluxes_come_back(dec_deg: float, rounds: int, noise: float, flux: float) -> None:
    vis, sky = tile_of(dec_deg)
    clean = image(vis, IMAGING)
    spoil(vis, seed=3)
    before = image(vis, IMAGING)
    tables = self_calibrate(vis, sky_of, replace(OPTIONS, selfcal_rounds=rounds))
    after = image(vis, IMAGING)
    assert [table.kind for table in tables] == ["GP", *["2G"] * (rounds - 1)]
    assert all((np.abs(np.abs(table.values[~table.flags]) - 1.0) < 1e-12).all() for table in tables)
    print(clean.summary.noise_jy, before.summary.noise_jy, after.summary.noise_jy)
    assert before.summary.noise_jy > 20.0 * clean.summary.noise_jy
    assert after.summary.noise_jy < noise * clean.summary.noise_jy
    assert fluxes(before, sky)[0] < 0.8 * fluxes(clean, sky)[0]
    np.testing.assert_allclose(fluxes(after, sky), fluxes(clean, sky), rtol=flux)


def test_a_good_tile_keeps_its_flux_scale() -> None:
    vis, sky = tile_of(62.0)
    before = image(vis, IMAGING)
    strength = np.abs(vis.vis).mean(dtype=float)
    assert len(self_calibrate(vis, sky_of, OPTIONS)) == 2
    after = image(vis, IMAGING)
    assert np.abs(vis.vis).mean(dtype=float) == pytest.approx(strength, rel=1e-6)
    ratio = fluxes(after, sky) / fluxes(before, sky)
    print(ratio)
    assert ratio[[0, 2]] == pytest.approx(1.0, abs=0.005)
    assert after.summary.noise_jy < 1.03 * before.summary.noise_jy


def test_it_is_off_unless_asked_for() -> None:
    assert CalibrationOptions().selfcal_rounds == 0
    vis = empty_tile(Tile(n_antennas=5, n_times=2))
    assert self_calibrate(vis, sky_of, CalibrationOptions()) == []


def test_a_model_too_weak_leaves_the_data_alone(caplog: pytest.LogCaptureFixture) -> None:
    vis, sky = tile_of(33.2)
    faint = replace(sky, flux_jy=np.full(4, 1e-6))
    rng = np.random.default_rng(9)
    vis.vis[:] = (rng.normal(size=vis.vis.shape) + 1j * rng.normal(size=vis.vis.shape)).astype(np.complex64)
    before = copy.deepcopy(vis)
    for model in (faint, faint.select(np.zeros(4, bool))):
        assert self_calibrate(vis, lambda _vis, model=model: model, OPTIONS) == []  # type: ignore[misc]
    np.testing.assert_array_equal(vis.vis, before.vis)
    np.testing.assert_array_equal(vis.flags, before.flags)
    assert "self-calibration" in caplog.text


def test_components_become_sources_behind_the_beam_with_what_was_subtracted() -> None:
    vis, sky = tile_of(33.2)
    data = np.zeros((384, 384), np.float32)
    data[192 + 60, 192 - 90] = 0.8
    model = SkyImage(data, vis.phase_center, 9.0 / 3600.0, kind="model")
    found = components_sky(vis, model, sky)
    assert found.names == ["component0", "s0", "s1", "s2", "s3"]
    assert found.flux_jy[0] > 0.8
    np.testing.assert_allclose(found.flux_jy[1:], FLUXES)
    east = (found.ra_deg[0] - vis.phase_center.ra_deg) * np.cos(np.radians(found.dec_deg[0]))
    assert (east, found.dec_deg[0] - vis.phase_center.dec_deg) == pytest.approx((0.225, 0.15), abs=1e-3)
