"""Cone searches find what brute force finds, in every catalogue, and read little of them."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dsa110_contimg.database import create_all, get_session, reset_engines
from dsa110_contimg.database.catalog_query import (
    CATALOGS,
    assumed_spectra,
    cone_search,
    extended_sources,
    find_sources,
    load_sky_model,
    ra_intervals,
    search_master,
    zones,
)
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import CatalogSource, Source
from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.telescope import unit_vector
from dsa110_contimg.visibilities import SkyPosition

SEED = 20260118


def sky(count: int, seed: int = SEED) -> list[CatalogRow]:
    """Return sources all over the sky, some at the seam, the poles, and the edges of strips."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0.0, 360.0, count), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, count)))
    ra[:8] = [0.0, 359.9999, 0.0001, 12.0, 190.0, 0.0, 100.0, 77.0]
    dec[:8] = [0.0, 0.1, -0.1, 90.0, -89.9, 89.5, -90.0, 10.25]
    flux = rng.uniform(0.01, 1.0, count)
    return [CatalogRow(f"s{i}", ra[i], dec[i], flux[i], flux[i] / 0.001) for i in range(count)]


class Sky:
    """A filled master catalogue, and its sources as vectors: distances from chords are an independent formula."""

    def __init__(self, session: Session, rows: list[CatalogRow]) -> None:
        self.session = session
        self.ids = np.array([row.source_id for row in rows])
        self.vectors = unit_vector([row.ra_deg for row in rows], [row.dec_deg for row in rows])

    def distances(self, center: SkyPosition) -> NDArray[np.float64]:
        chord = np.linalg.norm(self.vectors - unit_vector(center.ra_deg, center.dec_deg), axis=1)
        return np.asarray(np.degrees(2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))))

    def check(self, center: SkyPosition, radius_deg: float) -> int:
        """Compare a search with brute force; at the very edge of the circle either answer is right."""
        distance = self.distances(center)
        found = [entry.source_id for entry in search_master(self.session, center, radius_deg)]
        assert len(found) == len(set(found))
        certain = set(self.ids[distance < radius_deg - 1e-6])
        assert certain <= set(found) <= set(self.ids[distance < radius_deg + 1e-6]), (center, radius_deg)
        return len(found)


def filled(rows: list[CatalogRow]) -> Iterator[Sky]:
    reset_engines()
    create_all("master_sources", in_memory=True)
    with get_session("master_sources", in_memory=True) as session:
        assert replace_catalog(session, rows) == len(rows)
        yield Sky(session, rows)


@pytest.fixture
def catalog() -> Iterator[Sky]:
    yield from filled(sky(3000))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(ra=0.0, dec=0.0, radius=5.0)
@example(ra=359.9, dec=80.0, radius=9.99)
@example(ra=10.0, dec=80.0, radius=10.0)
@example(ra=10.0, dec=-90.0, radius=1.0)
@example(ra=10.0, dec=90.0, radius=0.0)
@example(ra=10.0, dec=-90.0, radius=0.0)
@example(ra=77.0, dec=10.5, radius=0.25)
@example(ra=77.0, dec=10.0, radius=0.25)
@example(ra=180.0, dec=0.0, radius=120.0)
@example(ra=360.0, dec=45.0, radius=20.0)
@given(ra=st.floats(0.0, 360.0), dec=st.floats(-90.0, 90.0), radius=st.floats(0.0, 180.0))
def test_agrees_with_brute_force(catalog: Sky, ra: float, dec: float, radius: float) -> None:
    catalog.check(SkyPosition(ra, dec), radius)
    found = {row.source_id for row in find_sources(catalog.session, SkyPosition(ra, dec), radius)}
    assert found == {entry.source_id for entry in search_master(catalog.session, SkyPosition(ra, dec), radius)}


def random_cones(count: int, seed: int) -> Iterator[tuple[SkyPosition, float]]:
    """Yield circles of 0.01 to 3 deg: a third about the seam, a third about the poles, a third anywhere."""
    sys.stdout.write(f"seed {seed}\n")
    rng = np.random.default_rng(seed)
    for i in range(count):
        ra, dec = rng.uniform(0.0, 360.0), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0)))
        if i % 3 == 1:
            ra = rng.uniform(-2.0, 2.0) % 360.0
        if i % 3 == 2:
            dec = rng.choice([-1.0, 1.0]) * rng.uniform(87.0, 90.0)
        yield SkyPosition(ra, dec), 10.0 ** rng.uniform(-2.0, 0.5)


def test_300_random_cones(catalog: Sky) -> None:
    assert sum(catalog.check(*cone) for cone in random_cones(300, SEED)) > 100


@pytest.mark.slow
def test_10000_random_cones() -> None:
    for catalog in filled(sky(100_000, SEED + 1)):
        assert sum(catalog.check(*cone) for cone in random_cones(10_000, SEED + 2)) > 50_000


