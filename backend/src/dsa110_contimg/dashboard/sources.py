"""Sources: the table in any order, the eta-V plane, and a page for each source with its light curve."""

import math
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dsa110_contimg.api import notes
from dsa110_contimg.api import sources as api
from dsa110_contimg.api.access import Operator
from dsa110_contimg.api.candidates import Note
from dsa110_contimg.api.databases import Products, reading
from dsa110_contimg.api.paging import decode_cursor, encode_cursor
from dsa110_contimg.api.schemas import Storable, Words
from dsa110_contimg.dashboard.panels import panel
from dsa110_contimg.dashboard.render import page, unix_of_mjd
from dsa110_contimg.dashboard.sparklines import sparkline
from dsa110_contimg.database.candidate_queries import VARIABLE, CandidateRow
from dsa110_contimg.database.lightcurve_queries import Epoch, image_paths, list_epochs, recent_fluxes
from dsa110_contimg.database.source_details import list_neighbors
from dsa110_contimg.database.source_queries import SourceRow, active_candidates, list_sources, place_of
from dsa110_contimg.database.source_table import source_table
from dsa110_contimg.naming import parse_mosaic_id
from dsa110_contimg.visibilities import SkyPosition

router = APIRouter(prefix="/sources")
STAMPS = 12
STAMP_ARCMIN = 8.0
MOST_ROWS = 300
MOST_NOTES = 100
NEIGHBORS, NEIGHBORS_DEG = 10, 0.5
FLAGS = {1: "edge", 2: "low beam", 4: "confused", 8: "negative", 16: "near a bright source", 32: "twin"}
_IN_MJY = {"min_flux_mjy": "min_flux_jy", "max_flux_mjy": "max_flux_jy"}


def source_link(source_id: str) -> str:
    """Return the address of a source's page."""
    return f"/sources/{quote(source_id, safe='')}"


def candidate_link(row: CandidateRow) -> str:
    """Return where a candidate is shown: a source that varies has a page, a new one a row among its like."""
    return source_link(row.source_id) if row.kind == VARIABLE else f"/candidates?kind=new&status=all#new-{row.id}"


def image_link(epoch: Epoch) -> str:
    """Return the address of the page of a point's image."""
    name = epoch.image.removesuffix(".fits")
    return f"/tiles/{epoch.image_id}" if parse_mosaic_id(name) is None else f"/mosaics/{name}"


@router.get("")
def sources(request: Request) -> Response:
    """Show the table of sources."""
    wanted = _asked(request)
    names = None if not wanted.q else tuple(api.named(wanted.q))
    if names is not None and len(names) == 1:
        return RedirectResponse(source_link(names[0]), HTTPStatus.SEE_OTHER)
    after = None
    if wanted.cursor is not None:
        by_name = wanted.order.endswith("source_id")
        value, tie = decode_cursor(wanted.cursor, str if by_name else float | None, str)
        after = value, str(tie)
    with reading("products") as session:
        found = list_sources(session, wanted.filter(names), wanted.order, after, wanted.limit + 1)
        shown = found[: wanted.limit]
        context: dict[str, Any] = {
            "wanted": wanted,
            "rows": shown,
            "sparklines": _sparklines(session, shown),
            "candidates": active_candidates(session, [row.source_id for row in shown]),
            "total": len(source_table(session).names),
            "next": encode_cursor(*place_of(shown[-1], wanted.order)) if len(found) > wanted.limit else None,
            "exported": _exported(wanted),
            "link": source_link,
            "filtered": bool(wanted.model_fields_set - {"sort", "limit", "cursor"}),
        }
    return page(request, "sources/list.html", fragment="table", **context)


def _asked(request: Request) -> api.SourceListing:
    """Return what the form asks for; an empty field asks for nothing, and fluxes are mJy there."""
    told: dict[str, Any] = {name: value for name, value in request.query_params.items() if value.strip()}
    for name, in_jy in _IN_MJY.items():
        if name in told:
            told[in_jy] = _thousandth(told.pop(name))
    told.pop("format", None)
    try:
        return api.SourceListing.model_validate(told)
    except ValidationError as error:
        wrong = [{**one, "loc": ("query", *(one["loc"] or ("circle",)))} for one in error.errors(include_url=False)]
        raise RequestValidationError(wrong) from error


