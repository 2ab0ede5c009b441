"""The VLA calibrator list in the database: sources, their fluxes band by band, and their place in the cone search.

The list is the whole truth about itself: an import adds its sources, updates those whose line has changed, and
removes those that it no longer names, in one transaction. Importing one file twice changes nothing.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.calibrators import writing
from dsa110_contimg.database.models import CatalogSource, VLACalibrator, VLAFluxInfo
from dsa110_contimg.database.row_checks import Value
from dsa110_contimg.formats import vla_list
from dsa110_contimg.formats.vla_list import BadLine, VLASource

CATALOG = "VLA"
Row = TypeVar("Row", VLACalibrator, VLAFluxInfo, CatalogSource)


@dataclass(frozen=True)
class VLAImport:
    """What came of an import."""

    n_rows: int
    """Sources in the database."""
    n_fluxes: int
    """Their fluxes, one for each band."""
    bad_lines: tuple[BadLine, ...]
    """Lines of the file that could not be used, with their reasons."""


def import_vla_list(path: Path) -> VLAImport:
    """Make the VLA calibrators of the database those of a list.

    Raises
    ------
    BadInputError
        If the file cannot be read, or names no calibrator; the database is unchanged then.
    """
    listed = vla_list.load(Path(path))
    with writing(None) as session:
        ids = _store_sources(session, listed.sources)
        n_fluxes = _store_fluxes(session, listed.sources, ids)
        _store_catalog(session, listed.sources)
    return VLAImport(len(listed.sources), n_fluxes, listed.bad_lines)


def _update(row: Row, columns: dict[str, Value]) -> bool:
    """Set what differs, and return whether anything did."""
    changed = {name: value for name, value in columns.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    return bool(changed)


def _store_sources(session: Session, sources: tuple[VLASource, ...]) -> dict[str, int]:
    """Store the sources and return their ids by name."""
    known = {row.name: row for row in session.scalars(select(VLACalibrator))}
    gone = [row.id for name, row in known.items() if name not in {source.name for source in sources}]
    session.execute(delete(VLAFluxInfo).where(VLAFluxInfo.vla_calibrator_id.in_(gone)))
    session.execute(delete(VLACalibrator).where(VLACalibrator.id.in_(gone)))
    now, rows = time.time(), []
    for source in sources:
        row = known.get(source.name) or VLACalibrator(name=source.name, registered_at=now)
        band = source.band("L")
        columns: dict[str, Value] = {
            "ra_deg": source.ra_deg,
            "dec_deg": source.dec_deg,
            "flux_jy": band.flux_jy if band else None,
            "flux_freq_ghz": band.frequency_ghz if band else None,
            "code_20_cm": band.codes if band else None,
            "notes": f"position {source.position_code}; {', '.join(source.aliases)}",
        }
        _update(row, columns)
        rows.append(row)
    session.add_all(rows)
    session.flush()
    return {row.name: row.id for row in rows}


def _store_fluxes(session: Session, sources: tuple[VLASource, ...], ids: dict[str, int]) -> int:
    """Store the fluxes of all bands and return how many there are."""
    known = {(row.vla_calibrator_id, row.frequency_ghz): row for row in session.scalars(select(VLAFluxInfo))}
    count = 0
    for source in sources:
        for band in source.bands:
            key = (ids[source.name], band.frequency_ghz)
            row = known.pop(key, None) or VLAFluxInfo(vla_calibrator_id=key[0], frequency_ghz=key[1])
            columns: dict[str, Value] = {
                "flux_jy": band.flux_jy,
                "band": band.band,
                "quality_codes": band.codes,
                "uv_min_klambda": band.uv_min_klambda,
                "uv_max_klambda": band.uv_max_klambda,
            }
            _update(row, columns)
            session.add(row)
            count += 1
    for row in known.values():
        session.delete(row)
    return count


def _store_catalog(session: Session, sources: tuple[VLASource, ...]) -> None:
    """Store the sources where every catalogue is searched."""
    found = session.scalars(select(CatalogSource).where(CatalogSource.catalog == CATALOG))
    known = {row.catalog_id: row for row in found}
    now = time.time()
    for source in sources:
        row = known.pop(source.name, None) or CatalogSource(catalog=CATALOG, catalog_id=source.name, created_at=now)
        band = source.band("L")
        columns: dict[str, Value] = {
            "source_name": source.name,
            "ra_deg": source.ra_deg,
            "dec_deg": source.dec_deg,
            "flux_jy": band.flux_jy if band else None,
            "flux_freq_ghz": band.frequency_ghz if band else None,
            "position_uncertainty_arcsec": vla_list.POSITION_ERROR_ARCSEC.get(source.position_code),
        }
        if _update(row, columns):
            row.updated_at = now
        session.add(row)
    for row in known.values():
        session.delete(row)
