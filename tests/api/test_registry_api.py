"""The registry over HTTP, with a real registry: its answers against the rows that were put in."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.api.conftest import Add, measure

from dsa110_contimg.api import registry as registry_api
from dsa110_contimg.api.app import create_app
from dsa110_contimg.database.data_registry import ensure_data_registry_db
from dsa110_contimg.database.product_report import describe_product

LIST = "/api/v1/data-registry"


def problem_of(answer: Any, status: int) -> str:
    """Check that an answer is a problem document and return its sentence."""
    told = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance"} <= set(told)
    assert (told["status"], told["instance"]) == (status, answer.url.path)
    return str(told["detail"])


def follow(client: TestClient, **parameters: object) -> list[list[str]]:
    """Return the ids of all pages, following their cursors."""
    pages, cursor = [], None
    while True:
        asked = {**parameters, **({"cursor": cursor} if cursor else {})}
        page = client.get(LIST, params={key: str(value) for key, value in asked.items()}).json()
        pages.append([item["data_id"] for item in page["items"]])
        cursor = page["next"]
        if cursor is None:
            return pages


def test_pages_hold_every_product_once_in_order(client: TestClient, add: Add) -> None:
    ids = [add(f"m{number}") for number in (3, 1, 4, 15, 9, 2, 6)]
    assert follow(client, limit=3) == [ids[:3], ids[3:6], ids[6:]]
    assert follow(client, limit=7) == [ids]
    assert follow(client) == [ids]


def test_products_registered_between_two_pages_come_at_the_end(client: TestClient, add: Add) -> None:
    ids = [add(f"m{number}") for number in range(4)]
    first = client.get(LIST, params={"limit": 2}).json()
    late = add("a_late_one")
    second = client.get(LIST, params={"limit": 9, "cursor": first["next"]}).json()
    assert [item["data_id"] for item in first["items"] + second["items"]] == [*ids, late]


def test_the_link_header_leads_to_the_next_page(client: TestClient, add: Add) -> None:
    for number in range(3):
        add(f"m{number}")
    answer = client.get(LIST, params={"limit": 2, "status": "staging"})
    assert answer.links["next"]["rel"] == "next"
    behind = client.get(str(answer.links["next"]["url"]))
    assert [item["data_id"] for item in behind.json()["items"]] == ["m2"]
    assert "next" not in behind.links


def test_filters_by_status_type_and_both(client: TestClient, add: Add) -> None:
    add("m1", published=True)
    add("m2")
    add("i1", data_type="image")
    assert follow(client, status="published") == [["m1"]]
    assert follow(client, type="mosaic") == [["m1", "m2"]]
    assert follow(client, type="image", status="staging") == [["i1"]]
    assert follow(client, type="image", status="published") == [[]]


def test_an_entry_says_where_a_product_is_or_what_blocks_it(client: TestClient, add: Add, installation: Path) -> None:
    add("m1", published=True)
    add("m2")
    published, waiting = client.get(LIST).json()["items"]
    file = installation / "products" / "mosaics" / "m1.fits"
    assert published["published_path"] == str(file)
    assert published["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert published["blockers"] == []
    assert "auto-publish is off" in waiting["blockers"]
    assert waiting["published_at"] is None


def test_a_product_is_what_the_report_says_with_its_figures(client: TestClient, add: Add, installation: Path) -> None:
    add("m1", published=True)
    measure("m1", "flux_ratio", 1.0625, "passed")
    measure("m1", "tile_noise", None, "unmeasured")
    told = client.get(f"{LIST}/m1").json()
    with closing(ensure_data_registry_db(installation / "state" / "data_registry.sqlite3")) as conn:
        assert told == json.loads(json.dumps(describe_product(conn, "m1")))
    criteria = {one["name"]: one for one in told["criteria"]}
    assert list(criteria) == [
        "status",
        "auto_publish_enabled",
        "qa_status",
        "validation_status",
        "finalization_status",
        "photometry_status",
    ]
    assert {name for name, one in criteria.items() if not one["holds"]} == {"status", "auto_publish_enabled"}
    assert [(one["name"], one["value"]) for one in criteria["qa_status"]["figures"]] == [("flux_ratio", 1.0625)]
    assert [one["value"] for one in criteria["validation_status"]["figures"]] == [None]
    assert (told["publish"]["by"], told["publish"]["reason"]) == ("ada", "looked at it")


@pytest.mark.usefixtures("backend")
def test_files_and_a_server_answer_alike(client: TestClient, add: Add) -> None:
    add("m1", published=True)
    add("m2", derived_from=["m1"])
    measure("m1", "flux_ratio", 1.0625, "passed")
    assert follow(client, limit=1) == [["m1"], ["m2"]]
    assert follow(client, type="mosaic", status="published") == [["m1"]]
    told = client.get(f"{LIST}/m1").json()
    assert told["criteria"][2]["figures"][0]["value"] == 1.0625
    assert told["links"] == [{"parent_id": "m1", "child_id": "m2", "relationship_type": "derived_from"}]
    document = client.get(f"{LIST}/m2/provenance").json()
    assert set(document["entity"]) > {"dsa110:product/m1", "dsa110:product/m2"}
    problem_of(client.get(f"{LIST}/nosuch"), 404)


def test_a_figure_that_is_no_number_is_null(client: TestClient, add: Add) -> None:
    add("m1")
    measure("m1", "dynamic_range", float("inf"), "failed")
    figure = client.get(f"{LIST}/m1").json()["criteria"][2]["figures"][0]
    assert (figure["name"], figure["value"]) == ("dynamic_range", None)


@pytest.mark.parametrize("path", [f"{LIST}/nosuch", f"{LIST}/nosuch/provenance"])
def test_an_unknown_product_is_not_found(client: TestClient, path: str) -> None:
    assert problem_of(client.get(path), 404).startswith("there is no product 'nosuch'")


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({"status": "nosuch"}, 422, "status: "),
        ({"limit": "0"}, 422, "limit: "),
        ({"limit": "501"}, 422, "limit: "),
        ({"stauts": "published"}, 422, "stauts: "),
        ({"type": "nosuch"}, 400, "nosuch"),
        ({"cursor": "nosuch"}, 400, "nosuch"),
    ],
)
def test_a_parameter_that_cannot_be_one_is_refused(
    client: TestClient, asked: dict[str, str], status: int, sentence: str
) -> None:
    assert sentence in problem_of(client.get(LIST, params=asked), status)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [LIST, f"{LIST}/m1"])
def test_nothing_can_be_written(client: TestClient, method: str, path: str) -> None:
    problem_of(client.request(method, path), 405)


def test_a_page_that_does_not_exist_is_a_problem_document(client: TestClient) -> None:
    problem_of(client.get("/nowhere"), 404)


def test_asking_changes_no_file(client: TestClient, add: Add, installation: Path) -> None:
    add("m1", published=True)

    def state() -> dict[str, object]:
        with closing(sqlite3.connect(installation / "state" / "data_registry.sqlite3")) as conn:
            tables = ("data_registry", "data_relationships", "data_tags")
            rows = {table: conn.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
        area = [path for path in (installation / "products").rglob("*") if path.is_file()]
        return rows | {str(path): path.read_bytes() for path in area}

    before = state()
    for path in (LIST, f"{LIST}/m1", f"{LIST}/m1/provenance", f"{LIST}/nosuch"):
        client.get(path)
    assert state() == before


def test_without_a_registry_it_says_so_and_makes_none(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.sqlite3"
    client = TestClient(create_app(nowhere))
    assert "contimg init" in problem_of(client.get(LIST), 503)
    assert "contimg init" in problem_of(client.get(f"{LIST}/m1"), 503)
    assert not nowhere.exists()


def test_a_damaged_row_is_named(client: TestClient, add: Add, installation: Path) -> None:
    add("m1")
    add("m2")
    with closing(ensure_data_registry_db(installation / "state" / "data_registry.sqlite3")) as conn:
        conn.execute("UPDATE data_registry SET metadata_json = '{' WHERE data_id = 'm1'")
        conn.execute("""UPDATE data_registry SET metadata_json = '{"provenance": {"by": "me"}}' WHERE data_id = 'm2'""")
    assert "m1" in problem_of(client.get(f"{LIST}/m1"), 500)
    assert "m2 lacks activity" in problem_of(client.get(f"{LIST}/m2/provenance"), 500)
    assert client.get(f"{LIST}/m2").status_code == 200


def test_an_unforeseen_error_keeps_its_text_to_the_log(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(registry_api, "describe_product", break_down)
    assert "secret" not in problem_of(client.get(f"{LIST}/m1"), 500)


def test_the_description_names_what_can_be_asked(client: TestClient) -> None:
    told = client.get("/api/v1/openapi.json").json()
    assert {LIST, LIST + "/{data_id}", LIST + "/{data_id}/provenance"} <= set(told["paths"])
    assert {name for path in told["paths"].values() for name in path} == {"get", "post"}
    asked = {one["name"] for one in told["paths"][LIST]["get"]["parameters"]}
    assert asked == {"status", "type", "tag", "cursor", "limit", "sort"}
    assert client.get("/docs").status_code == 404
