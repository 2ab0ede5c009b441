"""Images as HiPS, which Aladin and other sky atlases zoom into.

reproject's writer decides which tiles an image needs, places and coarsens them. What it writes into each is computed by
`kernels.healpix`, exactly at the pixels' centers, so that right ascension 0 and the poles need no case of their own.
PNG tiles, coverage and properties are added: `hips_tiles`.

The deepest order is the coarsest whose pixels are no larger than 1/2.5 of the beam's minor axis, or than the image's
own pixels if they are larger: finer ones would show nothing more, and make four times as many tiles.

The same image makes the same bytes: the release date is the end of the data, and now only where that is not known.
"""

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray
from reproject.hips import reproject_to_hips

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import hips_tiles, moc
from dsa110_contimg.formats.previews import celestial_wcs
from dsa110_contimg.formats.scratch import discard, flush, scratch_path
from dsa110_contimg.kernels.coadd import robust_center_scatter
from dsa110_contimg.kernels.healpix import resample_tile, touches
from dsa110_contimg.kernels.resample import Grid, tangent_frame
from dsa110_contimg.kernels.sphere import from_direction_cosines
from dsa110_contimg.visibilities import SkyImage, SkyPosition

SPEED_OF_LIGHT = 299792458.0
PIXELS_PER_BEAM = 2.5
MAX_ORDER = 9
"""Tiles of pixels of 0.8"; a finer image is shown at that."""


def choose_order(image: SkyImage) -> int:
    """Return the deepest order of tiles that shows all of an image."""
    minor = 0.0 if image.beam is None else image.beam.minor_arcsec / 3600.0
    wanted = max(image.cell_deg, minor / PIXELS_PER_BEAM)
    return next((order for order in range(MAX_ORDER) if hips_tiles.pixel_deg(order) <= wanted), MAX_ORDER)


def noise_of(image: SkyImage) -> float:
    """Return the noise by which an image's tiles are colored, Jy/beam.

    Raises
    ------
    BadInputError
        If the image has no value.
    """
    if not np.isfinite(image.data).any():
        raise BadInputError(f"{image.field_name or 'the image'} has no pixel with a value: there is nothing to show")
    if image.noise_jy > 0.0:
        return image.noise_jy
    return max(float(robust_center_scatter(image.data)[1]), float(np.finfo(np.float32).tiny))