@given(ra=st.floats(0.0, 359.999), dec=st.floats(-89.0, 89.0), radius=st.floats(0.001, 5.0))
def test_the_box_is_tight(ra: float, dec: float, radius: float) -> None:
    center = SkyPosition(ra, dec)
    width = sum(high - low for low, high in ra_intervals(center, radius))
    if abs(dec) + radius < 89.99:
        assert 2 * radius <= width + 1e-6
        assert width <= 2 * radius / np.cos(np.radians(min(89.999, abs(dec) + radius))) + 1e-6
    assert all(0.0 <= low <= high <= 360.0 for low, high in ra_intervals(center, radius))
    assert len(zones(center, radius)) <= 8 * radius + 2 + 1e-9


def test_order_and_flux_limit(catalog: Sky) -> None:
    found = find_sources(catalog.session, SkyPosition(359.99995, 0.0), 1.0)
    assert found[0].source_id == "s0"
    bright = find_sources(catalog.session, SkyPosition(100.0, 30.0), 20.0, min_flux_jy=0.5)
    assert bright
    assert all(row.s_nvss is not None and row.s_nvss >= 0.5 for row in bright)
    assert find_sources(catalog.session, SkyPosition(100.0, 30.0), 0.0) == []


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("database", "table", "first"),
    [("master_sources", "sources", ""), ("calibrators", "catalog_sources", "catalog = 'NVSS' AND")],
)
def test_a_search_reads_the_index_of_strips(database: str, table: str, first: str) -> None:
    question = f"SELECT * FROM {table} WHERE {first} dec_zone IN (360, 361, 362) AND ra_deg BETWEEN 10 AND 12"
    with get_session(database, read_only=True) as session:
        plan = str(session.execute(text(f"EXPLAIN QUERY PLAN {question}")).all()[0][-1])
    assert f"idx_{table}_zone" in plan
    assert "dec_zone=? AND ra_deg>? AND ra_deg<?" in plan


@pytest.mark.usefixtures("backend")
def test_rows_of_plain_sql_are_found_where_they_are_and_where_they_move() -> None:
    with get_session("master_sources") as session:
        session.execute(
            text("INSERT INTO sources (source_id, ra_deg, dec_deg, s_nvss) VALUES ('mine', 359.9, -33.3, 1)")
        )
    assert [entry.source_id for entry in cone_search(SkyPosition(0.1, -33.3), 0.3)] == ["mine"]
    with get_session("master_sources") as session:
        session.execute(text("UPDATE sources SET dec_deg = 50.25 WHERE source_id = 'mine'"))
    assert cone_search(SkyPosition(0.1, -33.3), 0.3) == []
    assert [entry.source_id for entry in cone_search(SkyPosition(0.1, 50.25), 0.3)] == ["mine"]
    # The specification's own way of looking, which its index serves.
    box = "SELECT source_id FROM sources WHERE ra_deg BETWEEN 359 AND 360 AND dec_deg BETWEEN 50 AND 51"
    with get_session("master_sources", read_only=True) as session:
        assert session.scalars(text(box)).all() == ["mine"]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("ra_deg", [0.0, 180.0])
def test_every_strip_is_found_from_its_edges(ra_deg: float) -> None:
    """Databases differ in rounding an edge: whatever strip it is in, a search finds it."""
    edges = [-90.0 + 0.25 * i for i in range(721)]
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow(f"e{i}", ra_deg, dec, 1.0, 1.0) for i, dec in enumerate(edges)])
        for i, dec in enumerate(edges):
            assert [row.source_id for row in find_sources(session, SkyPosition(ra_deg, dec), 0.0)] == [f"e{i}"]


@pytest.mark.usefixtures("backend")
def test_one_search_over_all_catalogues_gives_one_row_shape() -> None:
    def survey(catalog: str, number: int, **columns: float | None) -> CatalogSource:
        same = {"ra_deg": 10.0, "dec_deg": 30.0 + 0.01 * number, "created_at": 0.0, "updated_at": 0.0}
        return CatalogSource(catalog=catalog, catalog_id=f"{catalog}1", source_name=f"{catalog} one", **same, **columns)

    surveys = [catalog for catalog in CATALOGS if catalog != "MASTER"]
    with get_session("calibrators") as session:
        session.add_all(survey(name, i + 1, flux_jy=0.1 * i, flux_freq_ghz=3.0) for i, name in enumerate(surveys))
        session.add(survey("ATNF", 1))
    with get_session("master_sources") as session:
        session.add(Source(source_id="NVSS J004000.0+300000", ra_deg=10.0, dec_deg=30.0, s_nvss=0.3, alpha=-0.6))
    center = SkyPosition(10.0, 30.0)
    found = cone_search(center, 0.5)
    assert [entry.catalog for entry in found] == ["MASTER", *surveys]
    np.testing.assert_allclose([entry.separation_deg for entry in found], [0.01 * i for i in range(7)], atol=1e-9)
    master, vla = found[:2]
    assert (master.source_id, master.flux_jy, master.freq_ghz, master.spectral_index) == (
        "NVSS J004000.0+300000",
        0.3,
        1.4,
        -0.6,
    )
    assert (vla.source_id, vla.flux_jy, vla.freq_ghz, vla.spectral_index) == ("VLA one", 0.0, 3.0, None)
    assert [entry.catalog for entry in cone_search(center, 0.5, ["first", "Master"])] == ["MASTER", "FIRST"]
    assert {entry.catalog for entry in cone_search(center, 0.5, min_flux_jy=0.25)} == {"MASTER", "RACS", "VLASS", "CSV"}
    assert len(cone_search(center, 0.0)) == 1


