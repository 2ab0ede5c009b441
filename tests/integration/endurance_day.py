"""A day of arrivals with its faults, and a daemon with a supervisor that lives through it.

Every group is 16 files that come at once. Faults are drawn by group, each with what the pipeline owes:

    late        three files come later than the others         the group waits for them and is whole
    twice       each file comes again, under its own name      they are known, or repeated: nothing changes
                or under that of the next second
    truncated   one file is cut to half                        the file is refused by name; 15 subbands are enough
    missing     one file never comes                           likewise
    hopeless    six files never come                           the group fails, by name; nobody else is troubled

A process of the daemon is killed from time to time (SIGKILL), itself or a worker; the supervisor starts it again.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from tests.integration.test_kill import session_members

from dsa110_contimg.config import Settings
from dsa110_contimg.database.session import connect
from dsa110_contimg.naming import parse_subband, subband_name

MEMORY_EVERY_S = 2.0
OPTIONS = ("--threads", "1", "--size", "512", "--cell-arcsec", "14", "--floor-gb", "0")


@dataclass(frozen=True)
class Day:
    """How many groups come, how fast, and what is done to the daemon meanwhile."""

    groups: int
    kill_every_s: float
    tiles: int
    overlap: int
    every_s: float = 3.09
    """309 s at a hundred times real time."""
    limit_s: float = 7200.0
    most_kills: int = 1000
    calm_daemon: bool = False
    """Whether the undisturbed installation has a daemon, too, whose memory is told; else `--once` does it all."""
    seed: int = 20251001

    @property
    def command(self) -> list[str]:
        """The pipeline, without what tells a daemon from `--once`."""
        mosaics = ("--tiles", str(self.tiles), "--overlap", str(self.overlap))
        return [sys.executable, "-m", "tests.integration.endurance_daemon", "run", "--workers", "2", *OPTIONS, *mosaics]


@dataclass
class Faults:
    """What goes wrong with the arrivals of a day, by group number."""

    late: set[int] = field(default_factory=set)
    twice: set[int] = field(default_factory=set)
    truncated: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    hopeless: set[int] = field(default_factory=set)

    @classmethod
    def draw(cls, groups: int, chance: random.Random) -> "Faults":
        """5 % late, 2 % twice, 1 % cut short, 1 % without a subband, one hopeless; at least one of each.

        The middle group holds the transit of the calibrator, without which there is nothing to compare.
        """
        numbers = [number for number in chance.sample(range(groups), groups) if number != groups // 2]
        counts = [max(1, round(groups * part)) for part in (0.05, 0.02, 0.01, 0.01, 0.0)]
        return cls(*({numbers.pop() for _ in range(count)} for count in counts))


@dataclass(frozen=True, order=True)
class Arrival:
    """One file that comes."""

    at: float
    name: str
    """Of the simulated file."""
    under: str
    """The name under which it comes."""
    part: float = 1.0
    again: bool = False


def plan_arrivals(groups: Sequence[Sequence[str]], faults: Faults, day: Day, chance: random.Random) -> list[Arrival]:
    """Return which file comes when, and how much of it."""
    planned = []
    for number, files in enumerate(groups):
        at = day.every_s * number
        lost = chance.sample(files, 6) if number in faults.hopeless else []
        cut = chance.sample(files, 1) if number in faults.truncated | faults.missing else []
        slow = chance.sample(files, 3) if number in faults.late else []
        other = chance.random() < 0.5
        for name in files:
            if name not in lost and not (name in cut and number in faults.missing):
                part = 0.5 if name in cut else 1.0
                planned.append(Arrival(at + (6.0 if name in slow else 0.0), name, name, part))
            if number in faults.twice:
                planned.append(Arrival(at + 4.0, name, _next_second(name) if other else name, again=True))
    return sorted(planned)


def _next_second(name: str) -> str:
    """Return the name of the same subband whose node opened its file a second later."""
    found = parse_subband(Path(name))
    assert found is not None
    later = datetime.fromisoformat(found.stamp) + timedelta(seconds=1)
    return subband_name(later.isoformat(), found.index)


def deliver(source: Path, incoming: Path, arrival: Arrival) -> None:
    """Bring one file as a copy does: in one go, and over a file that is there by renaming."""
    data = (source / arrival.name).read_bytes()
    target = incoming / (arrival.under + ".copy" if arrival.again else arrival.under)
    target.write_bytes(data[: int(len(data) * arrival.part)])
    if arrival.again:
        target.replace(incoming / arrival.under)


class Supervisor:
    """Starts the daemon, and starts it again when it has ended, as systemd does."""

    def __init__(self, root: Path, day: Day) -> None:
        self.root, self.command = root, day.command
        self.ends, self.struck = Counter[int](), Counter[str]()
        self.memory_mb: list[tuple[float, float]] = []
        self.put_off = 0
        self._next_look, self._done = 0.0, -1
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.root / "daemon.txt").open("ab") as log:
            return subprocess.Popen(
                self.command, env=_environment(self.root), start_new_session=True, stdout=log, stderr=log
            )

    def watch(self, now: float) -> None:
        """Start the daemon again if it has ended; note what memory it holds."""
        if (code := self.process.poll()) is not None:
            self.ends[code] += 1
            self.process = self._start()
        if now >= self._next_look:
            self._next_look = now + MEMORY_EVERY_S
            with suppress(psutil.Error):
                self.memory_mb.append((now, psutil.Process(self.process.pid).memory_info().rss / 1e6))

    def strike(self, chance: random.Random) -> None:
        """Kill a process, unless the machine is so slow that no job has been completed since the last kill."""
        done = ask(self.root, "products", "SELECT count(*) FROM jobs WHERE state = 'completed'")[0][0]
        if done == self._done:
            self.put_off += 1
            return
        self._done = done
        self.kill(chance)

    def kill(self, chance: random.Random) -> None:
        """Kill the daemon or one of its workers."""
        with suppress(psutil.NoSuchProcess):
            daemon = psutil.Process(self.process.pid)
            workers = [one for one in daemon.children() if "resource_tracker" not in " ".join(one.cmdline())]
            hit = chance.choice([daemon, *sorted(workers, key=lambda one: one.pid)])
            hit.kill()
            self.struck["daemon" if hit.pid == daemon.pid else "worker"] += 1

    def stop(self) -> int:
        """Ask the daemon to end, and see that nothing of it is left."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=120)
        finally:
            for left in session_members(self.process.pid):
                os.kill(left, signal.SIGKILL)


