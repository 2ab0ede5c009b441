"""What the products of a mosaic cost beside its pixels, and reproject's own interpolation on the same HiPS tiles.

    python benchmarks/products.py           a mosaic of the demo: three tiles, 1500 x 2600 pixels of 8"
    python benchmarks/products.py --full    ten full-size tiles: 4800 x 18000 pixels of 3", 86 million

The peer is reproject_interp inside the same writer, at the same order; ours stands with PNG tiles, coverage and
flushing to disk, the peer without them. Times are the best of several: the process's own (both cores count), and the
clock's.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from reproject import reproject_interp
from reproject.hips import reproject_to_hips

from dsa110_contimg.formats import fits_image, hips, hips_merge, hips_tiles, moc, previews
from dsa110_contimg.formats.hips_merge import Pair, Part
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

SIGMA = 1e-3


def mosaic(full: bool) -> SkyImage:
    ny, nx, cell = (4800, 18000, 3.0) if full else (1500, 2600, 8.0)
    beam = Beam(37.0, 26.0, 80.0) if full else Beam(77.0, 38.0, 80.0)
    rng = np.random.default_rng(1)
    data = rng.standard_normal((ny, nx), np.float32) * np.float32(SIGMA)
    for x, y in rng.uniform(0, 1, (500, 2)) * [nx - 20, ny - 20]:
        data[int(y) : int(y) + 12, int(x) : int(x) + 12] += np.float32(rng.pareto(1.0) * 0.02)
    y, x = np.ogrid[:ny, :nx]
    outside = (np.abs(x - nx / 2) > nx / 2 - ny / 2) & (
        np.hypot(np.abs(x - nx / 2) - nx / 2 + ny / 2, y - ny / 2) > ny / 2
    )
    data[outside] = np.nan
    return SkyImage(
        data, SkyPosition(0.3, 33.0), cell / 3600.0, kind="mosaic", beam=beam, freq_hz=1.405e9, bandwidth_hz=187.5e6,
        start_mjd=60690.5, end_mjd=60690.53, exposure_s=2700.0, noise_jy=SIGMA, field_name="mosaic_2025-01-15_12-00-00",
    )  # fmt: skip


def best(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return seconds of the process and of the clock."""
    found = []
    for _ in range(repeats):
        cpu, clock = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - clock))
    return min(cpu for cpu, _ in found), min(clock for _, clock in found)


def size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def peer(image: SkyImage, folder: Path, order: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    reproject_to_hips(
        (image.data, previews.celestial_wcs(image)), coord_system_out="equatorial", reproject_function=reproject_interp,
        output_directory=str(folder), level=order, roundtrip_coords=False,
    )  # fmt: skip


def into_the_sky(part: Path, weight: Path, folder: Path, order: int) -> None:
    """Add a mosaic to an empty HiPS of the sky."""
    shutil.rmtree(folder, ignore_errors=True)
    out = Pair(folder / "hips", folder / "weight")
    for made in out:
        made.mkdir(parents=True)
    hips_merge.merge([Part(part, weight)], out, order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="ten full-size tiles")
    parser.add_argument("--peer", action="store_true", help="run the peer at full size too (minutes)")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    image = mosaic(chosen.full)
    order, repeats = hips.choose_order(image), 1 if chosen.full else chosen.repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hips.save(mosaic(False), folder / "warm", identifier="warm")
        paths = {
            kind: folder / kind
            for kind in ("image", "compressed", "preview", "thumbnail", "moc", "hips", "weight", "sky", "peer")
        }
        fits_image.save(replace(image, data=0.0 * image.data + 1e6, kind="weight"), paths["weight"])
        steps: dict[str, Callable[[], object]] = {
            "image": lambda: fits_image.save(image, paths["image"]),
            "compressed": lambda: fits_image.save(image, paths["compressed"], quantization=16.0),
            "preview": lambda: previews.preview(image, paths["preview"]),
            "thumbnail": lambda: previews.thumbnail(image, paths["thumbnail"]),
            "moc": lambda: moc.save(moc.coverage(image), paths["moc"]),
            "hips": lambda: hips.save(image, paths["hips"], identifier="m"),
            "sky": lambda: into_the_sky(paths["hips"], paths["weight"], paths["sky"], order),
        }
        if chosen.peer or not chosen.full:
            steps["peer"] = lambda: peer(image, paths["peer"], order)
        taken = {}
        for step, work in steps.items():
            taken[step] = best(work, repeats)
            cpu, clock = taken[step]
            print(
                f"{step:11s} {cpu:7.2f} s of the process, {clock:7.2f} s of the clock, {size_mb(paths[step]):8.1f} MB",
                flush=True,
            )
        tiles = [len(hips_tiles.tiles_of(paths["hips"], k)) for k in range(order + 1)]
        print(f"HiPS to order {order}: {sum(tiles)} tiles, {tiles[-1]} of them at the deepest")
        if "peer" in taken:
            print(f"HiPS against reproject_interp: {taken['peer'][0] / taken['hips'][0]:.1f} times less work")


if __name__ == "__main__":
    main()