def save(image: SkyImage, folder: Path, *, identifier: str, order: int | None = None) -> Path:
    """Write an image as a HiPS, whole or not at all, in place of what has its name, and return its folder.

    Parameters
    ----------
    identifier
        What it is called: letters, digits and . _ -, such as a mosaic's id.
    order
        Deepest order of tiles; None follows the beam.

    Raises
    ------
    BadInputError
        If the image has no value.
    """
    sigma = noise_of(image)
    deepest = choose_order(image) if order is None else order
    grid, frame = plane_grid(image)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_path(folder)
    try:
        reproject_to_hips(
            (image.data, celestial_wcs(image)),
            coord_system_out="equatorial",
            reproject_function=_tile_maker(image),
            output_directory=str(scratch),
            level=deepest,
            tile_size=hips_tiles.WIDTH,
            # It would place every tile of a circle around the image, which for a strip is most of its work.
            progress_bar=lambda tiles: [tile for tile in tiles if touches(deepest, int(tile), frame, grid)],
        )
        # Its page would load a program from somebody's server.
        (scratch / "index.html").unlink()
        for path in scratch.glob("Norder*/Dir*/Npix*.fits"):
            hips_tiles.draw_tile(path, sigma)
        covered = moc.coverage(image)
        moc.save(covered, scratch / "Moc.fits")
        described = describe(image, identifier, deepest, sigma)
        hips_tiles.save_properties(scratch, described | {"moc_sky_fraction": f"{covered.sky_fraction:.6g}"})
        install(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def install(scratch: Path, folder: Path) -> None:
    """Give a finished HiPS its name, and what had it none."""
    for path in scratch.rglob("*"):
        flush(path)
    if folder.exists():
        discard(folder)
    scratch.rename(folder)
    flush(folder.parent)


def plane_grid(image: SkyImage) -> tuple[Grid, NDArray[np.float64]]:
    """Return an image's grid, and the frame of its reference position, as `kernels.healpix` takes them."""
    ny, nx = image.data.shape
    grid = Grid(ny, nx, *image.center_pixel, float(np.radians(image.cell_deg)))
    return grid, tangent_frame(*np.radians(image.center))


def _middle(image: SkyImage) -> SkyPosition:
    """Return the position of the middle of an image, which need not be its reference position."""
    (x_ref, y_ref), (ny, nx) = image.center_pixel, image.data.shape
    cell = np.radians(image.cell_deg)
    east, north = (x_ref - 0.5 * (nx - 1)) * cell, (0.5 * (ny - 1) - y_ref) * cell
    ra, dec = from_direction_cosines(east, north, *np.radians(image.center))
    return SkyPosition(float(np.degrees(ra)), float(np.degrees(dec)))


def _tile_maker(image: SkyImage) -> Any:  # noqa: ANN401 - what reproject takes for a reprojection
    data = np.ascontiguousarray(image.data, np.float32)
    grid, frame = plane_grid(image)

    # A tile on the edge of the map's projection is asked for twice in a row.
    @functools.lru_cache(maxsize=1)
    def values(order: int, tile: int, width: int) -> NDArray[np.float32]:
        return resample_tile(data, grid, frame, order, tile, width)

    def make(_image: object, header: fits.Header) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a tile, told by its header, and where it has values."""
        made = values(int(header["ORDER"]), int(header["NPIX"]), int(header["NAXIS1"]))
        return made.copy(), np.isfinite(made).astype(np.float32)

    return make


def describe(image: SkyImage, identifier: str, order: int, sigma: float) -> dict[str, str | float | int]:
    """Return the properties of an image's HiPS; what is not known is left out."""
    low, high = -hips_tiles.LOW_SIGMA * sigma, hips_tiles.HIGH_SIGMA * sigma
    middle = _middle(image)
    released = Time(image.end_mjd, format="mjd", scale="utc") if np.isfinite(image.end_mjd) else Time.now()
    told: dict[str, str | float | int] = {
        "creator_did": f"ivo://dsa110.contimg/P/{identifier}",
        "obs_title": identifier,
        "obs_regime": "Radio",
        "dataproduct_type": "image",
        "hips_version": "1.4",
        "hips_builder": "dsa110-contimg, astropy/reproject",
        "hips_frame": "equatorial",
        "hips_order": order,
        "hips_order_min": 0,
        "hips_tile_width": hips_tiles.WIDTH,
        "hips_tile_format": "png fits",
        "hips_status": "private master clonable",
        "hips_pixel_bitpix": -32,
        "hips_pixel_cut": f"{low:.6g} {high:.6g}",
        "hips_initial_ra": f"{middle.ra_deg:.6f}",
        "hips_initial_dec": f"{middle.dec_deg:.6f}",
        "hips_initial_fov": f"{min(1.1 * max(image.data.shape) * image.cell_deg, 180.0):.4g}",
        "s_pixel_scale": f"{hips_tiles.pixel_deg(order):.6g}",
        "data_pixel_bitpix": -32,
        "hips_release_date": f"{released.isot[:16]}Z",
    }
    if np.isfinite(image.end_mjd):
        told |= {"t_min": f"{image.start_mjd:.6f}", "t_max": f"{image.end_mjd:.6f}"}
    if np.isfinite(image.freq_hz):
        half = 0.5 * image.bandwidth_hz if np.isfinite(image.bandwidth_hz) else 0.0
        told["em_min"] = f"{SPEED_OF_LIGHT / (image.freq_hz + half):.6g}"
        told["em_max"] = f"{SPEED_OF_LIGHT / (image.freq_hz - half):.6g}"
    return told
