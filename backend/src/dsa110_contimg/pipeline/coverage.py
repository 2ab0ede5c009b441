"""Where the published mosaics have seen the sky: one MOC that grows with each of them.

    <state>/coverage-moc.fits       the union; its second table, MOSAICS, names what is in it

A mosaic that is published is added; when one was retracted, or gave way to another version, the union is formed anew.
The file follows the registry and may be lost: the next call makes it again. Two processes that write it at once leave
the work of one of them; what that lacks, the next call finds missing and adds.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from mocpy import MOC
from sqlalchemy import select

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import DataProduct, Mosaic, ProductStatus
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image, moc
from dsa110_contimg.formats.scratch import replacing

logger = logging.getLogger(__name__)
FILE = "coverage-moc.fits"
NAMES = "MOSAICS"


@dataclass(frozen=True)
class Coverage:
    """What is covered, and by which mosaics."""

    covered: MOC
    mosaics: frozenset[str]

    @property
    def area_deg2(self) -> float:
        """The area in square degrees."""
        return moc.area_deg2(self.covered)


def standing_mosaics() -> dict[str, Path]:
    """Return the published mosaics that count (no retracted ones, one version of each), and where they lie."""
    with get_session("products", read_only=True) as session:
        counted = set(session.scalars(select(Mosaic.name).where(Mosaic.status == "completed")))
    columns = select(DataProduct.data_id, DataProduct.published_path).order_by(DataProduct.data_id)
    published = columns.where(DataProduct.data_type == "mosaic", DataProduct.status == ProductStatus.PUBLISHED.value)
    with get_session("data_registry", read_only=True) as session:
        rows = session.execute(published).all()
        return {name: Path(path) for name, path in rows if path is not None and name in counted}


def update_coverage(settings: Settings) -> Coverage:
    """Bring the file to what is published, and return what it holds."""
    wanted = standing_mosaics()
    held = _load(settings.state / FILE)
    found = grown(held, wanted)
    if held is None or found.mosaics != held.mosaics:
        _save(found, settings.state / FILE)
    return found


def follow_coverage(settings: Settings) -> None:
    """Bring the file to what is published; a disk that keeps it from that holds up nothing else."""
    try:
        update_coverage(settings)
    except OSError as error:
        logger.warning("the coverage of the published mosaics lags behind: %s", error)


def grown(held: Coverage | None, wanted: Mapping[str, Path]) -> Coverage:
    """Return the coverage of the wanted mosaics, by name, from what is held already if all of that is wanted.

    One whose files cannot be read is left out, and tried again the next time.
    """
    if held is None or not held.mosaics <= set(wanted):
        held = Coverage(MOC.new_empty(moc.ORDER), frozenset())
    covered, names = [held.covered], set(held.mosaics)
    for name, path in wanted.items():
        if name in held.mosaics:
            continue
        try:
            covered.append(map_of(path))
            names.add(name)
        except BadInputError as error:
            logger.warning("%s is left out of the coverage: %s", name, error)
    return Coverage(moc.union(covered), frozenset(names))


def map_of(mosaic: Path) -> MOC:
    """Return the coverage of a mosaic: its companion, or, for one that has none, measured on its image."""
    beside = naming.beside_mosaic(mosaic, "moc")
    return moc.load(beside) if beside.exists() else moc.coverage(fits_image.load(mosaic))


def _load(path: Path) -> Coverage | None:
    """Return what a file holds; None if there is none, or it cannot be read: it is made again."""
    if not path.exists():
        return None
    try:
        with fits.open(path, memmap=False) as hdus:
            names = frozenset(str(name) for name in hdus[NAMES].data["NAME"])
        return Coverage(moc.load(path), names)
    except (BadInputError, OSError, KeyError, TypeError):
        return None


def _save(coverage: Coverage, path: Path) -> None:
    names = np.array(sorted(coverage.mosaics), dtype=np.str_)
    width = max(1, names.dtype.itemsize // 4)
    table = fits.BinTableHDU.from_columns([fits.Column("NAME", f"{width}A", array=names)], name=NAMES)
    with replacing(path) as scratch:
        moc.save(coverage.covered, scratch)
        with fits.open(scratch, mode="append", memmap=False) as hdus:
            hdus.append(table)
