"""A daemon that is killed again and again ends where an undisturbed one ends.

Groups come one by one into the folder of `contimg run --workers 2`. Some come late, some twice, one with a subband cut
short, one without a subband. A random process of the daemon (itself, or a worker) gets SIGKILL every few seconds, and
a supervisor starts the daemon again, as systemd does. The judge compares with a daemon that got the same groups in
order, whole but for the subbands that the other never got.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration import snapshot
from tests.integration.test_kill import OBSERVATION, Server, session_members

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database.session import connect

GROUPS = 12
"""279 are a day."""
SEED = 20251001
EVERY_S = 3.09
"""309 s at a hundred times real time."""
KILL_EVERY_S = 10.0
LIMIT_S = 120.0 + 8.0 * GROUPS
TILES, OVERLAP = 4, 1
MOSAICS = 1 + (GROUPS - TILES) // (TILES - OVERLAP)
DAEMON = ("run", "--workers", "2", "--threads", "1", "--size", "512", "--cell-arcsec", "14", "--floor-gb", "0")
PIXELS = (".fits",)
pytestmark = pytest.mark.slow


@dataclass
class Faults:
    """What goes wrong with the arrivals of a day, by group number."""

    late: set[int] = field(default_factory=set)
    twice: set[int] = field(default_factory=set)
    truncated: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)

    @classmethod
    def draw(cls, groups: int, chance: random.Random) -> "Faults":
        """5 % late, 2 % twice, 1 % cut short, 1 % without a subband, and at least one of each."""
        numbers = chance.sample(range(groups), groups)
        counts = [max(1, round(groups * part)) for part in (0.05, 0.02, 0.01, 0.01)]
        return cls(*({numbers.pop() for _ in range(count)} for count in counts))


class Daemon:
    """The daemon and its supervisor."""

    def __init__(self, root: Path) -> None:
        self.root, self.ends = root, Counter[str]()
        self.command = [sys.executable, "-m", "tests.integration.endurance_daemon", *DAEMON]
        self.command += ["--tiles", str(TILES), "--overlap", str(OVERLAP)]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PIPELINE_ROOT": str(self.root)}
        with (self.root / "daemon.txt").open("ab") as log:
            return subprocess.Popen(self.command, env=environment, start_new_session=True, stdout=log, stderr=log)

    def watch(self) -> None:
        """Start it again if it has ended."""
        if (code := self.process.poll()) is not None:
            self.ends[str(code)] += 1
            self.process = self._start()

    def kill(self, chance: random.Random) -> str | None:
        """Kill one of its processes; say which."""
        alive = sorted(session_members(self.process.pid))
        if not alive:
            return None
        hit = chance.choice(alive)
        os.kill(hit, signal.SIGKILL)
        return "daemon" if hit == self.process.pid else "worker"

    def stop(self) -> int:
        """Ask it to end."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=90)
        finally:
            for left in session_members(self.process.pid):
                os.kill(left, signal.SIGKILL)


def ask(root: Path, database: str, statement: str) -> list[tuple[object, ...]]:
    with closing(connect(root / "state" / f"{database}.sqlite3", read_only=True)) as connection:
        return list(connection.execute(statement).fetchall())


def is_done(root: Path) -> bool:
    tiles = ask(root, "products", "SELECT count(*) FROM ms_index WHERE stage = 'photometry_complete'")
    jobs = ask(root, "products", "SELECT count(*) FROM jobs WHERE stage = 'variability' AND state = 'completed'")
    unfinished = ask(root, "products", "SELECT count(*) FROM jobs WHERE state NOT IN ('completed', 'failed')")
    return (tiles[0][0], jobs[0][0], unfinished[0][0]) == (GROUPS, MOSAICS, 0)


def deliver(source: Path, incoming: Path, name: str, *, part: float = 1.0) -> None:
    """Copy one file as a writer does: its bytes come in one go, whole or cut short."""
    data = (source / name).read_bytes()
    (incoming / name).write_bytes(data[: int(len(data) * part)])


def arrivals(groups: list[list[str]], faults: Faults, chance: random.Random) -> list[tuple[float, str, float]]:
    """Return when which file comes, and how much of it."""
    planned: list[tuple[float, str, float]] = []
    for number, files in enumerate(groups):
        lost = {files[chance.randrange(len(files))]} if number in faults.missing | faults.truncated else set()
        slow = set(chance.sample(files, 3)) if number in faults.late else set()
        for name in files:
            at = EVERY_S * number + (6.0 if name in slow else 0.0)
            if name not in lost:
                planned.append((at, name, 1.0))
            elif number in faults.truncated:
                planned.append((at, name, 0.5))
            if number in faults.twice:
                planned.append((at + 2.0, name, 1.0))
    return sorted(planned)


