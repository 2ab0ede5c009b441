"""The map of the sky: positions where they belong, areas that are equal, and words for who does not see it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy import units
from mocpy import MOC

from dsa110_contimg.formats import sky_map


def covered(ra_deg: float, dec_deg: float, radius_deg: float = 4.0) -> MOC:
    return MOC.from_cone(ra_deg * units.deg, dec_deg * units.deg, radius=radius_deg * units.deg, max_depth=9)


def cells(svg: str) -> list[np.ndarray]:
    """Return the polygons of what was seen."""
    drawn = ElementTree.fromstring(svg).find("path[@class='seen']")
    assert drawn is not None
    return [np.array([[float(v) for v in pair.split()] for pair in part.split("L")])
            for part in re.findall(r"M([^Z]+)Z", drawn.attrib["d"])]  # fmt: skip


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def test_east_is_left_north_is_up_and_zero_is_in_the_middle() -> None:
    x, y = sky_map.mollweide(
        np.array([0.0, 24.0, 336.0, 0.0, 179.9, 180.1]), np.array([0.0, 33.0, 33.0, 90.0, 0.0, 0.0])
    )
    assert (x[0], y[0]) == pytest.approx((sky_map.WIDTH / 2, sky_map.HEIGHT / 2))
    assert x[1] < sky_map.WIDTH / 2 < x[2]
    assert x[1] + x[2] == pytest.approx(sky_map.WIDTH)
    assert y[1] < sky_map.HEIGHT / 2
    assert y[3] == pytest.approx(0.0, abs=0.5)
    assert x[4] == pytest.approx(0.0, abs=0.5)
    assert x[5] == pytest.approx(sky_map.WIDTH, abs=0.5)


@pytest.mark.parametrize(("ra_deg", "dec_deg"), [(24.0, 33.0), (0.0, 37.0), (180.0, 16.0), (270.0, -20.0)])
def test_what_was_seen_is_drawn_where_it_is_and_as_large(ra_deg: float, dec_deg: float) -> None:
    seen = covered(ra_deg, dec_deg)
    polygons = cells(sky_map.draw(seen, "what was seen"))
    coarse = seen.degrade_to_order(sky_map.ORDER)
    whole = np.pi * sky_map.WIDTH / 2 * sky_map.HEIGHT / 2
    drawn = sum(map(area, polygons))
    # Cells across the edge of the map are cut there.
    lost = 0.25 if ra_deg == 180.0 else 0.03
    assert drawn / whole == pytest.approx(coarse.sky_fraction, rel=lost)
    x, y = sky_map.mollweide(ra_deg, dec_deg)
    middle = np.concatenate(polygons)
    if ra_deg != 180.0:
        assert np.abs(middle.mean(axis=0) - [float(x), float(y)]).max() < 1.0
    assert max(np.ptp(polygon[:, 0]) for polygon in polygons) < 12.0


def test_an_empty_map_and_a_title_with_marks() -> None:
    svg = sky_map.draw(MOC.new_empty(9), 'nothing <yet> & "so"', {"now": (10.0, 37.0)})
    found = ElementTree.fromstring(svg)
    assert found.attrib["aria-label"] == 'nothing <yet> & "so"'
    assert found.find("circle/title") is not None
    assert cells(svg) == []
