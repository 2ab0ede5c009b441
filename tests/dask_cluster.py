"""A Dask scheduler and its workers, as processes of their own on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PATIENCE_S = 60.0
Process = subprocess.Popen[str]


class Cluster:
    """A scheduler, and the workers that were started for it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
        self._file = folder / "scheduler.json"
        self.workers: list[Process] = []
        self._logs: dict[int, Path] = {}
        self.start_scheduler("0")
        self.address = str(json.loads(self._file.read_text())["address"])

    def start_scheduler(self, port: str) -> None:
        """Start a scheduler, and wait until it listens."""
        self._file.unlink(missing_ok=True)
        options = ["--host", "127.0.0.1", "--port", port, "--no-dashboard", "--scheduler-file", str(self._file)]
        self.scheduler = self._start(["distributed.cli.dask_scheduler", *options], "scheduler", {})
        until(self._file.exists)

    def add_worker(self, **changes: str) -> Process:
        """Start `contimg worker`, with changes to its environment, and wait until it has joined."""
        command = ["dsa110_contimg.cli.main", "worker", self.address, "--jobs", "1"]
        worker = self._start(command, f"worker{len(self.workers)}", changes)
        self.workers.append(worker)
        until(lambda: "does 1 job" in self.log(worker) or worker.poll() is not None)
        return worker

    def add_foreign_worker(self) -> Process:
        """Start a Dask worker that is none of the pipeline's."""
        worker = self._start(
            ["distributed.cli.dask_worker", self.address, "--no-nanny", "--no-dashboard"], "foreign", {}
        )
        self.workers.append(worker)
        until(lambda: "Registered to" in self.log(worker))
        return worker

    def log(self, process: Process) -> str:
        """Return what a process has written."""
        return self._logs[process.pid].read_text()

    def close(self) -> None:
        """End every process."""
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()

    def _start(self, command: list[str], name: str, changes: dict[str, str]) -> Process:
        with (self.folder / f"{name}.log").open("w") as log:
            environment = {**self.environment, **changes}
            words = [sys.executable, "-u", "-m", *command]
            process = subprocess.Popen(words, stdout=log, stderr=log, text=True, env=environment, cwd=self.folder)
        self._logs[process.pid] = self.folder / f"{name}.log"
        return process


def worker_processes(worker: Process) -> list[int]:
    """Return the ids of the processes in which a Dask worker does its jobs."""
    below = psutil.Process(worker.pid).children()
    return [child.pid for child in below if "spawn_main" in " ".join(child.cmdline())]


def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    """Run a scheduler, whose workers end with it."""
    cluster = Cluster(folder, environment)
    try:
        yield cluster
    finally:
        cluster.close()
