"""Publish, retry, retract and verify over HTTP: what changes, who signed, what is refused, and with which sentence."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from tests.api.conftest import Add

from dsa110_contimg.database import get_session
from dsa110_contimg.database.audit import list_changes
from dsa110_contimg.database.data_registration import finalize_data, publish_data_instance
from dsa110_contimg.database.models import DataProduct, Role
from dsa110_contimg.database.product_report import describe_product
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.errors import PublishError

LIST = "/api/v1/data-registry"
Bearer = Callable[[Role], dict[str, str]]


@pytest.fixture
def held(add: Add) -> str:
    """A mosaic whose QA failed."""
    add("m1")
    with open_registry() as registry:
        finalize_data(registry, "m1", "failed", "validated")
    return "m1"


def status_of(data_id: str) -> str:
    with open_registry() as registry:
        return str(describe_product(registry, data_id)["status"])


@pytest.mark.parametrize("action", ["publish", "retry", "retract"])
def test_only_operators_may(client: TestClient, add: Add, bearer: Bearer, action: str) -> None:
    add("m1", published=True)
    body = {"reason": "because"}
    assert client.post(f"{LIST}/m1/{action}", json=body).status_code == 401
    assert client.post(f"{LIST}/m1/{action}", json=body, headers=bearer(Role.VIEWER)).status_code == 403
    assert client.post(f"{LIST}/verify", json={}).status_code == 401
    assert status_of("m1") == "published"


def test_an_explanation_is_what_the_command_shows(client: TestClient, held: str) -> None:
    told = client.get(f"{LIST}/{held}/explain").json()
    with open_registry() as registry:
        shown = describe_product(registry, held)
    assert told["next_step"] == shown["next_step"]
    assert told["blockers"] == shown["blockers"]
    assert told["objection"] == "its QA is 'failed'"
    assert client.get(f"{LIST}/nosuch/explain").status_code == 404


def test_a_doubted_product_needs_a_reason_which_stays(client: TestClient, held: str, bearer: Bearer) -> None:
    who = bearer(Role.OPERATOR)
    refused = client.post(f"{LIST}/{held}/publish", json={}, headers=who)
    with open_registry() as registry, pytest.raises(PublishError) as error:
        publish_data_instance(registry, held, by="operator-ada")
    assert (refused.status_code, refused.json()["detail"]) == (409, str(error.value))
    done = client.post(f"{LIST}/{held}/publish", json={"reason": "looked at it"}, headers=who)
    assert done.status_code == 200
    assert (done.json()["status"], done.json()["publish"]["by"]) == ("published", "operator-ada")
    assert done.json()["publish"]["reason"] == "looked at it"
    changes = [(one.user_name, one.action, one.target, one.detail) for one in list_changes(limit=5)]
    assert ("operator-ada", "publish", "product m1", "looked at it") in changes


def test_a_retraction_needs_a_reason_and_takes_the_files_back(client: TestClient, add: Add, bearer: Bearer) -> None:
    add("m1", published=True)
    who = bearer(Role.OPERATOR)
    assert client.post(f"{LIST}/m1/retract", json={}, headers=who).status_code == 422
    assert client.post(f"{LIST}/m1/retract", json={"reason": "  "}, headers=who).status_code == 422
    told = client.post(f"{LIST}/m1/retract", json={"reason": "gains jumped"}, headers=who).json()
    assert (told["status"], told["retract_reason"]) == ("retracted", "gains jumped")
    assert "retracted" in told["published_path"]
    again = client.post(f"{LIST}/m1/retract", json={"reason": "gains jumped"}, headers=who)
    assert again.status_code == 409
    assert client.post(f"{LIST}/nosuch/retract", json={"reason": "x"}, headers=who).status_code == 404


def test_a_failed_product_is_tried_again(client: TestClient, add: Add, bearer: Bearer) -> None:
    add("m1")
    who = bearer(Role.OPERATOR)
    assert "not failed" in client.post(f"{LIST}/m1/retry", json={}, headers=who).json()["detail"]
    with get_session("data_registry") as session:
        session.query(DataProduct).update({"status": "failed", "publish_attempts": 3, "publish_error": "no room"})
    told = client.post(f"{LIST}/m1/retry", json={}, headers=who).json()
    assert (told["status"], told["publish_error"]) == ("published", None)


def test_verification_finds_what_was_changed(client: TestClient, add: Add, bearer: Bearer) -> None:
    add("m1", published=True)
    add("m2", published=True)
    who = bearer(Role.OPERATOR)
    assert client.post(f"{LIST}/verify", json={}, headers=who).json()["intact"] is True
    with open_registry() as registry:
        path = str(describe_product(registry, "m1")["published_path"])
    with get_session("data_registry") as session:
        session.query(DataProduct).filter(DataProduct.data_id == "m1").update(
            {"sha256": "0" * 64, "metadata_json": "{}"}
        )
    told = client.post(f"{LIST}/verify", json={"data_id": "m1"}, headers=who).json()
    assert [one["path"] for one in told["changed"]] == [path]
    assert client.post(f"{LIST}/verify", json={"data_id": "m2"}, headers=who).json()["intact"] is True
    assert client.post(f"{LIST}/verify", json={"data_id": "nosuch"}, headers=who).status_code == 404
    assert client.post(f"{LIST}/verify", json={"nosuch": 1}, headers=who).status_code == 422
