"""Lists of sources against a plain sort and filter of the rows that were put in, on SQLite and PostgreSQL."""

import math
import random
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import ESECandidate, Photometry, VariabilityStats
from dsa110_contimg.database.repositories import ImageRepository, PhotometryRepository, ms_index_upsert
from dsa110_contimg.database.source_details import find_named, list_neighbors
from dsa110_contimg.database.source_queries import (
    SEPARATION,
    SORTS,
    SourceFilter,
    SourceRow,
    get_statistics,
    list_sources,
    place_of,
)
from dsa110_contimg.database.source_table import COLUMNS, Place, SourceTable
from dsa110_contimg.database.variability_queries import eta_v_plane
from dsa110_contimg.naming import source_name
from dsa110_contimg.visibilities import SkyPosition

SEED = 20251224
COUNT = 400


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    """Return sources around RA 0 and around the pole; values tie, and one in five lacks its statistics."""
    rng = random.Random(SEED)
    made: dict[str, dict[str, Any]] = {}
    while len(made) < count:
        ra, dec = rng.uniform(-5.0, 5.0) % 360.0, rng.uniform(30.0, 34.0)
        if len(made) % 4 == 0:
            ra, dec = rng.uniform(0.0, 360.0), rng.uniform(87.0, 90.0)
        few = rng.random() < 0.2
        made[source_name(ra, dec)] = {
            "source_id": source_name(ra, dec),
            "ra_deg": ra,
            "dec_deg": dec,
            "nvss_flux_mjy": rng.choice([None, 3.3, rng.uniform(1.0, 900.0)]),
            "n_obs": 1 if few else rng.choice([5, 20]),
            "mean_flux_mjy": rng.uniform(1.0, 900.0),
            "eta_metric": None if few else round(rng.lognormvariate(0.0, 1.0), 1),
            "v_metric": None if few else rng.uniform(0.0, 0.4),
            "sigma_deviation": None if few else rng.uniform(0.0, 9.0),
            "chi2_nu": None if few else rng.uniform(0.0, 4.0),
            "last_mjd": 60000.0 + rng.randrange(30),
            "updated_at": 1.0,
        }
    return list(made.values())


@pytest.fixture
def filled(backend: str) -> list[SourceRow]:
    assert backend
    print(f"seed {SEED}")
    with get_session("products") as session:
        PhotometryRepository.store_statistics(session, rows())
        session.flush()
        for name in session.scalars(select(VariabilityStats.source_id).order_by(VariabilityStats.source_id).limit(7)):
            session.add(ESECandidate(source_id=name, flagged_at=1.0, significance=6.0, flag_type="ese"))
    with get_session("products", read_only=True) as session:
        return list_sources(session, SourceFilter(), "source_id", None, 10_000)


def follow(wanted: SourceFilter, sort: str, limit: int) -> list[SourceRow]:
    """Return a whole list, page by page."""
    found: list[SourceRow] = []
    after: Place | None = None
    with get_session("products", read_only=True) as session:
        while True:
            page = list_sources(session, wanted, sort, after, limit + 1)
            found += page[:limit]
            if len(page) <= limit:
                return found
            after = place_of(page[limit - 1], sort)


def expected(everything: list[SourceRow], wanted: SourceFilter, sort: str) -> list[str]:
    """Return the names in a list, found by plain means: those without a value last, in the order of names."""
    least = {"eta": wanted.min_eta, "v": wanted.min_v, "sigma_deviation": wanted.min_sigma,
             "mean_flux_jy": wanted.min_flux_jy, "dec_deg": wanted.min_dec_deg, "n_obs": wanted.min_n_obs}  # fmt: skip
    kept = [
        row
        for row in everything
        if all(
            low is None or (getattr(row, name) is not None and getattr(row, name) >= low) for name, low in least.items()
        )
        and (wanted.max_flux_jy is None or (row.mean_flux_jy or math.inf) <= wanted.max_flux_jy)
    ]
    name = sort.removeprefix("-")
    known = [row for row in kept if getattr(row, name) is not None]
    known.sort(key=lambda row: (getattr(row, name), row.source_id), reverse=sort.startswith("-"))
    unknown = sorted(row.source_id for row in kept if getattr(row, name) is None)
    return [row.source_id for row in known] + unknown


@pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
def test_every_order_holds_every_source_once(filled: list[SourceRow], sort: str) -> None:
    assert len(filled) == COUNT
    assert [row.source_id for row in follow(SourceFilter(), sort, 37)] == expected(filled, SourceFilter(), sort)


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "min_eta": st.floats(0.0, 5.0),
        "min_v": st.floats(0.0, 0.4),
        "min_sigma": st.floats(0.0, 9.0),
        "min_flux_jy": st.floats(0.0, 0.9),
        "max_flux_jy": st.floats(0.0, 0.9),
        "min_dec_deg": st.floats(29.0, 90.0),
        "min_n_obs": st.integers(0, 21),
    },
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=LIMITS,
    sort=st.sampled_from([sign + name for name in SORTS for sign in ("", "-")]),
    limit=st.integers(1, 60),
)
def test_any_limits_in_any_order(filled: list[SourceRow], limits: dict[str, Any], sort: str, limit: int) -> None:
    wanted = SourceFilter(**limits)
    assert [row.source_id for row in follow(wanted, sort, limit)] == expected(filled, wanted, sort)


def test_a_list_shows_what_was_committed_last(filled: list[SourceRow]) -> None:
    """Changed, new and removed sources, in each session; statistics of one moment too."""
    first, second = filled[0], filled[-1]
    with get_session("products", read_only=True) as session:
        assert len(list_sources(session, SourceFilter(), "eta", None, 10_000)) == COUNT
    with get_session("products") as session:
        store = PhotometryRepository.store_statistics
        store(session, [{"source_id": first.source_id, "ra_deg": 1.0, "dec_deg": 2.0, "updated_at": 1.0, "n_obs": 77}])
        store(session, [{"source_id": "new", "ra_deg": 1.0, "dec_deg": 2.5, "updated_at": 1.0, "eta_metric": 99.0}])
        session.delete(session.get_one(VariabilityStats, second.source_id))
        session.flush()
        assert list_sources(session, SourceFilter(), "-eta", None, 1)[0].source_id == "new"
    with get_session("products", read_only=True) as session:
        told = {row.source_id: row for row in list_sources(session, SourceFilter(), "eta", None, 10_000)}
        assert told[first.source_id].n_obs == 77
        assert second.source_id not in told
        assert told["new"].eta == 99.0
        assert len(told) == COUNT


@settings(max_examples=50)
@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from([0.0, -1.5, 2.0, 1e300]), st.floats(-9.0, 9.0)), max_size=40),
    descending=st.booleans(),
    limit=st.integers(1, 7),
)
def test_pages_go_on_where_the_last_ended(values: list[float | None], descending: bool, limit: int) -> None:
    """Also behind a place whose source is no longer there, and where many values are equal."""
    names = [f"S{number:02d}" for number in range(len(values))]
    numbers = np.full((len(COLUMNS), len(values)), np.nan)
    numbers[COLUMNS.index("eta")] = [math.nan if value is None else value for value in values]
    table = SourceTable(names, numbers)
    valued = sorted(((v, n) for v, n in zip(values, names, strict=True) if v is not None), reverse=descending)
    whole = [n for _v, n in valued] + [n for v, n in zip(values, names, strict=True) if v is None]
    value_of = dict(zip(names, values, strict=True))
    for start in range(0, len(whole), limit):
        after = (value_of[whole[start]], whole[start])
        behind = [names[row] for row in table.behind(table.order("eta"), descending, after)]
        assert behind == whole[start + 1 :]
    for value, name in [(0.5, "S07x"), (None, "S03x")]:
        # Where a source that is gone stood, the list goes on as if it were there.
        entries = [(value_of[each], each) for each in whole]
        behind = [names[row] for row in table.behind(table.order("eta"), descending, (value, name))]
        assert behind == [each for v, each in entries if follows((v, each), (value, name), descending)]


def follows(entry: Place, place: Place, descending: bool) -> bool:
    """Return whether an entry stands behind a place, those without a value last, in the order of names."""
    if entry[0] is None or place[0] is None:
        return entry[0] is None and (place[0] is not None or entry[1] > place[1])
    return entry < place if descending else entry > place


@pytest.mark.parametrize(
    ("ra_deg", "dec_deg", "radius_deg"),
    [
        (0.0, 32.0, 1.5),
        (359.9, 31.0, 0.7),
        (10.0, 90.0, 1.0),
        (123.0, 89.5, 2.0),
        (0.0, 32.0, 0.0),
        (5.0, -10.0, 180.0),
    ],
)
@pytest.mark.parametrize("sort", [SEPARATION, f"-{SEPARATION}", "-eta", "n_obs", "source_id"])
def test_a_circle_holds_who_lies_in_it(
    filled: list[SourceRow], ra_deg: float, dec_deg: float, radius_deg: float, sort: str
) -> None:
    center = SkyCoord(ra_deg, dec_deg, unit="deg")
    apart = SkyCoord([r.ra_deg for r in filled], [r.dec_deg for r in filled], unit="deg").separation(center).deg
    inside = [row._replace(separation_deg=away) for row, away in zip(filled, apart, strict=True) if away <= radius_deg]
    wanted = SourceFilter(center=SkyPosition(ra_deg, dec_deg), radius_deg=radius_deg)
    found = follow(wanted, sort, 23)
    assert [row.source_id for row in found] == expected(inside, SourceFilter(), sort)
    told = {row.source_id: row.separation_deg for row in inside}
    for row in found:
        assert row.separation_deg == pytest.approx(told[row.source_id], abs=1e-9)


