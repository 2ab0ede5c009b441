"""Pictures show the sources, are the same each time, and never break on odd images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from dsa110_contimg.formats.previews import NamedSource, celestial_wcs, preview, reduce_blocks, stretch, thumbnail
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition


@pytest.fixture
def image() -> SkyImage:
    rng = np.random.default_rng(1)
    data = rng.normal(0, 1e-3, (160, 240)).astype(np.float32)
    y, x = np.mgrid[:160, :240]
    data += 2.0 * np.exp(-((x - 60) ** 2 + (y - 100) ** 2) / 8.0).astype(np.float32)
    data[np.hypot((x - 120) / 1.5, y - 80) > 78] = np.nan
    return SkyImage(
        data,
        SkyPosition(0.2, 33.2),
        60.0 / 3600.0,
        beam=Beam(240.0, 180.0, 110.0),
        freq_hz=1.405e9,
        start_mjd=60690.5,
        exposure_s=618.0,
        noise_jy=1e-3,
        field_name="mosaic_2025-01-15_12-30-00",
        header={"NTILES": 2},
    )


def test_preview_is_the_same_each_time(image: SkyImage, tmp_path: Path) -> None:
    sources = [NamedSource("J0005+3332", 1.39, 33.53, 2.0), NamedSource("J0000+3312", 0.2, 33.2, 0.05)]
    first = preview(image, tmp_path / "a.png", sources=sources, title="two tiles").read_bytes()
    assert first == preview(image, tmp_path / "b.png", sources=sources[::-1], title="two tiles").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert first != preview(image, tmp_path / "c.png", title="two tiles").read_bytes()


def test_preview_puts_sky_bar_and_words(image: SkyImage, tmp_path: Path) -> None:
    pixels = imread(preview(image, tmp_path / "a.png"))[..., :3]
    background = np.array([0x0B, 0x0E, 0x14]) / 255.0
    drawn = np.abs(pixels - background).max(axis=2) > 0.2
    ny, nx = drawn.shape
    assert drawn[ny // 4 : ny // 2, nx // 4 : nx // 2].any()
    assert drawn[: ny // 10].any(), "a title"
    assert drawn[:, int(0.9 * nx) :].any(), "a color bar"
    assert drawn[int(0.93 * ny) :].any(), "the facts below"


@pytest.mark.parametrize("what", ["blank", "even", "tiny", "no beam", "behind"])
def test_odd_images_have_a_picture(image: SkyImage, tmp_path: Path, what: str) -> None:
    odd = {
        "blank": replace(image, data=np.full_like(image.data, np.nan)),
        "even": replace(image, data=np.zeros_like(image.data)),
        "tiny": replace(image, data=image.data[78:82, 118:122]),
        "no beam": replace(image, beam=None, freq_hz=float("nan"), start_mjd=float("nan"), header={}),
        "behind": image,
    }[what]
    sources = [NamedSource("other side", 180.0, -33.0, 9.0)]
    assert preview(odd, tmp_path / "a.png", sources=sources).stat().st_size > 3000
    assert thumbnail(odd, tmp_path / "t.png").exists()


def test_thumbnail_has_the_asked_size(image: SkyImage, tmp_path: Path) -> None:
    pixels = imread(thumbnail(image, tmp_path / "t.png", pixels=80))
    assert pixels.shape[:2] == (53, 80)
    row, column = np.unravel_index(np.argmax(pixels[..., :3].sum(axis=2)), (53, 80))
    assert (int(52 - row), int(column)) == (100 // 3, 60 // 3)


def test_reduced_blocks_keep_sources_and_places(image: SkyImage) -> None:
    reduced, step = reduce_blocks(image.data, 4)
    assert step == 4
    assert reduced.shape == (40, 60)
    assert np.nanmax(reduced) == pytest.approx(2.0, abs=0.01)
    assert np.nanstd(reduced[30:]) < 1e-3
    wcs = celestial_wcs(image, ((120 - 1.5) / 4, (80 - 1.5) / 4), 4)
    whole = celestial_wcs(image)
    np.testing.assert_allclose(wcs.all_pix2world(15.0, 25.0, 0), whole.all_pix2world(61.5, 101.5, 0), atol=1e-9)


def test_stretch_shows_noise_and_bright_source() -> None:
    rng = np.random.default_rng(2)
    data: NDArray[np.float32] = rng.normal(0, 1.0, 10_000).astype(np.float32)
    data[0] = 1e4
    low, high, norm = stretch(data)
    assert low == pytest.approx(-3.0, abs=0.15)
    assert high == 1e4
    noise, faint, bright = (float(norm(v)) for v in (1.0, 20.0, 1000.0))
    assert 0.1 < noise < 0.3 < faint < 0.5 < bright < 1.0
