"""From rows of photometry to statistics and candidates, in a real database."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select, update
from tests.pipeline.conftest import photometry_row

from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.models import (
    EpochCorrection,
    ESECandidate,
    LightCurveMoments,
    Mosaic,
    Photometry,
    VariabilityStats,
)
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import PhotometryRepository, ms_index_upsert
from dsa110_contimg.kernels.variability import eta_index
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline import variability
from dsa110_contimg.pipeline.variability import update_variability

SEED = 11
EPOCHS = 12
SOURCES = 40
EVENT = 3
DIP = slice(4, 8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    return tmp_path


def fill(order: list[int], scales: np.ndarray, *, dip: float = 0.6) -> None:
    """Enter one mosaic per epoch: sources of 50 mJy to 2 Jy, one of which dips in four epochs."""
    print(f"seed {SEED}")
    truth = np.geomspace(0.05, 2.0, SOURCES)
    for epoch in order:
        rng = np.random.default_rng([SEED, epoch])
        flux = truth * np.where((np.arange(SOURCES) == EVENT) & (4 <= epoch < 8), dip, 1.0)
        measured = scales[epoch] * (flux + rng.normal(scale=0.001 + 0.005 * flux))
        path, ms = f"/m/{epoch:02d}.fits", f"/ms/{epoch:02d}.ms"
        mjd = 60000.0 + 8.0 * epoch
        with get_session("products") as session:
            ms_index_upsert(session, ms, stage="photometry_complete", mid_mjd=mjd)
            MosaicRepository.store(
                session, path=path, name=f"m{epoch:02d}", reference_ms=ms, created_at=0.0, start_mjd=mjd, end_mjd=mjd
            )
            PhotometryRepository.store(session, [row(path, i, measured[i], mjd) for i in range(SOURCES)])


def row(path: str, index: int, flux: float, mjd: float) -> dict[str, str | float | int | None]:
    return photometry_row(path, f"S{index:02d}", 20.0 + 0.1 * index, flux, mjd)


def outcome() -> tuple[list[str], dict[str, tuple[float | None, float | None]]]:
    with get_session("products") as session:
        update_variability(session, PhotometryOptions())
    with get_session("products", read_only=True) as session:
        stats = {s.source_id: (s.chi2_nu, s.sigma_deviation) for s in session.scalars(select(VariabilityStats))}
        return [c.source_id for c in session.scalars(select(ESECandidate))], stats


def test_the_dip_is_the_only_candidate_though_epochs_are_scaled_by_a_tenth(root: Path) -> None:
    assert root
    scales = 1.0 + 0.1 * np.sin(np.arange(EPOCHS))
    fill(list(range(EPOCHS)), scales)
    candidates, stats = outcome()
    assert candidates == [f"S{EVENT:02d}"]
    assert len(stats) == SOURCES
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(Photometry).where(Photometry.source_id == "S20").order_by(Photometry.mjd)).all()
    raw, scaled = (np.array([getattr(r, name) for r in rows]) for name in ("flux_jy", "normalized_flux_jy"))
    assert np.std(raw) / np.mean(raw) > 0.05, "the epochs really were scaled"
    assert np.std(scaled) / np.mean(scaled) < 0.015


def test_a_steady_sky_has_no_candidate(root: Path) -> None:
    assert root
    fill(list(range(EPOCHS)), np.ones(EPOCHS), dip=1.0)
    assert outcome()[0] == []


def test_the_order_of_arrival_leaves_no_trace(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert root
    fill(list(range(EPOCHS)), np.ones(EPOCHS))
    forward = outcome()
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path_factory.mktemp("other")))
    reset_engines()
    init_databases()
    for epoch in reversed(range(EPOCHS)):
        fill([epoch], np.ones(EPOCHS))
        backward = outcome()
    assert backward == forward


def test_running_again_changes_nothing(root: Path) -> None:
    assert root
    fill(list(range(EPOCHS)), np.ones(EPOCHS))
    assert outcome() == outcome()


def test_a_row_that_loses_to_another_of_its_transit_keeps_no_normalized_flux(root: Path) -> None:
    assert root
    fill([0], np.ones(EPOCHS))
    outcome()
    with get_session("products") as session:
        MosaicRepository.store(
            session,
            path="/m/deeper.fits",
            name="deeper",
            reference_ms="/ms/00.ms",
            created_at=1.0,
            start_mjd=60000.0,
            end_mjd=60000.0,
        )
        deeper = [row("/m/deeper.fits", i, 1.0, 60000.001) | {"local_rms_jyb": 0.0005} for i in range(SOURCES)]
        PhotometryRepository.store(session, deeper)
    outcome()
    with get_session("products", read_only=True) as session:
        found = {
            (r.image_path, r.in_lightcurve, r.normalized_flux_jy is None) for r in session.scalars(select(Photometry))
        }
    assert found == {("/m/00.fits", 0, True), ("/m/deeper.fits", 1, False)}


def test_the_scale_of_each_epoch_is_recorded(root: Path) -> None:
    assert root
    scales = 1.0 + 0.1 * np.sin(np.arange(EPOCHS))
    fill(list(range(EPOCHS)), scales)
    outcome()
    outcome()
    with get_session("products", read_only=True) as session:
        found = list(session.scalars(select(EpochCorrection).order_by(EpochCorrection.mjd)))
        rows = session.scalars(select(Photometry).where(Photometry.source_id == "S20").order_by(Photometry.mjd)).all()
    factors = np.array([row.factor for row in found], float)
    np.testing.assert_allclose(factors / np.median(factors), scales / np.median(scales), rtol=0.02)
    assert [row.n_references for row in found] == [SOURCES] * EPOCHS
    assert [row.epoch_correction_id for row in rows] == [row.id for row in found]
    for row in rows:
        assert row.flux_jy is not None
        assert row.normalized_flux_jy is not None
        assert row.flux_jy / row.normalized_flux_jy == pytest.approx(factors[rows.index(row)], rel=0.02)


def recomputed() -> dict[str, list[float]]:
    """Statistics from the rows of the light curves alone, with the level that the sums have for their floor."""
    with get_session("products", read_only=True) as session:
        levels = {row.source_id: row for row in session.scalars(select(LightCurveMoments))}
        result = {}
        for name, held in levels.items():
            points = PhotometryRepository.get_lightcurve(session, name)
            flux, error = (
                np.array([getattr(p, column) for p in points], float)
                for column in ("normalized_flux_jy", "normalized_flux_err_jy")
            )
            floored = np.hypot(error, held.floor_jy or 0.0)
            found = [len(points), 1e3 * flux.mean(), 1e3 * flux.min(), 1e3 * flux.max(), points[-1].mjd]
            if len(points) > 1:
                found += [1e3 * flux.std(ddof=1), eta_index(flux, error), eta_index(flux, floored)]
            result[name] = found
        return result


def stored_statistics() -> dict[str, list[float]]:
    names = ("n_obs", "mean_flux_mjy", "min_flux_mjy", "max_flux_mjy", "last_mjd")
    spread = ("std_flux_mjy", "eta_metric", "chi2_nu")
    with get_session("products", read_only=True) as session:
        return {
            row.source_id: [getattr(row, name) for name in (*names, *(spread if row.n_obs > 1 else ()))]
            for row in session.scalars(select(VariabilityStats))
            if row.n_obs
        }


def same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(np.array(found[name], float), values, rtol=1e-9, atol=1e-9, err_msg=name)


def follow(*epochs: int, without: bool = False) -> None:
    """Let the light curves follow some epochs, which count or do not."""
    paths = [f"/m/{epoch:02d}.fits" for epoch in epochs]
    with get_session("products") as session:
        state = update(Mosaic).where(Mosaic.path.in_(paths))
        session.execute(state.values(status="set_aside" if without else "completed"))
        why = dict.fromkeys(paths, "taken away") if without else None
        update_variability(session, PhotometryOptions(), why, paths)


@pytest.mark.parametrize("seed", range(3))
def test_epochs_that_come_go_and_come_again_leave_the_statistics_of_the_rows(
    root: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Any order, repetitions and retractions: sums that were never made anew are those of the rows, to 1e-9."""
    assert root
    print(f"seed {seed}")
    monkeypatch.setattr(variability, "FEW_POINTS", 0)
    rng = np.random.default_rng(seed)
    scales = 1.0 + 0.1 * np.sin(np.arange(EPOCHS))
    there: set[int] = set()
    for epoch in [*rng.permutation(EPOCHS), *rng.integers(EPOCHS, size=8)]:
        if int(epoch) in there and rng.random() < 0.6:
            follow(int(epoch), without=True)
            there.discard(int(epoch))
        else:
            fill([int(epoch)], scales)
            follow(int(epoch))
            there.add(int(epoch))
        same(stored_statistics(), recomputed())
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(Photometry).where(Photometry.in_lightcurve == 1)).all()
        ids = {row.image_path: row.id for row in session.scalars(select(EpochCorrection))}
    assert {row.image_path for row in rows} == {f"/m/{epoch:02d}.fits" for epoch in there}
    assert all(row.epoch_correction_id == ids[row.image_path] for row in rows)


