"""The quality page is drawn whatever was measured, the same each time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dsa110_contimg.qa.checks import Check, ReferenceSources, Verdict
from dsa110_contimg.qa.plots import quality_page
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

BEAM = Beam(55.0, 40.0, 100.0)
SHAPE = (300, 420)
CHECKS = [
    Check("flux_ratio", 0.98, 0.08, 0.2, Verdict.PASSED, "0.980 is the median flux ratio of 40 isolated sources"),
    Check("astrometry", None, 0.1, 0.25, Verdict.UNMEASURED, "too few sources"),
]


def draw(path: Path, sources: ReferenceSources | None, checks: Sequence[Check] = CHECKS, width: int = SHAPE[1]) -> Path:
    """Draw the page of a mosaic with a source and a blank corner."""
    data = np.random.default_rng(3).normal(0.0, 2e-3, (SHAPE[0], width)).astype(np.float32)
    data[150, width // 2] = 1.0
    data[:60, :60] = np.nan
    image = SkyImage(data, SkyPosition(10.0, 33.0), 8.0 / 3600.0, kind="mosaic", beam=BEAM)
    noise = replace(image, data=np.full_like(data, 2e-3), kind="noise")
    return quality_page(path, sources, checks, image=image, noise=noise, title="mosaic")


@pytest.fixture
def sources() -> ReferenceSources:
    rng = np.random.default_rng(2)
    n = 120
    reference = np.minimum(0.006 * (rng.pareto(0.9, n) + 1), 16.0)
    noise = np.full(n, 2e-3)
    flux = reference + rng.normal(0, 1, n) * noise
    offset = rng.normal(0, 0.42, (2, n)) * 50 * noise / reference
    isolated = rng.random(n) > 0.2
    return ReferenceSources([f"s{k}" for k in range(n)], flux, noise, reference, noise, offset[0], offset[1], isolated)


def test_page_shows_something_in_every_panel(sources: ReferenceSources, tmp_path: Path) -> None:
    pixels = imread(draw(tmp_path / "q.png", sources))
    ny, nx = pixels.shape[:2]
    inked = pixels[..., :3].min(axis=2) < 0.9
    rows = (slice(0, ny // 3), slice(ny * 2 // 5, ny * 3 // 5), slice(ny * 13 // 20, ny * 17 // 20))
    for row in rows:
        for columns in (slice(0, nx // 2), slice(nx // 2, nx)):
            assert inked[row, columns].mean() > 0.01


def test_same_bytes_each_time(sources: ReferenceSources, tmp_path: Path) -> None:
    first = draw(tmp_path / "a.png", sources).read_bytes()
    assert first == draw(tmp_path / "b.png", sources).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_page_without_sources(tmp_path: Path) -> None:
    assert draw(tmp_path / "q.png", None).stat().st_size > 5000


def test_page_of_a_long_strip(tmp_path: Path) -> None:
    assert draw(tmp_path / "q.png", None, width=3000).stat().st_size > 5000


def test_page_when_nothing_was_found(sources: ReferenceSources, tmp_path: Path) -> None:
    nothing = replace(
        sources, flux_jy=np.zeros(120), offset_east_arcsec=np.full(120, np.nan), reference_jy=np.full(120, 1e-3)
    )
    assert draw(tmp_path / "q.png", nothing, []).exists()
