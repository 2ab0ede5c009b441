"""Fluxes and positions of injected sources in the finished image."""

from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.formats.previews import celestial_wcs as wcs_of
from dsa110_contimg.imaging.image import image
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import SkyPosition, Visibilities

OPTIONS = ImagingOptions(size=512, cell_arcsec=7.0, threads=1)
OFFSETS = np.array([[0.2637, 0.1211], [-0.3593, 0.2071], [0.1313, -0.4117], [-0.1071, -0.2503]])
FLUXES = np.array([0.9, 0.5, 0.7, 0.25])


def without_pointings(vis: Visibilities) -> Visibilities:
    return replace(vis, pointing_mjd=np.empty(0), pointing_icrs_deg=np.empty((0, 2)))


@pytest.mark.parametrize("dec_deg", [16.1, 62.0])
def test_clean_keeps_flux_and_place_of_off_center_sources(dec_deg: float) -> None:
    vis = without_pointings(empty_tile(Tile(dec_deg=dec_deg)))
    sky = sources(vis, OFFSETS, FLUXES)
    add_sources(vis, sky, drifting=False)
    add_noise(vis, 0.02, seed=11)
    result = image(vis, OPTIONS)
    assert result.summary.bright is None
    for index, flux in enumerate(FLUXES):
        peak = peak_near(result.image, sky, index)
        assert peak.flux_jy == pytest.approx(flux, rel=0.01)
        assert np.hypot(peak.dx, peak.dy) < 0.1


@pytest.mark.parametrize("dec_deg", [16.1, 62.0])
def test_a_drifting_tile_keeps_flux_and_place(dec_deg: float) -> None:
    vis = empty_tile(Tile(dec_deg=dec_deg))
    sky = sources(vis, OFFSETS, FLUXES)
    add_sources(vis, sky)
    add_noise(vis, 0.02, seed=11)
    result = image(vis, OPTIONS, bright=sky)
    assert result.pbcor is not None
    for index, flux in enumerate(FLUXES):
        peak = peak_near(result.pbcor, sky, index)
        assert peak.flux_jy == pytest.approx(flux, rel=0.01)
        assert np.hypot(peak.dx, peak.dy) < 0.1


def test_a_mirrored_field_is_noticed() -> None:
    vis = empty_tile(Tile())
    sky = sources(vis, OFFSETS[:1], FLUXES[:1])
    add_sources(vis, sky)
    vis.vis = vis.vis.conj()
    result = image(vis, OPTIONS)
    assert result.pbcor is not None
    found = result.summary.peak_position
    assert abs(found.ra_deg - sky.ra_deg[0]) * np.cos(np.radians(found.dec_deg)) > 0.4


@pytest.mark.parametrize("subtract", [True, False])
def test_a_drifting_beam_gives_the_true_flux_at_the_center(subtract: bool) -> None:
    vis = empty_tile(Tile(dec_deg=16.0, n_times=24, n_antennas=16))
    sky = sources(vis, np.array([[0.0, 0.0]]), np.array([3.0]))
    add_sources(vis, sky)
    result = image(vis, replace(OPTIONS, subtract_bright=subtract), bright=sky)
    assert result.pbcor is not None
    assert peak_near(result.pbcor, sky, 0).flux_jy == pytest.approx(3.0, rel=0.01)
    middle = np.full_like(vis.pointing_icrs_deg, 0.0) + np.array(vis.phase_center)
    static = image(replace(vis, pointing_icrs_deg=middle), replace(OPTIONS, subtract_bright=False))
    assert static.pbcor is not None
    assert peak_near(static.pbcor, sky, 0).flux_jy < 2.9, "a static beam must miss the flux"


def test_noise_is_what_the_visibilities_carry() -> None:
    vis = without_pointings(empty_tile(Tile()))
    add_noise(vis, 1.0, seed=5)
    result = image(vis, replace(OPTIONS, weighting="natural", niter=0))
    assert result.summary.iterations == 0
    expected = 1.0 / np.sqrt(2.0 * result.summary.n_samples)
    assert result.summary.noise_jy == pytest.approx(expected, rel=0.05)
    assert result.pbcor is None
    assert result.beam is None


