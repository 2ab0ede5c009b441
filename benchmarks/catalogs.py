"""Cone searches in a catalogue of the NVSS's size, and the import of a survey.

    python benchmarks/catalogs.py [--sources 1770000] [--cones 2000] [--radius 1.0] [--nvss FILE]

A synthetic sky with as many sources as the NVSS is written once into a temporary folder; circles lie at random, and as
many again about RA 0 and about the poles. Each search opens its own session, as the pipeline's does. Beside ours: the
same question with the specification's index on (ra_deg, dec_deg) alone. The import is that of a real file (default:
NVSSVZ.FIT.gz below CONTIMG_DATA), once into an empty database and once over itself.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import text

from dsa110_contimg.database import get_session, init_databases
from dsa110_contimg.database.bulk import insert_columns
from dsa110_contimg.database.catalog_query import cone_search
from dsa110_contimg.database.models import Source
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.visibilities import SkyPosition

SEED = 11
TARGET_CONE_MS, TARGET_IMPORT_S = 5.0, 5.0


def fill(count: int, rng: np.random.Generator) -> float:
    """Write the sky and return how long it took (s)."""
    started = time.perf_counter()
    ra, dec = rng.uniform(0.0, 360.0, count), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, count)))
    flux = 2.5e-3 * rng.pareto(1.0, count) + 2.5e-3
    columns = {
        "source_id": [f"S{i:08d}" for i in range(count)],
        "ra_deg": ra.tolist(),
        "dec_deg": dec.tolist(),
        "s_nvss": flux.tolist(),
        "snr_nvss": (flux / 0.45e-3).tolist(),
    }
    with get_session("master_sources") as session:
        insert_columns(session, Source, columns)
    return time.perf_counter() - started


def cones(count: int, rng: np.random.Generator) -> dict[str, list[SkyPosition]]:
    def anywhere(ra, dec):
        return [SkyPosition(float(a) % 360.0, float(d)) for a, d in zip(ra, dec, strict=True)]

    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, count)))
    poles = rng.choice([-1.0, 1.0], count) * rng.uniform(88.0, 90.0, count)
    return {
        "anywhere": anywhere(rng.uniform(0.0, 360.0, count), dec),
        "about RA 0": anywhere(rng.uniform(-1.0, 1.0, count), dec),
        "about a pole": anywhere(rng.uniform(0.0, 360.0, count), poles),
    }


def search_ms(centers: list[SkyPosition], radius_deg: float) -> tuple[float, float, float]:
    """Return median and 95th percentile of the time (ms), and the mean number found."""
    times, found = [], 0
    for center in centers:
        started = time.perf_counter()
        found += len(cone_search(center, radius_deg, ["master"]))
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times), float(np.percentile(times, 95)), found / len(centers)


def box_ms(centers: list[SkyPosition], radius_deg: float) -> float:
    """Return the median time (ms) of a box on the specification's index."""
    query = "SELECT source_id, ra_deg, dec_deg, s_nvss FROM sources INDEXED BY idx_sources_ra_dec"
    query += " WHERE ra_deg BETWEEN :west AND :east AND dec_deg BETWEEN :south AND :north"
    times = []
    for ra, dec in centers:
        half = radius_deg / max(np.cos(np.radians(dec)), 0.02)
        box = {"west": ra - half, "east": ra + half, "south": dec - radius_deg, "north": dec + radius_deg}
        started = time.perf_counter()
        with get_session("master_sources", read_only=True) as session:
            session.execute(text(query), box).all()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def import_s(path: Path) -> tuple[int, float, float]:
    """Import and return the number of rows, the time, and the processor's time (s)."""
    started, busy = time.perf_counter(), time.process_time()
    rows = import_catalog(path, "nvss").n_rows
    return rows, time.perf_counter() - started, time.process_time() - busy


def verdict(value: float, target: float) -> str:
    return f"{'ok' if value < target else 'MISSED'} (target {target:g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=1_770_000)
    parser.add_argument("--cones", type=int, default=2000)
    parser.add_argument("--radius", type=float, default=1.0)
    parser.add_argument(
        "--nvss", type=Path, default=Path(os.environ.get("CONTIMG_DATA", ".")) / "catalogs/NVSSVZ.FIT.gz"
    )
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PIPELINE_ROOT"] = folder
        init_databases()
        if options.nvss.exists():
            for what in ("into an empty database", "over itself"):
                rows, seconds, busy = import_s(options.nvss)
                print(
                    f"import of {rows} rows {what}: {seconds:.1f} s ({busy:.1f} s of the processor), "
                    f"{verdict(seconds, TARGET_IMPORT_S)}"
                )
            with get_session("master_sources") as session:
                session.execute(text("DELETE FROM sources"))
        else:
            print(f"{options.nvss} does not exist: the import is left out")
        print(f"{options.sources} sources written in {fill(options.sources, rng):.0f} s (seed {SEED})")
        for where, centers in cones(options.cones, rng).items():
            median, late, found = search_ms(centers, options.radius)
            print(
                f"{options.radius:g} deg {where}: median {median:.2f} ms, 95 % below {late:.2f} ms, {found:.0f} found, "
                f"{verdict(median, TARGET_CONE_MS)}"
            )
        few = cones(max(options.cones // 40, 5), rng)["anywhere"]
        print(f"the same box by the index on (ra_deg, dec_deg) alone: median {box_ms(few, options.radius):.2f} ms")


if __name__ == "__main__":
    main()
