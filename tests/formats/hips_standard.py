"""What the standard asks of a HiPS of images (IVOA HiPS 1.0, 4.1 to 4.4), apart from the package's own code."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.wcs import WCS
from astropy_healpix import HEALPix
from mocpy import MOC
from PIL import Image

REQUIRED = {
    "creator_did": r"ivo://[\w.-]+/\S+",
    "obs_title": r".+",
    "dataproduct_type": r"image",
    "hips_version": r"1\.4",
    "hips_release_date": r"\d{4}-\d\d-\d\dT\d\d:\d\dZ",
    "hips_status": r"(private|public) (master|mirror|partial) (clonable|unclonable|clonableOnce)",
    "hips_tile_format": r"(png|jpeg|fits)( (png|jpeg|fits))*",
    "hips_order": r"\d+",
    "hips_frame": r"equatorial|galactic|ecliptic",
}
OPTIONAL = {
    "hips_tile_width": r"\d+",
    "hips_order_min": r"\d+",
    "hips_pixel_bitpix": r"-64|-32|8|16|32|64",
    "data_pixel_bitpix": r"-64|-32|8|16|32|64",
    "obs_regime": r"Radio|Millimeter|Infrared|Optical|UV|EUV|X-ray|Gamma-ray",
}
NUMBERS = (
    *("t_min", "t_max", "em_min", "em_max", "s_pixel_scale", "moc_sky_fraction"),
    *("hips_initial_ra", "hips_initial_dec", "hips_initial_fov"),
)


def violations(folder: Path) -> list[str]:
    """Return what a HiPS does against the standard, a sentence each."""
    told = list(_lines(folder))
    properties = _properties(folder)
    told += _keywords(properties)
    if told:
        return told
    return [*_tiles(folder, properties), *_coverage(folder, properties)]


def _lines(folder: Path) -> Iterator[str]:
    if not (folder / "properties").is_file():
        yield "there is no file named properties"
        return
    for line in (folder / "properties").read_text(encoding="utf-8").split("\n"):
        if line and not line.startswith("#") and not re.fullmatch(r"[^\s=]+ *= *\S.*", line):
            yield f"{line!r} is no line of properties"


def _properties(folder: Path) -> dict[str, str]:
    path = folder / "properties"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def _keywords(told: dict[str, str]) -> Iterator[str]:
    for key, pattern in (REQUIRED | OPTIONAL).items():
        if key in told and not re.fullmatch(pattern, told[key]):
            yield f"{key} = {told[key]} is not as the standard has it"
        elif key in REQUIRED and key not in told:
            yield f"{key} is missing"
    numbers = {key: float(told[key]) for key in NUMBERS if key in told}
    for low, high in (("t_min", "t_max"), ("em_min", "em_max")):
        if low in numbers and not numbers[low] <= numbers[high]:
            yield f"{low} is above {high}"
    if not 0.0 < numbers.get("moc_sky_fraction", 0.5) <= 1.0:
        yield "moc_sky_fraction is no fraction"
    cuts = [float(word) for word in told.get("hips_pixel_cut", "0 1").split()]
    if len(cuts) != 2 or not cuts[0] < cuts[1]:
        yield "hips_pixel_cut is no range"


def _tiles(folder: Path, told: dict[str, str]) -> Iterator[str]:
    deepest, width = int(told["hips_order"]), int(told.get("hips_tile_width", "512"))
    endings = [word.replace("jpeg", "jpg") for word in told["hips_tile_format"].split()]
    orders = sorted(int(path.name.removeprefix("Norder")) for path in folder.glob("Norder*"))
    if orders != list(range(int(told.get("hips_order_min", "0")), deepest + 1)):
        yield f"there are the orders {orders}, not those up to {deepest}"
    held = {order: {ending: _numbers(folder, order, ending) for ending in endings} for order in orders}
    for order, by_ending in held.items():
        numbers = by_ending[endings[0]]
        if any(found != numbers for found in by_ending.values()):
            yield f"order {order} has not the same tiles in every format"
        if not numbers or not numbers <= set(range(12 * 4**order)):
            yield f"order {order} has tiles {sorted(numbers)[:3]}"
        if order > orders[0] and {number // 4 for number in numbers} != held[order - 1][endings[0]]:
            yield f"the tiles of order {order - 1} are not those above order {order}"
        for number in sorted(numbers):
            yield from _tile(_path(folder, order, number), order, number, (width, int(told["hips_pixel_bitpix"])))
    strays = {path.name for path in folder.glob("Norder*/Dir*/*")} - {
        f"Npix{number}.{ending}" for found in held.values() for ending in found for number in found[ending]
    }
    if strays:
        yield f"{sorted(strays)[:3]} are no tiles, or lie in a folder of another number"


def _path(folder: Path, order: int, number: int) -> Path:
    return folder / f"Norder{order}" / f"Dir{number // 10000 * 10000}" / f"Npix{number}"


def _numbers(folder: Path, order: int, ending: str) -> set[int]:
    found = (int(path.stem.removeprefix("Npix")) for path in folder.glob(f"Norder{order}/Dir*/Npix*.{ending}"))
    return {number for number in found if _path(folder, order, number).with_suffix(f".{ending}").is_file()}


def _tile(path: Path, order: int, number: int, form: tuple[int, int]) -> Iterator[str]:
    """Look at one tile: its size, and whether its own WCS is where HEALPix has its pixels."""
    width, bitpix = form
    if path.with_suffix(".png").is_file():
        with Image.open(path.with_suffix(".png")) as picture:
            if picture.size != (width, width):
                yield f"{path.name}.png is of size {picture.size}"
    if not path.with_suffix(".fits").is_file():
        return
    header = fits.getheader(path.with_suffix(".fits"))
    if (header["NAXIS1"], header["NAXIS2"], header["BITPIX"]) != (width, width, bitpix):
        yield f"{path.name}.fits is not {width} x {width} of {bitpix} bits"
        return
    bits = width.bit_length() - 1
    healpix = HEALPix(nside=1 << order + bits, order="nested")
    for column, row in ((3, 5), (width - 2, width // 3)):
        cell = number << 2 * bits
        for bit in range(bits):
            cell |= ((width - 1 - row) >> bit & 1) << 2 * bit | (column >> bit & 1) << 2 * bit + 1
        lon, lat = healpix.healpix_to_lonlat(cell)
        ra, dec = WCS(header).wcs_pix2world(column, row, 0)
        away = np.hypot((ra - lon.to_value(units.deg) + 180.0) % 360.0 - 180.0, dec - lat.to_value(units.deg))
        if away * 3600.0 > 0.01 * 3600.0 * math.degrees(math.sqrt(math.pi / 3.0)) / 2 ** (order + bits):
            yield f"{path.name}.fits lies {away * 3600.0:.2f} arcsec from where its number has it"


def _coverage(folder: Path, told: dict[str, str]) -> Iterator[str]:
    """Hold Moc.fits against the tiles of the deepest order."""
    if not (folder / "Moc.fits").is_file():
        yield "there is no Moc.fits"
        return
    header, covered = fits.getheader(folder / "Moc.fits", 1), MOC.load(str(folder / "Moc.fits"), format="fits")
    if (header["PIXTYPE"], header["ORDERING"], header["COORDSYS"]) != ("HEALPIX", "NUNIQ", "C"):
        yield "Moc.fits is not as MOC 1.1 has it"
    if abs(covered.sky_fraction - float(told["moc_sky_fraction"])) > 1e-4 * covered.sky_fraction:
        yield f"moc_sky_fraction is {told['moc_sky_fraction']}, of Moc.fits {covered.sky_fraction:.6g}"
    order = int(told["hips_order"])
    ending = told["hips_tile_format"].split()[0].replace("jpeg", "jpg")
    shown = MOC.from_healpix_cells(np.array(sorted(_numbers(folder, order, ending)), np.uint64), order, order)
    # MOC.difference of two maps that share nothing is empty (mocpy 0.21).
    if not covered.intersection(shown.complement()).empty():
        yield "Moc.fits covers what no tile shows"
    if not shown.intersection(covered.degrade_to_order(order).complement()).empty():
        yield "a tile lies outside of Moc.fits"
