"""Which tables are applied to a tile, and what is to be said of tiles whose tables have been superseded.

`calibration.selection` decides on facts; here they come from the rows of the registry.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import false, func, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.calibration import selection
from dsa110_contimg.calibration.selection import Choice, TableFacts, TileFacts
from dsa110_contimg.database import get_session
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import Caltable, MSIndex
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.context import Context, mid_time, pointing
from dsa110_contimg.visibilities import Visibilities

logger = logging.getLogger(__name__)
LOOK_BACK_DAYS = 30.0
"""Tables farther away in time explain nothing about a tile."""


def bandpass_for(context: Context, tile: MSIndex, vis: Visibilities) -> list[Caltable]:
    """Return the delay and the bandpass that a tile is calibrated with.

    Raises
    ------
    CalibrationError
        If no bandpass fits; the sentence says why the nearest one does not.
    """
    choice, rows = choose_bandpass(tile_facts(tile, vis), context.options.calibration)
    if choice.table is None:
        raise CalibrationError(
            f"no bandpass may be applied to {tile.group_id} ({choice.state}): {choice.reason}; wait for a transit on "
            f"its strip, or solve it against the catalogue"
        )
    chosen = rows[choice.table.path]
    below = json.loads(chosen.solver_params or "{}").get("applied")
    solved_with = Caltable.source_ms_path == chosen.source_ms_path if below is None else Caltable.path.in_(below)
    with get_session("cal_registry", read_only=True) as session:
        delays = session.scalars(select(Caltable).where(Caltable.table_type == "K", solved_with)).all()
    return [*delays, chosen]


def choose_bandpass(wanted: TileFacts, options: CalibrationOptions) -> tuple[Choice, dict[str, Caltable]]:
    """Return which bandpass fits a tile and why others do not, and the rows of all by path."""
    with get_session("cal_registry") as session:
        rows = CaltableRepository.list_near(session, wanted.mjd, table_type="BP", reach_days=LOOK_BACK_DAYS)
    return selection.choose(map(facts, rows), wanted, options), {row.path: row for row in rows}


def tile_facts(tile: MSIndex, vis: Visibilities) -> TileFacts:
    """Return what a table has to fit."""
    used = {vis.antenna_names[i] for i in np.union1d(vis.antenna1, vis.antenna2)}
    band = float(vis.freq_hz[0]), float(vis.freq_hz[-1])
    return TileFacts(mid_time(tile), pointing(tile).dec_deg, frozenset(used), band)


def facts(row: Caltable) -> TableFacts:
    """Return what a row says of its table."""
    told = json.loads(row.solver_params or "{}")
    band = told.get("band_hz")
    return TableFacts(
        path=row.path,
        start_mjd=row.valid_start_mjd,
        end_mjd=row.valid_end_mjd,
        mid_mjd=row.mid_mjd if row.mid_mjd is not None else 0.5 * (row.valid_start_mjd + row.valid_end_mjd),
        dec_deg=row.dec_deg,
        created_at=row.created_at,
        flux_anchor=row.flux_anchor,
        antennas=frozenset(told.get("antennas", ())),
        band_hz=None if band is None else (float(band[0]), float(band[1])),
    )


def own_gain(tile: MSIndex, below: Sequence[Caltable]) -> Caltable | None:
    """Return the gain that was solved on a tile itself, on top of the same tables, if there is one."""
    with get_session("cal_registry", read_only=True) as session:
        own = select(Caltable).where(Caltable.source_ms_path == tile.path, Caltable.active == 1)
        rows = session.scalars(
            own.where(Caltable.order_index == naming.ORDER_INDEX["G"]).order_by(Caltable.id.desc())
        ).all()
    wanted = [row.path for row in below]
    return next((row for row in rows if json.loads(row.solver_params or "{}").get("applied", wanted) == wanted), None)


def usable_gain(context: Context, tile: MSIndex, own: Caltable, below: Sequence[Caltable]) -> Caltable:
    """Return a tile's own gain, or, where its quality failed, the nearest one that was solved on the same tables.

    Raises
    ------
    CalibrationError
        If its own failed and no other holds at its time.
    """
    if own.active:
        return own
    with get_session("cal_registry") as session:
        valid = CaltableRepository.find_valid_for_mjd(session, mid_time(tile), table_type="GP")
    wanted = [row.path for row in below]
    rows = {row.path: row for row in valid if json.loads(row.solver_params or "{}").get("applied") == wanted}
    options = context.options.calibration
    choice = selection.choose(map(facts, rows.values()), TileFacts(mid_time(tile), pointing(tile).dec_deg), options)
    if choice.table is None:
        raise CalibrationError(
            f"the phases of {tile.group_id} cannot be used ({own.notes}) and no other gains hold within "
            f"{options.g_validity_min:.0f} min: look at {naming.page_of_caltable(Path(own.path))}"
        )
    logger.warning("the phases of %s cannot be used (%s): those of %s are", tile.group_id, own.notes, choice.table.path)
    return rows[choice.table.path]


def doubtful_tables(products: Session, options: CalibrationOptions) -> dict[str, str]:
    """Return the bandpasses on which tiles stand for want of a better one, or no longer should, and what to do.

    The tiles of the last LOOK_BACK_DAYS count.
    """
    newest = products.scalar(select(func.max(MSIndex.mid_mjd)))
    if newest is None:
        return {}
    with get_session("cal_registry", read_only=True) as session:
        recent = select(Caltable).where(
            Caltable.table_type == "BP",
            Caltable.valid_end_mjd >= newest - LOOK_BACK_DAYS,
            Caltable.dec_deg.is_not(None),
        )
        rows = session.scalars(recent.order_by(Caltable.valid_start_mjd, Caltable.id)).all()
    active = [facts(row) for row in rows if row.active]
    told = {row.path: _doubt(products, row, active, options) for row in rows}
    return {path: sentence for path, sentence in told.items() if sentence is not None}


def _doubt(products: Session, row: Caltable, active: Sequence[TableFacts], options: CalibrationOptions) -> str | None:
    """Return what is to be said of a bandpass on which tiles stand; None if it is right, or nothing stands on it."""
    spans = [selection.better_span(facts(row), rival, options) for rival in active if rival.path != row.path]
    if row.flux_anchor != selection.CATALOGUE and row.superseded_by is None and not any(spans):
        return None
    within = MSIndex.mid_mjd.between(row.valid_start_mjd, row.valid_end_mjd)
    on_it = select(func.count()).where(within, MSIndex.caltables.contains(row.path, autoescape=True))
    number = products.scalar(on_it) or 0
    if not number:
        return None
    tiles = f"{number} tile{'s stand' if number > 1 else ' stands'} on it"
    redo = f"`contimg calibrators redo {row.path}`"
    if row.superseded_by is not None:
        return f"superseded by {row.superseded_by}, and {tiles}: {redo}"
    nearer = or_(false(), *(MSIndex.mid_mjd.between(*span) for span in spans if span is not None))
    better = products.scalar(on_it.where(nearer)) or 0
    if better:
        return f"{tiles}, and another fits {better} of them better: {redo}"
    if row.flux_anchor == selection.CATALOGUE:
        return f"catalogue_anchored, and {tiles}; a transit of its strip within a day supersedes it"
    return None
