"""What nobody should send: whatever the OpenAPI document allows and does not, paths and statements of attackers.

No answer may be a 5xx, tell what is outside the folders of the installation, or name them.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import requests
import schemathesis
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, unsupported_method
from tests.api.conftest import PASSWORD
from tests.api.serving import serving
from tests.api.survey import Survey

from dsa110_contimg.api import app as api_app
from dsa110_contimg.dashboard import app as dashboard
from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.database import reset_engines
from dsa110_contimg.database.access_tokens import add_token
from dsa110_contimg.database.accounts import accept_invitation, add_user
from dsa110_contimg.database.models import Role

STREAM = "/api/v1/events"
"""Ends when its client goes, which a client within this process cannot."""
PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
FILE = b"what is in a file outside the roots"
TRAVERSALS = (
    "../secret.txt", "..%2fsecret.txt", "%2e%2e%2fsecret.txt", "..%5csecret.txt", "..%252fsecret.txt",
    "....//secret.txt", "%c0%ae%c0%ae/secret.txt", "..;/secret.txt", "%2fetc%2fpasswd", "file:///etc/passwd",
    "..%00.fits", "~root", "../../../../../../../../etc/passwd", "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    ".%2e/.%2e/secret.txt", "%2e%2e", "\\\\host\\share", "C:%5cwindows%5cwin.ini", "CON", "%ff%fe", "%ef%bf%bd",
    "a%0d%0aSet-Cookie:x=y", "x" * 3000,
)  # fmt: skip
INJECTIONS = (
    "'", "''", "' OR '1'='1", "1 OR 1=1", "1; DROP TABLE users;--", "' UNION SELECT name FROM sqlite_master--",
    "\\'", "1' AND SLEEP(5)--", "\"; ATTACH DATABASE 'x' AS y;--", "%", "_", "x%' ESCAPE '", "1/0", "NULL", "nan",
    "inf", "-inf", "1e400", "-1", "9223372036854775808", "99999999999999999999999", "0x10", "١", "true", "[]", "{}",
    "${7*7}", "{{7*7}}", "<script>alert(1)</script>", "javascript:alert(1)", "\ud7ff", "\U0001f52d", "\u202e", " ",
    "a\tb",
)  # fmt: skip


FEW = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


def operations() -> dict[str, Any]:
    """Return every operation of the document by its method and path."""
    document = schemathesis.openapi.from_dict(create_app().openapi())
    # No schema can say that a text is storable; requests with what is not have tests of their own below.
    document.config.generation.update(allow_x00=False, codec="utf-8")
    # A cursor is opaque: one that nobody gave is a 400.
    document.config.checks.positive_data_acceptance.expected_statuses.append("400")
    document.config.checks.negative_data_rejection.expected_statuses += ["413", "414"]
    found = (result.ok() for result in document.get_all_operations() if isinstance(result, Ok))
    return {operation.label: operation for operation in found if operation.path != STREAM}


OPERATIONS = operations()
ASKED = [
    pytest.param(label, mode, id=f"{label} {mode.value}")
    for label, operation in OPERATIONS.items()
    for mode in GenerationMode
    # The services of the Virtual Observatory ignore parameters that they do not know, as its standards ask.
    if mode is GenerationMode.POSITIVE or not operation.path.startswith("/vo/")
]


@pytest.fixture(scope="module")
def site(built_survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application on a copy of the small survey's databases, which may be changed."""
    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(built_survey.root / "state", folder / "state")
    (built_survey.root.parent / "secret.txt").write_bytes(FILE)
    (built_survey.root / "secret.txt").write_bytes(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(built_survey.root))
        patch.setenv("PIPELINE_STATE_DIR", str(folder / "state"))
        reset_engines()
        yield create_app()
    reset_engines()


@pytest.fixture(scope="module")
def header(site: FastAPI) -> dict[str, str]:
    """An admin's token: what is fuzzed gets as far as it can."""
    assert site.title
    accept_invitation(add_user("fuzz", Role.ADMIN), PASSWORD)
    return {"Authorization": f"Bearer {add_token('fuzz', 'fuzz')[1]}"}


@pytest.fixture(scope="module")
def client(site: FastAPI) -> Iterator[TestClient]:
    with TestClient(site, raise_server_exceptions=False, follow_redirects=False) as asking:
        yield asking


