"""Forced fluxes of 50,000 positions on one core, and their rows in a database, beside photutils.

    python benchmarks/photometry.py [--positions 50000] [--side 4800]

An image of noise that is correlated like the beam (59" x 18", pixels of 3") holds as many sources of 5 to 500 sigma, so
dense that most are blended; a second list, a tenth as long, is one that a catalogue could be. Ours (`measure`): local
background and rms, fluxes without the neighbors' shares, errors, position offsets, flags and limits, from images in
memory; then the rows, into a new database (SQLite). The peer, from the environment of `make bench-peers`, is photutils:
the same beam at fixed positions (PSFPhotometry, flux free), each position by itself, on a hundredth of the list.
Seconds are those of the processor, as other processes may share it; the clock's stand beside.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import fft
from threadpoolctl import threadpool_limits

from dsa110_contimg.config import use_root
from dsa110_contimg.database import get_session, init_databases
from dsa110_contimg.database.models import Image, MSIndex
from dsa110_contimg.database.repositories import PhotometryRepository
from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import Measurement, Missing, PhotometryFlag, measure
from dsa110_contimg.photometry.planes import to_pixel, to_sky
from dsa110_contimg.pipeline.rows import photometry_rows
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, SkyPosition

SEED = 20260805
TARGET_S, TARGET_WITH_ROWS_S, TARGET_BIAS = 2.0, 4.0, 0.01
BEAM, CELL_ARCSEC, RMS_JY = Beam(59.0, 18.0, 110.0), 3.0, 1e-3
SHAPE = BeamShape(BEAM.major_arcsec / CELL_ARCSEC, BEAM.minor_arcsec / CELL_ARCSEC, float(np.radians(BEAM.pa_deg)))
PEERS = Path(os.environ.get("CONTIMG_PEERS", ".venv-peers/bin/python"))
PEER = """
import sys, time
import numpy as np
from astropy.table import Table
from photutils.psf import GaussianPRF, PSFPhotometry
data = np.load(sys.argv[1]); x, y, flux, major, minor, angle, rms = (data[name] for name in data.files[1:])
# GaussianPRF is normalised to unit flux: the peak is flux / (pi major minor / (4 ln 2)).
area = np.pi * float(major) * float(minor) / (4.0 * np.log(2.0))
model = GaussianPRF(x_fwhm=float(major), y_fwhm=float(minor), theta=90.0 + float(np.degrees(angle)))
for name in ("x_0", "y_0"):
    getattr(model, name).fixed = True
size = 2 * int(0.8 * float(major)) + 1
fit = PSFPhotometry(model, (size, size), aperture_radius=float(minor))
table = Table({"x": x, "y": y, "flux": flux * area})
started = time.process_time()
found = fit(data["plane"].astype(float), init_params=table)
spent = time.process_time() - started
np.save(sys.argv[2], np.append(spent, np.asarray(found["flux_fit"]) / area))
"""


def make_image(count: int, side: int, rng: np.random.Generator) -> tuple[SkyImage, SkyModel]:
    """Return an image and what is in it."""
    lag = np.fft.fftfreq(side).astype(np.float32) * side
    power = np.sqrt(np.abs(fft.rfft2(beam_kernel(lag[None, :], lag[:, None], SHAPE).astype(np.float32))))
    data = fft.irfft2(fft.rfft2(rng.standard_normal((side, side), np.float32)) * power)
    data *= RMS_JY / data.std()
    x, y = rng.uniform(60.0, side - 60.0, (2, count))
    flux = 5.0 * RMS_JY * 10.0 ** rng.uniform(0.0, 2.0, count)
    for x0, y0, height in zip(x, y, flux, strict=True):
        column, row = int(x0), int(y0)
        dy, dx = np.mgrid[row - 45 : row + 46, column - 45 : column + 46].astype(float)
        data[row - 45 : row + 46, column - 45 : column + 46] += height * beam_kernel(dx - x0, dy - y0, SHAPE)
    image = SkyImage(data, SkyPosition(0.1, 33.0), CELL_ARCSEC / 3600.0, "Jy/beam", "mosaic", BEAM)
    ra, dec = to_sky(image, x, y)
    return image, SkyModel([f"S{i:06d}" for i in range(count)], ra, dec, flux, np.zeros((count, 1)))


def timed(work: Callable[[], list[Measurement | Missing]]) -> tuple[list[Measurement | Missing], float, float]:
    """Return a result and the shortest of three runs: seconds of the processor and of the clock."""
    spent = []
    for _ in range(3):
        started, busy = time.perf_counter(), time.process_time()
        result = work()
        spent.append((time.process_time() - busy, time.perf_counter() - started))
    return result, *min(spent)


def store(rows: list[Measurement | Missing]) -> float:
    """Write the rows into a new database; return seconds of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        use_root(Path(folder))
        init_databases()
        with get_session("products") as session:
            session.add(MSIndex(path="tile.ms"))
            session.add(Image(path="mosaic.fits", ms_path="tile.ms", created_at=0.0, type="mosaic"))
        busy = time.process_time()
        columns, missing = photometry_rows("mosaic.fits", rows, lambda _source: 61000.0)
        with get_session("products") as session:
            PhotometryRepository.store(session, columns)
            PhotometryRepository.store_missing(session, "mosaic.fits", missing)
        return time.process_time() - busy


