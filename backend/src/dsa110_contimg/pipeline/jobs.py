"""What runs next: a pure function of the rows.

    group ─convert─▶ tile ─(solve on a transit)─ calibrate ─ image ─ measure
                       └─ mosaic group ─ mosaic ─ register ─ check ─ photometry ─ publish
                                                                        └─ variability

A job is due when its input exists and its output does not. Nothing here reads a file, a clock or a database, so
every decision is tested without running anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dsa110_contimg.options import CalibrationOptions, MosaicOptions


class Stage(StrEnum):
    """The steps, in the order in which a file meets them; earlier ones run first."""

    CONVERT = "convert"
    """Subband files become a Measurement Set."""
    SOLVE = "solve"
    """A tile that holds a calibrator's transit yields delay, bandpass and gain tables."""
    SOLVE_CATALOGUE = "solve_catalogue"
    """Without a transit, the brightest tile of a mosaic group is solved against the catalogue."""
    CALIBRATE = "calibrate"
    """The nearest valid tables are applied to a tile."""
    IMAGE = "image"
    """A calibrated tile is imaged."""
    MEASURE = "measure"
    """Known sources are measured on a tile."""
    MOSAIC = "mosaic"
    """The tiles of a group are coadded."""
    REGISTER = "register"
    """A mosaic enters the data registry, in staging."""
    CHECK = "check"
    """Validation and QA are measured and stored."""
    PHOTOMETRY = "photometry"
    """Known sources are measured on a mosaic."""
    PUBLISH = "publish"
    """A mosaic is finalized and, if nothing blocks it, published."""
    VARIABILITY = "variability"
    """Light curves, statistics and candidates follow the new measurements."""


TILE_STAGES = ("converted", "calibrated", "imaged", "photometry_complete")
ORDER = {stage: place for place, stage in enumerate(Stage)}


@dataclass(frozen=True)
class Job:
    """One unit of work."""

    stage: Stage
    subject: str

    @property
    def job_id(self) -> str:
        """The primary key of its row."""
        return f"{self.stage.value}:{self.subject}"


@dataclass(frozen=True)
class GroupState:
    """A row of ingest_queue."""

    group_id: str
    state: str


@dataclass(frozen=True)
class TileState:
    """A row of ms_index."""

    path: str
    group_id: str
    stage: str
    mid_mjd: float
    dec_deg: float
    calibrator: str | None = None
    placed_in: str | None = None
    """The mosaic group in which it is new."""

    def reached(self, stage: str) -> bool:
        """Return whether the tile is at a stage or past it."""
        return self.stage in TILE_STAGES and TILE_STAGES.index(self.stage) >= TILE_STAGES.index(stage)


@dataclass(frozen=True)
class TableState:
    """An active bandpass table of cal_registry."""

    start_mjd: float
    end_mjd: float
    dec_deg: float


@dataclass(frozen=True)
class MosaicGroupState:
    """A row of mosaic_groups with its members in order of time."""

    group_id: str
    status: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class MosaicState:
    """A row of mosaics, with its row of data_registry (None: not registered yet)."""

    mosaic_id: str
    registry_status: str | None = None
    group_id: str | None = None


@dataclass(frozen=True)
class State:
    """Everything that decides what runs next."""

    groups: Sequence[GroupState] = ()
    tiles: Sequence[TileState] = ()
    tables: Sequence[TableState] = ()
    mosaic_groups: Sequence[MosaicGroupState] = ()
    mosaics: Sequence[MosaicState] = ()
    finished: Mapping[str, str] = field(default_factory=dict)
    """Job id to 'completed' or 'failed'; jobs that may still run are absent, and completed ones whose result the
    stage of a tile tells."""
    now_mjd: float = 0.0
    end_of_data: bool = False
    """No further files are expected (`--once`): nothing waits for them."""


URGENCY = {
    **dict.fromkeys((Stage.CONVERT, Stage.SOLVE, Stage.SOLVE_CATALOGUE), 0),
    **dict.fromkeys((Stage.CALIBRATE, Stage.IMAGE, Stage.MEASURE), 1),
}
"""What calibration waits for comes first, then the tiles, which do not wait for mosaics, and these last (2)."""


