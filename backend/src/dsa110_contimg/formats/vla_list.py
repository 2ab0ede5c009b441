"""The VLA calibrator list, as NRAO publishes it in plain text.

    0003-174   J2000  T 00h03m21.9969s   -17d27'11.781"     May01  3C1
    0000-177   B1950  T 00h00m48.4200s   -17d43'54.000"
    BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
     90cm    P  X S S S          7                        7

A source is an entry of two epochs and a line for each band. The letter behind the equinox is the accuracy of the
position: A better than 0.002", B 0.01", C 0.15", T worse. A band has a code for each array configuration: P (below
3 % amplitude closure errors), S (3-10 %), W (suitable, calibrate phases only), C (confused), X (do not use), ? (not
known). UVMIN and UVMAX (kilowavelengths) bound the baselines on which the source is a point.

A band's frequency is the middle of the range over which the VLA's flux history quotes it. Lines that cannot be used
are returned with the reason; a band whose flux is not known (? or 0) is one of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dsa110_contimg.errors import BadInputError

BAND_FREQ_GHZ = {"P": 0.326, "L": 1.45, "C": 4.86, "X": 8.46, "U": 14.94, "K": 22.46, "Q": 43.34}
POSITION_ERROR_ARCSEC = {"A": 0.002, "B": 0.01, "C": 0.15}
"""Upper limits; a position of code T is worse than 0.15"."""

_ENTRY = re.compile(r"\d{4}[+-]\d{2,4}\s|.*\s(J2000|B1950)\s")
_HEAD = re.compile(
    r"(?P<name>\d{4}[+-]\d{2,4})\s+(?P<equinox>J2000|B1950)\s+(?P<code>[ABCT])\s+"
    r"(?P<hours>\d\d)h(?P<minutes>\d\d)m(?P<seconds>\d\d(?:\.\d*)?)s\s+"
    r"(?P<sign>[+-]?)(?P<degrees>\d\d)d(?P<arcmin>\d\d)'(?P<arcsec>\d\d(?:\.\d*)?)(?:\"|'')?(?P<rest>.*)"
)
_BAND = re.compile(
    r"\s*[\d.]+cm\s+(?P<band>[A-Z])\s+(?P<codes>[PSWCX?](?: +[PSWCX?]){3})\s+(?P<flux>[\d.]+|\?)(?P<limits>.*)",
    re.IGNORECASE,
)
_DATE = re.compile(r"[A-Z][a-z]{2}\d\d")
_BAND_LINE = re.compile(r"\s*[\d.]+\s*cm\b")
_HEADING = re.compile(r"IAU NAME|BAND\s|[-=]{5,}")
# Columns between the first code and the end of a limit's last digit: UVMIN ends at 30 to 32, UVMAX at 42 to 44.
_LIMIT_SPLIT = 37
_SAME_POSITION_DEG = 1.0 / 3600.0


@dataclass(frozen=True)
class VLABand:
    """What the list says of a source in one band."""

    band: str
    """P, L, C, X, U, K or Q."""
    codes: str
    """Four letters, for the configurations A, B, C and D."""
    flux_jy: float
    uv_min_klambda: float | None
    uv_max_klambda: float | None

    @property
    def frequency_ghz(self) -> float:
        """The middle of the band."""
        return BAND_FREQ_GHZ[self.band]


@dataclass(frozen=True)
class VLASource:
    """A calibrator of the list; ICRS degrees (the list's J2000)."""

    name: str
    ra_deg: float
    dec_deg: float
    position_code: str
    aliases: tuple[str, ...] = ()
    """Its B1950 name and others."""
    bands: tuple[VLABand, ...] = ()

    def band(self, letter: str) -> VLABand | None:
        """Return what is said of one band, or None."""
        return next((band for band in self.bands if band.band == letter), None)


@dataclass(frozen=True)
class BadLine:
    """A line that could not be used."""

    line: int
    reason: str


@dataclass(frozen=True)
class VLAList:
    """The sources of a list, by name, and the lines that could not be used."""

    sources: tuple[VLASource, ...]
    bad_lines: tuple[BadLine, ...]


