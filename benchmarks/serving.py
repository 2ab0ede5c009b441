"""The interface over HTTP beside datasette, on one file: lists of sources, light curves, photometry and mosaics.

    python benchmarks/serving.py [--rows 1000000] [--sources 50000] [--clients 50] [--seconds 8] [--keep FOLDER]
                                 [--only lists]

A database of that size is filled (seeded, one minute), `contimg serve --workers 2` and datasette (of the peers'
environment, `make bench-peers`) are started on it, and as many clients as asked, in a process of their own, ask one and
then the other; each sends the next question when the last is answered. Questions are drawn at random, seeded: of 50,000
light curves hardly one is asked for twice. Both servers get the same questions and give the same rows; `again` asks few
questions over and over, which our server answers from what it keeps until the database changes.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.bulk import insert_columns
from dsa110_contimg.database.models import (
    EpochCorrection,
    ESECandidate,
    Image,
    Mosaic,
    MSIndex,
    Photometry,
    Source,
    VariabilityStats,
)
from dsa110_contimg.database.session import database_path
from dsa110_contimg.naming import source_name

SEED = 9
LIST = 50
ASKED_MS = 100.0


class Size(NamedTuple):
    rows: int
    sources: int
    mosaics: int


# ------------------------------------------------------------------------------------------------ a database


def build(size: Size) -> list[str]:
    """Fill the databases of PIPELINE_ROOT, unless they are, and return the names of the sources."""
    init_databases()
    rng = np.random.default_rng(SEED)
    places = [
        (a, np.degrees(np.arcsin(z)))
        for a, z in zip(rng.uniform(0, 360, size.sources + 99), rng.uniform(0.3, 0.7, size.sources + 99), strict=True)
    ]
    named = {source_name(a, d): (a, d) for a, d in places}
    names = list(named)[: size.sources]
    ra, dec = np.array([named[name] for name in names]).T
    with get_session("products") as session:
        if session.query(VariabilityStats).limit(1).first() is not None:
            return names
        epochs(session, rng, size)
        fluxes(session, rng, size, names, ra, dec)
        summaries(session, rng, names, ra, dec)
    with get_session("master_sources") as session:
        insert_columns(
            session,
            Source,
            {
                "source_id": names,
                "ra_deg": ra.tolist(),
                "dec_deg": dec.tolist(),
                "s_nvss": rng.pareto(1.5, len(names)).tolist(),
            },
        )
    return names


def mosaic_path(number: int) -> str:
    return f"/stage/mosaics/mosaic_{number:04d}.fits"


def epochs(session, rng, size: Size) -> None:
    paths = [mosaic_path(n) for n in range(size.mosaics)]
    mjd = [60000.0 + 0.997 * n for n in range(size.mosaics)]
    noise = rng.uniform(3e-4, 1e-3, size.mosaics).tolist()
    insert_columns(session, MSIndex, {"path": ["/stage/ms/a.ms"], "stage": ["photometry_complete"]})
    shared = {"path": paths, "created_at": [1.7e9 + n for n in range(size.mosaics)], "noise_jy": noise}
    insert_columns(
        session, Image, {**shared, "ms_path": ["/stage/ms/a.ms"] * size.mosaics, "type": ["mosaic"] * size.mosaics}
    )
    insert_columns(
        session,
        Mosaic,
        {
            **shared,
            "name": [Path(p).stem for p in paths],
            "start_mjd": mjd,
            "end_mjd": mjd,
            "center_dec_deg": [30.0] * size.mosaics,
            "n_sources": [2000] * size.mosaics,
        },
    )
    factors = {
        "image_path": paths,
        "mjd": mjd,
        "factor": rng.normal(1.0, 0.02, size.mosaics).tolist(),
        "factor_err": [0.005] * size.mosaics,
        "computed_at": [1.7e9] * size.mosaics,
    }
    insert_columns(session, EpochCorrection, factors)


def fluxes(session, rng, size: Size, names: list[str], ra, dec) -> None:
    """Each mosaic measures the next sources of the list, so that the rows of one lie scattered over the table."""
    each = size.rows // size.mosaics
    for number in range(size.mosaics):
        which = (number * each + np.arange(each)) % size.sources
        flux = 0.01 * (1.0 + which % 97)
        error = np.full(each, 0.001) + 0.02 * flux
        measured = flux + error * rng.normal(size=each)
        columns = {
            "image_path": [mosaic_path(number)] * each, "source_id": [names[i] for i in which],
            "ra_deg": ra[which].tolist(), "dec_deg": dec[which].tolist(), "peak_jyb": measured.tolist(),
            "peak_err_jyb": error.tolist(), "snr": (measured / error).tolist(), "measured_at": [1.7e9 + number] * each,
            "mjd": (60000.0 + 0.997 * number + which / 1e5).tolist(), "flags": (which % 3 == 0).astype(int).tolist(),
            "flux_jy": measured.tolist(), "flux_err_jy": error.tolist(), "local_rms_jyb": error.tolist(),
            "normalized_flux_jy": measured.tolist(), "normalized_flux_err_jy": error.tolist(),
            "in_lightcurve": [1] * each,
        }  # fmt: skip
        insert_columns(session, Photometry, columns)


def summaries(session, rng, names: list[str], ra, dec) -> None:
    count = len(names)
    mean = 10.0 * (1.0 + np.arange(count) % 97) + rng.normal(size=count)
    columns = {
        "nvss_flux_mjy": mean, "mean_flux_mjy": mean, "std_flux_mjy": 0.03 * mean, "min_flux_mjy": 0.9 * mean,
        "max_flux_mjy": 1.1 * mean, "chi2_nu": rng.chisquare(19, count) / 19,
        "sigma_deviation": np.abs(rng.normal(0, 2, count)),
        "last_measured_at": 1.7e9 + rng.uniform(0, 500, count), "last_mjd": 60490.0 + rng.uniform(0, 9, count),
        "updated_at": np.full(count, 1.7e9), "eta_metric": rng.lognormal(0.0, 0.5, count),
        "v_metric": rng.lognormal(-3.0, 0.4, count),
    }  # fmt: skip
    told = {name: values.tolist() for name, values in columns.items()}
    insert_columns(
        session,
        VariabilityStats,
        {"source_id": names, "ra_deg": ra.tolist(), "dec_deg": dec.tolist(), "n_obs": [20] * count, **told},
    )
    few = {
        "source_id": names[:40],
        "flagged_at": [1.7e9] * 40,
        "significance": rng.uniform(5, 20, 40).tolist(),
        "flag_type": ["ese"] * 40,
    }
    insert_columns(session, ESECandidate, few)


# ------------------------------------------------------------------------------------------------ questions

SORTS = {
    "eta": "eta_metric",
    "v": "v_metric",
    "mean_flux_jy": "mean_flux_mjy",
    "sigma_deviation": "sigma_deviation",
    "chi2_nu": "chi2_nu",
    "last_mjd": "last_mjd",
}
MOSAIC_SORTS = {"time": "start_mjd", "created": "created_at", "noise": "noise_jy", "sources": "n_sources"}
SOURCE_SQL = (
    "select source_id, ra_deg, dec_deg, nvss_flux_mjy / 1000.0 as nvss_flux_jy, n_obs,"
    " mean_flux_mjy / 1000.0 as mean_flux_jy,"
    " std_flux_mjy / 1000.0 as std_flux_jy, min_flux_mjy / 1000.0 as min_flux_jy, max_flux_mjy / 1000.0 as max_flux_jy,"
    " chi2_nu,"
    " sigma_deviation, eta_metric as eta, v_metric as v, last_mjd, updated_at from variability_stats"
    " where {column} is not null and mean_flux_mjy >= :flux order by {column} desc, source_id desc limit 50"
)  # fmt: skip
CURVE_SQL = (
    "select p.id, p.mjd, normalized_flux_jy, normalized_flux_err_jy, upper_limit_jyb, peak_jyb, peak_err_jyb,"
    " local_rms_jyb,"
    " snr, flags, in_lightcurve, retracted_at, factor as epoch_factor, factor_err as epoch_factor_err,"
    " i.id as image_id,"
    " p.image_path as image, i.noise_jy as image_noise_jy from photometry p left join epoch_corrections e on"
    " e.image_path = p.image_path left join images i on i.path = p.image_path where p.mjd is not null"
    " and in_lightcurve = 1"
    " and p.retracted_at is null and p.source_id = :source order by p.mjd, p.id"
)
MEASUREMENT_SQL = (
    "select p.id, source_id, i.id as image_id, p.mjd, p.ra_deg, p.dec_deg, peak_jyb, peak_err_jyb, p.flux_jy,"
    " p.flux_err_jy, normalized_flux_jy, normalized_flux_err_jy, upper_limit_jyb, local_rms_jyb, snr, flags,"
    " pb_response, in_lightcurve, retracted_at, measured_at from photometry p left join images i on i.path ="
    " p.image_path where p.mjd >= :since order by p.mjd, p.id limit 50"
)
MOSAIC_SQL = (
    "select name, created_at as created_at_unix, start_mjd, end_mjd, center_ra_deg, center_dec_deg, dec_min_deg,"
    " dec_max_deg, noise_jy, beam_major_arcsec, beam_minor_arcsec, beam_pa_deg, integration_sec, n_images, n_sources"
    " from mosaics where noise_jy <= :noise order by {column} desc, id desc limit 50"
)
Pair = tuple[str, str]
"""The address of a question at our server and at datasette's."""


