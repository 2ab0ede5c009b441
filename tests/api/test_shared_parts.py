"""What all routers share: pages and cursors, entity tags, files below the roots, errors, headers."""

import base64
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dsa110_contimg.api import problems
from dsa110_contimg.api.conditional import ConditionalAnswers
from dsa110_contimg.api.files import send_file
from dsa110_contimg.api.headers import MAX_BODY, POLICY, Guard
from dsa110_contimg.api.paging import Page, decode_cursor, encode_cursor, link_next, page_of
from dsa110_contimg.api.schemas import Finite, Words
from dsa110_contimg.dashboard.render import (
    ago,
    duration,
    mjd_of_unix,
    mjy,
    number,
    short,
    size,
    unix_of_mjd,
    utc,
)
from dsa110_contimg.errors import ConfigurationError, PipelineError

PARTS = st.one_of(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
)


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_a_cursor_undoes_its_making(key: list[Any]) -> None:
    assert decode_cursor(encode_cursor(*key), *(type(part) for part in key)) == tuple(key)


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))))
def test_what_is_no_cursor_is_refused_and_never_breaks(text: str) -> None:
    try:
        key = decode_cursor(text, float, str)
    except HTTPException as error:
        assert error.status_code == 400
    else:
        assert isinstance(key[0], float)


@pytest.mark.parametrize(
    ("key", "types"),
    [((1,), (str,)), (("a",), (float,)), ((1, 2), (int,)), ((), (int,)), ((True,), (int,)), ((None,), (float,)),
     ((2**63,), (int,)), (("a\0",), (str,)), (("\ud800",), (str,)), ((10**400,), (float,))],
)  # fmt: skip
def test_a_cursor_of_another_list_is_refused(key: tuple[Any, ...], types: tuple[type, ...]) -> None:
    made = base64.urlsafe_b64encode(json.dumps(key).encode()).decode()
    with pytest.raises(HTTPException):
        decode_cursor(made, *types)
    assert decode_cursor(encode_cursor(None), float | None) == (None,)
    assert decode_cursor(encode_cursor(3), float) == (3.0,)


class Item(BaseModel):
    number: int
    flux_jy: Finite


ROWS = [(number, math.nan if number == 3 else number / 7) for number in range(10)]


@pytest.fixture
def site(tmp_path: Path) -> FastAPI:
    """A small application of the shared parts alone."""
    app = FastAPI()
    problems.install(app)
    app.add_middleware(ConditionalAnswers)
    app.add_middleware(Guard)
    roots = (tmp_path / "stage",)

    @app.get("/items")
    def items(request: Request, response: Response, limit: int = 4, cursor: str | None = None) -> Page[Item]:
        after = -1 if cursor is None else int(decode_cursor(cursor, int)[0] or 0)
        rows = [row for row in ROWS if row[0] > after][: limit + 1]
        found = page_of(rows, limit, lambda row: (row[0],), lambda row: Item(number=row[0], flux_jy=row[1]))
        link_next(request, response, found.next)
        return found

    @app.get("/file/{name}")
    def file(name: str) -> Response:
        return send_file(tmp_path / "stage" / name, roots, None, name)

    @app.get("/broken/{kind}")
    def broken(kind: str) -> None:
        kinds = {"configuration": ConfigurationError, "pipeline": PipelineError}
        raise kinds.get(kind, ZeroDivisionError)(f"{tmp_path}/state/products.sqlite3 is away")

    @app.post("/words")
    def words(told: Words) -> str:
        return told

    return app


@pytest.fixture
def client(site: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    (tmp_path / "stage" / "deep").mkdir(parents=True)
    with TestClient(site, raise_server_exceptions=False) as asking:
        yield asking


def test_pages_hold_every_row_once_and_end(client: TestClient) -> None:
    seen, address = [], "/items"
    while address:
        answer = client.get(address)
        seen += answer.json()["items"]
        address = str(answer.links["next"]["url"]) if "next" in answer.links else ""
    assert [item["number"] for item in seen] == list(range(10))
    assert [item["flux_jy"] for item in seen][2:5] == [2 / 7, None, 4 / 7]
    assert answer.json()["next"] is None


def test_json_that_the_client_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/items")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for known in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        again = client.get("/items", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/items?limit=3", headers={"If-None-Match": tag}).status_code == 200
    assert client.get("/items", headers={"If-None-Match": '"x"'}).json() == first.json()
    assert "etag" not in client.get("/nosuch").headers


