"""Surveys in the database: any order of imports, and any number of them, leaves the same sources."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from dsa110_contimg.database import create_all, get_session, reset_engines
from dsa110_contimg.database.catalog_import import load_survey, rebuild_master, replace_survey
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import CatalogSource, Source
from dsa110_contimg.database.survey_match import SurveyList
from dsa110_contimg.errors import BadInputError

SURVEYS = ("NVSS", "FIRST", "VLASS", "RACS", "CSV")
SEED = 20260122
Rows = list[tuple[object, ...]]


def random_survey(name: str, seed: int, count: int = 30) -> SurveyList:
    """Return entries crowded into a patch across RA 0, in which pairs, chains and ties occur."""
    rng = np.random.default_rng((seed, SURVEYS.index(name)))
    columns = {field: rng.uniform(0.1, 1.0, count) for field in SurveyList.__dataclass_fields__}
    columns["ra_deg"] = np.round(rng.uniform(-0.01, 0.01, count), 3) % 360.0
    columns["dec_deg"] = np.round(rng.uniform(-0.01, 0.01, count), 3)
    columns["is_extended"], columns["is_confused"] = rng.integers(0, 2, (2, count)).astype(float)
    columns["position_uncertainty_arcsec"] = np.where(rng.random(count) < 0.5, np.nan, 0.5)
    columns["spectral_index"] = np.full(count, np.nan)
    columns.pop("catalog_id")
    return SurveyList(np.array([f"{name} {i}" for i in range(count)], dtype=object), **columns)


def shuffled(survey: SurveyList, seed: int) -> SurveyList:
    return survey.select(np.random.default_rng(seed).permutation(len(survey)))


def imported(name: str, survey: SurveyList, *, in_memory: bool = False) -> int:
    with (
        get_session("master_sources", in_memory=in_memory) as master,
        get_session("calibrators", in_memory=in_memory) as calibrators,
    ):
        replace_survey(calibrators, name, 1.4, survey)
        return rebuild_master(calibrators, master)


def sources(*, in_memory: bool = False) -> Rows:
    with get_session("master_sources", in_memory=in_memory) as session:
        return [tuple(row) for row in session.execute(select(Source.__table__).order_by(Source.source_id))]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), orders=st.tuples(*[st.permutations(SURVEYS)] * 2))
def test_any_order_of_imports_gives_the_same_table(seed: int, orders: tuple[list[str], list[str]]) -> None:
    found = []
    for number, order in enumerate(orders):
        reset_engines()
        for database in ("master_sources", "calibrators"):
            create_all(database, in_memory=True)
        for name in order:
            imported(name, shuffled(random_survey(name, seed), number), in_memory=True)
        found.append(sources(in_memory=True))
    assert len(found[0]) > 20
    assert found[0] == found[1]


@pytest.mark.usefixtures("backend")
def test_surveys_of_one_sky_on_both_databases() -> None:
    sys.stdout.write(f"seed {SEED}\n")
    surveys = {name: random_survey(name, SEED) for name in SURVEYS}
    assert imported("FIRST", surveys["FIRST"]) == 0
    for name in SURVEYS:
        count = imported(name, surveys[name])
    first_time = sources()
    assert count == len(first_time) > 30
    with get_session("calibrators") as session:
        back = load_survey(session, "VLASS").in_order()
        np.testing.assert_array_equal(back.ra_deg, surveys["VLASS"].in_order().ra_deg)
        np.testing.assert_array_equal(
            back.position_uncertainty_arcsec, surveys["VLASS"].in_order().position_uncertainty_arcsec
        )
        row = session.scalars(select(CatalogSource).where(CatalogSource.catalog_id == "FIRST 3")).one()
        assert (row.source_name, row.catalog, row.flux_freq_ghz) == ("FIRST 3", "FIRST", 1.4)
        assert row.dec_zone in (359, 360)
    for name in reversed(SURVEYS):
        imported(name, surveys[name])
    assert sources() == first_time
    assert imported("CSV", surveys["CSV"].select(np.arange(3))) < count
    with get_session("calibrators") as session:
        assert session.scalar(text("SELECT count(*) FROM catalog_sources WHERE catalog = 'CSV'")) == 3
        assert session.scalar(text("SELECT count(*) FROM catalog_sources")) == 4 * 30 + 3


@pytest.mark.usefixtures("backend")
def test_a_survey_imported_again_keeps_its_rows_and_a_changed_one_does_not() -> None:
    def stored() -> Rows:
        with get_session("calibrators", read_only=True) as session:
            return [tuple(row) for row in session.execute(select(CatalogSource.__table__).order_by(CatalogSource.id))]

    survey = random_survey("FIRST", SEED)
    imported("FIRST", survey)
    before = stored()
    assert len(before) == 30
    imported("FIRST", shuffled(survey, 1))
    assert stored() == before
    survey.flux_jy[7] *= 1.0 + 1e-15
    imported("FIRST", survey)
    assert stored() != before
    assert len(stored()) == 30


@pytest.mark.usefixtures("backend")
def test_references_do_not_ask_for_a_spectral_index() -> None:
    rows = [
        CatalogRow("strict", 1.0, 1.0, 0.1, 60.0),
        CatalogRow("final", 2.0, 1.0, 0.1, 12.0, alpha=-0.7),
        CatalogRow("good", 3.0, 1.0, 0.1, 7.0),
        CatalogRow("faint", 4.0, 1.0, 0.1, 6.9),
        CatalogRow("steep", 5.0, 1.0, 0.1, 60.0, alpha=-1.6),
        CatalogRow("resolved", 6.0, 1.0, 0.1, 60.0, resolved_flag=1),
        CatalogRow("confused", 7.0, 1.0, 0.1, 60.0, confusion_flag=1),
        CatalogRow("no flux", 8.0, 1.0, None, None),
    ]
    with get_session("master_sources") as session:
        assert replace_catalog(session, rows) == 8
        views = {
            view: set(session.scalars(text(f"SELECT source_id FROM {view}")))
            for view in ("good_references", "final_references", "strict_references")
        }
    assert views == {
        "good_references": {"strict", "final", "good"},
        "final_references": {"strict", "final"},
        "strict_references": {"strict"},
    }


@pytest.mark.usefixtures("backend")
def test_an_unfinished_import_changes_nothing() -> None:
    imported("NVSS", random_survey("NVSS", SEED))
    before = sources()
    told: list[int] = []
    twice = random_survey("NVSS", SEED + 1)
    twice.catalog_id[3] = twice.catalog_id[7]
    with pytest.raises(BadInputError, match="catalog_sources would name a source twice"):
        imported("NVSS", twice)
    with get_session("calibrators") as session:
        flux = [row.flux_jy for row in session.scalars(select(CatalogSource).order_by(CatalogSource.id))]
    assert flux == random_survey("NVSS", SEED).flux_jy.tolist()

    def stop(count: int) -> None:
        told.append(count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("a", 1.0, 1.0, 1.0, 1.0)], stop)
    with (
        pytest.raises(BadInputError, match="sources would name a source twice"),
        get_session("master_sources") as session,
    ):
        replace_catalog(session, [CatalogRow("a", 1.0, 1.0, 1.0, 1.0)] * 2)
    assert told == [1]
    assert sources() == before
