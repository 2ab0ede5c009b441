"""Questions about calibration tables: which there are, which hold at a time, and their windows of validity in a row."""

import json
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import Caltable
from dsa110_contimg.database.upserts import page


@dataclass(frozen=True)
class CaltableRow:
    """One calibration table."""

    id: int
    name: str
    """Of its folder."""
    set_name: str
    table_type: str
    order_index: int
    valid_start_mjd: float
    valid_end_mjd: float
    mid_mjd: float
    created_unix: float
    active: bool
    status: str | None
    dec_deg: float | None
    calibrator: str | None
    reference_antenna: str | None
    flux_anchor: str | None
    qa_status: str | None
    figures: dict[str, float | str | bool | None]
    """What was measured of it, by name."""
    superseded_by: str | None
    notes: str | None


def list_tables(
    session: Session,
    *,
    table_type: str | None = None,
    active: bool | None = None,
    valid_at_mjd: float | None = None,
    after: tuple[float, int] | None = None,
    limit: int,
    descending: bool = True,
) -> list[CaltableRow]:
    """Return tables by the begin of their validity, the newest first unless told otherwise.

    Parameters
    ----------
    session
        Of `cal_registry`.
    valid_at_mjd
        Only tables whose window holds this time, whether or not they are on disk.
    after
        (valid_start_mjd, id) of the last row of the page before.
    """
    query = _chosen(table_type, active)
    if valid_at_mjd is not None:
        query = query.where(Caltable.valid_start_mjd <= valid_at_mjd, Caltable.valid_end_mjd >= valid_at_mjd)
    key = (Caltable.valid_start_mjd, Caltable.id)
    return [row_of(row) for row in session.scalars(page(query, key, after=after, limit=limit, descending=descending))]


def _chosen(table_type: str | None, active: bool | None) -> Select[Caltable]:
    query = select(Caltable)
    if table_type is not None:
        query = query.where(Caltable.table_type == table_type)
    if active is not None:
        query = query.where(Caltable.active == int(active))
    return query


def list_usable(session: Session, mjd: float, *, table_type: str | None = None) -> list[CaltableRow]:
    """Return the active tables that hold at a time and are on disk, in the order of their application."""
    return [row_of(row) for row in CaltableRepository.find_valid_for_mjd(session, mjd, table_type=table_type)]


def list_windows(session: Session, *, start_mjd: float, end_mjd: float, limit: int) -> list[CaltableRow]:
    """Return the tables whose windows reach into a span of time, at most *limit*, the newest of them, in order."""
    query = select(Caltable).where(Caltable.valid_start_mjd <= end_mjd, Caltable.valid_end_mjd >= start_mjd)
    newest = query.order_by(Caltable.valid_start_mjd.desc(), Caltable.id.desc()).limit(limit)
    return [row_of(row) for row in reversed(session.scalars(newest).all())]


def newest_mid_mjd(session: Session) -> float | None:
    """Return the middle of the window that ends last, or None without any table."""
    return session.scalar(select(func.max(0.5 * (Caltable.valid_start_mjd + Caltable.valid_end_mjd))))


def find_table(session: Session, table_id: int) -> tuple[CaltableRow, Path] | None:
    """Return one table and where it is, or None."""
    row = session.get(Caltable, table_id)
    return None if row is None else (row_of(row), Path(row.path))


def list_set(session: Session, set_name: str) -> list[CaltableRow]:
    """Return the tables of a set in the order of their application."""
    query = select(Caltable).where(Caltable.set_name == set_name).order_by(Caltable.order_index, Caltable.id)
    return [row_of(row) for row in session.scalars(query)]


def count_active(session: Session) -> dict[str, int]:
    """Return the number of active tables by type."""
    query = select(Caltable.table_type, func.count()).where(Caltable.active == 1).group_by(Caltable.table_type)
    return {kind: number for kind, number in session.execute(query)}  # noqa: C416 - rows are not pairs to mypy


def row_of(row: Caltable) -> CaltableRow:
    """Return a row of the registry as the interface shows it: with its name, without its path."""
    mid = row.mid_mjd if row.mid_mjd is not None else 0.5 * (row.valid_start_mjd + row.valid_end_mjd)
    return CaltableRow(
        id=row.id,
        name=Path(row.path).name,
        set_name=row.set_name,
        table_type=row.table_type,
        order_index=row.order_index,
        valid_start_mjd=row.valid_start_mjd,
        valid_end_mjd=row.valid_end_mjd,
        mid_mjd=mid,
        created_unix=row.created_at,
        active=bool(row.active),
        status=row.status,
        dec_deg=row.dec_deg,
        calibrator=row.cal_field,
        reference_antenna=row.refant,
        flux_anchor=row.flux_anchor,
        qa_status=row.qa_status,
        figures=_figures(row.quality_metrics),
        superseded_by=None if row.superseded_by is None else Path(row.superseded_by).name,
        notes=row.notes,
    )


def _figures(text: str | None) -> dict[str, float | str | bool | None]:
    """Return the plain values of a JSON object; nested ones are left to who reads the table itself."""
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {str(name): value for name, value in told.items() if value is None or isinstance(value, float | int | str)}
