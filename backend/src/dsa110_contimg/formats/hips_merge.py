r"""Many mosaics as one HiPS, to which further ones are added without touching what they do not show.

Where mosaics overlap, a pixel is their mean with the mosaics' own weights w = Σ P²/σ², and the weights are kept as a
second HiPS beside the first, so that adding is exact whenever it happens:

    I = Σ w_k I_k / Σ w_k            (W, I) + (w, i) → (W + w, (W I + w i)/(W + w))

The pixels are those of the mosaics' own HiPS, which share them; only weights are brought onto them. A new HiPS begins
as links to the files of the one before it, and no file that has two names is ever written to. Mosaics keep their
beams: the mean of two is a picture of the sky, not an image to measure on.
"""

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.formats import fits_image, hips_tiles
from dsa110_contimg.formats.hips import plane_grid
from dsa110_contimg.formats.scratch import flush
from dsa110_contimg.kernels.healpix import resample_tile

Tell = Callable[[int, int], None]
"""Called with how many mosaics of how many are in."""


class Part(NamedTuple):
    """What one mosaic brings."""

    hips: Path
    weight: Path
    """FITS image of Σ P²/σ², 1/(Jy/beam)²."""
    only: frozenset[int] | None = None
    """Of the deepest order, the tiles that are wanted; None: all."""


class Pair(NamedTuple):
    """Two HiPS with the same tiles."""

    image: Path
    weight: Path


def deepest_order(hips: Path) -> int:
    """Return the deepest order of a HiPS."""
    return int(hips_tiles.load_properties(hips)["hips_order"])


def noise_of(hips: Path) -> float:
    """Return the noise by which a HiPS is colored, Jy/beam."""
    low = float(hips_tiles.load_properties(hips)["hips_pixel_cut"].split()[0])
    return -low / hips_tiles.LOW_SIGMA


def merge(
    parts: Sequence[Part],
    out: Pair,
    order: int,
    *,
    base: Pair | None = None,
    drop: Collection[int] = (),
    tell: Tell = lambda _done, _total: None,
) -> set[int]:
    """Make the tiles of a HiPS and its weights, without coverage and properties, and return those that changed.

    Parameters
    ----------
    parts
        What is added.
    out
        Folders to be made; nobody else may know them yet.
    order
        Deepest order; no part may have less.
    base
        What it begins as.
    drop
        Tiles of the base that are left out, to be made anew from the parts.
    """
    if base is not None:
        _link(base, out, order, drop)
    changed, headers = set(drop), dict[tuple[int, int], Path]()
    for done, part in enumerate(parts):
        tell(done, len(parts))
        changed |= _add(part, out, order)
        for above in range(order):
            headers |= {(above, tile): hips_tiles.tile_path(part.hips, above, tile) for tile in _tiles(part, above)}
    sigma = noise_of(base.image if base is not None else parts[0].hips)
    for folder in out:
        hips_tiles.coarsen(folder, order, changed, headers)
    for level in range(order, -1, -1):
        for tile in {tile >> 2 * (order - level) for tile in changed}:
            path = hips_tiles.tile_path(out.image, level, tile)
            if path.exists():
                hips_tiles.draw_tile(path, sigma)
    for path in (path for folder in out for path in folder.rglob("*")):
        flush(path)
    tell(len(parts), len(parts))
    return changed


def _tiles(part: Part, order: int) -> list[int]:
    return hips_tiles.tiles_of(part.hips, order)


def _link(base: Pair, out: Pair, order: int, drop: Collection[int]) -> None:
    """Give the tiles of a HiPS second names, without those to be dropped."""
    gone = {(f"Norder{order}", f"Npix{tile}") for tile in drop}
    for old, new in zip(base, out, strict=True):
        for path in old.glob("Norder*/Dir*/Npix*"):
            if (path.parts[-3], path.stem) in gone:
                continue
            target = new / path.relative_to(old)
            target.parent.mkdir(parents=True, exist_ok=True)
            _second_name(path, target)


def _second_name(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(path, target)


def _add(part: Part, out: Pair, order: int) -> set[int]:
    """Add one mosaic to the deepest tiles, and return which it changed."""
    weights = fits_image.load(part.weight)
    plane, (grid, frame) = np.ascontiguousarray(weights.data, np.float32), plane_grid(weights)
    changed = set()
    for tile in _tiles(part, order):
        if part.only is not None and tile not in part.only:
            continue
        values, header = hips_tiles.load_tile(hips_tiles.tile_path(part.hips, order, tile))
        weight = resample_tile(plane, grid, frame, order, tile, hips_tiles.WIDTH)
        paths = [hips_tiles.tile_path(folder, order, tile) for folder in out]
        known = [hips_tiles.load_tile(path)[0] for path in paths] if paths[0].exists() else None
        for path, made in zip(paths, _mean(known, values, weight), strict=True):
            hips_tiles.save_tile(path, made, header)
        changed.add(tile)
    return changed


def _mean(
    known: Sequence[NDArray[np.float32]] | None, values: NDArray[np.float32], weight: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of what is known and what is new, and its weight; NaN where there is neither."""
    new = np.isfinite(values) & (weight > 0.0)
    total = np.where(new, weight, 0.0).astype(np.float64)
    weighted = np.where(new, values, 0.0) * total
    if known is not None:
        had = np.isfinite(known[0])
        before = np.where(had, known[1], 0.0).astype(np.float64)
        weighted += np.where(had, known[0], 0.0) * before
        total += before
    there = total > 0.0
    mean = np.divide(weighted, total, out=np.full(total.shape, np.nan), where=there)
    return mean.astype(np.float32), np.where(there, total, np.nan).astype(np.float32)