def _thousandth(text: str) -> float | str:
    try:
        return float(text) / 1000.0
    except ValueError:
        return text


def _exported(wanted: api.SourceListing) -> str:
    """Return the query of the API for the whole of a list."""
    told = wanted.model_dump(exclude_none=True, exclude_unset=True, exclude={"cursor", "limit", "format"})
    return urlencode(told)


def _sparklines(session: Products, rows: Sequence[SourceRow]) -> dict[str, Any]:
    fluxes = recent_fluxes(session, [row.source_id for row in rows])
    return {name: sparkline([flux for _mjd, flux in points]) for name, points in fluxes.items()}


@router.get("/plane")
def plane(request: Request) -> HTMLResponse:
    """Show the eta-V plane."""
    found = api.plane()
    points = sorted(found.points, key=lambda point: point.eta)
    chart = {
        "kind": "points",
        "x": {"label": "η (how surely it varies)", "values": [_short(p.eta) for p in points], "log": True},
        "y": {"label": "V (how much it varies)", "log": True},
        "series": [
            {
                "label": "sources",
                "values": [_short(p.v) for p in points],
                "href": [source_link(p.source_id) for p in points],
            }
        ],
        "lines": [
            *([{"label": "3σ of η", "x": found.eta_line}] if found.eta_line is not None else []),
            *([{"label": "3σ of V", "y": found.v_line}] if found.v_line is not None else []),
        ],
    }
    outside = [p for p in reversed(points) if found.eta_line is not None and p.eta > found.eta_line]
    context: dict[str, Any] = {"plane": found, "chart": chart, "outside": outside[:MOST_ROWS], "link": source_link}
    return page(request, "sources/plane.html", **context)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


@router.get("/{source_id}")
def source(request: Request, source_id: Storable, stamps: str = "") -> Response:
    """Show one source; another spelling of its name leads to the name in full."""
    name = api.meant(source_id)
    if name != source_id:
        return RedirectResponse(source_link(name), HTTPStatus.SEE_OTHER)
    told = api.describe_source(name)
    with reading("products") as session:
        epochs = list_epochs(session, name)
        everything = list_epochs(session, name, every=True)
        neighbors = _neighbors(session, told)
        shown = epochs if stamps == "all" else epochs[-STAMPS:]
        paths = image_paths(session, [each.image_id for each in shown if each.image_id is not None])
    present = {number for number, path in paths.items() if Path(path).is_file()}
    context: dict[str, Any] = {
        "source": told,
        "statistics": told["statistics"],
        "catalog": told["catalog"],
        "candidates": told["candidates"],
        "notes": panel(lambda: notes.notes_on(name, MOST_NOTES)),
        "epochs": epochs,
        "rows": list(reversed(everything))[:MOST_ROWS],
        "n_rows": len(everything),
        "chart": _light_curve(epochs, told) if epochs else None,
        "noises": _noises(epochs),
        "stamps": list(reversed([each for each in shown if each.image_id in present])),
        "n_absent": sum(each.image_id not in present for each in shown),
        "all_stamps": stamps == "all",
        "stamp_arcmin": STAMP_ARCMIN,
        "neighbors": neighbors,
        "sexagesimal": sexagesimal(told["ra_deg"], told["dec_deg"]),
        "flag_words": flag_words,
        "link": source_link,
        "image_link": image_link,
        "api": f"/api/v1/sources/{quote(name, safe='')}",
    }
    return page(request, "sources/show.html", **context)


@router.post("/{source_id}/notes")
def add_note(source_id: Storable, user: Operator, note: Annotated[Words, Form()]) -> RedirectResponse:
    """Write a note on a source, and show its page again."""
    notes.add_note(source_id, Note(note=note), user)
    return RedirectResponse(f"{source_link(source_id)}#notes", HTTPStatus.SEE_OTHER)


