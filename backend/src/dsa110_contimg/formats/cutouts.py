r"""Parts of images around a position, and small pictures of both, made without reading what is not shown.

A position lies at the pixel (counted from zero) that its SIN direction cosines (l, m) from the reference position say,

    x = x_ref − l / Δ,    y = y_ref + m / Δ,    Δ the pixel size in radians,

which needs no case of its own at right ascension 0 or at a pole. A cutout keeps the pixels as they are, and the
reference position: what lies outside the image is NaN. In pictures, which have the scale and the colors of
`previews`, NaN is transparent.
"""

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.formats.previews import COLORMAP, reduce_blocks
from dsa110_contimg.kernels.coadd import robust_center_scatter
from dsa110_contimg.kernels.sphere import direction_cosines
from dsa110_contimg.visibilities import SkyImage, SkyPosition

LOW_SIGMA, HIGH_SIGMA, SOFT_SIGMA = 3.0, 20.0, 2.0
"""What a picture shows at the least, below and above the middle, and where its scale turns logarithmic."""
_PALETTE = np.concatenate(
    [np.zeros((1, 3), np.uint8), np.round(255.0 * colormaps[COLORMAP](np.linspace(0.0, 1.0, 255))[:, :3])]
).astype(np.uint8)


def cutout(path: Path, position: SkyPosition, size_deg: float) -> SkyImage | None:
    """Return the square of an image around a position; None where no pixel of it has a value.

    Parameters
    ----------
    path
        A FITS image, compressed or not.
    position
        ICRS; it comes to lie on the middle pixel, to within half a pixel.
    size_deg
        Side of the square.

    Raises
    ------
    BadInputError
        If the file cannot be read, or is no image that can be placed on the sky.
    """
    whole = fits_image.describe(path)
    cell = np.radians(whole.cell_deg)
    east, north, toward = direction_cosines(*np.radians(position), *np.radians(whole.center))
    (x_ref, y_ref), (ny, nx) = whole.center_pixel, whole.data.shape
    x, y = x_ref - east / cell, y_ref + north / cell
    half = max(1, int(np.ceil(0.5 * size_deg / whole.cell_deg)))
    if toward <= 0.0 or not (-half <= x <= nx - 1 + half and -half <= y <= ny - 1 + half):
        return None
    left, bottom = round(float(x)) - half, round(float(y)) - half
    data = _window(path, bottom, left, 2 * half + 1, (ny, nx))
    if not np.isfinite(data).any():
        return None
    return replace(whole, data=data, reference_pixel=(x_ref - left, y_ref - bottom))


def pixels_across(path: Path, size_deg: float) -> int:
    """Return how many pixels wide a cutout would be."""
    return 2 * max(1, int(np.ceil(0.5 * size_deg / fits_image.describe(path).cell_deg))) + 1


def reduced(path: Path, pixels: int) -> SkyImage:
    """Return an image whose longer side is at most *pixels* long, made of blocks that keep their sources.

    Raises
    ------
    BadInputError
        As for a cutout.
    """
    whole = fits_image.describe(path)
    ny, nx = whole.data.shape
    data, step = reduce_blocks(_read(path, slice(0, ny), slice(0, nx)), max(1, -(-max(ny, nx) // pixels)))
    (x_ref, y_ref), shift = whole.center_pixel, (step - 1) / 2
    reference = ((x_ref - shift) / step, (y_ref - shift) / step)
    return replace(whole, data=data, cell_deg=whole.cell_deg * step, reference_pixel=reference)


def picture(image: SkyImage, *, magnify: int = 1) -> bytes:
    """Return an image as a PNG, north up and east left, each pixel a square of *magnify* pixels."""
    known = np.isfinite(image.data)
    index = np.zeros(image.data.shape, np.uint8)
    if known.any():
        center, sigma = robust_center_scatter(image.data)
        sigma = image.noise_jy if not sigma > 0.0 and image.noise_jy > 0.0 else max(float(sigma), 1e-30)
        high = max(float(np.max(image.data, where=known, initial=-np.inf)), center + HIGH_SIGMA * sigma)
        low_high = np.arcsinh(np.array([-LOW_SIGMA * sigma, high - center]) / (SOFT_SIGMA * sigma))
        scaled = np.arcsinh((image.data[known].astype(np.float64) - center) / (SOFT_SIGMA * sigma))
        index[known] = 1 + np.clip((scaled - low_high[0]) / np.ptp(low_high) * 254.0, 0.0, 254.0).astype(np.uint8)
    drawn = Image.fromarray(np.ascontiguousarray(np.kron(index[::-1], np.ones((magnify, magnify), np.uint8))), "P")
    drawn.putpalette(_PALETTE.tobytes())
    content = io.BytesIO()
    drawn.save(content, format="PNG", transparency=0)
    return content.getvalue()


def small(content: bytes | Path, pixels: int, quality: int = 50) -> bytes:
    """Return a picture as WebP for a page, its longer side at most *pixels* long: a tenth of the PNG's size.

    Raises
    ------
    BadInputError
        If it is no picture.
    """
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as drawn:
            shown = drawn.convert("RGBA" if "transparency" in drawn.info or "A" in drawn.getbands() else "RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInputError(f"this is no picture ({error}); make it again") from error
    shown.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    shown.save(written, format="WEBP", quality=quality, method=4)
    return written.getvalue()


def _window(path: Path, bottom: int, left: int, size: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a square of pixels, NaN outside the image."""
    data = np.full((size, size), np.nan, np.float32)
    rows, columns = (
        slice(max(first, 0), min(first + size, length)) for first, length in zip((bottom, left), shape, strict=True)
    )
    if rows.start < rows.stop and columns.start < columns.stop:
        within = (slice(rows.start - bottom, rows.stop - bottom), slice(columns.start - left, columns.stop - left))
        data[within] = _read(path, rows, columns)
    return data


def _read(path: Path, rows: slice, columns: slice) -> NDArray[np.float32]:
    """Read a part of an image's pixels; of a compressed one, only these rows are unpacked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(path, memmap=True, lazy_load_hdus=True) as hdus:
                hdu = hdus[0] if hdus[0].header["NAXIS"] else hdus[1]
                planes = (0,) * (hdu.header["NAXIS"] - 2)
                return np.array(hdu.section[(*planes, rows, columns)], np.float32)
        except (OSError, fits.VerifyError, ValueError, TypeError, KeyError, IndexError) as error:
            raise BadInputError(f"{path} is not a readable FITS image ({error}); make it again") from error
