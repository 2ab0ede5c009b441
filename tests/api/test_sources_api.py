"""Sources, light curves, photometry and candidates over HTTP, against the survey that was put in."""

import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet
import pytest
from astropy.table import Table
from fastapi.testclient import TestClient
from tests.api.survey import CANDIDATE, MJD_0, NIGHTS, SOURCES, Survey

from dsa110_contimg.api import answers
from dsa110_contimg.database import audit, get_session
from dsa110_contimg.database.models import Photometry, Role, VariabilityStats

API = "/api/v1"
MEASURED = {truth.name: truth for truth in SOURCES if truth.fluxes_jy}
ONE_POINT, UNMEASURED = SOURCES[10], SOURCES[11]
Bearer = Callable[[Role], dict[str, str]]


def curve(name: str) -> str:
    return f"{API}/sources/{quote(name, safe='')}/lightcurve"


def detail(answer: Any, status: int) -> str:
    """Check that an answer is a problem document and return its sentence."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    return str(answer.json()["detail"])


def follow(client: TestClient, **asked: object) -> list[dict[str, Any]]:
    """Return all items of a list of sources, page by page, by its Link header."""
    answer = client.get(f"{API}/sources", params={key: str(value) for key, value in asked.items()})
    found: list[dict[str, Any]] = []
    while True:
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if "next" not in answer.links:
            return found
        answer = client.get(str(answer.links["next"]["url"]))


def test_pages_hold_each_source_once_with_its_truth(surveyed: TestClient) -> None:
    found = follow(surveyed, limit=4, sort="-mean_flux_jy")
    assert {item["source_id"] for item in found} == set(MEASURED)
    assert [item["mean_flux_jy"] for item in found] == sorted((i["mean_flux_jy"] for i in found), reverse=True)
    for item in found:
        truth = MEASURED[item["source_id"]]
        assert item["mean_flux_jy"] == pytest.approx(np.mean(truth.fluxes_jy))
        assert (item["ra_deg"], item["n_obs"]) == (truth.ra_deg, len(truth.fluxes_jy))


def test_a_source_of_one_point_has_no_variability_and_comes_last(surveyed: TestClient) -> None:
    last = follow(surveyed, sort="-eta", limit=5)[-1]
    assert (last["source_id"], last["eta"], last["v"]) == (ONE_POINT.name, None, None)


@pytest.mark.parametrize(
    "write", [str, lambda name: name.replace(" ", "_"), lambda name: name[5:], lambda name: name[6:]]
)
def test_a_source_by_any_spelling(surveyed: TestClient, write: Callable[[str], str]) -> None:
    told = surveyed.get(f"{API}/sources/{quote(write(CANDIDATE.name), safe='')}").json()
    assert (told["source_id"], told["n_measurements"]) == (CANDIDATE.name, NIGHTS)
    assert told["catalog"]["spectral_index"] == -0.7
    assert [(one["status"], one["reason"]) for one in told["candidates"]] == [
        ("active", "dips by 60 % for three nights")
    ]


def test_a_source_by_its_position_and_one_that_nobody_measured(surveyed: TestClient) -> None:
    place = f"{UNMEASURED.ra_deg:.5f} {UNMEASURED.dec_deg:.5f}"
    told = surveyed.get(f"{API}/sources/{quote(place)}").json()
    assert (told["source_id"], told["statistics"], told["n_measurements"]) == (UNMEASURED.name, None, 0)
    assert told["catalog"]["nvss_flux_jy"] == pytest.approx(0.24)
    assert surveyed.get(curve(UNMEASURED.name)).json()["points"] == []
    assert "no statistics yet" in detail(surveyed.get(f"{API}/sources/{quote(UNMEASURED.name)}/variability"), 404)


def test_a_light_curve_is_what_was_measured(surveyed: TestClient) -> None:
    points = surveyed.get(curve(CANDIDATE.name)).json()["points"]
    assert [point["normalized_flux_jy"] for point in points] == list(CANDIDATE.fluxes_jy)
    assert [point["mjd"] for point in points] == [MJD_0 + night for night in range(NIGHTS)]
    assert {point["epoch_factor"] for point in points} == {1.0}
    assert all(point["image_id"] is not None and "/" not in point["image"] for point in points)


@pytest.mark.parametrize("kind", ["csv", "votable", "parquet"])
def test_a_light_curve_in_every_format(surveyed: TestClient, kind: str) -> None:
    answer = surveyed.get(curve(CANDIDATE.name), params={"format": kind})
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    if kind == "parquet":
        flux = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pydict()["normalized_flux_jy"]
    else:
        flux = Table.read(io.BytesIO(answer.content), format="ascii.csv" if kind == "csv" else "votable")[
            "normalized_flux_jy"
        ]
    np.testing.assert_array_equal(np.array(flux, float), CANDIDATE.fluxes_jy)


def test_what_was_retracted_is_shown_only_when_asked_for(surveyed: TestClient) -> None:
    with get_session("products") as session:
        row = session.query(Photometry).filter(Photometry.source_id == CANDIDATE.name, Photometry.mjd == MJD_0).one()
        row.retracted_at = 1.8e9
    assert len(surveyed.get(curve(CANDIDATE.name)).json()["points"]) == NIGHTS - 1
    everything = surveyed.get(curve(CANDIDATE.name), params={"every": "true"}).json()["points"]
    assert [point["retracted_at"] for point in everything] == [1.8e9] + [None] * (NIGHTS - 1)


def test_an_answer_is_kept_until_the_database_changes(surveyed: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(content: object) -> bytes:
        made.append(content)
        return answers.json_bytes(content)

    monkeypatch.setattr("dsa110_contimg.api.sources.json_bytes", counted)
    first = surveyed.get(curve(CANDIDATE.name))
    again = surveyed.get(curve(CANDIDATE.name), headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, len(made)) == (304, b"", 1)
    with get_session("products") as session:
        session.get_one(VariabilityStats, CANDIDATE.name).n_obs = 99
        session.query(Photometry).filter(Photometry.source_id == CANDIDATE.name).update({"normalized_flux_jy": 7.0})
    changed = surveyed.get(curve(CANDIDATE.name), headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, len(made)) == (200, 2)
    assert changed.json()["points"][0]["normalized_flux_jy"] == 7.0


def test_what_is_no_number_is_null(surveyed: TestClient) -> None:
    with get_session("products") as session:
        session.query(Photometry).filter(Photometry.source_id == CANDIDATE.name).update(
            {"normalized_flux_jy": float("inf"), "peak_jyb": float("-inf")}
        )
    answer = surveyed.get(curve(CANDIDATE.name))
    told = json.loads(answer.text, parse_constant=lambda constant: pytest.fail(constant))
    assert {point["normalized_flux_jy"] for point in told["points"]} == {None}


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("sources?ra_deg=1", 422, "a circle needs ra_deg and dec_deg"),
        ("sources?sort=separation_deg", 422, "needs a circle"),
        ("sources?sort=peak", 422, "sort"),
        ("sources?cursor=nonsense", 400, "cursor"),
        ("sources?min_eta=nan", 422, "min_eta"),
        ("sources?sorted=eta", 422, "sorted"),
        ("sources/nobody", 404, "fits no source"),
        ("sources/nobody/lightcurve", 404, "fits no source"),
        ("photometry?image_id=x", 422, "image_id"),
        ("candidates/variable/99", 404, "no candidate"),
        ("candidates?kind=both", 422, "kind"),
    ],
)
def test_bad_questions(surveyed: TestClient, query: str, status: int, sentence: str) -> None:
    assert sentence in detail(surveyed.get(f"{API}/{query}"), status)


def test_a_huge_circle_comes_in_pages(surveyed: TestClient) -> None:
    found = follow(surveyed, ra_deg=0.0, dec_deg=37.0, radius_deg=180.0, limit=3)
    assert {item["source_id"] for item in found} == set(MEASURED)
    assert len(found) == len(MEASURED)
    apart = [item["separation_deg"] for item in found]
    assert apart == sorted(apart)


def test_lists_as_files_hold_the_list_whole(surveyed: TestClient) -> None:
    answer = surveyed.get(f"{API}/sources", params={"format": "votable", "sort": "source_id", "limit": "2"})
    table = Table.read(io.BytesIO(answer.content), format="votable")
    assert list(table["source_id"]) == sorted(MEASURED)
    assert str(table["mean_flux_jy"].unit) == "Jy"


def test_photometry_of_a_source_and_of_an_image(surveyed: TestClient) -> None:
    of_source = surveyed.get(f"{API}/photometry", params={"source_id": CANDIDATE.name, "sort": "mjd"}).json()["items"]
    assert [item["normalized_flux_jy"] for item in of_source] == list(CANDIDATE.fluxes_jy)
    number = of_source[0]["image_id"]
    of_image = surveyed.get(f"{API}/photometry", params={"image_id": str(number), "sort": "id"}).json()["items"]
    assert {item["source_id"] for item in of_image} == set(MEASURED)


def test_the_neighbors_and_the_plane(surveyed: TestClient) -> None:
    near = surveyed.get(f"{API}/sources/{quote(CANDIDATE.name)}/neighbors", params={"radius_deg": "1"}).json()["items"]
    assert CANDIDATE.name not in {item["source_id"] for item in near}
    assert near
    plane = surveyed.get(f"{API}/variability").json()
    assert (plane["n_sources"], plane["source_id"][0]) == (11 - 1, CANDIDATE.name)


def test_only_operators_judge_and_every_act_is_audited(surveyed: TestClient, survey: Survey, bearer: Bearer) -> None:
    place = f"{API}/candidates/variable/{survey.candidate_id}"
    assert surveyed.post(f"{place}/dismiss", json={}).status_code == 401
    assert surveyed.post(f"{place}/dismiss", json={}, headers=bearer(Role.VIEWER)).status_code == 403
    operator = bearer(Role.OPERATOR)
    noted = surveyed.post(f"{place}/notes", json={"note": "low at 3 GHz"}, headers=operator).json()
    assert [(one["did"], one["note"]) for one in noted["history"]] == [("noted", "low at 3 GHz")]
    closed = surveyed.post(f"{place}/investigate", json={"note": "VLBI asked for"}, headers=operator).json()
    assert (closed["status"], closed["history"][-1]["by"]) == ("investigated", "operator-ada")
    assert "investigated already" in detail(surveyed.post(f"{place}/dismiss", json={}, headers=operator), 409)
    done = [(row.user_name, row.action, row.target) for row in audit.list_changes(limit=10)]
    target = f"candidate variable/{survey.candidate_id}"
    assert [("operator-ada", "investigate", target), ("operator-ada", "note", target)] == [
        d for d in done if d[2] == target
    ]


def test_new_sources_are_judged_alike(surveyed: TestClient, survey: Survey, bearer: Bearer) -> None:
    (item,) = surveyed.get(f"{API}/candidates", params={"kind": "new"}).json()["items"]
    assert (item["id"], item["status"], item["reason"]) == (
        survey.transient_id, "active", "no catalogue knows it; 8.0 mJy on 2 images")  # fmt: skip
    place = f"{API}/candidates/new/{survey.transient_id}"
    told = surveyed.post(f"{place}/dismiss", json={"note": "a sidelobe"}, headers=bearer(Role.OPERATOR)).json()
    assert (told["status"], told["history"][-1]["note"]) == ("dismissed", "a sidelobe")
    assert surveyed.get(f"{API}/candidates", params={"kind": "new"}).json()["items"] == []


def test_flagging_by_hand(surveyed: TestClient, bearer: Bearer) -> None:
    operator = bearer(Role.OPERATOR)
    asked = {"source_id": SOURCES[0].name, "note": "flat minimum"}
    made = surveyed.post(f"{API}/candidates", json=asked, headers=operator)
    assert (made.status_code, made.json()["flag_type"], made.json()["reason"]) == (201, "user", "flat minimum")
    assert "candidate already" in detail(surveyed.post(f"{API}/candidates", json=asked, headers=operator), 409)
    listed = follow(surveyed, candidate="true")
    assert {item["source_id"] for item in listed} == {CANDIDATE.name, SOURCES[0].name}


def test_pages_with_data_and_without(surveyed: TestClient) -> None:
    html = {"accept": "text/html"}
    assert CANDIDATE.name in surveyed.get("/sources", headers=html).text
    shown = surveyed.get(f"/sources/{quote(CANDIDATE.name)}", headers=html).text
    assert "dips by 60 % for three nights" in shown
    assert shown.count("<img") == 2, "of twelve nights two have files"
    assert "10 images of these epochs are not on disk any more" in shown
    assert "It has not been measured yet" in surveyed.get(f"/sources/{quote(UNMEASURED.name)}", headers=html).text
    assert "One epoch tells no variability" in surveyed.get(f"/sources/{quote(ONE_POINT.name)}", headers=html).text
    moved = surveyed.get("/sources", params={"q": CANDIDATE.name[5:]}, headers=html, follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, f"/sources/{quote(CANDIDATE.name, safe='')}")
    assert "No source fits" in surveyed.get("/sources?min_eta=1e9&q=", headers=html).text
    assert "2 await a person" in surveyed.get("/candidates", headers=html).text
    assert surveyed.get("/sources/plane", headers=html).status_code == 200
    assert "eta_line" not in surveyed.get("/sources/nobody", headers=html).text


def test_empty_databases_say_what_to_do_next(client: TestClient) -> None:
    html = {"accept": "text/html"}
    assert "No source has been measured yet" in client.get("/sources", headers=html).text
    assert "Nothing awaits a person" in client.get("/candidates", headers=html).text
    assert "at least two epochs" in client.get("/sources/plane", headers=html).text
    assert client.get(f"{API}/sources").json() == {"items": [], "next": None}
    assert client.get(f"{API}/variability").json()["n_sources"] == 0
