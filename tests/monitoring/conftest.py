"""A filled installation, and a server that stands for Slack."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from apprise.plugins.slack import NotifySlack
from tests.database.conftest import (  # noqa: F401 - fixtures
    backend,
    empty_databases,
    house,
    house_on_postgresql,
    on_postgresql,
    postgresql,
    root,
)

from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import (
    DataProduct,
    ESECandidate,
    IngestQueue,
    Job,
    MSIndex,
    PerformanceMetrics,
    Quarantine,
    VariabilityStats,
)
from dsa110_contimg.telescope import unix_to_mjd

NOW = 1_766_000_000.0
"""The moment of every test: nothing here reads a clock."""
SEED = 20251224
TOKENS = ("T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ")
WEBHOOK = f"https://hooks.slack.com/services/{'/'.join(TOKENS)}"


class SlackServer:
    """Counts what is posted to an incoming webhook, and answers as it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.answers: list[int] = []
        """Status codes of the next answers; 200 when there are none."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/services"

    def counts(self) -> Counter[str]:
        """Return how often each message came, by its first line."""
        with self._lock:
            return Counter(text.splitlines()[0] for text in self.texts)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, body: bytes) -> int:
        message = json.loads(body)["attachments"][0]["text"]
        with self._lock:
            answer = self.answers.pop(0) if self.answers else 200
            if answer == 200:
                self.texts.append(message)
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer = slack.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(answer)
                self.end_headers()
                self.wfile.write(b"ok" if answer == 200 else b"no_service")

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    """A server on the loopback address to which this process's Slack messages go."""
    server = SlackServer()
    monkeypatch.setattr(NotifySlack, "webhook_url", server.url)
    monkeypatch.setattr(NotifySlack, "request_rate_per_sec", 0)
    yield server
    server.close()


class Truth:
    """What was put into an installation, counted while it was made."""

    def __init__(self) -> None:
        self.groups: Counter[str] = Counter()
        self.tiles: Counter[str] = Counter()
        self.jobs: Counter[tuple[str, str]] = Counter()
        self.products: Counter[tuple[str, str]] = Counter()
        self.candidates: Counter[str] = Counter()
        self.arrived = {3600.0: 0, 86400.0: 0}
        self.finished = {3600.0: 0, 86400.0: 0}
        self.conversion: list[float] = []
        self.quarantined = 0


STATES = ("collecting", "pending", "in_progress", "completed", "completed", "completed", "failed")
TILE_STAGES = ("converted", "calibrated", "imaged", "photometry_complete", "photometry_complete")
JOB_STATES = ("pending", "running", "completed", "completed", "failed", "waiting")


def fill(number: int, seed: int = SEED) -> Truth:
    """Put random groups, tiles, jobs, products and candidates into the configured databases."""
    print(f"seed {seed}")
    rng, truth = random.Random(seed), Truth()
    behind: list[PerformanceMetrics | Quarantine] = []
    with get_session("ingest") as session:
        for index in range(number):
            state, age = rng.choice(STATES), rng.uniform(0.0, 2 * 86400.0)
            truth.groups[state] += 1
            for window in truth.arrived:
                truth.arrived[window] += age < window
            group_id = f"group_{index:06d}"
            times = {"received_at": NOW - age, "last_update": NOW - age / 2.0}
            session.add(IngestQueue(group_id=group_id, state=state, error_message="lacks subbands [3]", **times))
            if state == "completed":
                seconds = rng.uniform(5.0, 60.0)
                truth.conversion.append(seconds)
                behind.append(PerformanceMetrics(group_id=group_id, conversion_time=seconds, recorded_at=NOW - age))
            if state == "failed":
                truth.quarantined += 1
                behind.append(Quarantine(path=f"/in/{index}.hdf5", reason="cut short", quarantined_at=NOW - age))
        session.flush()
        session.add_all(behind)
    flagged: list[ESECandidate] = []
    with get_session("products") as session:
        for index in range(number):
            stage, age = rng.choice(TILE_STAGES), rng.uniform(0.0, 2 * 86400.0)
            truth.tiles[stage] += 1
            for window in truth.finished:
                truth.finished[window] += stage == "photometry_complete" and age < window
            session.add(
                MSIndex(path=f"/ms/{index}", stage=stage, stage_updated_at=NOW - age, mid_mjd=unix_to_mjd(NOW - age))
            )
            job, state = rng.choice(("convert", "solve", "publish")), rng.choice(JOB_STATES)
            truth.jobs[job, state] += 1
            times = {"created_at": NOW - age, "updated_at": NOW - age}
            session.add(Job(job_id=f"{job}:{index}", stage=job, subject=str(index), state=state, error="why", **times))
            status = rng.choice(("active", "investigated", "dismissed"))
            truth.candidates[status] += 1
            known = {"source_id": f"J{index}", "ra_deg": 1.0, "dec_deg": 2.0, "updated_at": NOW}
            session.add(VariabilityStats(**known))
            seen = {"flagged_at": NOW - age, "significance": 6.0, "flag_type": "ese"}
            flagged.append(ESECandidate(source_id=f"J{index}", status=status, **seen))
        session.flush()
        session.add_all(flagged)
    with get_session("data_registry") as session:
        for index in range(number):
            kind, status = rng.choice(("mosaic", "image")), rng.choice(("staging", "published", "failed"))
            truth.products[kind, status] += 1
            paths = {"base_path": "/stage", "stage_path": f"/stage/{index}", "created_at": NOW, "staged_at": NOW}
            session.add(DataProduct(data_type=kind, data_id=f"p{index}", status=status, publish_error="why", **paths))
    return truth


def at(now: float) -> Callable[[], float]:
    """Return a clock that stands still."""
    return lambda: now


@pytest.fixture
def filled(house: Path) -> Truth:  # noqa: F811 - the fixture
    """An installation with a few hundred rows of everything."""
    assert house.exists()
    return fill(100)
