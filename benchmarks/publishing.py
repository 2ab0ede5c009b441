"""What publishing costs: one large product against `cp` and `sync`, and many small ones.

    python benchmarks/publishing.py [--size 100] [--products 10000] [--runs 9] [--folder FOLDER]

The large one is a FITS file of SIZE MB, published in copy mode from one folder of the disk to another: hashed, flushed,
read back from the disk, committed. Runs of the peer and ours take turns; the ratio is that of the medians.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from astropy.io import fits

from dsa110_contimg import sqlite_library
from dsa110_contimg.database.data_registry import (
    ensure_data_registry_db,
    publish_data_instance,
    register_data_instance,
)
from dsa110_contimg.database.product_paths import Roots

MEGABYTE = 1_000_000
SMALL_BYTES = 4096


def report(what: str, asked: str, measured: str) -> None:
    print(f"{what:66s} asked {asked:18s} measured {measured}", flush=True)


def write_fits(path: Path, size: int) -> None:
    side = int((size * MEGABYTE / 4) ** 0.5)
    pixels = np.random.default_rng(20250115).normal(size=(side, side)).astype(np.float32)
    fits.PrimaryHDU(pixels).writeto(path)
    os.sync()


def copy_and_sync(source: Path, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)
    return time.perf_counter() - started


def large_product(folder: Path, size: int, runs: int) -> None:
    roots = Roots(folder / "stage", folder / "products")
    (roots.stage / "mosaics").mkdir(parents=True)
    (folder / "peer").mkdir()
    source = roots.stage / "mosaics" / "large.fits"
    write_fits(source, size)
    peer, ours = [], []
    with closing(ensure_data_registry_db(folder / "large.sqlite3")) as conn:
        for run in range(runs + 1):
            staged = source.rename(source.with_name(f"m{run}.fits"))
            register_data_instance(conn, "mosaic", f"m{run}", staged)
            peer.append(copy_and_sync(staged, folder / "peer" / f"{run}.fits"))
            started = time.perf_counter()
            assert publish_data_instance(conn, f"m{run}", mode="copy", roots=roots)
            ours.append(time.perf_counter() - started)
            (folder / "peer" / f"{run}.fits").unlink()
            (roots.products / "mosaics" / staged.name).unlink()
            source = staged
    # The first run of either fills caches and starts threads.
    took, bare = statistics.median(ours[1:]), statistics.median(peer[1:])
    report(
        f"publish a FITS file of {size} MB by copy, against cp + sync",
        "at most 1.6 times",
        f"{took / bare:.2f} times ({took:.3f} s against {bare:.3f} s, median of {runs})",
    )


def small_products(folder: Path, products: int, mode: str) -> None:
    roots = Roots(folder / mode / "stage", folder / mode / "products")
    (roots.stage / "mosaics").mkdir(parents=True)
    generator = np.random.default_rng(20250116)
    with closing(ensure_data_registry_db(folder / f"{mode}.sqlite3")) as conn:
        for number in range(products):
            path = roots.stage / "mosaics" / f"m{number}.fits"
            path.write_bytes(generator.bytes(SMALL_BYTES))
            register_data_instance(conn, "mosaic", f"m{number}", path)
        os.sync()
        started = time.perf_counter()
        for number in range(products):
            assert publish_data_instance(conn, f"m{number}", mode=mode, roots=roots)
        took = time.perf_counter() - started
    assert sum(1 for _ in (roots.products / "mosaics").iterdir()) == products
    report(
        f"publish {products} products of {SMALL_BYTES} bytes one by one, {mode}",
        "200 /s",
        f"{products / took:.0f} /s ({took:.1f} s)",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    print(f"SQLite {sqlite_library.choose()}, {os.cpu_count()} cores", flush=True)
    folder = Path(tempfile.mkdtemp(dir=args.folder, prefix="publishing-"))
    try:
        large_product(folder, args.size, args.runs)
        for mode in ("copy", "move"):
            small_products(folder, args.products, mode)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
