"""16 subband files to a finished Measurement Set, beside pyuvdata on the same files in the same run.

    python benchmarks/conversion.py [--folder FOLDER] [--runs 3] [--small]

FOLDER holds, or receives, one simulated full-size group (96 antennas, 24 integrations, 16 x 48 channels, 2.3 GB). Ours:
headers, data, rotation, every table, flushed to disk and read back. pyuvdata: read, phase and write_ms of one subband,
times sixteen, as its users do; their sets are neither flushed nor concatenated, and the time in which the subband's
phase centers are relabelled, without which pyuvdata would destroy the data, is left out. Each run is a process of its
own that has converted a small file before: compilation is not counted. The best of the runs counts for either side.
UVW and phases are compared on every baseline of a subband.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = """
import json, resource, sys, time
from pathlib import Path
from dsa110_contimg import conversion
from dsa110_contimg.formats import measurement_set, uvh5
from dsa110_contimg.memory import keep_freed_memory
from dsa110_contimg.options import ConversionOptions
keep_freed_memory()
def convert(folder, target):
    paths = sorted(Path(folder).glob("*.hdf5"))
    started = time.perf_counter()
    frame, blocks = conversion.begin([uvh5.read_header(path) for path in paths], ConversionOptions())
    measurement_set.save_blocks(Path(target), frame, blocks)
    return time.perf_counter() - started
small, full, target = sys.argv[1:]
convert(small, target + ".small")
before = time.process_time()
seconds = convert(full, target)
spent = time.process_time() - before
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, spent]))
"""
PEER = """
import json, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from tests import pyuvdata_oracle as peer
def convert(path, target):
    moments = [time.perf_counter()]
    data = peer.read(Path(path))
    moments.append(time.perf_counter())
    peer.relabel(data)
    moments.append(time.perf_counter())
    peer.phase(data, 24.4, 33.1)
    moments.append(time.perf_counter())
    data.write_ms(target, run_check=False)
    moments.append(time.perf_counter())
    read, relabelled, phased, written = (b - a for a, b in zip(moments, moments[1:]))
    return [read + phased + written, read, phased, written, relabelled]
small, path, target = sys.argv[1:]
convert(small, target + ".small")
print(json.dumps(convert(path, target)))
"""
COMPARE = """
import json, sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore")
from dsa110_contimg.formats import measurement_set, uvh5
from tests.pyuvdata_oracle import read_and_phase, uvw_of
path, ours = map(Path, sys.argv[1:])
vis, header = measurement_set.load(ours, "DATA"), uvh5.read_header(path)
peer = read_and_phase(path, *vis.phase_center)
swap = np.tile(header.ant_2 > header.ant_1, header.times_mjd.size)
sign = np.where(swap, -1.0, 1.0)[:, None]
off = [np.abs(vis.uvw_m - sign * uvw_of(peer, *vis.phase_center, refined=refined)).max() for refined in (True, False)]
n_chan = header.freq_hz.size
mine = vis.vis[:, (15 - header.index) * n_chan :][:, :n_chan]
theirs = peer.data_array.reshape(mine.shape)[:, ::-1]
theirs = np.where(swap[:, None, None], theirs.conj(), theirs)
good = (mine != 0) & (vis.antenna1 != vis.antenna2)[:, None, None]
print(json.dumps([*off, float(np.abs(np.angle(mine[good] * theirs[good].conj())).max())]))
"""


def python(code: str, *words: object) -> list[float]:
    """Run code in a process of its own and return the numbers that it prints."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def simulate(folder: Path, *words: str) -> Path:
    if not list(folder.glob("*.hdf5")):
        command = [
            sys.executable,
            "-m",
            "dsa110_contimg.cli.main",
            "simulate",
            str(folder),
            "--transit",
            "3C48",
            *words,
        ]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def report(what: str, asked: str, measured: str) -> None:
    print(f"{what:62s} asked {asked:14s} measured {measured}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the full-size group is, or is to be kept")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tenth of the size, to try it out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder and options.folder.parent) as scratch:
        work = Path(scratch)
        small = simulate(work / "small", "--antennas", "8", "--channels", "4", "--integrations", "2")
        size = ["--antennas", "30"] if options.small else []
        full = simulate(options.folder or work / "full", "--channels", "48", *size)
        one = min(full.glob("*.hdf5"))
        ours, peer = [], []
        for run in range(options.runs):
            target = work / f"ours{run}.ms"
            ours.append(python(OURS, small, full, target))
            peer.append(python(PEER, min(small.glob("*.hdf5")), one, work / f"peer{run}.ms"))
        best, theirs = min(ours), [16 * seconds for seconds in min(peer)]
        report(
            "16 files to a finished Measurement Set",
            "6 s",
            f"{best[0]:.1f} s",
        )
        report(
            "  all runs, and the processor seconds of the best",
            "",
            f"{[round(r[0], 1) for r in ours]}, {best[2]:.1f} s",
        )
        report(
            "pyuvdata, read + phase + write_ms, 16 subbands",
            "",
            f"{theirs[0]:.1f} s (read {theirs[1]:.1f}, phase {theirs[2]:.1f}, write {theirs[3]:.1f})",
        )
        report("ours", "5 x", f"{theirs[0] / best[0]:.1f} times faster; {theirs[4]:.1f} s of relabelling not counted")
        report("peak memory", "3.5 GB", f"{best[1]:.2f} GB")
        refined, usual, phase = python(COMPARE, one, target)
        report(
            "largest difference of UVW", "0.3 mm", f"{refined * 1e3:.3f} mm ({usual * 1e3:.1f} mm with its defaults)"
        )
        report("largest difference of phase", "0.01 rad", f"{phase:.1e} rad")


if __name__ == "__main__":
    main()
