"""Every operation of the document that changes something: refused without a role, audited when done or tried."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from tests.api.conftest import Add
from tests.api.survey import FAILED_GROUP, SOURCES

from dsa110_contimg.database import audit, get_session
from dsa110_contimg.database.models import DataProduct, Role

API = "/api/v1"
REASON = {"reason": "looked at it"}
CHANGES: dict[str, tuple[dict[str, object], object, str]] = {
    f"{API}/alerts/{{alert_id}}/acknowledge": ({"alert_id": 1}, None, "alert 1"),
    f"{API}/candidates": ({}, {"source_id": SOURCES[0].name}, f"source {SOURCES[0].name}"),
    f"{API}/sources/{{source_id}}/notes": (
        {"source_id": SOURCES[1].name}, {"note": "seen"}, f"source {SOURCES[1].name}"),
    f"{API}/candidates/{{kind}}/{{number}}/notes": (
        {"kind": "variable", "number": 1}, {"note": "seen"}, "candidate variable/1"),
    f"{API}/candidates/{{kind}}/{{number}}/investigate": (
        {"kind": "variable", "number": 1}, {}, "candidate variable/1"),
    f"{API}/candidates/{{kind}}/{{number}}/dismiss": ({"kind": "new", "number": 1}, {}, "candidate new/1"),
    f"{API}/queue/groups/{{group_id}}/retry": ({"group_id": FAILED_GROUP}, None, FAILED_GROUP),
    f"{API}/jobs/{{job_id}}/retry": ({"job_id": f"calibrate:{FAILED_GROUP}"}, None, f"calibrate:{FAILED_GROUP}"),
}  # fmt: skip
"""For each path what stands in its braces, a body that is allowed, and the target in the audit."""
PRODUCTS: dict[str, tuple[dict[str, object], object, str]] = {
    f"{API}/data-registry/{{data_id}}/publish": ({"data_id": "staged"}, REASON, "product staged"),
    f"{API}/data-registry/{{data_id}}/retract": ({"data_id": "public"}, REASON, "product public"),
    f"{API}/data-registry/{{data_id}}/retry": ({"data_id": "broken"}, {}, "product broken"),
    f"{API}/data-registry/verify": ({}, {}, "product all"),
}
"""The same of products, whose files are changed too."""
Bearer = Callable[[Role], dict[str, str]]


def test_no_change_is_left_out(surveyed: TestClient) -> None:
    paths = surveyed.get(f"{API}/openapi.json").json()["paths"]
    found = {(method, path) for path, operations in paths.items() for method in operations if method != "get"}
    assert found == {("post", path) for path in (*CHANGES, *PRODUCTS)}


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_needs_a_role_and_leaves_a_row(surveyed: TestClient, bearer: Bearer, path: str) -> None:
    check(surveyed, bearer, path, *CHANGES[path])


@pytest.mark.parametrize("path", PRODUCTS)
def test_a_change_of_a_product_does_too(client: TestClient, add: Add, bearer: Bearer, path: str) -> None:
    add("staged")
    add("broken")
    add("public", published=True)
    with get_session("data_registry") as session:
        session.query(DataProduct).filter_by(data_id="broken").update({"status": "failed", "publish_attempts": 1})
    check(client, bearer, path, *PRODUCTS[path])


def check(asking: TestClient, bearer: Bearer, path: str, values: dict[str, object], body: object, target: str) -> None:
    address = path.format(**values)
    viewer, operator = bearer(Role.VIEWER), bearer(Role.OPERATOR)
    assert asking.post(address, json=body).status_code == 401
    assert asking.post(address, json=body, headers=viewer).status_code == 403
    assert audit.list_changes(target=target) == []
    done = asking.post(address, json=body, headers=operator)
    assert done.status_code in {200, 201}, done.text
    assert [(row.user_name, row.target) for row in audit.list_changes(target=target)] == [("operator-ada", target)]


def test_what_was_tried_and_failed_is_in_the_audit_too(client: TestClient, add: Add, bearer: Bearer) -> None:
    """The attempt changed the product: its failures were forgotten, and there is a new one."""
    path = add("m1")
    with get_session("data_registry") as session:
        product = session.query(DataProduct).one()
        assert path == "m1"
        product.status, product.publish_attempts, product.stage_path = "failed", 3, f"{product.stage_path}.gone"
    body = {"reset": True, "reason": "again"}
    answer = client.post(f"{API}/data-registry/m1/retry", json=body, headers=bearer(Role.OPERATOR))
    assert answer.status_code == 409
    (row,) = audit.list_changes(target="product m1")
    assert (row.user_name, row.action) == ("operator-ada", "retry")
    assert row.detail is not None
    assert row.detail.startswith("failed: ")
