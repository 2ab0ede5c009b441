"""Retractions and remade mosaics reach the light curves: what is left out leaves no trace."""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy import update as update_rows
from tests.database import postgresql_server
from tests.pipeline.conftest import photometry_row

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.data_registry import register_data_instance
from dsa110_contimg.database.models import DataProduct, ESECandidate, Image, Mosaic, Photometry, VariabilityStats
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.database.repositories import PhotometryRepository, ms_index_upsert
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.one_epoch import STATISTICS
from dsa110_contimg.pipeline.reconcile import follow_products
from dsa110_contimg.pipeline.variability import update_variability
from dsa110_contimg.pipeline.versions import Version, follow_retractions, standings

SEED = 23
EPOCHS, SOURCES, EVENT, BAD = 10, 24, 5, 6
ONLY_THERE = "S_only"
OPTIONS = PhotometryOptions()
Survey = Callable[..., None]


def name_of(epoch: int, version: int = 1) -> str:
    return f"mosaic_2025-10-{epoch + 1:02d}_08-49-00" + (f"_{version}" if version > 1 else "")


@pytest.fixture
def survey(empty_databases: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Survey:
    """Begin an installation of its own with a published mosaic per epoch; in the bad one a source dips by half."""

    def begin(epochs: Collection[int] = range(EPOCHS)) -> None:
        print(f"seed {SEED}")
        root = tmp_path_factory.mktemp("root")
        shutil.copytree(empty_databases, root / "state")
        monkeypatch.setenv("PIPELINE_ROOT", str(root))
        reset_engines()
        for epoch in epochs:
            add_mosaic(epoch, dip=0.5 if epoch == BAD else 1.0)
        update()

    return begin


def update() -> None:
    with get_session("products") as session:
        update_variability(session, OPTIONS)


def add_mosaic(epoch: int, version: int = 1, *, dip: float = 1.0, status: str = "published") -> None:
    settings, name, mjd = Settings(), name_of(epoch, version), 60949.0 + 8.0 * epoch
    path, ms = settings.products / "mosaics" / f"{name}.fits", f"/ms/{epoch:02d}.ms"
    rng = np.random.default_rng([SEED, epoch, version])
    truth = np.geomspace(0.05, 2.0, SOURCES)
    flux = truth * (1.0 + 0.05 * np.sin(epoch)) * np.where(np.arange(SOURCES) == EVENT, dip, 1.0)
    flux = flux + rng.normal(scale=0.001 + 0.005 * truth)
    rows = [photometry_row(str(path), f"S{i:02d}", 20.0 + 0.1 * i, flux[i], mjd) for i in range(SOURCES)]
    if epoch == BAD:
        rows.append(photometry_row(str(path), ONLY_THERE, 30.0, 0.1, mjd))
    with get_session("products") as session:
        ms_index_upsert(session, ms, stage="photometry_complete", mid_mjd=mjd)
        MosaicRepository.store(
            session,
            path=str(path),
            name=name,
            reference_ms=ms,
            created_at=0.0,
            start_mjd=mjd,
            end_mjd=mjd,
            group_id=f"mg_{epoch}",
            noise_path=str(path.with_name(f"{name}-noise.fits")),
            status="completed" if version == 1 else "set_aside",
        )
        session.add(Image(path=str(path.with_name(f"{name}-noise.fits")), ms_path=ms, type="noise"))
        PhotometryRepository.store(session, rows)
    with open_registry() as connection:
        register_data_instance(connection, "mosaic", name, settings.stage / "mosaics" / f"{name}.fits")
    change(name, status=status, published_path=str(path))


def change(name: str, **columns: str | float | None) -> None:
    """Set columns of a product, as publishing and retraction do."""
    with get_session("data_registry") as session:
        session.execute(update_rows(DataProduct).where(DataProduct.data_id == name).values(**columns))


def take_back(name: str) -> Path:
    """Let the registry say that a mosaic is retracted and lies in its tombstone."""
    tombstone = Settings().products / "retracted" / name / "mosaics" / f"{name}.fits"
    change(name, status="retracted", retracted_at=1.7e9, retract_reason="bad gains", published_path=str(tombstone))
    return tombstone


def statistics() -> dict[str, list[float | None]]:
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(VariabilityStats))
        return {row.source_id: [getattr(row, column) for column in STATISTICS] for row in rows if row.n_obs}


def candidates(status: str = "active") -> list[ESECandidate]:
    with get_session("products", read_only=True) as session:
        return list(session.scalars(select(ESECandidate).where(ESECandidate.status == status)))


def light_curves() -> dict[tuple[str, float | None], tuple[float | None, int | None]]:
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(Photometry).where(Photometry.in_lightcurve == 1))
        return {(row.source_id, row.mjd): (row.normalized_flux_jy, row.in_lightcurve) for row in rows}


def state() -> tuple[object, ...]:
    return statistics(), light_curves(), [(c.source_id, c.significance) for c in candidates()]


