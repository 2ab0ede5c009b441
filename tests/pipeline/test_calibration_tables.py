"""How tables enter the registry, which one a tile gets, and what happens when a better one arrives later."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.calibration.conftest import blank_tile

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.models import Caltable, Job, MSIndex, QAArtifact, QACheck
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.errors import CalibrationError, PipelineError
from dsa110_contimg.options import CalibrationOptions, PipelineOptions
from dsa110_contimg.pipeline import calibration_tables
from dsa110_contimg.pipeline.calibration_tables import SolvedSet, register, registered, store_quality
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.recalibrate import recalibrate
from dsa110_contimg.pipeline.status import overview
from dsa110_contimg.pipeline.table_choice import bandpass_for, own_gain, usable_gain
from dsa110_contimg.qa.solution_plots import solutions_page
from dsa110_contimg.visibilities import Gains, Visibilities

MID = 60700.2
N_ANT, N_CHAN = 8, 32
FREQ = np.linspace(1314e6, 1496e6, N_CHAN)


def gains(kind: str, mjd: float = MID, *, anchor: str = "3C48", dec: float = 33.2, bad: bool = False) -> Gains:
    rng = np.random.default_rng(4)
    n_freq = N_CHAN if kind == "BP" else 1
    shape = (1, N_ANT, n_freq, 2)
    level = 0.07 if kind == "BP" else 1.0
    values = level * np.exp(1j * np.broadcast_to(rng.uniform(-3.0, 3.0, (1, N_ANT, 1, 1)), shape))
    values = values * (1 + 0.01 * rng.normal(size=shape))
    flags = np.zeros(shape, bool)
    flags[:, : N_ANT // 2] = bad
    return Gains(
        kind=kind,
        time_mjd=np.array([mjd]),
        freq_hz=FREQ if kind == "BP" else np.array([1405e6]),
        values=(20.0 * np.abs(values) / level).astype(complex) if kind == "K" else values,
        flags=flags,
        snr=np.full(shape, 80.0),
        reference_antenna="1",
        antenna_names=[str(i + 1) for i in range(N_ANT)],
        antenna_itrf_m=np.ones((N_ANT, 3)),
        source=anchor,
        flux_anchor="none" if kind == "GP" else anchor,
        dec_deg=dec,
        metadata={"present_antennas": ",".join(str(i + 1) for i in range(N_ANT))},
    )


def visibilities(mjd: float = MID) -> Visibilities:
    vis = blank_tile(N_ANT - 1, 2, N_CHAN, np.random.default_rng(1), mjd)
    return replace(vis, freq_hz=FREQ)


@pytest.fixture
def context(house: Settings, monkeypatch: pytest.MonkeyPatch) -> Context:
    """An attempt at a job whose pages are empty: they take longer than everything else here."""
    monkeypatch.setattr(calibration_tables, "solutions_page", lambda path, *_args, **_columns: path)
    return Context(house, PipelineOptions(), "solve:here", 1)


def make_tile(context: Context, name: str, mjd: float = MID, dec: float = 33.2) -> MSIndex:
    path = context.stage_dir / "ms" / f"{name}.ms"
    path.mkdir(parents=True)
    with get_session("products") as session:
        columns = {"mid_mjd": mjd, "start_mjd": mjd - 0.002, "end_mjd": mjd + 0.002, "pointing_ra_deg": 24.0}
        ms_index_upsert(
            session, str(path), group_id=name, status="ok", stage="converted", pointing_dec_deg=dec, **columns
        )
    return context.tile(name)


def solve_set(
    context: Context, tile: MSIndex, mjd: float = MID, *, anchor: str = "3C48", dec: float = 33.2, bad: bool = False
) -> SolvedSet:
    last = "GP" if anchor == "catalogue" else "G"
    return register(context, tile, [gains(kind, mjd, anchor=anchor, dec=dec, bad=bad) for kind in ("K", "BP", last)])


def calibrated_with(tile: MSIndex, *rows: Caltable) -> None:
    with get_session("products") as session:
        paths = json.dumps([row.path for row in rows])
        ms_index_upsert(session, tile.path, stage="photometry_complete", caltables=paths, cal_applied=1)
        for stage in ("calibrate", "image", "measure"):
            token = leases.start_jobs(session, [(stage, tile.group_id or "")], "me:1:1", 60.0, 1.0)
            leases.complete_job(session, *next(iter(token.items())), now=2.0)


def row_of(path: str) -> Caltable:
    with get_session("cal_registry", read_only=True) as session:
        return session.scalars(select(Caltable).where(Caltable.path == path)).one()


def test_a_set_is_registered_with_everything_that_tells_how_it_was_made(context: Context) -> None:
    tile = make_tile(context, "2025-01-15T12:30:00")
    solved = solve_set(context, tile)
    assert [row.table_type for row in solved.rows] == ["K", "BP", "G"]
    for row in solved.rows:
        empty = {column.name for column in Caltable.__table__.columns if getattr(row, column.name) is None}
        assert empty == {"superseded_by"}, "nothing supersedes it yet"
        assert (row.qa_status, row.active, row.source_ms_path) == ("passed", 1, tile.path)
    k, bandpass, gain = solved.rows
    told = json.loads(bandpass.solver_params or "")
    assert told["antennas"] == [str(i + 1) for i in range(N_ANT)]
    assert told["band_hz"] == [FREQ[0], FREQ[-1]]
    assert told["options"]["calibration"]["min_snr"] == CalibrationOptions().min_snr
    assert told["applied"] == [k.path]
    assert json.loads(gain.solver_params or "")["applied"] == [k.path, bandpass.path]
    hours = [24.0 * (row.valid_end_mjd - row.valid_start_mjd) for row in solved.rows]
    assert hours == pytest.approx([48.0, 48.0, 1.0], abs=1e-4)


def test_each_table_has_a_page_and_its_checks(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_tables, "solutions_page", solutions_page)
    tile = make_tile(context, "2025-01-15T12:30:00")
    solved = solve_set(context, tile)
    for _again in range(2):
        with get_session("products") as session:
            store_quality(session, tile, solved)
    with get_session("products", read_only=True) as session:
        pages = session.scalars(select(QAArtifact).order_by(QAArtifact.id)).all()
        names = set(session.scalars(select(QACheck.name).where(QACheck.subject == tile.group_id)))
    assert [Path(page.path).name for page in pages] == [f"{Path(row.path).name}.png" for row in solved.rows]
    assert all(Path(page.path).read_bytes().startswith(b"\x89PNG") for page in pages)
    assert {"K.median_snr", "BP.flagged_fraction", "BP.interference", "G.amplitude_range"} <= names


def test_solving_again_finds_the_same_tables_and_overwrites_none(context: Context) -> None:
    tile = make_tile(context, "2025-01-15T12:30:00")
    first = solve_set(context, tile)
    written = {row.path: Path(row.path).stat().st_mtime_ns for row in first.rows}
    again = solve_set(context, tile)
    assert [row.id for row in again.rows] == [row.id for row in first.rows]
    assert {row.path: Path(row.path).stat().st_mtime_ns for row in again.rows} == written


def test_a_set_that_fails_its_checks_is_never_applied(context: Context) -> None:
    tile = make_tile(context, "2025-01-15T12:30:00")
    solved = solve_set(context, tile, bad=True)
    assert {(row.status, row.active, row.qa_status) for row in solved.rows} == {("failed", 0, "failed")}
    assert "flagged_fraction failed: 0.5 is above 0.3" in (solved.rows[1].notes or "")
    with pytest.raises(CalibrationError, match=r"awaiting_transit.*no bandpass was ever solved"):
        bandpass_for(context, tile, visibilities())


def test_a_set_that_failed_is_solved_anew_when_the_options_change(context: Context) -> None:
    tile = make_tile(context, "2025-01-15T12:30:00")
    failed = solve_set(context, tile, bad=True)
    assert [row.id for row in solve_set(context, tile).rows] == [row.id for row in failed.rows], "nothing has changed"
    changed = replace(context.options, calibration=replace(context.options.calibration, min_snr=4.0))
    again = solve_set(replace(context, options=changed), tile)
    assert [Path(row.path).name for row in again.rows] == [f"{tile.group_id}_{kind}cal.2" for kind in ("k", "bp", "g")]
    assert [row.path for row in bandpass_for(context, tile, visibilities())] == [row.path for row in again.rows[:2]]
    assert {row_of(row.path).status for row in failed.rows} == {"failed"}


def test_a_tile_gets_the_nearest_set_that_fits_and_its_own_delays(context: Context) -> None:
    near, far = (make_tile(context, f"2025-01-1{day}T12:30:00", MID + day - 5) for day in (5, 6))
    sets = [solve_set(context, tile, tile.mid_mjd or 0.0) for tile in (near, far)]
    tile = make_tile(context, "2025-01-15T20:30:00", MID + 0.3)
    used = bandpass_for(context, tile, visibilities())
    assert [row.path for row in used] == [row.path for row in sets[0].rows[:2]]


def test_tables_of_another_strip_array_or_band_are_refused_with_the_reason(context: Context) -> None:
    solve_set(context, make_tile(context, "2025-01-15T12:30:00"))
    south = make_tile(context, "2025-01-15T13:30:00", MID + 0.04, dec=16.1)
    with pytest.raises(CalibrationError, match=r"2025-01-15T12:30:00_bpcal, is of another strip: declination 33.20"):
        bandpass_for(context, south, visibilities())
    tile = make_tile(context, "2025-01-15T12:35:00", MID + 0.004)
    foreign = replace(visibilities(), antenna_names=[f"ea{i:02d}" for i in range(N_ANT)])
    with pytest.raises(CalibrationError, match="has solutions of 0% of its antennas"):
        bandpass_for(context, tile, foreign)
    shifted = replace(visibilities(), freq_hz=FREQ - 200e6)
    with pytest.raises(CalibrationError, match=r"covers 1314.0 to 1496.0 MHz, and the tile 1114.0 to 1296.0 MHz"):
        bandpass_for(context, tile, shifted)
    late = make_tile(context, "2025-01-17T12:30:00", MID + 2.0)
    with pytest.raises(CalibrationError, match=r"\(stale\).*24.0 h outside the window"):
        bandpass_for(context, late, visibilities())


def test_a_transit_that_arrives_later_supersedes_the_catalogue(context: Context) -> None:
    tile = make_tile(context, "2025-01-15T12:30:00")
    catalogue = solve_set(context, tile, anchor="catalogue")
    assert {row.qa_status for row in catalogue.rows} == {"warning"}
    used = bandpass_for(context, tile, visibilities())
    calibrated_with(tile, *used, catalogue.rows[2])
    (bandpass, sentence), *_ = overview().calibration.items()
    assert bandpass == catalogue.rows[1].path
    assert sentence.startswith("catalogue_anchored, and 1 tile stands on it")

    late = make_tile(context, "2025-01-16T06:30:00", MID + 0.75)
    transit = solve_set(context, late, MID + 0.75)
    rows = [row_of(row.path) for row in catalogue.rows]
    by = transit.rows[1].path
    assert [(row.status, row.active, row.superseded_by) for row in rows] == [
        ("retired", 0, by),
        ("retired", 0, by),
        ("active", 1, None),
    ]
    assert [row.path for row in bandpass_for(context, tile, visibilities())] == [row.path for row in transit.rows[:2]]
    assert overview().calibration == {
        bandpass: f"superseded by {by}, and 1 tile stands on it: `contimg calibrators redo {bandpass}`"
    }


def test_a_nearer_transit_that_comes_later_marks_the_tiles_that_it_fits_better(context: Context) -> None:
    first = solve_set(context, make_tile(context, "2025-01-15T12:30:00"))
    early, late = (make_tile(context, f"2025-01-15T{hour}:30:00", MID + days) for hour, days in ((15, 0.1), (23, 0.9)))
    for tile in (early, late):
        calibrated_with(tile, *bandpass_for(context, tile, visibilities()))
    assert overview().calibration == {}
    solve_set(context, make_tile(context, "2025-01-15T13:30:00", MID + 0.97, dec=16.1), MID + 0.97, dec=16.1)
    assert overview().calibration == {}, "another strip's transit fits nothing better"
    solve_set(context, make_tile(context, "2025-01-16T12:26:00", MID + 0.99727), MID + 0.99727)
    old = first.rows[1].path
    assert overview().calibration == {
        old: f"2 tiles stand on it, and another fits 1 of them better: `contimg calibrators redo {old}`"
    }
    assert recalibrate(old, CalibrationOptions()) == [late.group_id]
    assert overview().calibration == {}


def test_a_catalogue_solve_of_another_day_or_strip_stays(context: Context) -> None:
    tiles = [make_tile(context, "2025-01-10T12:30:00", MID - 5.0), make_tile(context, "2025-01-15T18:00:00", MID, 16.1)]
    old = register(context, tiles[0], [gains("BP", MID - 5.0, anchor="catalogue")])
    other = register(context, tiles[1], [gains("BP", MID, anchor="catalogue", dec=16.1)])
    solve_set(context, make_tile(context, "2025-01-15T12:30:00"))
    assert [row_of(row.path).active for row in (*old.rows, *other.rows)] == [1, 1]


def test_tiles_on_a_superseded_table_are_calibrated_anew(context: Context) -> None:
    tile = make_tile(context, "2025-01-15T12:30:00")
    catalogue = solve_set(context, tile, anchor="catalogue")
    calibrated_with(tile, *catalogue.rows)
    bandpass = catalogue.rows[1].path
    with pytest.raises(PipelineError, match=r"nothing fits the tiles on .* better"):
        recalibrate(bandpass, CalibrationOptions())
    transit = solve_set(context, make_tile(context, "2025-01-16T06:30:00", MID + 0.75), MID + 0.75)
    assert recalibrate(bandpass, CalibrationOptions()) == [tile.group_id]
    again = context.tile(tile.group_id or "")
    assert (again.stage, again.caltables, again.cal_applied) == ("converted", None, 0)
    with get_session("products", read_only=True) as session:
        assert set(session.scalars(select(Job.state).where(Job.subject == tile.group_id))) == {"pending"}
    with pytest.raises(PipelineError, match="no tile on disk is calibrated with"):
        recalibrate(bandpass, CalibrationOptions())
    below = bandpass_for(context, again, visibilities())
    assert own_gain(again, below) is None, "its phases belong to the old bandpass"
    own = register(context, again, [gains("GP")], [row.path for row in below]).rows[0]
    assert Path(own.path).name == "2025-01-15T12:30:00_gpcal.2"
    assert row_of(catalogue.rows[2].path).superseded_by == own.path
    found = own_gain(again, below)
    assert found is not None
    assert found.path == own.path
    assert transit.rows[1].path in json.loads(own.solver_params or "")["applied"]


def test_an_attempt_that_finds_its_gains_registered_says_the_same_of_them(context: Context) -> None:
    """The attempt before it was killed between the table's transaction and its own."""
    tile = make_tile(context, "2025-01-15T12:30:00")
    killed = register(context, tile, [gains("GP")])
    again = registered(killed.rows[0], context.options.calibration)
    assert again.checks == killed.checks
    assert {check.name for check in again.checks} >= {"GP.median_snr", "GP.phase_scatter_deg"}
    assert again.pages == killed.pages
    assert [row.path for row in again.rows] == [row.path for row in killed.rows]


