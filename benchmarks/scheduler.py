"""What the scheduler itself costs: ten years of finished work, claims, an idle daemon, a day of turns of the loop.

    python benchmarks/scheduler.py [--groups 1000000] [--claims 20000] [--idle 60] [--keep FOLDER]

Each line prints what was asked beside what was measured. The database of finished groups, with their tiles, jobs,
mosaics and products, is made with bulk statements in FOLDER (about 2 GB for a million), or in a temporary folder.
With PIPELINE_DATABASE_URL the claims are made on that server.
"""

import argparse
import gc
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

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, init_databases, leases, reset_engines
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import Job
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.database.session import connect, database_path
from dsa110_contimg.monitoring import census
from dsa110_contimg.monitoring.metrics import render
from dsa110_contimg.monitoring.watch import raise_alerts
from dsa110_contimg.options import CalibrationOptions, ConversionOptions, MosaicOptions, PhotometryOptions
from dsa110_contimg.pipeline.ingest import offer_groups
from dsa110_contimg.pipeline.jobs import next_jobs
from dsa110_contimg.pipeline.reconcile import reconcile, release_orphans
from dsa110_contimg.pipeline.state import form_mosaic_groups, load_state
from dsa110_contimg.pipeline.status import overview

TILES = 8
"""New tiles of each mosaic."""
BATCH = 32
"""Jobs that start at once."""
KNOWN = 20_000
RETRACTED = 5_000
GROUPS_PER_DAY, GROUPS_PER_HOUR = 279, 12
STAGES = (
    ("convert", "converted"),
    ("calibrate", "calibrated"),
    ("image", "imaged"),
    ("measure", "photometry_complete"),
)
"""Jobs of a tile, and where each leaves it."""
DAEMON = (
    "from dsa110_contimg.pipeline import arrivals; from dsa110_contimg.cli.main import main;"
    " arrivals.tells_of_changes = lambda _folder: {told}; main()"
)
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
    took, worked = [], []
    for _ in range(times):
        started, before = time.perf_counter(), time.process_time()
        call()
        took.append((time.perf_counter() - started) * 1e3)
        worked.append((time.process_time() - before) * 1e3)
    return f"{statistics.median(took):.1f} ms ({statistics.median(worked):.1f} of processor time)"


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


