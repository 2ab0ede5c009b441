"""Every group id, file name and product id is built and parsed here, and parsing undoes building.

group id      2025-01-15T12:30:00              start of the data, to the second (UTC)
subband       <stamp>_sb07.hdf5                stamp = a node's wall clock, seconds off
tile          <stage>/ms/science/2025-01-15/<group id>.ms
images        <group id>.img-image.fits  -image-pb.fits  -residual.fits  -beam.fits  -rms.fits  -background.fits
caltables     <group id>_kcal  _bpcal  _gcal  _gpcal  _2gcal
mosaic group  mg_<group id of its first tile>
mosaic        mosaic_2025-01-15_12-30-00[_2]    = data_registry.data_id
sky           sky_2025-01-15[_2]                = data_registry.data_id of the HiPS of all mosaics
source        NVSS J123456.7+420312            IAU form, truncated
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dsa110_contimg.telescope import mjd_to_unix

SOURCE_PATTERN = re.compile(r"(?:(\w*[^\W_])[ _]+)?J?(\d{4}(?:\d\d(?:\.\d?)?)?)([+-]\d{4}(?:\d\d)?)", re.ASCII)
BOX_PATTERN = re.compile(
    r"(?:[\w.-]*[^\W_][ _]+)?(?P<equinox>[JB]?)(?P<ra>\d{4}(?:\d\d(?:\.\d*)?)?)"
    r"(?P<sign>[+-])(?P<dec>\d{2,4}|\d{6}(?:\.\d*)?)",
    re.ASCII | re.IGNORECASE,
)
_SEPARATOR = r"(?:\s*[hmsd:°'\"]\s*|\s+)"
POSITION_PATTERN = re.compile(
    rf"(?P<ra>\d+(?:\.\d*)?|\d+{_SEPARATOR}\d+{_SEPARATOR}\d+(?:\.\d*)?)\s*[sd°]?[\s,]\s*"
    rf"(?P<dec>[+-]?\d+(?:\.\d*)?|[+-]?\d+{_SEPARATOR}\d+{_SEPARATOR}\d+(?:\.\d*)?)\s*[sd°\"]?",
    re.ASCII,
)
SUBBAND_PATTERN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)_sb(\d\d)(_incomplete)?\.hdf5")
IMAGE_SUFFIXES = {
    "image": "-image.fits",
    "pbcor": "-image-pb.fits",
    "residual": "-residual.fits",
    "beam": "-beam.fits",
    "rms": "-rms.fits",
    "background": "-background.fits",
    "psf": "-psf.fits",
    "model": "-model.fits",
    "noise": "-noise.fits",
    "dirty": "-dirty.fits",
}
MOSAIC_SUFFIXES = {
    "mosaic": ".fits",
    "noise": "-noise.fits",
    "weight": "-weight.fits",
    "coverage": "-coverage.fits",
    "preview": ".png",
    "thumbnail": "-thumb.png",
    "moc": "-moc.fits",
    "hips": "-hips",
    "qa": "-qa.png",
}
SKY_SUFFIXES = {"hips": "-hips", "weight": "-weight-hips", "moc": "-moc.fits"}
CALTABLE_SUFFIXES = {"K": "_kcal", "BP": "_bpcal", "G": "_gcal", "GP": "_gpcal", "2G": "_2gcal"}
_TILE_FILE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
    rf"(\.ms|\.img({'|'.join(map(re.escape, IMAGE_SUFFIXES.values()))})"
    rf"|({'|'.join(CALTABLE_SUFFIXES.values())})(\.\d+)?)"
)
ORDER_INDEX = {"K": 0, "BP": 1, "BA": 1, "G": 2, "GA": 2, "GP": 2, "2G": 3, "FLUX": 4}


@dataclass(frozen=True)
class Subband:
    """What a subband's file name says."""

    stamp: str
    index: int
    unfinished: bool = False


def parse_subband(path: Path) -> Subband | None:
    """Return what the name of a subband file says, or None for any other file."""
    match = SUBBAND_PATTERN.fullmatch(path.name)
    if match is None:
        return None
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return None
    return Subband(match[1], int(match[2]), match[3] is not None)


def subband_name(stamp: str, index: int, *, unfinished: bool = False) -> str:
    """Return the file name of a subband."""
    return f"{stamp}_sb{index:02d}{'_incomplete' if unfinished else ''}.hdf5"


