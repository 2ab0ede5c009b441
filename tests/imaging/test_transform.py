"""The way to the image plane and back, held against a plain Fourier sum over all samples."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.synthetic import C, Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.imaging import transform as module
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.samples import Block, average, weigh
from dsa110_contimg.imaging.transform import Transform, choose_geometry
from dsa110_contimg.options import ImagingOptions

FIELD = Field(800, float(np.radians(10.0 / 3600.0)))
OPTIONS = ImagingOptions(threads=1, epsilon=1e-3)
OFFSETS = np.array([[0.95, 0.72], [-0.9, -1.04], [0.05, -0.1]])
TILE = Tile(n_channels=64, channel_width_hz=187.5e6 / 64, n_antennas=14, n_times=4)


def blocks_of(tile: Tile) -> list[Block]:
    vis = empty_tile(tile)
    add_sources(vis, sources(vis, OFFSETS, np.array([1.0, 2.0, 0.5])), drifting=False)
    add_noise(vis, 0.1, seed=3)
    vis.flags[3::7, 10:20] = True
    blocks = average(vis)
    weigh(blocks, FIELD, OPTIONS)
    return blocks


def exact(blocks: list[Block], yx: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum every sample toward some pixels."""
    east, north = -(yx[:, 1] - FIELD.size // 2) * FIELD.cell_rad, (yx[:, 0] - FIELD.size // 2) * FIELD.cell_rad
    lmn = np.stack([east, north, np.sqrt(1.0 - east**2 - north**2) - 1.0])
    total, weight = np.zeros(len(yx)), 0.0
    for block in blocks:
        path = block.uvw_m @ lmn
        weight += float(block.weights.sum(dtype=np.float64))
        for chan, freq in enumerate(block.freq_hz):
            phase = np.exp(-2j * np.pi * freq / C * path)
            total += np.real(np.sum((block.weights[:, chan] * block.vis[:, chan])[:, None] * phase, axis=0))
    return total / weight


@pytest.mark.parametrize("dec_deg", [16.1, pytest.param(33.2, marks=pytest.mark.slow), 85.0])
def test_the_dirty_image_is_the_fourier_sum(dec_deg: float) -> None:
    blocks = blocks_of(replace(TILE, dec_deg=dec_deg))
    yx = np.random.default_rng(5).integers(0, FIELD.size, (300, 2))
    transform = Transform(blocks, FIELD, OPTIONS)
    assert transform.geometry.n_term > 0
    found, wanted = transform.dirty(), exact(blocks, yx)
    rms = float(np.sqrt(np.mean((found[yx[:, 0], yx[:, 1]] - wanted) ** 2)) / np.abs(found).max())
    print(f"dec {dec_deg}: rms error {rms:.1e} of the peak; {transform.geometry}")
    assert rms < 1e-3
    center = np.full((1, 2), FIELD.size // 2)
    ones = [replace(block, vis=np.ones_like(block.vis)) for block in blocks]
    assert transform.psf()[center[0, 0], center[0, 1]] == 1.0
    near = center + np.array([[7, -9], [40, 3], [-80, 60]])
    np.testing.assert_allclose(transform.psf()[near[:, 0], near[:, 1]], exact(ones, near), atol=2e-3)


@pytest.mark.parametrize("dec_deg", [pytest.param(16.1, marks=pytest.mark.slow), 85.0])
def test_the_w_gridder_and_the_plane_agree(dec_deg: float, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of(replace(TILE, dec_deg=dec_deg))
    pixels, fluxes = np.array([[100, 60], [260, 300], [790, 8]], np.int32), np.array([0.3, 0.7, -0.2])
    planes = []
    for terms in (module.MOST_TERMS, 0):
        monkeypatch.setattr(module, "MOST_TERMS", terms)
        transform = Transform(blocks, FIELD, OPTIONS)
        assert (transform.geometry.n_term > 0) == (terms > 0)
        dirty = transform.dirty()
        transform.subtract(pixels, fluxes)
        planes.append((dirty, transform.dirty()))
    for flat, stack in zip(*planes, strict=True):
        assert np.abs(flat - stack).max() < 5e-3 * np.abs(stack).max()
        assert np.std(flat - stack) < 1e-3 * np.abs(stack).max()


@pytest.mark.parametrize("limit", [0.85, 0.0])
def test_a_model_that_is_the_sky_leaves_nothing(limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COARSE_LIMIT", limit)
    vis = empty_tile(TILE)
    pixels, fluxes = np.array([[100, 60], [260, 300], [650, 98]], np.int32), np.array([0.3, 0.7, 0.5])
    offsets = (pixels - FIELD.size // 2)[:, ::-1] * np.array([-1.0, 1.0]) * FIELD.cell_rad * vis.aberration
    add_sources(vis, sources(vis, np.degrees(offsets), fluxes), drifting=False)
    blocks = average(vis)
    weigh(blocks, FIELD, OPTIONS)
    transform = Transform(blocks, FIELD, OPTIONS)
    before = transform.dirty()
    transform.subtract(pixels, fluxes)
    assert np.abs(transform.dirty()).max() < 2e-3 * np.abs(before).max()


def test_a_small_field_needs_no_plane_and_a_rough_array_the_w_gridder() -> None:
    blocks = blocks_of(replace(TILE, dec_deg=71.6))
    assert choose_geometry(blocks, Field(64, FIELD.cell_rad), 1e-3, warped=True).plane == (0.0, 0.0)
    assert any(choose_geometry(blocks, FIELD, 1e-3, warped=True).plane)
    assert choose_geometry(blocks, FIELD, 1e-3, warped=False).n_term == 0
    for block in blocks:
        block.uvw_m[:, 2] = np.random.default_rng(1).normal(0.0, 2000.0, len(block.uvw_m))
    assert choose_geometry(blocks, FIELD, 1e-3, warped=True).n_term == 0
