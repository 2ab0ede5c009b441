from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from dsa110_contimg.database import create_all, get_session, reset_engines
from dsa110_contimg.database.catalog_query import assumed_spectra, find_sources, load_sky_model, ra_intervals
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.telescope import unit_vector
from dsa110_contimg.visibilities import SkyPosition


def sky(count: int, seed: int = 20260118) -> list[CatalogRow]:
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0.0, 360.0, count), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, count)))
    ra[:6], dec[:6] = [0.0, 359.9999, 0.0001, 12.0, 190.0, 0.0], [0.0, 0.1, -0.1, 90.0, -89.9, 89.5]
    flux = rng.uniform(0.01, 1.0, count)
    return [CatalogRow(f"s{i}", ra[i], dec[i], flux[i], flux[i] / 0.001) for i in range(count)]


@pytest.fixture
def catalog() -> Iterator[tuple[Session, list[CatalogRow]]]:
    reset_engines()
    create_all("master_sources", in_memory=True)
    rows = sky(3000)
    with get_session("master_sources", in_memory=True) as session:
        assert replace_catalog(session, rows) == 3000
        yield session, rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(ra=0.0, dec=0.0, radius=5.0)
@example(ra=359.9, dec=80.0, radius=9.99)
@example(ra=10.0, dec=80.0, radius=10.0)
@example(ra=10.0, dec=-90.0, radius=1.0)
@example(ra=180.0, dec=0.0, radius=120.0)
@example(ra=360.0, dec=45.0, radius=20.0)
@given(ra=st.floats(0.0, 360.0), dec=st.floats(-90.0, 90.0), radius=st.floats(0.0, 180.0))
def test_agrees_with_brute_force(
    catalog: tuple[Session, list[CatalogRow]], ra: float, dec: float, radius: float
) -> None:
    session, rows = catalog
    # Distances from chords: an independent formula.
    vectors = unit_vector([row.ra_deg for row in rows], [row.dec_deg for row in rows])
    chord = np.linalg.norm(vectors - unit_vector(ra, dec), axis=1)
    distance = np.degrees(2.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0)))
    found = {row.source_id for row in find_sources(session, SkyPosition(ra, dec), radius)}
    certain = {rows[i].source_id for i in np.flatnonzero(distance < radius - 1e-6)}
    possible = {rows[i].source_id for i in np.flatnonzero(distance < radius + 1e-6)}
    assert certain <= found <= possible


@given(ra=st.floats(0.0, 359.999), dec=st.floats(-89.0, 89.0), radius=st.floats(0.001, 5.0))
def test_the_box_is_tight(ra: float, dec: float, radius: float) -> None:
    width = sum(high - low for low, high in ra_intervals(SkyPosition(ra, dec), radius))
    if abs(dec) + radius < 89.99:
        assert 2 * radius <= width + 1e-6
        assert width <= 2 * radius / np.cos(np.radians(min(89.999, abs(dec) + radius))) + 1e-6
    assert all(0.0 <= low <= high <= 360.0 for low, high in ra_intervals(SkyPosition(ra, dec), radius))


def test_order_and_flux_limit(catalog: tuple[Session, list[CatalogRow]]) -> None:
    session, _ = catalog
    found = find_sources(session, SkyPosition(359.99995, 0.0), 1.0)
    assert found[0].source_id == "s0"
    bright = find_sources(session, SkyPosition(100.0, 30.0), 20.0, min_flux_jy=0.5)
    assert bright
    assert all(row.s_nvss is not None and row.s_nvss >= 0.5 for row in bright)
    assert find_sources(session, SkyPosition(100.0, 30.0), 0.0) == []


def test_a_sky_model_says_what_it_assumes() -> None:
    reset_engines()
    create_all("master_sources", in_memory=True)
    rows = [
        CatalogRow("known", 10.0, 30.0, 2.0, 100.0, alpha=-1.0),
        CatalogRow("unknown", 10.1, 30.0, 1.0, 100.0),
        CatalogRow("no flux", 10.0, 30.1, None, None),
        CatalogRow("faint", 10.0, 30.05, 0.001, 3.0),
    ]
    with get_session("master_sources", in_memory=True) as session:
        replace_catalog(session, rows)
        model = load_sky_model(session, SkyPosition(10.0, 30.0), 1.0, 0.05)
        assert model.names == ["known", "unknown"]
        assert model.spectrum.tolist() == [[-1.0], [-0.7]]
        assert model.flux_at(np.array([1.4e9])).ravel().tolist() == [2.0, 1.0]
        assert assumed_spectra(find_sources(session, SkyPosition(10.0, 30.0), 1.0, 0.05)) == ["unknown"]
        empty = load_sky_model(session, SkyPosition(200.0, 30.0), 1.0, 0.05)
        assert len(empty) == 0
        assert empty.flux_at(np.array([1.4e9, 1.5e9])).shape == (0, 2)


def test_a_catalogue_is_replaced_whole_or_not_at_all() -> None:
    reset_engines()
    create_all("master_sources", in_memory=True)
    with get_session("master_sources", in_memory=True) as session:
        replace_catalog(session, sky(50))
    twice = [*sky(20), CatalogRow("s3", 1.0, 1.0, 1.0, 1.0)]
    with (
        pytest.raises(BadInputError, match="holds a source id twice"),
        get_session("master_sources", in_memory=True) as session,
    ):
        replace_catalog(session, twice)
    with get_session("master_sources", in_memory=True) as session:
        assert len(find_sources(session, SkyPosition(0.0, 0.0), 180.0)) == 50
        replace_catalog(session, sky(20))
        assert len(find_sources(session, SkyPosition(0.0, 0.0), 180.0)) == 20
