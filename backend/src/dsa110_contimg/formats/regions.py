"""Regions of the sky as queries write them (SIA 2.0: CIRCLE, RANGE, POLYGON), and whether an image meets one.

Whether two meet is tried with points: the outline and a grid of the image against the region, and the outline of the
region against the image. Right ascension 0 and the poles need no case of their own: points are unit vectors. What only
touches by less than 0.01 degree may be missed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.formats.footprints import Footprint

FloatArray = NDArray[np.float64]
_BOUNDARY = 360
_COUNTS = {"CIRCLE": (3,), "RANGE": (4,)}


@dataclass(frozen=True)
class Region:
    """A region: its shape, and the numbers behind the word."""

    shape: str
    numbers: tuple[float, ...]

    def contains(self, ra_deg: FloatArray, dec_deg: FloatArray) -> NDArray[np.bool_]:
        """Return which positions lie in it."""
        if self.shape == "RANGE":
            west, east, south, north = self.numbers
            width = east - west if east >= west else east - west + 360.0
            around = np.mod(ra_deg - west, 360.0) <= width if width < 360.0 else np.ones(np.shape(ra_deg), bool)
            return np.asarray(around & (dec_deg >= south) & (dec_deg <= north))
        at = _vectors(ra_deg, dec_deg)
        if self.shape == "CIRCLE":
            middle = _vectors(*(np.array(value) for value in self.numbers[:2]))
            apart = np.arctan2(np.linalg.norm(np.cross(at, middle), axis=-1), at @ middle)
            return np.asarray(np.degrees(apart) <= self.numbers[2])
        return _inside(at, self.corners())

    def corners(self) -> FloatArray:
        """Return the corners of a polygon as unit vectors, (n, 3)."""
        return _vectors(np.array(self.numbers[0::2]), np.array(self.numbers[1::2]))

    def boundary(self) -> tuple[FloatArray, FloatArray]:
        """Return positions along its edge, and one or more within it (deg)."""
        if self.shape == "RANGE":
            return _around_range(self.numbers)
        if self.shape == "CIRCLE":
            points = _around_circle(self.numbers)
        else:
            corners = self.corners()
            weights = np.linspace(0.0, 1.0, max(2, _BOUNDARY // len(corners)))[:, None, None]
            points = ((1.0 - weights) * corners + weights * np.roll(corners, -1, axis=0)).reshape(-1, 3)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        ra = np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360.0
        return ra, np.degrees(np.arcsin(np.clip(points[:, 2], -1.0, 1.0)))

    def meets(self, place: Footprint) -> bool:
        """Return whether an image has a part in it."""
        return bool(self.contains(*place.points()).any() or place.holds(*self.boundary()).any())


class BadRegionError(ValueError):
    """A text writes no region."""


def parse_region(text: str) -> Region:
    """Return the region that a query writes, such as `CIRCLE 24.4 33.1 0.5`.

    Raises
    ------
    BadRegionError
        With one sentence, if it writes none.
    """
    shape, *rest = text.split()
    shape = shape.upper()
    try:
        numbers = tuple(float(part) for part in rest)
    except ValueError:
        raise BadRegionError(f"POS {text!r} has a part that is no number") from None
    counts = _COUNTS.get(shape) or (tuple(range(6, 402, 2)) if shape == "POLYGON" else ())
    if len(numbers) not in counts:
        raise BadRegionError(
            f"POS {text[:80]!r} is none of CIRCLE ra dec radius, RANGE ra1 ra2 dec1 dec2, POLYGON ra dec …"
        )
    if shape == "RANGE":
        low = (0.0, 360.0, -90.0, 90.0)
        numbers = tuple(one if math.isfinite(one) else edge for one, edge in zip(numbers, low, strict=True))
    if not all(math.isfinite(number) for number in numbers):
        raise BadRegionError(f"POS {text!r} has a part that is not finite")
    decs = {"CIRCLE": numbers[1:2], "RANGE": numbers[2:], "POLYGON": numbers[1::2]}[shape]
    if any(abs(dec) > 90.0 for dec in decs) or (shape == "CIRCLE" and not 0.0 <= numbers[2] <= 180.0):
        raise BadRegionError(f"POS {text[:80]!r} has a declination beyond a pole, or a radius that is none")
    return Region(shape, numbers)


def _vectors(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _inside(at: FloatArray, corners: FloatArray) -> NDArray[np.bool_]:
    """Return which directions a polygon winds around; a polygon is smaller than half of the sky."""
    turns = np.zeros(at.shape[0])
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, second = np.cross(at, one), np.cross(at, other)
        turns += np.arctan2(np.einsum("ij,ij->i", at, np.cross(first, second)), np.einsum("ij,ij->i", first, second))
    near = at @ (corners.sum(axis=0) / np.linalg.norm(corners.sum(axis=0)).clip(1e-12)) > 0.0
    return np.asarray((np.abs(turns) > math.pi) & near)


def _around_circle(numbers: Sequence[float]) -> FloatArray:
    middle = _vectors(np.array(numbers[0]), np.array(numbers[1]))
    east = np.cross([0.0, 0.0, 1.0], middle) if abs(middle[2]) < 0.9999999 else np.array([0.0, 1.0, 0.0])
    east /= np.linalg.norm(east)
    north = np.cross(middle, east)
    angle = np.linspace(0.0, 2.0 * np.pi, _BOUNDARY, endpoint=False)[:, None]
    radius = math.radians(numbers[2])
    edge = math.cos(radius) * middle + math.sin(radius) * (np.cos(angle) * east + np.sin(angle) * north)
    return np.asarray(np.concatenate([edge, middle[None]]))


def _around_range(numbers: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    west, east, south, north = numbers
    width = east - west if east >= west else east - west + 360.0
    ra, dec = west + width * np.linspace(0.0, 1.0, _BOUNDARY), np.linspace(south, north, _BOUNDARY)
    ends = np.ones(_BOUNDARY)
    ras = np.concatenate([ra, ra, west * ends, (west + width) * ends, [west + 0.5 * width]])
    return ras % 360.0, np.concatenate([south * ends, north * ends, dec, dec, [0.5 * (south + north)]])
