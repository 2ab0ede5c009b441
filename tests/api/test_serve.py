"""`contimg serve`, as a process: it listens, answers, and says in one sentence why it cannot."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from tests.api.conftest import Add

from dsa110_contimg.cli.serve import serve
from dsa110_contimg.database import accounts
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring.metrics import CONTENT_TYPE

WAIT_S = 60.0


@contextmanager
def contimg(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dsa110_contimg.cli.main", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


@pytest.mark.usefixtures("installation")
def test_it_answers_until_it_is_interrupted(add: Add) -> None:
    add("m1", published=True)
    with contimg("serve", "--port", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/v1/data-registry", timeout=WAIT_S) as answer:
            assert [item["data_id"] for item in json.load(answer)["items"]] == ["m1"]
        with urllib.request.urlopen(f"{address}metrics", timeout=WAIT_S) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert re.search(r'contimg_products\{[^}]*status="published"[^}]*\} 1\.0', answer.read().decode())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out) == (0, "")
        link = re.fullmatch(r"There is no admin yet; .*: http://127.0.0.1:\d+/invitation/([\w-]{43})\n", err)
        assert link is not None, err
        assert accounts.invited(link[1]) == "admin"


@pytest.mark.usefixtures("installation")
def test_several_workers_answer_share_sessions_and_stop_in_order() -> None:
    accounts.accept_invitation(accounts.first_admin(), "a good long password")
    with contimg("serve", "--port", "0", "--workers", "2") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(f"{address}login", timeout=WAIT_S) as answer:
            form = re.search(r'name="csrf_token" value="(\w+)"', answer.read().decode())
        assert form is not None
        sent = {"name": "admin", "password": "a good long password", "csrf_token": form[1], "then": "/account"}
        body = urllib.parse.urlencode(sent).encode()
        for _ in range(6):
            with opener.open(f"{address}login", body, timeout=WAIT_S) as answer:
                assert answer.url == f"{address}account"
                form = re.search(r'name="csrf_token" value="(\w+)"', answer.read().decode())
                assert form is not None
                body = urllib.parse.urlencode({**sent, "csrf_token": form[1]}).encode()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        assert "no admin" not in err


@pytest.mark.usefixtures("installation")
def test_connections_are_spread_over_the_workers() -> None:
    """From one socket that all share, the first that wakes may take every connection."""
    with contimg("serve", "--port", "0", "--workers", "2") as process, ExitStack() as stack:
        assert process.stdout is not None
        port = urllib.parse.urlsplit(process.stdout.readline().strip()).port
        for _ in range(64):
            asking = stack.enter_context(socket.create_connection(("127.0.0.1", port or 0), timeout=WAIT_S))
            asking.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert asking.recv(20).startswith(b"HTTP/1.1 ")
        held = [
            sum(each.status == psutil.CONN_ESTABLISHED for each in worker.net_connections())
            for worker in psutil.Process(process.pid).children(recursive=True)
        ]
        assert sum(held) == 64
        # Fewer than 10 of 64 at either of two: one in a thousand million.
        assert sorted(held)[-2] >= 10, held
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)


@pytest.mark.usefixtures("installation")
def test_a_port_that_is_taken_is_one_sentence() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="choose another --port"),
    ):
        serve(port=taken.getsockname()[1])


@pytest.mark.usefixtures("installation")
def test_a_host_that_is_not_ours_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="check --host and --port"):
        serve(host="nosuch.invalid", port=0)


def test_it_needs_a_registry_and_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    with pytest.raises(ConfigurationError, match="run `contimg init`"):
        serve(port=0)
    assert not list(tmp_path.iterdir())
