"""Cutouts and small pictures, against images with sources at known places: off the center, across RA 0, at the pole."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import cutouts, fits_image
from dsa110_contimg.formats.previews import celestial_wcs
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

CENTERS = [SkyPosition(187.3, 37.0), SkyPosition(0.1, -12.0), SkyPosition(359.9, 54.6), SkyPosition(40.0, 89.7)]
OFFSETS = [(0.31, 0.22), (-0.27, 0.4), (0.05, -0.33)]
CELL_DEG = 4.0 / 3600.0


def sky(center: SkyPosition, size: int = 1200) -> tuple[SkyImage, list[SkyPosition]]:
    """Return an image of noise with a point source at each of OFFSETS (deg east, deg north), and where they are."""
    data = np.random.default_rng(5).normal(0.0, 1e-3, (size, size - 100)).astype(np.float32)
    image = SkyImage(data, center, CELL_DEG, beam=Beam(20.0, 15.0, 10.0), noise_jy=1e-3, start_mjd=61033.0)
    wcs, places = celestial_wcs(image), []
    for east, north in OFFSETS:
        x, y = round(image.center_pixel[0] - east / CELL_DEG), round(image.center_pixel[1] + north / CELL_DEG)
        data[y, x] = 1.0
        ra, dec = (float(value) for value in wcs.all_pix2world(x, y, 0))
        places.append(SkyPosition(ra, dec))
    return image, places


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("quantization", [0.0, 16.0])
def test_a_source_lies_in_the_middle_and_its_file_says_where(
    tmp_path: Path, center: SkyPosition, quantization: float
) -> None:
    image, places = sky(center)
    path = fits_image.save(image, tmp_path / "sky.fits", quantization=quantization)
    for place in places:
        part = cutouts.cutout(path, place, 2.0 / 60.0)
        assert part is not None
        assert part.data.shape == (31, 31)
        assert np.argmax(part.data) == 15 * 31 + 15
        with fits.open(io.BytesIO(fits_image.content(part))) as hdus:
            ra, dec = WCS(hdus[0].header).celestial.all_pix2world(15, 15, 0)
            peak = float(hdus[0].data[0, 0, 15, 15])
        apart = np.hypot((float(ra) - place.ra_deg + 180) % 360 - 180, 0) * np.cos(np.radians(place.dec_deg))
        assert abs(apart) < 1e-8
        assert float(dec) == pytest.approx(place.dec_deg, abs=1e-8)
        assert peak == pytest.approx(1.0, abs=2e-3)


def test_what_lies_outside_is_nan_and_far_away_is_nothing(tmp_path: Path) -> None:
    image, _ = sky(SkyPosition(0.1, -12.0))
    path = fits_image.save(image, tmp_path / "sky.fits")
    corner = celestial_wcs(image).all_pix2world(0, 0, 0)
    part = cutouts.cutout(path, SkyPosition(float(corner[0]), float(corner[1])), 4.0 / 60.0)
    assert part is not None
    assert part.data.shape == (61, 61)
    assert np.isnan(part.data[:30]).all()
    assert np.isnan(part.data[:, :30]).all()
    np.testing.assert_array_equal(part.data[30:, 30:], image.data[:31, :31])
    assert cutouts.cutout(path, SkyPosition(180.1, 12.0), 0.1) is None
    assert cutouts.cutout(path, SkyPosition(3.0, -12.0), 0.1) is None


def noise_only() -> SkyImage:
    data = np.random.default_rng(6).normal(0.0, 1e-3, (300, 200)).astype(np.float32)
    return SkyImage(data, SkyPosition(10.0, 20.0), CELL_DEG, noise_jy=1e-3)


def test_a_blank_part_is_nothing(tmp_path: Path) -> None:
    image = noise_only()
    image.data[:] = np.nan
    image.data[0, 0] = 1.0
    path = fits_image.save(image, tmp_path / "sky.fits")
    assert cutouts.cutout(path, SkyPosition(10.0, 20.0), 0.02) is None


def test_a_reduced_image_keeps_its_sources_in_place(tmp_path: Path) -> None:
    image, places = sky(SkyPosition(359.9, 54.6))
    path = fits_image.save(image, tmp_path / "sky.fits")
    small = cutouts.reduced(path, 300)
    assert max(small.data.shape) == 300
    wcs = celestial_wcs(small)
    for place in places:
        x, y = (round(float(value)) for value in wcs.all_world2pix(place.ra_deg, place.dec_deg, 0))
        near = small.data[y - 1 : y + 2, x - 1 : x + 2]
        assert near.max() > 0.5


def test_a_picture_has_north_up_and_nothing_where_there_is_nothing() -> None:
    image = noise_only()
    image.data[:150] = np.nan
    image.data[290, 5] = 10.0
    drawn = Image.open(io.BytesIO(cutouts.picture(image, magnify=2))).convert("RGBA")
    assert drawn.size == (400, 600)
    pixels = np.asarray(drawn)
    assert (pixels[300:, :, 3] == 0).all()
    assert (pixels[:300, :, 3] == 255).all()
    bright = np.argwhere(pixels[:300, :, :3].sum(axis=2) == pixels[:300, :, :3].sum(axis=2).max())
    assert bright.min(axis=0).tolist() == [18, 10]
    assert len(cutouts.small(cutouts.picture(image), 100)) < 6000
    blank = SkyImage(np.full((9, 9), np.nan, np.float32), SkyPosition(1.0, 2.0), CELL_DEG)
    assert Image.open(io.BytesIO(cutouts.picture(blank))).size == (9, 9)


def test_what_is_no_image_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "sky.fits"
    path.write_bytes(b"no FITS")
    with pytest.raises(BadInputError, match="not a readable FITS image"):
        cutouts.cutout(path, SkyPosition(1.0, 2.0), 0.1)
    with pytest.raises(BadInputError, match="no picture"):
        cutouts.small(b"no picture", 100)
