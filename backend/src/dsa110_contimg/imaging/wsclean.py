r"""WSClean, where it is installed, as another engine of gridding and CLEAN (Offringa et al. 2014, MNRAS 444, 606).

The program works on Measurement Sets: the visibilities that are to be imaged go into a scratch set in the folder for
temporary files, and its FITS images are read back. It gets our pixels, weights, tapers, ranges of baselines, gains,
masks, scales and thresholds; its uv cells follow the padded image as ours do. What surrounds CLEAN stays ours: bright
sources, the modulation of fainter ones and spectral indices are fitted and subtracted beforehand, and the primary beam
is the mean over the pointings.

What differs: it knows a mask of catalogue sources or one of what stands out, not both at once. It tapers and leaves
baselines out by cells of its uv grid, not by samples. Its major cycles go down by `mgain` however low the sidelobes
are. Its thresholds are in units of the noise of the whole image: its local noise takes extended sources for noise, and
crashes version 3.1 where there are several scales. It weighs those against each other by a bias of its own.
"""

import logging
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError, ImagingError
from dsa110_contimg.formats import fits_image, measurement_set
from dsa110_contimg.imaging.deconvolve import Deconvolution
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import Beam, SkyImage, Visibilities

logger = logging.getLogger(__name__)

TIME_LIMIT_S = 7200.0
Values = list[str | int | float]
FWHM_OF_SCALE = 3.0 / 16.0 * 2.354820045
"""Of WSClean's Gaussian components, over the size by which it calls them."""


class WscleanImages(NamedTuple):
    """What WSClean made."""

    dirty: NDArray[np.float32]
    psf: NDArray[np.float32]
    cleaned: Deconvolution
    beam: Beam
    image: NDArray[np.float32]
    """Restored with `beam`."""


def clean(
    vis: Visibilities,
    field: Field,
    options: ImagingOptions,
    mask: NDArray[np.bool_] | None = None,
    widths: Sequence[float] = (),
) -> WscleanImages:
    """Image and CLEAN visibilities with WSClean.

    Parameters
    ----------
    vis
        Calibrated, in Jy, without what is not to be cleaned.
    field
        The pixel grid.
    options
        Weights, CLEAN and threads.
    mask
        (n, n), pixels of catalogue sources, where they alone may hold components.
    widths
        Full widths at half maximum (pixels) of further scales of CLEAN.

    Raises
    ------
    ConfigurationError
        If WSClean is not installed.
    ImagingError
        If it fails, with what it said last.
    """
    program = installed()
    with tempfile.TemporaryDirectory(prefix="contimg_wsclean_") as name:
        folder = Path(name)
        path = measurement_set.save(folder / "scratch.ms", vis)
        told = arguments(field, options, widths)
        if mask is not None:
            pixels = SkyImage(
                mask.astype(np.float32), vis.phase_center, math.degrees(field.cell_rad), unit="", kind="mask"
            )
            told += ["-fits-mask", str(fits_image.save(pixels, folder / "mask.fits"))]
        _run([program, *told, "-name", str(folder / "w"), str(path)], vis.field_name)
        return _images(folder / "w", options)


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


def arguments(field: Field, options: ImagingOptions, widths: Sequence[float] = ()) -> list[str]:
    """Return what tells WSClean to do as the options say, the file of a mask apart.

    Raises
    ------
    ConfigurationError
        If components are to start at catalogue sources and at what stands out.
    """
    if options.mask == "both":
        raise ConfigurationError("the engine 'wsclean' knows no mask 'both': use auto or catalog, or the engine 'own'")
    weighting: Values = ["briggs", options.robust] if options.weighting == "briggs" else [options.weighting]
    settings: dict[str, Values] = {
        "size": [field.size, field.size],
        "scale": [f"{math.degrees(field.cell_rad) * 3600.0:.12g}asec"],
        "weight": weighting,
        "niter": [options.niter],
        "gain": [options.gain],
        "mgain": [options.mgain],
        "auto-threshold": [options.auto_threshold],
        "nmiter": [options.max_major],
        "wgridder-accuracy": [options.epsilon],
        "data-column": ["DATA"],
    }
    if options.mask == "auto":
        settings["auto-mask"] = [options.auto_mask]
    if widths:
        scales = ",".join(f"{width / FWHM_OF_SCALE:.4g}" for width in widths)
        settings |= {"multiscale": [], "multiscale-shape": ["gaussian"], "multiscale-scales": [f"0,{scales}"]}
    if options.taper_arcsec > 0.0:
        settings["taper-gaussian"] = [f"{options.taper_arcsec:g}asec"]
    if options.uv_min_wavelengths > 0.0:
        settings["minuv-l"] = [options.uv_min_wavelengths]
    if options.uv_max_wavelengths > 0.0:
        settings["maxuv-l"] = [options.uv_max_wavelengths]
    if options.threads:
        settings["j"] = [options.threads]
    settings |= {flag: [] for flag in ("use-wgridder", "no-small-inversion", "make-psf", "no-update-model-required")}
    return [word for name, values in settings.items() for word in (f"-{name}", *map(str, values))]


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
