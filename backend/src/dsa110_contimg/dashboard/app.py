"""The whole application: the API, the pages, and the files that pages load."""

from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from dsa110_contimg.api import app as api
from dsa110_contimg.api.access import reader
from dsa110_contimg.dashboard import (
    account,
    calibration,
    candidates,
    health,
    home,
    inventory,
    login,
    mosaics,
    observing,
    publishing,
    queue,
    sky,
    sources,
    tiles,
)
from dsa110_contimg.dashboard.render import STATIC, page

FOR_EVER = "public, max-age=31536000, immutable"

ROUTERS: tuple[APIRouter, ...] = (
    account.router,
    sources.router, candidates.router,
    tiles.router, mosaics.router, sky.router, publishing.router,
    home.router, observing.router, queue.router, calibration.router, health.router, inventory.router,
)  # fmt: skip
"""The pages; reading them is open, or needs a login (`PIPELINE_REQUIRE_LOGIN`)."""
OPEN_ROUTERS: tuple[APIRouter, ...] = (
    login.router,
)  # fmt: skip
"""Pages for who has no login yet."""


def create_app(registry_file: Path | None = None) -> FastAPI:
    """Return the whole application."""
    app = api.create_app(registry_file)
    app.state.error_page = error_page
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(reader)], include_in_schema=False)
    for router in OPEN_ROUTERS:
        app.include_router(router, include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC), name="static")
    return app


def error_page(request: Request, status: int, title: str, sentence: str) -> Response:
    """Return a page that says what happened."""
    return page(request, "error.html", status_code=status, status=status, title=title, sentence=sentence)


class _Static(StaticFiles):
    """Files that may be kept for ever when their address has the fingerprint that `static` adds."""

    def file_response(self, *arguments: object, **named: object) -> Response:
        answer = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        scope = next(each for each in (*arguments, *named.values()) if isinstance(each, dict))
        versioned = isinstance(answer, FileResponse) and b"v=" in scope["query_string"]
        answer.headers["Cache-Control"] = FOR_EVER if versioned else "no-cache"
        return answer
