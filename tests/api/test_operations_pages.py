"""The operators' pages say what happened: an idle telescope, a wrong clock, a missing database, a migration, a group
with three subbands; and that they are whole when nothing is wrong, or nothing is there."""

import re
import sqlite3
import time
from contextlib import closing
from html import unescape

import pytest
from fastapi.testclient import TestClient
from tests.api.conftest import PASSWORD
from tests.api.night import DEAD, FAILURE, FLAGGED, REFUSED, Night

from dsa110_contimg.api import health as health_api
from dsa110_contimg.database import accounts, get_session, reset_engines
from dsa110_contimg.database.models import HDF5FileIndex, Job, Role
from dsa110_contimg.database.session import database_path
from dsa110_contimg.telescope import unix_to_mjd

PAGES = ["/", "/observing", "/queue", "/calibration", "/health", "/inventory"]
TAG = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.S)


@pytest.fixture(autouse=True)
def fresh_verdict() -> None:
    """No verdict of another test is kept."""
    health_api._kept.clear()


def text(client: TestClient, address: str, status: int = 200, **headers: str) -> str:
    """Return what a page says, without its tags."""
    answer = client.get(address, headers={"Accept": "text/html", **headers})
    assert answer.status_code == status, answer.text[:2000]
    assert answer.headers["content-type"].startswith("text/html")
    return re.sub(r"\s+", " ", unescape(TAG.sub(" ", answer.text)))


@pytest.mark.parametrize("address", PAGES)
def test_a_page_and_its_live_part(operator: TestClient, address: str) -> None:
    whole, part = operator.get(address), operator.get(address, headers={"HX-Request": "true"})
    assert whole.status_code == part.status_code == 200
    assert "<html" in whole.text
    assert "<html" not in part.text
    assert len(part.text) < len(whole.text)
    assert " style=" not in whole.text, "the policy lets no style stand in a page"
    assert "onclick" not in whole.text


@pytest.mark.parametrize("address", PAGES)
def test_a_page_without_data_says_what_to_do_next(client: TestClient, address: str) -> None:
    told = text(client, address)
    assert "contimg demo" in told or "contimg run" in told or "calibrator" in told


def test_home_answers_whether_it_is_healthy(operator: TestClient, night: Night) -> None:
    told = text(operator, "/")
    assert "Look today: failed work, missing subbands" in told
    assert f"Group {night.collecting} has 3 of 16 subbands" in told
    assert "1 job and 1 group failed for good in the last 24 hours" in told
    assert "image failed" in told, "a tile whose stage failed is marked"
    assert "× sky" in told


def test_a_failed_group_page_names_cause_attempts_and_way_out(operator: TestClient, night: Night) -> None:
    told = text(operator, f"/queue/{night.failed}")
    assert FAILURE in told
    assert "attempt 3" in told
    assert "cycle 3: peak 0.4" in told
    assert "Way out: check the calibration" in told
    assert f"contimg retry {night.failed}" in told, "who is not logged in is told the command"
    assert "Open again" not in told
    assert REFUSED in text(operator, f"/queue/{night.refused}")
    assert "There is no group" in text(operator, "/queue/nosuch", 404)


def test_a_group_with_three_subbands(operator: TestClient, night: Night) -> None:
    told = text(operator, f"/queue/{night.collecting}")
    assert "3 of 16 subbands; missing: sb03, sb04" in told
    assert "3/16" in text(operator, "/queue?state=collecting")
    assert f"{night.collecting.replace('T', ' ')} 3 of 16; missing 03 04" in text(operator, "/inventory")


def test_an_operator_opens_a_failed_group_again_on_its_page(operator: TestClient, night: Night) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.OPERATOR), PASSWORD)
    form = operator.get("/login").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert token is not None
    operator.post("/login", data={"name": "ada", "password": PASSWORD, "csrf_token": token[1]})
    address = f"/queue/{night.failed}"
    page = operator.get(address).text
    assert "Open again" in page
    token = re.search(r'action="[^"]*/retry"[^>]*><input type="hidden" name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    assert operator.post(f"{address}/retry", data={}).status_code == 403, "a form of another site"
    with get_session("products", read_only=True) as session:
        assert session.get(Job, f"image:{night.failed}").state == "failed"  # type: ignore[union-attr]
    done = operator.post(f"{address}/retry", data={"csrf_token": token[1]}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, f"{address}?opened=1")
    assert "Opened again: 1 piece of work" in text(operator, f"{address}?opened=1")
    assert "Open again" not in operator.get(address).text


def shift_files(seconds: float) -> None:
    """Let all files have been observed, and seen, at another time."""
    with get_session("hdf5") as session:
        for row in session.query(HDF5FileIndex):
            row.timestamp_mjd += seconds / 86400.0
            row.indexed_at = (row.indexed_at or 0.0) + min(seconds, 0.0)


@pytest.mark.usefixtures("night")
def test_an_idle_telescope(operator: TestClient) -> None:
    shift_files(-30 * 3600.0)
    assert "The telescope is idle: the last file came 30 hours ago" in text(operator, "/")
    assert "The telescope is idle:" in text(operator, "/inventory")


@pytest.mark.usefixtures("night")
def test_a_telescope_that_has_been_idle_for_a_year_shows_its_last_days(operator: TestClient) -> None:
    shift_files(-365 * 86400.0)
    told = text(operator, "/inventory")
    assert "365.0 d ago" in told
    last_day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 365 * 86400.0))
    assert last_day in told, "the days that have data are shown, not the empty ones of today"


