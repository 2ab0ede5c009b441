"""Statistics of many sources after one more epoch, with few and with many epochs behind them.

    python benchmarks/statistics.py [--sources 50000] [--behind 10 1000] [--epochs 4]

Sources of 10 mJy to 1 Jy with their light curves, moments and statistics are put into a new database (SQLite); then
epochs of all of them arrive, one after the other. What is timed is everything between the rows of the measurements and
the rows of the statistics: the choice of rows, the scale of the epoch, normalized fluxes, sums, order statistics of the
sources that are due, and the writing of all of it. The light curves behind are as they would be after so many epochs:
sources were settled last at any time within their patience. Of a long history only those sources have rows that are
read: a light curve costs by its own length and not by that of the table, and 50 million rows would take 40 GB. The
last line is the peer: all of it derived anew.
Seconds are those of the processor, as other processes may share it; the clock's stand beside.
"""

import argparse
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session
from threadpoolctl import threadpool_limits

from dsa110_contimg.config import use_root
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.bulk import insert_columns
from dsa110_contimg.database.light_curve_rows import load_moments, store_moments
from dsa110_contimg.database.models import MSIndex, Photometry, VariabilityStats
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import PhotometryRepository
from dsa110_contimg.kernels import moments as kernel
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.one_epoch import PATIENCE, update_epochs
from dsa110_contimg.pipeline.variability import update_variability

SEED = 20260901
TARGET_S = 2.0
FIRST_MJD, SIDEREAL = 60000.0, 0.99727
FULL = 50
"""With as many epochs behind or fewer, every source has rows."""
OPTIONS = PhotometryOptions()


