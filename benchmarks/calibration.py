"""Bandpass and applycal beside CASA on the same Measurement Set with the same model: time, and who is nearer the truth.

    python benchmarks/calibration.py [--antennas 96] [--seed 1] [--no-peer]

A calibrator's tile of the telescope (24 integrations, 768 channels, two polarizations): 16 Jy at the phase center, raw
gains with delays and ripples, noise of 6500 Jy, weights that say so. Ours is timed on arrays in memory, and with
reading the set and writing the table or the column, as CASA does. Compilation is not counted. Freed memory is kept, as
every command of ours keeps it.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flagging import CHANNEL_HZ, N_CHAN, N_TIME, SEFD_JY, STEP_S, empty_tile

from dsa110_contimg.calibration.apply import apply, scale_weights
from dsa110_contimg.calibration.problem import Prediction
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.formats import caltable, measurement_set
from dsa110_contimg.memory import keep_freed_memory
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains, Visibilities

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.casa import casa, peers_python

FLUX_JY = 16.0
REFERENCE = 0
NOISE_JY = SEFD_JY / float(np.sqrt(2.0 * CHANNEL_HZ * STEP_S))
REPEATS = 3
OPTIONS = CalibrationOptions(reference_antenna=str(REFERENCE + 1))
CASA_BANDPASS = """
import time
from casatasks import bandpass, setjy
setjy(vis=ms, field="0", standard="manual", fluxdensity=[flux, 0, 0, 0], usescratch=False)
result = []
for turn in range(repeats):
    began = time.time()
    bandpass(vis=ms, caltable=f"{table}{turn}", refant=reference, solint="inf", minsnr=3.0, minblperant=4)
    result.append(time.time() - began)
"""
CASA_APPLYCAL = """
import time
from casatasks import applycal
result = []
for turn in range(repeats):
    began = time.time()
    applycal(vis=ms, gaintable=tables, interp=["linear", "linear,linearflag"], calwt=True, flagbackup=False)
    result.append(time.time() - began)
"""


def calibrator_tile(n_antenna: int, rng: np.random.Generator) -> tuple[Visibilities, np.ndarray]:
    """A tile of raw visibilities in which the calibrator stands at the center, and the gains (n_antenna, n_chan, 2)."""
    vis = empty_tile(n_antenna, 33.16, 60700.2)
    ramp = np.linspace(-1.0, 1.0, N_CHAN)[:, None]
    shape = (n_antenna, 1, 2)
    ripple = 1.0 + 0.15 * np.sin(rng.uniform(0.0, 6.28, shape) + 6.0 * ramp)
    amplitude = 0.068 * np.maximum(1.0 + 0.1 * rng.standard_normal(shape), 0.5) * ripple
    turns = rng.uniform(-0.5, 0.5, shape) + 5.0 * rng.standard_normal(shape) * 0.09375 * ramp
    gains = (amplitude * np.exp(2j * np.pi * turns)).astype(np.complex64)
    per_time = vis.time_mjd.size // N_TIME
    first, second = vis.antenna1[:per_time], vis.antenna2[:per_time]
    factor = gains[first] * np.conj(gains[second])
    for now in range(N_TIME):
        part = vis.vis[now * per_time : (now + 1) * per_time]
        noise = rng.standard_normal((*part.shape, 2), np.float32).view(np.complex64)[..., 0]
        part[:] = factor * (np.float32(FLUX_JY) + np.float32(NOISE_JY) * noise)
    sigma2 = (np.abs(factor) ** 2).mean(axis=1) * NOISE_JY**2
    vis.weights[:] = np.tile(1.0 / sigma2, (N_TIME, 1))
    vis.flags[vis.antenna1 == vis.antenna2] = True
    return vis, gains


def best(action: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several runs."""
    spent = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        action()
        spent.append(time.perf_counter() - began)
    return min(spent)


def referred(values: np.ndarray) -> np.ndarray:
    """Return gains (n_antenna, n_chan, n_pol) with the phases of the reference antenna zero."""
    anchor = values[REFERENCE]
    return np.asarray(values * np.conj(anchor) / np.abs(anchor))


def product(k: Gains, bp: Gains) -> np.ndarray:
    turns = k.values[0].real * 1e-9 * (bp.freq_hz - k.freq_hz[0])[None, :, None]
    return np.asarray(bp.values[0] * np.exp(2j * np.pi * turns))


def relative_rms(values: np.ndarray, against: np.ndarray) -> float:
    """Return the rms of the relative difference of complex gains, the reference antenna left out."""
    other = np.arange(len(values)) != REFERENCE
    return float(np.sqrt(np.nanmean(np.abs(values[other] / against[other] - 1.0) ** 2)))


def cramer_rao(n: int) -> float:
    """Return the smallest rms of the relative error of a complex gain: amplitude, and phase against the reference."""
    information = (FLUX_JY / NOISE_JY) ** 2 * N_TIME
    return float(np.sqrt(((2 * n - 3) / ((n - 2) * (2 * n - 2)) + 2.0 / n) / information))


