"""Sources, light curves, photometry and candidates over HTTP, against the survey that was put in."""

import html
import io
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet
import pytest
from astropy.table import Table
from fastapi.testclient import TestClient
from tests.api.survey import CANDIDATE, HELD, MJD_0, NIGHTS, PUBLISHED, SOURCES, Survey

from dsa110_contimg.api import answers
from dsa110_contimg.database import audit, get_session
from dsa110_contimg.database.models import Image, Photometry, Role, TransientCandidate, VariabilityStats

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
        ("sources?ra_deg=1", 400, "a circle needs ra_deg and dec_deg"),
        ("sources?sort=separation_deg", 400, "needs a circle"),
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


def test_a_new_source_is_shown_on_the_last_image_that_has_it(surveyed: TestClient) -> None:
    seen = {f"/gone/{name}.fits": [mjd, 0.008, 7.7] for name, mjd in ((HELD, MJD_0 + 1.0), (PUBLISHED, MJD_0))}
    with get_session("products") as session:
        session.query(TransientCandidate).one().notes = json.dumps({"images": seen})
    [told] = surveyed.get(f"{API}/candidates", params={"kind": "new"}).json()["items"]
    assert told["last_image"] == HELD
    shown = surveyed.get("/candidates?kind=new", headers={"accept": "text/html"}).text
    [address] = [html.unescape(link) for link in re.findall(r'<img[^>]* src="([^"]*cutout[^"]*)"', shown)]
    assert surveyed.get(address).headers["content-type"] == "image/png"
    assert f'href="/candidates?kind=new&amp;status=all#new-{told["id"]}"' in surveyed.get("/").text
    assert f'id="new-{told["id"]}"' in shown


def test_home_names_both_kinds_of_candidates_whichever_is_more_significant(surveyed: TestClient) -> None:
    place = {"ra_deg": 0.1, "dec_deg": 37.0, "detection_type": "new_source", "detected_at": 1.7666e9}
    with get_session("products") as session:
        session.add_all(TransientCandidate(significance_sigma=50.0 + n, **place) for n in range(9))
    for page in ("/", "/candidates"):
        shown = surveyed.get(page, headers={"accept": "text/html"}).text
        assert CANDIDATE.name in shown
        assert "58.0 σ" in shown


def test_flagging_by_hand(surveyed: TestClient, bearer: Bearer) -> None:
    operator = bearer(Role.OPERATOR)
    asked = {"source_id": SOURCES[0].name, "note": "flat minimum"}
    made = surveyed.post(f"{API}/candidates", json=asked, headers=operator)
    assert (made.status_code, made.json()["flag_type"], made.json()["reason"]) == (201, "user", "flat minimum")
    assert "candidate already" in detail(surveyed.post(f"{API}/candidates", json=asked, headers=operator), 409)
    listed = follow(surveyed, candidate="true")
    assert {item["source_id"] for item in listed} == {CANDIDATE.name, SOURCES[0].name}


def test_notes_on_a_source_that_is_no_candidate(surveyed: TestClient, bearer: Bearer) -> None:
    operator, viewer = bearer(Role.OPERATOR), bearer(Role.VIEWER)
    for truth in (ONE_POINT, UNMEASURED):
        address = f"{API}/sources/{quote(truth.name[5:])}/notes"
        assert surveyed.get(address).json() == {"items": [], "next": None}
        detail(surveyed.post(address, json={"note": "a sidelobe"}), 401)
        detail(surveyed.post(address, json={"note": "a sidelobe"}, headers=viewer), 403)
        detail(surveyed.post(address, json={"note": " "}, headers=operator), 422)
        for note in ("a sidelobe", "no: <b>real</b>"):
            made = surveyed.post(address, json={"note": note}, headers=operator)
            assert (made.status_code, made.json()["note"], made.json()["by"]) == (201, note, "operator-ada")
        first = surveyed.get(address, params={"limit": 1}).json()
        rest = surveyed.get(address, params={"cursor": first["next"]}).json()
        assert [one["note"] for one in first["items"] + rest["items"]] == ["no: <b>real</b>", "a sidelobe"]
        assert {row.detail for row in audit.list_changes(target=f"source {truth.name}")} == {"a sidelobe", note}
        shown = surveyed.get(f"/sources/{quote(truth.name)}", headers={"accept": "text/html"}).text
        assert "operator-ada: no: &lt;b&gt;real&lt;/b&gt;" in shown
    detail(surveyed.post(f"{API}/sources/nobody/notes", json={"note": "who?"}, headers=operator), 404)


def test_the_noisier_an_image_the_paler_its_bar(surveyed: TestClient) -> None:
    with get_session("products") as session:
        first, *_rest = session.query(Image).filter(Image.type == "mosaic").order_by(Image.id)
        first.noise_jy = 4e-3
    shown = surveyed.get(f"/sources/{quote(CANDIDATE.name)}", headers={"accept": "text/html"}).text
    assert "paler the noisier their image (1.00 to 4.00 mJy/beam)" in shown
    chart = json.loads(re.findall(r'id="lightcurve-data">(.*?)</script>', shown)[0])
    assert chart["series"][0]["pale"] == [1.0] + [0.0] * (NIGHTS - 1)
    assert {line["label"] for line in chart["lines"]} == {"mean", "NVSS"}


def test_pages_with_data_and_without(surveyed: TestClient) -> None:
    page = {"accept": "text/html"}
    assert CANDIDATE.name in surveyed.get("/sources", headers=page).text
    shown = surveyed.get(f"/sources/{quote(CANDIDATE.name)}", headers=page).text
    assert "dips by 60 % for three nights" in shown
    assert shown.count("<img") == 2, "of twelve nights two have files"
    assert "10 images of these epochs are not on disk any more" in shown
    assert "It has not been measured yet" in surveyed.get(f"/sources/{quote(UNMEASURED.name)}", headers=page).text
    assert "One epoch tells no variability" in surveyed.get(f"/sources/{quote(ONE_POINT.name)}", headers=page).text
    moved = surveyed.get("/sources", params={"q": CANDIDATE.name[5:]}, headers=page, follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, f"/sources/{quote(CANDIDATE.name, safe='')}")
    assert "No source fits" in surveyed.get("/sources?min_eta=1e9&q=", headers=page).text
    assert "2 await a person" in surveyed.get("/candidates", headers=page).text
    assert surveyed.get("/sources/plane", headers=page).status_code == 200
    assert "eta_line" not in surveyed.get("/sources/nobody", headers=page).text


def test_empty_databases_say_what_to_do_next(client: TestClient) -> None:
    page = {"accept": "text/html"}
    assert "No source has been measured yet" in client.get("/sources", headers=page).text
    assert "Nothing awaits a person" in client.get("/candidates", headers=page).text
    assert "at least two epochs" in client.get("/sources/plane", headers=page).text
    assert client.get(f"{API}/sources").json() == {"items": [], "next": None}
    assert client.get(f"{API}/variability").json()["n_sources"] == 0