def sky(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return names, fluxes, and places in a strip, (2, n_source)."""
    rng = np.random.default_rng(SEED)
    flux = 0.01 * 100.0 ** rng.random(count)
    places = np.stack([360.0 * np.arange(count) / count, rng.uniform(32.0, 35.0, count)])
    return np.array([f"NVSS J{i:07d}" for i in range(count)], object), flux, places


def enter(session: Session, path: str, mjd: float) -> None:
    session.add(MSIndex(path=f"{path}.ms"))
    session.flush()
    MosaicRepository.store(
        session, path=path, name=Path(path).stem, reference_ms=f"{path}.ms", created_at=0.0, start_mjd=mjd,
        end_mjd=mjd,
    )  # fmt: skip


def draw(epoch: int, truth: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, fluxes on one scale and errors of an epoch: noise of 1 mJy, and 1 % of each flux."""
    error = np.hypot(0.001, 0.01 * truth)
    flux = truth + np.random.default_rng([SEED, epoch]).normal(size=truth.size) * error
    return FIRST_MJD + SIDEREAL * epoch + places[0] / 360.0 * 0.2, flux, error


def scale_of(epoch: int) -> float:
    return 1.0 + 0.02 * float(np.sin(epoch))


def measure(
    epoch: int, names: np.ndarray, truth: np.ndarray, places: np.ndarray, which: np.ndarray, known: bool
) -> dict[str, list]:
    """Return the rows of one epoch as columns, in a light curve or not yet."""
    mjd, flux, error = (column[which] for column in draw(epoch, truth, places))
    columns = {
        "ra_deg": places[0][which], "dec_deg": places[1][which], "peak_jyb": flux * scale_of(epoch),
        "flux_jy": flux * scale_of(epoch), "flux_err_jy": error, "peak_err_jyb": error, "mjd": mjd,
        "local_rms_jyb": np.full(mjd.size, 0.001), "snr": flux / error,
    }  # fmt: skip
    if known:
        columns |= {"normalized_flux_jy": flux, "normalized_flux_err_jy": error}
    rows: dict[str, list] = {name: values.tolist() for name, values in columns.items()}
    same = {"image_path": f"/m/{epoch:05d}.fits", "flags": 0, "measured_at": 0.0, "in_lightcurve": int(known)}
    return rows | {name: [value] * mjd.size for name, value in same.items()} | {"source_id": names[which].tolist()}


def begin(names: np.ndarray, truth: np.ndarray, places: np.ndarray, behind: int, coming: int) -> None:
    """Put light curves, moments and statistics of earlier epochs into a new database."""
    turn = np.array([zlib.crc32(name.encode()) % 1024 for name in names]) / 1024.0
    patience = PATIENCE[0] + (PATIENCE[1] - PATIENCE[0]) * turn
    arrays = [np.empty((names.size, behind)) for _ in range(3)]
    for epoch in range(behind):
        for array, column in zip(arrays, draw(epoch, truth, places), strict=True):
            array[:, epoch] = column
    offsets = behind * np.arange(names.size + 1)
    points = [array.ravel() for array in arrays]
    moments = kernel.settle(offsets, *points, OPTIONS.systematic, OPTIONS.baseline_window_days)
    settled = np.ceil(behind / (1.0 + patience * np.random.default_rng(SEED).random(names.size)))
    moments[:, kernel.SETTLED] = settled
    read = np.full(names.size, behind <= FULL) | (behind + coming + 1 - settled > patience * settled)
    for epoch in range(behind, behind + coming):
        _mjd, flux, error = draw(epoch, truth, places)
        pull = np.abs(flux - moments[:, kernel.LEVEL]) / np.hypot(error, moments[:, kernel.FLOOR])
        read |= pull > 0.7 * moments[:, kernel.DEVIATION]
    with get_session("products") as session:
        for epoch in range(behind):
            enter(session, f"/m/{epoch:05d}.fits", FIRST_MJD + SIDEREAL * epoch)
            insert_columns(session, Photometry, measure(epoch, names, truth, places, read, known=True))
    last = measure(behind, names, truth, places, np.ones(names.size, np.bool_), known=False)
    with get_session("products") as session:
        store_moments(session, names.tolist(), kernel.COLUMNS, moments)
        columns = {name: last[name] for name in ("source_id", "ra_deg", "dec_deg")}
        insert_columns(session, VariabilityStats, columns | {"updated_at": [0.0] * names.size})


def arrive(epoch: int, names: np.ndarray, truth: np.ndarray, places: np.ndarray) -> str:
    path = f"/m/{epoch:05d}.fits"
    rows = measure(epoch, names, truth, places, np.ones(names.size, np.bool_), known=False)
    with get_session("products") as session:
        enter(session, path, FIRST_MJD + SIDEREAL * epoch)
        PhotometryRepository.store(
            session, [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        )
    return path


def follow(path: str) -> tuple[float, float]:
    """Return what it takes to let statistics follow: seconds of the processor and of the clock."""
    busy, clock = time.process_time(), time.perf_counter()
    with get_session("products") as session:
        update_epochs(session, OPTIONS, [path])
    return time.process_time() - busy, time.perf_counter() - clock


def settled_now(names: np.ndarray, epochs: int) -> int:
    """Return how many light curves were read with the last epoch; none may have been read in part."""
    with get_session("products", read_only=True) as session:
        held = load_moments(session, names.tolist(), ("n", "n_settled"))
    assert {n for n, _settled in held.values()} == {float(epochs)}
    return sum(n == settled for n, settled in held.values())


def run(names: np.ndarray, truth: np.ndarray, places: np.ndarray, behind: int, coming: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        use_root(Path(folder))
        reset_engines()
        init_databases()
        begin(names, truth, places, behind, coming)
        spent, settled = [], []
        for epoch in range(behind, behind + coming):
            path = arrive(epoch, names, truth, places)
            spent.append(follow(path))
            settled.append(settled_now(names, epoch + 1))
        busy, clock = (np.array(column) for column in zip(*spent, strict=True))
        target = TARGET_S * names.size / 50_000
        verdict = "ok" if busy.min() < target else "MISSED"
        print(
            f"{names.size} sources, {behind} epochs behind: {busy.min():.2f} s of one core ({busy.max():.2f} at most; "
            f"{clock.min():.2f} to {clock.max():.2f} s by the clock), {verdict} (target {target:g}); "
            f"light curves read: {', '.join(map(str, settled))}"
        )
        if behind > FULL:
            return
        print(f"  the same epoch once more: {follow(path)[0]:.2f} s")
        with get_session("products") as session:
            MosaicRepository.get_by_name(session, Path(path).stem).status = "retracted"
        print(f"  taken back: {follow(path)[0]:.2f} s")
        busy_s = time.process_time()
        with get_session("products") as session:
            update_variability(session, OPTIONS)
        print(f"  peer, all epochs derived and judged anew: {time.process_time() - busy_s:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=50_000)
    parser.add_argument("--behind", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    threadpool_limits(1)
    print(f"seed {SEED}")
    kernel.settle(np.array([0, 5]), *np.ones((3, 5)), 0.03, 40.0)
    names, truth, places = sky(asked.sources)
    for behind in asked.behind:
        run(names, truth, places, behind, asked.epochs)


if __name__ == "__main__":
    main()
