"""One source: who is meant by a name or a position, what the catalogue says of it, and who lies beside it."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.models import Photometry, Source, VariabilityStats
from dsa110_contimg.database.photometry_repository import PhotometryRepository
from dsa110_contimg.database.source_names import POSITION_RADIUS_DEG, resolve
from dsa110_contimg.database.source_queries import SEPARATION, SourceFilter, SourceRow, list_sources
from dsa110_contimg.naming import parse_position
from dsa110_contimg.visibilities import SkyPosition

NEIGHBOR_RADIUS_DEG = 0.5
MOST_MEANT = 200


class CatalogInfo(NamedTuple):
    """What the master catalogue has of a source; fluxes in Jy."""

    source_id: str
    ra_deg: float
    dec_deg: float
    nvss_flux_jy: float | None
    nvss_snr: float | None
    vlass_flux_jy: float | None
    first_flux_jy: float | None
    racs_flux_jy: float | None
    spectral_index: float | None
    spectral_index_err: float | None
    resolved: bool
    """Larger than FIRST's beam."""
    confused: bool
    """Several sources within a beam."""
    major_arcsec: float | None
    minor_arcsec: float | None
    position_angle_deg: float | None


_CATALOG: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    Source.source_id,
    Source.ra_deg,
    Source.dec_deg,
    Source.s_nvss,
    Source.snr_nvss,
    Source.s_vlass,
    Source.s_first,
    Source.s_rax,
    Source.alpha,
    Source.alpha_err,
    Source.resolved_flag,
    Source.confusion_flag,
    Source.first_size_maj_arcsec,
    Source.first_size_min_arcsec,
    Source.first_size_pa_deg,
)


def find_named(products: Session, master: Session, calibrators: Session, spelling: str) -> list[str]:
    """Return the sources that a name in any usual spelling, or a position, means: none, one or several.

    Sources with statistics come first: those that carry the name, else those where the catalogues say that the name's
    sources are; then sources of the catalogue that nobody has measured yet.

    Parameters
    ----------
    products, master, calibrators
        Sessions of the databases of these names (master: `master_sources`).
    """
    measured = PhotometryRepository.find_sources(products, spelling, limit=MOST_MEANT)
    if measured:
        return measured
    found: list[str] = []
    for meant in resolve(master, calibrators, spelling)[:MOST_MEANT]:
        near = _measured_at(products, SkyPosition(meant.ra_deg, meant.dec_deg))
        found += [meant.source_id] if meant.source_id in near else near[:1] or [meant.source_id]
    if found:
        return list(dict.fromkeys(found))
    position = _position_of(spelling)
    return [] if position is None else _measured_at(products, position)[:1]


def _position_of(spelling: str) -> SkyPosition | None:
    place = parse_position(spelling)
    return None if place is None else SkyPosition(*place)


def _measured_at(products: Session, place: SkyPosition) -> list[str]:
    """Return the sources with statistics within 30 arcsec of a place, the nearest first."""
    circle = SourceFilter(center=place, radius_deg=POSITION_RADIUS_DEG)
    return [row.source_id for row in list_sources(products, circle, SEPARATION, None, 5)]


def get_catalog_info(master: Session, source_id: str) -> CatalogInfo | None:
    """Return what the master catalogue has under a name in full."""
    row = master.execute(select(*_CATALOG).where(Source.source_id == source_id)).first()
    if row is None:
        return None
    told = CatalogInfo(*row)
    return told._replace(resolved=bool(told.resolved), confused=bool(told.confused))


def list_neighbors(
    session: Session, place: SkyPosition, source_id: str, radius_deg: float, limit: int
) -> list[SourceRow]:
    """Return the measured sources around a place, the nearest first, without the one that is named."""
    circle = SourceFilter(center=place, radius_deg=radius_deg)
    rows = list_sources(session, circle, SEPARATION, None, limit + 1)
    return [row for row in rows if row.source_id != source_id][:limit]


def count_measurements(session: Session, source_id: str) -> int:
    """Return how many measurements there are of a source, those without a place in its light curve included."""
    return session.scalar(select(func.count()).where(Photometry.source_id == source_id)) or 0


def is_measured(session: Session, source_id: str) -> bool:
    """Return whether anybody has measured a source."""
    known = select(VariabilityStats.source_id).where(VariabilityStats.source_id == source_id)
    if session.execute(known).first() is not None:
        return True
    return session.execute(select(Photometry.id).where(Photometry.source_id == source_id).limit(1)).first() is not None
