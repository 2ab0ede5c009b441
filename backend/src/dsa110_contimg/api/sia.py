"""Simple Image Access (IVOA SIA 2.0) on the images of tiles and the mosaics, below /vo/sia2.

Every parameter may be given several times: one of its values is enough; different parameters all have to hold. An
interval is `low high`, either of which may be -Inf or +Inf, or one number. The answer is a VOTable of ObsCore rows, and
so is an error (400), as DALI 1.1 asks. What MAXREC cut off is told (`QUERY_STATUS` OVERFLOW).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from dsa110_contimg.api.databases import reading
from dsa110_contimg.api.obscore import COLUMNS, observation, place_of
from dsa110_contimg.api.vo import VOTABLE, BadQuestionError, parameters, row_limit
from dsa110_contimg.database.obscore_queries import observations
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import vosi
from dsa110_contimg.formats.regions import BadRegionError, Region, parse_region
from dsa110_contimg.formats.row_files import to_votable, votable_error

router = APIRouter(prefix="/sia2", tags=["virtual observatory"])
MOST_ROWS, USUAL_ROWS = 10_000, 1_000
MOST_VALUES = 50
Row = Mapping[str, Any]
Test = Callable[[Row], bool]
Interval = tuple[float, float]

_OVERLAPS = {"BAND": ("em_min", "em_max"), "TIME": ("t_min", "t_max")}
"""Parameters whose interval has to meet that of the image."""
_WITHIN = {
    "FOV": "s_fov", "SPATRES": "s_resolution", "EXPTIME": "t_exptime", "TIMERES": "t_resolution",
    "SPECRP": "em_res_power",
}  # fmt: skip
"""Parameters whose interval has to hold a value of the image."""
_WORDS = {
    "ID": "obs_publisher_did", "COLLECTION": "obs_collection", "FACILITY": "facility_name",
    "INSTRUMENT": "instrument_name", "DPTYPE": "dataproduct_type", "TARGET": "target_name", "FORMAT": "access_format",
}  # fmt: skip
_KNOWN = {"POS", "CALIB", "POL", "MAXREC", "RESPONSEFORMAT", "REQUEST", "VERSION", *_OVERLAPS, *_WITHIN, *_WORDS}
_PARAMETERS = parameters(
    {
        "POS": "CIRCLE ra dec radius, RANGE ra1 ra2 dec1 dec2 or POLYGON ra dec ..., deg.",
        "BAND": "Interval of wavelength, m.",
        "TIME": "Interval of MJD (UTC).",
        "CALIB": "2: tiles, 3: mosaics.",
        "ID": "Identifier of the publisher.",
        "MAXREC": "Most rows; 0 describes the columns only.",
    },
)


@router.get("/query", name="sia_query", response_class=Response, openapi_extra={"parameters": _PARAMETERS})
async def query(request: Request) -> Response:
    """Return the images that meet all parameters, as a VOTable of ObsCore rows."""
    asked: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        asked.setdefault(name.upper(), []).append(value)
    try:
        body = await run_in_threadpool(_found, request, asked)
    except (BadQuestionError, BadRegionError) as error:
        return Response(votable_error(str(error)), 400, media_type=VOTABLE)
    return Response(body, media_type=VOTABLE)


def _found(request: Request, asked: Mapping[str, Sequence[str]]) -> bytes:
    limit, regions, tests = _limit(asked), _regions(asked), _tests(asked)
    spans = [_interval("TIME", text) for text in asked.get("TIME", ())]
    low = min((span[0] for span in spans), default=-math.inf)
    high = max((span[1] for span in spans), default=math.inf)
    found: list[Row] = []
    with reading("products") as session:
        rows = observations(
            session, from_mjd=low if math.isfinite(low) else None, to_mjd=high if math.isfinite(high) else None
        )
        for row in rows if limit else ():
            place = place_of(row)
            if place is None or (regions and not any(region.meets(place) for region in regions)):
                continue
            cells = observation(request, row, place)
            if all(test(cells) for test in tests):
                found.append(cells)
            if len(found) > limit:
                break
    shown = [[cells[name] for name in COLUMNS] for cells in found[:limit]]
    return to_votable("observations", COLUMNS, shown, overflow=len(found) > limit)


def _limit(asked: Mapping[str, Sequence[str]]) -> int:
    unknown = sorted(set(asked) - _KNOWN)
    if unknown:
        raise BadQuestionError(f"there is no parameter {unknown[0][:40]!r}; there are {', '.join(sorted(_KNOWN))}")
    if any(len(values) > MOST_VALUES for values in asked.values()):
        raise BadQuestionError(f"a parameter may be given {MOST_VALUES} times at most")
    if any("\0" in value for values in asked.values() for value in values):
        raise BadQuestionError("a value has a character that no image has")
    return row_limit(asked.get("MAXREC", [None])[-1], USUAL_ROWS, MOST_ROWS)


def _regions(asked: Mapping[str, Sequence[str]]) -> list[Region]:
    return [parse_region(text) for text in asked.get("POS", ()) if text.strip()]


def _tests(asked: Mapping[str, Sequence[str]]) -> list[Test]:
    tests: list[Test] = []
    for name, (first, last) in _OVERLAPS.items():
        spans = [_interval(name, text) for text in asked.get(name, ())]
        if spans:
            tests.append(_any_overlap(spans, first, last))
    for name, column in _WITHIN.items():
        spans = [_interval(name, text) for text in asked.get(name, ())]
        if spans:
            tests.append(_any_overlap(spans, column, column))
    for name, column in _WORDS.items():
        if name in asked:
            tests.append(_one_of(asked[name], column))
    if "CALIB" in asked:
        levels = [_interval("CALIB", text) for text in asked["CALIB"]]
        tests.append(_any_overlap(levels, "calib_level", "calib_level"))
    if "POL" in asked:
        states = {value.upper() for value in asked["POL"]}
        tests.append(lambda _row: "I" in states)
    return tests


def _any_overlap(spans: Iterable[Interval], first: str, last: str) -> Test:
    kept = tuple(spans)
    return lambda row: any(row[first] <= high and row[last] >= low for low, high in kept)


def _one_of(values: Sequence[str], column: str) -> Test:
    kept = set(values)
    return lambda row: row[column] in kept


def _interval(name: str, text: str) -> Interval:
    """Return the interval that a text writes; one number is an interval, too."""
    try:
        numbers = [float(part) for part in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) not in {1, 2} or any(math.isnan(number) for number in numbers):
        raise BadQuestionError(f"{name} {text[:80]!r} is no interval: it is `low high`, or one number")
    if numbers[0] > numbers[-1]:
        raise BadQuestionError(f"{name} {text[:80]!r} is no interval: its end lies before its beginning")
    return numbers[0], numbers[-1]


@router.get("/capabilities", response_class=Response)
async def sia_capabilities(request: Request) -> Response:
    """Return what the service can do, as VOSI has it."""
    ask = str(request.url_for("sia_query"))
    here = ask.removesuffix("/query")
    told = [
        vosi.Capability("ivo://ivoa.net/std/SIA#query-2.0", ask, base=True),
        vosi.Capability("ivo://ivoa.net/std/VOSI#capabilities", f"{here}/capabilities"),
        vosi.Capability("ivo://ivoa.net/std/VOSI#availability", f"{here}/availability"),
        vosi.Capability("ivo://ivoa.net/std/VOSI#tables", f"{here}/tables"),
    ]
    return Response(vosi.capabilities(told), media_type=vosi.MEDIA_TYPE)


@router.get("/availability", response_class=Response)
def sia_availability() -> Response:
    """Return whether the service is up, as VOSI has it."""
    note = None
    try:
        with reading("products") as session:
            next(observations(session), None)
    except ConfigurationError as error:
        note = str(error)
    return Response(vosi.availability(note), media_type=vosi.MEDIA_TYPE)


@router.get("/tables", response_class=Response)
async def sia_tables() -> Response:
    """Return the columns of the service, as VOSI has them."""
    return Response(vosi.tables({"ivoa.obscore": COLUMNS}), media_type=vosi.MEDIA_TYPE)
