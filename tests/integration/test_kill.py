"""A pipeline that is killed at any moment and started again ends as one that nobody disturbed.

Three tiles of a day, or six of two, are processed by `contimg run --once` with one thread: once undisturbed, and then
with kills (SIGKILL) at random moments, or at chosen ones: before and after the commit of every stage, and in between
files and databases. Afterwards every row (but for the columns of decision 0009) and every pixel is the same.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest
from tests.integration import snapshot

from dsa110_contimg.database.session import connect
from dsa110_contimg.pipeline.jobs import Stage

SEED = 20251001
HERE = Path(__file__).parent
DECISION = HERE.parents[1] / "docs" / "decisions" / "0009-what-a-kill-may-change.md"
OBSERVATION = {
    "antennas": 20,
    "channels": 1,
    "integrations": 6,
    "tiles": 3,
    "epochs": 1,
    "transit": "3C48",
    "sefd_jy": 1500.0,
    "min_flux_jy": 0.08,
    "catalog_limit_jy": 0.08,
    "perfect_catalog": True,
    "seed": 1,
}
ARGUMENTS = [
    "run",
    "--once",
    "--threads",
    "1",
    "--size",
    "512",
    "--cell-arcsec",
    "14",
    "--tiles",
    "3",
    "--overlap",
    "0",
]
KILLED = -signal.SIGKILL
IN_ORDER = [
    "between queue and index",
    "job claimed",
    "set under its scratch name",
    "set renamed",
    *("before:convert", "after:convert"),
    "mosaic groups formed",
    "caltable under its scratch name",
    "caltables written",
    *("before:solve", "after:solve"),
    "own gains registered",
    "corrected without flags",
    *("before:calibrate", "after:calibrate"),
    "image under its scratch name",
    *("before:image", "after:image"),
    *("before:measure", "after:measure"),
    *("before:mosaic", "after:mosaic"),
    *("before:register", "after:register"),
    *("before:check", "after:check"),
    *("before:photometry", "after:photometry"),
    "files published",
    "publication committed",
    *("before:publish", "after:publish"),
    *("before:variability", "after:variability"),
]


class Server:
    """Starts `contimg` in forks of one process, which spares each of them the imports."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "kill_server.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, root: Path, **request: object) -> int:
        """Start a child and return its pid."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"root": str(root), "arguments": ARGUMENTS, **request}) + "\n")
        self.process.stdin.flush()
        return self._number()

    def end(self) -> int:
        """Wait for the child and return its exit code."""
        return self._number()

    def run(self, root: Path, **request: object) -> int:
        self.start(root, **request)
        return self.end()

    def _number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def fresh(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with files in its incoming folder, never run."""
    root = tmp_path_factory.mktemp("fresh")
    assert server.run(root, simulate=OBSERVATION) == 0
    return root


@pytest.fixture(scope="module")
def undisturbed(server: Server, fresh: Path) -> tuple[snapshot.Snapshot, int]:
    """What an undisturbed run leaves, and the number of its jobs."""
    root = copy_of(fresh, "undisturbed")
    assert server.run(root) == 0
    return snapshot.take(root), completed_jobs(root)


