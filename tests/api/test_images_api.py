"""Images and mosaics over HTTP: lists against the rows that were put in, files and cutouts by id, what is missing."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from fastapi.testclient import TestClient
from PIL import Image as Picture
from tests.api.survey import CELL_DEG, CENTERS, HELD, MJD_0, PUBLISHED, SOURCES, STAMPS, TILE_DAYS, Survey

from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import Image, Mosaic, MSIndex, QACheck

IMAGES, MOSAICS = "/api/v1/images", "/api/v1/mosaics"


def names(client: TestClient, address: str, key: str = "group_id", **asked: object) -> list[object]:
    answer = client.get(address, params={name: str(value) for name, value in asked.items()})
    assert answer.status_code == 200, answer.text
    return [item[key] for item in answer.json()["items"]]


def sentence(client: TestClient, address: str, status: int, **asked: object) -> str:
    answer = client.get(address, params={name: str(value) for name, value in asked.items()} or None)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def follow(client: TestClient, address: str, key: str, **asked: str | int) -> list[object]:
    found, cursor = list[object](), None
    while True:
        page = client.get(address, params={**asked, **({"cursor": cursor} if cursor else {})}).json()
        found += [item[key] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found


def test_tiles_come_newest_first_and_in_pages(surveyed: TestClient) -> None:
    assert names(surveyed, IMAGES) == list(reversed(STAMPS))
    assert names(surveyed, IMAGES, sort="time") == list(STAMPS)
    assert follow(surveyed, IMAGES, "group_id", limit=1) == list(reversed(STAMPS))
    assert names(surveyed, IMAGES, kind="rms") == []
    assert len(follow(surveyed, IMAGES, "id", kind="all", limit=4)) == 15


def test_rows_without_a_value_come_last_whichever_way(surveyed: TestClient) -> None:
    with get_session("products") as session:
        rows = session.query(Image).filter(Image.type == "image").order_by(Image.id).all()
        rows[0].noise_jy, rows[1].noise_jy, rows[2].noise_jy = None, 2e-3, 1e-3
        ids = [row.id for row in rows]
    assert follow(surveyed, IMAGES, "id", sort="noise", limit=1) == [ids[2], ids[1], ids[0]]
    assert follow(surveyed, IMAGES, "id", sort="-noise", limit=1) == [ids[1], ids[2], ids[0]]
    assert follow(surveyed, IMAGES, "id", sort="noise", limit=2) == [ids[2], ids[1], ids[0]]
    answer = surveyed.get(IMAGES, params={"sort": "noise", "limit": 2})
    assert answer.json()["next"] in answer.links["next"]["url"]


def test_filters_by_time_declination_noise_and_verdict(surveyed: TestClient) -> None:
    with get_session("products") as session:
        rows = session.query(Image).filter(Image.type == "image").order_by(Image.id).all()
        rows[0].noise_jy, rows[1].center_dec_deg = 4e-3, -5.0
        for stamp, verdict in zip(STAMPS, ("passed", "failed", "unmeasured"), strict=True):
            for name, said in (("noise", "passed"), ("bowl", verdict)):
                session.add(QACheck(subject=stamp, name=name, value=1.0, verdict=said, measured_at=1.7e9))
    assert names(surveyed, IMAGES, day="2025-12-24") == list(reversed(STAMPS))
    assert names(surveyed, IMAGES, day="2025-12-23") == []
    assert names(surveyed, IMAGES, from_mjd=MJD_0 + 2.5 * TILE_DAYS) == [STAMPS[2]]
    assert names(surveyed, IMAGES, to_mjd=MJD_0 + 0.5 * TILE_DAYS) == [STAMPS[0]]
    assert names(surveyed, IMAGES, noise_max_jy=2e-3) == [STAMPS[2], STAMPS[1]]
    assert names(surveyed, IMAGES, dec_min_deg=0.0) == [STAMPS[2], STAMPS[0]]
    assert names(surveyed, IMAGES, dec_max_deg=0.0) == [STAMPS[1]]
    assert [names(surveyed, IMAGES, verdict=one) for one in ("passed", "failed", "warning")] == [
        [STAMPS[0]], [STAMPS[1]], [STAMPS[2]],
    ]  # fmt: skip


def test_one_image_with_its_files_and_figures(surveyed: TestClient, survey: Survey) -> None:
    with get_session("products") as session:
        session.query(MSIndex).filter(MSIndex.group_id == STAMPS[0]).update(
            {"caltables": '["/a/b/x_bpcal", "/c/x_gcal"]'}
        )
    told = surveyed.get(f"{IMAGES}/{survey.image_id}").json()
    assert told["calibration_tables"] == ["x_bpcal", "x_gcal"]
    assert (told["group_id"], told["center_ra_deg"], told["center_dec_deg"]) == (STAMPS[0], *CENTERS[0])
    assert told["start_mjd"] == MJD_0
    assert told["files"] == {"image": survey.image_id}
    document = surveyed.get(f"{IMAGES}/{survey.image_id}/provenance").json()
    assert any(STAMPS[0] in name for name in document["entity"])


def test_files_come_whole_in_parts_and_only_once(surveyed: TestClient, survey: Survey) -> None:
    address = f"{IMAGES}/{survey.image_id}/fits"
    whole = surveyed.get(address)
    with fits.open(io.BytesIO(whole.content)) as hdus:
        assert hdus[0].data.shape[-2:] == (96, 96)
    part = surveyed.get(address, headers={"Range": "bytes=0-79"})
    assert (part.status_code, part.content) == (206, whole.content[:80])
    assert surveyed.get(address, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    small = surveyed.get(address, params={"pixels": 64})
    with fits.open(io.BytesIO(small.content)) as hdus:
        assert hdus[0].data.shape[-2:] == (48, 48)
        assert hdus[0].header["CDELT2"] == pytest.approx(2 * CELL_DEG)


@pytest.mark.parametrize("kind", ["preview", "thumbnail"])
def test_pictures(surveyed: TestClient, survey: Survey, kind: str) -> None:
    for address in (f"{IMAGES}/{survey.image_id}/{kind}", f"{MOSAICS}/{PUBLISHED}/{kind}", f"{MOSAICS}/{HELD}/{kind}"):
        answer = surveyed.get(address)
        assert answer.status_code == 200
        picture = Picture.open(io.BytesIO(answer.content))
        assert picture.get_format_mimetype() == answer.headers["content-type"]
        assert surveyed.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("truth", [SOURCES[0], SOURCES[2], SOURCES[3]])
def test_a_cutout_has_its_source_in_the_middle(surveyed: TestClient, truth: object) -> None:
    """The first lies west of right ascension 0, the others east of it."""
    assert isinstance(truth, type(SOURCES[0]))
    where = {"ra": str(truth.ra_deg), "dec": str(truth.dec_deg), "size_arcmin": "10"}
    answer = surveyed.get(f"{MOSAICS}/{PUBLISHED}/cutout", params=where)
    with fits.open(io.BytesIO(answer.content)) as hdus:
        plane = hdus[0].data[0, 0]
        assert np.abs(np.array(np.unravel_index(np.nanargmax(plane), plane.shape)) - plane.shape[0] // 2).max() <= 1
        assert np.nanmax(plane) == pytest.approx(truth.fluxes_jy[0], rel=0.25)
    drawn = surveyed.get(f"{MOSAICS}/{PUBLISHED}/cutout", params={**where, "format": "png"})
    picture = Picture.open(io.BytesIO(drawn.content))
    assert min(picture.size) >= 96
    again = surveyed.get(
        f"{MOSAICS}/{PUBLISHED}/cutout", params=where, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"ra": 120.0, "dec": 37.0}, 404, "no value at 120"),
        ({"ra": 0.4, "dec": 37.0, "size_arcmin": 1e4}, 422, "size_arcmin"),
        ({"ra": 0.4, "dec": 97.0}, 422, "dec"),
        ({"ra": "nan", "dec": 7.0}, 422, "ra"),
        ({"ra": 0.4, "dec": 37.0, "format": "exe"}, 422, "format"),
        ({"ra": 0.4}, 422, "dec"),
    ],
)
def test_a_cutout_that_cannot_be(surveyed: TestClient, asked: dict[str, object], status: int, words: str) -> None:
    assert words in sentence(surveyed, f"{MOSAICS}/{PUBLISHED}/cutout", status, **asked)


def test_a_cutout_of_too_many_pixels_is_refused(
    surveyed: TestClient, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsa110_contimg.api.pictures.MAX_PIXELS", 20)
    told = sentence(surveyed, f"{IMAGES}/{survey.image_id}/cutout", 422, ra=359.3, dec=37.0, size_arcmin=60)
    assert "20 are the most" in told


def test_sources_on_an_image_and_of_the_catalogue(surveyed: TestClient) -> None:
    told = surveyed.get(f"{MOSAICS}/{PUBLISHED}/sources").json()
    measured = {one["source_id"]: one["peak_jyb"] for one in told["measured"]}
    assert measured == {truth.name: truth.fluxes_jy[0] for truth in SOURCES if truth.fluxes_jy}
    assert told["catalog_missing"] is None
    inside = {truth.name for truth in SOURCES if abs((truth.ra_deg - 0.4 + 180) % 360 - 180) * 0.8 < 0.9}
    assert {one["source_id"] for one in told["catalog"]} <= {truth.name for truth in SOURCES}
    assert inside - {SOURCES[0].name} <= {one["source_id"] for one in told["catalog"]}


def test_mosaics_by_verdict_and_whether_published(surveyed: TestClient) -> None:
    assert names(surveyed, MOSAICS, "name") == [HELD, PUBLISHED]
    assert names(surveyed, MOSAICS, "name", published=True) == [PUBLISHED]
    assert names(surveyed, MOSAICS, "name", published=False) == [HELD]
    assert names(surveyed, MOSAICS, "name", verdict="failed") == [HELD]
    assert names(surveyed, MOSAICS, "name", dec_min_deg=38.4, dec_max_deg=39.0) == [HELD, PUBLISHED]
    assert names(surveyed, MOSAICS, "name", dec_min_deg=38.6) == []
    assert names(surveyed, MOSAICS, "name", day="2025-12-25") == [HELD]


def test_a_list_that_another_database_filters_is_full_and_whole(surveyed: TestClient) -> None:
    with get_session("products") as session:
        session.add_all(
            Mosaic(path=f"/m/{n}.fits", name=f"m{n}", created_at=1.0, start_mjd=MJD_0 + 10 + n, end_mjd=MJD_0 + 11 + n)
            for n in range(450)
        )
    assert follow(surveyed, MOSAICS, "name", published="true", limit=1) == [PUBLISHED]
    waiting = follow(surveyed, MOSAICS, "name", published="false", limit=100)
    assert waiting == [*(f"m{n}" for n in reversed(range(450))), HELD]


def test_one_mosaic_by_name_or_number(surveyed: TestClient, survey: Survey) -> None:
    told = surveyed.get(f"{MOSAICS}/{PUBLISHED}").json()
    assert told == surveyed.get(f"{MOSAICS}/{survey.mosaic_id}").json()
    assert told["product_status"] == "published"
    assert told["freq_ghz"] == pytest.approx(1.405)
    assert [tile["group_id"] for tile in told["tiles"]] == list(STAMPS)
    assert (told["checks"][0]["name"], told["checks"][0]["verdict"]) == ("astrometry", "unmeasured")
    assert [one["name"] for one in told["artifacts"]] == ["flux_scale"]
    held = surveyed.get(f"{MOSAICS}/{HELD}").json()
    assert (held["verdict"], held["checks"][0]["name"], held["product_status"]) == ("failed", "noise", "staging")


def test_files_of_a_mosaic(surveyed: TestClient) -> None:
    for kind in ("fits", "noise"):
        with fits.open(io.BytesIO(surveyed.get(f"{MOSAICS}/{PUBLISHED}/{kind}").content)) as hdus:
            assert hdus[0].header["IMTYPE"] == ("mosaic" if kind == "fits" else "noise")
    assert "not on disk" in sentence(surveyed, f"{MOSAICS}/{PUBLISHED}/weight", 404)
    assert "kind" in sentence(surveyed, f"{MOSAICS}/{PUBLISHED}/secret", 422)
    assert PUBLISHED in surveyed.get(f"{MOSAICS}/{PUBLISHED}/provenance").text


def test_quality_by_id(surveyed: TestClient) -> None:
    plots = surveyed.get("/api/v1/qa/artifacts", params={"group_id": PUBLISHED}).json()["items"]
    assert [one["name"] for one in plots] == ["flux_scale"]
    for what in ("file", "preview"):
        assert (
            surveyed.get(f"/api/v1/qa/artifacts/{plots[0]['id']}/{what}").headers["content-type"].startswith("image/")
        )
    assert surveyed.get(f"/api/v1/qa/artifacts/{plots[0]['id']}").json() == plots[0]
    found = follow(surveyed, "/api/v1/qa/checks", "name", subject=HELD, limit=2)
    assert sorted(map(str, found)) == ["astrometry", "flux_scale", "noise"]
    assert follow(surveyed, "/api/v1/qa/checks", "subject", verdict="failed") == [HELD]
    assert "no artifact 99" in sentence(surveyed, "/api/v1/qa/artifacts/99", 404)


def test_what_a_check_says_names_no_folder_of_the_machine(surveyed: TestClient, survey: Survey) -> None:
    told = f"{survey.root}/stage/images/tile.fits lies 0.4 beams from the catalogue"
    with get_session("products") as session:
        session.query(QACheck).filter(QACheck.subject == HELD, QACheck.name == "noise").one().reason = told
    for address in (f"/mosaics/{HELD}/qa", f"/publishing/{HELD}", f"{MOSAICS}/{HELD}"):
        shown = surveyed.get(address, headers={"accept": "text/html"}).text
        assert "stage/images/tile.fits lies" in shown
        assert str(survey.root) not in shown, address


@pytest.mark.parametrize("what", ["fits", "preview", "thumbnail", "cutout?ra=0&dec=37", "provenance"])
def test_a_missing_a_foreign_and_a_damaged_file_behind_a_row(
    surveyed: TestClient, survey: Survey, tmp_path: Path, what: str
) -> None:
    outside = tmp_path / "secret.fits"
    outside.write_bytes(b"secret" * 100)
    link = survey.root / "stage" / "images" / "link.fits"
    damaged = survey.root / "stage" / "images" / f"damaged-{tmp_path.name}.fits"
    damaged.write_bytes(b"SIMPLE  =                    T" + b" " * 3000)
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    for path in (outside.with_name("gone.fits"), outside, link, damaged):
        with get_session("products") as session:
            session.query(Image).filter(Image.id == survey.image_id).update({"path": str(path)})
        answer = surveyed.get(f"{IMAGES}/{survey.image_id}/{what}")
        if path is damaged and what == "fits":
            assert answer.status_code == 200
        else:
            assert answer.status_code in {404, 410}, (path.name, answer.text)
            assert str(tmp_path) not in answer.text
            assert "secret" not in answer.text
        assert answer.status_code < 500


@pytest.mark.parametrize("address", [f"{IMAGES}/999999", f"{IMAGES}/999999/fits", f"{MOSAICS}/nosuch",
                                     f"{MOSAICS}/nosuch/cutout?ra=1&dec=2", f"{MOSAICS}/nosuch/sources"])  # fmt: skip
def test_what_is_not_there_is_a_sentence(surveyed: TestClient, address: str) -> None:
    assert "there is no" in sentence(surveyed, address, 404)


@pytest.mark.parametrize(
    "asked", [{"sort": "path"}, {"cursor": "x"}, {"stauts": 1}, {"day": "soon"}, {"dec_min_deg": 99}]
)
def test_a_parameter_that_cannot_be_one_is_refused(surveyed: TestClient, asked: dict[str, object]) -> None:
    status = 400 if "cursor" in asked else 422
    sentence(surveyed, IMAGES, status, **asked)
    sentence(surveyed, MOSAICS, status, **asked)
