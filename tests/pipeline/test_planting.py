"""Sources put into every mosaic follow from the seed alone, are measured like real ones, and stay apart from them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import ESECandidate, InjectedFlux, InjectedSource, Photometry, VariabilityStats
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.planting import follow_planted, plant, planted_recovery, store_planted
from dsa110_contimg.simulation.planted import CYCLE_DAYS, planted_sources
from dsa110_contimg.telescope import transit_mjd
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, SkyPosition

SEED = 8
SIDE, CELL_DEG = 300, 40.0 / 3600.0
RMS = 0.0005
CENTER = SkyPosition(359.9, 54.0)
NOTHING = SkyModel([], np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 1)))
OPTIONS = PhotometryOptions(injected_per_sq_deg=4.0)


def mosaic(rng: np.random.Generator) -> tuple[SkyImage, SkyImage]:
    """3.3 degrees across RA 0: noise without sources, correlated as little as its pixels."""
    data = rng.normal(scale=RMS, size=(SIDE, SIDE)).astype(np.float32)
    beam = Beam(100.0, 80.0, 30.0)
    noise = SkyImage(np.full((SIDE, SIDE), RMS, np.float32), CENTER, CELL_DEG, "Jy", "noise")
    return SkyImage(data, CENTER, CELL_DEG, "Jy/beam", "mosaic", beam), noise


def enter(path: str, mjd: float) -> None:
    with get_session("products") as session:
        ms_index_upsert(session, f"{path}.ms", stage="photometry_complete", mid_mjd=mjd)
        MosaicRepository.store(
            session,
            path=path,
            name=Path(path).stem,
            reference_ms=f"{path}.ms",
            created_at=0.0,
            start_mjd=mjd,
            end_mjd=mjd,
        )


@pytest.mark.parametrize("center", [(0.2, 33.0), (180.0, 89.5), (77.0, 16.1)])
def test_the_same_sky_has_the_same_sources_from_wherever_it_is_seen(center: tuple[float, float]) -> None:
    wide = {s.name: s for s in planted_sources(center, 6.0, 60300.0, 2.0, SEED)}
    near = planted_sources(((center[0] + 0.7) % 360.0, center[1] - 0.4), 2.0, 60310.0, 2.0, SEED)
    assert near
    assert all(wide[source.name] == source for source in near)
    assert len(wide) == pytest.approx(2.0 * np.pi * 36.0, rel=0.3)
    assert not set(wide) & {s.name for s in planted_sources(center, 6.0, 60300.0 + CYCLE_DAYS, 2.0, SEED)}


def test_they_come_back_with_their_events_and_no_table_of_real_sources_knows_them(house: Settings) -> None:
    """Sixty mosaics, five days apart: fluxes unbiased, deep events found, constant sources not, real rows untouched."""
    assert house
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    known = SkyModel(["S"], np.array([359.5]), np.array([54.2]), np.array([0.1]), np.zeros((1, 1)))
    start = np.ceil(60300.0 / CYCLE_DAYS) * CYCLE_DAYS + 100.0
    for epoch in range(60):
        path, middle = f"/m/{epoch:02d}.fits", start + 5.0 * 0.99727 * epoch
        enter(path, middle)
        picture, noise = mosaic(rng)
        before = picture.data.copy()
        rows = plant(picture, noise, known, partial(transit_mjd, near_mjd=middle), OPTIONS)
        assert np.array_equal(picture.data, before)
        with get_session("products") as session:
            store_planted(session, path, rows)
            store_planted(session, path, rows)
    with get_session("products") as session:
        assert follow_planted(session, OPTIONS) > 20
    with get_session("products", read_only=True) as session:
        sources = list(session.scalars(select(InjectedSource)))
        fluxes = list(session.scalars(select(InjectedFlux).where(InjectedFlux.flags == 0)))
        for table in (Photometry, VariabilityStats, ESECandidate):
            assert session.scalar(select(func.count()).select_from(table)) == 0
    pulls = np.array([(f.flux_jy - f.true_flux_jy) / f.flux_err_jy for f in fluxes if f.flux_jy and f.flux_err_jy])
    assert abs(float(np.median(pulls))) < 0.1
    assert 0.8 < 1.4826 * float(np.median(np.abs(pulls))) < 1.25
    bright = [s for s in sources if s.flux_jy > 20.0 * RMS and s.n_obs and s.n_obs > 50]
    inside = [s for s in bright if start + s.days < s.middle_mjd < start + 300.0 - s.days]
    deep = [s for s in inside if s.kind == "ese" and s.depth > 0.2 and s.days > 30.0]
    found = [s for s in deep if s.found_as == "ese"]
    print(f"{len(found)} of {len(deep)} deep events found; {len(bright)} bright sources")
    assert len(deep) >= 4
    assert len(found) >= 0.8 * len(deep)
    for source in found:
        assert source.found_mjd is not None
        assert abs(source.found_mjd - source.middle_mjd) < 0.5 * source.days
    assert [s for s in bright if s.kind == "constant" and s.found_as is not None] == []
    with get_session("products", read_only=True) as session:
        told = planted_recovery(session, OPTIONS)
    print(told)
    assert told["constant"][1] == 0
    assert 0 < told["ese"][1] <= told["ese"][0]


def test_a_retracted_mosaic_takes_its_injected_fluxes_along(house: Settings) -> None:
    assert house
    rng = np.random.default_rng(SEED)
    for epoch in range(2):
        path, middle = f"/m/{epoch:02d}.fits", 60600.0 + epoch
        enter(path, middle)
        rows = plant(
            *mosaic(rng),
            NOTHING,
            partial(transit_mjd, near_mjd=middle),
            OPTIONS,
        )
        with get_session("products") as session:
            store_planted(session, path, rows)
            follow_planted(session, OPTIONS)
    with get_session("products") as session:
        most = session.scalar(select(func.max(InjectedSource.n_obs)))
        stored = MosaicRepository.get_by_name(session, "01")
        assert stored is not None
        stored.status = "retracted"
        session.flush()
        follow_planted(session, OPTIONS)
        assert (most, session.scalar(select(func.max(InjectedSource.n_obs)))) == (2, 1)
