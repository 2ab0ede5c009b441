"""How long one scrape takes with 100,000 groups, against the same counts made by reading the rows.

Run: python benchmarks/metrics.py [groups]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select, text

from dsa110_contimg.config import use_root
from dsa110_contimg.database import get_session, init_databases
from dsa110_contimg.database.models import IngestQueue, Job, MSIndex
from dsa110_contimg.monitoring.metrics import render

STAGES = ("convert", "calibrate", "image", "measure")
NOW = 1_766_000_000.0


def fill(groups: int) -> None:
    """Put finished groups, their tiles and jobs into the databases, and a hundred groups that wait."""
    ids = [f"{index:08d}" for index in range(groups)]
    received = [NOW - 309.0 * (groups - index) for index in range(groups)]
    with get_session("ingest") as session:
        rows = [
            (i, "completed" if n < groups - 100 else "pending", t, t)
            for n, (i, t) in enumerate(zip(ids, received, strict=True))
        ]
        names = ("group_id", "state", "received_at", "last_update")
        session.execute(IngestQueue.__table__.insert(), [dict(zip(names, row, strict=True)) for row in rows])
    with get_session("products") as session:
        names = ("path", "group_id", "stage", "stage_updated_at", "mid_mjd")
        tiles = [(i, i, "photometry_complete", t, 61000.0 + t / 86400.0) for i, t in zip(ids, received, strict=True)]
        session.execute(MSIndex.__table__.insert(), [dict(zip(names, row, strict=True)) for row in tiles])
        names = ("job_id", "stage", "subject", "state", "created_at", "updated_at")
        jobs = [(f"{s}:{i}", s, i, "completed", t, t) for i, t in zip(ids, received, strict=True) for s in STAGES]
        session.execute(Job.__table__.insert(), [dict(zip(names, row, strict=True)) for row in jobs])


def read_rows() -> None:
    """Count what the scrape counts, by reading the columns of every row."""
    for name, columns in (
        ("ingest", (IngestQueue.state, IngestQueue.received_at)),
        ("products", (MSIndex.stage, MSIndex.stage_updated_at, MSIndex.mid_mjd)),
        ("products", (Job.stage, Job.state)),
    ):
        with get_session(name, read_only=True) as session:
            counts: dict[object, int] = {}
            for row in session.execute(select(*columns)):
                counts[row[0]] = counts.get(row[0], 0) + 1


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the shortest of some runs, in milliseconds."""
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return 1e3 * min(spent)


def main() -> None:
    """Print both figures."""
    groups = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        use_root(Path(folder))
        init_databases()
        fill(groups)
        with get_session("products", read_only=True) as session:
            number = session.execute(text("SELECT count(*) FROM jobs")).scalar_one()
        ours, peer = best(lambda: render(now=NOW)), best(read_rows, 1)
        print(f"{groups} groups, {number} jobs: a scrape {ours:.0f} ms, reading the rows {peer:.0f} ms")


if __name__ == "__main__":
    main()
