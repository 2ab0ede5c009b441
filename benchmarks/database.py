"""The databases at full size: what is ready, one light curve of ten million rows, inserts, eight processes at once.

    python benchmarks/database.py [--registry 1000000] [--photometry 10000000] [--seconds 60] [--keep FOLDER]

Each line prints what was asked beside what was measured. The large photometry table is built once and kept in
FOLDER (6.6 GB for ten million rows); without --keep everything is made in a temporary folder and removed.
"""

import argparse
import gc
import math
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.exc import DBAPIError

from dsa110_contimg import sqlite_library
from dsa110_contimg.database import get_engine, get_session, reset_engines
from dsa110_contimg.database.data_registry import ensure_data_registry_db
from dsa110_contimg.database.models import Photometry
from dsa110_contimg.database.repositories import ImageRepository, PhotometryRepository, ms_index_upsert
from dsa110_contimg.database.session import connect, create_all, database_path
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.naming import source_name

READY = """SELECT data_id, data_type, stage_path
FROM data_registry
WHERE status='staging'
  AND auto_publish_enabled=1
  AND qa_status='passed'
  AND validation_status='validated'
  AND finalization_status='finalized'
  AND (photometry_status='completed' OR photometry_status IS NULL);"""
STAGING, PUBLISHABLE = 1000, 100
LEAF_PAGES = {0x0A, 0x0D}
BATCH, POINTS, PROCESSES = 50_000, 1000, 8
MS = "/stage/dsa110-contimg/ms/science/2025-12-24/2025-12-24T03:18:05.ms"


def report(what: str, asked: str, measured: str) -> None:
    print(f"{what:66s} asked {asked:18s} measured {measured}", flush=True)


