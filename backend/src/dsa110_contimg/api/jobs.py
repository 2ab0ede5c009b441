"""Units of work: each stage of each subject, its attempts, and why it failed."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import Field

from dsa110_contimg.api.access import Operator
from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.queue import Reopened, open_again
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database import queue_queries
from dsa110_contimg.database.models import JobState
from dsa110_contimg.database.queue_queries import JobRow

router = APIRouter(prefix="/jobs", tags=["jobs"])


class Jobs(Paged):
    """Which jobs a list holds."""

    state: JobState | None = Field(None, description="Only jobs in this state.")
    stage: Storable | None = Field(None, description="Only jobs of this stage, such as image.")
    subject: Storable | None = Field(None, description="Only jobs of this group, mosaic group or mosaic.")
    sort: Literal["job_id", "-job_id"] = Field("-job_id", description="By stage, and within it by the time of the sky.")


@router.get("")
def list_jobs(
    request: Request, response: Response, products: Products, wanted: Annotated[Jobs, Query()]
) -> Page[JobRow]:
    """List units of work by their id, which is their stage and subject."""
    after = None if wanted.cursor is None else str(decode_cursor(wanted.cursor, str)[0])
    rows = queue_queries.list_jobs(
        products,
        state=None if wanted.state is None else wanted.state.value,
        stage=wanted.stage,
        subject=wanted.subject,
        after=after,
        limit=wanted.limit + 1,
        descending=wanted.sort.startswith("-"),
    )
    page = page_of(rows, wanted.limit, lambda row: (row.job_id,), lambda row: row)
    link_next(request, response, page.next)
    return page


@router.get("/{job_id}")
def get_job(products: Products, job_id: Storable) -> JobRow:
    """Return one unit of work."""
    job = queue_queries.find_job(products, job_id)
    if job is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no job {job_id!r}: an id is a stage and a subject")
    return job


@router.post("/{job_id}/retry")
def retry_job(job_id: Storable, user: Operator) -> Reopened:
    """Open a failed job again; the next run does it."""
    return open_again(job_id, user)
