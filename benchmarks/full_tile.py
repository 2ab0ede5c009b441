"""Full-size tiles (96 antennas, 16 x 48 channels), files to measured fluxes, beside pyuvdata and WSClean.

    python benchmarks/full_tile.py [--channels 48] [--workers 1] [--keep FOLDER] [--peers]

Three tiles in a row pass through a pipeline that runs: the second holds the calibrator, which is solved once a day.
Prints the seconds of each, those by stage, the peak memory, and the ratio to the peers on the same files in the same
run: pyuvdata reading one subband of the sixteen (times sixteen), and WSClean imaging the Measurement Set where it is
installed. Compilation is not counted: a small tile runs first.
"""

import argparse
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from pyuvdata import UVData

SMALL = ["--antennas", "12", "--channels", "48", "--integrations", "4", "--transit", "3C48"]
RUN = [sys.executable, "-m", "dsa110_contimg.cli.main"]


def contimg(root: Path, *words: str) -> str:
    environment = os.environ | {"PIPELINE_ROOT": str(root)}
    done = subprocess.run([*RUN, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Run(NamedTuple):
    """What a run of the pipeline took."""

    seconds: float
    memory_gb: float
    """Peak of a process."""
    stages: dict[str, float]
    tiles: dict[str, float]
    """Seconds of each group, without those in which it waited."""


def process(root: Path, simulation: list[str], options: list[str]) -> Run:
    """Simulate tiles and process them."""
    contimg(root, "simulate", str(root / "incoming"), *simulation)
    contimg(root, "catalog", "import", "csv", str(root / "incoming" / "catalog.csv"))
    started = time.monotonic()
    summary = json.loads(contimg(root, "run", "--once", "--json", *options))
    seconds = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    with sqlite3.connect(root / "state" / "ingest.sqlite3") as ingest:
        tiles = dict(ingest.execute("SELECT group_id, total_time FROM performance_metrics ORDER BY group_id"))
    return Run(seconds, memory, summary["seconds"], tiles)


def pyuvdata_seconds(path: Path) -> float:
    warnings.simplefilter("ignore")
    started = time.monotonic()
    UVData.from_file(path, file_type="uvh5", run_check=False, strict_uvw_antpos_check=False, check_extra=False)
    return 16 * (time.monotonic() - started)


def wsclean_seconds(ms: Path, folder: Path) -> float | None:
    if shutil.which("wsclean") is None:
        return None
    command = "wsclean -quiet -j 2 -use-wgridder -weight briggs 0.5 -size 4800 4800 -scale 3asec -niter 3000 -mgain 0.8"
    started = time.monotonic()
    subprocess.run([*command.split(), "-name", str(folder / "w"), str(ms)], check=True, capture_output=True)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", default="48", help="channels per subband")
    parser.add_argument("--workers", default="1", help="processes of the pipeline")
    parser.add_argument("--keep", type=Path, help="folder for the files; without it they are removed")
    parser.add_argument("--peers", action="store_true", help="also time pyuvdata and WSClean (minutes)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        process(folder / "small", SMALL, ["--size", "256", "--cell-arcsec", "30"])
        three = ["--channels", options.channels, "--tiles", "3", "--transit", "3C48"]
        run = process(folder / "full", three, ["--workers", options.workers])
        print(f"three tiles and their mosaic, start to end {run.seconds:6.1f} s   a process {run.memory_gb:.1f} GB")
        for group, spent in run.tiles.items():
            print(f"  {group}  {spent:6.1f} s from files to measured fluxes: {309.0 / spent:.1f} times the sky")
        for stage, spent in run.stages.items():
            print(f"  {stage:12s} {spent:6.1f} s")
        if options.peers:
            convert, image = (run.stages[stage] / len(run.tiles) for stage in ("convert", "image"))
            read = pyuvdata_seconds(min((folder / "full" / "incoming").glob("*.hdf5")))
            print(f"pyuvdata reads 16 subbands  {read:6.1f} s   ours converts in {convert / read:.2f} of it")
            cleaned = wsclean_seconds(next((folder / "full").rglob("*.ms")), folder)
            if cleaned is not None:
                print(f"WSClean, 3000 components {cleaned:6.1f} s   ours images in {image / cleaned:.2f} of it")


if __name__ == "__main__":
    main()
