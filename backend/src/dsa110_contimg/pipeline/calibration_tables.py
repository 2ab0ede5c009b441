"""How calibration tables enter the registry.

A set of tables is solved on one tile and registered whole, in one transaction, with everything that tells how it was
made. Beside each table lies a page to judge it by, `<table>.png`. When a calibrator's set arrives, catalogue-anchored
sets that it makes needless are retired in the same transaction and name it as what supersedes them.
"""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.calibration import quality, selection
from dsa110_contimg.calibration.quality import SolutionCheck
from dsa110_contimg.database import get_session
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import Caltable, MSIndex, QAArtifact
from dsa110_contimg.database.repositories import QARepository
from dsa110_contimg.formats import caltable
from dsa110_contimg.options import CalibrationOptions, PipelineOptions
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.rows import check_rows
from dsa110_contimg.pipeline.table_choice import LOOK_BACK_DAYS, facts
from dsa110_contimg.provenance import software
from dsa110_contimg.qa.checks import Check, Verdict
from dsa110_contimg.qa.solution_plots import solutions_page
from dsa110_contimg.visibilities import Gains

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Table:
    """A table on its way into the registry."""

    path: Path
    gains: Gains
    checks: list[SolutionCheck]
    applied: tuple[str, ...]
    """Paths of the tables below it."""


@dataclass(frozen=True)
class SolvedSet:
    """Tables that have entered the registry, and what a person and the quality page see of them."""

    rows: list[Caltable]
    checks: list[Check]
    pages: list[Path]


def register(context: Context, tile: MSIndex, solutions: Sequence[Gains], below: Sequence[str] = ()) -> SolvedSet:
    """Write tables and their pages, and enter the set into the registry in one transaction.

    Parameters
    ----------
    solutions
        In the order in which they were solved, each on top of the ones before it.
    below
        Paths of the tables that had been applied before the first of them was solved.
    """
    applied, tables = list(below), []
    for gains in solutions:
        path = _save_table(context, tile, gains, applied)
        # What is on disk is judged: an attempt that finds it there says the same of it, to the last bit.
        checks = quality.assess([caltable.load(path)], context.options.calibration)
        tables.append(_Table(path, gains, checks, tuple(applied)))
        applied.append(str(path.resolve()))
    verdict = quality.worst([check for table in tables for check in table.checks])
    pages = [_draw(naming.page_of_caltable(table.path), table.gains, table.checks, table.path.name) for table in tables]
    with get_session("cal_registry") as session:
        rows = [_enter(session, context, tile, table, verdict) for table in tables]
        for row in rows:
            _supersede(session, row, context.options.calibration)
    return SolvedSet(rows, [_as_check(check) for table in tables for check in table.checks], pages)


def registered(row: Caltable, options: CalibrationOptions) -> SolvedSet:
    """Return a table that an attempt before this one entered, judged again; its page is drawn if it is gone."""
    path = Path(row.path)
    gains, page = caltable.load(path), naming.page_of_caltable(path)
    checks = quality.assess([gains], options)
    if not page.exists():
        _draw(page, gains, checks, path.name)
    return SolvedSet([row], [_as_check(check) for check in checks], [page])


def store_quality(session: Session, tile: MSIndex, solved: SolvedSet) -> None:
    """Store the checks and pages of a set, in the transaction of products that ends its job."""
    subject = tile.group_id or naming.group_id_of_ms(Path(tile.path))
    QARepository.store(session, check_rows(subject, solved.checks))
    store_pages(session, subject, solved.pages)


def store_pages(session: Session, group_id: str, pages: Sequence[Path], category: str = "calibration") -> None:
    """Enter pictures of a group into `qa_artifacts`; one that is there stays."""
    for page in pages:
        columns = {"name": page.name, "path": str(page), "type": "plot", "category": category}
        row = insert(QAArtifact).values(group_id=group_id, created_at=time.time(), **columns)
        session.execute(row.on_conflict_do_nothing())


def _save_table(context: Context, tile: MSIndex, gains: Gains, applied: Sequence[str]) -> Path:
    """Write a caltable to a path of its own, and return it.

    A table that is registered stays: a solve with the same options on top of the same tables is the same one, any
    other takes a new name. What a killed attempt left without a row is written anew.
    """
    with get_session("cal_registry", read_only=True) as session:
        rows = session.execute(
            select(Caltable.path, Caltable.solver_params).where(Caltable.source_ms_path == tile.path)
        )
        registered = {path: json.loads(params or "{}") for path, params in rows}
    this = {"applied": list(applied), "options": _solver_options(context.options)}
    attempt = 1
    while True:
        path = naming.caltable_path(context.stage_dir, Path(tile.path), gains.kind, attempt)
        told = registered.get(str(path.resolve()))
        if told is None:
            shutil.rmtree(path, ignore_errors=True)
            caltable.save(path, gains)
            return path
        if all(told.get(name, value) == value for name, value in this.items()):
            return path
        attempt += 1


