r"""How far a mosaic's noise is from what the weights say.

    noise = κ / √(Σ P²/σ²)

κ is the scatter of I √(Σ P²/σ²), measured in blocks of half a degree and linear between their middles. It is one where
tiles have even and independent noise; sidelobes of bright sources, which neighboring tiles share, make it larger.
One value is taken from each half beam. Sources do not count: what lies within a beam of anything above five times the
scatter of its own block is left out, or faint sources would pass for noise where they are many.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dsa110_contimg.kernels.coadd import robust_scatter
from dsa110_contimg.kernels.noise import pull_in_cells, scale_bilinear
from dsa110_contimg.visibilities import Beam

BLOCK_DEG = 0.5
BLOCK_BEAMS = 1000.0
MIN_FILLED = 0.25
SOURCE_SIGMA = 5.0


class NoiseFactors(NamedTuple):
    """Measured scatter over the expected one."""

    overall: float
    """κ over the whole mosaic."""
    blocks: NDArray[np.float64]
    """κ in each block, (n_block_y, n_block_x); blocks that are less than a quarter full have the overall one."""
    block: int
    """Side of a block in pixels."""


def block_pixels(beam: Beam, cell_deg: float) -> int:
    """Return the side of the blocks in which noise is measured: half a degree, or a thousand beams if larger."""
    beam_pixels = np.pi / (4.0 * np.log(2.0)) * beam.major_arcsec * beam.minor_arcsec / (3600.0 * cell_deg) ** 2
    return int(max(BLOCK_DEG / cell_deg, np.sqrt(BLOCK_BEAMS * beam_pixels)))


def measure_factors(
    image: NDArray[np.float32], noise: NDArray[np.float32], beam: Beam, cell_deg: float
) -> NoiseFactors:
    """Measure κ of an image and the noise that its weights give, each (ny, nx); NaN outside."""
    step = max(int(0.5 * beam.minor_arcsec / (3600.0 * cell_deg)), 1)
    side = max(block_pixels(beam, cell_deg) // step, 1)
    pull, largest = pull_in_cells(image, noise, step)
    everything = robust_scatter(pull)
    first = _in_blocks(pull, side, everything)
    limit = SOURCE_SIGMA * np.kron(first, np.ones((side, side)))[: pull.shape[0], : pull.shape[1]]
    reach = int(np.ceil(beam.major_arcsec / (3600.0 * cell_deg * step)))
    quiet = np.where(maximum_filter(largest > limit, size=2 * reach + 1), np.float32(np.nan), pull)
    overall = robust_scatter(quiet)
    overall = overall if np.isfinite(overall) else everything
    return NoiseFactors(overall, _in_blocks(quiet, side, overall, fallback=first), side * step)


def apply_factors(noise: NDArray[np.float32], factors: NoiseFactors) -> None:
    """Multiply a noise map by its factors, in place."""
    scale_bilinear(noise, factors.blocks, float(factors.block))


def _in_blocks(
    pull: NDArray[np.float32], side: int, default: float, fallback: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the scatter in blocks of *side* cells; where too little is left, that of *fallback* or the default."""
    count = [-(-length // side) for length in pull.shape]
    blocks = np.full(count, default) if fallback is None else fallback.copy()
    for j in range(count[0]):
        for i in range(count[1]):
            part = pull[j * side : (j + 1) * side, i * side : (i + 1) * side]
            if np.isfinite(part).sum() >= MIN_FILLED * side * side:
                blocks[j, i] = robust_scatter(part)
    return blocks
