"""The application: its routers, and errors as problem documents.

Everything lies below `/api/v1`, whose `openapi.json` describes it, but for `/metrics`, which Prometheus asks. It reads
and never writes: publishing, retracting and remaking are commands (`contimg registry`), because there are no users here
to ask who they are.
"""

from pathlib import Path

from fastapi import FastAPI, Response

from dsa110_contimg import __version__
from dsa110_contimg.api import problems, registry
from dsa110_contimg.monitoring import metrics

PREFIX = "/api/v1"


def create_app(registry_file: Path | None = None) -> FastAPI:
    """Return the application, which reads a registry file that is named or else the configured registry."""
    app = FastAPI(
        title="DSA-110 continuum pipeline",
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        # Its pages of documentation load programs from other people's servers.
        docs_url=None,
        redoc_url=None,
    )
    app.state.registry_file = registry_file
    app.include_router(registry.router, prefix=PREFIX)
    app.add_api_route("/metrics", figures, include_in_schema=False)
    problems.install(app)
    return app


def figures() -> Response:
    """Answer Prometheus with figures that are counted now."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)