@pytest.fixture(scope="module")
def ask(site: FastAPI, header: dict[str, str]) -> Iterator[Callable[[Case[Any]], None]]:
    """Send one request to a real server; its answer must be one that the document promises."""
    with serving(site) as address, requests.Session() as session:
        session.headers.update(header)

        def check(case: Case[Any]) -> None:
            answer = case.call(base_url=address, session=session)
            # A path of which an operation knows any id has other operations' methods, and an empty parameter is one
            # that was not given: forms send those that nobody filled in.
            asked = parse_qsl(urlsplit(str(answer.request.url)).query, keep_blank_values=True)
            empty = [negative_data_rejection] if "" in dict(asked).values() else []
            case.validate_response(answer, excluded_checks=[unsupported_method, *empty], headers=header)
            check_harmless(answer.content, answer.status_code)

        yield check


def check_harmless(content: bytes, status: int) -> None:
    assert status < 500, content[:500]
    assert FILE not in content
    assert b"root:x:0:0" not in content
    assert b"Traceback" not in content


def search(ask: Callable[[Case[Any]], None], label: str, mode: GenerationMode, chosen: settings) -> None:
    """Send requests to one operation: such as the document allows, or such as it does not."""

    @chosen
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def send(case: Case[Any]) -> None:
        ask(case)

    try:
        send()
    except (Unsatisfiable, SkipTest):
        assert mode is GenerationMode.NEGATIVE, "nothing can be asked that is allowed"


@pytest.mark.parametrize(("label", "mode"), ASKED)
def test_the_openapi_document_keeps_its_word(
    ask: Callable[[Case[Any]], None], label: str, mode: GenerationMode
) -> None:
    search(ask, label, mode, settings(FEW, max_examples=2, derandomize=True))


@pytest.mark.slow
@pytest.mark.parametrize(("label", "mode"), ASKED)
def test_the_openapi_document_keeps_its_word_at_length(
    ask: Callable[[Case[Any]], None], label: str, mode: GenerationMode
) -> None:
    search(ask, label, mode, settings(FEW, max_examples=100, print_blob=True))


def all_routes() -> list[tuple[str, APIRoute]]:
    """Return every route of the API, the services and the pages, with its path."""
    api = [("/api/v1", router) for router in api_app.ROUTERS] + [("/vo", router) for router in api_app.VO_ROUTERS]
    pages = [("", router) for router in (*dashboard.ROUTERS, *dashboard.OPEN_ROUTERS)]
    found = [(prefix + route.path, route) for prefix, router in api + pages for route in routes_of(router)]
    return [(path, route) for path, route in found if path != STREAM]


def routes_of(router: APIRouter) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute)]


def filled(path: str, value: str) -> list[str]:
    """Return a route's path with each of its parameters in turn replaced by a value, the others by 1."""
    names = PARAMETER.findall(path)
    return [PARAMETER.sub(lambda found, name=name: value if found[1] == name else "1", path) for name in names]  # type: ignore[misc]


def traversals() -> list[tuple[str, str]]:
    """Return every method and path in which one parameter is a way out."""
    paths = [
        (method, path, value)
        for address, route in all_routes()
        for method in sorted(route.methods or ())
        for value in TRAVERSALS
        for path in filled(address, value)
    ]
    static = [("GET", f"/static{folder}/{value}", value) for folder in ("", "/vendor") for value in TRAVERSALS]
    return [(method, path) for method, path, _ in [*paths, *static]]


def injections() -> list[tuple[str, dict[str, str]]]:
    """Return every GET in which one parameter, of the path or the query, is a statement, a number out of range ..."""
    asked: list[tuple[str, dict[str, str]]] = []
    for address, route in all_routes():
        if "GET" in (route.methods or ()):
            path = PARAMETER.sub("1", address)
            asked += [(path, {name: value}) for name in query_names(route) for value in INJECTIONS]
            asked += [(each, {}) for value in INJECTIONS for each in filled(address, quote(value, safe=""))]
    return asked


def check_paths(client: TestClient, header: dict[str, str], paths: list[tuple[str, str]]) -> None:
    for method, path in paths:
        answer = client.request(method, path, headers=header)
        check_harmless(answer.content, answer.status_code)
        assert "x=y" not in answer.headers.get("set-cookie", ""), path
        assert not path.startswith("/static/") or answer.status_code in {400, 404, 405}, path


