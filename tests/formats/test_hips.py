"""A HiPS shows the sources where astropy-healpix says they are, is whole or absent, and says what it is."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.formats.sky_images import BEAM, CELL_DEG, NOISE_JY, PLACES, pixel_at, sky_image, sources_of, true_value

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import hips, hips_tiles, moc
from dsa110_contimg.visibilities import Beam, SkyPosition

WIDTH = hips_tiles.WIDTH
REQUIRED = (
    *("creator_did", "obs_title", "dataproduct_type", "hips_version", "hips_release_date", "hips_status"),
    *("hips_tile_format", "hips_order", "hips_frame"),
)
"""What HiPS 1.0, section 4.4.1, asks for."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hips.save(sky_image(PLACES[0]), tmp_path_factory.mktemp("hips") / "m-hips", identifier="m")


@pytest.mark.parametrize("center", PLACES)
def test_sources_are_found_where_they_were_put(center: SkyPosition, tmp_path: Path) -> None:
    folder = hips.save(sky_image(center), tmp_path / "m-hips", identifier="m", order=4)
    for ra, dec, flux in sources_of(center):
        pixel = pixel_at(ra, dec, 4, WIDTH)
        values, header = hips_tiles.load_tile(hips_tiles.tile_path(folder, 4, pixel.tile))
        found = values[pixel.row, pixel.column]
        expected = true_value(center, np.array(pixel.ra_deg), np.array(pixel.dec_deg))
        assert found == pytest.approx(float(expected), abs=3e-3 * flux)
        assert found > 0.8 * flux
        assert (header["ORDER"], header["NPIX"]) == (4, pixel.tile)


@pytest.mark.parametrize("center", PLACES)
def test_no_pixel_of_the_image_is_lost(center: SkyPosition, tmp_path: Path) -> None:
    image = sky_image(center)
    folder = hips.save(image, tmp_path / "m-hips", identifier="m", order=4)
    shown = sum(int(np.isfinite(hips_tiles.load_tile(path)[0]).sum()) for path in folder.glob("Norder4/Dir*/*.fits"))
    # Four pixels along the edge are blank, for there the interpolation reaches beyond it.
    inside = np.isfinite(image.data).sum() - 4 * 900
    assert inside < shown * (hips_tiles.pixel_deg(4) / CELL_DEG) ** 2 < np.isfinite(image.data).sum()


def test_coarser_tiles_are_means_of_finer_ones(made: Path) -> None:
    order = int(hips_tiles.load_properties(made)["hips_order"])
    assert [len(hips_tiles.tiles_of(made, k)) for k in (0, 1)] == [1, 1]
    (parent,) = {tile // 4 for tile in hips_tiles.tiles_of(made, order)[:1]}
    coarse, _ = hips_tiles.load_tile(hips_tiles.tile_path(made, order - 1, parent))
    place = {0: (256, 0), 1: (0, 0), 2: (256, 256), 3: (0, 256)}
    for child, (row, column) in place.items():
        path = hips_tiles.tile_path(made, order, 4 * parent + child)
        quarter = coarse[row : row + 256, column : column + 256]
        if path.exists():
            fine = hips_tiles.load_tile(path)[0].reshape(256, 2, 256, 2)
            known = np.isfinite(fine).all(axis=(1, 3))
            np.testing.assert_allclose(quarter[known], fine.mean(axis=(1, 3))[known], rtol=1e-5, atol=1e-6)
        else:
            assert np.isnan(quarter).all()


def test_pictures_show_what_the_values_say(made: Path) -> None:
    paths = sorted(made.glob("Norder*/Dir*/Npix*.fits"))
    assert len(paths) == len(list(made.glob("Norder*/Dir*/Npix*.png")))
    for path in paths:
        values = hips_tiles.load_tile(path)[0][::-1]
        with Image.open(path.with_suffix(".png")) as picture:
            colors = np.asarray(picture.convert("RGBA"))
        np.testing.assert_array_equal(colors[..., 3] > 0, np.isfinite(values))
        if np.nanmax(values) > 1.0:
            light = np.where(np.isfinite(values), colors[..., :3].sum(axis=-1, dtype=int), -1)
            assert light[np.unravel_index(np.nanargmax(values), values.shape)] == light.max()


def test_properties_say_what_it_is(made: Path) -> None:
    told = hips_tiles.load_properties(made)
    assert set(REQUIRED) <= set(told)
    assert all(line.isascii() and "=" in line for line in (made / "properties").read_text().splitlines())
    assert (told["hips_tile_format"], told["hips_frame"], told["dataproduct_type"]) == (
        "png fits",
        "equatorial",
        "image",
    )
    assert told["hips_release_date"] == "2025-01-15T12:43Z"
    assert float(told["em_min"]) < 299792458.0 / 1.405e9 < float(told["em_max"])
    low, high = map(float, told["hips_pixel_cut"].split())
    assert (low, high) == pytest.approx((-3.0 * NOISE_JY, 500.0 * NOISE_JY))
    assert 0.0 < np.hypot((float(told["hips_initial_ra"]) - 0.05) * 0.84, float(told["hips_initial_dec"]) - 33.0) < 0.03
    assert float(told["moc_sky_fraction"]) == pytest.approx(moc.load(made / "Moc.fits").sky_fraction, rel=1e-5)
    assert not list(made.rglob("*.html")), "nothing in it loads a program from elsewhere"


def test_the_same_image_makes_the_same_bytes_and_takes_the_place_of_the_old(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m-hips"
    folder.mkdir()
    (folder / "old").write_text("old")
    hips.save(sky_image(PLACES[0]), folder, identifier="m")
    names = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert all((made / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["m-hips"]


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _sigma: float) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hips_tiles, "draw_tile", full)
    with pytest.raises(OSError, match="No space"):
        hips.save(sky_image(PLACES[0]), tmp_path / "m-hips", identifier="m")
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_a_value_is_refused(tmp_path: Path) -> None:
    image = sky_image(PLACES[0])
    with pytest.raises(BadInputError, match="no pixel with a value"):
        hips.save(replace(image, data=np.full_like(image.data, np.nan)), tmp_path / "m", identifier="m")


def test_the_deepest_order_follows_the_beam() -> None:
    image = sky_image(PLACES[0])
    assert hips.choose_order(image) == 4, "100 arcsec over 2.5 is more than 25.8"
    assert hips.choose_order(replace(image, beam=None)) == 5, "pixels of 20 arcsec"
    assert hips.choose_order(replace(image, beam=Beam(30.0, 26.0, 0.0), cell_deg=3.0 / 3600.0)) == 6
    assert hips.choose_order(replace(image, beam=BEAM, cell_deg=60.0 / 3600.0)) == 3
    assert hips.choose_order(replace(image, beam=None, cell_deg=1e-5)) == hips.MAX_ORDER


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
def test_its_files_keep_to_the_standard(made: Path) -> None:
    files = [str(path) for path in (made / "Moc.fits", *made.glob("Norder[04]/Dir*/Npix*.fits"))]
    done = subprocess.run(["fitsverify", "-q", *files], capture_output=True, text=True, check=False)
    assert done.stdout.count("verification OK") == len(files) >= 3, done.stdout