def next_jobs(
    state: State, options: CalibrationOptions, mosaic: MosaicOptions, *, newest_first: bool = False
) -> list[Job]:
    """Return every job that could run now, the most urgent first: see URGENCY; then by time, then by stage."""
    converts = _converts(state)
    solves = [Job(Stage.SOLVE, tile.group_id) for tile in _tiles_to_solve(state)]
    jobs = [*converts, *solves]
    if not converts:
        jobs += _catalogue_solves(state, options)
    jobs += _calibrations(state, options, converting=bool(converts))
    jobs += [Job(Stage.IMAGE, tile.group_id) for tile in state.tiles if tile.stage == "calibrated"]
    jobs += [Job(Stage.MEASURE, tile.group_id) for tile in state.tiles if tile.stage == "imaged"]
    jobs += _mosaics(state, mosaic)
    jobs += _products(state)
    due = [job for job in dict.fromkeys(jobs) if job.job_id not in state.finished]
    due.sort(key=lambda job: ORDER[job.stage])
    due.sort(key=lambda job: job.subject.rpartition("_")[2] if URGENCY.get(job.stage) else "", reverse=newest_first)
    return sorted(due, key=lambda job: URGENCY.get(job.stage, 2))


def is_covered(tile: TileState, tables: Iterable[TableState], options: CalibrationOptions) -> bool:
    """Return whether a bandpass of the tile's strip is valid at its time."""
    return any(
        table.start_mjd <= tile.mid_mjd <= table.end_mjd
        and abs(table.dec_deg - tile.dec_deg) <= options.dec_tolerance_deg
        for table in tables
    )


def awaiting_transit(state: State, options: CalibrationOptions) -> list[TileState]:
    """Return the converted tiles for which no bandpass is valid."""
    return [t for t in state.tiles if t.stage == "converted" and not is_covered(t, state.tables, options)]


def _converts(state: State) -> list[Job]:
    converted = {tile.group_id for tile in state.tiles}
    jobs = [
        Job(Stage.CONVERT, group.group_id)
        for group in state.groups
        if group.state in ("pending", "in_progress") and group.group_id not in converted
    ]
    return [job for job in jobs if job.job_id not in state.finished]


def _tiles_to_solve(state: State) -> list[TileState]:
    return [
        tile
        for tile in state.tiles
        if tile.calibrator and tile.stage != "failed" and f"{Stage.SOLVE}:{tile.group_id}" not in state.finished
    ]


def _calibrations(state: State, options: CalibrationOptions, *, converting: bool) -> list[Job]:
    """A tile is calibrated once no work in hand could still yield a nearer bandpass for it."""
    if converting and state.end_of_data:
        return []
    jobs = []
    solving = _tiles_to_solve(state)
    for tile in state.tiles:
        if tile.stage != "converted":
            continue
        waits = any(
            abs(other.mid_mjd - tile.mid_mjd) * 24.0 <= options.bp_validity_h
            and abs(other.dec_deg - tile.dec_deg) <= options.dec_tolerance_deg
            for other in solving
        )
        if not waits and (is_covered(tile, state.tables, options) or _catalogue_solve_ended(tile, state)):
            jobs.append(Job(Stage.CALIBRATE, tile.group_id))
    return jobs


def _catalogue_solve_ended(tile: TileState, state: State) -> bool:
    return any(
        tile.path in group.members and f"{Stage.SOLVE_CATALOGUE}:{group.group_id}" in state.finished
        for group in state.mosaic_groups
    )


def _catalogue_solves(state: State, options: CalibrationOptions) -> list[Job]:
    """A group that has waited long enough for a transit is solved against the catalogue."""
    if _tiles_to_solve(state):
        return []
    wait_days = 0.0 if state.end_of_data else options.transit_wait_h / 24.0
    waiting = {t.path for t in awaiting_transit(state, options) if state.now_mjd - t.mid_mjd >= wait_days}
    return [
        Job(Stage.SOLVE_CATALOGUE, group.group_id)
        for group in state.mosaic_groups
        if waiting.intersection(group.members)
    ]


