"""What the options say, WSClean does too: weights, tapers, masks, scales, and what is taken off before it starts."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.image import ImagingResult, image
from dsa110_contimg.imaging.masks import catalog_mask
from dsa110_contimg.imaging.wsclean import arguments
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities

OPTIONS = ImagingOptions(size=480, cell_arcsec=12.0, threads=1)
WSCLEAN = replace(OPTIONS, engine="wsclean")
FIELD = Field(480, float(np.radians(12.0 / 3600.0)))
OFFSETS_DEG = np.array([[0.31, 0.22], [-0.42, 0.11], [0.12, -0.47]])
needs_wsclean = pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")


@pytest.fixture(scope="module")
def tile() -> tuple[Visibilities, SkyModel]:
    vis = empty_tile(Tile(n_antennas=16, n_times=4))
    sky = sources(vis, OFFSETS_DEG, np.array([0.25, 0.2, 0.15]))
    add_sources(vis, sky)
    add_noise(vis, 0.05, 5)
    return vis, sky


@pytest.fixture(scope="module")
def briggs(tile: tuple[Visibilities, SkyModel]) -> ImagingResult:
    return image(tile[0], replace(OPTIONS, niter=0, robust=0.8))


@needs_wsclean
@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"weighting": "natural"}, 1e-3),
        ({"weighting": "uniform"}, 3e-3),
        ({"robust": -0.5}, 1e-3),
        ({"taper_arcsec": 90.0}, 1.5e-2),
        ({"uv_min_wavelengths": 300.0, "uv_max_wavelengths": 2000.0}, 1e-2),
        ({"weighting": "uniform", "taper_arcsec": 60.0, "uv_max_wavelengths": 2000.0}, 1.5e-2),
    ],
)
def test_weights_are_the_same(
    tile: tuple[Visibilities, SkyModel], briggs: ImagingResult, settings: dict[str, float | str], limit: float
) -> None:
    """Tapers and ranges of baselines agree to a cell of WSClean's uv grid, 36 wavelengths here."""
    own, other = (image(tile[0], replace(base, niter=0, **settings)) for base in (OPTIONS, WSCLEAN))  # type: ignore[arg-type]
    psf = float(np.abs(own.psf.data - other.psf.data).max())
    dirty = float(np.abs(own.dirty.data - other.dirty.data).max() / own.dirty.data.max())
    print(f"{settings}: psf within {psf:.1e}, dirty image within {dirty:.1e}")
    assert psf < limit
    assert dirty < limit
    assert np.abs(briggs.psf.data - other.psf.data).max() > 2.0 * limit, "other weights would be seen"


@needs_wsclean
def test_components_stay_at_catalog_sources(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, sky = tile
    known = sky.select(np.array([0, 2]))
    options = replace(WSCLEAN, mask="catalog", mask_min_jy=0.05, subtract_bright=False)
    allowed = catalog_mask(vis, Field(480, FIELD.cell_rad / vis.aberration), known, options)
    assert allowed is not None
    made = image(vis, options, bright=known)
    assert len(np.argwhere(made.model.data)) > 5
    assert not np.any(made.model.data[~allowed])
    for index, left in enumerate((0.1, 0.7, 0.1)):
        apparent = peak_near(made.dirty, sky, index).flux_jy
        assert (peak_near(made.residual, sky, index).flux_jy > left * apparent) == (index == 1)


@needs_wsclean
def test_scales_find_what_is_extended() -> None:
    vis = replace(empty_tile(Tile()), pointing_mjd=np.empty(0), pointing_icrs_deg=np.empty((0, 2)))
    east, north = (plane.ravel() * 30.0 for plane in np.meshgrid(np.arange(-7, 8), np.arange(-7, 8)))
    weight = np.exp(-4.0 * np.log(2.0) * (east**2 + north**2) / 150.0**2)
    offsets = np.stack([east, north], axis=1) / 3600.0 + np.array([0.2, -0.1])
    add_sources(vis, sources(vis, offsets, 2.0 * weight / weight.sum()), drifting=False)
    add_noise(vis, 0.05, seed=12)
    many = image(vis, replace(WSCLEAN, cell_arcsec=7.0, scales="1.5,3"))
    print(f"{many.model.data.sum():.2f} of 2 Jy found, residual {1e3 * many.residual.data.std():.2f} mJy")
    # Points alone find 1.0 Jy and leave 5.8 mJy.
    assert many.model.data.sum() == pytest.approx(2.0, abs=0.3)
    assert many.residual.data.std() < 2.5e-3


@needs_wsclean
def test_what_the_beam_modulates_is_taken_off_before() -> None:
    vis = empty_tile(Tile(dec_deg=16.0, n_times=12, n_channels=48, channel_width_hz=187.5e6 / 48, n_antennas=12))
    sky = sources(vis, np.array([[0.9, 0.1], [-0.8, -0.3]]), np.array([0.36, 0.33]))
    add_sources(vis, sky)
    add_noise(vis, 0.02, seed=5)
    wide = replace(WSCLEAN, cell_arcsec=20.0)
    with_it = image(vis, wide, bright=replace(sky, flux_jy=1.05 * sky.flux_jy))
    without = image(vis, replace(wide, subtract_bright=False))
    print(f"noise {1e3 * with_it.summary.noise_jy:.3f} mJy, {1e3 * without.summary.noise_jy:.3f} mJy without")
    assert with_it.summary.noise_jy < 0.5 * without.summary.noise_jy
    assert with_it.pbcor is not None
    for index in (0, 1):
        assert peak_near(with_it.pbcor, sky, index).flux_jy == pytest.approx(sky.flux_jy[index], rel=0.01)


def test_each_option_has_its_words() -> None:
    told = " ".join(arguments(FIELD, WSCLEAN))
    for words in ("-auto-mask 5.0", "-auto-threshold 1.0", "-j 1", "-nmiter 12"):
        assert words in told
    assert "multiscale" not in told
    # A Gaussian that WSClean calls 45.3 pixels wide is 20 pixels wide at half maximum.
    many = " ".join(arguments(FIELD, WSCLEAN, [20.0, 40.0]))
    assert "-multiscale -multiscale-shape gaussian -multiscale-scales 0,45.3,90.59" in many
    assert "auto-mask" not in " ".join(arguments(FIELD, replace(WSCLEAN, mask="catalog")))
    with pytest.raises(ConfigurationError, match="knows no mask 'both': use auto or catalog"):
        arguments(FIELD, replace(WSCLEAN, mask="both"))
