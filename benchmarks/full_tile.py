"""One full-size tile (96 antennas, 16 x 48 channels), files to measured image, beside pyuvdata and WSClean.

    python benchmarks/full_tile.py [--channels 48] [--keep FOLDER]

Prints seconds per stage, the peak memory, and the ratio to the peers on the same files in the same run: pyuvdata
reading one subband of the sixteen (times sixteen), and WSClean imaging the Measurement Set where it is installed.
Compilation is not counted: a small tile runs first.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from pyuvdata import UVData

SMALL = ["--antennas", "12", "--channels", "48", "--integrations", "4", "--transit", "3C48"]
RUN = [sys.executable, "-m", "dsa110_contimg.cli.main"]


def contimg(root: Path, *words: str) -> str:
    environment = os.environ | {"PIPELINE_ROOT": str(root)}
    done = subprocess.run([*RUN, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def process(root: Path, simulation: list[str], imaging: list[str]) -> tuple[float, float, dict[str, float]]:
    """Simulate and process one tile; return wall seconds, peak memory (GB) and seconds by stage."""
    contimg(root, "simulate", str(root / "incoming"), *simulation)
    contimg(root, "catalog", "import", "csv", str(root / "incoming" / "catalog.csv"))
    started = time.monotonic()
    summary = json.loads(contimg(root, "run", "--once", "--json", *imaging))
    seconds = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return seconds, memory, summary["seconds"]


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
    parser.add_argument("--keep", type=Path, help="folder for the files; without it they are removed")
    parser.add_argument("--peers", action="store_true", help="also time pyuvdata and WSClean (minutes)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        process(folder / "small", SMALL, ["--size", "256", "--cell-arcsec", "30"])
        seconds, memory, stages = process(folder / "full", ["--channels", options.channels, "--transit", "3C48"], [])
        print(f"files to measured image  {seconds:6.1f} s   peak memory of a process {memory:.1f} GB")
        for stage, spent in stages.items():
            print(f"  {stage:12s} {spent:6.1f} s")
        if options.peers:
            read = pyuvdata_seconds(min((folder / "full" / "incoming").glob("*.hdf5")))
            print(f"pyuvdata reads 16 subbands  {read:6.1f} s   ours converts in {stages['convert'] / read:.2f} of it")
            cleaned = wsclean_seconds(next((folder / "full").rglob("*.ms")), folder)
            if cleaned is not None:
                print(
                    f"WSClean, 3000 components {cleaned:6.1f} s   ours images in {stages['image'] / cleaned:.2f} of it"
                )


if __name__ == "__main__":
    main()
