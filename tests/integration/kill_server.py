"""Forks processes that run `contimg`, from one that has imported everything, and lets them die where they are told.

Reads lines of JSON, {"root": ..., "point": ..., "arguments": [...]}; writes the pid of each child, and how it ended.
A point is 'before:STAGE' (the rows of a stage's result are written, but not committed), 'after:STAGE' (they are
committed, and nothing else was done since), or a name in POINTS. At its point a child sends itself SIGKILL.

With arguments it is `contimg` itself, but for thresholds that let the flux scale of a tiny array pass QA.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from casacore import tables
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from dsa110_contimg.cli import process
from dsa110_contimg.cli.main import main
from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, publications
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.formats import caltable, measurement_set, scratch
from dsa110_contimg.options import PipelineOptions, QAOptions
from dsa110_contimg.pipeline import attempt, ingest, runner, tile_stages
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.simulation import SimulationOptions, simulate

LENIENT = QAOptions(
    flux_ratio_warning=0.4,
    flux_ratio_failure=0.5,
    completeness_warning=0.3,
    completeness_failure=0.2,
    astrometry_warning_beam=0.3,
    astrometry_failure_beam=0.5,
    noise_map_warning=0.4,
    noise_map_failure=0.5,
    max_negative_fraction=0.05,
    flux_agreement_warning=0.4,
    flux_agreement_failure=0.5,
    noise_over_thermal_warning=20.0,
    noise_over_thermal_failure=50.0,
    stripes_warning=0.8,
    stripes_failure=0.9,
    bowl_warning=5.0,
    bowl_failure=9.0,
)


def die(*_args: object, **_named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_commit(stage: str, *, committed: bool) -> None:
    """Die at the commit of a stage."""
    original = Context.commit

    @contextmanager
    def commit(self: Context) -> Iterator[Session]:
        mine = self.job_id.startswith(f"{stage}:")
        with original(self) as session:
            yield session
            if mine and not committed:
                session.flush()
                die()
        if mine:
            die()

    Context.commit = commit  # type: ignore[method-assign]


def after(module: Any, name: str) -> None:
    """Die when a function has returned."""
    original: Callable[..., object] = getattr(module, name)

    def call(*args: object, **named: object) -> object:
        result = original(*args, **named)
        die()
        return result

    setattr(module, name, call)


def between_queue_and_index() -> None:
    """Die when a scan's files are in the queue, but not in the index."""

    @contextmanager
    def dying(name: str, read_only: bool = False) -> Iterator[Session]:
        with get_session(name, read_only) as session:
            yield session
        if not read_only:
            die()

    ingest.get_session = dying  # type: ignore[attr-defined, assignment]


def half_corrected() -> None:
    """Die when CORRECTED_DATA is written, but the flags that belong to it are not."""

    put_flags = measurement_set._put_flags

    def put(table: tables.table, flags: NDArray[np.bool_], first: int = 0) -> None:
        if "CORRECTED_DATA" in table.colnames():
            table.flush()
            die()
        put_flags(table, flags, first)

    measurement_set._put_flags = put


POINTS: dict[str, Callable[[], None]] = {
    "between queue and index": between_queue_and_index,
    "job claimed": lambda: setattr(attempt, "Context", die),
    "set under its scratch name": lambda: setattr(measurement_set, "flush_folder", die),
    "set renamed": lambda: after(measurement_set, "save_blocks"),
    "mosaic groups formed": lambda: after(runner, "form_mosaic_groups"),
    "caltable under its scratch name": lambda: setattr(caltable, "_sync", die),
    "caltables written": lambda: setattr(CaltableRepository, "register", die),
    "own gains registered": lambda: after(tile_stages, "_solve_phases"),
    "corrected without flags": half_corrected,
    "image under its scratch name": lambda: setattr(scratch, "flush", die),
    "files published": lambda: setattr(publications, "_commit", die),
    "publication committed": lambda: setattr(publications, "remove_sources", die),
}


def arm(point: str | None) -> None:
    """Make this process die at a point."""
    if point is None:
        return
    when, _, stage = point.partition(":")
    if stage:
        at_commit(stage, committed=when == "after")
    else:
        POINTS[point]()


def prepare(options: dict[str, Any]) -> None:
    """Make an installation whose incoming folder holds a simulated observation."""
    settings = Settings()
    initialize(settings)
    simulate(settings.incoming, SimulationOptions(**options), progress=None, overwrite=False)
    import_catalog(settings.incoming / "catalog.csv")


def child(request: dict[str, Any]) -> None:
    """Do what is asked for and end."""
    os.environ["PIPELINE_ROOT"] = request["root"]
    if "simulate" in request:
        prepare(request["simulate"])
        return
    arm(request.get("point"))
    contimg(request["arguments"])


def contimg(arguments: list[str]) -> None:
    """Run the command."""
    process.PipelineOptions = lambda: PipelineOptions(qa=LENIENT)  # type: ignore[attr-defined, misc, assignment]
    sys.argv = ["contimg", *arguments]
    main()


def serve() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.dup2(2, 1)
                child(json.loads(line))
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                os._exit(code)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contimg(sys.argv[1:])
    serve()