def test_phases_that_fail_are_replaced_by_the_nearest_on_the_same_tables_or_named(context: Context) -> None:
    solve_set(context, make_tile(context, "2025-01-15T12:00:00", MID - 0.1), MID - 0.1)
    tile, neighbor = (
        make_tile(context, f"2025-01-15T12:{minute}:00", MID + 0.0036 * i) for i, minute in enumerate((30, 35))
    )
    below = bandpass_for(context, tile, visibilities())
    paths = [row.path for row in below]
    poor = register(context, tile, [gains("GP", bad=True)], paths).rows[0]
    with pytest.raises(CalibrationError, match=r"flagged_fraction failed.*no other gains hold within 30 min"):
        usable_gain(context, tile, poor, below)
    good = register(context, neighbor, [gains("GP", MID + 0.0036)], paths).rows[0]
    assert usable_gain(context, tile, poor, below).path == good.path
    assert usable_gain(context, neighbor, good, below).path == good.path


def test_status_says_why_a_tile_waits(context: Context) -> None:
    solve_set(context, make_tile(context, "2025-01-15T12:30:00"))
    make_tile(context, "2025-01-19T12:30:00", MID + 4.0)
    waits = overview().waiting["2025-01-19T12:30:00"]
    assert waits.startswith("awaiting_transit (stale): no bandpass is valid for it yet")
    assert "72.0 h outside the window" in waits