class _Reader:
    """What has been read so far; bands belong to the last J2000 line, unless that was bad."""

    def __init__(self) -> None:
        self.sources: list[VLASource] = []
        self.bad_lines: list[BadLine] = []
        self.inside = False

    def read(self, number: int, line: str) -> None:
        if not line.strip() or _HEADING.match(line):
            return
        if _BAND_LINE.match(line):
            if self.inside:
                self._band(number, line)
        elif _ENTRY.match(line):
            self._head(number, line)
        else:
            self._refuse(number, "neither a source nor a band")

    def _refuse(self, number: int, reason: str) -> None:
        self.bad_lines.append(BadLine(number, reason))

    def _head(self, number: int, line: str) -> None:
        match = _HEAD.fullmatch(line.rstrip())
        position = None if match is None else _position(match)
        if match is None or position is None:
            self.inside = self.inside and "B1950" in line
            self._refuse(number, "not a source: name, equinox, position code, RA and declination are needed")
        elif match["equinox"] == "J2000":
            self.inside = True
            aliases = tuple(word for word in match["rest"].split() if not _DATE.fullmatch(word))
            self.sources.append(VLASource(match["name"], *position, match["code"], aliases))
        elif self.inside:
            self.sources[-1] = replace(self.sources[-1], aliases=(match["name"], *self.sources[-1].aliases))

    def _band(self, number: int, line: str) -> None:
        match = _BAND.fullmatch(line.rstrip())
        if match is None or match["band"].upper() not in BAND_FREQ_GHZ:
            self._refuse(number, "not a band: its letter, four codes and a flux are needed")
        elif not match["flux"].strip("?0."):
            self._refuse(number, f"the flux of band {match['band']} is not known ({match['flux']})")
        elif any(match["band"].upper() == band.band for band in self.sources[-1].bands):
            self._refuse(number, f"{self.sources[-1].name} has this band already")
        else:
            self._add_band(number, match)

    def _add_band(self, number: int, match: re.Match[str]) -> None:
        limits: dict[bool, float] = {}
        try:
            flux = float(match["flux"])
            for limit in re.finditer(r"\d*\.?\d+", match["limits"]):
                limits[match.start("limits") + limit.end() - match.start("codes") > _LIMIT_SPLIT] = float(limit[0])
        except ValueError:
            self._refuse(number, f"the flux {match['flux']} is not a number")
            return
        codes = "".join(match["codes"].upper().split())
        band = VLABand(match["band"].upper(), codes, flux, limits.get(False), limits.get(True))
        self.sources[-1] = replace(self.sources[-1], bands=(*self.sources[-1].bands, band))


def load(path: Path) -> VLAList:
    """Read a list.

    Raises
    ------
    BadInputError
        If the file cannot be read, or names no calibrator at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"VLA list {path} cannot be read as text ({error}): check the path and the file") from error
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        reader.read(number, line)
    if not reader.sources:
        raise BadInputError(f"{path} names no calibrator: give the VLA calibrator list in plain text")
    return VLAList(tuple(_named_once(reader.sources)), tuple(reader.bad_lines))


def _position(match: re.Match[str]) -> tuple[float, float] | None:
    """Return right ascension and declination (deg), or None if a part is out of its range."""
    hours, minutes, seconds = (float(match[part]) for part in ("hours", "minutes", "seconds"))
    degrees, arcmin, arcsec = (float(match[part]) for part in ("degrees", "arcmin", "arcsec"))
    ra_deg = 15.0 * (hours + minutes / 60.0 + seconds / 3600.0)
    dec_deg = degrees + arcmin / 60.0 + arcsec / 3600.0
    if max(minutes, seconds, arcmin, arcsec) >= 60.0 or ra_deg >= 360.0 or dec_deg > 90.0:
        return None
    return ra_deg, -dec_deg if match["sign"] == "-" else dec_deg


def _named_once(sources: list[VLASource]) -> Iterator[VLASource]:
    """Yield each source once: two entries of one place are one source, two places of one name get letters."""
    places: dict[str, list[VLASource]] = {}
    for source in sources:
        known = places.setdefault(source.name, [])
        same = next((i for i, other in enumerate(known) if _same_place(source, other)), None)
        if same is None:
            known.append(source)
        else:
            known[same] = _merged(known[same], source)
    for name, known in places.items():
        for i, source in enumerate(known):
            yield source if i == 0 else replace(source, name=f"{name}{chr(ord('a') + i)}")


def _same_place(one: VLASource, other: VLASource) -> bool:
    return max(abs(one.ra_deg - other.ra_deg), abs(one.dec_deg - other.dec_deg)) < _SAME_POSITION_DEG


def _merged(one: VLASource, other: VLASource) -> VLASource:
    """Return one source with the better position and the bands of both."""
    best = min(one, other, key=lambda source: source.position_code)
    bands = one.bands + tuple(band for band in other.bands if one.band(band.band) is None)
    return replace(best, bands=bands, aliases=tuple(dict.fromkeys(one.aliases + other.aliases)))