def check_values(client: TestClient, header: dict[str, str], asked: list[tuple[str, dict[str, str]]]) -> None:
    for path, parameters in asked:
        answer = client.get(path, params=parameters or None, headers=header)
        check_harmless(answer.content, answer.status_code)


def test_no_path_leads_outside(client: TestClient, header: dict[str, str]) -> None:
    """A part of all: each way out at some routes, and at each route some ways out."""
    check_paths(client, header, traversals()[::11])


def test_no_value_is_a_statement(client: TestClient, header: dict[str, str]) -> None:
    """A part of all, likewise."""
    check_values(client, header, injections()[::23])


@pytest.mark.slow
def test_no_path_of_all_leads_outside(client: TestClient, header: dict[str, str]) -> None:
    check_paths(client, header, traversals())


@pytest.mark.slow
def test_no_value_of_all_is_a_statement(client: TestClient, header: dict[str, str]) -> None:
    check_values(client, header, injections())


def query_names(route: APIRoute) -> list[str]:
    """Return the names of a route's query parameters, those of a query model too."""
    names = []
    for field in route.dependant.query_params:
        model = getattr(field.field_info, "annotation", None)
        names += list(getattr(model, "model_fields", {})) or [field.alias]
    return names


def test_every_route_of_the_application_is_among_those_that_are_tried() -> None:
    paths = {address for address, _ in all_routes()}
    assert {"/api/v1/data-registry/{data_id}", "/login", "/invitation/{secret}"} <= paths
    assert len(paths) > 20
    listing = next(route for address, route in all_routes() if address == "/api/v1/data-registry")
    assert {"cursor", "status", "limit"} <= set(query_names(listing))


def test_answers_name_no_folder_of_this_machine(
    client: TestClient, header: dict[str, str], built_survey: Survey
) -> None:
    """Errors do not; a row's own path stands in the registry's answers to who asks for it."""
    folders = {str(built_survey.root), str(Path(str(built_survey.root)).parent)}
    for address, route in all_routes():
        for path in filled(address, "nosuch"):
            for method in sorted(route.methods or ()):
                answer = client.request(method, path, headers=header)
                if answer.status_code >= 400:
                    assert not [folder for folder in folders if folder in answer.text], f"{path}: {answer.text[:300]}"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Length": "2000000"}, b"x" * 2_000_000, 413),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=" + b"x" * 999_000, 422),
        ({"Content-Type": "application/json"}, b'{"reason": ' + b"[" * 100_000, 422),
        ({"Content-Type": "application/json"}, b'{"reason": "\xff\xfe"}', 422),
        ({"Content-Type": "application/json"}, b"", 422),
        ({"Content-Type": "multipart/form-data"}, b"--x", 422),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\nContent-Disposition: form-data\r\n\r\n", 422),
        ({"Content-Type": "\xff"}, b"{}", 422),
        ({"Cookie": "contimg_session=" + "x" * 5000}, b"{}", 422),
        ({"X-CSRF-Token": "\xff"}, b"{}", 422),
        ({"If-None-Match": "\xff," * 500}, b"{}", 422),
    ],
)  # fmt: skip
def test_malformed_and_oversized_bodies(
    client: TestClient, header: dict[str, str], headers: dict[str, str], body: bytes, status: int
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in {**header, **headers}.items()]
    for address, route in all_routes():
        for method in {"POST", "PUT", "PATCH", "DELETE"} & set(route.methods or ()):
            path = PARAMETER.sub("1", address)
            answer = client.request(method, path, headers=raw, content=body)
            check_harmless(answer.content, answer.status_code)
            if status == 413:
                assert answer.status_code == 413
                assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_without_end_is_cut_off(client: TestClient, header: dict[str, str]) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"a=" + b"x" * 100_000

    answer = client.post(
        "/login", content=endless(), headers={**header, "Content-Type": "application/x-www-form-urlencoded"}
    )
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    ("address", "status"),
    [("/api/v1/data-registry?cursor=" + "x" * 9000, 414), ("/api/v1/data-registry?tag=%00", 400), ("/%00", 400),
     ("/api/v1/data-registry/%ff", 400), ("/api/v1/data-registry?limit=0", 422), ("/api/v1/data-registry?no=1", 422),
     ("/" + "a/" * 2000, 404), ("/api/v1/%2e%2e/%2e%2e/metrics", 404)],
)  # fmt: skip
def test_addresses_that_cannot_be(client: TestClient, address: str, status: int) -> None:
    answer = client.get(address)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "content-security-policy" in answer.headers