def _mosaics(state: State, options: MosaicOptions) -> list[Job]:
    tiles = {tile.path: tile for tile in state.tiles}
    jobs = []
    for group in state.mosaic_groups:
        members = [tiles[path] for path in group.members if path in tiles]
        usable = [tile for tile in members if not is_lost(tile, state)]
        ready = all(tile.reached("imaged") for tile in usable)
        if group.status == "pending" and ready and len(usable) >= options.min_tiles:
            jobs.append(Job(Stage.MOSAIC, group.group_id))
    return jobs


def is_lost(tile: TileState, state: State) -> bool:
    """Return whether a tile has failed for good on its way to an image."""
    on_the_way = (Stage.CALIBRATE, Stage.IMAGE)
    return tile.stage == "failed" or any(
        state.finished.get(f"{stage}:{tile.group_id}") == "failed" for stage in on_the_way
    )


def _products(state: State) -> list[Job]:
    """The chain behind a mosaic: each link waits for the one before it."""
    jobs = []
    for mosaic in state.mosaics:
        if mosaic.registry_status == "retracted":
            continue
        for stage in (Stage.REGISTER, Stage.CHECK, Stage.PHOTOMETRY, Stage.PUBLISH):
            job = Job(stage, mosaic.mosaic_id)
            if stage is Stage.CHECK and job.job_id not in state.finished and _measuring(mosaic, state):
                break
            jobs.append(job)
            if state.finished.get(job.job_id) != "completed":
                break
        if state.finished.get(f"{Stage.PHOTOMETRY}:{mosaic.mosaic_id}") == "completed":
            jobs.append(Job(Stage.VARIABILITY, mosaic.mosaic_id))
    return jobs


def _measuring(mosaic: MosaicState, state: State) -> bool:
    """Return whether fluxes of a mosaic's tiles are still to come, on which its check rests."""
    members = {path for group in state.mosaic_groups if group.group_id == mosaic.group_id for path in group.members}
    return any(
        tile.path in members and tile.stage == "imaged" and f"{Stage.MEASURE}:{tile.group_id}" not in state.finished
        for tile in state.tiles
    )


def plan_mosaic_groups(
    tiles: Sequence[TileState],
    grouped: Mapping[str, str],
    options: MosaicOptions,
    *,
    end_of_data: bool,
) -> list[tuple[TileState, ...]]:
    """Return the mosaic groups to form from tiles, in order of time.

    Parameters
    ----------
    tiles
        Converted tiles (or further on), in any order.
    grouped
        Paths of tiles that are already a *new* member of a group, and that group's id.
    options
        Group size, overlap, and what ends a group early.
    end_of_data
        Whether the last run of tiles has ended, too.

    Returns
    -------
    list of tuple
        Members of each group; the first `overlap` of them may belong to the group before as well.
    """
    plans: list[tuple[TileState, ...]] = []
    runs = _runs(sorted((t for t in tiles if t.stage != "failed"), key=lambda t: (t.mid_mjd, t.path)), options)
    for number, run in enumerate(runs):
        ended = end_of_data or number < len(runs) - 1
        placed = {tile.path for tile in run if tile.path in grouped}
        while len(placed) < len(run):
            first = next(place for place, tile in enumerate(run) if tile.path not in placed)
            start = first - min(options.overlap, first)
            members = run[start : start + options.tiles]
            fresh = {tile.path for tile in members} - placed
            if len(members) < options.tiles and not (ended and len(fresh) >= options.min_tiles):
                break
            plans.append(tuple(members))
            placed |= fresh
    return plans


def _runs(tiles: Sequence[TileState], options: MosaicOptions) -> list[list[TileState]]:
    """Split tiles in order of time where the sky or the declination jumps."""
    runs: list[list[TileState]] = []
    for tile in tiles:
        last = runs[-1][-1] if runs else None
        if (
            last is None
            or (tile.mid_mjd - last.mid_mjd) * 1440.0 > options.max_gap_min
            or abs(tile.dec_deg - last.dec_deg) > options.max_dec_step_deg
        ):
            runs.append([])
        runs[-1].append(tile)
    return runs
