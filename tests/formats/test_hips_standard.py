"""A HiPS keeps to the standard, another program reads the sky from it, and each defect of one is told."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from PIL import Image
from reproject.hips import hips_as_dask_array
from tests.formats.hips_standard import violations
from tests.formats.sky_images import PLACES, sky_image, sources_of, true_value

from dsa110_contimg.formats import hips
from dsa110_contimg.visibilities import SkyPosition

ORDER, WIDTH = 4, 512


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[SkyPosition, Path]:
    folder = tmp_path_factory.mktemp("standard")
    return {
        center: hips.save(sky_image(center), folder / f"m{number}-hips", identifier=f"m{number}", order=ORDER)
        for number, center in enumerate(PLACES)
    }


@pytest.mark.parametrize("center", PLACES)
def test_it_keeps_to_the_standard(made: dict[SkyPosition, Path], center: SkyPosition) -> None:
    assert violations(made[center]) == []


@pytest.mark.parametrize("center", PLACES)
def test_reproject_reads_the_sky_from_it(made: dict[SkyPosition, Path], center: SkyPosition) -> None:
    pixels, wcs = hips_as_dask_array(str(made[center]))
    for ra, dec, flux in sources_of(center):
        x, y = (round(float(value)) for value in wcs.world_to_pixel(SkyCoord(ra * units.deg, dec * units.deg)))
        # The tile as a whole, as reproject reads no part of one.
        tile = pixels.blocks[y // WIDTH, x // WIDTH].compute()
        rows, columns = (np.arange(max(at % WIDTH - 3, 0), min(at % WIDTH + 4, WIDTH)) for at in (y, x))
        read = tile[np.ix_(rows, columns)]
        sky = wcs.pixel_to_world(*np.meshgrid(columns + x // WIDTH * WIDTH, rows + y // WIDTH * WIDTH))
        truth = true_value(center, sky.ra.to_value(units.deg), sky.dec.to_value(units.deg))
        assert np.abs(read - truth).max() < 3e-3 * flux
        assert read.max() > 0.9 * flux


def without_a_keyword(folder: Path) -> None:
    path = folder / "properties"
    path.write_text(re.sub("hips_status.*\n", "", path.read_text()))


def wrong_date(folder: Path) -> None:
    path = folder / "properties"
    path.write_text(path.read_text().replace("2025-01-15T12:43Z", "15 January 2025"))


def lost_tile(folder: Path) -> None:
    next(folder.glob(f"Norder{ORDER}/Dir*/*.png")).unlink()


def lost_parent(folder: Path) -> None:
    for path in folder.glob(f"Norder{ORDER - 1}/Dir*/*"):
        path.unlink()
        break
    for path in folder.glob(f"Norder{ORDER - 1}/Dir*/*"):
        path.unlink()


def tile_of_another_number(folder: Path) -> None:
    path = sorted(folder.glob(f"Norder{ORDER}/Dir*/*.fits"))[0]
    number = int(path.stem.removeprefix("Npix"))
    other = 4 * (number // 4) + (number + 1) % 4
    for ending in (".fits", ".png"):
        shutil.copy(path.with_suffix(ending), path.with_name(f"Npix{other}{ending}"))


def small_picture(folder: Path) -> None:
    Image.new("P", (64, 64)).save(next(folder.glob("Norder0/Dir*/*.png")))


def coverage_of_elsewhere(folder: Path) -> None:
    shutil.copy(folder.with_name("m2-hips") / "Moc.fits", folder / "Moc.fits")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_a_keyword, "hips_status is missing"),
        (wrong_date, "hips_release_date = 15 January 2025 is not"),
        (lost_tile, "has not the same tiles in every format"),
        (lost_parent, "are not those above"),
        (tile_of_another_number, "from where its number has it"),
        (small_picture, r"png is of size \(64, 64\)"),
        (coverage_of_elsewhere, "Moc.fits covers what no tile shows"),
    ],
)
def test_each_defect_is_told(
    made: dict[SkyPosition, Path], tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    for name in ("m0-hips", "m2-hips"):
        shutil.copytree(made[PLACES[0]].with_name(name), tmp_path / name)
    spoil(tmp_path / "m0-hips")
    told = " ".join(violations(tmp_path / "m0-hips"))
    assert re.search(says, told), told
