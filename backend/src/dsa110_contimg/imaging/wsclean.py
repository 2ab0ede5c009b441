r"""WSClean, where it is installed, as another engine of gridding and CLEAN (Offringa et al. 2014, MNRAS 444, 606).

The program works on Measurement Sets: the visibilities that are to be imaged go into a scratch set in the folder for
temporary files, and its FITS images are read back. It gets our pixels, weights, gains, masks and thresholds; its uv
cells follow the padded image as ours do. What surrounds CLEAN stays ours: bright sources are subtracted beforehand and
restored, and the primary beam is the mean over the pointings.
"""

import logging
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError, ImagingError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.imaging.deconvolve import Deconvolution
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import Beam, SkyModel, Visibilities, predict

logger = logging.getLogger(__name__)

TIME_LIMIT_S = 7200.0
ROWS_AT_ONCE = 8192


class WscleanImages(NamedTuple):
    """What WSClean made."""

    dirty: NDArray[np.float32]
    psf: NDArray[np.float32]
    cleaned: Deconvolution
    beam: Beam
    image: NDArray[np.float32]
    """Restored with `beam`."""


def clean(vis: Visibilities, field: Field, options: ImagingOptions, bright: SkyModel | None = None) -> WscleanImages:
    """Image and CLEAN visibilities with WSClean.

    Parameters
    ----------
    vis
        Calibrated, in Jy; not changed.
    field
        The pixel grid.
    options
        Weights, CLEAN and threads.
    bright
        Sources to take off the visibilities first.

    Raises
    ------
    ConfigurationError
        If WSClean is not installed.
    ImagingError
        If it fails, with what it said last.
    """
    program = installed()
    with tempfile.TemporaryDirectory(prefix="contimg_wsclean_") as folder:
        without = vis if bright is None else replace(vis, vis=_without(vis, bright, smeared=options.smearing))
        path = measurement_set.save(Path(folder) / "scratch.ms", without)
        _run([program, *arguments(field, options), "-name", str(Path(folder) / "w"), str(path)], vis.field_name)
        return _images(Path(folder) / "w", options)


def installed() -> str:
    """Return where the program is.

    Raises
    ------
    ConfigurationError
        If it is not installed.
    """
    program = shutil.which("wsclean")
    if program is None:
        raise ConfigurationError("wsclean is not installed: install it, or image with the engine 'own'")
    return program


def arguments(field: Field, options: ImagingOptions) -> list[str]:
    """Return what tells WSClean to do as the options say; the scales of a multi-scale CLEAN are its own.

    Raises
    ------
    ConfigurationError
        If the mask is to come from the catalog.
    """
    if options.mask != "auto":
        raise ConfigurationError(f"the engine 'wsclean' knows no mask {options.mask!r}: use auto, or the engine 'own'")
    weighting: list[str | int | float] = (
        ["briggs", options.robust] if options.weighting == "briggs" else [options.weighting]
    )
    settings: dict[str, list[str | int | float]] = {
        "size": [field.size, field.size],
        "scale": [f"{np.degrees(field.cell_rad) * 3600.0:.12g}asec"],
        "weight": weighting,
        "niter": [options.niter],
        "gain": [options.gain],
        "mgain": [options.mgain],
        "auto-mask": [options.auto_mask],
        "auto-threshold": [options.auto_threshold],
        "nmiter": [options.max_major],
        "wgridder-accuracy": [options.epsilon],
        "data-column": ["DATA"],
    }
    if options.taper_arcsec > 0.0:
        settings["taper-gaussian"] = [f"{options.taper_arcsec:g}asec"]
    if options.uv_min_wavelengths > 0.0:
        settings["minuv-l"] = [options.uv_min_wavelengths]
    if options.uv_max_wavelengths > 0.0:
        settings["maxuv-l"] = [options.uv_max_wavelengths]
    words = [word for name, values in settings.items() for word in (f"-{name}", *map(str, values))]
    threads = ["-j", str(options.threads)] if options.threads else []
    scales = ["-multiscale"] if options.scales else []
    return [*words, *threads, *scales, "-use-wgridder", "-no-small-inversion", "-make-psf", "-no-update-model-required"]


def _without(vis: Visibilities, bright: SkyModel, *, smeared: bool) -> NDArray[np.complex64]:
    """Return the visibilities less a sky model behind the drifting beam."""
    left = vis.vis.copy()
    for first in range(0, len(left), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        seen = replace(vis, uvw_m=vis.uvw_m[rows], time_mjd=vis.time_mjd[rows])
        part = predict(seen, bright, smeared=smeared)
        left[rows] -= part[:, :, None]
    return left


def _run(command: list[str], name: str) -> None:
    logger.info("%s", " ".join(command))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise ImagingError(f"wsclean did not end within {TIME_LIMIT_S:.0f} s on {name}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ImagingError(f"wsclean failed on {name}: {' '.join(last) or done.returncode}")


def _images(prefix: Path, options: ImagingOptions) -> WscleanImages:
    """Read what a run left; without components it writes no model and no residual."""
    restored, header = _plane(Path(f"{prefix}-image.fits"))
    dirty, psf = (_plane(Path(f"{prefix}-{kind}.fits"))[0] for kind in ("dirty", "psf"))
    model, residual = np.zeros_like(restored), dirty
    if Path(f"{prefix}-model.fits").exists():
        model, residual = (_plane(Path(f"{prefix}-{kind}.fits"))[0] for kind in ("model", "residual"))
    iterations, cycles = int(header.get("WSCMINOR", 0)), int(header.get("WSCMAJOR", 0))
    done = iterations < options.niter and cycles < options.max_major
    beam = Beam(3600.0 * float(header["BMAJ"]), 3600.0 * float(header["BMIN"]), float(header["BPA"]) % 180.0)
    return WscleanImages(dirty, psf, Deconvolution(model, residual, iterations, cycles, 0, done), beam, restored)


def _plane(path: Path) -> tuple[NDArray[np.float32], fits.Header]:
    try:
        with fits.open(path) as units:
            plane = np.array(units[0].data, np.float32).squeeze()
            return plane, units[0].header
    except OSError as error:
        raise ImagingError(f"wsclean left no {path.name}: run it by hand on the set to see why") from error
