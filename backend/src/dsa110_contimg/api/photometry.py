"""Photometry: every measurement, of a source, an image or a time, page by page."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.answers import Answer, answer, page_answer
from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, encode_cursor
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database.photometry_queries import MeasurementFilter, list_measurements, place_of

router = APIRouter(prefix="/photometry", tags=["photometry"])


class MeasurementListing(Paged):
    """Which measurements a list holds, and in what order."""

    source_id: Storable | None = Field(None, description="Name in full.")
    image_id: int | None = Field(None, ge=0, le=2**63 - 1)
    min_mjd: float | None = Field(None, allow_inf_nan=False)
    max_mjd: float | None = Field(None, allow_inf_nan=False)
    min_snr: float | None = Field(None, allow_inf_nan=False)
    detected: bool | None = Field(None, description="Only detections, or only upper limits.")
    in_lightcurve: bool | None = Field(None, description="Only what feeds the statistics, or only the rest.")
    sort: Literal["id", "-id", "mjd", "-mjd"] = "-mjd"

    def filter(self) -> MeasurementFilter:
        """Return which measurements are asked for."""
        return MeasurementFilter(**{name: getattr(self, name) for name in MeasurementFilter.__dataclass_fields__})


class MeasurementItem(BaseModel):
    """One flux of one source in one image; null is what was not measured."""

    id: int
    source_id: str
    image_id: int | None
    image: str
    mjd: float | None
    ra_deg: float
    dec_deg: float
    peak_jyb: float | None
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


@router.get("", response_model=Page[MeasurementItem])
async def get_measurements(request: Request, wanted: Annotated[MeasurementListing, Query()]) -> Response:
    """List measurements, the latest first unless told otherwise."""
    narrow = wanted.source_id is not None or wanted.image_id is not None
    selective = (wanted.min_snr, wanted.detected, wanted.in_lightcurve) != (None, None, None)
    return await answer(request, ("products",), lambda: _listed(request, wanted), takes_long=selective and not narrow)


def _listed(request: Request, wanted: MeasurementListing) -> Answer:
    after = None
    if wanted.cursor is not None:
        value, number = decode_cursor(wanted.cursor, float | None, int)
        after = value, int(number or 0)
    with reading("products") as session:
        rows = list_measurements(session, wanted.filter(), wanted.sort, after, wanted.limit + 1)
    shown = rows[: wanted.limit]
    cursor = encode_cursor(*place_of(shown[-1], wanted.sort)) if len(rows) > wanted.limit else None
    return page_answer(request, (row._asdict() for row in shown), cursor)