def test_a_retracted_mosaic_leaves_the_statistics_of_a_run_without_it(survey: Survey) -> None:
    """The dip of one bad mosaic makes a candidate; its retraction takes back that and every number it touched."""
    survey([epoch for epoch in range(EPOCHS) if epoch != BAD])
    without = state()
    survey()
    assert [candidate.source_id for candidate in candidates()] == [f"S{EVENT:02d}"]
    before, n_before = state(), statistics()[ONLY_THERE][0]
    tombstone = take_back(name_of(BAD))
    follow_products(OPTIONS)
    after, expected = statistics(), without[0]
    assert isinstance(expected, dict)
    assert after.keys() == expected.keys()
    for source, values in expected.items():
        np.testing.assert_allclose(np.array(after[source], float), np.array(values, float), rtol=1e-9, err_msg=source)
    assert state() == without
    assert state() != before
    assert n_before == 1
    with get_session("products", read_only=True) as session:
        mosaic = session.scalars(select(Mosaic).where(Mosaic.name == name_of(BAD))).one()
        rows = session.scalars(select(Photometry).where(Photometry.image_path == str(tombstone))).all()
        noise = session.scalars(select(Image.path).where(Image.path == mosaic.noise_path)).all()
        emptied = session.get_one(VariabilityStats, ONLY_THERE)
    assert (mosaic.status, mosaic.path) == ("retracted", str(tombstone))
    assert noise == [str(tombstone.with_name(f"{mosaic.name}-noise.fits"))]
    assert len(rows) == SOURCES + 1
    assert {(row.retracted_at, row.in_lightcurve) for row in rows} == {(1.7e9, 0)}
    assert (emptied.n_obs, emptied.mean_flux_mjy, emptied.last_mjd, emptied.last_measured_at) == (0, None, None, None)
    (dismissed,) = candidates("dismissed")
    assert "bad gains" in json.loads(dismissed.notes or "")["dismissed"]
    assert dismissed.dismissed_at is not None


def test_a_server_follows_too(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = postgresql_server.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql): its tests are left out")
    survey()
    take_back(name_of(BAD))
    follow_products(OPTIONS)
    on_file = state()
    with postgresql_server.running(programs) as server:
        monkeypatch.setenv("PIPELINE_DATABASE_URL", server.url(server.create()))
        reset_engines()
        init_databases()
        survey()
        take_back(name_of(BAD))
        follow_products(OPTIONS)
        assert state() == on_file
        assert follow_retractions(OPTIONS) == []
        reset_engines()


def test_following_again_changes_nothing(survey: Survey) -> None:
    survey()
    assert follow_retractions(OPTIONS) == []
    take_back(name_of(BAD))
    assert follow_retractions(OPTIONS) == [name_of(BAD)]
    once = state()
    assert follow_retractions(OPTIONS) == []
    update()
    assert state() == once


def test_marks_and_statistics_are_one(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it derives light curves leaves nothing half-followed."""
    survey()
    before = state()
    take_back(name_of(BAD))
    with monkeypatch.context() as patch:
        patch.setattr(PhotometryRepository, "store_statistics", _die)
        with pytest.raises(KeyboardInterrupt):
            follow_retractions(OPTIONS)
    assert state() == before
    assert follow_retractions(OPTIONS) == [name_of(BAD)]


def _die(*_args: object) -> None:
    raise KeyboardInterrupt


def test_a_candidate_that_stands_without_the_retracted_mosaic_stays(survey: Survey) -> None:
    survey()
    take_back(name_of(0))
    follow_retractions(OPTIONS)
    assert [candidate.source_id for candidate in candidates()] == [f"S{EVENT:02d}"]
    assert candidates("dismissed") == []


@pytest.mark.parametrize(
    "columns", [{"flagged_by": "anna"}, {"status": "investigated"}], ids=["flagged", "investigated"]
)
def test_what_a_person_did_to_a_candidate_stays(survey: Survey, columns: dict[str, str]) -> None:
    survey()
    with get_session("products") as session:
        (flagged,) = session.scalars(select(ESECandidate))
        for name, value in columns.items():
            setattr(flagged, name, value)
        flagged.notes = "seen with the VLA"
    take_back(name_of(BAD))
    follow_retractions(OPTIONS)
    (kept,) = candidates(columns.get("status", "active"))
    assert kept.notes == "seen with the VLA"


def test_a_note_in_plain_words_is_kept_with_the_dismissal(survey: Survey) -> None:
    survey()
    with get_session("products") as session:
        session.scalars(select(ESECandidate)).one().notes = "look again"
    take_back(name_of(BAD))
    follow_retractions(OPTIONS)
    (dismissed,) = candidates("dismissed")
    assert json.loads(dismissed.notes or "")["notes"] == "look again"


def test_one_version_of_a_mosaic_counts(survey: Survey) -> None:
    """The remade mosaic counts when it is published, the old one while it is not, and again when it is retracted."""
    survey()
    with_dip = state()
    add_mosaic(BAD, 2, status="staging")
    update()
    assert follow_retractions(OPTIONS) == []
    assert state() == with_dip
    change(name_of(BAD, 2), status="published")
    assert sorted(follow_retractions(OPTIONS)) == [name_of(BAD), name_of(BAD, 2)]
    assert candidates() == []
    (dismissed,) = candidates("dismissed")
    assert f"another version of {name_of(BAD)} counts" in (dismissed.notes or "")
    assert statistics()[f"S{EVENT:02d}"][0] == EPOCHS
    take_back(name_of(BAD, 2))
    follow_retractions(OPTIONS)
    update()
    assert state() == with_dip


GROUP = st.lists(st.sampled_from([None, "staging", "failed", "validated", "published", "retracted"]), min_size=1)


@given(GROUP)
def test_at_most_one_version_of_a_group_counts_and_it_is_the_right_one(products: list[str | None]) -> None:
    versions = [Version(name_of(0, number), "g", status) for number, status in enumerate(products, 1)]
    answer = standings(versions)
    assert [answer[v.name] == "retracted" for v in versions] == [status == "retracted" for status in products]
    counting = [v for v in versions if answer[v.name] == "completed"]
    left = [v for v in versions if v.product_status != "retracted"]
    published = [v for v in left if v.product_status == "published"]
    assert counting == (published[-1:] or left[:1])
