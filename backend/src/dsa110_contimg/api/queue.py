"""The queue: how many groups are where, each group with its way through the stages, and the files that were refused.

A group that has failed can be opened again by an operator, as `contimg retry` does.
"""

import time
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_contimg.api.access import Operator, record
from dsa110_contimg.api.databases import Ingest, Products, Registry
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.api.sky import Check, check_of
from dsa110_contimg.config import current_settings
from dsa110_contimg.database import queue_queries, tile_queries
from dsa110_contimg.database.models import QueueState
from dsa110_contimg.database.qa_queries import checks_of
from dsa110_contimg.database.queue_queries import GroupRow, JobRow, RefusedRow, StepTimes, SubbandRow
from dsa110_contimg.database.tile_queries import TileRow
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.backlog import Backlog, Failure, backlog, last_failures
from dsa110_contimg.monitoring.group_way import Step, StepState, way_of
from dsa110_contimg.monitoring.log_lines import last_lines
from dsa110_contimg.monitoring.logs import log_path
from dsa110_contimg.monitoring.remedies import FailureKind, remedy
from dsa110_contimg.pipeline.notices import Notice, read_notices
from dsa110_contimg.pipeline.reopen import reopen

router = APIRouter(prefix="/queue", tags=["queue"])
LOG_LINES = 20


class QueueSummary(BaseModel):
    """Everything that waits, runs or failed, in numbers."""

    groups: dict[str, int] = Field(description="Groups by state.")
    tiles: dict[str, int] = Field(description="Tiles by stage.")
    mosaic_groups: dict[str, int] = Field(description="Mosaic groups by status.")
    jobs: dict[str, dict[str, int]] = Field(description="Jobs by stage, and within it by state.")
    refused_files: int
    backlog: Backlog
    runs: list[Notice] = Field(description="What each run of the pipeline says about itself.")
    last_failures: list[Failure] = Field(description="The newest failures of every kind, with the way out of each.")


class Groups(Paged):
    """Which groups a list holds."""

    state: QueueState | None = Field(None, description="Only groups in this state.")
    prefix: Storable | None = Field(None, description="Only groups whose id begins so, such as 2025-12-24.")
    sort: Literal["group_id", "-group_id"] = Field("-group_id", description="By the time of the sky.")


class RefusedFile(BaseModel):
    """A file that was refused."""

    file_name: str
    group_id: str | None
    reason: str
    refused_unix: float
    way_out: str


class GroupReport(BaseModel):
    """All that is known about one group."""

    group: GroupRow | None = Field(description="Null for a tile of an older installation, of which no group is known.")
    tile: TileRow | None
    steps: list[Step] = Field(description="Its way through the stages.")
    subbands: list[SubbandRow]
    missing_subbands: list[int]
    jobs: list[JobRow]
    mosaic_groups: list[str]
    checks: list[Check]
    times: StepTimes | None
    way_out: str | None = Field(description="What to do about its failure; null if it has not failed.")
    log: list[str] = Field(description="The last lines of the log about it.")


class Reopened(BaseModel):
    """What was opened again."""

    opened: list[str]


@router.get("")
def get_summary(ingest: Ingest, products: Products, registry: Registry) -> QueueSummary:
    """Return what waits, runs and failed, in numbers."""
    return summarize(ingest, products, registry)


def summarize(ingest: Session, products: Session, registry: Session) -> QueueSummary:
    """Return the queue in numbers."""
    now = time.time()
    arrived, progress = census.arrivals(ingest, now), census.progress(products, now)
    jobs: dict[str, dict[str, int]] = {}
    for (stage, state), number in census.jobs(products).items():
        jobs.setdefault(stage, {})[state] = number
    return QueueSummary(
        groups=dict(arrived.groups),
        tiles=dict(progress.tiles),
        mosaic_groups=census.mosaic_groups(products),
        jobs=jobs,
        refused_files=census.quarantined(ingest),
        backlog=backlog(arrived, progress, now),
        runs=read_notices(current_settings()),
        last_failures=[_without_folders(one) for one in last_failures(ingest, products, registry)],
    )


def _without_folders(failure: Failure) -> Failure:
    name = failure.name.rpartition("/")[2] if failure.kind is FailureKind.FILE else failure.name
    return Failure(failure.kind, name, failure.failed_at, without_folders(failure.error), failure.remedy)