def _neighbors(session: Products, told: dict[str, Any]) -> list[SourceRow]:
    if told["ra_deg"] is None:
        return []
    place = SkyPosition(told["ra_deg"], told["dec_deg"])
    return list_neighbors(session, place, told["source_id"], NEIGHBORS_DEG, NEIGHBORS)


def _light_curve(epochs: Sequence[Epoch], told: dict[str, Any]) -> dict[str, Any]:
    """Return the chart: detections with their errors, what is flagged, and upper limits; mJy against UTC and MJD."""
    good = [each.normalized_flux_jy is not None and each.upper_limit_jyb is None for each in epochs]
    series = [
        _series("flux", epochs, [ok and not each.flags for ok, each in zip(good, epochs, strict=True)]),
        _series("flagged", epochs, [ok and bool(each.flags) for ok, each in zip(good, epochs, strict=True)]),
    ]
    limits = [_mjy(each.upper_limit_jyb) for each in epochs]
    series.append({"label": "upper limit", "values": [None] * len(epochs), "limit": limits})
    kept = [one for one in series if any(value is not None for value in one.get("limit", one["values"]))]
    times = [unix_of_mjd(each.mjd) for each in epochs]
    levels = {
        "mean": (told["statistics"] or {}).get("mean_flux_jy"),
        "NVSS": (told["catalog"] or {}).get("nvss_flux_jy"),
    }
    return {
        "kind": "errorbars",
        "x": {"label": "UTC", "values": times, "time": True, "mjd": True},
        "y": {"label": "flux (mJy)"},
        "series": kept or series[:1],
        "lines": [{"label": label, "y": _mjy(level)} for label, level in levels.items() if level is not None],
    }


def _series(label: str, epochs: Sequence[Epoch], chosen: Sequence[bool]) -> dict[str, Any]:
    flux = [_mjy(each.normalized_flux_jy) if ok else None for each, ok in zip(epochs, chosen, strict=True)]
    error = [_mjy(each.normalized_flux_err_jy) for each in epochs]
    ends = [(None, None) if f is None or e is None else (f - e, f + e) for f, e in zip(flux, error, strict=True)]
    low, high, pale = [end[0] for end in ends], [end[1] for end in ends], _paleness(epochs)
    return {"label": label, "values": flux, "low": low, "high": high, "pale": pale}


def _noises(epochs: Sequence[Epoch]) -> tuple[float, float] | None:
    """Return the noise of the quietest and of the noisiest image, or None where all are alike or none is known."""
    noises = [each.image_noise_jy for each in epochs]
    known = [noise for noise in noises if noise is not None and math.isfinite(noise)]
    return (min(known), max(known)) if known and min(known) < max(known) else None


def _paleness(epochs: Sequence[Epoch]) -> list[float | None]:
    """Return 0 for the quietest image and 1 for the noisiest."""
    ends = _noises(epochs)
    if ends is None:
        return []
    noises = [each.image_noise_jy for each in epochs]
    return [None if noise is None else round((noise - ends[0]) / (ends[1] - ends[0]), 3) for noise in noises]


def _mjy(value_jy: float | None) -> float | None:
    return None if value_jy is None else 1000.0 * value_jy


def flag_words(flags: int | None) -> str:
    """Return the flags of a measurement in words."""
    return ", ".join(word for bit, word in FLAGS.items() if (flags or 0) & bit)


def sexagesimal(ra_deg: float | None, dec_deg: float | None) -> str:
    """Return a position as people write it: 12:34:56.70 +42:03:12.0."""
    if ra_deg is None or dec_deg is None:
        return ""
    hundredths, tenths = round((ra_deg % 360.0) * 24000.0) % 8640000, round(abs(dec_deg) * 36000.0)
    hours, minutes, rest = hundredths // 360000, hundredths // 6000 % 60, hundredths % 6000
    degrees, arcmin, arcsec = tenths // 36000, tenths // 600 % 60, tenths % 600
    sign = "-" if dec_deg < 0 else "+"
    return (
        f"{hours:02d}:{minutes:02d}:{rest // 100:02d}.{rest % 100:02d} "
        f"{sign}{degrees:02d}:{arcmin:02d}:{arcsec // 10:02d}.{arcsec % 10}"
    )
