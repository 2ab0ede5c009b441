"""Fill the master catalogue: all of it is replaced in one transaction, so that readers see the old or the new."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import Source
from dsa110_contimg.errors import BadInputError

_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One source as it is imported; fluxes in Jy."""

    source_id: str
    ra_deg: float
    dec_deg: float
    s_nvss: float | None
    snr_nvss: float | None
    resolved_flag: int = 0
    confusion_flag: int = 0
    alpha: float | None = None


def replace_catalog(session: Session, rows: Iterable[CatalogRow]) -> int:
    """Replace the whole catalogue and return how many sources it holds.

    Raises
    ------
    BadInputError
        If two rows have one id; the catalogue is then as before, once the session rolls back.
    """
    session.execute(delete(Source))
    iterator, count = iter(rows), 0
    try:
        while batch := [asdict(row) for row in islice(iterator, _BATCH)]:
            session.execute(insert(Source), batch)
            count += len(batch)
    except IntegrityError as error:
        raise BadInputError(f"the catalogue holds a source id twice, or lacks a value ({error.orig})") from error
    session.expire_all()
    return count
