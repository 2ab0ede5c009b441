"""Cone searches: what any catalogue, or the master catalogue, has around a position.

The sky is cut into strips of 0.25 deg in declination, whose number each row carries (`models.base.dec_zone`). A
search reads, of the strips that its circle touches, the entries in the circle's range of right ascension, and then
takes the exact separation. A circle of radius r about declination δ spans, with |δ| + r < 90°,

    |Δα| ≤ asin(sin r / cos δ)

in right ascension, and all of it when the circle holds a pole.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, and_, literal, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.models import CatalogSource, Source
from dsa110_contimg.database.models.base import ZONES_PER_DEG
from dsa110_contimg.database.session import get_session
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.visibilities import SkyModel, SkyPosition

logger = logging.getLogger(__name__)

MASTER = "MASTER"
CATALOGS = (MASTER, "VLA", "NVSS", "FIRST", "RACS", "VLASS", "CSV")
"""What can be searched: the master catalogue, the surveys that it is made of, and the VLA's calibrators."""
DEFAULT_SPECTRAL_INDEX = -0.7
CATALOG_FREQ_HZ = 1.4e9
_MARGIN_DEG = 1e-9
_Cells = tuple[str, str, float, float, float | None, float | None, float | None]
"""What a `CatalogEntry` starts with."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One entry of any catalogue; None where it says nothing."""

    catalog: str
    source_id: str
    ra_deg: float
    dec_deg: float
    flux_jy: float | None
    freq_ghz: float | None
    spectral_index: float | None
    separation_deg: float
    """From the center of the search."""


def cone_search(
    center: SkyPosition, radius_deg: float, catalogs: Sequence[str] = CATALOGS, min_flux_jy: float = 0.0
) -> list[CatalogEntry]:
    """Return what catalogues have within a radius (deg, inclusive) of a position, the nearest first.

    Parameters
    ----------
    catalogs
        Some of `CATALOGS`, in any case.
    min_flux_jy
        If positive, fainter entries and those without a flux are left out.

    Raises
    ------
    ConfigurationError
        If the position or the radius is none, there is no such catalogue, or a database is missing.
    """
    wanted = {catalog.upper() for catalog in catalogs}
    if unknown := sorted(wanted - set(CATALOGS)):
        raise ConfigurationError(f"there is no catalogue {unknown[0]}; there are {', '.join(CATALOGS)}")
    found: list[CatalogEntry] = []
    if MASTER in wanted:
        with get_session("master_sources", read_only=True) as session:
            found += search_master(session, center, radius_deg)
    if surveys := wanted - {MASTER}:
        with get_session("calibrators", read_only=True) as session:
            found += search_surveys(session, center, radius_deg, sorted(surveys))
    if min_flux_jy > 0.0:
        found = [entry for entry in found if entry.flux_jy is not None and entry.flux_jy >= min_flux_jy]
    return sorted(found, key=lambda entry: (entry.separation_deg, entry.catalog, entry.source_id))


def search_master(session: Session, center: SkyPosition, radius_deg: float) -> list[CatalogEntry]:
    """Return the sources of the master catalogue in a circle, in no order."""
    columns = (Source.source_id, Source.ra_deg, Source.dec_deg, Source.s_nvss, Source.alpha)
    query = select(literal(MASTER), *columns[:4], literal(CATALOG_FREQ_HZ / 1e9), columns[4])
    boxes = _boxes(Source.dec_zone, Source.ra_deg, center, radius_deg)
    return _entries([row for box in boxes for row in session.execute(query.where(box))], center, radius_deg)


def search_surveys(
    session: Session, center: SkyPosition, radius_deg: float, catalogs: Sequence[str]
) -> list[CatalogEntry]:
    """Return the entries of surveys in a circle, in no order."""
    table = CatalogSource
    fluxes = (table.flux_jy, table.flux_freq_ghz, table.spectral_index)
    query = select(table.catalog, table.source_name, table.ra_deg, table.dec_deg, *fluxes)
    query = query.where(table.catalog.in_(catalogs))
    boxes = _boxes(table.dec_zone, table.ra_deg, center, radius_deg)
    return _entries([row for box in boxes for row in session.execute(query.where(box))], center, radius_deg)


def _entries(rows: list[_Cells], center: SkyPosition, radius_deg: float) -> list[CatalogEntry]:
    """Return the rows that are in a circle."""
    distance = _distances(center, [row[2] for row in rows], [row[3] for row in rows])
    return [CatalogEntry(*row, away) for row, away in zip(rows, distance, strict=True) if away <= radius_deg]


def _distances(center: SkyPosition, ra_deg: list[float], dec_deg: list[float]) -> list[float]:
    ra, dec = np.radians(np.array(ra_deg, dtype=float)), np.radians(np.array(dec_deg, dtype=float))
    angle = separation(math.radians(center.ra_deg), math.radians(center.dec_deg), ra, dec)
    distances: list[float] = np.degrees(angle).tolist()
    return distances


def ra_intervals(center: SkyPosition, radius_deg: float) -> list[tuple[float, float]]:
    """Return the intervals of right ascension in [0, 360] (deg) that hold a circle: one, or two across RA 0."""
    if abs(center.dec_deg) + radius_deg >= 90.0 - _MARGIN_DEG:
        return [(0.0, 360.0)]
    ratio = math.sin(math.radians(radius_deg)) / math.cos(math.radians(center.dec_deg))
    half = math.degrees(math.asin(min(1.0, ratio))) + _MARGIN_DEG
    low, high = center.ra_deg % 360.0 - half, center.ra_deg % 360.0 + half
    if high - low >= 360.0:
        return [(0.0, 360.0)]
    if low < 0.0:
        return [(low + 360.0, 360.0), (0.0, high)]
    return [(low, 360.0), (0.0, high - 360.0)] if high > 360.0 else [(low, high)]