def peer(sql: str, **named: object) -> str:
    return "/products.json?" + urllib.parse.urlencode({"sql": sql, "_shape": "objects", **named})


def list_questions(rng: random.Random, _names: list[str], count: int) -> list[Pair]:
    """Sources in some order, brighter than a flux that is never twice the same."""
    asked = []
    for _ in range(count):
        name, flux = rng.choice(list(SORTS)), rng.uniform(0.0, 400.0)
        asked.append(
            (
                f"/api/v1/sources?sort=-{name}&min_flux_jy={flux / 1000.0!r}",
                peer(SOURCE_SQL.format(column=SORTS[name]), flux=flux),
            )
        )
    return asked


def curve_questions(rng: random.Random, names: list[str], count: int) -> list[Pair]:
    chosen = [rng.choice(names) for _ in range(count)]
    return [
        (f"/api/v1/sources/{urllib.parse.quote(name, safe='')}/lightcurve", peer(CURVE_SQL, source=name))
        for name in chosen
    ]


def measurement_questions(rng: random.Random, _names: list[str], count: int) -> list[Pair]:
    """Measurements since a time that is never twice the same."""
    times = [rng.uniform(60000.0, 60490.0) for _ in range(count)]
    return [(f"/api/v1/photometry?sort=mjd&min_mjd={mjd!r}", peer(MEASUREMENT_SQL, since=mjd)) for mjd in times]


