"""`contimg` as the bad days run it: its own command, with short waits, and jobs that do as they are told.

A file PIPELINE_ROOT/faults/SUBJECT tells the jobs of a subject what to do before they begin: wait until the file is
gone ("hold"), stop as a process that hangs ("hang", once), kill their own process ("kill") or want more memory than
there is ("starve"). "hold writing" waits when room was found for a Measurement Set and nothing of it is written yet.
A file faults/limit holds the time limit (s) of the jobs that start while it is there.

python -m tests.integration.bad_days_daemon run --workers 2 ...
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.cli import process
from dsa110_contimg.cli.main import main
from dsa110_contimg.config import Settings
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import (
    CalibrationOptions,
    ConversionOptions,
    PipelineOptions,
    ResourceOptions,
    ScheduleOptions,
)
from dsa110_contimg.pipeline import attempt, incoming, resources, runner
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.visibilities import Visibilities

WAIT_S = 4.0
OPTIONS = PipelineOptions(
    conversion=ConversionOptions(settle_s=0.5, wait_s=WAIT_S, relist_s=2.0, poll_s=0.5),
    calibration=CalibrationOptions(transit_wait_h=1e6),
    schedule=ScheduleOptions(retry_s=0.5, pause_s=0.5, lease_s=4.0, max_deaths=2, stop_s=5.0),
)
logger = logging.getLogger("dsa110_contimg.faults")


def told(subject: str) -> Path:
    """Return the file that tells the jobs of a subject what to do."""
    return Path(os.environ["PIPELINE_ROOT"]) / "faults" / subject


def hold(subject: str, word: str) -> None:
    """Wait while a subject is told to."""
    file = told(subject)
    while file.exists() and file.read_text() == word:
        file.with_suffix(".held").touch()
        # Under a clock that is set by a library, time.sleep may raise.
        Event().wait(0.02)


def obey(subject: str) -> None:
    """Do as a subject is told."""
    hold(subject, "hold")
    file = told(subject)
    word = file.read_text() if file.exists() else ""
    if word == "hang":
        file.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
    if word == "kill":
        logger.warning("these are the last words of %s", subject)
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "starve":
        bytearray(1 << 62)


_function_of, _write, _time_limit_s = attempt.function_of, measurement_set._write, resources.time_limit_s


def obedient(stage: Stage) -> Callable[[Context, str], None]:
    """Return what a stage does once its subject's file has been obeyed."""

    def work(context: Context, subject: str) -> None:
        obey(subject)
        _function_of(stage)(context, subject)

    return work


def held_write(path: Path, frame: Visibilities, blocks: Iterable[measurement_set.Block]) -> NDArray[np.complex64]:
    """Write a set when it is no longer held."""
    hold(path.name.removeprefix(".").partition(".ms")[0], "hold writing")
    return _write(path, frame, blocks)


def told_limit_s(stage: Stage, options: ResourceOptions) -> float:
    """Return the time limit that is told, or the usual one."""
    return float(told("limit").read_text()) if told("limit").exists() else _time_limit_s(stage, options)


# In the daemon and in its workers; not in a test that only looks a name up here.
if __name__ in ("__main__", "__mp_main__"):
    attempt.function_of, measurement_set._write = obedient, held_write
    runner.time_limit_s = told_limit_s  # type: ignore[attr-defined]
    runner.POLL_S, runner.IDLE_S, runner.NOTICE_S, incoming.LOOK_MS = 0.5, 0.5, 0.5, 500


def contimg(arguments: list[str]) -> None:
    """Run the command."""
    (Settings().root or Path()).joinpath("faults").mkdir(exist_ok=True)
    process.PipelineOptions = lambda: OPTIONS  # type: ignore[attr-defined, misc, assignment]
    sys.argv = ["contimg", *arguments]
    main()


if __name__ == "__main__":
    contimg(sys.argv[1:])
