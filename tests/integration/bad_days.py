"""A daemon of the bad days seen from outside: what an operator does to it, and what an operator sees."""

import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.integration.bad_days_daemon import told
from tests.integration.test_kill import session_members
from tests.pipeline.incoming_files import write_file

from dsa110_contimg import naming
from dsa110_contimg.cli.status import status
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.models import IngestQueue, MSIndex, SubbandFile
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.monitoring.logs import log_path
from dsa110_contimg.naming import subband_name
from dsa110_contimg.telescope import unix_to_mjd

HERE = Path(__file__).resolve()
LIMIT_S = 100.0
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 1, 24, 1, 2
FIRST_UNIX = naming.stamp_unix("2026-01-25T04:00:10")


def die_with_the_tests() -> None:
    """Let the next program end when this process does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def heed_permissions() -> None:
    """Let root meet the permissions that other users meet, from the next program on."""
    die_with_the_tests()
    for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


class Day:
    """One installation and its daemon."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] | None = None, *, heed: bool = False) -> None:
        assert settings.root is not None
        self.settings, self.root = settings, settings.root
        self.environment = {**os.environ, "PIPELINE_ROOT": str(self.root), **(environment or {})}
        self.prepare = heed_permissions if heed and os.geteuid() == 0 else die_with_the_tests
        self.groups = 0
        self.output = self.root / "daemon.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start the daemon."""
        command = [sys.executable, "-m", "tests.integration.bad_days_daemon", "run", "--workers", "2"]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--threads", "1", "--tiles", "200", "--floor-gb", "0.004", *arguments],
                env=self.environment,
                cwd=HERE.parents[2],
                start_new_session=True,
                stdout=output,
                stderr=output,
                preexec_fn=self.prepare,
            )

    def stop(self) -> int:
        """Tell it to end, and return its exit code; nothing of it is left."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(timeout=30)
        finally:
            for left in session_members(self.process.pid):
                os.kill(left, signal.SIGKILL)

    def until(self, so: Callable[[], object], what: str) -> None:
        """Wait until something is so; the daemon is alive meanwhile."""
        deadline = time.monotonic() + LIMIT_S
        while not so():
            assert self.process is not None
            assert self.process.poll() is None, f"the daemon ended: {self.output.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not {what}:\n{self.output.read_text()[-2000:]}{self.log()[-3000:]}"
            time.sleep(0.05)

    def next_group(self) -> str:
        """Return the id of a group that nobody has seen yet."""
        self.groups += 1
        return naming.group_id_of(unix_to_mjd(FIRST_UNIX + 310.0 * self.groups))

    def deliver(self, group: str, subbands: Iterator[int] | range = range(16), folder: Path | None = None) -> None:
        """Let the files of a group arrive."""
        for number in subbands:
            write_file(folder or self.settings.incoming, group, number, naming.stamp_unix(group))

    def file(self, group: str, subband: int) -> Path:
        """Return where a file of a group lies."""
        return self.settings.incoming / subband_name(group, subband)

    def mjd(self, group: str) -> float:
        """Return when the data of a group start."""
        return unix_to_mjd(naming.stamp_unix(group))

    def tell(self, group: str, word: str) -> None:
        """Tell the jobs of a group what to do."""
        told(group).parent.mkdir(exist_ok=True)
        told(group).write_text(word)

    def release(self, group: str) -> None:
        """Let a job that is held go on."""
        told(group).unlink()

    def hold_in_hand(self, *groups: str, word: str = "hold") -> None:
        """Let groups arrive and wait until their jobs have begun, and are held."""
        for group in groups:
            self.tell(group, word)
            self.deliver(group)
        self.until(lambda: all(told(group).with_suffix(".held").exists() for group in groups), f"{groups} held")

    def is_done(self, *groups: str) -> bool:
        """Return whether groups have been converted."""
        with get_session("ingest", read_only=True) as session:
            found = session.scalars(select(IngestQueue.state).where(IngestQueue.group_id.in_(groups))).all()
        return list(found) == ["completed"] * len(groups)

    def state(self, group: str) -> str | None:
        """Return the state of a group in the queue."""
        with get_session("ingest", read_only=True) as session:
            return session.scalar(select(IngestQueue.state).where(IngestQueue.group_id == group))

    def job(self, group: str) -> JobRow | None:
        """Return the row of a group's conversion."""
        with get_session("products", read_only=True) as session:
            return session.get(JobRow, f"convert:{group}")

    def subbands(self, group: str) -> list[int]:
        """Return the subbands that the queue holds of a group."""
        with get_session("ingest", read_only=True) as session:
            rows = select(SubbandFile.subband_idx).where(SubbandFile.group_id == group)
            return sorted(session.scalars(rows))

    def empty_subbands(self, group: str) -> set[int]:
        """Return the subbands of which a tile has nothing."""
        vis = measurement_set.load(naming.ms_path(self.settings.stage, group), "DATA")
        return {15 - channel for channel in range(16) if vis.flags[:, channel].all()}

    def tiles(self) -> list[str | None]:
        """Return the groups of all tiles."""
        with get_session("products", read_only=True) as session:
            return sorted(session.scalars(select(MSIndex.group_id)), key=str)

    def refused(self) -> dict[str, str]:
        """Return why files were refused, by name."""
        with get_session("ingest", read_only=True) as session:
            return {Path(row.path).name: row.reason for row in ingest_queue.list_quarantine(session)}

    def said(self, since: int = 0) -> str:
        """Return what stands on the daemon's terminal, from a place on."""
        return self.output.read_text()[since:]

    def log(self) -> str:
        """Return what the log says, a message a line."""
        lines = log_path(self.settings).read_text().splitlines()
        return "\n".join(json.loads(line)["event"] for line in lines)

    def seen(self) -> dict[str, Any]:
        """Return what `contimg status --json` prints."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            status(None, as_json=True)
        found: dict[str, Any] = json.loads(printed.getvalue())
        return found

    def says(self, words: str) -> bool:
        """Return whether the status says of the run that it is paused, or waits, with these words."""
        runs = self.seen()["runs"]
        return any(words in (run["paused"] or "") + (run["waits"] or "") for run in runs)

    def is_at_work(self) -> bool:
        """Return whether the status says that the run is neither paused nor waits for anything."""
        return all(run["paused"] is None and run["waits"] is None for run in self.seen()["runs"])

    def check_innocent(self, *groups: str) -> None:
        """Assert that groups have ended well, and that nothing was held against them."""
        for group in groups:
            row = self.job(group)
            assert row is not None
            assert (row.state, row.failures, row.deaths) == ("completed", 0, None), row.error
        assert len(self.tiles()) == len(set(self.tiles()))
        left = [str(path) for path in self.settings.stage.rglob("*.partial")]
        assert left == []


@contextmanager
def mounted(target: Path, *arguments: str) -> Iterator[bool]:
    """Mount something on a folder for a block; False where that is not possible."""
    done = subprocess.run(["mount", *arguments, str(target)], check=False, capture_output=True).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(target)], check=False)