def mosaic_questions(rng: random.Random, _names: list[str], count: int) -> list[Pair]:
    """Mosaics in some order, below a noise that is never twice the same."""
    asked = []
    for _ in range(count):
        (name, column), noise = rng.choice(list(MOSAIC_SORTS.items())), rng.uniform(5e-4, 1e-3)
        ours = f"/api/v1/mosaics?sort=-{name}&noise_max_jy={noise!r}"
        asked.append((ours, peer(MOSAIC_SQL.format(column=column), noise=noise)))
    return asked


def again(
    questions: Callable[[random.Random, list[str], int], list[Pair]], count: int
) -> Callable[[random.Random, list[str], int], list[Pair]]:
    """Return a few questions over and over."""
    return lambda rng, names, many: (questions(rng, names, count) * (many // count + 1))[:many]


QUESTIONS = {
    "lists": list_questions,
    "light curves": curve_questions,
    "measurements": measurement_questions,
    "mosaics": mosaic_questions,
    "lists again (20)": again(list_questions, 20),
    "light curves again (200)": again(curve_questions, 200),
}

# ------------------------------------------------------------------------------------------------ servers

SCRIPT = """
local paths = {{}}
for line in io.lines("{paths}") do paths[#paths + 1] = line end
local next = 0
function request() next = next % #paths + 1; return wrk.format("GET", paths[next]) end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %f %f %f %d\\n", latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    summary.requests / summary.duration * 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def running(command: list[str], port: int, path: str) -> Iterator[str]:
    """Run a server until the block ends; it answers when the block begins."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address + path, timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit(f"{command[0]} does not answer")
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def ours(workers: int) -> tuple[list[str], int, str]:
    port = free_port()
    contimg = [sys.executable, "-m", "dsa110_contimg.cli.main", "serve", "--port", str(port), "--workers", str(workers)]
    return contimg, port, "/api/v1/sources?limit=1"


def theirs(datasette: str) -> tuple[list[str], int, str]:
    port = free_port()
    told = [
        datasette,
        "serve",
        "-i",
        str(database_path("products")),
        "--port",
        str(port),
        "--setting",
        "sql_time_limit_ms",
        "20000",
    ]
    return told, port, "/-/versions.json"


class Result(NamedTuple):
    p50_ms: float
    p95_ms: float
    per_s: float
    errors: int

    def __str__(self) -> str:
        failed = f", {self.errors} ERRORS" if self.errors else ""
        return f"{self.per_s:7.0f}/s  p50 {self.p50_ms:7.1f} ms  p95 {self.p95_ms:7.1f} ms{failed}"


def load(address: str, paths: list[str], clients: int, seconds: int) -> Result:
    """Let clients ask for a while."""
    with tempfile.TemporaryDirectory() as folder:
        asked, script = Path(folder, "paths.txt"), Path(folder, "ask.lua")
        asked.write_text("\n".join(paths) + "\n")
        script.write_text(SCRIPT.format(paths=asked))
        wrk = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), address]
        told = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\d+)", told)
    assert found is not None, told
    return Result(float(found[1]), float(found[2]), float(found[3]), int(found[4]))


