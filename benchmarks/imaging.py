"""One full-size tile imaged, beside WSClean on the same Measurement Set: time, noise, fluxes; and a 16 Jy source.

    python benchmarks/imaging.py [--antennas 96] [--channels 48] [--no-peer] [--calibrator]

300 sources drawn from source counts, noise of 6500 Jy, no calibration errors; the imager has a catalogue as wrong as
catalogues are, not the truth. Ours is timed on visibilities in memory, warm: by WSClean's rules (3,000 components
wherever the residual is brightest, the sources behind a beam that stands still), with our own at that depth (a mask,
known sources taken off and restored), and in deep mode (the defaults). WSClean runs on two threads with its w-gridder
and the same pixels, weights and iterations. Seconds of the processor are given beside those of the clock, as other
work on the machine adds to the latter only. `--calibrator` images a source of 16 Jy at the center, 0.3 and 1 degree
off in right ascension instead, smeared by the correlator.
"""

import argparse
import csv
import resource
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_contimg import conversion, simulation
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.imaging.image import ImagingResult, image
from dsa110_contimg.kernels.beams import airy_power
from dsa110_contimg.kernels.sphere import direction_cosines, separation
from dsa110_contimg.memory import keep_freed_memory
from dsa110_contimg.options import ConversionOptions, ImagingOptions
from dsa110_contimg.simulation import SimulationOptions, geometry
from dsa110_contimg.simulation.injection import as_listed
from dsa110_contimg.simulation.plan import plan_tiles
from dsa110_contimg.simulation.sky import make_sky
from dsa110_contimg.visibilities import SkyModel, Visibilities

N_SOURCE, ALPHA = 300, -0.7
PERFECT = SimulationOptions(
    gain_amplitude=1.0, gain_scatter=0.0, phase_range_deg=0.0, delay_ns=0.0, calibrators=False, min_apparent_jy=1e-5
)
SAME_DEPTH = ImagingOptions(size=4800, cell_arcsec=3.0, niter=3000)
SAME_RULES = replace(SAME_DEPTH, subtract_bright=False, auto_mask=1e-6, auto_threshold=0.0)
DEEP = ImagingOptions(size=4800, cell_arcsec=3.0)
ISOLATION_ARCSEC = 240.0