@pytest.mark.usefixtures("night")
def test_a_clock_that_is_wrong(operator: TestClient) -> None:
    shift_files(5 * 3600.0)
    for address in ("/", "/health"):
        told = text(operator, address)
        assert "Act now: clock" in told
        assert "5 hours in the future" in told
    assert "in the future" in text(operator, "/inventory")


def test_a_clock_before_or_behind_the_known_rotation_of_the_earth(
    operator: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 4.0e9)
    told = text(operator, "/observing")
    assert "Where the dishes look cannot be told now" in told
    assert "outside the packaged Earth-rotation table" in told
    assert operator.get("/api/v1/pointing").status_code == 503


@pytest.mark.parametrize("name", ["ingest", "products", "cal_registry", "hdf5", "data_registry"])
def test_a_missing_database(operator: TestClient, night: Night, name: str) -> None:
    database_path(name).unlink()
    reset_engines()
    for address in ("/", "/health"):
        told = text(operator, address)
        assert f"Act now: database {name}" in told
        assert f"{name}.sqlite3 does not exist: run contimg init" in told
        assert str(night.root) not in told
    broken = {"ingest": "/queue", "products": "/queue", "cal_registry": "/calibration", "hdf5": "/inventory",
              "data_registry": "/queue"}[name]  # fmt: skip
    answer = operator.get(broken, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "does not exist" in answer.text
    if name not in ("products", "cal_registry"):
        assert "RA now" in text(operator, "/observing"), "what needs another database is shown"


def test_a_migration_in_progress(operator: TestClient, night: Night) -> None:
    """Another process has begun to change the tables: the version is old, and a column lacks."""
    with closing(sqlite3.connect(database_path("ingest"))) as changing, changing:
        changing.execute("UPDATE alembic_version SET version_num = 'ingest_0001'")
        changing.execute("ALTER TABLE ingest_queue RENAME COLUMN retry_count TO retries")
    reset_engines()
    told = text(operator, "/")
    assert "Act now: database ingest" in told
    assert "while somebody migrates it, wait until that has ended" in told
    page = operator.get("/queue", headers={"Accept": "text/html"})
    assert page.status_code == 503
    assert "lacks columns of this version" in page.text
    problem = operator.get(f"/api/v1/queue/groups/{night.failed}")
    assert (problem.status_code, problem.headers["content-type"]) == (503, "application/problem+json")
    assert operator.get("/api/v1/health/ready").status_code == 503
    assert operator.get("/api/v1/health/live").status_code == 200


def test_a_table_page_shows_every_antenna(operator: TestClient, night: Night) -> None:
    told = text(operator, f"/calibration/{night.tables[-1]}")
    assert "Antennas 96" in told
    assert f" {DEAD} ✕ 100 %" in told
    page = operator.get(f"/calibration/{night.tables[-1]}?antenna={FLAGGED}").text
    assert f"<option selected>{FLAGGED}</option>" in page
    assert operator.get(f"/calibration/{night.tables[-1]}?antenna=nosuch").status_code == 200
    assert "There is no calibration table" in text(operator, "/calibration/999", 404)


@pytest.mark.parametrize(
    "address",
    [
        "/queue?state=nosuch&sort=x", "/calibration?type=zz&at=x&end=nan&span=q&active=perhaps",
        "/inventory?days=x&end=-inf", "/inventory?days=999999999999", "/observing?span=x", "/health?noise=x",
        "/queue?prefix=%F0%9F%9B%B0%25_", "/calibration?at=61000.5&type=BP",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("night")
def test_what_cannot_be_asked_is_left_out(operator: TestClient, address: str) -> None:
    text(operator, address)


def test_the_drawing_of_windows_links_to_each_table(operator: TestClient, night: Night) -> None:
    page = operator.get("/calibration?span=2d").text
    for number in night.tables:
        assert f'<a href="/calibration/{number}" aria-label="BP' in page
    past = operator.get(f"/calibration?end={unix_to_mjd(night.now) - 300}").text
    assert "No table holds in these days" in past


def test_antennas_are_on_the_map(operator: TestClient, night: Night) -> None:
    page = operator.get("/observing").text
    assert page.count('class="dish ') > 96, "the whole array, and its core again"
    assert f"<title>{DEAD}: 100 % flagged</title>" in page
    assert "1</strong> without a solution" in page
    assert night.root.is_dir()