def play(root: Path, day: Path, plan: list[tuple[float, str, float]], chance: random.Random | None) -> Counter[str]:
    """Run a daemon through a day, with kills if given a chance; return what was done to it."""
    done, left, began = Counter[str](), list(plan), time.monotonic()
    next_kill, daemon = KILL_EVERY_S, Daemon(root)
    incoming = Settings(root=root).incoming
    try:
        while left or not is_done(root):
            now = time.monotonic() - began
            assert now < LIMIT_S + EVERY_S * GROUPS, f"not done in {now:.0f} s: {standing(root)}"
            while left and left[0][0] <= now:
                _at, name, part = left.pop(0)
                deliver(day, incoming, name, part=part)
            if chance is not None and now > next_kill:
                next_kill = now + KILL_EVERY_S
                done[f"killed {daemon.kill(chance)}"] += 1
            daemon.watch()
            time.sleep(0.2)
        assert daemon.stop() == 0
    finally:
        daemon.stop()
    done["started again"] = sum(daemon.ends.values())
    assert set(daemon.ends) <= {"-9"}
    done["seconds"] = round(time.monotonic() - began)
    return done


def standing(root: Path) -> dict[str, list[tuple[object, ...]]]:
    return {
        "jobs": ask(root, "products", "SELECT stage, state, count(*) FROM jobs GROUP BY stage, state"),
        "tiles": ask(root, "products", "SELECT stage, count(*) FROM ms_index GROUP BY stage"),
        "errors": ask(root, "products", "SELECT job_id, error FROM jobs WHERE error IS NOT NULL LIMIT 5"),
        "queue": ask(root, "ingest", "SELECT state, count(*) FROM ingest_queue GROUP BY state"),
    }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("endurance") / "fresh"
    root.mkdir()
    server = Server()
    assert server.run(root, simulate=OBSERVATION | {"tiles": GROUPS}) == 0
    server.close()
    Settings(root=root).incoming.rename(root.parent / "day")
    Settings(root=root).incoming.mkdir()
    return root


def test_a_day_with_kills_and_faults_ends_as_an_undisturbed_one(fresh: Path) -> None:
    chance, day = random.Random(SEED), fresh.parent / "day"
    groups = [group["files"] for group in json.loads((day / "truth.json").read_text())["groups"]]
    faults = Faults.draw(GROUPS, chance)
    plan = arrivals(groups, faults, chance)
    quiet, hard = (shutil.copytree(fresh, fresh.parent / name) for name in ("quiet", "hard"))
    usable = {name for _at, name, part in plan if part == 1.0}
    in_order = [(EVERY_S * i, name, 1.0) for i, files in enumerate(groups) for name in files if name in usable]
    told = play(quiet, day, in_order, None)
    print(f"seed {SEED}: undisturbed {dict(told)}")
    told = play(hard, day, plan, chance)
    print(f"seed {SEED}: {faults}: {dict(told)}; {standing(hard)}")
    judge(hard, quiet, faults)


def judge(hard: Path, quiet: Path, faults: Faults) -> None:
    assert ask(hard, "products", "SELECT job_id, error FROM jobs WHERE state = 'failed'") == []
    refused = ask(hard, "ingest", "SELECT count(*) FROM quarantine")
    assert refused[0][0] == len(faults.truncated)
    settings = Settings(root=hard)
    assert [str(path) for area in (settings.stage, settings.products) for path in area.rglob("*.partial")] == []
    one, other = snapshot.take(quiet), snapshot.take(hard)
    names = {name for name in one.keys() | other.keys() if name.endswith(PIXELS) or name in COMPARED}
    differ = snapshot.differences(*({n: found[n] for n in names if n in found} for found in (one, other)))
    assert not differ, f"{len(differ)} differences:\n" + "\n".join(line[:300] for line in differ[:20])
    print(f"{sum(name.endswith(PIXELS) for name in names)} images equal, {len(DATABASES)} databases intact")


COMPARED = (
    *("products/mosaic_groups", "products/mosaic_group_members", "products/mosaics", "products/images"),
    "products/photometry",
)
