"""Cone search (IVOA Simple Cone Search 1.03) on the measured sources, below /vo/cone.

`RA`, `DEC` and `SR` are degrees; `VERB` 1 gives name and position, 2 also fluxes and variability, 3 all; `MAXREC`
limits the rows. The answer is a VOTable, and so is an error, as the standard asks. What the limit cut off is told
(`QUERY_STATUS` OVERFLOW); /api/v1/sources gives circles of any size in pages.
"""

import math
from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.sources import SOURCE_COLUMNS
from dsa110_contimg.api.vo import VOTABLE, BadQuestionError, parameters, row_limit
from dsa110_contimg.database.source_queries import SEPARATION, SourceFilter, list_sources
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import vosi
from dsa110_contimg.formats.row_files import Column, to_votable, votable_error
from dsa110_contimg.visibilities import SkyPosition

router = APIRouter(prefix="/cone", tags=["virtual observatory"])
MOST_ROWS, USUAL_ROWS = 50_000, 10_000
_UCDS = {"source_id": "ID_MAIN", "ra_deg": "POS_EQ_RA_MAIN", "dec_deg": "POS_EQ_DEC_MAIN"}
"""Version 1.03 asks for these three in the words of the first UCDs."""
COLUMNS = {name: column._replace(ucd=_UCDS.get(name, column.ucd)) for name, column in SOURCE_COLUMNS.items()}
_SHORT = ("source_id", "ra_deg", "dec_deg")
_LEFT_OUT = ("min_flux_jy", "max_flux_jy", "updated_at", "chi2_nu")
_PARAMETERS = parameters(
    {
        "RA": "Right ascension, ICRS, deg.",
        "DEC": "Declination, deg.",
        "SR": "Radius, deg; 0 describes the columns only.",
        "VERB": "How many columns: 1, 2 or 3.",
    },
    required=("RA", "DEC", "SR"),
)


@router.get("", name="cone_search", response_class=Response, openapi_extra={"parameters": _PARAMETERS})
async def search(request: Request) -> Response:
    """Return the measured sources in a circle, the nearest first, as a VOTable."""
    asked = {name.upper(): value for name, value in request.query_params.items()}
    try:
        body = await run_in_threadpool(_found, asked)
    except BadQuestionError as error:
        body = votable_error(str(error))
    return Response(body, media_type=VOTABLE)


def _found(asked: Mapping[str, str]) -> bytes:
    center, radius_deg = _circle(asked)
    columns = _columns(asked.get("VERB", "2"))
    limit = row_limit(asked.get("MAXREC"), USUAL_ROWS, MOST_ROWS)
    rows = []
    if radius_deg > 0.0 and limit > 0:
        with reading("products") as session:
            circle = SourceFilter(center=center, radius_deg=radius_deg)
            rows = list_sources(session, circle, SEPARATION, None, limit + 1)
    cells = [[getattr(row, name) for name in columns] for row in rows[:limit]]
    return to_votable("sources", columns, cells, overflow=len(rows) > limit)


def _circle(asked: Mapping[str, str]) -> tuple[SkyPosition, float]:
    ra_deg, dec_deg, radius_deg = (_number(asked, name) for name in ("RA", "DEC", "SR"))
    if not -90.0 <= dec_deg <= 90.0:
        raise BadQuestionError(f"DEC is {dec_deg:g}: it lies between -90 and 90")
    if not -360.0 <= ra_deg <= 360.0:
        raise BadQuestionError(f"RA is {ra_deg:g}: it lies between 0 and 360")
    if not 0.0 <= radius_deg <= 180.0:
        raise BadQuestionError(f"SR is {radius_deg:g}: it lies between 0 and 180")
    return SkyPosition(ra_deg % 360.0, dec_deg), radius_deg


def _number(asked: Mapping[str, str], name: str) -> float:
    if name not in asked:
        raise BadQuestionError(f"{name} is missing: RA, DEC and SR are degrees")
    try:
        value = float(asked[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadQuestionError(f"{name} is no number of degrees")
    return value


def _columns(verbosity: str) -> dict[str, Column]:
    if verbosity not in {"1", "2", "3"}:
        raise BadQuestionError("VERB is 1, 2 or 3")
    left_out = {"1": set(COLUMNS) - set(_SHORT), "2": set(_LEFT_OUT), "3": set[str]()}[verbosity]
    return {name: column for name, column in COLUMNS.items() if name not in left_out}


@router.get("/capabilities", response_class=Response)
async def get_capabilities(request: Request) -> Response:
    """Return what the service can do, as VOSI has it."""
    here = str(request.url_for("cone_search"))
    told = [
        vosi.Capability("ivo://ivoa.net/std/ConeSearch", f"{here}?", base=True),
        vosi.Capability("ivo://ivoa.net/std/VOSI#capabilities", f"{here}/capabilities"),
        vosi.Capability("ivo://ivoa.net/std/VOSI#availability", f"{here}/availability"),
        vosi.Capability("ivo://ivoa.net/std/VOSI#tables", f"{here}/tables"),
    ]
    return Response(vosi.capabilities(told), media_type=vosi.MEDIA_TYPE)


@router.get("/availability", response_class=Response)
def get_availability() -> Response:
    """Return whether the service is up, as VOSI has it."""
    note = None
    try:
        with reading("products") as session:
            list_sources(session, SourceFilter(), "source_id", None, 1)
    except ConfigurationError as error:
        note = str(error)
    return Response(vosi.availability(note), media_type=vosi.MEDIA_TYPE)


@router.get("/tables", response_class=Response)
async def get_tables() -> Response:
    """Return the columns of the service, as VOSI has them."""
    return Response(vosi.tables({"sources": COLUMNS}), media_type=vosi.MEDIA_TYPE)
