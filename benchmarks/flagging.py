"""Flagging beside AOFlagger on the same Measurement Set: time, what is found, what clean data are lost.

    python benchmarks/flagging.py [--antennas 96] [--seed 1] [--no-peer]

A tile of the telescope (24 integrations, 768 channels, two polarizations) at raw gains: notches in the band, edges of
subbands, a 16 Jy source one degree off on both axes, forty others, noise of 6500 Jy. Interference goes in with
known strengths. Ours is timed on arrays in memory, and with reading the set and writing its flags, as AOFlagger does.
Compilation is not counted. `python benchmarks/flagging.py --clean` has no interference at all.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from casacore import tables

from dsa110_contimg.calibration.flagging import FlagReport, flag
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.simulation import array
from dsa110_contimg.simulation.interference import Geometry, InterferenceTruth, draw_transmitters, inject
from dsa110_contimg.telescope import BAND_LOW_HZ, aberration_scale, meridian_icrs, tangent_basis_itrs
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities, predict

STEP_S, N_TIME, N_CHAN = 12.884902, 24, 768
CHANNEL_HZ = 244140.625
SEFD_JY = 6500.0
NOTCHES_MHZ = (1350.0, 1395.0, 1405.0, 1422.0, 1475.0)
COUNTS = {"line": 14, "burst": 4, "broadband": 5, "satellite": 6}
SPARKS = 0.001


def empty_tile(n_antenna: int, dec_deg: float, mjd: float) -> Visibilities:
    """A tile with the telescope's geometry and visibilities of zero."""
    position = array.station_positions()[np.array(array.choose_stations(n_antenna)) - 1]
    first, second = np.triu_indices(n_antenna)
    antenna1, antenna2 = np.tile(first, N_TIME).astype(np.int32), np.tile(second, N_TIME).astype(np.int32)
    times = mjd + (np.arange(N_TIME) - 0.5 * (N_TIME - 1)) * STEP_S / 86400.0
    ra, dec = meridian_icrs(dec_deg, times)
    ra0, dec0 = (float(v[0]) for v in meridian_icrs(dec_deg, np.array([mjd])))
    basis = tangent_basis_itrs(ra0, dec0, times)
    shape = (antenna1.size, N_CHAN, 2)
    return Visibilities(
        vis=np.zeros(shape, np.complex64),
        flags=np.zeros(shape, bool),
        weights=np.ones((shape[0], 2), np.float32),
        uvw_m=np.einsum("tij,bj->tbi", basis, position[first] - position[second]).reshape(-1, 3),
        antenna1=antenna1,
        antenna2=antenna2,
        time_mjd=np.repeat(times, first.size),
        freq_hz=BAND_LOW_HZ + CHANNEL_HZ * (np.arange(N_CHAN) + 0.5),
        channel_width_hz=CHANNEL_HZ,
        integration_s=STEP_S,
        phase_center=SkyPosition(ra0, dec0),
        antenna_names=[str(i + 1) for i in range(n_antenna)],
        antenna_itrf_m=position,
        telescope="OVRO_MMA",
        pointing_mjd=times,
        pointing_icrs_deg=np.stack([ra, dec], axis=1),
        field_name="benchmark",
        aberration=aberration_scale(ra0, dec0, mjd),
    )


def draw_sky(vis: Visibilities, rng: np.random.Generator) -> SkyModel:
    """16 Jy one degree off on both axes, and forty others."""
    ra0, dec0 = vis.phase_center
    off_ra, off_dec = np.append(0.7, rng.uniform(-1.5, 1.5, 40)), np.append(0.7, rng.uniform(-1.3, 1.3, 40))
    flux = np.append(16.0, 0.1 * rng.pareto(1.2, 40) + 0.1).clip(0.0, 16.0)
    index = np.full((41, 1), -0.7)
    names = [f"s{i}" for i in range(41)]
    return SkyModel(names, ra0 + off_ra / np.cos(np.radians(dec0)), dec0 + off_dec, flux, index)