@pytest.fixture(scope="module")
def two_days(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a second epoch."""
    root = tmp_path_factory.mktemp("two_days")
    assert server.run(root, simulate=OBSERVATION | {"epochs": 2}) == 0
    return root


def copy_of(fresh: Path, name: str) -> Path:
    root = fresh.parent / name
    shutil.copytree(fresh, root)
    return root


def completed_jobs(root: Path) -> int:
    with closing(connect(root / "state" / "products.sqlite3", read_only=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM jobs WHERE state = 'completed'").fetchone()[0])


def interrupted(root: Path) -> str:
    """Return the stage that a kill has hit."""
    with closing(connect(root / "state" / "products.sqlite3", read_only=True)) as connection:
        row = connection.execute("SELECT stage FROM jobs WHERE state = 'running'").fetchone()
    return "between jobs" if row is None else str(row[0])


def rows_of(found: snapshot.Snapshot, table: str) -> list[str]:
    rows = found[table]
    assert isinstance(rows, list)
    return rows


def check_same(root: Path, undisturbed: tuple[snapshot.Snapshot, int]) -> None:
    found = snapshot.differences(undisturbed[0], snapshot.take(root))
    assert not found, "\n".join(found[:20])


def test_the_undisturbed_run_publishes_mosaics_and_measures_light_curves(
    undisturbed: tuple[snapshot.Snapshot, int],
) -> None:
    """Without this the comparisons below would compare nothing."""
    found, jobs = undisturbed
    stages = {json.loads(row)["stage"] for row in rows_of(found, "products/jobs")}
    assert stages == set(Stage) - {Stage.SOLVE_CATALOGUE}
    assert jobs == 3 * 4 + 1 + 6
    images = re.compile(r"products/mosaics/mosaic_[\d_-]+\d(-noise|-weight|-moc)?\.fits")
    assert sum(images.fullmatch(name) is not None for name in found) == 4
    assert len(rows_of(found, "products/photometry")) > 25


def test_a_kill_at_every_commit_and_between_files_and_databases_changes_nothing(
    server: Server, fresh: Path, undisturbed: tuple[snapshot.Snapshot, int]
) -> None:
    root = copy_of(fresh, "chosen")
    for point in IN_ORDER:
        assert server.run(root, point=point) == KILLED, f"the run ended before it came to {point!r}"
    assert server.run(root) == 0
    check_same(root, undisturbed)


class Run:
    """One start of the pipeline."""

    def __init__(self, server: Server, root: Path) -> None:
        self.server, self.pid = server, server.start(root)

    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.end() == KILLED

    def end(self) -> int:
        return self.server.end()


class Command:
    """One start of the pipeline by its command."""

    def __init__(self, root: Path, *arguments: str) -> None:
        command = [sys.executable, str(HERE / "kill_server.py"), *ARGUMENTS, *arguments]
        environment = os.environ | {"PIPELINE_ROOT": str(root)}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        assert self.end() == KILLED, "the run had ended before it was killed"

    def end(self) -> int:
        return self.process.wait(timeout=300)


class Process(Protocol):
    """A pipeline that was started."""

    def alive(self) -> bool: ...
    def kill(self) -> None: ...
    def end(self) -> int: ...


def kill_at_random(root: Path, kills: int, jobs: int, start: Callable[[Path], Process]) -> list[str]:
    """Kill a run at random moments, start it again, and let it end; return which stages were hit."""
    chance = random.Random(SEED)
    moments = sorted(chance.sample(range(jobs - 1), kills))
    hit = []
    for done in moments:
        delay = chance.uniform(0.0, 0.5)
        process = start(root)
        while process.alive() and completed_jobs(root) < done:
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        hit.append(interrupted(root))
        print(f"seed {SEED}: killed {delay:.2f} s after job {done} of {jobs}: {hit[-1]}")
    process = start(root)
    assert process.end() == 0
    return hit


def test_three_kills_at_random_moments_change_nothing(
    server: Server, fresh: Path, undisturbed: tuple[snapshot.Snapshot, int]
) -> None:
    root = copy_of(fresh, "three")
    kill_at_random(root, 3, undisturbed[1], lambda root: Run(server, root))
    check_same(root, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "arguments"), [(10, ()), (4, ("--workers", "2"))])
def test_kills_of_the_command_at_random_moments_change_nothing(
    two_days: Path, kills: int, arguments: tuple[str, ...]
) -> None:
    quiet, killed = copy_of(two_days, f"quiet{kills}"), copy_of(two_days, f"killed{kills}")
    assert Command(quiet).end() == 0
    truth = snapshot.take(quiet), completed_jobs(quiet)
    hit = kill_at_random(killed, kills, truth[1], lambda root: Command(root, *arguments))
    print(f"{kills} kills hit {len(set(hit))} different stages: {sorted(set(hit))}")
    assert len(set(hit)) >= 3
    check_same(killed, truth)


def test_workers_die_with_the_runner(fresh: Path) -> None:
    """SIGKILL hits the main process only; its two workers must not go on behind the back of the next run."""
    root = copy_of(fresh, "workers")
    command = Command(root, "--workers", "2")
    while command.alive() and not completed_jobs(root):
        time.sleep(0.01)
    assert len(session_members(command.process.pid)) >= 3
    command.kill()
    deadline = time.monotonic() + 5.0
    while session_members(command.process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not session_members(command.process.pid)


def session_members(leader: int) -> list[int]:
    """Return the live processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def test_a_damaged_snapshot_is_noticed(undisturbed: tuple[snapshot.Snapshot, int]) -> None:
    """The comparison must be able to fail: one row, one pixel, one file too many."""
    found = undisturbed[0]
    image = next(name for name in found if name.endswith("-image.fits"))
    rows = rows_of(found, "products/photometry")
    for change in ({image: "other"}, {"products/photometry": [*rows, rows[0]]}, {"stage/images/left.partial": "x"}):
        assert len(snapshot.differences(found, found | change)) == 1


def test_the_decision_lists_exactly_the_columns_that_are_not_compared() -> None:
    listed = set(re.findall(r"`(\w+)`", DECISION.read_text(encoding="utf-8").split("## Columns")[1].split("##")[0]))
    assert listed == snapshot.VOLATILE
