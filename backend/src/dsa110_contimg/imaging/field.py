r"""The pixels of an image: how small, and how far out.

Pixels of a third of the fitted synthesized beam's minor axis or less keep CLEAN honest. Before any image is made
that axis is known only from the longest baseline b, which resolves λ/b; weighting makes the fitted beam at least
1.7 times wider. So

    cell ≤ λ_min / (5 b)        rounded down to a neat 1, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten

A tile covers the square that has the area of the circle in which the band-averaged beam is above 0.1: sides of 4
degrees at 1.4 GHz.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.kernels.beams import airy_radius
from dsa110_contimg.kernels.flags import rows_with_data
from dsa110_contimg.kernels.sphere import mean_direction, separation
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.telescope import DISH_DIAMETER_M, SPEED_OF_LIGHT
from dsa110_contimg.visibilities import Visibilities

PIXELS_PER_RESOLUTION = 5.0
NEAT = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
FIELD_LEVEL = 0.1
SIZE_WITHOUT_BEAM = 1024
SMALLEST_SIZE = 32
FEWEST_ANTENNAS = 3


class Field(NamedTuple):
    """The pixel grid of an image."""

    size: int
    """Pixels on a side."""
    cell_rad: float
    """Pixel size in the frame of the uvw, before aberration."""


def choose_field(vis: Visibilities, options: ImagingOptions) -> Field:
    """Return the pixel grid that the options ask for, or that the array and its beam suggest.

    Raises
    ------
    ImagingError
        If no baseline is left, or the size is odd or too small.
    """
    cell_arcsec = options.cell_arcsec or neat_cell_arcsec(longest_baseline_m(vis), float(vis.freq_hz.max()))
    cell_rad = math.radians(cell_arcsec / 3600.0) / vis.aberration
    size = options.size or default_size(vis, cell_rad)
    if size < SMALLEST_SIZE or size % 2:
        raise ImagingError(f"an image of {size} pixels cannot be made: the size must be even, {SMALLEST_SIZE} or more")
    return Field(size, cell_rad)


def check_visibilities(vis: Visibilities) -> None:
    """Refuse visibilities of which no image can be made.

    Raises
    ------
    ImagingError
        If all are flagged, if they are of fewer than three antennas, or if the phase center lies where the mean beam
        is below 0.1: then they were rotated to a place where the dishes did not look.
    """
    usable = _usable_rows(vis)
    present = np.unique(np.concatenate([vis.antenna1[usable], vis.antenna2[usable]]))
    if present.size < FEWEST_ANTENNAS:
        names = " and ".join(vis.antenna_names[antenna] for antenna in present)
        raise ImagingError(
            f"{vis.field_name or 'the set'} has one baseline with unflagged data, of antennas {names}: "
            f"no image can be made of fewer than {FEWEST_ANTENNAS} antennas"
        )
    _check_phase_center(vis)


def _check_phase_center(vis: Visibilities) -> None:
    if vis.pointing_mjd.size == 0:
        return
    ra, dec = np.radians(vis.pointing_icrs_deg).T
    middle = mean_direction(ra, dec)
    ra0, dec0 = np.radians(vis.phase_center)
    away = float(separation(ra0, dec0, *middle))
    if away > airy_radius(FIELD_LEVEL, vis.freq_hz, DISH_DIAMETER_M):
        raise ImagingError(
            f"the phase center of {vis.field_name or 'the set'}, RA {vis.phase_center.ra_deg:.4f} "
            f"dec {vis.phase_center.dec_deg:+.4f}, is {math.degrees(away):.2f} deg from where the dishes looked, "
            f"RA {math.degrees(middle[0]):.4f} dec {math.degrees(middle[1]):+.4f}: convert the group again"
        )


def longest_baseline_m(vis: Visibilities) -> float:
    """Return the longest projected baseline with unflagged data, in metres."""
    usable = _usable_rows(vis)
    return float(np.hypot(vis.uvw_m[usable, 0], vis.uvw_m[usable, 1]).max())


def _usable_rows(vis: Visibilities) -> NDArray[np.bool_]:
    """Return which rows are of two antennas and have unflagged data with a weight; at least one is."""
    crossed = vis.antenna1 != vis.antenna2
    usable = np.asarray(rows_with_data(vis.flags) & (vis.weights > 0.0).all(axis=1) & crossed)
    if not usable.any():
        raise ImagingError(
            f"every visibility of {vis.field_name or 'the set'} is flagged, or without a weight: {crossed.sum()} rows "
            f"of {vis.freq_hz.size} channels; there is nothing to image"
        )
    return usable


def neat_cell_arcsec(baseline_m: float, freq_hz: float) -> float:
    """Return the largest neat pixel size that samples the longest baseline's resolution five times."""
    if baseline_m <= 0.0:
        raise ImagingError("the longest baseline is 0 m: the UVW column is empty")
    limit = math.degrees(SPEED_OF_LIGHT / freq_hz / baseline_m) * 3600.0 / PIXELS_PER_RESOLUTION
    decade = 10.0 ** math.floor(math.log10(limit))
    return max(step for step in NEAT if step <= limit / decade * (1.0 + 1e-9)) * decade


def default_size(vis: Visibilities, cell_rad: float) -> int:
    """Return the pixels on a side that cover the primary beam; 1024 where the beam is not known."""
    if vis.pointing_mjd.size == 0:
        return SIZE_WITHOUT_BEAM
    radius = airy_radius(FIELD_LEVEL, vis.freq_hz, DISH_DIAMETER_M)
    return fast_even_size(math.sqrt(math.pi) * radius / cell_rad)


def fast_even_size(pixels: float) -> int:
    """Return the even size with no prime factor above 5 that is nearest to a number of pixels."""
    nearest = max(SMALLEST_SIZE, round(pixels / 2.0) * 2)
    for step in range(0, nearest, 2):
        for size in (nearest - step, nearest + step):
            rest = size
            for prime in (2, 3, 5):
                while rest % prime == 0:
                    rest //= prime
            if rest == 1:
                return size
    return nearest