def milliseconds(call: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the median and the 95th percentile."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append((time.perf_counter() - started) * 1e3)
    return statistics.median(took), statistics.quantiles(took, n=20)[-1]


def configure(folder: Path) -> None:
    os.environ["PIPELINE_ROOT"] = str(folder)
    reset_engines()


# ---------------------------------------------------------------------------------------------- registry


def ready_products(folder: Path, rows: int) -> None:
    """Time S0's query on a registry in which nearly everything is published."""
    configure(folder)
    with closing(ensure_data_registry_db(database_path("data_registry"))) as conn:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(
            "INSERT INTO data_registry (data_type, data_id, base_path, stage_path, created_at, staged_at, status,"
            " qa_status, validation_status, finalization_status, photometry_status) VALUES ('mosaic', ?1,"
            " '/stage/dsa110-contimg/mosaics', '/stage/dsa110-contimg/mosaics/' || ?1 || '.fits', 1, 1, ?2, ?3,"
            " 'validated', 'finalized', 'completed')",
            (
                (
                    f"mosaic_{i:07d}",
                    "staging" if i >= rows - STAGING else "published",
                    "warning" if rows - STAGING <= i < rows - PUBLISHABLE else "passed",
                )
                for i in range(rows)
            ),
        )
        conn.commit()
        assert len(conn.execute(READY).fetchall()) == PUBLISHABLE
        middle, worst = milliseconds(lambda: conn.execute(READY).fetchall(), 200)
        plan = conn.execute(f"EXPLAIN QUERY PLAN {READY}").fetchone()[3]
    report(
        f"ready for publishing: {PUBLISHABLE} of {STAGING} in staging of {rows:,}",
        "< 1 ms",
        f"{middle:.3f} ms (p95 {worst:.3f})",
    )
    print(f"    {plan}")


# -------------------------------------------------------------------------------------------- photometry


def source_names(count: int) -> list[str]:
    rng = random.Random(1)
    names = {source_name(rng.uniform(0, 360), rng.uniform(-40, 90)) for _ in range(count)}
    while len(names) < count:
        names.add(source_name(rng.uniform(0, 360), rng.uniform(-40, 90)))
    return sorted(names)


def image_name(number: int) -> str:
    return f"/data/dsa110-contimg/products/mosaics/mosaic_{number:06d}.fits"


def measurements(image: int, names: list[str], **more: int) -> list[dict[str, str | int | float | None]]:
    rng = random.Random(image)
    return [
        {
            "image_path": image_name(image),
            "source_id": name,
            "ra_deg": rng.random(),
            "dec_deg": rng.random(),
            "nvss_flux_mjy": rng.random(),
            "peak_jyb": rng.random(),
            "peak_err_jyb": rng.random(),
            "snr": rng.random(),
            "measured_at": 1.76e9,
            "mjd": 60000.0 + image / 280.0,
            "sep_from_center_deg": rng.random(),
            "flags": 0,
            "flux_jy": rng.random(),
            "flux_err_jy": rng.random(),
            "local_rms_jyb": rng.random(),
            "background_jyb": rng.random(),
            "upper_limit_jyb": None,
            "pb_response": rng.random(),
            "normalized_flux_jy": rng.random(),
            "normalized_flux_err_jy": rng.random(),
            **more,
        }
        for name in names
    ]


def add_images(first: int, count: int) -> None:
    with get_session("products") as session:
        ms_index_upsert(session, MS)
        for number in range(first, first + count):
            ImageRepository.add(session, path=image_name(number), ms_path=MS, type="mosaic", created_at=1.0)


def insert_rate(first: int, batches: int) -> list[float]:
    """Insert batches, each one durable transaction, and return rows per second of each."""
    add_images(first, batches)
    names, rates = source_names(BATCH), []
    for number in range(first, first + batches):
        rows = measurements(number, names)
        gc.collect()
        started = time.perf_counter()
        with get_session("products") as session:
            PhotometryRepository.store(session, rows)
        rates.append(len(rows) / (time.perf_counter() - started))
    return rates


def empty_table(folder: Path) -> None:
    rates = []
    for attempt in range(5):
        configure(folder / f"empty{attempt}")
        create_all("products")
        rates += insert_rate(0, 1)
    report(
        f"insert {BATCH:,} rows into an empty table, durable",
        "100,000 rows/s",
        f"{statistics.median(rates):,.0f} rows/s (median of 5; best {max(rates):,.0f})",
    )
    more = insert_rate(1, 4)
    print(f"    the next four batches: {', '.join(f'{rate:,.0f}' for rate in more)} rows/s")


def build(folder: Path, rows: int) -> None:
    """Fill products with POINTS images of rows / POINTS sources; indexes that no constraint needs come last."""
    configure(folder)
    create_all("products")
    names = source_names(rows // POINTS)
    indexes = [index for index in Photometry.__table__.indexes if not index.unique]  # type: ignore[attr-defined]
    with get_engine("products").begin() as connection:
        for index in indexes:
            index.drop(connection)
    add_images(0, POINTS)
    for number in range(POINTS):
        with get_session("products") as session:
            PhotometryRepository.store(session, measurements(number, names, in_lightcurve=1))
    with get_engine("products").begin() as connection:
        for index in indexes:
            index.create(connection)


def light_curve(folder: Path, rows: int) -> None:
    file = folder / "state" / "products.sqlite3"
    done = folder / f"photometry_{rows}"
    if not done.exists():
        started = time.perf_counter()
        build(folder, rows)
        done.touch()
        print(f"    built in {time.perf_counter() - started:.0f} s, {file.stat().st_size / 1e9:.1f} GB")
    configure(folder)
    names = random.Random(2).sample(source_names(rows // POINTS), 60)
    with get_session("products", read_only=True) as session:
        assert len(PhotometryRepository.get_lightcurve(session, names[0])) == POINTS
        first, _ = milliseconds(lambda: PhotometryRepository.get_lightcurve(session, names.pop()), 50)
        again, worst = milliseconds(lambda: PhotometryRepository.get_lightcurve(session, names[0]), 100)
        page, _ = milliseconds(lambda: PhotometryRepository.get_lightcurve(session, names[0], limit=100), 100)
    report(
        f"light curve of {POINTS:,} points among {rows:,} rows",
        "< 5 ms",
        f"{again:.2f} ms (p95 {worst:.2f}); a source not read before {first:.2f} ms; 100 points {page:.2f} ms",
    )
    extrapolate(file)
    rates = insert_rate(POINTS, 3)
    with get_engine("products").begin() as connection:
        connection.exec_driver_sql("DELETE FROM photometry WHERE image_path >= ?", (image_name(POINTS),))
        connection.exec_driver_sql("DELETE FROM images WHERE path >= ?", (image_name(POINTS),))
    report(
        f"insert {BATCH:,} rows at {rows:,} rows", "(reported)", f"{', '.join(f'{rate:,.0f}' for rate in rates)} rows/s"
    )


def descend(pages: BinaryIO, size: int, root: int, rng: random.Random) -> list[int]:
    """Walk a B-tree of a SQLite file from its root to a random leaf; return the cells of each page on the way."""
    cells, page = [], root
    while True:
        pages.seek((page - 1) * size)
        content = pages.read(size)
        header = 100 if page == 1 else 0
        kind, count = content[header], int.from_bytes(content[header + 3 : header + 5], "big")
        cells.append(count)
        if kind in LEAF_PAGES:
            return cells
        cell = header + 12 + 2 * rng.randrange(count)
        at = int.from_bytes(content[cell : cell + 2], "big")
        page = int.from_bytes(content[at : at + 4], "big")


def extrapolate(file: Path) -> None:
    """Print how many pages lead to a row now, and would at 1e9 rows."""
    with closing(connect(file)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = conn.execute("PRAGMA page_size").fetchone()[0]
        roots = dict(conn.execute("SELECT name, rootpage FROM sqlite_master").fetchall())
    rng = random.Random(3)
    with file.open("rb") as pages:
        for name in ("idx_photometry_light_curve", "idx_photometry_source_mjd", "photometry"):
            walks = [descend(pages, size, roots[name], rng) for _ in range(300)]
            levels = len(walks[0])
            leaf = statistics.mean(walk[-1] for walk in walks)
            children = 1 + statistics.mean(count for walk in walks for count in (walk[1:-1] or walk[:-1] or [99]))
            large = 1 + math.ceil(math.log(1e9 / leaf) / math.log(children))
            print(
                f"    {name}: {levels} pages from the root to a row ({leaf:.0f} rows a leaf, {children:.0f} children"
                f" a page); {large} at 1,000,000,000 rows, x{large / levels:.2f}"
            )


# ------------------------------------------------------------------------------------- processes at once


def write_and_read(arguments: tuple[str, int, float]) -> tuple[int, int, float, str]:
    """Write and read until the time is up; return transactions, rows, the longest wait, and what went wrong."""
    root, number, seconds = arguments
    configure(Path(root))
    rng, end = random.Random(number), time.monotonic() + seconds
    transactions = rows = 0
    longest = 0.0
    names = source_names(50)
    while time.monotonic() < end:
        image = number * 1_000_000 + transactions
        started = time.monotonic()
        try:
            with get_session("products") as session:
                ImageRepository.add(session, path=image_name(image), ms_path=MS, type="mosaic", created_at=1.0)
                PhotometryRepository.store(session, measurements(image, names, in_lightcurve=1))
            longest = max(longest, time.monotonic() - started)
            transactions += 1
            rows += len(names)
            with get_session("products", read_only=True) as session:
                PhotometryRepository.get_lightcurve(session, rng.choice(names), limit=100)
        except (DBAPIError, PipelineError) as error:
            return transactions, rows, longest, str(error)
    return transactions, rows, longest, ""


def many_processes(folder: Path, seconds: float) -> None:
    configure(folder)
    create_all("products")
    with get_session("products") as session:
        ms_index_upsert(session, MS)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        told = pool.map(write_and_read, [(str(folder), number, seconds) for number in range(PROCESSES)])
    with closing(connect(folder / "state" / "products.sqlite3")) as conn:
        stored = conn.execute("SELECT count(*) FROM photometry").fetchone()[0]
        integrity = conn.execute("PRAGMA integrity_check").fetchone()[0]
    errors = [error for *_, error in told if error]
    report(
        f"{PROCESSES} processes on one file for {seconds:.0f} s: errors, rows lost, integrity",
        "none, none, ok",
        f"{errors or 'none'}, {sum(row[1] for row in told) - stored}, {integrity}",
    )
    print(
        f"    {sum(row[0] for row in told)} transactions ({sum(row[0] for row in told) / seconds:.0f}/s),"
        f" {stored:,} rows, longest wait {max(row[2] for row in told):.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--registry", type=int, default=1_000_000, help="rows of the registry")
    parser.add_argument("--photometry", type=int, default=10_000_000, help="rows of photometry")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long processes write at once")
    parser.add_argument("--keep", type=Path, help="folder that keeps the large photometry table")
    options = parser.parse_args()
    print(f"SQLite {sqlite_library.choose()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        ready_products(Path(scratch) / "registry", options.registry)
        empty_table(Path(scratch))
        many_processes(Path(scratch) / "processes", options.seconds)
        light_curve(options.keep or Path(scratch) / "photometry", options.photometry)


if __name__ == "__main__":
    main()
