"""Measurements as readers ask for them: of a source, of an image, of a time, page by page in time order."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.models import Image, Photometry
from dsa110_contimg.database.ordering import Order, Place, ordered


class MeasurementRow(NamedTuple):
    """One flux of one source in one image; fluxes in Jy, brightness in Jy/beam, None where nothing was measured."""

    id: int
    source_id: str
    image_id: int | None
    image: str
    mjd: float | None
    ra_deg: float
    dec_deg: float
    peak_jyb: float
    peak_err_jyb: float | None
    flux_jy: float | None
    flux_err_jy: float | None
    normalized_flux_jy: float | None
    normalized_flux_err_jy: float | None
    upper_limit_jyb: float | None
    local_rms_jyb: float | None
    snr: float | None
    flags: int | None
    pb_response: float | None
    in_lightcurve: bool
    retracted_at: float | None
    measured_at: float


@dataclass(frozen=True, kw_only=True)
class MeasurementFilter:
    """Which measurements a list holds; None asks nothing."""

    source_id: str | None = None
    image_id: int | None = None
    min_mjd: float | None = None
    max_mjd: float | None = None
    min_snr: float | None = None
    detected: bool | None = None
    in_lightcurve: bool | None = None


SORTS = {"id": Photometry.id, "mjd": Photometry.mjd}
_COLUMNS: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    Photometry.id,
    Photometry.source_id,
    Image.id,
    Photometry.image_path,
    Photometry.mjd,
    Photometry.ra_deg,
    Photometry.dec_deg,
    Photometry.peak_jyb,
    Photometry.peak_err_jyb,
    Photometry.flux_jy,
    Photometry.flux_err_jy,
    Photometry.normalized_flux_jy,
    Photometry.normalized_flux_err_jy,
    Photometry.upper_limit_jyb,
    Photometry.local_rms_jyb,
    Photometry.snr,
    Photometry.flags,
    Photometry.pb_response,
    Photometry.in_lightcurve,
    Photometry.retracted_at,
    Photometry.measured_at,
)
_MEASUREMENTS = select(*_COLUMNS).join(Image, Image.path == Photometry.image_path, isouter=True)


def list_measurements(
    session: Session, wanted: MeasurementFilter, sort: str, after: Place | None, limit: int
) -> list[MeasurementRow]:
    """Return the measurements behind a place, at most `limit`; `sort` is one of `SORTS`, or with a minus sign."""
    order = Order(SORTS[sort.removeprefix("-")], Photometry.id, sort.startswith("-"))
    rows = ordered(session, _MEASUREMENTS.where(*_conditions(session, wanted)), order, after, limit)
    return [
        MeasurementRow(*row)._replace(image=row.image_path.rpartition("/")[2], in_lightcurve=bool(row.in_lightcurve))
        for row in rows
    ]


def place_of(row: MeasurementRow, sort: str) -> Place:
    """Return where a row stands in a sorted list."""
    return getattr(row, sort.removeprefix("-")), row.id


def _conditions(session: Session, wanted: MeasurementFilter) -> list[ColumnElement[bool]]:
    asked: list[ColumnElement[bool]] = []
    if wanted.source_id is not None:
        asked.append(Photometry.source_id == wanted.source_id)
    if wanted.image_id is not None:
        # The path itself lets the database follow the image's own index.
        path = session.scalar(select(Image.path).where(Image.id == wanted.image_id))
        asked.append(Photometry.image_path == (path or ""))
    if wanted.min_mjd is not None:
        asked.append(Photometry.mjd >= wanted.min_mjd)
    if wanted.max_mjd is not None:
        asked.append(Photometry.mjd <= wanted.max_mjd)
    if wanted.min_snr is not None:
        asked.append(Photometry.snr >= wanted.min_snr)
    if wanted.detected is not None:
        limit = Photometry.upper_limit_jyb
        asked.append(limit.is_(None) if wanted.detected else limit.is_not(None))
    if wanted.in_lightcurve is not None:
        asked.append(Photometry.in_lightcurve == int(wanted.in_lightcurve))
    return asked
