"""Ten full-size tiles to a mosaic, beside reproject_interp: time, and what happens to peaks, positions and noise.

    python benchmarks/mosaic.py [--tiles 10] [--size 4800] [--ra 0.3] [--dec 33.2] [--no-peer] [--keep FOLDER]

The tiles are FITS files with sources at known places and of known fluxes, down to 10 sigma and evenly over the strip,
behind the drifting beam, on noise that is correlated like each tile's own restoring beam; no two of those are alike.
The whole way is timed: files read and validated, common beam, resampling, sum, noise, files written. The peer carries
one image of one tile onto the same part of the same grid, bilinearly, in one process and in two. Compilation is not
counted: a small mosaic is made first.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from reproject import reproject_interp
from scipy import fft
from scipy.ndimage import map_coordinates

from dsa110_contimg.formats import fits_image
from dsa110_contimg.kernels.beams import mean_beam, mean_beam_image
from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel, cutouts, fit_offsets, stencil
from dsa110_contimg.kernels.match import neighbor_separation
from dsa110_contimg.kernels.resample import Grid, resample
from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines
from dsa110_contimg.mosaic.build import MosaicResult, build
from dsa110_contimg.mosaic.common_beam import beam_matrix, carried
from dsa110_contimg.mosaic.consistency import judge_tiles
from dsa110_contimg.mosaic.grid import Frame, choose_frame, footprint, image_grid, rotation_to_tile, window_of
from dsa110_contimg.mosaic.tile_cache import TileCache
from dsa110_contimg.mosaic.tiles import Tile, TileFiles
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

SECONDS, DEG_PER_SECOND = 309.2376, 1.00274 / 240.0
STEP_DEG = SECONDS * DEG_PER_SECOND
FREQ_HZ = 1.405e9 + 187.5e6 * (np.arange(16) - 7.5) / 16
DISH_M = 4.65
NOISE_JY = 3e-4
OPTIONS = MosaicOptions()


@dataclass(frozen=True)
class Sky:
    """Sources of a strip: positions (rad) and fluxes (Jy)."""

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    flux: NDArray[np.float64]


def report(what: str, asked: str, measured: str) -> None:
    print(f"{what:58s} asked {asked:22s} measured {measured}", flush=True)


def centers(ra_deg: float, dec_deg: float, n_tiles: int) -> list[SkyPosition]:
    return [SkyPosition((ra_deg + (k - (n_tiles - 1) / 2) * STEP_DEG) % 360.0, dec_deg) for k in range(n_tiles)]


def draw_sky(places: Sequence[SkyPosition], size: int, rng: np.random.Generator, per_deg2: float = 40.0) -> Sky:
    """Sources evenly over the tiles' fields: N(>S) ~ 1/S from 2 mJy, and one in twelve brighter than 1 Jy."""
    half = 0.5 * size * 3.0 / 3600.0
    ra, dec = [], []
    for place in places:
        count = rng.poisson(per_deg2 * STEP_DEG * max(np.cos(np.radians(place.dec_deg)), 0.02) * 2.0 * half)
        angle, radius = rng.uniform(0.0, 2.0 * np.pi, count), half * np.sqrt(rng.uniform(0.0, 1.0, count))
        offset = np.radians(radius) * np.stack([np.sin(angle), np.cos(angle)])
        found = from_direction_cosines(*offset, *np.radians(place))
        ra.append(found[0])
        dec.append(found[1])
    total = sum(map(len, ra))
    flux = np.minimum(2e-3 / rng.uniform(1e-4, 1.0, total), 5.0)
    flux[::12] = rng.uniform(1.0, 5.0, flux[::12].size)
    return Sky(np.concatenate(ra), np.concatenate(dec), flux)


def pointings(place: SkyPosition) -> NDArray[np.float64]:
    drift = (np.arange(24) - 11.5) * STEP_DEG / 24.0
    return np.radians(np.stack([place.ra_deg + drift, np.full(24, place.dec_deg)], axis=1))


def noise_plane(size: int, cell_arcsec: float, beam: Beam, rng: np.random.Generator) -> NDArray[np.float32]:
    kernel = beam_matrix(beam) / (8.0 * np.log(2.0)) / cell_arcsec**2
    v, u = fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :]
    response = np.exp(-2 * np.pi**2 * (kernel[0, 0] * u**2 - 2 * kernel[0, 1] * u * v + kernel[1, 1] * v**2))
    white = rng.standard_normal((size, size), np.float32)
    colored = fft.irfft2(fft.rfft2(white, workers=-1) * response.astype(np.float32), (size, size), workers=-1)
    return np.asarray(NOISE_JY * colored / colored.std(), np.float32)


