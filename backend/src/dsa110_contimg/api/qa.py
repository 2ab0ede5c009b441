"""Quality assurance: plots and reports by id, and the measured values behind each verdict."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import Field

from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.files import data_roots, send_file
from dsa110_contimg.api.mosaics import Artifact, artifact_of
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.pictures import PREVIEW_PIXELS, answer_thumbnail
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.api.sky import Check, RowId, check_of, key_behind
from dsa110_contimg.database.models import Verdict
from dsa110_contimg.database.qa_queries import ArtifactRow, get_artifact, list_artifacts, list_checks

router = APIRouter(prefix="/qa", tags=["qa"])


class ArtifactQuery(Paged):
    """Which artifacts a list holds."""

    group_id: Storable | None = Field(None, description="Of this tile, or of the group mg_... of a mosaic.")
    category: Storable | None = Field(None, description="Such as calibration, imaging, flagging.")


class CheckQuery(Paged):
    """Which checks a list holds."""

    subject: Storable | None = Field(None, description="Of this group id (a tile), mosaic or product.")
    verdict: Verdict | None = Field(None, description="With this verdict.")


class SubjectCheck(Check):
    """One check, and what was checked."""

    subject: str


@router.get("/artifacts")
def list_of_artifacts(
    request: Request, response: Response, session: Products, wanted: Annotated[ArtifactQuery, Query()]
) -> Page[Artifact]:
    """List plots and reports, the newest first."""
    rows = list_artifacts(
        session,
        group_id=wanted.group_id,
        category=wanted.category,
        after=key_behind(wanted.cursor),
        limit=wanted.limit + 1,
    )
    page = page_of(rows, wanted.limit, lambda row: (row.created_at, row.id), artifact_of)
    link_next(request, response, page.next)
    return page


@router.get("/artifacts/{artifact_id}")
def show_artifact(session: Products, artifact_id: RowId) -> Artifact:
    """Return what is known about one artifact."""
    return artifact_of(_found(session, artifact_id))


@router.get("/artifacts/{artifact_id}/file", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def send_artifact(session: Products, artifact_id: RowId) -> Response:
    """Return the file."""
    row = _found(session, artifact_id)
    return send_file(row.path, data_roots(), None, row.name, attachment=False)


@router.get(
    "/artifacts/{artifact_id}/preview", response_class=Response, responses={200: {"content": {"image/webp": {}}}}
)
def send_artifact_preview(
    request: Request,
    session: Products,
    artifact_id: RowId,
    pixels: Annotated[int, Query(ge=64, le=PREVIEW_PIXELS, description="Longer side at most.")] = PREVIEW_PIXELS,
) -> Response:
    """Return a plot for a page, smaller than its file."""
    row = _found(session, artifact_id)
    return answer_thumbnail(request, row.path, row.name, pixels)


def _found(session: Products, artifact_id: int) -> ArtifactRow:
    row = get_artifact(session, artifact_id)
    if row is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no artifact {artifact_id}: see /api/v1/qa/artifacts")
    return row


@router.get("/checks")
def list_of_checks(
    request: Request, response: Response, session: Products, wanted: Annotated[CheckQuery, Query()]
) -> Page[SubjectCheck]:
    """List measured values and their verdicts, the newest first."""
    after = None if wanted.cursor is None else [int(part or 0) for part in decode_cursor(wanted.cursor, int)]
    rows = list_checks(session, subject=wanted.subject, verdict=wanted.verdict, after=after, limit=wanted.limit + 1)
    page = page_of(
        rows,
        wanted.limit,
        lambda row: (row.id,),
        lambda row: SubjectCheck(subject=row.subject, **check_of(row).model_dump()),
    )
    link_next(request, response, page.next)
    return page
