"""What the scheduler itself costs: a year of finished work, claims, an idle daemon, many turns of the loop.

    python benchmarks/scheduler.py [--groups 1000000] [--claims 20000] [--idle 30] [--turns 2000] [--keep FOLDER]

Each line prints what was asked beside what was measured. The database of finished groups, with their tiles, jobs,
mosaics and products, is made with bulk statements in FOLDER (about 2 GB for a million), or in a temporary folder.
"""

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
from sqlalchemy import delete

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, init_databases, leases, reset_engines
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import Job
from dsa110_contimg.database.session import connect, database_path
from dsa110_contimg.options import CalibrationOptions, MosaicOptions, PhotometryOptions
from dsa110_contimg.pipeline.jobs import next_jobs
from dsa110_contimg.pipeline.reconcile import reconcile
from dsa110_contimg.pipeline.state import form_mosaic_groups, load_state
from dsa110_contimg.pipeline.status import overview

TILES = 8
"""New tiles of each mosaic."""
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
GROUP = "strftime('%Y-%m-%dT%H:%M:%S', 1735689600 - i * 309, 'unixepoch')"
MJD = "60676.0 - i * 309.0 / 86400.0"
INGEST = (
    f"INSERT INTO ingest_queue (group_id, state, received_at, last_update, expected_subbands)"
    f" SELECT {GROUP}, 'completed', 1735689600 - i * 309, 1735689600 - i * 309, 16 FROM n",
)
PRODUCTS = (
    f"INSERT INTO ms_index (path, group_id, start_mjd, end_mjd, mid_mjd, stage, status, stage_updated_at,"
    f" pointing_ra_deg, pointing_dec_deg, placed_in)"
    f" SELECT '/stage/' || {GROUP} || '.ms', {GROUP}, {MJD}, {MJD}, {MJD},"
    f" 'photometry_complete', 'ok', 1735689600 - i * 309, 10.0, 33.0, 'mg_' || (i / {TILES}) FROM n",
    *(
        f"INSERT INTO jobs (job_id, stage, subject, state, attempt, created_at, updated_at)"
        f" SELECT '{stage}:' || {GROUP}, '{stage}', {GROUP}, 'completed', 1, 1, 1 FROM n"
        for stage in ("convert", "calibrate", "image", "measure")
    ),
)
MOSAICS = (
    "INSERT INTO mosaic_groups (group_id, ms_paths, status, created_at) SELECT 'mg_' || i, '[]', 'completed', 1 FROM n",
    f"INSERT INTO mosaics (path, name, group_id, start_mjd, end_mjd, created_at, status, closed_at)"
    f" SELECT '/products/m' || i, 'm' || i, 'mg_' || i, {MJD}, {MJD}, 1, 'completed', 1 FROM n",
    *(
        f"INSERT INTO jobs (job_id, stage, subject, state, attempt, created_at, updated_at)"
        f" SELECT '{stage}:m' || i, '{stage}', 'm' || i, 'completed', 1, 1, 1 FROM n"
        for stage in ("register", "check", "photometry", "publish", "variability")
    ),
)
REGISTRY = (
    "INSERT INTO data_registry (data_type, data_id, base_path, stage_path, published_path, created_at, staged_at,"
    " published_at, status, qa_status, validation_status, finalization_status, photometry_status)"
    " SELECT 'mosaic', 'm' || i, '/stage', '/stage/m' || i, '/products/m' || i, 1, 1, 1, 'published', 'passed',"
    " 'validated', 'finalized', 'completed' FROM n",
)


def report(what: str, asked: str, measured: str) -> None:
    print(f"{what:66s} asked {asked:18s} measured {measured}", flush=True)


def milliseconds(call: Callable[[], object], times: int = 21) -> str:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append((time.perf_counter() - started) * 1e3)
    return f"{statistics.median(took):.1f} ms (at most {max(took):.1f})"