def paint(image: SkyImage, sky: Sky, apparent: NDArray[np.float64], beam: Beam) -> None:
    """Add points of known flux to the pixels of an image."""
    lmn = direction_cosines(sky.ra, sky.dec, *np.radians(image.center))
    cell = np.radians(image.cell_deg)
    shape = pixel_beam(beam, image.cell_deg)
    x, y = image.center_pixel[0] - lmn[:, 0] / cell, image.center_pixel[1] + lmn[:, 1] / cell
    reach = int(2.5 * shape.major_px) + 1
    ny, nx = image.data.shape
    for i in np.flatnonzero((lmn[:, 2] > 0) & (np.abs(x - nx / 2) < nx / 2) & (np.abs(y - ny / 2) < ny / 2)):
        columns = np.arange(max(int(x[i]) - reach, 0), min(int(x[i]) + reach + 1, nx))
        rows = np.arange(max(int(y[i]) - reach, 0), min(int(y[i]) + reach + 1, ny))
        patch = beam_kernel(columns[None, :] - x[i], rows[:, None] - y[i], shape)
        image.data[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (apparent[i] * patch).astype(np.float32)


def pixel_beam(beam: Beam, cell_deg: float) -> BeamShape:
    cell = 3600.0 * cell_deg
    return BeamShape(beam.major_arcsec / cell, beam.minor_arcsec / cell, float(np.radians(beam.pa_deg)))


def write_tile(folder: Path, index: int, place: SkyPosition, sky: Sky, size: int) -> TileFiles:
    rng = np.random.default_rng([20250115, index])
    cell_arcsec = 3.0
    beam = Beam(62.0 * rng.uniform(0.98, 1.02), 40.0 * rng.uniform(0.98, 1.02), 100.0 + rng.uniform(-3.0, 3.0))
    looks, even = pointings(place), np.ones((24, FREQ_HZ.size))
    start = 60690.5 + index * SECONDS / 86400.0
    data = noise_plane(size, cell_arcsec, beam, rng)
    image = SkyImage(
        data, place, cell_arcsec / 3600.0, beam=beam, freq_hz=1.405e9, bandwidth_hz=187.5e6, start_mjd=start,
        end_mjd=start + SECONDS / 86400.0, exposure_s=SECONDS, noise_jy=NOISE_JY, header={"CALTABLES": f"t{index}"},
    )  # fmt: skip
    towards = mean_beam(np.stack([sky.ra, sky.dec], axis=1), looks, FREQ_HZ, even, DISH_M)
    paint(image, sky, sky.flux * towards, beam)
    ra0, dec0 = (float(value) for value in np.radians(place))
    response = mean_beam_image(size, np.radians(image.cell_deg), (ra0, dec0), looks, FREQ_HZ, even, DISH_M)
    stem = folder / f"tile{index:02d}"
    files = TileFiles(f"2025-01-15T12:{index:02d}:00", *(Path(f"{stem}-{kind}.fits") for kind in ("i", "b", "p")))
    fits_image.save(image, files.image_path)
    fits_image.save(replace(image, data=response, kind="beam", unit="", beam=None), files.beam_path)
    files.pbcor_path.touch()
    return files


def timed_mosaic(files: Sequence[TileFiles], folder: Path) -> MosaicResult:
    clock, busy = [time.perf_counter()], time.process_time()
    cache = TileCache(folder / "placed", OPTIONS.cache_gb)
    result = build(files, OPTIONS, "benchmark", cache=cache)
    consistency = judge_tiles(result.measured, OPTIONS)
    assert consistency.ok, consistency.issues
    clock.append(time.perf_counter())
    for picture in (result.image, result.noise, result.weight, result.coverage):
        fits_image.save(picture, folder / f"mosaic-{picture.kind}.fits")
    clock.append(time.perf_counter())
    seconds = dict(zip(("coadd and validate", "write"), np.diff(clock).tolist(), strict=True))
    parts = ", ".join(f"{what} {value:.1f}" for what, value in seconds.items())
    report(
        f"{len(files)} tiles, files to files",
        "4 s a tile",
        f"{(clock[-1] - clock[0]) / len(files):.2f} s a tile ({parts} s);"
        f" {(time.process_time() - busy) / len(files):.2f} s a tile on one core",
    )
    return result


def add_one(files: Sequence[TileFiles], folder: Path, at_once: MosaicResult) -> None:
    """Forget one of the resampled tiles, as if it had come late, and make the mosaic again."""
    cache = TileCache(folder / "placed", OPTIONS.cache_gb)
    max(cache.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns).unlink()
    started, busy = time.perf_counter(), time.process_time()
    again = build(files, OPTIONS, "benchmark", cache=cache)
    took, busy = time.perf_counter() - started, time.process_time() - busy
    reused = sum(tile.reused for tile in again.tiles)
    planes = ("image", "noise", "weight", "coverage")
    same = all(np.array_equal(getattr(again, p).data, getattr(at_once, p).data, equal_nan=True) for p in planes)
    report(
        "one tile more",
        "redoes that one alone",
        f"{took:.1f} s ({busy:.1f} on one core), {reused} of {len(files)} reused, same bits: {same}",
    )


def against_reproject(tile: Tile, others: Sequence[Tile]) -> None:
    """Time both on one tile and the window of the mosaic that it covers; then compare what they do to points."""
    print_ = footprint(tile, OPTIONS.tile_pb_limit)
    frame = choose_frame([footprint(other, OPTIONS.tile_pb_limit) for other in others])
    rotation, grid = rotation_to_tile(tile.image.center, frame), image_grid(tile.image)
    target = window_of(print_, frame).grid
    across = tile.image.beam.minor_arcsec / (3600.0 * frame.cell_deg)
    mine = resample(tile.image.data, grid, rotation, target, across=across)
    ours, taken = [], []
    for _ in range(5):
        started = time.perf_counter()
        resample(tile.image.data, grid, rotation, target, across=across)
        ours.append(time.perf_counter() - started)
    for processes in (False, 2):
        started = time.perf_counter()
        theirs = peer(tile.image, tile.image.data, frame, target, parallel=processes)
        taken.append(time.perf_counter() - started)
    both = np.isfinite(mine) & np.isfinite(theirs)
    assert np.abs(mine - theirs)[both].max() < 0.05 * np.nanmax(mine)
    report(
        f"resample {grid.nx} x {grid.ny} to {target.nx} x {target.ny}, against reproject_interp",
        "5 times faster",
        f"{taken[1] / min(ours):.1f} times against 2 processes, {taken[0] / min(ours):.1f} against one"
        f" ({min(ours):.2f} s; {taken[1]:.2f}, {taken[0]:.2f} s)",
    )
    points = replace(tile.image, data=np.zeros_like(tile.image.data))
    side = np.linspace(-0.45, 0.45, 12) * grid.nx * grid.cell
    ra, dec = from_direction_cosines(*(v.ravel() for v in np.meshgrid(side, side)), *np.radians(points.center))
    paint(points, Sky(ra, dec, np.ones(ra.size)), np.ones(ra.size), points.beam)
    shape = SkyImage(np.empty(0), frame.center, frame.cell_deg, beam=carried(points.beam, points.center, frame),
                     reference_pixel=(target.x_ref, target.y_ref))  # fmt: skip
    for who, plane in (
        ("ours", resample(points.data, grid, rotation, target, across=across)),
        ("reproject_interp", peer(points, points.data, frame, target, parallel=2)),
    ):
        height, off_x, off_y = fit_points(plane, shape, ra, dec)
        report(
            f"resampling alone, {np.isfinite(height).sum()} points, {who}",
            "0.5 %, 0.05 pixel",
            f"peaks within {100 * np.nanmax(np.abs(height - 1.0)):.3f} %,"
            f" positions within {np.nanmax(np.hypot(off_x, off_y)):.4f} pixel",
        )


def peer(image: SkyImage, data: NDArray[np.float32], frame: Frame, target: Grid, parallel: bool | int):
    grid = image_grid(image)
    return reproject_interp(
        (data, wcs_of(image.center, grid.x_ref, grid.y_ref, image.cell_deg)),
        wcs_of(frame.center, target.x_ref, target.y_ref, frame.cell_deg),
        shape_out=(target.ny, target.nx), order="bilinear", parallel=parallel, roundtrip_coords=False,
        return_footprint=False,
    )  # fmt: skip


def wcs_of(center: SkyPosition, x_ref: float, y_ref: float, cell_deg: float) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = center, [x_ref + 1, y_ref + 1], [-cell_deg, cell_deg]
    return wcs


def pixels_of(image: SkyImage, ra: NDArray[np.float64], dec: NDArray[np.float64]):
    lmn = direction_cosines(ra, dec, *np.radians(image.center))
    cell = np.radians(image.cell_deg)
    return image.center_pixel[0] - lmn[:, 0] / cell, image.center_pixel[1] + lmn[:, 1] / cell


def fit_points(plane: NDArray[np.float32], image: SkyImage, ra: NDArray[np.float64], dec: NDArray[np.float64]):
    """Fit the beam near each position: height and offsets from it in pixels."""
    shape = pixel_beam(image.beam, image.cell_deg)
    return fit_offsets(*cutouts(plane, *pixels_of(image, ra, dec), stencil(shape, 0.5, minimum=2)), shape)


def check_sources(result: MosaicResult, sky: Sky) -> None:
    """Compare isolated bright sources on the mosaic with what went in."""
    image, beam = result.image, result.image.beam
    noise = map_coordinates(result.noise.data, np.stack(pixels_of(image, sky.ra, sky.dec))[::-1], order=0, cval=np.nan)
    alone = neighbor_separation(sky.ra, sky.dec) > np.radians(4.0 * beam.major_arcsec / 3600.0)
    # Noise in units of the best: where it is below 1/0.3, the beam is above 0.3.
    use = np.flatnonzero(alone & (sky.flux > 1000.0 * noise) & (noise < np.nanmin(result.noise.data) / 0.3))
    ra, dec, flux = sky.ra[use], sky.dec[use], sky.flux[use]
    height, off_x, off_y = fit_points(image.data, image, ra, dec)
    ratio, away = height / flux, np.hypot(off_x, off_y)
    report(
        f"peaks of {use.size} sources above 1000 sigma, over the truth",
        "within 0.5 %",
        f"{100 * (np.median(ratio) - 1):+.3f} % in the middle, {100 * np.abs(ratio - 1).max():.3f} % at worst",
    )
    _, flat_x, flat_y = fit_points(image.data / result.noise.data, image, ra, dec)
    flat = np.hypot(flat_x, flat_y)
    report(
        "positions of the same",
        "within 0.05 pixel",
        f"{np.median(away):.4f} in the middle, {away.max():.4f} at worst"
        f" (image over noise: {np.median(flat):.4f}, {flat.max():.4f})",
    )


def check_noise(result: MosaicResult, sky: Sky) -> None:
    """Take the sources off and hold what is left against the noise map, square degree by square degree.

    A thousandth of a pixel is many sigma of a source above 300 sigma: the pixels of those are left out.
    """
    image, places = (replace(result.image, data=data) for data in (-result.image.data, 0.0 * result.noise.data))
    paint(image, sky, sky.flux, result.image.beam)
    paint(places, sky, (sky.flux > 300.0 * result.image.noise_jy).astype(float), result.image.beam)
    pull = np.where(places.data < 1e-3, image.data / result.noise.data, np.nan)
    side = round(1.0 / image.cell_deg)
    scatter = []
    for row in range(0, pull.shape[0] - side // 2, side):
        for column in range(0, pull.shape[1] - side // 2, side):
            part = pull[row : row + side, column : column + side]
            good = part[np.isfinite(part)]
            if good.size > 0.5 * side * side:
                scatter.append(float(good.std()))
    inside = np.mean(np.abs(np.array(scatter) - 1.0) <= 0.05)
    report(
        f"scatter of residual over noise, {len(scatter)} square degrees",
        "0.95 to 1.05 in each",
        f"{min(scatter):.3f} to {max(scatter):.3f}, {inside:.0%} inside; noise factor {result.noise_factor:.3f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=10)
    parser.add_argument("--size", type=int, default=4800)
    parser.add_argument("--ra", type=float, default=0.3, help="middle of the strip, degrees")
    parser.add_argument("--dec", type=float, default=33.2)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for the files; without it they are removed")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="mosaic-"))
    folder.mkdir(exist_ok=True)
    try:
        (folder / "small").mkdir(exist_ok=True)
        small = [write_tile(folder / "small", k, place, Sky(*np.zeros((3, 1))), 600)
                 for k, place in enumerate(centers(args.ra, args.dec, 2))]  # fmt: skip
        build(small, replace(OPTIONS, tile_pb_limit=0.0, pb_limit=0.0), "compiled")
        places = centers(args.ra, args.dec, args.tiles)
        sky = draw_sky(places, args.size, np.random.default_rng(20250115))
        files = [write_tile(folder, k, place, sky, args.size) for k, place in enumerate(places)]
        result = timed_mosaic(files, folder)
        add_one(files, folder, result)
        check_sources(result, sky)
        check_noise(result, sky)
        if not args.no_peer:
            tiles = [source.load() for source in files[:3]]
            against_reproject(tiles[0], tiles)
    finally:
        if args.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