def test_one_epoch_after_the_other_comes_near_to_all_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same candidate, the same scales but for a common factor, and statistics that differ by their errors."""
    assert root
    scales = 1.0 + 0.1 * np.sin(np.arange(EPOCHS))
    fill(list(range(EPOCHS)), scales)
    together, at_once = outcome()
    with get_session("products", read_only=True) as session:
        whole = np.array(session.scalars(select(EpochCorrection.factor).order_by(EpochCorrection.mjd)).all(), float)
    with get_session("products") as session:
        session.execute(update(Photometry).values(in_lightcurve=0, normalized_flux_jy=None))
        for table in (ESECandidate, EpochCorrection, LightCurveMoments, VariabilityStats):
            session.execute(delete(table))
    follow(0)
    monkeypatch.setattr(variability, "FEW_POINTS", 0)
    for epoch in range(1, EPOCHS):
        follow(epoch)
    with get_session("products", read_only=True) as session:
        found = list(session.scalars(select(ESECandidate)))
        factors = np.array(session.scalars(select(EpochCorrection.factor).order_by(EpochCorrection.mjd)).all(), float)
        stats = {s.source_id: s for s in session.scalars(select(VariabilityStats))}
    assert [c.source_id for c in found] == together == [f"S{EVENT:02d}"]
    np.testing.assert_allclose(factors / np.median(factors), whole / np.median(whole), rtol=0.01)
    for name, (chi2, deviation) in at_once.items():
        if name != f"S{EVENT:02d}":
            assert stats[name].chi2_nu == pytest.approx(chi2, abs=0.3)
            assert stats[name].sigma_deviation == pytest.approx(deviation, abs=1.0)


def test_a_bright_and_brief_visitor_leaves_no_rounding_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement a million times too large, taken back: the sums are what they were."""
    assert root
    monkeypatch.setattr(variability, "FEW_POINTS", 0)
    for epoch in range(6):
        fill([epoch], np.ones(EPOCHS))
        follow(epoch)
    fill([6], np.ones(EPOCHS))
    with get_session("products") as session:
        bad = (Photometry.image_path == "/m/06.fits", Photometry.source_id == "S20")
        session.execute(update(Photometry).where(*bad).values(flux_jy=1e6))
    follow(6)
    assert stored_statistics()["S20"][3] > 1e8
    follow(6, without=True)
    same(stored_statistics(), recomputed())
    assert stored_statistics()["S20"][3] < 1e3


def test_a_database_from_before_the_sums_begins_with_what_it_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert root
    fill(list(range(EPOCHS)), np.ones(EPOCHS))
    outcome()
    with get_session("products") as session:
        session.execute(delete(LightCurveMoments))
        mosaic = session.scalars(select(Mosaic).where(Mosaic.path == "/m/05.fits")).one()
        mosaic.status = "retracted"
        session.execute(update(Photometry).where(Photometry.image_path == mosaic.path).values(retracted_at=1.0))
    monkeypatch.setattr(variability, "FEW_POINTS", 0)
    with get_session("products") as session:
        update_variability(session, PhotometryOptions(), {"/m/05.fits": "bad gains"}, ["/m/05.fits"])
    same(stored_statistics(), recomputed())
    assert {values[0] for values in stored_statistics().values()} == {EPOCHS - 1}