def group_id_of(start_mjd: float) -> str:
    """Return the group id of data that start at an MJD (UTC), rounded to the second."""
    return datetime.fromtimestamp(round(mjd_to_unix(start_mjd)), tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp_unix(stamp: str) -> float:
    """Return the unix time of a group id or file stamp (UTC)."""
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


def ms_path(stage: Path, group_id: str) -> Path:
    """Return where a group's Measurement Set lives."""
    return stage / "ms" / "science" / group_id[:10] / f"{group_id}.ms"


def group_id_of_ms(path: Path) -> str:
    """Return the group id of a Measurement Set path."""
    return path.name.removesuffix(".ms")


def image_path(stage: Path, ms: Path, kind: str = "image") -> Path:
    """Return the path of one image kind of a tile."""
    return stage / "images" / f"{ms.name.removesuffix('.ms')}.img{IMAGE_SUFFIXES[kind]}"


def caltable_path(stage: Path, ms: Path, kind: str, attempt: int = 1) -> Path:
    """Return the path of a caltable solved on a tile; a second solve gets a new name, never the old one."""
    suffix = "" if attempt == 1 else f".{attempt}"
    return stage / "caltables" / f"{ms.name.removesuffix('.ms')}{CALTABLE_SUFFIXES[kind]}{suffix}"


def page_of_caltable(table: Path) -> Path:
    """Return where the page to judge a caltable by lies: beside it."""
    return table.with_name(f"{table.name}.png")


def flag_page_path(stage: Path, ms: Path) -> Path:
    """Return the path of the page on what flagging took of a tile."""
    return stage / "images" / f"{ms.name.removesuffix('.ms')}-flags.png"


def caltable_set_name(kind: str, source: str, mid_mjd: float) -> str:
    """Return a registry set name such as bp_3c286_60238."""
    return f"{kind.lower()}_{source.lower().replace(' ', '_')}_{int(mid_mjd)}"


def group_id_of_file(name: str) -> str | None:
    """Return the group id of a tile's Measurement Set, image or caltable by its file name, or None."""
    match = _TILE_FILE.fullmatch(name)
    return None if match is None else match[1]


def mosaic_group_id(first_group_id: str) -> str:
    """Return the id of the mosaic group that starts with a tile."""
    return f"mg_{first_group_id}"


def first_group_id(mosaic_group: str) -> str:
    """Return the group id of a mosaic group's first new tile."""
    return mosaic_group.removeprefix("mg_")


def mosaic_id(first_group_id: str, version: int = 1) -> str:
    """Return the mosaic id, equal to its registry data_id."""
    stem = f"mosaic_{first_group_id.replace('T', '_').replace(':', '-')}"
    return stem if version == 1 else f"{stem}_{version}"


def parse_mosaic_id(name: str) -> tuple[str, int] | None:
    """Return (first group id, version) of a mosaic id, or None."""
    match = re.fullmatch(r"mosaic_(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)(?:_(\d+))?", name)
    if match is None:
        return None
    return f"{match[1]}T{match[2]}:{match[3]}:{match[4]}", int(match[5] or 1)


def mosaic_path(stage: Path, mosaic: str, kind: str = "mosaic") -> Path:
    """Return the path of a file or folder of a mosaic, by the kinds of MOSAIC_SUFFIXES."""
    return stage / "mosaics" / f"{mosaic}{MOSAIC_SUFFIXES[kind]}"


def placed_tiles_path(stage: Path) -> Path:
    """Return the folder of the tiles that are kept on a mosaic's grid."""
    return stage / "placed_tiles"


def beside_mosaic(path: Path, kind: str) -> Path:
    """Return where a companion of a mosaic lies: in the same folder, wherever that is."""
    return path.with_name(f"{path.name.removesuffix(MOSAIC_SUFFIXES['mosaic'])}{MOSAIC_SUFFIXES[kind]}")


def sky_id(date: str, version: int = 1) -> str:
    """Return the id of the sky as all mosaics up to a date (2025-12-24) show it."""
    return f"sky_{date}" if version == 1 else f"sky_{date}_{version}"


def sky_path(stage: Path, sky: str, kind: str = "hips") -> Path:
    """Return the path of a part of it: hips or weight (folders), moc (a file)."""
    return stage / "images" / f"{sky}{SKY_SUFFIXES[kind]}"


def source_name(ra_deg: float, dec_deg: float, prefix: str = "NVSS") -> str:
    """Return the IAU name of a position, truncated as the IAU asks: NVSS J123456.7+420312."""
    tenths = int((ra_deg % 360.0) * 2400.0 + 1e-6)
    arcsec = int(abs(dec_deg) * 3600.0 + 1e-6)
    hours, minutes, seconds = tenths // 36000, tenths // 600 % 60, tenths % 600
    sign = "-" if dec_deg < 0 else "+"
    return (
        f"{prefix} J{hours:02d}{minutes:02d}{seconds // 10:02d}.{seconds % 10}"
        f"{sign}{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}"
    )


@dataclass(frozen=True)
class NamedBox:
    """The positions that a name's digits leave open: they are cut off, never rounded."""

    equinox: str
    """J, B, or '' where the name does not say."""
    ra_deg: float
    dec_deg: float
    """The middle."""
    half_ra_deg: float
    half_dec_deg: float

    @property
    def reach_deg(self) -> float:
        """Half the diagonal."""
        return math.hypot(self.half_ra_deg * math.cos(math.radians(self.dec_deg)), self.half_dec_deg)

    def holds(self, ra_deg: float, dec_deg: float, margin_deg: float) -> bool:
        """Return whether a position lies in the box or so near to it on the sky."""
        apart = abs((ra_deg - self.ra_deg + 180.0) % 360.0 - 180.0)
        across = max(apart - self.half_ra_deg, 0.0) * math.cos(math.radians(dec_deg))
        return across <= margin_deg and abs(dec_deg - self.dec_deg) <= self.half_dec_deg + margin_deg


def parse_box(spelling: str) -> NamedBox | None:
    """Return the positions that the digits of a name stand for; None for a name without.

    HHMM, HHMMSS.s of right ascension; DD, DDd (tenths of a degree), DDMM or DDMMSS.s of declination.
    """
    match = BOX_PATTERN.fullmatch(spelling.strip())
    if match is None:
        return None
    ra, dec = match["ra"], match["dec"]
    seconds = 3600.0 * int(ra[:2]) + 60.0 * int(ra[2:4]) + float(ra[4:] or 0.0)
    step_s = 60.0 if len(ra) == 4 else 10.0 ** -len(ra.partition(".")[2])
    whole, _point, fraction = dec.partition(".")
    if len(whole) == 3:
        degrees, step_deg = int(whole) / 10.0, 0.1
    else:
        degrees = int(whole[:2]) + int(whole[2:4] or 0) / 60.0 + float(dec[4:] or 0.0) / 3600.0
        step_deg = {2: 1.0, 4: 1.0 / 60.0}.get(len(whole), 10.0 ** -len(fraction) / 3600.0)
    sign = -1.0 if match["sign"] == "-" else 1.0
    if seconds >= 86400.0 or degrees > 90.0:
        return None
    middle = min(degrees + 0.5 * step_deg, 90.0)
    ra_deg = (seconds + 0.5 * step_s) / 240.0
    return NamedBox(match["equinox"].upper(), ra_deg, sign * middle, step_s / 480.0, 0.5 * step_deg)


def parse_position(spelling: str) -> tuple[float, float] | None:
    """Return right ascension and declination (deg) of a position in degrees or sexagesimal; None for anything else."""
    match = POSITION_PATTERN.fullmatch(spelling.strip())
    if match is None:
        return None
    ra, dec = match["ra"], match["dec"]
    parts = [[float(part) for part in re.findall(r"\d+(?:\.\d*)?", text)] for text in (ra, dec)]
    hours = len(parts[0]) > 1
    if hours != (len(parts[1]) > 1) or any(part >= 60.0 for numbers in parts for part in numbers[1:]):
        return None
    ra_deg, dec_deg = (sum(part / 60.0**i for i, part in enumerate(numbers)) for numbers in parts)
    ra_deg, dec_deg = ra_deg * (15.0 if hours else 1.0), -dec_deg if dec.startswith("-") else dec_deg
    return (ra_deg, dec_deg) if ra_deg <= 360.0 and abs(dec_deg) <= 90.0 else None


@dataclass(frozen=True)
class SourceDigits:
    """The catalogue and the truncated position that a spelling of a source's name tells; '' is not told."""

    prefix: str
    ra: str
    dec: str


def parse_source(spelling: str) -> SourceDigits | None:
    """Return what a spelling tells: NVSS J123456.7+420312, NVSS_J123456+420312, J1234+4203; None for other names."""
    match = SOURCE_PATTERN.fullmatch(spelling.strip())
    return None if match is None else SourceDigits(match[1] or "", match[2], match[3])
