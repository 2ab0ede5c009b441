"""Tapers, ranges of baselines, masks, scales, a measured beam, spectral indices, averaging: each does what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import C, Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg import telescope
from dsa110_contimg.errors import ImagingError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.image import image
from dsa110_contimg.imaging.masks import catalog_mask
from dsa110_contimg.imaging.samples import average, expected_noise, weigh
from dsa110_contimg.imaging.scales import make_scales
from dsa110_contimg.kernels.beams import airy_power
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import SkyImage, SkyModel, SkyPosition, Visibilities

OPTIONS = ImagingOptions(size=480, cell_arcsec=7.0, threads=1)
OFFSETS = np.array([[0.2637, 0.1211], [-0.3593, 0.2071], [0.1313, -0.3417]])
FLUXES = np.array([0.25, 0.2, 0.1])


def noisy_tile() -> tuple[Visibilities, SkyModel]:
    vis = empty_tile(Tile())
    sky = sources(vis, OFFSETS, FLUXES)
    add_sources(vis, sky)
    add_noise(vis, 0.02, seed=11)
    return vis, sky


def test_a_taper_widens_the_beam_as_much_as_it_says() -> None:
    vis, _sky = noisy_tile()
    natural = replace(OPTIONS, weighting="natural", niter=0)
    before = image(vis, natural).summary.beam
    after = image(vis, replace(natural, taper_arcsec=120.0)).summary.beam
    assert after.major_arcsec == pytest.approx(np.hypot(before.major_arcsec, 120.0), rel=0.1)
    assert after.minor_arcsec == pytest.approx(np.hypot(before.minor_arcsec, 120.0), rel=0.1)


def test_a_range_of_baselines_is_kept_and_an_empty_one_refused() -> None:
    vis, _sky = noisy_tile()
    blocks = average(vis)
    weigh(blocks, Field(480, 3.4e-5), replace(OPTIONS, uv_min_wavelengths=500.0, uv_max_wavelengths=1500.0))
    for block in blocks:
        length = np.hypot(*block.uvw_m[:, :2].T)[:, None] * block.freq_hz / C
        np.testing.assert_array_equal(block.weights > 0.0, (length >= 500.0) & (length <= 1500.0))
    with pytest.raises(ImagingError, match="longer than 900 and shorter than 800"):
        image(vis, replace(OPTIONS, uv_min_wavelengths=900.0, uv_max_wavelengths=800.0))
    with pytest.raises(ImagingError, match="no visibility has a weight"):
        image(vis, replace(OPTIONS, uv_min_wavelengths=1e6))


def test_a_catalog_mask_keeps_components_to_catalog_sources() -> None:
    vis, sky = noisy_tile()
    known = sky.select(np.array([0, 1]))
    options = replace(OPTIONS, mask="catalog", mask_min_jy=0.05, subtract_bright=False)
    field = Field(480, float(np.radians(7.0 / 3600.0)) / vis.aberration)
    mask = catalog_mask(vis, field, known, options)
    assert mask is not None
    assert 2 * 150 < mask.sum() < 2 * 300, "two discs of 60 arcsec"
    near = image(vis, options, bright=known)
    found = np.argwhere(near.model.data)
    assert len(found) > 5
    grown = np.pad(mask, 2)
    assert all(grown[y : y + 5, x : x + 5].any() for y, x in found)
    both = image(vis, replace(options, mask="both"), bright=known)
    assert np.abs(both.residual.data).max() < np.abs(near.residual.data).max()
    for wrong, match in (({"mask": "box"}, "choose auto"), ({"mask_min_jy": 99.0}, "no catalog source reaches 99 Jy")):
        with pytest.raises(ImagingError, match=match):
            image(vis, replace(options, **wrong), bright=known)


def extended_tile() -> Visibilities:
    """A Gaussian of 150 arcsec and 2 Jy, no beam, as a sum of points."""
    vis = replace(empty_tile(Tile()), pointing_mjd=np.empty(0), pointing_icrs_deg=np.empty((0, 2)))
    axis = np.arange(-10, 11) * 20.0
    east, north = (plane.ravel() for plane in np.meshgrid(axis, axis))
    weight = np.exp(-4.0 * np.log(2.0) * (east**2 + north**2) / 150.0**2)
    offsets = np.stack([east, north], axis=1) / 3600.0 + np.array([0.2, -0.1])
    add_sources(vis, sources(vis, offsets, 2.0 * weight / weight.sum()), drifting=False)
    add_noise(vis, 0.05, seed=12)
    return vis


def test_scales_find_the_flux_of_what_is_extended() -> None:
    vis = extended_tile()
    options = replace(OPTIONS, niter=400, max_major=12)
    points, many = image(vis, options), image(vis, replace(options, scales="1.5,3"))
    for result in (points, many):
        print(f"model {result.model.data.sum():.3f} Jy, residual {1e3 * result.residual.data.std():.2f} mJy")
    assert many.model.data.sum() == pytest.approx(2.0, rel=0.03)
    assert many.residual.data.std() < points.residual.data.std()
    with pytest.raises(ImagingError, match="are no numbers"):
        image(vis, replace(options, scales="2;4"))
    with pytest.raises(ImagingError, match="a scale of 90 beams"):
        image(vis, replace(options, scales="90"))


def test_a_scale_sees_a_component_of_its_own_at_its_height() -> None:
    y, x = np.mgrid[:128, :128] - 64
    psf = np.exp(-(x**2 + y**2) / 18.0).astype(np.float32)
    scale = make_scales(psf, 7.0, "2")[1]
    pixels, fluxes = scale.spread(np.array([[60, 70], [1, 2]], np.int32), np.array([3.0, 1.0]), 128)
    assert fluxes.sum() < 4.0 / scale.response
    alone = scale.spread(np.array([[64, 64]], np.int32), np.array([3.0]), 128)
    model = np.zeros((128, 128), np.float32)
    model[alone[0][:, 0], alone[0][:, 1]] = alone[1]
    transform = np.fft.fft2(model) * np.fft.fft2(np.fft.ifftshift(psf))
    residual = np.real(np.fft.ifft2(transform)).astype(np.float32)
    assert scale.seen(residual)[64, 64] == pytest.approx(3.0, rel=1e-3)
    assert len(pixels)


def airy_file(path: Path, *, scale: float = 1.0, stretched: bool) -> Path:
    """The Airy beam at 1.405 GHz, a third wider, as a FITS image."""
    cell = np.radians(0.05)
    y, x = np.mgrid[:201, :201] - 100
    power = scale * airy_power(np.hypot(x, y) * cell, 1.405e9, telescope.DISH_DIAMETER_M / 1.3)
    beam = SkyImage(power.astype(np.float32), SkyPosition(0.0, 0.0), 0.05, unit="", kind="beam")
    return fits_image.save(replace(beam, freq_hz=1.405e9 if stretched else float("nan")), path)


def test_a_measured_beam_takes_the_place_of_the_airy_disk(tmp_path: Path) -> None:
    vis, sky = noisy_tile()
    wide = airy_file(tmp_path / "beam.fits", stretched=True)
    result = image(vis, replace(OPTIONS, beam_file=str(wide), niter=0), bright=sky)
    plain = image(vis, replace(OPTIONS, niter=0), bright=sky)
    assert result.beam is not None
    assert plain.beam is not None
    looks = np.radians(vis.pointing_icrs_deg)
    y, x = 330, 400
    east, north = -(x - 240) * np.radians(7.0 / 3600.0), (y - 240) * np.radians(7.0 / 3600.0)
    ra0, dec0 = np.radians(vis.phase_center)
    dec, ra = dec0 + north, ra0 + east / np.cos(dec0 + north / 2.0)
    angle = np.hypot((ra - looks[:, 0]) * np.cos(dec), dec - looks[:, 1])
    expected = airy_power(angle[:, None], vis.freq_hz, telescope.DISH_DIAMETER_M / 1.3).mean()
    assert result.beam.data[y, x] == pytest.approx(expected, abs=0.003)
    assert result.beam.data[y, x] > plain.beam.data[y, x] + 0.02
    half = airy_file(tmp_path / "half.fits", scale=0.5, stretched=False)
    with pytest.raises(ImagingError, match=r"half.fits is 0.5 at its reference pixel"):
        image(vis, replace(OPTIONS, beam_file=str(half)))


def test_two_terms_find_the_spectral_index_of_a_bright_source() -> None:
    vis = empty_tile(Tile(dec_deg=16.0, n_channels=16, channel_width_hz=187.5e6 / 16))
    sky = sources(vis, np.array([[0.4, 0.2]]), np.array([5.0]))
    for chan, freq in enumerate(vis.freq_hz):
        part = replace(vis, vis=vis.vis[:, chan : chan + 1], freq_hz=vis.freq_hz[chan : chan + 1])
        add_sources(part, replace(sky, flux_jy=sky.flux_jy * (freq / sky.ref_freq_hz) ** -0.8))
        vis.vis[:, chan] = part.vis[:, 0]
    add_noise(vis, 0.01, seed=3)
    wrong = replace(sky, spectrum=np.full((1, 1), -0.3))
    one, two = (image(vis, replace(OPTIONS, spectral_terms=n), bright=wrong) for n in (1, 2))
    assert one.summary.bright is not None
    assert two.summary.bright is not None
    assert one.summary.bright.index_change[0] == 0.0
    assert two.summary.bright.sky.spectrum[0, 0] == pytest.approx(-0.8, abs=0.01)
    assert two.summary.bright.sky.flux_jy[0] == pytest.approx(5.0, rel=2e-3)
    assert np.abs(two.residual.data).max() < 0.3 * np.abs(one.residual.data).max()


def test_faint_sources_are_taken_off_as_the_catalogue_has_them() -> None:
    vis = empty_tile(Tile(dec_deg=16.0, n_times=12, n_channels=96, channel_width_hz=187.5e6 / 96, n_antennas=16))
    sky = sources(vis, np.array([[0.9, 0.1], [-0.8, -0.3]]), np.array([0.36, 0.33]))
    add_sources(vis, sky)
    add_noise(vis, 0.02, seed=5)
    options = replace(OPTIONS, size=480, cell_arcsec=20.0)
    # One is 5 % fainter than listed; the other, which varies, 30 % brighter.
    with_it = image(vis, options, bright=replace(sky, flux_jy=np.array([1.05, 0.7]) * sky.flux_jy))
    without = image(vis, replace(options, subtract_bright=False))
    assert with_it.summary.bright is None, "both are fainter than 0.3 Jy behind the beam"
    assert sum(len(one) for one in with_it.summary.subtracted) == 2
    assert with_it.summary.noise_jy < 0.5 * without.summary.noise_jy
    assert with_it.pbcor is not None
    for index in (0, 1):
        assert peak_near(with_it.pbcor, sky, index).flux_jy == pytest.approx(sky.flux_jy[index], rel=0.01)


def test_the_expected_noise_is_that_of_an_empty_image() -> None:
    vis = empty_tile(Tile())
    add_noise(vis, 1.0, seed=5)
    blocks = average(vis)
    weigh(blocks, Field(480, float(np.radians(7.0 / 3600.0))), OPTIONS)
    total = sum(block.weights.sum(dtype=float) for block in blocks)
    square = sum(np.sum(block.weights.astype(float) ** 2) for block in blocks)
    assert expected_noise(blocks) == pytest.approx(np.sqrt(0.5 * square) / total, rel=0.02)


@pytest.mark.parametrize("offset_deg", [(1.35, 0.2), (-0.4, -1.3)])
def test_the_corrected_image_knows_the_spectrum_of_a_source_off_axis(offset_deg: tuple[float, float]) -> None:
    vis = empty_tile(Tile(n_channels=32, channel_width_hz=187.5e6 / 32))
    sky = replace(sources(vis, np.array([offset_deg]), np.array([1.0])), spectrum=np.array([[-0.7]]))
    add_sources(vis, sky)
    options = replace(OPTIONS, size=1500, niter=0, subtract_bright=False)
    ratios = {}
    for index in (-0.7, 0.0):
        result = image(vis, replace(options, spectral_index=index))
        assert result.pbcor is not None
        truth_jy = sky.flux_at(np.array([result.image.freq_hz]))[0, 0]
        ratios[index] = peak_near(result.pbcor, sky, 0).flux_jy / truth_jy
    print(ratios)
    assert ratios[-0.7] == pytest.approx(1.0, abs=1e-3)
    assert ratios[0.0] > 1.002, "a flat spectrum reads the steep source high"
