"""A survey through a Dask cluster over PostgreSQL, whose workers are killed, ends as an undisturbed run on files.

Three worker processes share the folders; two of them are killed (SIGKILL) while they are busy, and are not replaced.
Every good group is in exactly one tile, one set of photometry rows and the mosaics it belongs to; every pixel is that
of `run --once` with one thread.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests import dask_cluster
from tests.dask_cluster import Cluster
from tests.database import postgresql_server
from tests.integration import dask_survey

SEED = 20251001
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 600.0
Found = dict[str, Any]
pytestmark = pytest.mark.slow


def begin(words: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.dask_survey", *words],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> Found:
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    found: Found = json.loads(out.splitlines()[-1]) if out else {}
    return found


def jobs_in(state: str, connection: "psycopg.Connection[Any]") -> int:
    """Return how many jobs are in a state; none while there is no table."""
    try:
        row = connection.execute("SELECT count(*) FROM products.jobs WHERE state = %s", (state,)).fetchone()
    except psycopg.errors.UndefinedTable:
        return 0
    return int(row[0]) if row else 0


def kill_when_busy(cluster: Cluster, run: "subprocess.Popen[str]", connection: "psycopg.Connection[Any]") -> int:
    """Kill two of three workers when all that live are busy; return how many jobs were in hand."""
    generator, in_hand = random.Random(SEED), 0
    for completed, busy in ((1, 3), (7, 2)):
        dask_cluster.until(
            lambda done=completed, busy=busy: (
                (  # type: ignore[misc]
                    jobs_in("completed", connection) >= done and jobs_in("running", connection) >= busy
                )
                or run.poll() is not None
            ),
            LIMIT_S,
        )
        victim = generator.choice([worker for worker in cluster.workers if worker.poll() is None])
        in_hand += jobs_in("running", connection)
        victim.kill()
        victim.wait()
    return in_hand


@pytest.fixture(scope="module")
def incoming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("incoming")
    end(begin(["prepare"], {"PIPELINE_INCOMING_DIR": str(folder), "PIPELINE_ROOT": str(folder)}))
    return folder


@pytest.fixture(scope="module")
def quiet(incoming: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    root = tmp_path_factory.mktemp("quiet")
    return end(begin(["quiet"], {"PIPELINE_INCOMING_DIR": str(incoming), "PIPELINE_ROOT": str(root)}))


@pytest.fixture(scope="module")
def disturbed(incoming: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    programs = postgresql_server.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    root, folder = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("cluster")
    with postgresql_server.running(programs) as server:
        name = server.create()
        environment = {
            "PIPELINE_INCOMING_DIR": str(incoming),
            "PIPELINE_ROOT": str(root),
            "PIPELINE_DATABASE_URL": server.url(name),
        }
        with dask_cluster.running(folder, environment) as cluster, server.connect(name) as connection:
            for _ in range(3):
                cluster.add_worker()
            started = time.monotonic()
            run = begin(["dask", cluster.address], environment)
            in_hand = kill_when_busy(cluster, run, connection)
            found = end(run)
            alive = [worker.poll() is None for worker in cluster.workers]
            print(f"seed {SEED}: {time.monotonic() - started:.0f} s, {in_hand} jobs in hand when workers were killed")
            yield {**found, "alive": alive}


def test_two_workers_were_killed_in_the_middle_of_a_job(disturbed: Found) -> None:
    assert sorted(disturbed["alive"]) == [False, False, True]
    assert disturbed["attempts"] >= 2
    assert sum("its Dask worker" in error for error in disturbed["errors"]) == 2, disturbed["errors"]


def test_every_group_is_in_one_tile_one_photometry_and_its_mosaics(disturbed: Found) -> None:
    assert len(disturbed["tiles"]) == dask_survey.TILES
    assert {stage for _, stage in disturbed["tiles"]} == {"photometry_complete"}
    assert disturbed["measured"] != []
    assert {count for _, _, count in disturbed["measured"]} == {1}
    per_tile = Counter(path for _, path in disturbed["members"])
    assert sorted(per_tile.values()) == [1] * (dask_survey.TILES - 1) + [2]
    assert {state for _, state in disturbed["jobs"]} == {"completed"}


def test_it_ends_as_an_undisturbed_run(disturbed: Found, quiet: Found) -> None:
    assert quiet["attempts"] == 1
    for what in ("tiles", "members", "measured", "images", "mosaics", "jobs", "products", "exit_code"):
        assert disturbed[what] == quiet[what], what


def test_the_bits_are_the_same(disturbed: Found, quiet: Found) -> None:
    assert len(quiet["pixels"]) > dask_survey.TILES
    assert disturbed["pixels"] == quiet["pixels"]


def test_nothing_is_left_unfinished(disturbed: Found) -> None:
    assert disturbed["scratch"] == []
