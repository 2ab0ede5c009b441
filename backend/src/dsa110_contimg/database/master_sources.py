"""Fill the master catalogue: all of it is replaced in one transaction, so that readers see the old or the new."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import delete
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import Progress, insert_columns, no_progress
from dsa110_contimg.database.models import Source


class CatalogRow(NamedTuple):
    """One source as it is imported; fluxes in Jy."""

    source_id: str
    ra_deg: float
    dec_deg: float
    s_nvss: float | None
    snr_nvss: float | None
    resolved_flag: int = 0
    confusion_flag: int = 0
    alpha: float | None = None
    alpha_err: float | None = None
    s_vlass: float | None = None
    s_first: float | None = None
    s_rax: float | None = None
    first_size_maj_arcsec: float | None = None
    first_size_min_arcsec: float | None = None
    first_size_pa_deg: float | None = None


def replace_catalog(session: Session, rows: Iterable[CatalogRow], progress: Progress = no_progress) -> int:
    """Replace the whole catalogue and return how many sources it holds.

    Raises
    ------
    BadInputError
        If two rows have one id; the catalogue is then as before, once the session rolls back.
    """
    session.execute(delete(Source))
    columns = zip(*rows, strict=True)
    return insert_columns(session, Source, dict(zip(CatalogRow._fields, columns, strict=False)), progress)
