"""The audit: who changed what through the API, a page, or a command about users."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.access import Admin
from dsa110_contimg.api.paging import Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.api.schemas import Storable
from dsa110_contimg.database import audit

router = APIRouter(prefix="/audit", tags=["audit"])


class Asked(Paged):
    """Which changes."""

    user: Storable | None = Field(None, description="Only changes by this user.")
    action: Storable | None = Field(None, description="Only this action, such as publish.")
    target: Storable | None = Field(None, description="Only changes of this, such as `product m1`.")


class Change(BaseModel):
    """One change."""

    id: int
    at_unix: float
    user: str
    action: str
    target: str = Field(description="What was changed, with its kind.")
    detail: str | None


@router.get("")
def list_changes(request: Request, response: Response, _user: Admin, asked: Annotated[Asked, Query()]) -> Page[Change]:
    """List changes, the latest first; for admins."""
    found = changes(asked)
    link_next(request, response, found.next)
    return found


def changes(asked: Asked) -> Page[Change]:
    """Return a page of changes."""
    before = None if asked.cursor is None else int(decode_cursor(asked.cursor, int)[0] or 0)
    rows = audit.list_changes(
        before=before, user_name=asked.user, action=asked.action, target=asked.target, limit=asked.limit + 1
    )
    return page_of(rows, asked.limit, lambda row: (row.id,), _change)


def _change(row: audit.Audited) -> Change:
    return Change(
        id=row.id, at_unix=row.at_unix, user=row.user_name, action=row.action, target=row.target, detail=row.detail
    )
