"""The sky model of a tile: our sum over sources beside the plain one in numpy and ducc0's w-gridder.

The array and the band are those of the telescope; integrations are few, since all of them cost the same. The gridder
predicts one integration at a time, as the beam drifts, from an image in which each source lies on its nearest pixel:
its error is that of the grid. Compilation is not counted; the best of three.

    python benchmarks/prediction.py --sources 40
"""

import argparse
import time
from collections.abc import Callable

import ducc0
import numpy as np

from dsa110_contimg.kernels.predict import predict_evenly_spaced, predict_numpy
from dsa110_contimg.simulation.array import choose_stations, station_positions
from dsa110_contimg.telescope import meridian_icrs, tangent_basis_itrs

N_CHAN, FIRST_HZ, STEP_HZ = 768, 1311.387329e6, 244140.625
SIZE, CELL_RAD = 4800, np.radians(3.0 / 3600.0)
PLAIN_ROWS = 40
MJD = 60950.3


def best_of_three(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sources", type=int, default=40)
    parser.add_argument("--integrations", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    place = station_positions()[np.array(choose_stations(96)) - 1]
    first, second = np.triu_indices(96, 1)
    times = MJD + 12.885 / 86400.0 * np.arange(options.integrations)
    center = (float(value[0]) for value in meridian_icrs(33.2, MJD))
    uvw = np.einsum("tij,bj->tbi", tangent_basis_itrs(*center, times), place[second] - place[first]).reshape(-1, 3)
    when = np.repeat(np.arange(options.integrations), first.size)
    lm = rng.uniform(-0.02, 0.02, (options.sources, 2))
    lmn = np.column_stack([lm, np.sqrt(1.0 - (lm**2).sum(axis=1))])
    amplitude = rng.uniform(0.1, 2.0, (options.integrations, options.sources, N_CHAN)).astype(np.float32)
    freq = FIRST_HZ + STEP_HZ * np.arange(N_CHAN)
    points, gaussians = np.zeros((options.sources, 2, 3)), rng.normal(0.0, 1e-13, (options.sources, 2, 3))
    image = np.zeros((SIZE, SIZE), np.float32)
    pixel = np.rint(lm / CELL_RAD).astype(int) + SIZE // 2
    np.add.at(image, (pixel[:, 0], pixel[:, 1]), amplitude[0, :, 0])

    def ours(axes: np.ndarray) -> np.ndarray:
        return np.asarray(predict_evenly_spaced(uvw, when, FIRST_HZ, STEP_HZ, lmn, amplitude, axes))

    def plain() -> np.ndarray:
        return predict_numpy(uvw[:PLAIN_ROWS], when[:PLAIN_ROWS], freq, lmn, amplitude, gaussians)

    def gridded() -> np.ndarray:
        return np.asarray(
            ducc0.wgridder.dirty2vis(
                uvw=uvw[: first.size], freq=freq, dirty=image, pixsize_x=CELL_RAD, pixsize_y=CELL_RAD,
                epsilon=1e-4, do_wgridding=True, divide_by_n=False, nthreads=0,
            )
        )  # fmt: skip

    fast = ours(gaussians)
    error = np.abs(fast[:PLAIN_ROWS] - plain()).max() / amplitude.sum(axis=1).max()
    ours(points)
    samples = uvw.shape[0] * N_CHAN * options.sources
    figures = {
        "ours, points": best_of_three(lambda: ours(points)) / samples,
        "ours, Gaussians": best_of_three(lambda: ours(gaussians)) / samples,
        "numpy": best_of_three(plain) / (PLAIN_ROWS * N_CHAN * options.sources),
    }
    print(
        f"{options.sources} sources, {uvw.shape[0]} rows, {N_CHAN} channels; error against numpy {error:.1e} of the sum"
    )
    for name, seconds in figures.items():
        print(f"{name:16s} {1e9 * seconds:8.3f} ns per source and visibility")
    per_tile = 24 * first.size * N_CHAN
    print(f"a tile           ours {figures['ours, points'] * per_tile * options.sources:6.1f} s, "
          f"ducc0 {24 * best_of_three(gridded):6.1f} s (on its grid, one beam per integration)")  # fmt: skip


if __name__ == "__main__":
    main()
