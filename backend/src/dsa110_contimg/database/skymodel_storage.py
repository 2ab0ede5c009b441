"""Sky models of fields: a file that WSClean and DP3 read, and a row that says what it holds.

    state/skymodels/<field_id>.skymodel        see `formats.skymodel_file`
    skymodel_metadata                          field, path, number of sources, total flux (Jy), when and by whom

A field has one model; making it again replaces file and row.
"""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from dsa110_contimg.config import Settings
from dsa110_contimg.database.calibrators import reading, writing
from dsa110_contimg.database.models import SkymodelMetadata
from dsa110_contimg.database.row_checks import Name, RowCheck, checked
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import skymodel_file
from dsa110_contimg.visibilities import SkyModel

__all__ = ["create_skymodel", "get_skymodel", "list_skymodels", "load_skymodel", "save_skymodel", "skymodel_path"]

REFERENCE_FREQ_HZ = 1.4e9
_FIELD = re.compile(r"[^\x00-\x1f/\\]{1,200}")

load_skymodel = skymodel_file.load


class _Source(RowCheck):
    source_name: Name
    flux_jy: float
    spectral_index: float | list[float] = Field(default_factory=list)


def skymodel_path(field_id: str) -> Path:
    """Return where the sky model of a field lives.

    Raises
    ------
    ConfigurationError
        If the field's name cannot be that of a file.
    """
    if not _FIELD.fullmatch(field_id) or field_id.startswith("."):
        raise ConfigurationError(f"field {field_id!r} cannot name a file: use letters, digits, _ and -")
    return Settings().state / "skymodels" / f"{field_id}.skymodel"


def create_skymodel(
    field_id: str,
    sources: Sequence[Mapping[str, object]],
    *,
    ref_freq_hz: float = REFERENCE_FREQ_HZ,
    created_by: str | None = None,
    notes: str | None = None,
) -> Path:
    """Write the sky model of a field from plain rows, register it, and return its path.

    Parameters
    ----------
    field_id
        The file's name; an older model of the field is replaced.
    sources
        Each with source_name, ra_deg, dec_deg (ICRS), flux_jy, and perhaps spectral_index: one number, or the terms of
        `SkyModel.spectrum`. A source without it is flat.
    ref_freq_hz
        Where the fluxes hold.
    created_by, notes
        For people.

    Raises
    ------
    ConfigurationError
        If a source lacks a value or has an impossible one, or there is none; file and row stay as they were.
    """
    rows = [checked(_Source, f"sky model {field_id}, source {i + 1}", row) for i, row in enumerate(sources)]
    terms = [row.spectral_index if isinstance(row.spectral_index, list) else [row.spectral_index] for row in rows]
    sky = SkyModel(
        names=[row.source_name for row in rows],
        ra_deg=np.array([row.ra_deg for row in rows]),
        dec_deg=np.array([row.dec_deg for row in rows]),
        flux_jy=np.array([row.flux_jy for row in rows]),
        spectrum=skymodel_file.spectra(terms),
        ref_freq_hz=ref_freq_hz,
    )
    return save_skymodel(field_id, sky, created_by=created_by, notes=notes)


def save_skymodel(field_id: str, sky: SkyModel, *, created_by: str | None = None, notes: str | None = None) -> Path:
    """Write a sky model as that of a field, register it, and return its path.

    Raises
    ------
    ConfigurationError
        If it holds no source, or two of one name; file and row stay as they were.
    """
    path = skymodel_path(field_id)
    if len(sky) == 0:
        raise ConfigurationError(f"sky model {field_id} has no source: give one at least")
    name, times = Counter(sky.names).most_common(1)[0]
    if times > 1:
        raise ConfigurationError(f"sky model {field_id} has {times} sources {name}: names must differ")
    told = {
        "n_sources": len(sky),
        "total_flux_jy": float(np.sum(sky.flux_jy)),
        "created_at": time.time(),
        "created_by": created_by,
        "notes": notes,
    }
    statement = insert(SkymodelMetadata).values(field_id=field_id, skymodel_path=str(path), **told)
    with writing(None) as session:
        session.execute(statement.on_conflict_do_update(index_elements=["field_id", "skymodel_path"], set_=told))
        # The file comes last: if it cannot be written the row is rolled back.
        skymodel_file.save(path, sky)
    return path


def get_skymodel(field_id: str) -> SkyModel:
    """Return the sky model of a field.

    Raises
    ------
    ConfigurationError
        If the field has none.
    BadInputError
        If its file is missing or damaged.
    """
    rows = list_skymodels(field_id)
    if not rows:
        raise ConfigurationError(f"field {field_id} has no sky model: make one with create_skymodel")
    return load_skymodel(Path(rows[0].skymodel_path))


def list_skymodels(field_id: str | None = None) -> list[SkymodelMetadata]:
    """Return what is known of the sky models of a field, or of all, the newest first."""
    query = select(SkymodelMetadata).order_by(SkymodelMetadata.created_at.desc(), SkymodelMetadata.id.desc())
    if field_id is not None:
        query = query.where(SkymodelMetadata.field_id == field_id)
    with reading(None) as session:
        return list(session.scalars(query))