@pytest.mark.parametrize(
    ("ra", "dec", "radius", "words"),
    [
        (float("nan"), 0.0, 1.0, r"\(nan, 0.0\) is no position"),
        (0.0, float("inf"), 1.0, "is no position"),
        (-0.1, 0.0, 1.0, "is no position: give 0 to 360 deg"),
        (360.1, 0.0, 1.0, "is no position"),
        (0.0, 90.1, 1.0, "-90 to 90 deg"),
        (0.0, 0.0, float("nan"), "nan is no radius"),
        (0.0, 0.0, -1.0, "-1.0 is no radius: give 0 to 180 deg"),
        (0.0, 0.0, 180.1, "is no radius"),
    ],
)
def test_what_is_no_circle_is_refused(catalog: Sky, ra: float, dec: float, radius: float, words: str) -> None:
    for search in (find_sources, search_master):
        with pytest.raises(ConfigurationError, match=words):
            search(catalog.session, SkyPosition(ra, dec), radius)


@pytest.mark.usefixtures("root")
def test_no_catalogue_and_no_database_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="there is no catalogue SUMSS; there are MASTER, VLA"):
        cone_search(SkyPosition(0.0, 0.0), 1.0, ["sumss"])
    with pytest.raises(ConfigurationError, match="contimg init"):
        cone_search(SkyPosition(0.0, 0.0), 1.0)


def test_a_sky_model_says_what_it_assumes() -> None:
    reset_engines()
    create_all("master_sources", in_memory=True)
    rows = [
        CatalogRow("known", 10.0, 30.0, 2.0, 100.0, 0, 0, -1.0, None, None, None, None, 12.0, 5.0, 30.0),
        CatalogRow("unknown", 10.1, 30.0, 1.0, 100.0),
        CatalogRow("no flux", 10.0, 30.1, None, None),
        CatalogRow("faint", 10.0, 30.05, 0.001, 3.0),
    ]
    with get_session("master_sources", in_memory=True) as session:
        replace_catalog(session, rows)
        model = load_sky_model(session, SkyPosition(10.0, 30.0), 1.0, 0.05)
        assert model.names == ["known", "unknown"]
        assert model.spectrum.tolist() == [[-1.0], [-0.7]]
        assert model.gaussian.tolist() == [[12.0, 5.0, 30.0], [0.0, 0.0, 0.0]]
        assert model.flux_at(np.array([1.4e9])).ravel().tolist() == [2.0, 1.0]
        assert assumed_spectra(find_sources(session, SkyPosition(10.0, 30.0), 1.0, 0.05)) == ["unknown"]
        empty = load_sky_model(session, SkyPosition(200.0, 30.0), 1.0, 0.05)
        assert len(empty) == 0
        assert empty.flux_at(np.array([1.4e9, 1.5e9])).shape == (0, 2)


def test_extended_sources_are_those_that_are_resolved_or_confused() -> None:
    reset_engines()
    create_all("master_sources", in_memory=True)
    marks = {"compact": {}, "resolved": {"resolved_flag": 1}, "double": {"confusion_flag": 1}}
    rows = [CatalogRow(name, 10.0 + i, 30.0, 1.0, 99.0, **flags) for i, (name, flags) in enumerate(marks.items())]
    with get_session("master_sources", in_memory=True) as session:
        replace_catalog(session, rows)
        assert extended_sources(session, marks) == {"resolved", "double"}
        assert extended_sources(session, ["compact", "double"]) == {"double"}
        assert extended_sources(session, []) == set()


def test_a_catalogue_is_replaced_whole_or_not_at_all() -> None:
    reset_engines()
    create_all("master_sources", in_memory=True)
    with get_session("master_sources", in_memory=True) as session:
        replace_catalog(session, sky(50))
    twice = [*sky(20), CatalogRow("s3", 1.0, 1.0, 1.0, 1.0)]
    with (
        pytest.raises(BadInputError, match="would name a source twice"),
        get_session("master_sources", in_memory=True) as session,
    ):
        replace_catalog(session, twice)
    with get_session("master_sources", in_memory=True) as session:
        assert len(find_sources(session, SkyPosition(0.0, 0.0), 180.0)) == 50
        replace_catalog(session, sky(20))
        assert len(session.scalars(select(Source)).all()) == 20
