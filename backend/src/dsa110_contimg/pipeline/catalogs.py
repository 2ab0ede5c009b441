"""Catalogue files into master_sources."""

from pathlib import Path

import numpy as np
from sqlalchemy import select

from dsa110_contimg.database import get_session
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import Source
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import catalog_files
from dsa110_contimg.formats.catalog_files import CatalogFlag


def import_catalog(path: Path) -> int:
    """Replace the known sources by those of a catalogue file and return how many there are.

    Raises
    ------
    BadInputError
        If the file is missing or damaged: nothing is replaced then.
    """
    table = catalog_files.load(path)
    sky = table.sky
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = sky.flux_jy / table.flux_err_jy
    rows = [
        CatalogRow(
            source_id=name,
            ra_deg=float(sky.ra_deg[i]),
            dec_deg=float(sky.dec_deg[i]),
            s_nvss=float(sky.flux_jy[i]),
            snr_nvss=float(snr[i]) if np.isfinite(snr[i]) else None,
            resolved_flag=int(bool(table.flags[i] & CatalogFlag.RESOLVED)),
            confusion_flag=int(bool(table.flags[i] & CatalogFlag.NOT_ISOLATED)),
        )
        for i, name in enumerate(sky.names)
    ]
    with get_session("master_sources") as session:
        return replace_catalog(session, rows)


def require_catalog() -> None:
    """Refuse to go on without known sources: neither calibration nor photometry can do without them.

    Raises
    ------
    ConfigurationError
        If no catalogue has been imported.
    """
    with get_session("master_sources", read_only=True) as session:
        if session.scalar(select(Source.source_id).limit(1)) is None:
            raise ConfigurationError(
                "no catalogue of known sources has been imported: run `contimg catalog import nvss FILE` first"
            )
