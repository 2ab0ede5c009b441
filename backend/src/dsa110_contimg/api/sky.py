"""What images and mosaics share: the filters of their lists, their checks, and the sources that are drawn over them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field

from dsa110_contimg.api.files import footprint_at
from dsa110_contimg.api.paging import Paged, decode_cursor
from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.api.schemas import Finite
from dsa110_contimg.database.catalog_query import MASTER, CatalogEntry, cone_search
from dsa110_contimg.database.image_queries import MeasuredSource, SkyFilter
from dsa110_contimg.database.models import Verdict
from dsa110_contimg.database.qa_queries import CheckRow
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.telescope import unix_to_mjd

MOST_SOURCES = 5000
RowId = Annotated[int, Path(ge=1, le=2**63 - 1)]


class SkyQuery(Paged):
    """The filters that lists of images and of mosaics have."""

    day: date | None = Field(None, description="Only data of this day (UTC).")
    from_mjd: float | None = Field(None, ge=-1e6, le=1e6, description="Only data that end then or later.")
    to_mjd: float | None = Field(None, ge=-1e6, le=1e6, description="Only data that begin then or earlier.")
    dec_min_deg: float | None = Field(None, ge=-90.0, le=90.0, description="Only what lies here or north of it.")
    dec_max_deg: float | None = Field(None, ge=-90.0, le=90.0, description="Only what lies here or south of it.")
    noise_max_jy: float | None = Field(None, ge=0.0, le=1e6, description="Only what has this noise or less, Jy/beam.")
    verdict: Verdict | None = Field(None, description="Only what has this as its worst verdict.")

    def filter(self) -> SkyFilter:
        """Return what the database is asked for."""
        begin, end = self.from_mjd, self.to_mjd
        if self.day is not None:
            midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
            day = unix_to_mjd(midnight.timestamp())
            begin = max(day, begin) if begin is not None else day
            end = min(day + 1.0, end) if end is not None else day + 1.0
        return SkyFilter(begin, end, self.dec_min_deg, self.dec_max_deg, self.noise_max_jy, self.verdict)


class Check(BaseModel):
    """One measured value, its thresholds and the verdict."""

    name: str
    value: Finite
    threshold_warning: Finite
    threshold_failure: Finite
    verdict: str
    reason: str | None
    measured_at_unix: Finite


class Measured(BaseModel):
    """One source as it was measured on an image."""

    source_id: str
    ra_deg: Finite
    dec_deg: Finite
    peak_jyb: Finite
    peak_err_jyb: Finite
    snr: Finite
    upper_limit_jyb: Finite
    flags: int | None


class Known(BaseModel):
    """One entry of the master catalogue."""

    source_id: str
    ra_deg: Finite
    dec_deg: Finite
    flux_jy: Finite


class Overlay(BaseModel):
    """What is drawn over an image."""

    measured: list[Measured]
    catalog: list[Known]
    catalog_missing: str | None = Field(None, description="Why there is no catalogue, if there is none.")


def check_of(row: CheckRow) -> Check:
    """Return a check for an answer."""
    return Check(
        name=row.name,
        value=row.value,
        threshold_warning=row.threshold_warning,
        threshold_failure=row.threshold_failure,
        verdict=row.verdict,
        reason=None if row.reason is None else without_folders(row.reason),
        measured_at_unix=row.measured_at,
    )


def measured_of(row: MeasuredSource) -> Measured:
    """Return a measured source for an answer."""
    return Measured(**row._asdict())


def known_of(entry: CatalogEntry) -> Known:
    """Return an entry of the catalogue for an answer."""
    return Known(source_id=entry.source_id, ra_deg=entry.ra_deg, dec_deg=entry.dec_deg, flux_jy=entry.flux_jy)


def overlay_of(path: str, measured: Sequence[MeasuredSource]) -> Overlay:
    """Return what is drawn over an image: what was measured on it, and what the master catalogue has there."""
    shown = [measured_of(row) for row in measured]
    place = footprint_at(path)
    if place is None:
        return Overlay(measured=shown, catalog=[], catalog_missing="the image's file is not there")
    try:
        entries = cone_search(place.middle, place.radius_deg, [MASTER])
    except ConfigurationError as error:
        return Overlay(measured=shown, catalog=[], catalog_missing=str(error))
    inside = [entry for entry in entries if place.holds(entry.ra_deg, entry.dec_deg).item()]
    inside.sort(key=lambda entry: -(entry.flux_jy or 0.0))
    return Overlay(
        measured=shown,
        catalog=[known_of(entry) for entry in inside[:MOST_SOURCES]],
        catalog_missing=None,
    )


def key_behind(cursor: str | None) -> tuple[float, int] | None:
    """Return the sort key that a cursor holds; HTTPException 400 if it can be none."""
    if cursor is None:
        return None
    value, number = decode_cursor(cursor, float, int)
    return float(value or 0.0), int(number or 0)
