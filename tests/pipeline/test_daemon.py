"""A run that lasts: what pauses it, that it goes on by itself, how it is told to stop, what it does besides."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, init_databases, reset_engines
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import AlertOutbox
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.options import PipelineOptions, ResourceOptions, ScheduleOptions
from dsa110_contimg.pipeline import attempt, chores, runner
from dsa110_contimg.pipeline.arrivals import Arrivals
from dsa110_contimg.pipeline.attempt import Outcome
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.executors import InlineCrew
from dsa110_contimg.pipeline.ingest import ScanReport
from dsa110_contimg.pipeline.jobs import Job
from dsa110_contimg.pipeline.notices import Notice, read_notices, tell, withdraw
from dsa110_contimg.pipeline.stopping import StopRequest

OPTIONS = PipelineOptions(
    schedule=ScheduleOptions(retry_s=0.05, pause_s=0.2, stop_s=5.0), resources=ResourceOptions(free_space_floor_gb=0.0)
)
GONE = "nowhere:1:1"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    for name in ("incoming", "stage", "products"):
        (tmp_path / name).mkdir()
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("NVSS J000000.0+000000", 0.0, 0.0, 1.0, None)])
    for name in ("POLL_S", "IDLE_S", "SHORTEST_S"):
        monkeypatch.setattr(runner, name, 0.1)
    monkeypatch.setattr(runner, "chores_of", lambda _settings, _options: [])
    monkeypatch.setattr(attempt, "function_of", lambda _stage: index_tile)
    return tmp_path


@pytest.fixture(autouse=True)
def _too_long() -> Iterator[None]:
    """End a daemon that would not stop."""
    timer = threading.Timer(30.0, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    yield
    assert timer.is_alive(), "the daemon had to be stopped"
    timer.cancel()


def add_group(name: str) -> None:
    with get_session("ingest") as session:
        path = f"/in/{name}_sb00.hdf5"
        ingest_queue.record_subband(session, group_id=name, subband_idx=0, path=path, file_size=1, now=time.time())
        ingest_queue.mark_pending(session, name)


def index_tile(context: Context, subject: str) -> None:
    with context.commit() as session:
        ms_index_upsert(session, f"/ms/{subject}.ms", group_id=subject, stage="failed")


def run_until(enough: Callable[[list[Outcome]], bool], options: PipelineOptions = OPTIONS) -> list[Outcome]:
    """Run a daemon, which is told to stop when its outcomes are enough."""
    outcomes: list[Outcome] = []

    def report(outcome: Outcome | None, _due: list[Job]) -> None:
        if outcome is not None:
            outcomes.append(outcome)
        if enough(outcomes):
            signal.raise_signal(signal.SIGTERM)

    summary = runner.run(Settings(), options, once=False, crew=InlineCrew(), report=report)
    assert summary.exit_code == 0
    assert summary.outcomes == [], "a daemon keeps no lists"
    return outcomes


def completed(number: int) -> Callable[[list[Outcome]], bool]:
    return lambda outcomes: sum(outcome.result == "completed" for outcome in outcomes) == number


def alerts() -> list[tuple[str, str]]:
    with get_session("products", read_only=True) as session:
        return [(row.alert_type, row.message) for row in session.query(AlertOutbox)]


def test_a_daemon_does_what_is_due_and_ends_when_it_is_told_to() -> None:
    add_group("g1")
    assert [outcome.result for outcome in run_until(completed(1))] == ["completed"]
    assert read_notices(Settings()) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_daemon_counts_the_files_that_come(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([ScanReport(recorded=[Path("/in/a"), Path("/in/b")], unfinished=[Path("/in/c")])])
    monkeypatch.setattr(Arrivals, "collect", lambda _self: next(found, ScanReport()))
    add_group("g1")

    def stop(outcome: Outcome | None, _due: list[Job]) -> None:
        if outcome is not None:
            signal.raise_signal(signal.SIGTERM)

    summary = runner.run(Settings(), OPTIONS, once=False, crew=InlineCrew(), report=stop)
    assert (summary.n_files("recorded"), summary.n_files("unfinished")) == (2, 0)


def test_below_the_floor_nothing_starts_and_with_room_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_group("g1")
    answers = [f"{free} GB are free below /stage" for free in ("1.8", "1.9", "2.0")]
    seen: list[Notice] = []

    def room(settings: Settings, _options: PipelineOptions) -> str | None:
        seen.extend(read_notices(settings))
        return answers.pop() if answers else None

    monkeypatch.setattr(runner, "room", room)
    assert [outcome.result for outcome in run_until(completed(1))] == ["completed"]
    assert {notice.paused for notice in seen[1:4]} == {"2.0 GB are free below /stage"}
    assert alerts() == [("disk_low", "the run pauses: 2.0 GB are free below /stage")]
    assert [record.message for record in caplog.records if "pauses" in record.message] == [alerts()[0][1]]


def test_a_full_disk_pauses_the_run_and_costs_the_job_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    add_group("g1")
    troubles = [OSError(28, "No space left on device"), ConfigurationError("the catalogue is away")]

    def work(context: Context, subject: str) -> None:
        if troubles:
            raise troubles.pop()
        index_tile(context, subject)

    monkeypatch.setattr(attempt, "function_of", lambda _stage: work)
    assert [outcome.result for outcome in run_until(completed(1))] == ["paused", "paused", "completed"]
    with get_session("products", read_only=True) as session:
        row = session.get_one(JobRow, "convert:g1")
    assert (row.attempt, row.failures, row.deaths) == (3, 0, None)
    assert [kind for kind, _message in alerts()] == ["system_error"], "one an hour"


@pytest.mark.parametrize("database", ["products", "ingest", "data_registry"])
def test_a_database_that_goes_away_is_waited_for(database: str) -> None:
    path = Settings().database(database)
    away = path.with_suffix(".away")
    looks = 0

    def enough(outcomes: list[Outcome]) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            path.rename(away)
            threading.Timer(1.0, come_back).start()
        return completed(1)(outcomes)

    def come_back() -> None:
        away.rename(path)
        add_group("g1")

    assert [outcome.result for outcome in run_until(enough)] == ["completed"]


def test_an_attempt_whose_end_was_not_recorded_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    add_group("g1")
    real, calls = attempt.record_failure, []

    def unreachable(*arguments: object) -> str:
        calls.append(arguments)
        if len(calls) == 1:
            raise ConfigurationError("the server cannot be reached")
        return real(*arguments)  # type: ignore[arg-type]

    def work(context: Context, subject: str) -> None:
        if context.attempt == 1:
            raise ValueError("a fault")
        index_tile(context, subject)

    monkeypatch.setattr(attempt, "record_failure", unreachable)
    monkeypatch.setattr(attempt, "function_of", lambda _stage: work)
    assert [outcome.result for outcome in run_until(completed(1))] == ["completed"]
    with get_session("products", read_only=True) as session:
        assert session.get_one(JobRow, "convert:g1").attempt == 2


def test_the_second_signal_does_not_wait() -> None:
    with StopRequest() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        assert (stop.asked, stop.urgent) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert stop.urgent
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_notice_ends_with_its_run() -> None:
    settings = Settings()
    mine = Notice(this_process(), 1.0, 2.0, 4, ["image:g"], paused="no room", waits=None)
    dead = Notice(f"{this_process().rpartition(':')[0]}:1", 1.0, 2.0, 1)
    tell(settings, mine)
    tell(settings, dead)
    assert read_notices(settings) == [mine]
    (settings.state / "runs" / "broken.json").write_text("{")
    assert read_notices(settings) == [mine]
    withdraw(settings, GONE)
    assert [json.loads(path.read_text())["owner"] for path in (settings.state / "runs").glob("*_*.json")] == [
        mine.owner
    ]


def test_chores_are_done_when_due_and_trouble_in_one_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def broken() -> None:
        raise ConfigurationError("the backup folder is gone")

    some = [chores.Chore("good", 60.0, lambda: done.append(1)), chores.Chore("broken", 0.0, broken)]
    for _ in range(3):
        chores.start_due(some)
        for chore in some:
            assert chore.thread is not None
            chore.thread.join()
    assert done == [1]
    assert caplog.text.count("the backup folder is gone") == 3


def test_a_run_backs_up_rotates_and_alerts(root: Path) -> None:
    names = [chore.name for chore in chores.chores_of(Settings(), PipelineOptions())]
    assert names == ["alerts", "messages", "backups"]
    cleaning = PipelineOptions(schedule=ScheduleOptions(clean=True))
    for chore in chores.chores_of(Settings(), cleaning):
        chore.work()
    assert list((root / "state" / "backups").glob("*/products.backup"))
