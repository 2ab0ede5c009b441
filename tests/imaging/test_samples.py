"""Gridding on coarse pixels and averaging by baseline change nothing that can be seen."""

from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.synthetic import Tile, add_sources, empty_tile, sources

from dsa110_contimg.imaging import samples as module
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.samples import Samples, average, merge_blocks, pointing_weights, weigh
from dsa110_contimg.options import ImagingOptions

FIELD = Field(512, float(np.radians(7.0 / 3600.0)))
OPTIONS = ImagingOptions(threads=1, epsilon=1e-5)
OFFSETS = np.array([[0.31, 0.22], [-0.4, -0.44], [0.05, -0.1]])


def test_coarse_gridding_is_the_fine_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vis = empty_tile(Tile())
    add_sources(vis, sources(vis, OFFSETS, np.array([1.0, 2.0, 0.5])))
    model = np.zeros((512, 512), np.float32)
    model[100, 60], model[260, 300], model[500, 8] = 0.3, 0.7, -0.2
    planes = []
    for limit in (0.85, 0.0):
        monkeypatch.setattr(module, "COARSE_LIMIT", limit)
        blocks = average(vis)
        weigh(blocks, FIELD, OPTIONS)
        samples = Samples(blocks, FIELD, OPTIONS)
        assert samples._coarse == (limit > 0.0)
        dirty, psf = samples.dirty(), samples.psf()
        samples.subtract(model)
        planes.append((dirty, psf, samples.dirty()))
    for coarse, fine in zip(*planes, strict=True):
        inner = slice(16, -16)
        assert np.abs(coarse - fine)[inner, inner].max() < 1e-3 * np.abs(fine).max()
        assert np.abs(coarse - fine).max() < 5e-3 * np.abs(fine).max()


def test_averaging_by_baseline_keeps_the_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    vis = empty_tile(Tile(n_channels=64, channel_width_hz=0.5e6, n_antennas=12, extent_m=1600.0))
    sky = sources(vis, np.array([[1.6, 1.0]]), np.array([1.0]))
    add_sources(vis, sky, drifting=False)
    monkeypatch.setattr(module, "BLOCK_COST", 0)
    blocks = average(vis)
    assert len(blocks) > 2
    assert sum(block.vis.size for block in blocks) < 0.7 * len(vis.vis) * 64
    for block in blocks:
        good = block.weights > 0
        assert np.abs(block.vis[good]).min() > 0.99


def test_blocks_that_save_little_are_merged_and_never_averaged_more() -> None:
    allowed = np.repeat([1, 2, 4, 8], [25_000, 20_000, 4_000, 6_000])
    few = merge_blocks(allowed, 96)
    assert np.unique(few).tolist() == [1], "96 channels: no block saves enough samples"
    many = merge_blocks(allowed, 768)
    assert np.unique(many).tolist() == [1, 2], "768 channels: the block of two saves 11 million"
    assert np.all(many <= allowed)


def test_bright_sources_come_off_before_averaging(monkeypatch: pytest.MonkeyPatch) -> None:
    vis = empty_tile(Tile(n_channels=32, n_antennas=10))
    sky = sources(vis, np.array([[0.9, 0.5]]), np.array([10.0]))
    add_sources(vis, sky)
    monkeypatch.setattr(module, "BLOCK_COST", 0)
    for block in average(vis, sky):
        assert np.abs(block.vis).max() < 1e-4


@pytest.mark.parametrize("few", [0, 10_000_000])
def test_pointing_weights_are_the_sum_of_the_weights(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_COST", few)
    vis = empty_tile(Tile(n_channels=16))
    vis.flags[: len(vis.flags) // 6] = True
    blocks = average(vis)
    weight = pointing_weights(vis, blocks)
    assert weight.shape == (6, 16)
    assert weight.sum() == pytest.approx(sum(block.weights.sum(dtype=float) for block in blocks))
    assert not weight[0].any()
    assert weight[1:].all()
    bare = replace(vis, pointing_mjd=np.empty(0), pointing_icrs_deg=np.empty((0, 2)))
    assert pointing_weights(bare, average(bare)).shape == (1, 16)