def test_one_thread_gives_the_same_bits() -> None:
    vis = empty_tile(Tile())
    sky = sources(vis, OFFSETS, FLUXES)
    add_sources(vis, sky)
    add_noise(vis, 0.3, seed=3)
    first, second = (image(vis, OPTIONS, bright=sky) for _ in range(2))
    for kind in ("dirty", "psf", "model", "residual", "image"):
        np.testing.assert_array_equal(getattr(first, kind).data, getattr(second, kind).data)


def test_products_say_what_they_are() -> None:
    vis = empty_tile(Tile())
    add_sources(vis, sources(vis, OFFSETS[:1], FLUXES[:1]))
    vis.flags[:, 4:] = True
    result = image(vis, replace(OPTIONS, pb_limit=0.9))
    assert result.image.kind == "image"
    assert result.model.unit == "Jy/pixel"
    assert result.image.cell_deg == pytest.approx(7.0 / 3600.0)
    assert result.image.freq_hz == pytest.approx(vis.freq_hz[:4].mean(), rel=1e-3)
    assert result.image.exposure_s == pytest.approx(309.0)
    assert result.image.header["WEIGHTING"] == "briggs"
    assert result.image.header["NMAJOR"] == result.summary.major_cycles > 0
    assert result.pbcor is not None
    assert result.beam is not None
    np.testing.assert_array_equal(np.isnan(result.pbcor.data), result.beam.data < 0.9)
    assert result.psf.data[256, 256] == 1.0


def test_nothing_to_image_is_said() -> None:
    vis = empty_tile(Tile())
    with pytest.raises(ImagingError, match="not known: choose natural, uniform or briggs"):
        image(vis, replace(OPTIONS, weighting="robust"))
    vis.flags[:] = True
    with pytest.raises(ImagingError, match="flagged"):
        image(vis, OPTIONS)


def test_a_phase_center_that_is_not_the_tiles_is_named() -> None:
    vis = empty_tile(Tile())
    add_noise(vis, 1.0, seed=1)
    image(replace(vis, phase_center=SkyPosition(vis.phase_center.ra_deg, vis.phase_center.dec_deg + 0.5)), OPTIONS)
    away = replace(vis, phase_center=SkyPosition(vis.phase_center.ra_deg, vis.phase_center.dec_deg - 3.0))
    with pytest.raises(ImagingError, match=r"is 3\.0\d deg from where the dishes looked"):
        image(away, OPTIONS)


def test_one_baseline_makes_no_image() -> None:
    vis = empty_tile(Tile(n_antennas=2))
    add_noise(vis, 1.0, seed=1)
    with pytest.raises(ImagingError, match="one baseline with unflagged data, of antennas 0 and 1"):
        image(vis, OPTIONS)


def test_a_bright_source_outside_the_image_is_modelled_or_reported(caplog: pytest.LogCaptureFixture) -> None:
    vis = empty_tile(Tile(n_channels=48, channel_width_hz=187.5e6 / 48))
    sky = sources(vis, np.array([[1.4, 0.3]]), np.array([20.0]))
    add_sources(vis, sky)
    add_noise(vis, 0.05, seed=4)
    small = replace(OPTIONS, size=256)
    known = image(vis, small, bright=sky)
    assert known.summary.bright is not None
    assert known.summary.noise_jy < 1.3 * known.summary.expected_noise_jy
    assert "outside the image" not in caplog.text
    unknown = image(vis, small)
    assert unknown.summary.noise_jy > 3.0 * unknown.summary.expected_noise_jy
    assert "a bright source outside the image" in caplog.text


