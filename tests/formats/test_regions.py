"""Outlines of images and regions of queries, against brute force: every pixel of the image is tried."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.formats.footprints import Footprint, footprint, footprint_of
from dsa110_contimg.formats.previews import celestial_wcs
from dsa110_contimg.formats.regions import Region, parse_region
from dsa110_contimg.visibilities import SkyImage, SkyPosition

CENTERS = [SkyPosition(187.3, 37.0), SkyPosition(0.3, -12.0), SkyPosition(40.0, 88.9)]


def image_at(center: SkyPosition, ny: int = 60, nx: int = 130, cell_deg: float = 0.05) -> SkyImage:
    return SkyImage(np.zeros((ny, nx), np.float32), center, cell_deg, reference_pixel=(20.0, 31.5))


def every_pixel(place: Footprint) -> tuple[np.ndarray, np.ndarray]:
    ny, nx = place.image.data.shape
    y, x = np.mgrid[-0.5 : ny - 0.5 : 4j * ny, -0.5 : nx - 0.5 : 4j * nx]
    ra, dec = celestial_wcs(place.image).all_pix2world(x.ravel(), y.ravel(), 0)
    return ra, dec


@pytest.mark.parametrize("center", CENTERS)
def test_the_outline_and_the_circle_hold_the_image(center: SkyPosition) -> None:
    place = footprint_of(image_at(center))
    ra, dec = every_pixel(place)
    assert place.holds(ra, dec).mean() > 0.99
    circle = Region("CIRCLE", (*place.middle, place.radius_deg + 1e-6))
    assert circle.contains(ra, dec).all()
    polygon = Region("POLYGON", tuple(value for corner in place.outline for value in corner))
    inner = place.points()
    assert polygon.contains(*inner).mean() > 0.8
    away = np.array([(center.ra_deg + 180.0) % 360.0]), np.array([-center.dec_deg])
    assert not place.holds(*away).any()
    assert not polygon.contains(*away).any()


@pytest.mark.parametrize("center", CENTERS)
def test_circles_ranges_and_polygons_meet_what_they_meet(center: SkyPosition) -> None:
    place = footprint_of(image_at(center))
    ra, dec = every_pixel(place)
    rng, met = np.random.default_rng(110), 0
    for number in range(150):
        around = rng.normal(0.0, 6.0, 2)
        at_dec = float(np.clip(center.dec_deg + around[1], -89.5, 89.5))
        at_ra = float((center.ra_deg + around[0] / np.cos(np.radians(at_dec))) % 360.0)
        size = float(10 ** rng.uniform(-2.0, 0.7))
        if number % 3 == 0:
            region = Region("CIRCLE", (at_ra, at_dec, size))
        elif number % 3 == 1:
            low, high = max(at_dec - size, -90.0), min(at_dec + size, 90.0)
            region = Region("RANGE", ((at_ra - size) % 360.0, (at_ra + size) % 360.0, low, high))
        else:
            corners = [(at_ra + size * np.cos(a) / np.cos(np.radians(at_dec)), at_dec + 0.5 * size * np.sin(a))
                       for a in (0.3, 2.4, 4.5)]  # fmt: skip
            region = Region("POLYGON", tuple(float(v) for corner in corners for v in (corner[0] % 360.0, corner[1])))
        truly = bool(region.contains(ra, dec).any()) or bool(place.holds(*region.boundary()).any())
        assert region.meets(place) == truly, (number, region)
        met += truly
    assert 20 < met < 130


def test_a_range_may_go_across_zero_or_around_the_sky() -> None:
    ra, dec = np.array([359.5, 0.5, 180.0]), np.array([0.0, 0.0, 0.0])
    assert Region("RANGE", (359.0, 1.0, -1.0, 1.0)).contains(ra, dec).tolist() == [True, True, False]
    assert parse_region("RANGE -Inf +Inf -1 1").contains(ra, dec).all()
    assert parse_region("range 0 360 -inf inf").contains(ra, dec).all()


@pytest.mark.parametrize(
    "text",
    ["CIRCLE 1 2", "CIRCLE 1 2 -3", "CIRCLE 1 95 1", "CIRCLE a b c", "BOX 1 2 3 4", "RANGE 1 2 3", "POLYGON 1 2 3 4",
     "CIRCLE nan 2 1", "POLYGON 1 2 3 4 5", "POLYGON 1 2 3 4 5 inf"],
)  # fmt: skip
def test_what_is_no_region_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="POS"):
        parse_region(text)


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_any_text_is_a_region_or_a_sentence(text: str) -> None:
    try:
        parse_region(text)
    except ValueError as error:
        assert "POS" in str(error)


def test_a_file_says_where_it_lies(tmp_path: Path) -> None:
    path = fits_image.save(image_at(SkyPosition(0.3, -12.0)), tmp_path / "sky.fits")
    assert footprint(path).outline == footprint_of(image_at(SkyPosition(0.3, -12.0))).outline
    with pytest.raises(BadInputError, match="cannot be read"):
        footprint(tmp_path / "nosuch.fits")
