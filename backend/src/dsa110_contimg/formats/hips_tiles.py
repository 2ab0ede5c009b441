"""The folders of a HiPS: where its tiles lie, how they are coarsened, colored and described.

    <folder>/properties                    what it is, a line `key = value` each
    <folder>/Moc.fits                      where it has values
    <folder>/Norder<k>/Dir<d>/Npix<n>.fits the values of tile n of order k (float32, NaN where there are none)
    <folder>/Norder<k>/Dir<d>/Npix<n>.png  its picture, transparent there; the first row is the top

A pixel of a tile of order k − 1 is the mean of four of order k, of those with a value. Pictures show −3 to 500 times
the noise on an asinh scale, linear within two, in one scale for all tiles. Standard: HiPS 1.0 (2017).
"""

import functools
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

WIDTH = 512
ALLSKY_WIDTH = 64
COLORMAP = "inferno"
LOW_SIGMA, HIGH_SIGMA, SOFT_SIGMA = 3.0, 500.0, 2.0
_PER_FOLDER = 10_000


def tile_path(folder: Path, order: int, tile: int, suffix: str = "fits") -> Path:
    """Return where a tile lies."""
    return folder / f"Norder{order}" / f"Dir{tile // _PER_FOLDER * _PER_FOLDER}" / f"Npix{tile}.{suffix}"


def tiles_of(folder: Path, order: int) -> list[int]:
    """Return the tiles of an order that have values, ascending."""
    return sorted(int(path.stem.removeprefix("Npix")) for path in folder.glob(f"Norder{order}/Dir*/Npix*.fits"))


def pixel_deg(order: int) -> float:
    """Return the size of the pixels of an order's tiles: the root of their area."""
    return float(np.degrees(np.sqrt(np.pi / 3.0)) / 2**order / WIDTH)


def load_tile(path: Path) -> tuple[NDArray[np.float32], fits.Header]:
    """Return the values of a tile, the first row at the bottom, and its header."""
    with fits.open(path, memmap=False) as hdus:
        return np.asarray(hdus[0].data, np.float32), hdus[0].header.copy()


def save_tile(path: Path, values: NDArray[np.float32], header: fits.Header) -> None:
    """Write a tile in place of what has its name; other names of that file keep what it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    hdu = fits.PrimaryHDU(values.astype(np.float32), header)
    # No time of writing: the same pixels make the same bytes.
    hdu.add_checksum(when="HDU checksum", checksum_keyword="CHECKSUM", datasum_keyword="DATASUM")
    hdu.writeto(path, output_verify="exception")


def coarsen(folder: Path, order: int, tiles: Iterable[int], headers: Mapping[tuple[int, int], Path]) -> None:
    """Make the tiles above those that changed, all the way up; one that is left without any below it goes.

    Parameters
    ----------
    order, tiles
        What changed.
    headers
        By (order, tile), a file whose header places a tile that the folder has not.
    """
    for above in range(order - 1, -1, -1):
        tiles = sorted({tile // 4 for tile in tiles})
        for tile in tiles:
            path = tile_path(folder, above, tile)
            children = [tile_path(folder, above + 1, 4 * tile + child) for child in range(4)]
            if not any(child.exists() for child in children):
                path.unlink(missing_ok=True)
                path.with_suffix(".png").unlink(missing_ok=True)
                continue
            save_tile(path, _parent(children), fits.getheader(path if path.exists() else headers[above, tile]))


def _parent(children: Sequence[Path]) -> NDArray[np.float32]:
    """Return the values of the tile above four; the nested order goes down, then to the right."""
    values = np.full((WIDTH, WIDTH), np.nan, np.float32)
    half = WIDTH // 2
    for child, path in enumerate(children):
        if not path.exists():
            continue
        part = load_tile(path)[0].reshape(half, 2, half, 2)
        row, column = (0 if child & 1 else half), (half if child & 2 else 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            values[row : row + half, column : column + half] = np.nanmean(part, axis=(1, 3))
    return values


def draw_tile(path: Path, sigma: float) -> None:
    """Draw the picture of a tile beside its values, for a noise of sigma."""
    values, _ = load_tile(path)
    scaled = np.arcsinh(values / (SOFT_SIGMA * sigma))
    low, high = np.arcsinh([-LOW_SIGMA / SOFT_SIGMA, HIGH_SIGMA / SOFT_SIGMA])
    known = np.isfinite(scaled)
    index = np.zeros(values.shape, np.uint8)
    index[known] = 1 + np.clip((scaled[known] - low) / (high - low) * 254.0, 0.0, 254.0).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(index[::-1]), "P")
    colors = np.round(255.0 * colormaps[COLORMAP](np.linspace(0.0, 1.0, 255))[:, :3]).astype(np.uint8)
    picture.putpalette(np.concatenate([np.zeros((1, 3), np.uint8), colors]).tobytes())
    target = path.with_suffix(".png")
    target.unlink(missing_ok=True)
    picture.save(target, transparency=0)


def draw_allsky(folder: Path, order: int = 3) -> bytes:
    """Return the small pictures of all tiles of an order in one PNG, which atlases load first.

    Each is 64 pixels wide, and they lie in rows of the root of their number, the first tile at the top left.
    """
    number = 12 * 4**order
    columns = int(np.sqrt(number))
    size = (ALLSKY_WIDTH * columns, ALLSKY_WIDTH * -(-number // columns))
    whole = Image.new("RGBA", size)
    for tile in tiles_of(folder, order):
        path = tile_path(folder, order, tile, "png")
        # A link that leads out of the folder is no tile of it.
        if path.exists() and path.resolve().is_relative_to(folder.resolve()):
            with Image.open(path) as picture:
                small = picture.convert("RGBA").resize((ALLSKY_WIDTH, ALLSKY_WIDTH))
            row, column = divmod(tile, columns)
            whole.paste(small, (ALLSKY_WIDTH * column, ALLSKY_WIDTH * row))
    content = io.BytesIO()
    whole.save(content, format="PNG", optimize=False)
    return content.getvalue()


@functools.cache
def blank_tile() -> bytes:
    """Return the picture of a tile without any value."""
    content = io.BytesIO()
    Image.new("P", (WIDTH, WIDTH)).save(content, format="PNG", transparency=0)
    return content.getvalue()


def save_properties(folder: Path, properties: Mapping[str, str | float | int]) -> None:
    """Write what a HiPS is; ASCII, a line each."""
    lines = [f"{key:21s}= {value}\n" for key, value in properties.items()]
    path = folder / "properties"
    path.unlink(missing_ok=True)
    path.write_text("".join(lines), encoding="ascii", errors="backslashreplace")


def load_properties(folder: Path) -> dict[str, str]:
    """Return what a HiPS says that it is."""
    lines = (folder / "properties").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}
