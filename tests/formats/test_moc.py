"""A coverage map holds where an image has values, and grows to the same whatever the order in which it does."""

from functools import reduce
from pathlib import Path
from random import Random

import numpy as np
import pytest
from astropy import units
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC
from numpy.typing import NDArray
from tests.formats.sky_images import CELL_DEG, PLACES, sky_image

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import moc
from dsa110_contimg.kernels.sphere import from_direction_cosines
from dsa110_contimg.visibilities import SkyImage, SkyPosition


def positions(
    image: SkyImage, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[units.Quantity, units.Quantity]:
    x_ref, y_ref = image.center_pixel
    cell = np.radians(image.cell_deg)
    east, north = -(columns - x_ref) * cell, (rows - y_ref) * cell
    ra, dec = from_direction_cosines(east, north, *np.radians(image.center))
    return ra * units.rad, dec * units.rad


def small(ra_deg: float, dec_deg: float) -> SkyImage:
    """Return an image of a third of a degree with a blank stripe."""
    data = np.ones((40, 60), np.float32)
    data[:, 20:24] = np.nan
    return SkyImage(data, SkyPosition(ra_deg, dec_deg), CELL_DEG)


@pytest.mark.parametrize("center", [*PLACES, SkyPosition(10.0, -90.0)])
def test_every_value_is_covered_and_nothing_far_from_one(center: SkyPosition) -> None:
    image = sky_image(center)
    covered = moc.coverage(image)
    known = np.isfinite(image.data)
    assert covered.contains_lonlat(*positions(image, *np.nonzero(known))).mean() > 0.999
    reach = int(2.0 * moc.cell_deg() / CELL_DEG)
    padded = np.pad(known, reach)
    near = np.zeros_like(padded)
    for j in range(-reach, reach + 1, 2):
        for i in range(-reach, reach + 1, 2):
            near |= np.roll(padded, (j, i), axis=(0, 1))
    rows, columns = np.nonzero(~near)
    assert not covered.contains_lonlat(*positions(image, rows - reach, columns - reach)).any()
    assert 1.0 < moc.area_deg2(covered) / (known.sum() * CELL_DEG**2) < 1.12


def test_a_map_survives_its_file_and_is_the_same_each_time(tmp_path: Path) -> None:
    covered = moc.coverage(sky_image(PLACES[1]))
    first = moc.save(covered, tmp_path / "a-moc.fits")
    assert moc.load(first) == covered
    assert moc.save(moc.coverage(sky_image(PLACES[1])), tmp_path / "b.fits").read_bytes() == first.read_bytes()


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not a readable MOC"):
        moc.load(tmp_path / "missing.fits")
    path = moc.save(moc.coverage(small(0.0, 0.0)), tmp_path / "a.fits")
    for damaged in (b"", path.read_bytes()[:3000], b"no map at all" * 700):
        path.write_bytes(damaged)
        with pytest.raises(BadInputError, match=r"a\.fits is not a readable MOC"):
            moc.load(path)


def test_a_blank_image_covers_nothing() -> None:
    image = small(0.0, 0.0)
    image.data[:] = np.nan
    assert moc.coverage(image).empty()
    assert moc.area_deg2(moc.union([])) == 0.0


SKY = st.lists(
    st.one_of(
        st.tuples(st.floats(0.0, 360.0), st.floats(-90.0, 90.0)),
        st.tuples(st.floats(-0.3, 0.3), st.floats(30.0, 30.5)),
        st.tuples(st.floats(0.0, 360.0), st.floats(89.7, 90.0)),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(SKY, st.randoms(use_true_random=False))
def test_growing_is_the_union_recomputed(places: list[tuple[float, float]], shuffled: Random) -> None:
    maps = [moc.coverage(small(ra % 360.0, dec)) for ra, dec in places]
    grown = reduce(lambda before, new: moc.union([before, new]), maps)
    again = list(maps)
    shuffled.shuffle(again)
    assert grown == moc.union(again)
    assert grown == moc.union([grown, maps[0]]), "what is in already changes nothing"
    images = [small(ra % 360.0, dec) for ra, dec in places]
    lon, lat = (np.concatenate(parts) * units.rad for parts in zip(*(_known(image) for image in images), strict=True))
    assert grown == MOC.from_lonlat(lon, lat, max_norder=moc.ORDER), "the cells of all positions at once"


def _known(image: SkyImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of all pixels with a value that a map of such an image tries (rad)."""
    step = int(moc.SPACING * moc.cell_deg() / image.cell_deg)
    rows, columns = np.nonzero(np.isfinite(image.data[::step, ::step]))
    lon, lat = positions(image, rows * step, columns * step)
    return lon.value, lat.value