def _solver_options(options: PipelineOptions) -> dict[str, object]:
    """Return what decides the outcome of a solve, as a row holds it."""
    told: dict[str, object] = json.loads(
        json.dumps({"flagging": asdict(options.flagging), "calibration": asdict(options.calibration)})
    )
    return told


def draw_page(path: Path, gains: Gains, options: CalibrationOptions, *, title: str) -> str:
    """Draw the page of a table and return its verdict."""
    checks = quality.assess([gains], options)
    _draw(path, gains, checks, title)
    return quality.worst(checks)


def _draw(path: Path, gains: Gains, checks: Sequence[SolutionCheck], title: str) -> Path:
    present = quality.present_antennas(gains).tolist()
    return solutions_page(path, gains, [_as_check(check) for check in checks], present=present, title=title)


def _as_check(check: SolutionCheck) -> Check:
    """Return a check of a table as one that rows and pages hold."""
    return Check(check.name, check.value, check.warning, check.failure, Verdict(check.verdict), check.reason)


def _enter(session: Session, context: Context, tile: MSIndex, table: _Table, verdict: str) -> Caltable:
    """Register one table, valid about its middle, with what it was made from and how it was judged."""
    gains, options, program = table.gains, context.options.calibration, software()
    half_h = options.bp_validity_h if gains.kind in ("K", "BP") else options.g_validity_min / 60.0
    mid = float(gains.time_mjd.mean())
    commit = f" {program['commit']}{'-dirty' if program['dirty'] else ''}" if program["commit"] else ""
    return CaltableRepository.register(
        session,
        path=str(table.path),
        table_type=gains.kind,
        set_name=naming.caltable_set_name(gains.kind, gains.source, mid),
        mid_mjd=mid,
        half_width_days=half_h / 24.0,
        quality={check.name: check.value for check in table.checks},
        cal_field=gains.source,
        refant=gains.reference_antenna,
        flux_anchor=gains.flux_anchor,
        source_ms_path=tile.path,
        dec_deg=gains.dec_deg,
        qa_status=verdict,
        solver_command=context.job_id,
        solver_version=f"{program['name']} {program['version']}{commit}",
        solver_params=json.dumps(_told(table, context.options), sort_keys=True),
        notes=_notes(table.checks),
        created_at=time.time(),
    )


def _told(table: _Table, options: PipelineOptions) -> dict[str, object]:
    """Return what a later choice has to know of a table, and the options that it was solved with."""
    gains = table.gains
    solved = np.asarray((~gains.flags).any(axis=(0, 2, 3)))
    band = [float(gains.freq_hz[0]), float(gains.freq_hz[-1])] if gains.freq_hz.size > 1 else None
    return {
        "antennas": [name for name, good in zip(gains.antenna_names, solved, strict=True) if good],
        "band_hz": band,
        "applied": list(table.applied),
        "solved_on": gains.metadata,
        "options": _solver_options(options),
    }


def _notes(checks: Sequence[SolutionCheck]) -> str:
    """Return what is not as it should be, in words."""
    found = [f"{check.name} {check.verdict}: {check.reason}" for check in checks if check.verdict != "passed"]
    return "; ".join(found) or "every check passed"


def _supersede(session: Session, new: Caltable, options: CalibrationOptions) -> None:
    """Retire what a table that has just been registered takes the place of; it is named as what supersedes them."""
    if not new.active:
        return
    if new.order_index == naming.ORDER_INDEX["G"]:
        on_tile = CaltableRepository.list_solved_on(session, new.source_ms_path or "")
        old = [row.path for row in on_tile if row.order_index == new.order_index and row.path != new.path]
    elif new.table_type == "BP" and new.mid_mjd is not None:
        reach = CaltableRepository.list_near(session, new.mid_mjd, table_type="BP", reach_days=LOOK_BACK_DAYS)
        replaced = selection.superseded_by(facts(new), map(facts, reach), options)
        tiles = {row.source_ms_path for row in reach if row.path in {table.path for table in replaced}}
        sets = [row for tile in tiles if tile for row in CaltableRepository.list_solved_on(session, tile)]
        old = [row.path for row in sets if row.table_type in ("K", "BP") and row.flux_anchor == selection.CATALOGUE]
    else:
        return
    for path in old:
        CaltableRepository.set_status(session, path, "retired", superseded_by=new.path)
        logger.info("%s is superseded by %s", path, new.path)
