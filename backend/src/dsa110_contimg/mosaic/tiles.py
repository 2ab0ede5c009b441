r"""Tiles: what a mosaic is made of.

A tile is a restored image with even noise (not divided by the primary beam) and its mean primary beam on the same
grid. It is in memory or on disk; what its headers tell is known without reading a pixel, and so is whether its pixels
have changed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, MosaicError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.kernels.coadd import robust_scatter
from dsa110_contimg.telescope import TILE_SECONDS, aberration_scale
from dsa110_contimg.visibilities import Beam, SkyImage


@dataclass(frozen=True)
class Tile:
    """A tile in memory."""

    name: str
    """What messages call it: its path or group id."""
    group_id: str
    image: SkyImage
    """Restored, with even noise, Jy/beam: not divided by the primary beam."""
    beam: SkyImage
    """Mean primary beam on the grid of `image`; one on the axis of a dish that does not move."""
    mid_mjd: float
    noise_jy: float
    """Noise of `image`, Jy/beam."""
    has_pbcor: bool = True
    """Whether its beam-corrected image exists."""

    def load(self) -> "Tile":
        """Return itself."""
        return self

    def summary(self) -> "TileSummary":
        """Return what is known without its pixels."""
        return TileSummary(self.name, self.group_id, self.image, self.mid_mjd, self.has_pbcor)

    def identity(self) -> str:
        """Return the hash of its pixels and of what places them on the sky."""
        digest = hashlib.sha256()
        for picture in (self.image, self.beam):
            digest.update(repr((picture.data.shape, *_place(picture))).encode())
            digest.update(np.ascontiguousarray(picture.data, np.float32).data)
        return digest.hexdigest()


class TileSummary(NamedTuple):
    """What is known of a tile without its pixels."""

    name: str
    group_id: str
    image: SkyImage
    """Only its shape and metadata are to be used."""
    mid_mjd: float
    has_pbcor: bool


@dataclass(frozen=True)
class TileFiles:
    """A tile on disk; only one at a time is held in memory."""

    group_id: str
    image_path: Path
    beam_path: Path
    pbcor_path: Path

    @property
    def name(self) -> str:
        """The image's path."""
        return str(self.image_path)

    def load(self) -> Tile:
        """Read the image and its beam.

        Raises
        ------
        BadInputError
            If a file is missing or damaged, or carries no time.
        MosaicError
            If image and beam are not on the same grid.
        """
        image, beam = fits_image.load(self.image_path), fits_image.load(self.beam_path)
        if image.data.shape != beam.data.shape or image.center != beam.center or image.cell_deg != beam.cell_deg:
            raise MosaicError(f"{self.image_path} and {self.beam_path} are not on the same grid; image the tile again")
        noise = image.noise_jy if np.isfinite(image.noise_jy) else robust_scatter(image.data)
        return Tile(self.name, self.group_id, image, beam, _mid_mjd(image, self.name), noise, self.pbcor_path.exists())

    def summary(self) -> TileSummary:
        """Read the image's header.

        Raises
        ------
        BadInputError
            If the file is missing or no image, or carries no time.
        """
        image = fits_image.describe(self.image_path)
        return TileSummary(self.name, self.group_id, image, _mid_mjd(image, self.name), self.pbcor_path.exists())

    def identity(self) -> str:
        """Return what tells the files from any others: name, size, inode and time of change, to the nanosecond.

        Raises
        ------
        BadInputError
            If one does not exist.
        """
        told = []
        for path in (self.image_path, self.beam_path):
            try:
                status = path.stat()
            except FileNotFoundError as error:
                raise BadInputError(f"{path} does not exist") from error
            told.append((str(path.resolve()), status.st_size, status.st_ino, status.st_mtime_ns))
        return repr(told)


class TileSource(Protocol):
    """A tile in memory or on disk."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def load(self) -> Tile:
        """Return the tile with its pixels."""

    def summary(self) -> TileSummary:
        """Return what is known without reading its pixels."""

    def identity(self) -> str:
        """Return what changes if its pixels do."""


class PixelFigures(NamedTuple):
    """What only the pixels of a tile tell."""

    noise_jy: float
    peak_jy: float
    finite_fraction: float
    beam_peak: float
    beam_min: float


class TileMetrics(NamedTuple):
    """What was measured on one tile; None where it could not be."""

    name: str
    group_id: str
    mid_mjd: float
    ra_deg: float
    dec_deg: float
    shape: tuple[int, int]
    cell_arcsec: float
    aberration: float
    noise_jy: float
    peak_jy: float
    dynamic_range: float | None
    beam: Beam | None
    beam_peak: float
    beam_min: float
    finite_fraction: float
    calibrated: bool
    has_pbcor: bool

    @property
    def width_deg(self) -> float:
        """Mean width of the field."""
        return sum(self.shape) / 2.0 * self.cell_arcsec / 3600.0


def measure_pixels(tile: Tile) -> PixelFigures:
    """Measure what only the pixels of a tile tell."""
    image, beam = _known(tile.image.data), _known(tile.beam.data)
    return PixelFigures(
        noise_jy=tile.noise_jy,
        peak_jy=float(image.max(initial=-np.inf)),
        finite_fraction=image.size / tile.image.data.size,
        beam_peak=float(beam.max()) if beam.size else float("nan"),
        beam_min=float(beam.min()) if beam.size else float("nan"),
    )


def _known(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values of a plane that are finite; the plane itself where all are."""
    finite = np.isfinite(plane)
    return plane if finite.all() else plane[finite]


def measure_tile(tile: Tile) -> TileMetrics:
    """Measure what the consistency checks look at."""
    return tile_metrics(tile.summary(), measure_pixels(tile))


def tile_metrics(summary: TileSummary, figures: PixelFigures) -> TileMetrics:
    """Return what the consistency checks look at."""
    image = summary.image
    noise, peak = figures.noise_jy, figures.peak_jy
    positive = np.isfinite(noise) and noise > 0.0 and np.isfinite(peak)
    return TileMetrics(
        name=summary.name,
        group_id=summary.group_id,
        mid_mjd=summary.mid_mjd,
        ra_deg=image.center.ra_deg,
        dec_deg=image.center.dec_deg,
        shape=(image.data.shape[0], image.data.shape[1]),
        cell_arcsec=image.cell_deg * 3600.0,
        aberration=aberration_scale(*image.center, summary.mid_mjd),
        noise_jy=noise,
        peak_jy=peak,
        dynamic_range=peak / noise if positive else None,
        beam=image.beam,
        beam_peak=figures.beam_peak,
        beam_min=figures.beam_min,
        finite_fraction=figures.finite_fraction,
        calibrated=bool(str(image.header.get("CALTABLES", "")).strip()),
        has_pbcor=summary.has_pbcor,
    )


def _place(picture: SkyImage) -> tuple[object, ...]:
    beam = None if picture.beam is None else tuple(picture.beam)
    return tuple(picture.center), picture.center_pixel, picture.cell_deg, beam


def _mid_mjd(image: SkyImage, name: str) -> float:
    if not np.isfinite(image.start_mjd):
        raise BadInputError(f"{name} carries no MJD-OBS; image the tile again")
    end = image.end_mjd if np.isfinite(image.end_mjd) else image.start_mjd + TILE_SECONDS / 86400.0
    return 0.5 * (image.start_mjd + end)
