"""Publishing: products by status, why one is not published, and publish, retry and retract for operators."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from pydantic import ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dsa110_contimg.api import registry as api
from dsa110_contimg.api import registry_actions as actions
from dsa110_contimg.api.access import Operator, visitor
from dsa110_contimg.api.paging import MAX_PAGE
from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.dashboard.filters import Asked
from dsa110_contimg.dashboard.render import page
from dsa110_contimg.database.models import ProductStatus, Role
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.registry_rows import RegistryConnection, count_data, list_data
from dsa110_contimg.errors import PublishError, UnknownProductError

router = APIRouter(prefix="/publishing")
SHOWN = 50
Note = Annotated[str, Form(max_length=2000)]
Sure = Annotated[str, Form(max_length=10)]


@router.get("")
def products(
    request: Request,
    status: Annotated[Asked[ProductStatus], Query()] = None,
    cursor: Annotated[Storable | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = SHOWN,
) -> HTMLResponse:
    """Show products, the newest first, and how many there are of each status."""
    with api.opened(request) as conn:
        try:
            rows = list_data(conn, status=status, after=cursor, limit=limit + 1, newest_first=True)
        except PublishError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error
        counts = count_data(conn)
    behind = rows[limit - 1].data_id if len(rows) > limit else None
    context: dict[str, Any] = {"entries": [api.entry_of(row) for row in rows[:limit]], "next": behind, "counts": counts}
    return page(request, "publishing/list.html", status=status, statuses=list(ProductStatus), **context)


@router.get("/{data_id}")
def product(request: Request, data_id: Storable, done: Storable | None = None) -> HTMLResponse:
    """Show one product: where it stands, each criterion, and what may be done."""
    return _show(request, data_id, done=done)


def _show(
    request: Request, data_id: str, *, done: str | None = None, refused: str | None = None, status_code: int = 200
) -> HTMLResponse:
    try:
        with api.opened(request) as conn:
            told: dict[str, Any] = describe_product(conn, data_id)
    except UnknownProductError as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error
    user = visitor(request)
    context: dict[str, Any] = {
        "product": told,
        "error": without_folders(str(told["publish_error"])) if told["publish_error"] else None,
        "may_act": user is not None and user.may(Role.OPERATOR),
        "done": done,
        "refused": refused,
    }
    return page(request, "publishing/show.html", status_code=status_code, **context)


@router.post("/{data_id}/publish")
def publish(
    request: Request, data_id: Storable, user: Operator, note: Note = "", mode: Annotated[str, Form()] = "move"
) -> Response:
    """Publish a product, and show it."""
    return _act(
        request,
        data_id,
        "published",
        lambda conn: actions.publish_for(
            conn, data_id, user, actions.Publication.model_validate({"mode": mode, "reason": note.strip() or None})
        ),
    )


@router.post("/{data_id}/retry")
def retry(request: Request, data_id: Storable, user: Operator, note: Note = "", reset: Sure = "") -> Response:
    """Try a failed publication again, and show the product."""
    wanted = {"reset": bool(reset), "reason": note.strip() or None}
    return _act(
        request,
        data_id,
        "published",
        lambda conn: actions.retry_for(conn, data_id, user, actions.Repetition.model_validate(wanted)),
    )


@router.post("/{data_id}/retract")
def retract(
    request: Request, data_id: Storable, user: Operator, note: Note = "", sure: Sure = "", successor: Note = ""
) -> Response:
    """Take a published product back, and show it."""
    if not sure:
        refused = "nothing was changed: say that you are sure"
        return _show(request, data_id, refused=refused, status_code=HTTPStatus.UNPROCESSABLE_ENTITY)
    wanted = {"reason": note, "successor": successor.strip() or None}
    return _act(
        request,
        data_id,
        "retracted",
        lambda conn: actions.retract_for(conn, data_id, user, actions.Retraction.model_validate(wanted)),
    )


def _act(request: Request, data_id: str, done: str, action: Callable[[RegistryConnection], None]) -> Response:
    """Do something to a product; what is refused is told on its page."""
    try:
        with api.opened(request) as conn:
            action(conn)
    except ValidationError as error:
        told = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return _show(request, data_id, refused=told, status_code=HTTPStatus.UNPROCESSABLE_ENTITY)
    except HTTPException as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise
        refused = without_folders(str(error.detail))
        return _show(request, data_id, refused=refused, status_code=HTTPStatus.CONFLICT)
    return RedirectResponse(f"/publishing/{data_id}?done={done}", HTTPStatus.SEE_OTHER)
