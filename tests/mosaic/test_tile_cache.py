"""What is kept of a mosaic is what would be made again, and only that is used."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.formats import fits_image
from dsa110_contimg.mosaic.astrometry import TileOffset
from dsa110_contimg.mosaic.build import MosaicResult, build
from dsa110_contimg.mosaic.consistency import judge_tiles
from dsa110_contimg.mosaic.tile_cache import PlacedTile, TileCache, key_of
from dsa110_contimg.mosaic.tiles import PixelFigures, Tile, TileFiles
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyModel

OPTIONS = MosaicOptions()
BEAMS = [Beam(400.0, 361.0, 90.0), Beam(399.9, 361.1, 90.0), Beam(400.1, 361.0, 90.1), Beam(400.0, 361.1, 90.0)]


@pytest.fixture
def four(strip: Callable[..., list[Tile]]) -> list[Tile]:
    """Tiles around right ascension 0, whose mean stays near one lattice point."""
    rng = np.random.default_rng(4)
    tiles = strip(0.3, 33.2, 4, [(0.5, 33.3, 2.0)], size=120, cell_arcsec=108.0, beam=BEAMS[0], sigma=1e-3, rng=rng)
    return [replace(t, image=replace(t.image, beam=beam)) for t, beam in zip(tiles, BEAMS, strict=True)]


@pytest.fixture
def cache(tmp_path: Path) -> TileCache:
    return TileCache(tmp_path / "placed", 1.0)


def same_bits(first: MosaicResult, second: MosaicResult) -> bool:
    pairs = [(getattr(first, plane), getattr(second, plane)) for plane in ("image", "noise", "weight", "coverage")]
    return all(a.data.tobytes() == b.data.tobytes() and a.header == b.header for a, b in pairs)


def test_one_more_tile_redoes_that_tile_alone(four: list[Tile], cache: TileCache) -> None:
    """Added at the end, at the beginning or in the middle, the result has the bits of all at once."""
    at_once = build(four, OPTIONS, "all")
    for late in (3, 0, 2):
        for path in cache.folder.glob("*"):
            path.unlink()
        build([t for t in four if t is not four[late]], OPTIONS, "three", cache=cache)
        grown = build(four, OPTIONS, "all", cache=cache)
        assert [tile.reused for tile in grown.tiles] == [t is not four[late] for t in four]
        assert same_bits(at_once, grown)
        assert same_bits(at_once, build(four, OPTIONS, "all", cache=cache))


def test_a_tile_that_needs_a_larger_beam_redoes_all(four: list[Tile], cache: TileCache) -> None:
    build(four[:3], OPTIONS, "three", cache=cache)
    wide = [*four[:3], replace(four[3], image=replace(four[3].image, beam=Beam(440.0, 361.0, 90.0)))]
    grown = build(wide, OPTIONS, "all", cache=cache)
    assert not any(tile.reused for tile in grown.tiles)
    assert same_bits(grown, build(wide, OPTIONS, "all"))


def test_a_tile_taken_away(four: list[Tile], cache: TileCache) -> None:
    build(four, OPTIONS, "all", cache=cache)
    fewer = build(four[:3], OPTIONS, "three", cache=cache)
    assert all(tile.reused for tile in fewer.tiles)
    assert same_bits(fewer, build(four[:3], OPTIONS, "three"))


def test_a_tile_imaged_again_is_placed_again(four: list[Tile], cache: TileCache) -> None:
    build(four, OPTIONS, "first", cache=cache)
    for change in ({"data": four[1].image.data * np.float32(1.01)}, {"beam": Beam(399.9, 361.1, 90.1)}):
        tiles = [four[0], replace(four[1], image=replace(four[1].image, **change)), *four[2:]]
        again = build(tiles, OPTIONS, "second", cache=cache)
        assert [tile.reused for tile in again.tiles] == [True, False, True, True]
        assert same_bits(again, build(tiles, OPTIONS, "second"))


def test_other_options_are_another_entry(four: list[Tile], cache: TileCache) -> None:
    build(four, OPTIONS, "first", cache=cache)
    narrow = replace(OPTIONS, tile_pb_limit=0.4)
    assert not any(tile.reused for tile in build(four, narrow, "narrow", cache=cache).tiles)


SOURCES = SkyModel(["a", "b", "c", "far"], np.array([0.5, 0.1, 0.9, 40.0]), np.array([33.3, 33.0, 33.6, 33.0]),
                   np.full(4, 2.0), np.zeros((4, 1)))  # fmt: skip


def test_a_catalogue_counts_where_it_is_applied(four: list[Tile], cache: TileCache) -> None:
    """Without a shift to apply it changes nothing of the pixels; with one, only sources on the tile do."""
    build(four, OPTIONS, "first", cache=cache)
    assert all(tile.reused for tile in build(four, OPTIONS, "told", catalog=SOURCES, cache=cache).tiles)
    applied = replace(OPTIONS, apply_astrometry=True)
    assert not any(tile.reused for tile in build(four, applied, "moved", catalog=SOURCES, cache=cache).tiles)
    fewer = SOURCES.select(np.arange(3))
    assert all(tile.reused for tile in build(four, applied, "again", catalog=fewer, cache=cache).tiles)
    fewer.ra_deg[0] += 0.001
    assert not any(tile.reused for tile in build(four, applied, "other", catalog=fewer, cache=cache).tiles)


def test_offsets_are_those_of_the_catalogue_asked_for(strip: Callable[..., list[Tile]], cache: TileCache) -> None:
    places = [(359.4, 33.0), (0.3, 33.8), (1.2, 32.6), (0.1, 32.4)]
    tiles = strip(0.3, 33.2, 3, [(*place, 2.0) for place in places], size=240, cell_arcsec=54.0, sigma=1e-3,
                  beam=Beam(250.0, 200.0, 90.0))  # fmt: skip
    ra, dec = np.array(places).T
    right = SkyModel(["a", "b", "c", "d"], ra % 360.0, dec, np.full(4, 2.0), np.zeros((4, 1)))
    wrong = SkyModel(["a", "b", "c", "d"], ra % 360.0, dec + 10.0 / 3600.0, np.full(4, 2.0), np.zeros((4, 1)))
    for catalog, north in ((right, 0.0), (wrong, -10.0), (right, 0.0)):
        kept, made = (
            build(tiles, OPTIONS, "a", catalog=catalog, cache=cache),
            build(tiles, OPTIONS, "a", catalog=catalog),
        )
        assert [tile.offset for tile in kept.tiles] == [tile.offset for tile in made.tiles]
        middle = kept.tiles[1].offset
        assert middle is not None
        assert middle.north_arcsec == pytest.approx(north, abs=0.5)
    assert build(tiles, OPTIONS, "a", cache=cache).tiles[1].offset is None


def test_a_key_holds_all_that_is_told() -> None:
    assert len({key_of("a", 0.2), key_of("a", 0.3), key_of("b", 0.2), key_of("a")}) == 4
    assert key_of("a", 0.2) == key_of("a", 0.2)


def test_tiles_in_memory_are_known_by_their_pixels(four: list[Tile]) -> None:
    assert four[0].identity() == replace(four[0], name="elsewhere").identity()
    flipped = replace(four[0], image=replace(four[0].image, data=four[0].image.data[::-1]))
    beamed = replace(four[0], beam=replace(four[0].beam, data=four[0].beam.data * np.float32(0.99)))
    assert len({tile.identity() for tile in (four[0], four[1], flipped, beamed)}) == 4


def saved(tile: Tile, folder: Path) -> TileFiles:
    stem = tile.group_id.replace(":", "")
    files = TileFiles(tile.group_id, *(folder / f"{stem}-{kind}.fits" for kind in ("image", "beam", "pbcor")))
    fits_image.save(replace(tile.image, noise_jy=tile.noise_jy), files.image_path)
    fits_image.save(tile.beam, files.beam_path)
    files.pbcor_path.touch()
    return files


def test_kept_files_are_not_read_and_changed_ones_are(
    four: list[Tile], cache: TileCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [saved(tile, tmp_path) for tile in four]
    first = build(files, OPTIONS, "all", cache=cache)
    assert judge_tiles(first.measured, OPTIONS).ok
    saved(replace(four[2], image=replace(four[2].image, data=four[2].image.data * np.float32(1.01))), tmp_path)
    read: list[str] = []
    load = TileFiles.load

    def noted(self: TileFiles) -> Tile:
        read.append(self.group_id)
        return load(self)

    monkeypatch.setattr(TileFiles, "load", noted)
    again = build(files, OPTIONS, "all", cache=cache)
    assert read == [four[2].group_id]
    assert again.measured[2].peak_jy == pytest.approx(1.01 * first.measured[2].peak_jy)
    assert again.measured[1] == first.measured[1]
    assert same_bits(again, build(files, OPTIONS, "all"))


@pytest.mark.parametrize("spoil", ["cut", "flipped", "other"])
def test_a_damaged_entry_is_made_again(four: list[Tile], cache: TileCache, spoil: str) -> None:
    whole = build(four, OPTIONS, "all", cache=cache)
    entry = sorted(cache.folder.glob("*.npz"))[0]
    content = bytearray(entry.read_bytes())
    if spoil == "flipped":
        content[len(content) // 3] ^= 1
    entry.write_bytes({"cut": bytes(content[:-100]), "flipped": bytes(content), "other": b"something else"}[spoil])
    again = build(four, OPTIONS, "all", cache=cache)
    assert sum(tile.reused for tile in again.tiles) == 3
    assert same_bits(whole, again)
    assert all(tile.reused for tile in build(four, OPTIONS, "all", cache=cache).tiles)


def placed(side: int, value: float) -> PlacedTile:
    data, response = np.full((side, side), value, np.float32), np.ones((3, 4), np.float32)
    offset = TileOffset(0.1, -0.2, 0.01, 0.02, 17)
    return PlacedTile(data, response, (-3, 5), 1e-3, PixelFigures(1e-3, 2.0, 1.0, 0.97, 0.1), offset, "abc")


def test_an_entry_comes_back_as_it_was(cache: TileCache) -> None:
    kept = placed(10, 0.1)
    cache.keep("a", kept)
    found = cache.find("a")
    assert found is not None
    assert found.data.tobytes() == kept.data.tobytes()
    assert found.response.tobytes() == kept.response.tobytes()
    told = ("first", "noise_jy", "figures", "offset", "catalog")
    assert [getattr(found, name) for name in told] == [getattr(kept, name) for name in told]
    assert cache.find("b") is None


def test_the_folder_stays_below_its_limit(tmp_path: Path) -> None:
    """What was used longest ago goes; what is used stays."""
    cache = TileCache(tmp_path, 130_000 / 1e9)
    for k in range(3):
        cache.keep(f"e{k}", placed(100, k))
        os.utime(tmp_path / f"e{k}.npz", (1000.0 + k, 1000.0 + k))
    assert cache.find("e0") is not None
    cache.keep("e3", placed(100, 3.0))
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["e0", "e2", "e3"]
    cache.keep("large", placed(300, 0.0))
    assert cache.find("large") is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 130_000