def bias(rows: list[Measurement | Missing], flux: np.ndarray) -> tuple[float, int]:
    """Return the mean of measured over true flux, minus one, of unconfused sources above 10 sigma, and how many."""
    unfit = PhotometryFlag.TWIN | PhotometryFlag.CONFUSED
    ratio = [
        row.flux_jy / true
        for row, true in zip(rows, flux, strict=True)
        if isinstance(row, Measurement) and true > 10.0 * RMS_JY and not row.flags & unfit
    ]
    return float(np.mean(ratio)) - 1.0, len(ratio)


def peer(image: SkyImage, flux: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the peer's seconds of the processor, and its fluxes."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "asked.npz", Path(folder) / "answer.npy"
        shape = {"major": SHAPE.major_px, "minor": SHAPE.minor_px, "angle": SHAPE.pa_rad}
        np.savez(asked, plane=image.data, x=places[0], y=places[1], flux=flux, **shape, rms=RMS_JY)
        subprocess.run([PEERS, "-W", "ignore", "-c", PEER, asked, answer], check=True, stdout=subprocess.DEVNULL)
        told = np.load(answer)
    return float(told[0]), told[1:]


def verdict(value: float, target: float) -> str:
    return f"{'ok' if value < target else 'MISSED'} (target {target:g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=4800)
    asked = parser.parse_args()
    rng, options = np.random.default_rng(SEED), PhotometryOptions()
    threadpool_limits(1)
    print(f"seed {SEED}")
    for count in (asked.positions // 10, asked.positions):
        image, sky = make_image(count, asked.side, rng)
        noise = SkyImage(np.full_like(image.data, RMS_JY), image.center, image.cell_deg, "Jy", "noise")
        measure(image, sky.select(np.arange(20)), options, noise=noise)
        rows, busy, clock = timed(lambda: measure(image, sky, options, noise=noise))  # noqa: B023
        with_rows = busy + store(rows)
        off, n = bias(rows, sky.flux_jy)
        print(f"{count} positions: {busy:.2f} s of one core ({clock:.2f} s by the clock), {verdict(busy, TARGET_S)}")
        print(f"  with rows in the database {with_rows:.2f} s, {verdict(with_rows, TARGET_WITH_ROWS_S)}")
        if n > 500:
            print(
                f"  mean flux of {n} unconfused sources above 10 sigma {100 * off:+.2f} %, "
                f"{verdict(abs(off), TARGET_BIAS)}"
            )
        if count < asked.positions and PEERS.exists():
            compare(image, sky, rows, busy / count)


def compare(image: SkyImage, sky: SkyModel, rows: list[Measurement | Missing], ours_s: float) -> None:
    """Print the peer's figures on the first sources of a list."""
    some = np.arange(min(500, len(sky)))
    x, y = to_pixel(image, sky.ra_deg[some], sky.dec_deg[some])
    busy, flux = peer(image, sky.flux_jy[some], (x, y))
    alone = np.array([not row.flags & PhotometryFlag.CONFUSED and row.snr > 10.0 for row in rows[: some.size]])
    ours = np.array([row.flux_jy for row in rows[: some.size]])
    scatter = [np.std((found - sky.flux_jy[some])[alone]) / RMS_JY for found in (ours, flux)]
    theirs_s = busy / some.size
    print(f"  photutils {1e6 * theirs_s:.0f} us a position, ours {1e6 * ours_s:.0f} us: {theirs_s / ours_s:.0f} times")
    print(f"  scatter of {alone.sum()} unconfused: ours {scatter[0]:.2f} rms, photutils {scatter[1]:.2f} rms")


if __name__ == "__main__":
    main()
