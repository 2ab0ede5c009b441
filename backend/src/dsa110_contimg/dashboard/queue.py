"""Queue: what waits, runs or failed; and a page for each group with its way through the stages and what can be done."""

import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse

from dsa110_contimg.api import queue as api
from dsa110_contimg.api.access import Operator
from dsa110_contimg.api.databases import Ingest, Products, Registry
from dsa110_contimg.api.paging import Paged
from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database import queue_queries, tile_queries
from dsa110_contimg.database.models import QueueState
from dsa110_contimg.monitoring.group_way import StepState, way_of

router = APIRouter(prefix="/queue")
REFUSED = 20


class Wanted(Paged):
    """Which groups the page lists; an empty field of its form asks for nothing."""

    state: str | None = None
    prefix: Storable | None = None
    sort: str = "-group_id"
    opened: Storable | None = None


@router.get("")
def queue(
    request: Request, ingest: Ingest, products: Products, registry: Registry, wanted: Annotated[Wanted, Query()]
) -> HTMLResponse:
    """Show the queue."""
    state = wanted.state if wanted.state in set(QueueState) else None
    asked = api.Groups(
        state=None if state is None else QueueState(state),
        prefix=wanted.prefix or None,
        sort="group_id" if wanted.sort == "group_id" else "-group_id",
        cursor=wanted.cursor,
        limit=wanted.limit,
    )
    found = api.groups_page(ingest, asked)
    groups = [row.group_id for row in found.items]
    jobs = queue_queries.jobs_of(products, groups)
    tiles = tile_queries.tiles_of(products, groups)
    context: dict[str, Any] = {
        "now": time.time(),
        "wanted": asked,
        "states": list(QueueState),
        "summary": api.summarize(ingest, products, registry),
        "groups": found,
        "ways": {row.group_id: way_of(row, tiles.get(row.group_id), jobs[row.group_id]) for row in found.items},
        "refused": [api.refused_file(row) for row in queue_queries.list_refused(ingest, limit=REFUSED)],
        "opened": wanted.opened,
    }
    return page(request, "queue/list.html", fragment="live", **context)


@router.get("/{group_id}")
def group(
    request: Request, ingest: Ingest, products: Products, group_id: Storable, opened: Storable | None = None
) -> HTMLResponse:
    """Show one group."""
    report = api.describe_group(ingest, products, group_id)
    failed = [step for step in report.steps if step.state is StepState.FAILED]
    notes = {step.name: without_folders(step.note) for step in report.steps if step.note}
    logs = {job.job_id: without_folders(job.log_tail) for job in report.jobs if job.log_tail}
    context: dict[str, Any] = {"group_id": group_id, "report": report, "failed": failed, "notes": notes, "logs": logs}
    return page(request, "queue/group.html", fragment="live", now=time.time(), opened=opened, **context)


@router.post("/{group_id}/retry")
def retry(group_id: Storable, user: Operator) -> RedirectResponse:
    """Open the failed work of a group again, and show it."""
    done = api.open_again(group_id, user)
    return RedirectResponse(f"/queue/{group_id}?opened={len(done.opened)}", HTTPStatus.SEE_OTHER)