def draw_gains(vis: Visibilities, rng: np.random.Generator) -> np.ndarray:
    """Raw gains (n_antenna, n_chan, n_pol): delays, ripples, edges of subbands, notches."""
    shape = (vis.n_antennas, 1, 2)
    mhz, place = 1e-6 * vis.freq_hz, np.arange(N_CHAN) % (N_CHAN // 16)
    edge = 1.0 - 0.4 * np.exp(-np.minimum(place, N_CHAN // 16 - 1 - place) / 1.0)
    notch = 1.0 - sum(0.5 * np.exp(-0.5 * ((mhz - f) / 0.4) ** 2) for f in NOTCHES_MHZ)
    ripple = 1.0 + 0.1 * np.sin(rng.uniform(0, 6.28, shape) + 2 * np.pi * (mhz[:, None] - 1311.0) / 90.0)
    size = 0.068 * rng.uniform(0.8, 1.2, shape) * ripple * (edge * notch)[:, None]
    delay = rng.normal(0.0, 5e-9, shape)
    return size * np.exp(2j * np.pi * (rng.random(shape) + delay * (vis.freq_hz[:, None] - 1.405e9)))


def contaminated(options: argparse.Namespace) -> tuple[Visibilities, InterferenceTruth]:
    rng = np.random.default_rng(options.seed)
    print(f"seed {options.seed}, {options.antennas} antennas, declination {options.declination}")
    vis = empty_tile(options.antennas, options.declination, 60950.3)
    sky, gains = draw_sky(vis, rng), draw_gains(vis, rng).astype(np.complex64)
    sigma = SEFD_JY / np.sqrt(2.0 * CHANNEL_HZ * STEP_S)
    for pol in range(2):
        vis.vis[:, :, pol] = predict(vis, sky)
    moment = np.searchsorted(vis.times_mjd, vis.time_mjd)
    for t in range(N_TIME):
        rows = moment == t
        noise = rng.standard_normal((*vis.vis[rows].shape, 2), np.float32).view(np.complex64)[..., 0]
        one, two = gains[vis.antenna1[rows]], gains[vis.antenna2[rows]]
        vis.vis[rows] = (vis.vis[rows] + sigma * noise) * one * np.conj(two)
    center = tangent_basis_itrs(*vis.phase_center, np.array([vis.mid_mjd]))[0][2]
    geometry = Geometry(vis.antenna_itrf_m, center, vis.freq_hz, CHANNEL_HZ, STEP_S, N_TIME)
    transmitters = [] if options.clean else draw_transmitters(geometry, COUNTS, (1.5, 60.0), options.seed)
    share = 0.0 if options.clean else SPARKS
    level = (np.abs(gains) * np.sqrt(sigma)).astype(np.float32)
    truth = inject(
        vis.vis, (vis.antenna1, vis.antenna2, moment), level, geometry, transmitters, (share, 7.0, options.seed)
    )
    return vis, truth


def score(name: str, flags: np.ndarray, truth: InterferenceTruth, cross: np.ndarray) -> None:
    """Print what was found."""
    found, tenths = flags[cross], truth.tenths[cross]
    large = np.broadcast_to(truth.large[cross][:, :, None], found.shape)
    rows = {
        "above 6 sigma": tenths >= 60,
        "above 3 sigma in structures": (tenths >= 30) & large,
        "3 to 6 sigma in structures": (tenths >= 30) & (tenths < 60) & large,
        "single samples": (tenths >= 60) & ~large,
    }
    parts = [f"{label} {100 * found[which].mean():.1f} %" for label, which in rows.items() if which.any()]
    clean = tenths == 0
    print(f"{name:10s} {'; '.join(parts)}; clean lost {100 * found[clean].mean():.2f} % of {100 * clean.mean():.1f} %")


def ours(path: Path) -> tuple[FlagReport, float, float]:
    """Read, flag and write; return the report, seconds of flagging alone and of all."""
    started = time.monotonic()
    vis = measurement_set.load_raw(path)
    began = time.monotonic()
    report = flag(vis, FlaggingOptions())
    alone = time.monotonic() - began
    with tables.table(str(path), readonly=False, ack=False) as table:
        table.putcol("FLAG", vis.flags)
    return report, alone, time.monotonic() - started


def aoflagger(path: Path) -> tuple[np.ndarray, float]:
    with tables.table(str(path), readonly=False, ack=False) as table:
        shape = table.getcol("FLAG").shape
        table.putcol("FLAG", np.zeros(shape, bool))
    started = time.monotonic()
    subprocess.run(["aoflagger", "-j", "2", str(path)], check=True, capture_output=True)
    seconds = time.monotonic() - started
    return measurement_set.load(path, "DATA").flags, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--antennas", type=int, default=96)
    parser.add_argument("--declination", type=float, default=33.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clean", action="store_true", help="no interference")
    parser.add_argument("--no-peer", action="store_true", help="without AOFlagger and without a set on disk")
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    vis, truth = contaminated(options)
    cross = vis.antenna1 != vis.antenna2
    if options.no_peer or shutil.which("aoflagger") is None:
        for _ in range(options.repeat):
            vis.flags[:] = False
            started = time.monotonic()
            report = flag(vis, FlaggingOptions())
            print(f"ours in memory {time.monotonic() - started:.2f} s")
        print({name: round(100 * part, 3) for name, part in report.by_reason.items()})
        score("ours", vis.flags, truth, cross)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = measurement_set.save(Path(folder) / "tile.ms", vis)
        del vis
        peer = [aoflagger(path) for _ in range(1)]
        own = [ours(path) for _ in range(options.repeat + 1)][1:]
        alone, whole = min(o[1] for o in own), min(o[2] for o in own)
        score("ours", own[-1][0].reasons > 0, truth, cross)
        score("AOFlagger", peer[0][0], truth, cross)
        print(f"ours {alone:.2f} s in memory, {whole:.2f} s with reading the set and writing its flags")
        print(f"AOFlagger {peer[0][1]:.2f} s: {peer[0][1] / alone:.1f} and {peer[0][1] / whole:.1f} times as long")


if __name__ == "__main__":
    main()