def test_a_file_has_ranges_a_strong_tag_and_a_name(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "stage" / "m1.fits").write_bytes(bytes(range(200)))
    whole = client.get("/file/m1.fits")
    assert whole.content == bytes(range(200))
    assert whole.headers["content-disposition"] == 'attachment; filename="m1.fits"'
    assert not whole.headers["etag"].startswith("W/")
    part = client.get("/file/m1.fits", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert client.get("/file/m1.fits", headers={"Range": "bytes=900-"}).status_code == 416
    same = client.get("/file/m1.fits", headers={"If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    (tmp_path / "stage" / "m1.fits").write_bytes(b"new")
    assert client.get("/file/m1.fits", headers={"If-None-Match": whole.headers["etag"]}).content == b"new"


def test_what_is_outside_or_no_file_is_not_sent(client: TestClient, tmp_path: Path) -> None:
    stage, secret = tmp_path / "stage", tmp_path / "secret"
    secret.write_bytes(b"leaked")
    (stage / "link").symlink_to(secret)
    (stage / "loop").symlink_to(stage / "loop")
    (stage / "linked_folder").symlink_to(tmp_path)
    os.mkfifo(stage / "pipe")
    (tmp_path / "stage2").mkdir()
    (tmp_path / "stage2" / "x").write_bytes(b"leaked")
    for name in ("link", "loop", "deep", "pipe", "nosuch", "..%2fsecret", "linked_folder%2fsecret", "..%2fstage2%2fx"):
        answer = client.get(f"/file/{name}")
        assert answer.status_code == 404, name
        assert b"leaked" not in answer.content
        assert str(tmp_path) not in answer.text
    within = stage / "deep" / "real"
    within.write_bytes(b"fine")
    (stage / "inner").symlink_to(within)
    assert client.get("/file/inner").content == b"fine"


@pytest.mark.parametrize(("kind", "status"), [("configuration", 503), ("pipeline", 500), ("unforeseen", 500)])
def test_an_error_names_no_folder(client: TestClient, tmp_path: Path, kind: str, status: int) -> None:
    answer = client.get(f"/broken/{kind}")
    told = answer.json()
    assert (answer.status_code, told["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(tmp_path) not in answer.text
    assert (answer.headers.get("retry-after") is not None) == (status == 503)
    assert ("is away" in told["detail"]) == (kind != "unforeseen")


def test_every_answer_has_its_headers_and_nothing_too_large_comes_in(client: TestClient) -> None:
    for answer in (client.get("/items"), client.get("/nosuch"), client.get("/items?limit=x"), client.get("/%00")):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "geolocation=()" in answer.headers["permissions-policy"]
    assert "frame-ancestors 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert client.post("/words", content=b"x" * (MAX_BODY + 1)).status_code == 413
    assert client.get("/items?cursor=" + "x" * 9000).status_code == 414


def test_times_and_figures_as_people_read_them() -> None:
    assert utc(1766546285.0) == "2025-12-24 03:18:05"
    assert mjd_of_unix(unix_of_mjd(61033.25)) == 61033.25
    assert unix_of_mjd(40587.0) == 0.0
    assert mjy(0.01234, 0.0005) == "12.34 ± 0.50 mJy"
    assert [size(n) for n in (999, 1000, 3.2e9, 5e15)] == ["999 B", "1.0 kB", "3.2 GB", "5000.0 TB"]
    assert [duration(s) for s in (45, 180, 18720, 1e6)] == ["45 s", "3 min", "5.2 h", "11.6 d"]
    assert [ago(100.0, 160.0), ago(7300.0, 100.0)] == ["60 s ago", "in 2.0 h"]
    assert [short(value) for value in (0.016617, 15887.2, -3.0, 2e9)] == ["0.01662", "15887", "-3", "2e+09"]
    for nothing in (None, math.nan, math.inf):
        assert {
            short(nothing),
            utc(nothing),
            number(nothing),
            mjy(nothing),
            size(nothing),
            ago(nothing),
            duration(nothing),
        } == {"–"}
    assert utc(1e30) == "–"