def same_rows(ask: str, asked_peer: str, our: str, their: str) -> None:
    """Stop if the two servers do not tell the same."""
    told = json.loads(urllib.request.urlopen(our + ask).read())
    peers = json.loads(urllib.request.urlopen(their + asked_peer).read())["rows"]
    mine = told["items"] if "items" in told else told["points"]
    assert len(mine) == len(peers) > 0, (len(mine), len(peers))
    for one, other in zip(mine, peers, strict=True):
        differ = {name for name in other if one[name] != other[name] and name != "image"}
        assert not differ, (differ, one, other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sources", type=int, default=50_000)
    parser.add_argument("--mosaics", type=int, default=500)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the database, which is used again")
    parser.add_argument("--datasette", default=".venv-peers/bin/datasette", help="the peer's program")
    parser.add_argument("--only", help="only these questions, by the beginning of their name")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        os.environ["PIPELINE_ROOT"] = str(folder)
        reset_engines()
        names = build(Size(asked.rows, asked.sources, asked.mosaics))
        compare(asked, names)


def compare(asked: argparse.Namespace, names: list[str]) -> None:
    print(
        f"{asked.rows:,} rows, {len(names):,} sources, {asked.mosaics} mosaics, {asked.clients} clients,"
        f" {asked.workers} workers"
    )
    has_peer = shutil.which(asked.datasette) is not None
    if not has_peer:
        print(f"{asked.datasette} is not there (make bench-peers): no peer")
    for what, make in QUESTIONS.items():
        if asked.only is not None and not what.startswith(asked.only):
            continue
        questions = make(random.Random(SEED), names, 60_000)
        mine, other = [], []
        with ExitStack() as stack:
            our = stack.enter_context(running(*ours(asked.workers)))
            their = stack.enter_context(running(*theirs(asked.datasette))) if has_peer else None
            load(our, [ask for ask, _peer in questions[-500:]], 8, 2)
            for pair in questions[:3] if their is not None else ():
                same_rows(*pair, our, their)
            # In turns, since other programs of the machine come and go; the best round of each counts.
            for _ in range(asked.rounds):
                mine.append(load(our, [ask for ask, _peer in questions], asked.clients, asked.seconds))
                if their is not None:
                    other.append(load(their, [ask for _mine, ask in questions], asked.clients, asked.seconds))
        best = max(mine, key=lambda result: result.per_s)
        told = f"{what:26s} contimg   {best}"
        if other:
            peers = max(other, key=lambda result: result.per_s)
            ratio = f"throughput x{best.per_s / peers.per_s:.2f}; p95 asked < {ASKED_MS:.0f} ms"
            told += f"\n{'':26s} datasette {peers}\n{'':26s} {ratio}"
        print(told, flush=True)


if __name__ == "__main__":
    main()