@router.get("/groups")
def list_groups(
    request: Request, response: Response, ingest: Ingest, wanted: Annotated[Groups, Query()]
) -> Page[GroupRow]:
    """List groups, the newest sky first unless told otherwise."""
    page = groups_page(ingest, wanted)
    link_next(request, response, page.next)
    return page


def groups_page(session: Session, wanted: Groups) -> Page[GroupRow]:
    """Return the page of groups that is wanted."""
    after = None if wanted.cursor is None else str(decode_cursor(wanted.cursor, str)[0])
    rows = queue_queries.list_groups(
        session,
        state=None if wanted.state is None else wanted.state.value,
        prefix=wanted.prefix,
        after=after,
        limit=wanted.limit + 1,
        descending=wanted.sort.startswith("-"),
    )
    return page_of(rows, wanted.limit, lambda row: (row.group_id,), lambda row: row)


@router.get("/groups/{group_id}")
def get_group(ingest: Ingest, products: Products, group_id: Storable) -> GroupReport:
    """Return one group: its files, its way through the stages, why it failed, and the tail of its log."""
    return describe_group(ingest, products, group_id)


def describe_group(ingest: Session, products: Session, group_id: str) -> GroupReport:
    """Return all that is known about a group; HTTPException 404 if nothing is."""
    group = queue_queries.find_group(ingest, group_id)
    tile = tile_queries.find_tile(products, group_id)
    jobs = queue_queries.jobs_of(products, [group_id])[group_id]
    if group is None and tile is None and not jobs:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no group {group_id!r}: see the queue")
    mosaics = tile_queries.mosaic_groups_of(products, group_id)
    of_mosaics = [job for one in queue_queries.jobs_of(products, mosaics).values() for job in one]
    subbands = queue_queries.list_subbands(ingest, group_id)
    here = {row.subband for row in subbands}
    steps = way_of(group, tile, jobs, of_mosaics)
    return GroupReport(
        group=group,
        tile=tile,
        steps=steps,
        subbands=subbands,
        missing_subbands=[] if group is None else [n for n in range(group.expected_subbands) if n not in here],
        jobs=jobs,
        mosaic_groups=mosaics,
        checks=[check_of(row) for row in checks_of(products, group_id)],
        times=queue_queries.find_times(ingest, group_id),
        way_out=_way_out(steps, group),
        log=[without_folders(line) for line in last_lines(log_path(current_settings()), group_id, limit=LOG_LINES)],
    )


def _way_out(steps: list[Step], group: GroupRow | None) -> str | None:
    failed = next((step for step in steps if step.state is StepState.FAILED), None)
    if failed is None:
        return None
    refused = group is not None and group.state == QueueState.FAILED.value and failed.name == "convert"
    return remedy(FailureKind.GROUP if refused else FailureKind.JOB, failed.note or "")


@router.post("/groups/{group_id}/retry")
def retry_group(group_id: Storable, user: Operator) -> Reopened:
    """Open the failed work of a group again; the next run does it."""
    return open_again(group_id, user)


def open_again(name: str, user: Operator) -> Reopened:
    """Open failed work by the name of a job, group, mosaic group or mosaic; HTTPException 409 if none has failed."""
    try:
        opened = reopen(name)
    except PipelineError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
    record(user, "retry", name, ", ".join(opened))
    return Reopened(opened=opened)


@router.get("/refused-files")
def list_refused(
    request: Request, response: Response, ingest: Ingest, wanted: Annotated[Paged, Query()]
) -> Page[RefusedFile]:
    """List the files that were refused, each with its reason and the way out."""
    after = None if wanted.cursor is None else str(decode_cursor(wanted.cursor, str)[0])
    rows = queue_queries.list_refused(ingest, after=after, limit=wanted.limit + 1)
    page = page_of(rows, wanted.limit, lambda row: (row.path,), refused_file)
    link_next(request, response, page.next)
    return page


def refused_file(row: RefusedRow) -> RefusedFile:
    """Return a refused file by its name, with what to do about it."""
    return RefusedFile(
        file_name=row.path.rpartition("/")[2],
        group_id=row.group_id,
        reason=without_folders(row.reason),
        refused_unix=row.refused_unix,
        way_out=remedy(FailureKind.FILE, row.reason),
    )