def know_files(settings: Settings, number: int) -> None:
    """Put files into the incoming folder that the databases know, as after a day and more."""
    names = [
        f"2020-01-{1 + i // 16 // 280:02d}T{i // 16 // 12 % 24:02d}:{i // 16 % 12 * 5:02d}:00_sb{i % 16:02d}.hdf5"
        for i in range(number)
    ]
    paths = [settings.incoming / name for name in names]
    for path in paths:
        path.touch()
    groups = [(str(path), name, name[:19], name[20:24]) for path, name in zip(paths, names, strict=True)]
    with closing(connect(database_path("hdf5"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR IGNORE INTO hdf5_file_index (path, filename, group_id, subband_code, timestamp_iso,"
            " timestamp_mjd) VALUES (?, ?, ?, ?, '', 0.0)",
            groups,
        )
        connection.execute("COMMIT")


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


def retract(mosaics: int) -> None:
    """Let some of the oldest mosaics be retracted, and the light curves have followed."""
    for name, statement in (
        ("data_registry", "UPDATE data_registry SET status = 'retracted', retracted_at = 1 WHERE id <= ?"),
        ("products", "UPDATE mosaics SET status = 'retracted' WHERE id <= ?"),
    ):
        with closing(connect(database_path(name))) as connection:
            connection.execute(statement, (mosaics,))


def turn() -> None:
    """Do what a turn of the loop does when nothing has come."""
    offer_groups(ConversionOptions(), time.time())
    release_orphans("benchmark", set())
    reconcile(PhotometryOptions())
    decide()
    form_mosaic_groups(MosaicOptions(), end_of_data=False)


def time_looks(groups: int) -> None:
    """Time the next job, the status, a scrape and a whole turn over a million finished groups."""
    add_open_work()
    with get_session("products") as session:
        session.execute(delete(Job).where(Job.owner == "benchmark"))
    what = f"over {groups} finished groups: "
    report(what + "state and next jobs", "20 ms", milliseconds(decide))
    report(what + "contimg status", "20 ms", milliseconds(overview))
    report(what + "/metrics", "50 ms", milliseconds(render))
    report(what + "a turn when nothing is new", "", milliseconds(turn))
    alerts = milliseconds(lambda: raise_alerts(Settings(), CalibrationOptions(), now=time.time()))
    report(what + "alerts, once a minute", "", alerts)
    retract(RETRACTED)
    report(f"{what}a turn, {RETRACTED} mosaics retracted", "", milliseconds(turn))


def time_claims(claims: int) -> None:
    """Time claims as a run makes them, some in a transaction, and singly, beside transactions without SQLAlchemy."""
    where = "PostgreSQL" if Settings().database_url is not None else "SQLite"
    for batch in (BATCH, 1):
        number = claims if batch > 1 else claims // 20
        jobs = [("image", f"claim {batch} {place}") for place in range(number)]
        started, worked = time.perf_counter(), time.process_time()
        for start in range(0, number, batch):
            with get_session("products") as session:
                got = leases.start_jobs(session, jobs[start : start + batch], "benchmark", 300.0, 1.0)
            assert len(got) == len(jobs[start : start + batch])
        rate, own = number / (time.perf_counter() - started), number / (time.process_time() - worked)
        with get_session("products") as session:
            session.execute(delete(Job).where(Job.owner == "benchmark"))
        measured = f"{rate:.0f} a second ({own:.0f} a second of processor time)"
        report(f"claims on {where}, {batch} in a transaction", "2000 a second" if batch > 1 else "", measured)
    if where == "SQLite":
        report(f"the disk alone: {BATCH} rows in a transaction, by sqlite3", "", f"{rows_alone(claims):.0f} a second")


def rows_alone(number: int) -> float:
    """Return how many rows a second sqlite3 takes in transactions of the size of a batch: what the disk allows."""
    path = database_path("products").with_name("peer.sqlite3")
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS jobs (job_id TEXT PRIMARY KEY, state TEXT)")
        connection.execute("DELETE FROM jobs")
    started = time.perf_counter()
    for start in range(0, number, BATCH):
        with closing(connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = [(f"image:{place}", "running") for place in range(start, start + BATCH)]
            connection.executemany("INSERT INTO jobs VALUES (?, ?)", rows)
            connection.execute("COMMIT")
    return number / (time.perf_counter() - started)


def pass_through(group: int) -> None:
    """Let the rows of one group come, be claimed stage by stage, and end."""
    now = time.time()
    name = naming.group_id_of(61_000.0 + group * 309.0 / 86400.0)
    path = f"/stage/ms/{name}.ms"
    with get_session("ingest") as session:
        for subband in range(16):
            file = f"/incoming/{name}_sb{subband:02d}.hdf5"
            ingest_queue.record_subband(session, group_id=name, subband_idx=subband, path=file, file_size=1, now=now)
    offer_groups(ConversionOptions(), now)
    for stage, reached in STAGES:
        load_state(end_of_data=False)
        with get_session("products") as session:
            attempt = leases.start_jobs(session, [(stage, name)], "benchmark", 300.0, now)[f"{stage}:{name}"]
        if stage == "convert":
            with get_session("ingest") as session:
                ingest_queue.claim_group(session, name, now=now)
        with get_session("products") as session:
            ms_index_upsert(
                session,
                path,
                group_id=name,
                stage=reached,
                mid_mjd=61_000.0 + group * 309.0 / 86400.0,
                pointing_ra_deg=10.0,
                pointing_dec_deg=33.0,
                placed_in="mg_0",
            )
            leases.complete_job(session, f"{stage}:{name}", attempt, now=now)
        reconcile(PhotometryOptions())


def time_day(groups: int) -> None:
    """Watch memory while the rows of a day of groups pass through the turns of the loop, an hour of them at a time."""
    sizes, process = [], psutil.Process()
    for group in range(groups):
        pass_through(group)
        overview()
        render()
        if (group + 1) % GROUPS_PER_HOUR == 0:
            gc.collect()
            sizes.append(process.memory_info().rss / 1e6)
    measured = f"{sizes[0]:.1f} MB after the first hour, {sizes[-1]:.1f} MB after the last"
    report(f"memory over {groups} groups in {groups * len(STAGES)} turns", "constant", measured)
    with get_session("products", read_only=True) as session:
        assert census.progress(session, time.time()).tiles["photometry_complete"] >= groups


def time_idle(folder: Path, seconds: float, *, polling: bool = False) -> None:
    """Measure the processor time of a daemon with nothing to do, its chores included, and how long it takes to stop."""
    environment = {**os.environ, "PIPELINE_ROOT": str(folder), "PIPELINE_MIN_FREE_GB": "0"}
    command = [sys.executable, "-c", DAEMON.format(told=not polling), "run", "--workers", "2"]
    with subprocess.Popen(command, env=environment) as daemon:
        watched = psutil.Process(daemon.pid)
        time.sleep(20.0)
        before, started = watched.cpu_times(), time.perf_counter()
        time.sleep(seconds)
        after, took = watched.cpu_times(), time.perf_counter() - started
        size = watched.memory_info().rss / 1e6
        stopped = time.perf_counter()
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(60)
    used = (after.user + after.system - before.user - before.system) / took
    how = "listed every 5 s" if polling else "that tells of changes"
    what = f"idle daemon over {took:.0f} s, a folder of {KNOWN} known files {how}"
    report(what, "below 1 % of a core", f"{100 * used:.2f} %, {size:.0f} MB")
    report("idle daemon told to stop", "", f"{time.perf_counter() - stopped:.1f} s, exit code {code}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--groups", type=int, default=1_000_000)
    arguments.add_argument("--claims", type=int, default=20_000)
    arguments.add_argument("--idle", type=float, default=60.0)
    arguments.add_argument("--keep", type=Path)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.keep or Path(temporary)
        make(place / "idle", 1000)
        know_files(Settings(), KNOWN)
        for polling in (False, True):
            time_idle(place / "idle", chosen.idle, polling=polling)
        make(place / "day", 1000)
        time_day(GROUPS_PER_DAY)
        time_claims(chosen.claims)
        make(place / "full", chosen.groups)
        time_looks(chosen.groups)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
