"""Questions about where the dishes looked: one row a tile, known by the unix time of its middle."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import PointingHistory
from dsa110_contimg.database.upserts import page


@dataclass(frozen=True)
class PointingRow:
    """Where the dishes looked in the middle of a tile."""

    time_unix: float
    mjd: float | None
    ra_deg: float
    dec_deg: float
    alt_deg: float | None
    az_deg: float | None
    lst_hours: float | None
    field_name: str | None


def list_pointings(
    session: Session,
    *,
    start_unix: float | None = None,
    end_unix: float | None = None,
    after: float | None = None,
    limit: int,
    descending: bool = True,
) -> list[PointingRow]:
    """Return pointings in a span of time, the newest first unless told otherwise; the session is of `products`."""
    query = select(PointingHistory)
    if start_unix is not None:
        query = query.where(PointingHistory.timestamp >= start_unix)
    if end_unix is not None:
        query = query.where(PointingHistory.timestamp <= end_unix)
    key = None if after is None else (after,)
    rows = session.scalars(page(query, (PointingHistory.timestamp,), after=key, limit=limit, descending=descending))
    return [
        PointingRow(
            time_unix=row.timestamp,
            mjd=row.mjd,
            ra_deg=row.ra_deg,
            dec_deg=row.dec_deg,
            alt_deg=row.alt_deg,
            az_deg=row.az_deg,
            lst_hours=row.lst_hours,
            field_name=row.field_name,
        )
        for row in rows
    ]
