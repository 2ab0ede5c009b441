"""Alerts: what people were told, what still waits to be sent, and who has seen it."""

import time
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from dsa110_contimg.api.access import Operator, record
from dsa110_contimg.api.databases import Products
from dsa110_contimg.api.paging import MAX_PAGE, Page, Paged, decode_cursor, link_next, page_of
from dsa110_contimg.database import alert_queries
from dsa110_contimg.database.alert_outbox import acknowledge
from dsa110_contimg.database.alert_queries import AlertRow, PendingAlertRow
from dsa110_contimg.database.models import AlertKind, Severity
from dsa110_contimg.database.session import get_session

router = APIRouter(prefix="/alerts", tags=["alerts"])
MAX_ID = 2**63 - 1


class Alerts(Paged):
    """Which alerts a list holds."""

    least: Severity | None = Field(None, description="Only alerts of at least this severity.")
    alert_type: AlertKind | None = Field(None, description="Only alerts of this kind.")
    unacknowledged: bool = Field(False, description="Only those that nobody has acknowledged.")
    since_unix: float | None = Field(None, description="Not before.", allow_inf_nan=False)


class Acknowledged(BaseModel):
    """What was noted."""

    id: int
    acknowledged_by: str


@router.get("")
def list_alerts(
    request: Request, response: Response, products: Products, wanted: Annotated[Alerts, Query()]
) -> Page[AlertRow]:
    """List what people were told, the newest first."""
    after = None if wanted.cursor is None else int(decode_cursor(wanted.cursor, int)[0] or 0)
    least = wanted.least
    rows = alert_queries.list_alerts(
        products,
        severities=[one.value for one in Severity if least is not None and one.rank >= least.rank],
        alert_type=None if wanted.alert_type is None else wanted.alert_type.value,
        unacknowledged=wanted.unacknowledged,
        since_unix=wanted.since_unix,
        after=after,
        limit=wanted.limit + 1,
    )
    page = page_of(rows, wanted.limit, lambda row: (row.id,), lambda row: row)
    link_next(request, response, page.next)
    return page


@router.get("/pending")
def list_pending(products: Products) -> list[PendingAlertRow]:
    """List what is still to be sent, the oldest first, at most 500."""
    return alert_queries.list_waiting(products, limit=MAX_PAGE)


@router.post("/{alert_id}/acknowledge")
def acknowledge_alert(alert_id: int, user: Operator) -> Acknowledged:
    """Note that somebody has seen an alert, and all unseen ones of its source and kind before it."""
    return note_seen(alert_id, user)


def note_seen(alert_id: int, user: Operator) -> Acknowledged:
    """Acknowledge an alert; HTTPException 404 if there is none of that number."""
    known = False
    if abs(alert_id) <= MAX_ID:
        with get_session("products") as session:
            known = acknowledge(session, alert_id, user.name, now=time.time())
    if not known:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no alert {alert_id}")
    record(user, "acknowledge", f"alert {alert_id}")
    return Acknowledged(id=alert_id, acknowledged_by=user.name)
