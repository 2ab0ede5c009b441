"""Which calibration tables hold when: windows are symmetrical about the solution, and the nearest one wins.

A table that arrives later but lies nearer in time is preferred from then on. A path is never registered twice:
a new solve gets a new path. A table that is gone from disk is retired when a look-up meets it.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import Caltable
from dsa110_contimg.database.session import may_write
from dsa110_contimg.database.upserts import list_page
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.naming import ORDER_INDEX

logger = logging.getLogger(__name__)

GAIN_TYPES = frozenset({"G", "GA", "GP"})
"""What a look-up of any gain type accepts; a look-up of '2G' accepts these too when there is no 2G."""


def accepted_types(table_type: str) -> tuple[frozenset[str], ...]:
    """Return the table types that satisfy a look-up: sets in order of preference."""
    if table_type not in ORDER_INDEX:
        raise CalibrationError(f"{table_type!r} is no type of calibration table; there are {', '.join(ORDER_INDEX)}")
    if table_type in GAIN_TYPES:
        return frozenset({table_type}), GAIN_TYPES
    return (frozenset({"2G"}), GAIN_TYPES) if table_type == "2G" else (frozenset({table_type}),)


class CaltableRepository:
    """Registry of calibration tables; every method takes a session of `cal_registry` first."""

    @staticmethod
    def register(
        session: Session,
        *,
        path: str,
        table_type: str,
        set_name: str,
        mid_mjd: float,
        half_width_days: float,
        quality: Mapping[str, object] | None = None,
        **provenance: str | float | None,
    ) -> Caltable:
        """Register a table that is on disk, valid for `mid_mjd ± half_width_days` (both ends included).

        Parameters
        ----------
        quality
            Measured figures, stored as JSON.
        provenance
            Further columns: cal_field, refant, flux_anchor, source_ms_path, dec_deg, qa_status, notes, created_at,
            solver_command, solver_version, solver_params.
            A table with qa_status 'failed' is registered inactive.

        Raises
        ------
        CalibrationError
            If the table is not on disk, its type is unknown, or its path belongs to another solve.
        """
        path = str(Path(path).resolve())
        accepted_types(table_type)
        if not Path(path).exists():
            raise CalibrationError(f"calibration table {path} is not on disk, so it cannot be registered")
        known = session.scalar(select(Caltable).where(Caltable.path == path))
        if known is not None:
            if (known.table_type, known.mid_mjd) != (table_type, mid_mjd):
                raise CalibrationError(f"{path} is registered as another solve: write each solve to a path of its own")
            return known
        failed = provenance.get("qa_status") == "failed"
        row = Caltable(
            set_name=CaltableRepository._free_set_name(session, set_name, table_type),
            path=path,
            table_type=table_type,
            order_index=ORDER_INDEX[table_type],
            valid_start_mjd=mid_mjd - half_width_days,
            valid_end_mjd=mid_mjd + half_width_days,
            mid_mjd=mid_mjd,
            active=0 if failed else 1,
            status="failed" if failed else "active",
            quality_metrics=None if quality is None else json.dumps(dict(quality), sort_keys=True),
            **({"created_at": time.time()} | provenance),
        )
        session.add(row)
        session.flush()
        return row

    @staticmethod
    def _free_set_name(session: Session, set_name: str, table_type: str) -> str:
        query = select(Caltable.set_name).where(Caltable.table_type == table_type)
        taken, name, number = set(session.scalars(query)), set_name, 1
        while name in taken:
            number += 1
            name = f"{set_name}_{number}"
        return name

    @staticmethod
    def find_valid_for_mjd(
        session: Session,
        mjd: float,
        *,
        table_type: str | None = None,
        dec_deg: float | None = None,
        dec_tolerance_deg: float | None = None,
    ) -> list[Caltable]:
        """Return the active tables that hold at a time and are on disk, in the order of application.

        Within one order of application the table nearest in time comes first, the newest first among equals; of a
        given type only the kinds that satisfy it are returned, its own kind before the others.

        Parameters
        ----------
        dec_deg, dec_tolerance_deg
            With both, tables solved on a strip farther away, or on an unknown one, are left out.
        """
        query = select(Caltable).where(
            Caltable.active == 1, Caltable.valid_start_mjd <= mjd, Caltable.valid_end_mjd >= mjd
        )
        rows = [row for row in session.scalars(query) if CaltableRepository._on_disk(session, row)]
        if dec_deg is not None and dec_tolerance_deg is not None:
            rows = [r for r in rows if r.dec_deg is not None and abs(r.dec_deg - dec_deg) <= dec_tolerance_deg]
        if table_type is not None:
            choices = [[r for r in rows if r.table_type in kinds] for kinds in accepted_types(table_type)]
            rows = next((choice for choice in choices if choice), [])
        return sorted(rows, key=lambda r: (r.order_index, abs(_mid(r) - mjd), -r.created_at, -r.id))

    @staticmethod
    def list_near(session: Session, mjd: float, *, table_type: str, reach_days: float) -> list[Caltable]:
        """Return the active tables of a type that are on disk and hold at most so many days from a time."""
        near = (Caltable.valid_start_mjd <= mjd + reach_days, Caltable.valid_end_mjd >= mjd - reach_days)
        query = select(Caltable).where(Caltable.active == 1, Caltable.table_type == table_type, *near)
        rows = session.scalars(query.order_by(Caltable.id)).all()
        return [row for row in rows if CaltableRepository._on_disk(session, row)]

    @staticmethod
    def list_solved_on(session: Session, ms_path: str) -> list[Caltable]:
        """Return the active tables that were solved on a Measurement Set, in the order of their solves."""
        query = select(Caltable).where(Caltable.active == 1, Caltable.source_ms_path == ms_path)
        return list(session.scalars(query.order_by(Caltable.id)))

    @staticmethod
    def _on_disk(session: Session, row: Caltable) -> bool:
        if Path(row.path).exists():
            return True
        logger.warning("calibration table %s is gone from disk; it is retired", row.path)
        # A look-up may run in a session that cannot write: the row is then only left out.
        if may_write(session):
            CaltableRepository.set_status(session, row.path, "retired")
        return False

    @staticmethod
    def set_status(session: Session, path: str, status: str, *, superseded_by: str | None = None) -> bool:
        """Set 'active', 'retired' or 'failed', and `active` with it; False when there is no such table."""
        values: dict[str, object] = {"status": status, "active": int(status == "active")}
        if superseded_by is not None:
            values["superseded_by"] = superseded_by
        changed = session.execute(
            update(Caltable).where(Caltable.path == str(path)).values(**values).returning(Caltable.id)
        ).first()
        return changed is not None

    @staticmethod
    def list_all(
        session: Session,
        *,
        table_type: str | None = None,
        active_only: bool = False,
        after: tuple[float, int] | None = None,
        limit: int | None = None,
    ) -> list[Caltable]:
        """Return tables in time order; `after` is (valid_start_mjd, id) of the last one of the page before."""
        query = select(Caltable)
        if table_type is not None:
            query = query.where(Caltable.table_type == table_type)
        if active_only:
            query = query.where(Caltable.active == 1)
        return list_page(session, query, (Caltable.valid_start_mjd, Caltable.id), after=after, limit=limit)


def _mid(row: Caltable) -> float:
    return row.mid_mjd if row.mid_mjd is not None else 0.5 * (row.valid_start_mjd + row.valid_end_mjd)
