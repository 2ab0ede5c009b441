"""The noise map follows the noise, whatever the sources do, in every square degree of real strips."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel
from dsa110_contimg.mosaic.build import build
from dsa110_contimg.mosaic.noise_map import apply_factors, measure_factors
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam

BEAM = Beam(20.0, 20.0, 0.0)
CELL_DEG = 5.0 / 3600.0
SEED = 20250115


def noisy(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(SEED)
    return rng.normal(size=shape).astype(np.float32), np.ones(shape, np.float32)


def test_follows_the_noise() -> None:
    image, noise = noisy((720, 1440))
    image[:, 720:] *= 3.0
    image[:, :50] = np.nan
    factors = measure_factors(image, noise, BEAM, CELL_DEG)
    apply_factors(noise, factors)
    assert factors.block == 360
    assert factors.blocks.shape == (2, 4)
    assert noise[:, 60:540].mean() == pytest.approx(1.0, abs=0.02)
    assert noise[:, 900:].mean() == pytest.approx(3.0, abs=0.06)
    # Linear between the middles of blocks: half way there at the border.
    assert noise[:, 720].mean() == pytest.approx(2.0, abs=0.05)


def test_many_sources_are_not_noise() -> None:
    """Fifteen hundred sources a square degree of 6 to 30 sigma: clipping alone finds 1.08."""
    rng = np.random.default_rng(SEED)
    image, noise = noisy((720, 720))
    y, x = np.mgrid[-8:9, -8:9]
    for flux, column, row in zip(6.0 / rng.uniform(0.2, 1.0, 1500), *rng.integers(9, 711, (2, 1500)), strict=True):
        image[row - 8 : row + 9, column - 8 : column + 9] += flux * beam_kernel(x, y, BeamShape(4.0, 4.0, 0.0))
    factors = measure_factors(image, noise, BEAM, CELL_DEG)
    assert factors.overall == pytest.approx(1.0, abs=0.02)
    assert factors.blocks == pytest.approx(np.ones((2, 2)), abs=0.04)


def test_noise_that_is_raised_all_over_a_block_is_not_taken_for_sources() -> None:
    image, noise = noisy((720, 720))
    image *= 3.0
    assert measure_factors(image, noise, BEAM, CELL_DEG).overall == pytest.approx(3.0, rel=0.02)


def test_empty_blocks_have_the_overall_factor() -> None:
    image, noise = noisy((720, 720))
    image *= 2.0
    image[:, 380:] = np.nan
    factors = measure_factors(image, noise, BEAM, CELL_DEG)
    assert factors.blocks[:, 1] == pytest.approx(factors.overall)


def worst_square_degree(
    strip: Callable[..., list[Tile]], ra: float, dec: float, sigmas: tuple[float, ...], share: float = 0.6
) -> tuple[int, float]:
    """Number of square degrees, and the largest distance of their scatter from one."""
    rng = np.random.default_rng([SEED, int(abs(dec))])
    tiles = strip(ra, dec, len(sigmas), size=400, cell_arcsec=30.0, beam=Beam(100.0, 80.0, 110.0), sigma=1e-3, rng=rng)
    for tile, sigma in zip(tiles, sigmas, strict=True):
        tile.image.data[:] *= np.float32(sigma)
    result = build(tiles, MosaicOptions(), "noise")
    pull = result.image.data / result.noise.data
    side = round(1.0 / result.image.cell_deg)
    squares = [
        pull[row : row + side, column : column + side]
        for row in range(0, pull.shape[0] - side // 2, side)
        for column in range(0, pull.shape[1] - side // 2, side)
    ]
    scatter = [float(np.nanstd(part)) for part in squares if np.isfinite(part).sum() > share * side * side]
    return len(scatter), float(np.max(np.abs(np.array(scatter) - 1.0)))


@pytest.mark.parametrize(("ra", "dec"), [(0.2, 33.2), (140.0, -20.0), (359.9, 85.0)])
def test_every_square_degree(strip: Callable[..., list[Tile]], ra: float, dec: float) -> None:
    """Tiles of unequal noise, turned and drifting; some 1,200 beams to a square degree."""
    number, worst = worst_square_degree(strip, ra, dec, (1.0, 2.5, 1.0, 0.7))
    assert number >= 8
    assert worst < 0.05


def test_a_wrong_noise_would_be_seen(strip: Callable[..., list[Tile]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without the measured factors, on tiles that share their noise."""
    monkeypatch.setattr("dsa110_contimg.mosaic.placing.robust_scatter", lambda _data: 1e-3)
    monkeypatch.setattr("dsa110_contimg.mosaic.build.apply_factors", lambda _noise, _factors: None)
    assert worst_square_degree(strip, 0.2, 33.2, (1.0, 2.5, 1.0, 0.7))[1] > 0.2