def track(options: SimulationOptions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    tile = plan_tiles(options)[0]
    return geometry.pointing_icrs(options.declination, tile.mid_times_mjd)


def drawn_sky(options: SimulationOptions) -> SkyModel:
    """The sources brightest behind the beam."""
    ra, dec = track(options)
    sky = make_sky(replace(options, sky_radius=2.2, min_flux_jy=0.01), ra, dec)
    angle = separation(
        np.radians(ra)[:, None], np.radians(dec)[:, None], np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    )
    apparent = sky.flux_jy * airy_power(angle, 1.405e9, 4.65).mean(axis=0)
    best = sky.select(np.argsort(-apparent)[:N_SOURCE])
    return SkyModel(list(best.names), best.ra_deg, best.dec_deg, best.flux_jy, np.full((len(best), 1), ALPHA))


def simulated(options: SimulationOptions, sky: SkyModel, folder: Path) -> Visibilities:
    """A tile, made by a process of its own: the memory that is told is that of imaging."""
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        other.submit(_simulate, options, sky, folder).result()
    return measurement_set.load(folder / "tile.ms", "CORRECTED_DATA")


def _simulate(options: SimulationOptions, sky: SkyModel, folder: Path) -> None:
    table = folder / "sky.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "ra_deg", "dec_deg", "flux_jy", "alpha"])
        writer.writerows(zip(sky.names, sky.ra_deg, sky.dec_deg, sky.flux_jy, sky.spectrum[:, 0], strict=True))
    files = folder / "incoming"
    simulation.simulate(files, replace(options, sky=str(table), min_flux_jy=1e-4), overwrite=True)
    vis = conversion.load_group(sorted(files.glob("*.hdf5")), ConversionOptions())
    shutil.rmtree(files)
    shutil.rmtree(folder / "tile.ms", ignore_errors=True)
    measurement_set.save(folder / "tile.ms", vis)
    measurement_set.write_calibrated(folder / "tile.ms", vis)


def timed(vis: Visibilities, options: ImagingOptions, sky: SkyModel) -> tuple[float, float, ImagingResult]:
    """Image twice; return the seconds of the clock and of the processor of the faster time, and the result."""
    best, result = (np.inf, np.inf), None
    for _ in range(2):
        started, used = time.perf_counter(), time.process_time()
        result = image(vis, options, bright=sky)
        best = min(best, (time.perf_counter() - started, time.process_time() - used))
    assert result is not None
    return *best, result


def report(what: str, clock: float, cpu: float, result: ImagingResult) -> None:
    noise = 1e3 * result.summary.noise_jy
    print(f"{what:22s} {clock:7.1f} s   {cpu:7.1f} s of the processor   noise {noise:.3f} mJy", flush=True)


def wsclean(ms: Path, folder: Path) -> tuple[float, float]:
    command = (
        "wsclean -quiet -j 2 -use-wgridder -weight briggs 0.5 -size 4800 4800 -scale 3asec -niter 3000 -mgain 0.8 "
        "-data-column CORRECTED_DATA -no-update-model-required -name"
    )
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command.split(), str(folder / "w"), str(ms)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peaks(plane: NDArray[np.floating], result: ImagingResult, sky: SkyModel) -> NDArray[np.float64]:
    """Interpolated peaks near the sources; NaN outside the image."""
    center, size = np.radians(result.image.center), plane.shape[0]
    lmn = direction_cosines(np.radians(sky.ra_deg), np.radians(sky.dec_deg), *center) / np.radians(
        result.image.cell_deg
    )
    out = np.full(len(sky), np.nan)
    for i, (x, y) in enumerate(np.rint(np.stack([size // 2 - lmn[:, 0], size // 2 + lmn[:, 1]], axis=1)).astype(int)):
        if 6 < x < size - 7 and 6 < y < size - 7:
            cut = plane[y - 4 : y + 5, x - 4 : x + 5]
            j, k = np.unravel_index(cut.argmax(), cut.shape)
            b = plane[y + j - 5 : y + j - 2, x + k - 5 : x + k - 2].astype(float)
            across, down = b[1, 2] - b[1, 0], b[2, 1] - b[0, 1]
            bend_x, bend_y = 2 * b[1, 1] - b[1, 0] - b[1, 2], 2 * b[1, 1] - b[0, 1] - b[2, 1]
            out[i] = b[1, 1] + across**2 / (8 * bend_x) + down**2 / (8 * bend_y)
    return out


def isolated(sky: SkyModel) -> NDArray[np.bool_]:
    ra, dec = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    away = separation(ra[:, None], dec[:, None], ra[None, :], dec[None, :]) + 10.0 * np.eye(len(sky))
    return np.asarray(np.degrees(away.min(axis=1)) * 3600.0 > ISOLATION_ARCSEC)


def tile(arguments: argparse.Namespace, folder: Path) -> None:
    options = replace(PERFECT, antennas=arguments.antennas, channels=arguments.channels)
    sky = drawn_sky(options)
    known = as_listed(sky, np.random.default_rng(5))
    vis = simulated(options, sky, folder)
    image(replace(vis, vis=vis.vis[:20000], flags=vis.flags[:20000], weights=vis.weights[:20000],
                  uvw_m=vis.uvw_m[:20000], antenna1=vis.antenna1[:20000], antenna2=vis.antenna2[:20000],
                  time_mjd=vis.time_mjd[:20000]), replace(SAME_DEPTH, size=512, niter=50), bright=known)  # fmt: skip
    clock, cpu, same = timed(vis, SAME_RULES, known)
    report("ours, WSClean's rules", clock, cpu, same)
    own_clock, own_cpu, own = timed(vis, SAME_DEPTH, known)
    report("ours, 3000 components", own_clock, own_cpu, own)
    deep_clock, deep_cpu, deep = timed(vis, DEEP, known)
    report("ours, deep", deep_clock, deep_cpu, deep)
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")
    alone, truth = isolated(sky), sky.flux_at(np.array([deep.image.freq_hz]))[:, 0]
    seen = peaks(same.image.data, same, sky)
    assert deep.pbcor is not None
    chosen = alone & (peaks(deep.image.data, deep, sky) > 0.03)
    ratio = peaks(deep.pbcor.data, deep, sky)[chosen] / truth[chosen]
    ratio = ratio[np.isfinite(ratio)]
    print(f"deep against the truth: {np.sum(np.abs(ratio - 1) < 0.01)} of {ratio.size} isolated sources above 30 mJy "
          f"within 1 %, median {np.nanmedian(ratio):.4f}, scatter {np.nanstd(ratio):.4f}")  # fmt: skip
    if not arguments.peer or shutil.which("wsclean") is None:
        return
    their_clock, their_cpu = wsclean(folder / "tile.ms", folder)
    print(f"WSClean                 {their_clock:7.1f} s   {their_cpu:7.1f} s of the processor: "
          f"{their_clock / clock:.1f} times by the clock, {their_cpu / cpu:.1f} by the processor")  # fmt: skip
    residual = fits.getdata(folder / "w-residual.fits").squeeze()
    print(f"residual rms over WSClean's {np.std(same.residual.data) / np.std(residual):.3f}, "
          f"with our rules {np.std(own.residual.data) / np.std(residual):.3f}")  # fmt: skip
    other = peaks(fits.getdata(folder / "w-image.fits").squeeze(), same, sky)
    brightest = np.argsort(-np.nan_to_num(seen))[:100]
    ratio = (seen / other)[brightest][alone[brightest]]
    print(f"isolated sources among the 100 brightest: {np.sum(np.abs(ratio - 1) < 0.01)} of {ratio.size} within 1 %, "
          f"median {np.nanmedian(ratio):.4f}")  # fmt: skip


def calibrator(arguments: argparse.Namespace, folder: Path) -> None:
    options = replace(PERFECT, antennas=arguments.antennas, channels=arguments.channels, smear=True)
    ra, dec = track(options)
    for off_deg in (0.0, 0.3, 1.0):
        place = np.array([ra.mean() + off_deg / np.cos(np.radians(dec.mean()))]), np.array([dec.mean() + 0.01])
        sky = SkyModel(["calibrator"], *place, np.array([16.0]), np.array([[ALPHA]]))
        listed = replace(sky, flux_jy=0.97 * sky.flux_jy, ra_deg=sky.ra_deg + 1e-4)
        vis = simulated(options, sky, folder)
        result = image(vis, ImagingOptions(smearing=True), bright=listed)
        peak, residual = result.image.data.max(), result.residual.data
        y, x = np.unravel_index(int(result.image.data.argmax()), residual.shape)
        rows, columns = np.ogrid[: residual.shape[0], : residual.shape[1]]
        beams = np.hypot(rows - y, columns - x) * result.summary.cell_arcsec / result.summary.beam.major_arcsec
        print(f"16 Jy {off_deg:.1f} deg off: peak over rms {peak / residual[beams > 20].std():.0f}, "
              f"over the largest residual {peak / np.abs(residual).max():.0f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--antennas", type=int, default=96)
    parser.add_argument("--channels", type=int, default=48, help="channels per subband")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave WSClean out")
    parser.add_argument("--calibrator", action="store_true", help="the dynamic range beside a bright source")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        (calibrator if arguments.calibrator else tile)(arguments, Path(scratch))


if __name__ == "__main__":
    main()