def test_who_awaits_a_person(filled: list[SourceRow]) -> None:
    active = {row.source_id for row in follow(SourceFilter(candidate=True), "-eta", 3)}
    others = {row.source_id for row in follow(SourceFilter(candidate=False), "-eta", 100)}
    assert (len(active), len(others)) == (7, COUNT - 7)
    assert active | others == {row.source_id for row in filled}


def test_neighbors_are_the_nearest_without_the_source_itself(filled: list[SourceRow]) -> None:
    center = next(row for row in filled if row.dec_deg < 80.0)
    with get_session("products", read_only=True) as session:
        near = list_neighbors(session, SkyPosition(center.ra_deg, center.dec_deg), center.source_id, 2.0, 5)
    assert center.source_id not in {row.source_id for row in near}
    apart = [row.separation_deg or 0.0 for row in near]
    assert apart == sorted(apart)


def test_the_plane_shows_who_varies_and_draws_lines(filled: list[SourceRow]) -> None:
    with get_session("products", read_only=True) as session:
        plane = eta_v_plane(session)
    both = [row for row in filled if row.eta and row.v]
    assert plane.n_sources == len(both)
    assert plane.points[0].eta == max(row.eta or 0.0 for row in both)
    log_eta = np.log10([row.eta or 0.0 for row in both])
    width = 1.4826 * np.median(np.abs(log_eta - np.median(log_eta)))
    assert plane.eta_line == pytest.approx(10.0 ** (np.median(log_eta) + 3.0 * width))
    outside = [row for row in both if (row.eta or 0) > (plane.eta_line or 0) and (row.v or 0) > (plane.v_line or 0)]
    assert plane.n_outside == len(outside)


def test_names_and_positions(backend: str) -> None:
    assert backend
    name = source_name(202.7845, 30.5092)
    with get_session("products") as session:
        PhotometryRepository.store_statistics(
            session, [{"source_id": name, "ra_deg": 202.7845, "dec_deg": 30.5092, "updated_at": 1.0, "n_obs": 1}]
        )
    with (
        get_session("products", read_only=True) as products,
        get_session("master_sources", read_only=True) as master,
        get_session("calibrators", read_only=True) as calibrators,
    ):
        for spelling in (
            name,
            name.replace(" ", "_"),
            name[5:],
            "J1331+3030",
            "202.7845 30.5092",
            "13:31:08.3 +30:30:33",
        ):
            assert find_named(products, master, calibrators, spelling) == [name], spelling
        assert find_named(products, master, calibrators, "nobody") == []
        assert find_named(products, master, calibrators, "12.0 -30.0") == []
        assert get_statistics(products, "nobody") is None


def test_a_measurement_is_found_by_its_image_and_time(backend: str) -> None:
    from dsa110_contimg.database.photometry_queries import MeasurementFilter, list_measurements
    from dsa110_contimg.database.photometry_queries import place_of as place

    assert backend
    with get_session("products") as session:
        ms_index_upsert(session, "/a.ms")
        images = [
            ImageRepository.add(session, path=f"/{n}.fits", ms_path="/a.ms", type="image", created_at=1.0).id
            for n in range(3)
        ]
        for number in range(30):
            session.add(
                Photometry(image_path=f"/{number % 3}.fits", source_id=f"S{number % 10}", ra_deg=1.0, dec_deg=2.0,
                           peak_jyb=0.1 * number, measured_at=1.0,
                           mjd=None if number % 7 == 0 else 60000.0 + number % 5,
                           upper_limit_jyb=1.0 if number % 2 else None, snr=float(number))
            )  # fmt: skip
    with get_session("products", read_only=True) as session:
        for sort in ("id", "-id", "mjd", "-mjd"):
            found, after = [], None
            while page := list_measurements(session, MeasurementFilter(), sort, after, 7):
                found += page
                after = place(page[-1], sort)
            assert sorted(row.id for row in found) == list(range(1, 31)), sort
        of_image = list_measurements(session, MeasurementFilter(image_id=images[1], detected=False), "id", None, 50)
        assert [row.image for row in of_image] == ["1.fits"] * 5
        assert all(row.upper_limit_jyb is not None for row in of_image)
        assert list_measurements(session, MeasurementFilter(image_id=99), "id", None, 50) == []
        late = list_measurements(session, MeasurementFilter(min_mjd=60003.0, min_snr=10.0), "mjd", None, 50)
        assert {row.mjd for row in late} == {60003.0, 60004.0}
        assert min(row.snr or 0.0 for row in late) >= 10.0
