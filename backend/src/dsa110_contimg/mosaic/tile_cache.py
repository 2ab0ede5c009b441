"""Tiles on a mosaic's grid, kept for the next mosaic that needs them.

An entry's name is the hash of everything that its pixels depend on: those of the tile and its primary beam, their place
on the sky, the mosaic's frame, and the limit. What is found is what would be made, to the bit; a tile that was imaged
again has another name. An entry is one file of `numpy`, whose checksums are verified on reading: a damaged one counts
as missing, and goes. Tiles are kept with their own restoring beams, because that of a mosaic changes with any of its
tiles.

The folder is held below a number of bytes; what was used longest ago goes first. Any entry may be removed at any time.
"""

import hashlib
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.mosaic.grid import Frame
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.visibilities import SkyImage

logger = logging.getLogger(__name__)

RECIPE = 1
"""Another number wherever the same inputs would give other pixels."""
GIGABYTE = 1e9


@dataclass(frozen=True)
class PlacedTile:
    """A tile on the grid of a mosaic."""

    data: NDArray[np.float32]
    """(ny, nx), with its own restoring beam; NaN outside the tile."""
    response: NDArray[np.float32]
    """Same shape: its primary beam."""
    first: tuple[int, int]
    """(y, x) of the first pixel, counted from the center of the mosaic's frame."""


def content_of(tile: Tile) -> str:
    """Return the hash of a tile's pixels and of what places them on the sky."""
    digest = hashlib.sha256()
    for picture in (tile.image, tile.beam):
        digest.update(repr((picture.data.shape, *_place(picture))).encode())
        digest.update(np.ascontiguousarray(picture.data, np.float32).data)
    return digest.hexdigest()


def _place(picture: SkyImage) -> tuple[object, ...]:
    beam = None if picture.beam is None else tuple(picture.beam)
    return tuple(picture.center), picture.center_pixel, picture.cell_deg, beam


def key_of(content: str, frame: Frame, beam_limit: float, shift_arcsec: tuple[float, float]) -> str:
    """Return the name of an entry: a hash of all that a placed tile depends on."""
    told = (RECIPE, content, tuple(frame.center), frame.cell_deg, beam_limit, shift_arcsec)
    return hashlib.sha256(repr(told).encode()).hexdigest()


@dataclass(frozen=True)
class TileCache:
    """A folder of placed tiles."""

    folder: Path
    max_gb: float
    """The folder is held below this."""

    def find(self, key: str) -> PlacedTile | None:
        """Return an entry, or None; it counts as used now."""
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file) as entry:
                first = (int(entry["first"][0]), int(entry["first"][1]))
                placed = PlacedTile(entry["data"], entry["response"], first)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s): the tile is placed again", path, error)
            path.unlink(missing_ok=True)
            return None
        return placed

    def keep(self, key: str, placed: PlacedTile) -> None:
        """Store an entry and make room; one that alone is too large is not stored."""
        if placed.data.nbytes + placed.response.nbytes > self.max_gb * GIGABYTE:
            return
        with replacing(self._path(key)) as scratch, scratch.open("wb") as file:
            np.savez(file, data=placed.data, response=placed.response, first=np.array(placed.first))
        self._make_room()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _make_room(self) -> None:
        """Remove entries, those used longest ago first, until the folder is small enough."""
        entries = []
        for path in self.folder.glob("*.npz"):
            # Another process may make room, too.
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _used, size, _path in entries)
        for _used, size, path in sorted(entries):
            if total <= self.max_gb * GIGABYTE:
                return
            path.unlink(missing_ok=True)
            total -= size