@pytest.mark.parametrize("dec_deg", [pytest.param(16.1, marks=pytest.mark.slow), 85.0])
def test_across_ra_zero_and_near_the_pole(dec_deg: float) -> None:
    vis = empty_tile(Tile(dec_deg=dec_deg))
    # The whole sky turned: right ascension zero runs through the image.
    shift = vis.phase_center.ra_deg - 0.05
    looks = vis.pointing_icrs_deg - [shift, 0.0]
    looks[:, 0] %= 360.0
    vis = replace(
        vis, phase_center=SkyPosition((vis.phase_center.ra_deg - shift) % 360.0, vis.phase_center.dec_deg),
        pointing_icrs_deg=looks,
    )  # fmt: skip
    sky = sources(vis, OFFSETS, FLUXES)
    sky = replace(sky, ra_deg=sky.ra_deg % 360.0)
    add_sources(vis, sky)
    add_noise(vis, 0.02, seed=11)
    result = image(vis, OPTIONS, bright=sky)
    assert result.pbcor is not None
    assert np.ptp(sky.ra_deg) > 300.0
    for index, flux in enumerate(FLUXES):
        peak = peak_near(result.pbcor, sky, index)
        assert peak.flux_jy == pytest.approx(flux, rel=0.01)
        assert np.hypot(peak.dx, peak.dy) < 0.1


def test_local_noise_and_background_are_images() -> None:
    vis = empty_tile(Tile())
    add_noise(vis, 1.0, seed=5)
    result = image(vis, replace(OPTIONS, niter=0))
    noise = result.local_noise()
    assert noise.data.shape == (512, 512)
    assert np.median(noise.data) == pytest.approx(result.summary.noise_jy, rel=0.1)
    assert np.abs(result.background.data).max() < result.summary.noise_jy
    assert (result.rms.kind, result.rms.unit, result.background.kind) == ("rms", "Jy/beam", "background")
    boxes = len(result.rms.data)
    assert 3 <= boxes < 50
    sky, box = wcs_of(result.residual), 512 / boxes
    for i, j in ((0, 0), (boxes - 1, 1)):
        # The middle of a box, by astropy, in both images.
        x, y = sky.world_to_pixel(wcs_of(result.rms).pixel_to_world(i, j))
        assert (x, y) == pytest.approx(((i + 0.5) * box - 0.5, (j + 0.5) * box - 0.5), abs=1e-3)
        part = result.residual.data[int(j * box) : int((j + 1) * box), int(i * box) : int((i + 1) * box)]
        assert result.rms.data[j, i] == pytest.approx(part.std(), rel=0.15)


def test_divergence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    vis = empty_tile(Tile())
    add_sources(vis, sources(vis, OFFSETS, FLUXES))
    monkeypatch.setattr("dsa110_contimg.imaging.deconvolve.clean_pixels", _three_times_too_much)
    with pytest.raises(ImagingError, match="diverges"):
        image(vis, OPTIONS)


def test_a_gain_that_diverges_is_halved_until_the_fluxes_are_right(caplog: pytest.LogCaptureFixture) -> None:
    """With a loop gain above 2 each component leaves more than it takes away."""
    vis = without_pointings(empty_tile(Tile(n_antennas=12, n_times=3)))
    sky = sources(vis, OFFSETS[:2], FLUXES[:2])
    add_sources(vis, sky, drifting=False)
    add_noise(vis, 0.02, seed=11)
    caplog.set_level("WARNING", logger="dsa110_contimg.imaging.deconvolve")
    result = image(vis, replace(OPTIONS, size=256, cell_arcsec=12.0, gain=2.4, niter=3000))
    print(f"{result.summary.setbacks} setbacks: {caplog.messages}")
    assert result.summary.setbacks >= 1
    assert "repeated with gain 1.200" in caplog.messages[0]
    for index, flux in enumerate(FLUXES[:2]):
        assert peak_near(result.image, sky, index).flux_jy == pytest.approx(flux, rel=0.02)


def _three_times_too_much(values: np.ndarray, *_rest: object) -> tuple[np.ndarray, int, float]:
    return 3.0 * values.astype(float), 1, 0.0