def _environment(root: Path) -> dict[str, str]:
    return os.environ | {"PIPELINE_ROOT": str(root)}


@dataclass
class Played:
    """What a day was like."""

    seconds: float
    struck: Counter[str]
    put_off: int
    """Kills left out, because the machine was so slow that no job had been completed since the one before."""
    restarts: int
    memory_mb: list[tuple[float, float]]
    """Seconds since the start, and what the daemon held then."""

    def hour_mb(self, hour: int) -> float:
        """Return the most that the daemon held in one of the 24 hours of the day."""
        length = self.seconds / 24.0
        held = [value for at, value in self.memory_mb if hour * length <= at <= (hour + 1) * length]
        return max(held, default=float("nan"))


def play(root: Path, source: Path, plan: Sequence[Arrival], day: Day, chance: random.Random | None) -> Played:
    """Run a daemon through a day, with kills if given a chance, until all is done that can be before the data end."""
    incoming, left, began = Settings(root=root).incoming, deque(plan), time.monotonic()
    daemon, now, next_kill = Supervisor(root, day), 0.0, day.kill_every_s
    try:
        while left or not is_done(root, day):
            now = time.monotonic() - began
            assert now < day.limit_s, f"not done in {now:.0f} s: {standing(root)}"
            while left and left[0].at <= now:
                deliver(source, incoming, left.popleft())
            if chance is not None and now > next_kill and daemon.struck.total() < day.most_kills:
                next_kill = now + day.kill_every_s
                daemon.strike(chance)
            daemon.watch(now)
            time.sleep(0.2)
        assert daemon.stop() == 0
    finally:
        daemon.stop()
    assert set(daemon.ends) <= {-signal.SIGKILL}, daemon.ends
    return Played(now, daemon.struck, daemon.put_off, sum(daemon.ends.values()), daemon.memory_mb)


def end_the_data(root: Path, day: Day) -> int:
    """Let the last tiles form a group of their own, as no further files are expected; return the exit code."""
    with (root / "daemon.txt").open("ab") as log:
        done = subprocess.run([*day.command, "--once"], env=_environment(root), stdout=log, stderr=log, check=False)
    return done.returncode


def ask(root: Path, database: str, statement: str) -> list[tuple[Any, ...]]:
    """Return what a statement finds in a database of an installation."""
    with closing(connect(Settings(root=root).database(database), read_only=True)) as connection:
        return list(connection.execute(statement).fetchall())


def is_done(root: Path, day: Day) -> bool:
    """Return whether every group has ended, every tile is measured, and every whole mosaic has been through all."""
    queue = Counter(str(state) for (state,) in ask(root, "ingest", "SELECT state FROM ingest_queue"))
    if queue["completed"] + queue["failed"] < day.groups:
        return False
    tiles = ask(root, "products", "SELECT count(*) FROM ms_index WHERE stage = 'photometry_complete'")[0][0]
    last = "SELECT count(*) FROM jobs WHERE stage IN ('publish', 'variability') AND state = 'completed'"
    mosaics = ask(root, "products", last)[0][0]
    open_jobs = ask(root, "products", "SELECT count(*) FROM jobs WHERE state NOT IN ('completed', 'failed')")[0][0]
    whole = 1 + (queue["completed"] - day.tiles) // (day.tiles - day.overlap)
    return (tiles, mosaics, open_jobs) == (queue["completed"], 2 * whole, 0)


def standing(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands where, for the message of a test that fails."""
    return {
        "jobs": ask(root, "products", "SELECT stage, state, count(*) FROM jobs GROUP BY stage, state"),
        "tiles": ask(root, "products", "SELECT stage, count(*) FROM ms_index GROUP BY stage"),
        "errors": ask(root, "products", "SELECT job_id, error FROM jobs WHERE error IS NOT NULL LIMIT 5"),
        "queue": ask(root, "ingest", "SELECT state, count(*) FROM ingest_queue GROUP BY state"),
    }
