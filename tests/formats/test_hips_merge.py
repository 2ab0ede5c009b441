"""Merged tiles are the weighted mean of what is in them, however they came in, and old files are never touched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.formats.sky_images import NOISE_JY, PLACES, pixel_at, sky_image, sources_of, true_value

from dsa110_contimg.formats import fits_image, hips, hips_merge, hips_tiles
from dsa110_contimg.formats.hips_merge import Pair, Part
from dsa110_contimg.kernels.sphere import direction_cosines
from dsa110_contimg.visibilities import SkyImage

ORDER, WIDTH = 4, hips_tiles.WIDTH
CENTER = PLACES[0]
SCALES = (1.0, 1.3, 0.8)
"""How much too bright each mosaic is: the mean tells their weights."""
SIGMAS = (1.0, 2.0, 0.5)
SHIFTS = ((0, 0), (60, 40), (-50, 70))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    folder, made = tmp_path_factory.mktemp("parts"), []
    for number, (scale, sigma, shift) in enumerate(zip(SCALES, SIGMAS, SHIFTS, strict=True)):
        image = sky_image(CENTER, shift=shift)
        image.data *= np.float32(scale)
        weight = np.where(np.isfinite(image.data), 1.0 / (sigma * NOISE_JY) ** 2, np.nan).astype(np.float32)
        weights = replace(image, data=weight, kind="weight", unit="(Jy/beam)^-2")
        made.append(
            Part(
                hips.save(image, folder / f"m{number}-hips", identifier=f"m{number}", order=ORDER),
                fits_image.save(weights, folder / f"m{number}-weight.fits"),
            )
        )
    return made


def merged(parts: list[Part], folder: Path, base: Pair | None = None, drop: frozenset[int] = frozenset()) -> Pair:
    out = Pair(folder / "sky-hips", folder / "sky-weight-hips")
    for part in out:
        part.mkdir(parents=True)
    hips_merge.merge(parts, out, ORDER, base=base, drop=drop)
    hips_tiles.save_properties(out.image, hips_tiles.load_properties(base.image if base else parts[0].hips))
    return out


def values(folder: Path, order: int = ORDER) -> dict[int, NDArray[np.float32]]:
    return {
        tile: hips_tiles.load_tile(hips_tiles.tile_path(folder, order, tile))[0]
        for tile in hips_tiles.tiles_of(folder, order)
    }


def assert_alike(one: Pair, other: Pair) -> None:
    for mine, theirs in zip(one, other, strict=True):
        for order in range(ORDER + 1):
            first, second = values(mine, order), values(theirs, order)
            assert first.keys() == second.keys()
            for tile, pixels in first.items():
                np.testing.assert_allclose(pixels, second[tile], rtol=1e-6, atol=1e-7)


def pictures(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def test_overlaps_are_the_mean_by_weight(parts: list[Part], tmp_path: Path) -> None:
    sky = merged(parts, tmp_path)
    weights = np.array([1.0 / sigma**2 for sigma in SIGMAS])
    images = [sky_image(CENTER, shift=shift) for shift in SHIFTS]
    compared = 0
    for ra, dec, flux in sources_of(CENTER):
        pixel = pixel_at(ra, dec, ORDER, WIDTH)
        # Where a mosaic is blank near the source, it does not count.
        shows = np.array([_shows(image, ra, dec) for image in images])
        if not shows.any():
            continue
        scale = (np.array(SCALES) * weights)[shows].sum() / weights[shows].sum()
        truth = scale * float(true_value(CENTER, np.array(pixel.ra_deg), np.array(pixel.dec_deg)))
        found, weight = (values(folder)[pixel.tile][pixel.row, pixel.column] for folder in sky)
        assert found == pytest.approx(truth, abs=4e-3 * flux)
        assert weight == pytest.approx(weights[shows].sum() / NOISE_JY**2, rel=1e-4)
        compared += int(shows.sum() > 1)
    assert compared >= 2


def _shows(image: SkyImage, ra: float, dec: float) -> bool:
    x_ref, y_ref = image.center_pixel
    lmn = np.degrees(direction_cosines(*np.radians([ra, dec]), *np.radians(image.center)))
    x, y = round(x_ref - lmn[0] / image.cell_deg), round(y_ref + lmn[1] / image.cell_deg)
    inside = 5 <= x < image.data.shape[1] - 5 and 5 <= y < image.data.shape[0] - 5
    return bool(inside and np.isfinite(image.data[y - 5 : y + 6, x - 5 : x + 6]).all())


def test_coarser_tiles_are_those_of_the_writer_of_single_mosaics(parts: list[Part], tmp_path: Path) -> None:
    sky = merged(parts[:1], tmp_path)
    for order in range(ORDER + 1):
        found, written = values(sky.image, order), values(parts[0].hips, order)
        assert found.keys() == written.keys()
        for tile, pixels in found.items():
            np.testing.assert_allclose(pixels, written[tile], rtol=1e-5, atol=1e-7)


def test_adding_one_by_one_is_the_same_as_all_at_once(parts: list[Part], tmp_path: Path) -> None:
    whole = merged(parts, tmp_path / "whole")
    grown = merged(parts[:1], tmp_path / "1")
    for number in (1, 2):
        grown = merged(parts[number : number + 1], tmp_path / str(number + 1), base=grown)
    assert_alike(grown, whole)
    assert pictures(grown.image).keys() == pictures(whole.image).keys()


def test_what_is_withdrawn_leaves_no_trace(parts: list[Part], tmp_path: Path) -> None:
    whole = merged(parts, tmp_path / "whole")
    touched = frozenset(hips_tiles.tiles_of(parts[1].hips, ORDER))
    rest = [parts[0]._replace(only=touched), parts[2]._replace(only=touched)]
    assert_alike(
        merged(rest, tmp_path / "mended", base=whole, drop=touched), merged([parts[0], parts[2]], tmp_path / "never")
    )


def test_a_tile_that_nothing_shows_any_more_goes(parts: list[Part], tmp_path: Path) -> None:
    whole = merged(parts[:2], tmp_path / "whole")
    touched = frozenset(hips_tiles.tiles_of(parts[1].hips, ORDER))
    mended = merged([parts[0]._replace(only=touched)], tmp_path / "mended", base=whole, drop=touched)
    assert_alike(mended, merged(parts[:1], tmp_path / "never"))
    named = {path.with_suffix("") for path in mended.image.rglob("*.png")}
    assert named == {path.with_suffix("") for path in mended.image.rglob("Npix*.fits")}


def test_files_of_the_older_version_are_never_written_to(parts: list[Part], tmp_path: Path) -> None:
    old = merged(parts[:1], tmp_path / "old")
    before = {path: path.read_bytes() for folder in old for path in folder.rglob("*") if path.is_file()}
    for path in before:
        path.chmod(0o444)
    new = merged(parts[1:], tmp_path / "new", base=old)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert values(new.image).keys() >= values(old.image).keys()
