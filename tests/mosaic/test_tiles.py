"""Tiles that belong together pass; each real defect is found, named, and comes with its measured value."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsa110_contimg.errors import BadInputError, MosaicError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.mosaic.build import build
from dsa110_contimg.mosaic.consistency import validate_tiles_consistency
from dsa110_contimg.mosaic.tiles import Tile, TileFiles, measure_tile
from dsa110_contimg.options import MosaicOptions, QAOptions
from dsa110_contimg.telescope import aberration_scale
from dsa110_contimg.visibilities import Beam, SkyPosition

OPTIONS = MosaicOptions()


@pytest.fixture
def good(strip: Callable[..., list[Tile]]) -> list[Tile]:
    return strip(
        24.4, 33.2, 3, [(24.4, 33.2, 2.0)], size=120, cell_arcsec=108.0, beam=Beam(400.0, 360.0, 90.0), sigma=1e-3
    )


def image_with(tile: Tile, **changes: Any) -> Tile:
    return replace(tile, image=replace(tile.image, **changes))


def save(tile: Tile, folder: Path) -> TileFiles:
    stem = tile.group_id.replace(":", "")
    paths = [folder / f"{stem}.img-{kind}.fits" for kind in ("image", "beam", "image-pb")]
    fits_image.save(replace(tile.image, noise_jy=tile.noise_jy), paths[0])
    fits_image.save(tile.beam, paths[1])
    fits_image.save(tile.image, paths[2])
    return TileFiles(tile.group_id, *paths)


def test_good_tiles_pass_with_their_measurements(good: list[Tile]) -> None:
    ok, issues, metrics = validate_tiles_consistency(good[::-1], OPTIONS)
    assert ok, issues
    assert issues == ()
    assert metrics.n_tiles == 3
    assert [tile.name for tile in metrics.tiles] == [tile.name for tile in good]
    assert metrics.median_noise_jy == pytest.approx(1e-3)
    assert metrics.max_gap_min == pytest.approx(309.2376 / 60.0)
    assert metrics.span_min == pytest.approx(3 * 309.2376 / 60.0)
    assert metrics.tiles[1].dynamic_range == pytest.approx(2000.0, rel=0.1)
    assert metrics.tiles[1].beam_peak == pytest.approx(0.966, abs=0.003)


DEFECTS: dict[str, tuple[str, Callable[[Tile], Tile]]] = {
    "uncalibrated": ("CALTABLES", lambda tile: image_with(tile, header={})),
    "noisy": (r"\d+\.\d times the median noise", lambda tile: replace(tile, noise_jy=6e-3)),
    "faint": (r"dynamic range of \d\.\d+, below 5", lambda tile: replace(tile, noise_jy=0.9)),
    "no noise": ("no measurable noise", lambda tile: replace(tile, noise_jy=float("nan"))),
    "no pbcor": ("no beam-corrected image", lambda tile: replace(tile, has_pbcor=False)),
    "other cell": (
        r'pixel sizes differ: .*12:02:00 has 108\.108000", the median is 108\.000000"',
        lambda tile: image_with(tile, cell_deg=tile.image.cell_deg * 1.001),
    ),
    "small": (
        r"12:02:00 has 90 x 120 pixels, a field of 3\.15 degrees; the median is 3\.60",
        lambda tile: image_with(tile, data=tile.image.data[:, 30:]),
    ),
    "wide beam": ('major axis of 600.0"', lambda tile: image_with(tile, beam=Beam(600.0, 360.0, 90.0))),
    "no beam": ("no restoring beam", lambda tile: image_with(tile, beam=None)),
    "gap": (r"6\.\d+ minutes lie between", lambda tile: replace(tile, mid_mjd=tile.mid_mjd + 1.5 / 1440.0)),
    "slew": (
        r"spread by 0\.500 degrees.*12:02:00 lies at \+33\.700, the median is \+33\.200",
        lambda tile: image_with(tile, center=SkyPosition(tile.image.center.ra_deg, tile.image.center.dec_deg + 0.5)),
    ),
    "off the beam": (
        "peaks at 0.3",
        lambda tile: replace(tile, beam=replace(tile.beam, data=tile.beam.data * np.float32(0.33))),
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_named(good: list[Tile], name: str) -> None:
    words, spoil = DEFECTS[name]
    ok, issues, _ = validate_tiles_consistency([good[0], good[1], spoil(good[2])], OPTIONS)
    assert not ok
    assert any(re.search(words, issue) for issue in issues), issues


def test_a_tile_given_twice(good: list[Tile]) -> None:
    ok, issues, _ = validate_tiles_consistency([*good, replace(good[1], name="again")], OPTIONS)
    assert not ok
    assert "same group 2025-01-15T12:01:00" in issues[0]


def test_too_long_a_group(strip: Callable[..., list[Tile]]) -> None:
    tiles = strip(24.4, 33.2, 4, [(24.4, 33.2, 2.0)], size=60, cell_arcsec=216.0, beam=Beam(800.0, 720.0, 90.0))
    ok, issues, _ = validate_tiles_consistency(tiles, MosaicOptions(tiles=3))
    assert not ok
    assert "span 20.6 minutes; at most 18" in issues[0]


def test_limits_come_from_the_options(good: list[Tile]) -> None:
    noisy = [good[0], good[1], replace(good[2], noise_jy=6e-3)]
    assert validate_tiles_consistency(noisy, OPTIONS, QAOptions(max_noise_over_median=7.0)).ok
    assert not validate_tiles_consistency(good, OPTIONS, QAOptions(min_dynamic_range=1e6)).ok


def test_aberration_in_the_pixel_size_is_no_defect(good: list[Tile]) -> None:
    tiles = [image_with(t, cell_deg=t.image.cell_deg * aberration_scale(*t.image.center, t.mid_mjd)) for t in good]
    assert len({t.image.cell_deg for t in tiles}) == 3
    assert validate_tiles_consistency(tiles, OPTIONS).ok


def test_tiles_on_disk(good: list[Tile], tmp_path: Path) -> None:
    """Files give what the tiles in memory give; missing and damaged ones are issues, not crashes."""
    files = [save(tile, tmp_path) for tile in good]
    result = validate_tiles_consistency(files, OPTIONS)
    assert result.ok, result.issues
    in_memory = validate_tiles_consistency(good, OPTIONS).metrics
    assert result.metrics.tiles[1].peak_jy == in_memory.tiles[1].peak_jy
    from_disk, from_memory = build(files, OPTIONS, "a"), build(good, OPTIONS, "a")
    assert from_disk.image.data.tobytes() == from_memory.image.data.tobytes()
    files[0].image_path.unlink()
    files[1].beam_path.write_bytes(files[1].beam_path.read_bytes()[:-2880])
    files[2].pbcor_path.unlink()
    ok, issues, metrics = validate_tiles_consistency(files, OPTIONS)
    assert not ok
    assert metrics.n_tiles == 1
    for words in ("does not exist", "cut short", "no beam-corrected image", "needs two"):
        assert any(words in issue for issue in issues), (words, issues)


def test_what_cannot_be_a_tile(good: list[Tile], tmp_path: Path) -> None:
    files = save(good[0], tmp_path)
    fits_image.save(replace(good[0].image, start_mjd=float("nan")), files.image_path)
    with pytest.raises(BadInputError, match="no MJD-OBS"):
        files.load()
    files = save(good[1], tmp_path)
    fits_image.save(replace(good[1].beam, data=good[1].beam.data[:-1]), files.beam_path)
    with pytest.raises(MosaicError, match="same grid"):
        files.load()


def test_all_blank_tile_is_measured_as_such(good: list[Tile]) -> None:
    blank = image_with(good[0], data=np.full_like(good[0].image.data, np.nan))
    metrics = measure_tile(blank)
    assert metrics.dynamic_range is None
    assert metrics.finite_fraction == 0.0