def zones(center: SkyPosition, radius_deg: float) -> range:
    """Return the strips of declination that a circle touches."""
    reach = radius_deg + _MARGIN_DEG
    south, north = (math.floor((center.dec_deg + side * reach + 90.0) * ZONES_PER_DEG) for side in (-1, 1))
    # The poles themselves are edges of strips, and an edge may be in the strip before it.
    return range(max(south, -1), min(north, 180 * ZONES_PER_DEG) + 1)


def _boxes(
    zone: InstrumentedAttribute[int | None], ra: InstrumentedAttribute[float], center: SkyPosition, radius_deg: float
) -> list[ColumnElement[bool]]:
    """Return one condition for each interval of right ascension; no row meets two."""
    _check_circle(center, radius_deg)
    strips = list(zones(center, radius_deg))
    return [and_(zone.in_(strips), ra.between(low, high)) for low, high in ra_intervals(center, radius_deg)]


def _check_circle(center: SkyPosition, radius_deg: float) -> None:
    if not (0.0 <= center.ra_deg <= 360.0 and -90.0 <= center.dec_deg <= 90.0):
        raise ConfigurationError(
            f"({center.ra_deg}, {center.dec_deg}) is no position: give 0 to 360 deg of right ascension and -90 to 90 "
            "deg of declination"
        )
    if not 0.0 <= radius_deg <= 180.0:
        raise ConfigurationError(f"{radius_deg} is no radius: give 0 to 180 deg")


def find_sources(session: Session, center: SkyPosition, radius_deg: float, min_flux_jy: float = 0.0) -> list[Source]:
    """Return the sources of the master catalogue in a circle (radius in deg, inclusive), the nearest first.

    With a positive `min_flux_jy` sources without an NVSS flux are left out.
    """
    query = select(Source)
    if min_flux_jy > 0.0:
        query = query.where(Source.s_nvss >= min_flux_jy)
    boxes = _boxes(Source.dec_zone, Source.ra_deg, center, radius_deg)
    rows = [row for box in boxes for row in session.scalars(query.where(box))]
    distance = _distances(center, [row.ra_deg for row in rows], [row.dec_deg for row in rows])
    near = sorted((away, row.source_id, i) for i, (away, row) in enumerate(zip(distance, rows, strict=True)))
    return [rows[i] for away, _name, i in near if away <= radius_deg]


def load_sky_model(session: Session, center: SkyPosition, radius_deg: float, min_flux_jy: float) -> SkyModel:
    """Return the catalogue around a position as points and Gaussians, named by their source ids.

    A source of unknown spectral index, or one that neighbors confuse, gets DEFAULT_SPECTRAL_INDEX; how many do is
    logged, and `assumed_spectra` names them. A source has the size that FIRST gives it, freed from its beam; where
    neighbors confuse it, that is the size of a part of it, and a point stands for it.
    """
    rows = [row for row in find_sources(session, center, radius_deg, min_flux_jy) if row.s_nvss is not None]
    assumed = assumed_spectra(rows)
    if assumed:
        logger.info("%d of %d sources get the spectral index %.1f", len(assumed), len(rows), DEFAULT_SPECTRAL_INDEX)
    alpha = [DEFAULT_SPECTRAL_INDEX if index is None else index for index in map(_spectral_index, rows)]
    return SkyModel(
        names=[row.source_id for row in rows],
        ra_deg=np.array([row.ra_deg for row in rows], dtype=float),
        dec_deg=np.array([row.dec_deg for row in rows], dtype=float),
        flux_jy=np.array([row.s_nvss for row in rows], dtype=float),
        spectrum=np.array(alpha, dtype=float).reshape(-1, 1),
        ref_freq_hz=CATALOG_FREQ_HZ,
        gaussian=np.array([_gaussian(row) for row in rows], dtype=float).reshape(-1, 3),
    )


def _gaussian(row: Source) -> tuple[float, float, float]:
    """Return major and minor axis (arcsec) and position angle (deg); zeros where they are not known."""
    major, minor, angle = row.first_size_maj_arcsec, row.first_size_min_arcsec, row.first_size_pa_deg
    if row.confusion_flag or major is None or minor is None or angle is None:
        return 0.0, 0.0, 0.0
    return major, minor, angle


def extended_sources(session: Session, names: Iterable[str]) -> frozenset[str]:
    """Return those of some sources that are larger than a beam or several in one: a point's flux is not theirs."""
    query = select(Source.source_id).where(or_(Source.resolved_flag == 1, Source.confusion_flag == 1))
    return frozenset(
        source for part in in_parts(names) for source in session.scalars(query.where(Source.source_id.in_(part)))
    )


def assumed_spectra(rows: list[Source]) -> list[str]:
    """Return the ids of sources whose spectral index is not known."""
    return [row.source_id for row in rows if _spectral_index(row) is None]


def _spectral_index(row: Source) -> float | None:
    """Return the index of a source; None where neighbors confuse it: VLASS has a part of it, and all of it 1.4 GHz."""
    return None if row.confusion_flag else row.alpha
