"""Tiles on a mosaic's grid, kept for the next mosaic that needs them.

An entry's name is the hash of everything that its pixels depend on: what tells the tile's files from any others, its
place on the sky and its restoring beam, the mosaic's frame and beam, the limit, and, if offsets from the catalogue are
taken out, the sources on the tile. What is found is what would be made, to the bit; a tile that was imaged again has
another name. An entry is one file of `numpy`, whose checksums are verified on reading: a damaged one counts as missing,
and goes.

The folder is held below a number of bytes; what was used longest ago goes first. Any entry may be removed at any time.
"""

import hashlib
import json
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.mosaic.astrometry import TileOffset
from dsa110_contimg.mosaic.tiles import PixelFigures

logger = logging.getLogger(__name__)

RECIPE = 2
"""Another number wherever the same inputs would give other pixels."""
GIGABYTE = 1e9


@dataclass(frozen=True)
class PlacedTile:
    """A tile on the grid of a mosaic, and what was measured on the way."""

    data: NDArray[np.float32]
    """(ny, nx), with the mosaic's restoring beam; NaN where its primary beam is below the limit."""
    response: NDArray[np.float32]
    """Its primary beam at every so-manieth pixel (`kernels.resample.nodes_of`)."""
    first: tuple[int, int]
    """(y, x) of the first pixel, counted from the center of the mosaic's frame."""
    noise_jy: float
    """Noise of `data`."""
    figures: PixelFigures
    """Of the tile itself."""
    offset: TileOffset | None
    """From the catalogue; None where there is none, or too few sources tell."""
    catalog: str
    """Hash of the catalogue around the tile; empty without one."""


def key_of(*told: object) -> str:
    """Return the name of an entry: a hash of all that a placed tile depends on."""
    return hashlib.sha256(repr((RECIPE, *told)).encode()).hexdigest()


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
                placed = _placed(entry["data"], entry["response"], json.loads(str(entry["told"])))
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s): the tile is placed again", path, error)
            path.unlink(missing_ok=True)
            return None
        return placed

    def keep(self, key: str, placed: PlacedTile) -> None:
        """Store an entry and make room; one that alone is too large is not stored."""
        if placed.data.nbytes + placed.response.nbytes > self.max_gb * GIGABYTE:
            return
        with replacing(self._path(key)) as scratch, scratch.open("wb") as file:
            np.savez(file, data=placed.data, response=placed.response, told=np.array(json.dumps(_told(placed))))
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


def _told(placed: PlacedTile) -> list[object]:
    """Return what an entry tells beside its pixels."""
    return [placed.first, placed.noise_jy, placed.figures, placed.offset, placed.catalog]


def _placed(data: NDArray[np.float32], response: NDArray[np.float32], told: list[Any]) -> PlacedTile:
    first, noise_jy, figures, offset, catalog = told
    return PlacedTile(
        data,
        response,
        (int(first[0]), int(first[1])),
        float(noise_jy),
        PixelFigures(*figures),
        None if offset is None else TileOffset(*offset),
        str(catalog),
    )