def fill(name: str, statements: tuple[str, ...], count: int) -> None:
    with closing(connect(database_path(name))) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            into, _, rows = statement.partition(" SELECT ")
            connection.execute(f"{into} {NUMBERS.format(count=count)} SELECT {rows}")
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def make(folder: Path, groups: int) -> None:
    """Make an installation with finished work, unless there is one."""
    os.environ["PIPELINE_ROOT"] = str(folder)
    reset_engines()
    settings = Settings()
    if settings.database("products").exists():
        return
    init_databases()
    for place in (settings.incoming, settings.stage, settings.products):
        place.mkdir(parents=True, exist_ok=True)
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("NVSS J000000.0+000000", 0.0, 0.0, 1.0, None)])
    started = time.perf_counter()
    fill("ingest", INGEST, groups)
    fill("products", PRODUCTS, groups)
    fill("products", MOSAICS, groups // TILES)
    fill("data_registry", REGISTRY, groups // TILES)
    print(f"{groups} finished groups made in {time.perf_counter() - started:.0f} s", flush=True)


def add_open_work() -> None:
    """Let three groups wait and one tile be converted."""
    with closing(connect(database_path("ingest"))) as connection:
        connection.executemany(
            "INSERT OR IGNORE INTO ingest_queue (group_id, state, received_at, last_update, expected_subbands)"
            " VALUES (?, 'pending', 1, 1, 16)",
            [(f"2124-01-01T00:0{number}:00",) for number in range(3)],
        )


def decide() -> None:
    state = load_state(end_of_data=False)
    assert len(next_jobs(state, CalibrationOptions(), MosaicOptions())) == 3


def time_looks(groups: int) -> None:
    """Time the next job and the status over a million finished groups."""
    add_open_work()
    what = f"over {groups} finished groups: "
    report(what + "state and next jobs", "20 ms", milliseconds(decide))
    report(
        what + "forming mosaic groups", "", milliseconds(lambda: form_mosaic_groups(MosaicOptions(), end_of_data=False))
    )
    report(what + "reconciliation", "", milliseconds(lambda: reconcile(PhotometryOptions())))
    report(what + "contimg status", "20 ms", milliseconds(overview))


def time_claims(claims: int) -> None:
    """Time claims as a run makes them, some in a transaction, and singly."""
    for batch in (32, 1):
        number = claims if batch > 1 else claims // 20
        jobs = [("image", f"claim {batch} {place}") for place in range(number)]
        started = time.perf_counter()
        for start in range(0, number, batch):
            with get_session("products") as session:
                got = leases.start_jobs(session, jobs[start : start + batch], "benchmark", 300.0, 1.0)
            assert len(got) == len(jobs[start : start + batch])
        rate = number / (time.perf_counter() - started)
        with get_session("products") as session:
            session.execute(delete(Job).where(Job.owner == "benchmark"))
        report(f"claims, {batch} in a transaction", "2000 a second" if batch > 1 else "", f"{rate:.0f} a second")


def time_turns(turns: int) -> None:
    """Watch memory over many looks: a day has 17,280 of them."""
    sizes = []
    process = psutil.Process()
    for turn in range(turns):
        reconcile(PhotometryOptions())
        load_state(end_of_data=False)
        overview()
        if turn in (turns // 4, turns - 1):
            sizes.append(process.memory_info().rss / 1e6)
    report(f"memory after {turns // 4} and {turns} turns", "constant", " and ".join(f"{size:.1f} MB" for size in sizes))


def time_idle(folder: Path, seconds: float) -> None:
    """Measure the processor time of a daemon with nothing to do, and how long it takes to stop."""
    environment = {**os.environ, "PIPELINE_ROOT": str(folder), "PIPELINE_MIN_FREE_GB": "0"}
    with subprocess.Popen([sys.executable, "-m", "dsa110_contimg.cli.main", "run"], env=environment) as daemon:
        watched = psutil.Process(daemon.pid)
        time.sleep(15.0)
        before, started = watched.cpu_times(), time.perf_counter()
        time.sleep(seconds)
        after, took = watched.cpu_times(), time.perf_counter() - started
        size = watched.memory_info().rss / 1e6
        stopped = time.perf_counter()
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(60)
    used = (after.user + after.system - before.user - before.system) / took
    report(f"idle daemon over {took:.0f} s", "below 1 % of a core", f"{100 * used:.2f} %, {size:.0f} MB")
    report("idle daemon told to stop", "", f"{time.perf_counter() - stopped:.1f} s, exit code {code}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--groups", type=int, default=1_000_000)
    arguments.add_argument("--claims", type=int, default=20_000)
    arguments.add_argument("--idle", type=float, default=30.0)
    arguments.add_argument("--turns", type=int, default=2000)
    arguments.add_argument("--keep", type=Path)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.keep or Path(temporary)
        make(place / "idle", 1000)
        time_idle(place / "idle", chosen.idle)
        make(place / "full", chosen.groups)
        time_looks(chosen.groups)
        time_turns(chosen.turns)
        time_claims(chosen.claims)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
