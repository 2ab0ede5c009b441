"""What arrives at a real server: heads and bodies without end, HEAD, bytes that are no request; and who is believed."""

import json
import re
import socket
import time
from collections.abc import Iterable, Iterator

import pytest
import requests
from tests.api.conftest import PASSWORD
from tests.api.serving import serving
from tests.api.survey import Survey
from tests.api.test_serve import contimg

from dsa110_contimg.api.connections import MAX_HEAD
from dsa110_contimg.dashboard.app import create_app
from dsa110_contimg.database import accounts
from dsa110_contimg.database.models import Role

HEADED = (
    "/", "/api/v1/sources", "/api/v1/images/1/fits", "/api/v1/images/1/preview", "/metrics", "/vo/sia2/query",
    "/vo/cone/capabilities", "/static/style.css",
)  # fmt: skip


@pytest.fixture
def address(survey: Survey) -> Iterator[str]:
    assert survey.root.is_dir()
    with serving(create_app()) as found:
        yield found


def sent(address: str, head: bytes, pieces: Iterable[bytes] = ()) -> bytes:
    """Send bytes as long as the server takes them, and return what it answers."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        told = b""
        try:
            client.sendall(head)
            for piece in pieces:
                client.sendall(piece)
        except OSError:
            pass
        try:
            while piece := client.recv(65536):
                told += piece
        except ConnectionResetError:
            pass
    return told


def problem(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"content-security-policy" in head.lower()
    found: dict[str, object] = json.loads(body)
    return found


@pytest.mark.parametrize("path", HEADED)
def test_a_head_is_what_a_get_begins_with(address: str, path: str) -> None:
    got, headed = requests.get(address + path, timeout=60), requests.head(address + path, timeout=60)
    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("content-type", "etag", "content-security-policy"):
        assert headed.headers.get(name) == got.headers.get(name), name
    if path not in {"/", "/metrics"}:
        assert int(headed.headers["content-length"]) == len(got.content)


def test_the_head_of_a_stream_ends_and_other_methods_are_told_what_there_is(address: str) -> None:
    begun = time.monotonic()
    assert requests.head(f"{address}/api/v1/events", timeout=30).headers["content-type"].startswith("text/event-stream")
    assert time.monotonic() - begun < 5
    refused = requests.put(f"{address}/api/v1/sources", timeout=30)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert requests.head(f"{address}/api/v1/nosuch", timeout=30).status_code == 404


def test_a_body_without_end_is_refused_and_not_waited_for(address: str) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(2000):
            taken += 100_000
            yield b"186a0\r\n" + b"x" * 100_000 + b"\r\n"

    answer = sent(address, head, pieces())
    assert taken < 100_000_000
    assert answer == b"" or problem(answer)["status"] == 413


@pytest.mark.usefixtures("survey")
def test_a_head_of_a_request_has_a_limit_and_what_is_no_request_is_a_problem_document() -> None:
    with contimg("serve", "--port", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rstrip("/")
        many = b"".join(b"X-%d: y\r\n" % number for number in range(101))
        assert problem(sent(address, b"GET / HTTP/1.1\r\nConnection: close\r\n" + many + b"\r\n"))["status"] == 431
        taken = 0

        def endless() -> Iterator[bytes]:
            nonlocal taken
            for _ in range(1000):
                taken += 10_000
                yield b"x" * 10_000

        told = sent(address, b"GET / HTTP/1.1\r\nX: ", endless())
        assert told == b"" or problem(told)["status"] == 431
        assert MAX_HEAD < taken < 9_000_000
        for wrong in (
            b"\x16\x03\x01\x02\0\x01" * 20,
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        ):
            assert problem(sent(address, wrong))["status"] == 400
        assert requests.get(f"{address}/api/v1/health/live", timeout=30).status_code == 200


def guess(address: str, forwarded: str) -> int:
    with requests.Session() as visitor:
        form = re.search(r'name="csrf_token" value="(\w+)"', visitor.get(f"{address}/login", timeout=60).text)
        assert form is not None
        guessed = {"name": "ada", "password": "a wrong password", "csrf_token": form[1]}
        headers = {"X-Forwarded-For": forwarded}
        return visitor.post(f"{address}/login", data=guessed, headers=headers, timeout=60).status_code


@pytest.mark.usefixtures("survey")
@pytest.mark.parametrize(("words", "last"), [((), 429), (("--proxy", "127.0.0.1"), 401)])
def test_only_a_proxy_is_believed_who_asks(words: tuple[str, ...], last: int) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.ADMIN), PASSWORD)
    with contimg("serve", "--port", "0", *words) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rstrip("/")
        assert [guess(address, f"10.0.0.{number}") for number in range(6)] == [401] * 5 + [last]
