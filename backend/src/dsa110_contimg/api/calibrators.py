"""Calibrators: who calibrates which strip, and when each crosses the meridian next."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from dsa110_contimg.api.schemas import Finite
from dsa110_contimg.database.calibrators import get_bandpass_calibrators
from dsa110_contimg.database.models import BandpassCalibrator
from dsa110_contimg.errors import BadInputError, CalibrationError
from dsa110_contimg.flux_scale import anchor_systematic
from dsa110_contimg.pipeline.sky_now import MIN_BEAM, Transit, next_transits, strip_now
from dsa110_contimg.telescope import mjd_to_unix

router = APIRouter(prefix="/calibrators", tags=["calibrators"])
LONGEST_DAYS = 30.0


@dataclass(frozen=True)
class CalibratorEntry:
    """One registered calibrator."""

    name: str
    ra_deg: float
    dec_deg: float
    dec_range_min_deg: float | None
    dec_range_max_deg: float | None
    flux_jy: float | None
    flux_freq_ghz: float | None
    spectral_index: float | None
    status: str | None
    catalog: str | None
    systematic: float | None
    """Fractional error of its flux as an anchor of the scale; null: it may not set the scale."""
    notes: str | None


class Transits(BaseModel, extra="forbid"):
    """Which transits a list holds."""

    dec_deg: float | None = Field(None, ge=-90.0, le=90.0, description="Strip (deg of date); else the newest tile's.")
    start_mjd: float | None = Field(None, ge=30000.0, le=90000.0, description="Begin (UTC); else now.")
    days: float = Field(2.0, gt=0.0, le=LONGEST_DAYS, description="Length of the span.")
    min_beam: float = Field(MIN_BEAM, ge=0.0, le=1.0, description="Leave out what the beam sees below this response.")


class TransitList(BaseModel):
    """The transits over a strip."""

    strip_dec_deg: Finite
    transits: list[Transit]


@router.get("")
def list_calibrators(
    dec_deg: Annotated[float | None, Query(ge=-90.0, le=90.0, description="Only those of a strip.")] = None,
    status: Annotated[Literal["active", "retired", "all"], Query(description="Which ones.")] = "active",
) -> list[CalibratorEntry]:
    """List the registered calibrators, the brightest first."""
    return [entry(row) for row in get_bandpass_calibrators(dec_deg, None if status == "all" else status)]


def entry(row: BandpassCalibrator) -> CalibratorEntry:
    """Return a calibrator as the interface shows it."""
    return CalibratorEntry(
        name=row.calibrator_name,
        ra_deg=row.ra_deg,
        dec_deg=row.dec_deg,
        dec_range_min_deg=row.dec_range_min,
        dec_range_max_deg=row.dec_range_max,
        flux_jy=row.flux_jy,
        flux_freq_ghz=row.flux_freq_ghz,
        spectral_index=row.spectral_index,
        status=row.status,
        catalog=row.source_catalog,
        systematic=anchor_systematic(row.calibrator_name),
        notes=row.notes,
    )


@router.get("/transits")
def list_transits(wanted: Annotated[Transits, Query()]) -> TransitList:
    """List which calibrator crosses a strip when, and how bright it is behind the primary beam."""
    strip = strip_now() if wanted.dec_deg is None else wanted.dec_deg
    start = time.time() if wanted.start_mjd is None else mjd_to_unix(wanted.start_mjd)
    try:
        found = next_transits(strip, start, wanted.days, min_beam=wanted.min_beam)
    except (CalibrationError, BadInputError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error
    return TransitList(strip_dec_deg=strip, transits=found)
