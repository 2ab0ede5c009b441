"""Averaging by baseline changes nothing that can be seen."""

from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.synthetic import Tile, add_sources, empty_tile, sources

from dsa110_contimg.imaging.samples import average, pointing_weights


def test_averaging_by_baseline_keeps_the_flux() -> None:
    vis = empty_tile(Tile(n_channels=64, channel_width_hz=0.5e6, n_antennas=12, extent_m=1600.0))
    sky = sources(vis, np.array([[1.6, 1.0]]), np.array([1.0]))
    add_sources(vis, sky, drifting=False)
    blocks = average(vis)
    assert len(blocks) > 2
    assert sum(block.vis.size for block in blocks) < 0.7 * len(vis.vis) * 64
    for block in blocks:
        good = block.weights > 0
        assert np.abs(block.vis[good]).min() > 0.99


def test_bright_sources_come_off_before_averaging() -> None:
    vis = empty_tile(Tile(n_channels=32, n_antennas=10))
    sky = sources(vis, np.array([[0.9, 0.5]]), np.array([10.0]))
    add_sources(vis, sky)
    for block in average(vis, sky):
        assert np.abs(block.vis).max() < 1e-4


def test_pointing_weights_are_the_sum_of_the_weights() -> None:
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
