"""What is kept of a mosaic is what would be made again, and only that is used."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.mosaic import placing
from dsa110_contimg.mosaic.build import MosaicResult, build
from dsa110_contimg.mosaic.grid import choose_frame, footprint
from dsa110_contimg.mosaic.tile_cache import PlacedTile, TileCache, content_of, key_of
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyModel, SkyPosition

OPTIONS = MosaicOptions()
BEAMS = [Beam(404.0, 361.0, 90.0), Beam(399.0, 365.0, 92.0), Beam(401.0, 360.0, 88.0), Beam(400.0, 362.0, 91.0)]


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


def test_a_tile_taken_away(four: list[Tile], cache: TileCache) -> None:
    build(four, OPTIONS, "all", cache=cache)
    fewer = build(four[:3], OPTIONS, "three", cache=cache)
    assert all(tile.reused for tile in fewer.tiles)
    assert same_bits(fewer, build(four[:3], OPTIONS, "three"))


def test_a_tile_imaged_again_is_placed_again(four: list[Tile], cache: TileCache) -> None:
    build(four, OPTIONS, "first", cache=cache)
    for change in ({"data": four[1].image.data * np.float32(1.01)}, {"beam": Beam(404.0, 361.0, 90.5)}):
        tiles = [four[0], replace(four[1], image=replace(four[1].image, **change)), *four[2:]]
        again = build(tiles, OPTIONS, "second", cache=cache)
        assert [tile.reused for tile in again.tiles] == [True, False, True, True]
        assert same_bits(again, build(tiles, OPTIONS, "second"))


def test_other_options_are_another_entry(four: list[Tile], cache: TileCache) -> None:
    build(four, OPTIONS, "first", cache=cache)
    narrow = replace(OPTIONS, tile_pb_limit=0.4)
    assert not any(tile.reused for tile in build(four, narrow, "narrow", cache=cache).tiles)
    sources = SkyModel(["a", "b", "c"], np.array([0.5, 0.1, 0.9]), np.array([33.3, 33.0, 33.6]), np.full(3, 2.0),
                       np.zeros((3, 1)))  # fmt: skip
    # Without a shift to apply, a catalogue changes nothing of the pixels.
    assert all(tile.reused for tile in build(four, OPTIONS, "told", catalog=sources, cache=cache).tiles)


def test_a_key_holds_all_that_pixels_depend_on(four: list[Tile]) -> None:
    frame = choose_frame([footprint(tile, 0.2) for tile in four])
    told = {"content": content_of(four[0]), "frame": frame, "beam_limit": 0.2, "shift_arcsec": (0.0, 0.0)}
    other = {
        "content": content_of(four[1]),
        "frame": frame._replace(cell_deg=frame.cell_deg * 1.01),
        "beam_limit": 0.3,
        "shift_arcsec": (0.0, 0.1),
    }
    keys = {key_of(**told)} | {key_of(**(told | {name: value})) for name, value in other.items()}  # type: ignore[arg-type]
    elsewhere = frame._replace(center=SkyPosition(5.0, 33.0))
    assert len(keys | {key_of(**(told | {"frame": elsewhere}))}) == 6  # type: ignore[arg-type]
    assert content_of(four[0]) == content_of(replace(four[0], name="elsewhere"))
    flipped = replace(four[0], image=replace(four[0].image, data=four[0].image.data[::-1]))
    assert content_of(flipped) != content_of(four[0])


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
    return PlacedTile(np.full((side, side), value, np.float32), np.ones((side, side), np.float32), (-3, 5))


def test_an_entry_comes_back_as_it_was(cache: TileCache) -> None:
    kept = placed(10, 0.1)
    cache.keep("a", kept)
    found = cache.find("a")
    assert found is not None
    assert found.data.tobytes() == kept.data.tobytes()
    assert found.response.tobytes() == kept.response.tobytes()
    assert found.first == (-3, 5)
    assert cache.find("b") is None


def test_the_folder_stays_below_its_limit(tmp_path: Path) -> None:
    """What was used longest ago goes; what is used stays."""
    cache = TileCache(tmp_path, 250_000 / 1e9)
    for k in range(3):
        cache.keep(f"e{k}", placed(100, k))
        os.utime(tmp_path / f"e{k}.npz", (1000.0 + k, 1000.0 + k))
    assert cache.find("e0") is not None
    cache.keep("e3", placed(100, 3.0))
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["e0", "e2", "e3"]
    cache.keep("large", placed(300, 0.0))
    assert cache.find("large") is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 250_000


def test_nothing_is_read_for_a_kept_tile_but_its_content(
    four: list[Tile], cache: TileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(four, OPTIONS, "all", cache=cache)

    def forbidden(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(placing, "resample", forbidden)
    monkeypatch.setattr(placing, "resample_linear", forbidden)
    assert all(tile.reused for tile in build(four, OPTIONS, "all", cache=cache).tiles)