def flat(vis: Visibilities) -> Prediction:
    """The calibrator as it is seen at the phase center."""
    return Prediction(np.full(vis.vis.shape[:2], FLUX_JY, np.complex64), 1, FLUX_JY)


def solve(vis: Visibilities) -> list[Gains]:
    return solve_bandpass(vis, flat(vis), OPTIONS, source="3C286", flux_anchor="3C286")


def warm_up(seed: int) -> None:
    small, _truth = calibrator_tile(6, np.random.default_rng(seed))
    apply(small, solve(small), OPTIONS)
    solve_gains(small, flat(small), OPTIONS, kind="GP", source="3C286")


def compare_bandpass(folder: Path, vis: Visibilities, truth: np.ndarray, *, peer: bool) -> list[Gains]:
    """Solve on both sides; print times and distances from the truth and from each other."""
    model = flat(vis)
    names = {"source": "3C286", "flux_anchor": "3C286"}
    seconds = best(lambda: solve_bandpass(vis, model, OPTIONS, **names))
    phases = best(lambda: solve_gains(vis, model, OPTIONS, kind="GP", source="3C286"))
    whole = best(lambda: solve_bandpass(measurement_set.load(folder / "tile.ms", "DATA"), model, OPTIONS, **names))
    tables = solve(vis)
    ours, true, bound = referred(product(*tables)), referred(truth), cramer_rao(len(truth))
    print(f"bandpass (K and BP) in memory   {seconds:7.2f} s   with reading the set {whole:.2f} s")
    print(f"GP of a tile in memory          {phases:7.2f} s")
    print(f"  BP to the truth               {relative_rms(ours, true) / bound:7.3f} of the Cramér-Rao bound")
    if peer:
        words = {"ms": folder / "tile.ms", "table": folder / "casa", "flux": FLUX_JY, "repeats": REPEATS}
        theirs_s = min(casa(CASA_BANDPASS, reference=str(REFERENCE + 1), **words))
        theirs = referred(caltable.load(folder / "casa0").values[0])
        print(
            f"casatasks.bandpass              {theirs_s:7.2f} s"
            f"   {theirs_s / seconds:.1f} times as long ({theirs_s / whole:.1f})"
        )
        print(f"  to the truth                  {relative_rms(theirs, true) / bound:7.3f} of the Cramér-Rao bound")
        print(f"  ours against it               {relative_rms(ours, theirs) / bound:7.3f} of the Cramér-Rao bound")
    return tables


def compare_apply(folder: Path, tables: list[Gains], *, peer: bool) -> None:
    """Apply on both sides; print times and the largest difference."""
    ms, spent = folder / "tile.ms", []
    for _ in range(REPEATS):
        marks = [time.perf_counter()]
        vis = measurement_set.load(ms, "DATA")
        marks.append(time.perf_counter())
        apply(vis, tables, OPTIONS, measure_weights=False)
        marks.append(time.perf_counter())
        scale_weights(vis)
        marks.append(time.perf_counter())
        measurement_set.write_calibrated(ms, vis)
        spent.append(np.diff([*marks, time.perf_counter()]))
    read, applied, weighed, written = np.min(spent, axis=0)
    whole = read + applied + weighed + written
    print(
        f"apply in memory                 {applied:7.2f} s"
        f"   weights {weighed:.2f}, reading {read:.2f}, writing {written:.2f}"
    )
    print(f"peak memory                     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:7.2f} GB")
    if peer:
        paths = [folder / table.kind for table in tables]
        for path, table in zip(paths, tables, strict=True):
            caltable.save(path, table)
        theirs_s = min(casa(CASA_APPLYCAL, ms=ms, tables=paths, repeats=REPEATS))
        theirs = measurement_set.load(ms, "CORRECTED_DATA")
        good = ~(theirs.flags | vis.flags)
        largest = np.abs(theirs.vis[good] - vis.vis[good]).max() / np.abs(vis.vis[good]).max()
        print(
            f"casatasks.applycal              {theirs_s:7.2f} s"
            f"   {theirs_s / applied:.1f} times as long ({theirs_s / whole:.1f})"
        )
        print(f"  largest difference            {largest:9.1e} of the largest value, {good.mean():.1%} of samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--antennas", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peer", action="store_true", help="leave CASA out")
    arguments = parser.parse_args()
    keep_freed_memory()
    peer = not arguments.no_peer and peers_python() is not None
    print(f"seed {arguments.seed}, {arguments.antennas} antennas{'' if peer else '; without CASA: make bench-peers'}")
    print("in brackets: with reading and writing the set, as CASA does")
    warm_up(arguments.seed)
    vis, truth = calibrator_tile(arguments.antennas, np.random.default_rng(arguments.seed))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        measurement_set.save(folder / "tile.ms", vis)
        tables = compare_bandpass(folder, vis, truth, peer=peer)
        del vis
        compare_apply(folder, tables, peer=peer)


if __name__ == "__main__":
    main()
