"""The REST API: its routers, and errors as problem documents.

Everything lies below `/api/v1`, whose `openapi.json` describes it, but for `/metrics`, which Prometheus asks, and the
Virtual Observatory's services below `/vo`. The pages are added by `dashboard.app`, which makes the whole application.
"""

from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Response

from dsa110_contimg import __version__
from dsa110_contimg.api import (
    alerts,
    audit,
    calibrators,
    caltables,
    candidates,
    cone,
    datalink,
    events,
    hdf5,
    health,
    hips,
    images,
    jobs,
    measurement_sets,
    mosaics,
    notes,
    performance,
    photometry,
    pointing,
    problems,
    qa,
    queue,
    registry,
    registry_actions,
    sia,
    sources,
    storage,
)
from dsa110_contimg.api.access import reader
from dsa110_contimg.api.conditional import ConditionalAnswers
from dsa110_contimg.api.description import describe
from dsa110_contimg.api.headers import Guard
from dsa110_contimg.monitoring import metrics

PREFIX, VO_PREFIX = "/api/v1", "/vo"

ROUTERS: tuple[APIRouter, ...] = (
    # An address is looked for in this order: what is asked most comes first.
    sources.router, photometry.router, candidates.router, notes.router,
    audit.router,
    registry.router, registry_actions.router,
    images.router, mosaics.router, qa.router, hips.router,
    queue.router, jobs.router, measurement_sets.router, caltables.router, calibrators.router, pointing.router,
    hdf5.router, alerts.router, performance.router, storage.router, health.router, events.router,
)  # fmt: skip
"""One for each resource, below /api/v1; reading them is open, or needs a login (`PIPELINE_REQUIRE_LOGIN`)."""
VO_ROUTERS: tuple[APIRouter, ...] = (
    cone.router, sia.router, datalink.router, hips.vo_router,
)  # fmt: skip
"""The services of the Virtual Observatory, below /vo."""


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
    app.openapi = lambda: describe(app, included)  # type: ignore[method-assign]
    guarded = [Depends(reader)]
    included = [*((PREFIX, router) for router in ROUTERS), *((VO_PREFIX, router) for router in VO_ROUTERS)]
    for prefix, router in included:
        app.include_router(router, prefix=prefix, dependencies=guarded)
    app.add_api_route("/metrics", figures, include_in_schema=False, dependencies=guarded)
    problems.install(app)
    app.add_middleware(ConditionalAnswers)
    app.add_middleware(Guard)
    return app


def figures() -> Response:
    """Answer Prometheus with figures that are counted now."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)
