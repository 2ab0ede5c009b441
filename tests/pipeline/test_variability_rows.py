"""From rows of photometry to statistics and candidates, in a real database."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.pipeline.conftest import photometry_row

from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.models import ESECandidate, Photometry, VariabilityStats
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import PhotometryRepository, ms_index_upsert
from dsa110_contimg.options import PhotometryOptions
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
