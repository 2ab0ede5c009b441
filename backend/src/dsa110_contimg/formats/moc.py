"""Where the sky was seen: Multi-Order Coverage maps (MOC) as FITS.

A MOC is a set of HEALPix cells of many sizes. That of an image holds every cell of order 11 (1.7') in which it has a
value; positions are tried so close to each other that none of them is passed over. Unions of such maps are exact:
the order in which they are formed, and what was in already, make no difference. Standard: MOC 2.0 (2022); written are
the numbers of cells (NUNIQ), which clients of MOC 1.0 and HiPS 1.0 read too.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from mocpy import MOC

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.kernels.sphere import from_direction_cosines
from dsa110_contimg.visibilities import SkyImage

ORDER = 11
SPACING = 0.3
"""Of a cell's size, between two positions that are tried."""
CARDS = {
    "PIXTYPE": "HEALPIX", "ORDERING": "NUNIQ", "COORDSYS": "C", "MOCVERS": "2.0", "MOCDIM": "SPACE",
    "MOCTOOL": "dsa110-contimg",
}  # fmt: skip
SQUARE_DEGREES = 4.0 * np.pi * np.degrees(1.0) ** 2


def cell_deg(order: int = ORDER) -> float:
    """Return the size of the cells of an order: the root of their area."""
    return float(np.degrees(np.sqrt(np.pi / 3.0)) / 2**order)


def coverage(image: SkyImage) -> MOC:
    """Return where an image has a value."""
    step = max(1, int(SPACING * cell_deg() / image.cell_deg))
    rows, columns = np.nonzero(np.isfinite(image.data[::step, ::step]))
    x_ref, y_ref = image.center_pixel
    cell = np.radians(image.cell_deg)
    east, north = -(columns * step - x_ref) * cell, (rows * step - y_ref) * cell
    ra, dec = from_direction_cosines(east, north, *np.radians(image.center))
    front = np.isfinite(ra)
    if not front.any():
        return MOC.new_empty(ORDER)
    return MOC.from_lonlat(ra[front] * units.rad, dec[front] * units.rad, max_norder=ORDER)


def union(maps: Iterable[MOC]) -> MOC:
    """Return what any of some maps covers."""
    whole = MOC.new_empty(ORDER)
    for part in maps:
        whole |= part
    return whole


def area_deg2(covered: MOC) -> float:
    """Return the area of a map in square degrees."""
    return float(covered.sky_fraction * SQUARE_DEGREES)


def save(covered: MOC, path: Path) -> Path:
    """Write a map as FITS, whole or not at all, and return its path."""
    cells = np.sort(np.asarray(covered.uniq_hpx, np.int64))
    table = fits.BinTableHDU.from_columns([fits.Column("UNIQ", "K", array=cells)])
    table.header.update(CARDS | {"MOCORDER": covered.max_order, "MOCORD_S": covered.max_order})
    # No time of writing: the same map makes the same bytes.
    table.add_checksum(when="HDU checksum", checksum_keyword="CHECKSUM", datasum_keyword="DATASUM")
    with replacing(path) as scratch:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(scratch, output_verify="exception")
    return path


def load(path: Path) -> MOC:
    """Read a map.

    Raises
    ------
    BadInputError
        If there is none, or the file is not one.
    """
    try:
        return MOC.load(str(path), format="fits")
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} is not a readable MOC ({error}); make it again") from error
