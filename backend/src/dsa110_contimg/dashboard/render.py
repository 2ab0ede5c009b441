"""How a page is made: a template, what every page knows, and the formats of figures.

A page works without JavaScript. Where htmx asks for a part of it (`HX-Request`), the block of that name is sent
alone. What is not a number is a dash, and a time is told in UTC and MJD.
"""

import hashlib
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from dsa110_contimg import __version__
from dsa110_contimg.api.access import csrf_token, visitor
from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.dashboard.words import coded, kind_of, word_of

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
UNIX_OF_MJD_0 = -3506716800.0
DAY_S = 86400.0
NONE = "–"

SKY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; font-src 'self' data:;"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""For pages with the sky viewer: it compiles WebAssembly and puts a style sheet of its own into the page."""


def utc(unix: float | None) -> str:
    """Return a time in UTC, such as `2025-12-24 03:18:05`."""
    if unix is None or not math.isfinite(unix):
        return NONE
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return NONE


def unix_of_mjd(mjd: float | None) -> float | None:
    """Return unix seconds of a Modified Julian Date (UTC)."""
    return None if mjd is None else mjd * DAY_S + UNIX_OF_MJD_0


def mjd_of_unix(unix: float | None) -> float | None:
    """Return the Modified Julian Date of unix seconds."""
    return None if unix is None else (unix - UNIX_OF_MJD_0) / DAY_S


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with a fixed count of decimals, or a dash for none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def short(value: float | None) -> str:
    """Return a number of any size with four figures, whole from ten thousand on: `0.01662`, `15887`."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def mjy(value_jy: float | None, error_jy: float | None = None, digits: int = 2) -> str:
    """Return a flux of Jy in mJy, with its error: `12.30 ± 0.45 mJy`."""
    if value_jy is None or not math.isfinite(value_jy):
        return NONE
    error = "" if error_jy is None or not math.isfinite(error_jy) else f" ± {1000 * error_jy:.{digits}f}"
    return f"{1000 * value_jy:.{digits}f}{error} mJy"


def size(count: float | None) -> str:
    """Return a number of bytes for people: `3.2 GB`."""
    if count is None or not math.isfinite(count):
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def ago(unix: float | None, now: float | None = None) -> str:
    """Return how long ago a time was, or how far ahead it is: `3 min ago`, `in 2 h`."""
    if unix is None or not math.isfinite(unix):
        return NONE
    passed = (datetime.now(UTC).timestamp() if now is None else now) - unix
    told = duration(abs(passed))
    return f"{told} ago" if passed >= 0 else f"in {told}"


def duration(seconds: float | None) -> str:
    """Return a length of time for people: `45 s`, `3 min`, `5.2 h`, `12 d`."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    for limit, unit, digits in ((90, 1, 0), (5400, 60, 0), (172800, 3600, 1)):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} { {1: 's', 60: 'min', 3600: 'h'}[unit] }"
    return f"{seconds / DAY_S:.1f} d"


@cache
def static(name: str) -> str:
    """Return the address of a file of `static/`; it changes when the file does, so that it may be kept for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
    return f"/static/{name}?v={digest}"


def _dumps(value: object, **_options: object) -> str:
    """Write JSON, in which what is not a number is null."""
    return json.dumps(_numbers_only(value), separators=(",", ":"))


def _numbers_only(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _numbers_only(each) for key, each in value.items()}
    return [_numbers_only(each) for each in value] if isinstance(value, list | tuple) else value


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers: list[Callable[..., object]] = [
        utc, unix_of_mjd, mjd_of_unix, number, short, mjy, size, ago, duration, static, with_query, kind_of, word_of,
    ]  # fmt: skip
    made.globals.update({each.__name__: each for each in helpers}, version=__version__, nav=NAVIGATION)
    made.policies["json.dumps_function"] = _dumps
    made.filters.update(
        {each.__name__: each for each in (utc, number, mjy, size, ago, duration, coded, without_folders)}
    )
    return made


def with_query(request: Request, **changes: object) -> str:
    """Return the address of this page with some parameters changed; None takes one away."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    added = [(key, str(value)) for key, value in changes.items() if value is not None]
    told = urlencode(kept + added)
    return f"{request.url.path}?{told}" if told else request.url.path


NAVIGATION = (
    ("/", "Home"),
    ("/observing", "Observing"),
    ("/queue", "Queue"),
    ("/calibration", "Calibration"),
    ("/tiles", "Tiles"),
    ("/mosaics", "Mosaics"),
    ("/sky", "Sky"),
    ("/sources", "Sources"),
    ("/candidates", "Candidates"),
    ("/publishing", "Publishing"),
    ("/health", "Health"),
    ("/inventory", "Inventory"),
)
"""The pages that every page leads to, by address."""
ENVIRONMENT = _environment()
# A block that is sent alone has not run what imports macros above it.
for _name, _file in (("parts", "parts.html"), ("ops", "operations.html")):
    ENVIRONMENT.globals[_name] = ENVIRONMENT.get_template(_file).module


def page(
    request: Request,
    template: str,
    *,
    status_code: int = 200,
    fragment: str | None = None,
    sky: bool = False,
    **context: Any,  # noqa: ANN401 - whatever the template shows
) -> HTMLResponse:
    """Return a page.

    Parameters
    ----------
    request
        Who asks; the template sees it, `user` (None without a login) and `csrf`.
    template
        File below `templates/`.
    status_code
        Of the answer.
    fragment
        Name of the block that htmx gets when it asks; None always gives the whole page.
    sky
        The page shows the sky viewer, and needs its policy.
    **context
        What the template shows.
    """
    known = {"request": request, "user": visitor(request), "csrf": csrf_token(request), "sky": sky, **context}
    found = ENVIRONMENT.get_template(template)
    partly = fragment is not None and request.headers.get("hx-request") == "true"
    if partly and fragment is not None:
        body = "".join(found.blocks[fragment](found.new_context(known)))
    else:
        body = found.render(known)
    headers = {"Cache-Control": "private, no-cache", "Vary": "Cookie, HX-Request"}
    if sky:
        headers["Content-Security-Policy"] = SKY_POLICY
    return HTMLResponse(body, status_code, headers)
