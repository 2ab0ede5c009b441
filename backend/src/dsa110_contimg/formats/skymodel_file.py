"""Sky models as the text that WSClean and DP3 read: the format of makesourcedb, points and Gaussians.

    Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, ReferenceFrequency='1400000000.0'
    NVSS%20J0835,POINT,08:35:12.5,-00.30.00,1.25,[-0.7,0.1],true,1400000000.0

Ra is hours:minutes:seconds, Dec degrees.minutes.seconds (ICRS), I in Jy at the reference frequency (Hz), and
log10 I(f) = log10 I + Σ_k c_k log10(f/f0)^(k+1) with the c_k in brackets: the convention of `SkyModel`. Where one
source is a GAUSSIAN, three columns follow: MajorAxis and MinorAxis (arcsec) and Orientation (deg); points leave them
empty.

Writing and reading give back the same numbers to the last bit: the seconds of a position have as many digits as
that takes. The readers split a line at commas and blanks and know no quotes that hold everywhere, so what could
disturb them in a name is written as in a web address (%20 is a blank).
"""

import math
import re
from collections.abc import Iterator
from decimal import Context, Decimal
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.visibilities import SkyModel

_COLUMNS = "Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, ReferenceFrequency"
_AXES = ", MajorAxis, MinorAxis, Orientation"
_HEADER = re.compile(re.escape(f"Format = {_COLUMNS}") + rf"='(?P<freq>[^']+)'(?:{_AXES})?")
_ROW = re.compile(
    r"(?P<name>[^,\s]*),(?P<type>POINT|GAUSSIAN),(?P<ra>\d+:\d+:[\d.]+),(?P<dec>[+-]\d+\.\d+\.[\d.]+),(?P<flux>[^,]+),"
    r"\[(?P<terms>[^\]]*)\],true,(?P<freq>[^,]+)(?P<axes>,[^,]*,[^,]*,[^,]*)?"
)
_SAFE = "+-.:;()/~"
# Wide enough that the shortest decimal of a double, times 3600, and the way back are exact.
_EXACT = Context(prec=60)
_SECONDS_PER_DEG = {"ra": 240, "dec": 3600}


def save(path: Path, sky: SkyModel) -> Path:
    """Write a sky model under a name that appears when the file is whole.

    Raises
    ------
    BadInputError
        If a source has a number that is none, or lies off the sky; nothing is written then.
    """
    axes = _AXES if sky.gaussian.any() else ""
    lines = [f"Format = {_COLUMNS}='{sky.ref_freq_hz!r}'{axes}", *_rows(path, sky)]
    with replacing(path) as scratch:
        scratch.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def load(path: Path) -> SkyModel:
    """Read a sky model that `save` wrote.

    Raises
    ------
    BadInputError
        If the file is missing or is no such sky model; the sentence names the line.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"sky model {path} cannot be read ({error}): check the path and the file") from error
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        raise BadInputError(f"sky model {path}, line 1: not the header `Format = {_COLUMNS}='...'`")
    names, numbers, terms = [], [], []
    for number, line in enumerate(lines[1:], 2):
        try:
            name, values, spectrum = _parse(line, header["freq"])
        except ValueError as error:
            raise BadInputError(f"sky model {path}, line {number}: {error}") from None
        names.append(name)
        numbers.append(values)
        terms.append(spectrum)
    table = np.array(numbers, dtype=np.float64).reshape(-1, 6)
    ra_deg, dec_deg, flux_jy = table[:, :3].T
    return SkyModel(names, ra_deg, dec_deg, flux_jy, spectra(terms), float(header["freq"]), table[:, 3:])


def spectra(terms: list[list[float]]) -> NDArray[np.float64]:
    """Return spectral terms of different number as one array, (n_source, most terms); what is missing is zero."""
    most = max((len(row) for row in terms), default=0)
    return np.array([row + [0.0] * (most - len(row)) for row in terms], dtype=np.float64).reshape(len(terms), most)


def _rows(path: Path, sky: SkyModel) -> Iterator[str]:
    freq_hz = float(sky.ref_freq_hz)
    for i, name in enumerate(sky.names):
        ra_deg, dec_deg, flux_jy = float(sky.ra_deg[i]), float(sky.dec_deg[i]), float(sky.flux_jy[i])
        terms, axes = sky.spectrum[i].tolist(), sky.gaussian[i].tolist()
        if not (
            all(map(math.isfinite, (flux_jy, freq_hz, *terms, *axes)))
            and 0.0 <= ra_deg < 360.0
            and abs(dec_deg) <= 90.0
        ):
            raise BadInputError(f"sky model {path}: source {name} has a number that is none, or lies off the sky")
        written = quote(name, safe=_SAFE, errors="surrogatepass")
        position = f"{_sexagesimal(ra_deg, 'ra')},{_sexagesimal(dec_deg, 'dec')}"
        kind, tail = "POINT", ",,," if sky.gaussian.any() else ""
        if any(axes):
            kind, tail = "GAUSSIAN", "," + ",".join(map(repr, axes))
        yield f"{written},{kind},{position},{flux_jy!r},[{','.join(map(repr, terms))}],true,{freq_hz!r}{tail}"


def _parse(line: str, freq: str) -> tuple[str, tuple[float, ...], list[float]]:
    match = _ROW.fullmatch(line)
    if match is None or (match["type"] == "GAUSSIAN") != bool((match["axes"] or "").strip(",")):
        raise ValueError(f"not a point source with the columns {_COLUMNS}, nor a Gaussian with {_AXES[2:]} behind them")
    if match["freq"] != freq:
        raise ValueError(f"its reference frequency is {match['freq']} Hz, that of the file {freq} Hz")
    terms = [float(term) for term in match["terms"].split(",")] if match["terms"] else []
    position = _degrees(match["ra"].split(":"), "ra"), _degrees(match["dec"].split(".", 2), "dec")
    axes = map(float, match["axes"][1:].split(",")) if match["type"] == "GAUSSIAN" else (0.0, 0.0, 0.0)
    values = (*position, float(match["flux"]), *axes)
    if not all(map(math.isfinite, (*values, *terms))):
        raise ValueError("a number is none")
    return unquote(match["name"], errors="surrogatepass"), values, terms


def _sexagesimal(angle_deg: float, axis: str) -> str:
    """Return an angle as the shortest decimal that is the same double, in parts; `_degrees` gives it back."""
    seconds = _EXACT.multiply(Decimal(repr(abs(angle_deg))), Decimal(_SECONDS_PER_DEG[axis]))
    whole, rest = _EXACT.divmod(seconds, Decimal(3600))
    minutes, rest = _EXACT.divmod(rest, Decimal(60))
    digits = f"{rest:f}"
    digits = (digits.rstrip("0").rstrip(".") if "." in digits else digits).zfill(2)
    if axis == "ra":
        return f"{int(whole):02d}:{int(minutes):02d}:{digits}"
    sign = "-" if math.copysign(1.0, angle_deg) < 0 else "+"
    return f"{sign}{int(whole):02d}.{int(minutes):02d}.{digits}"


def _degrees(parts: list[str], axis: str) -> float:
    whole, minutes, seconds = parts
    total = _EXACT.add(Decimal(abs(int(whole)) * 3600 + int(minutes) * 60), Decimal(seconds))
    angle = float(_EXACT.divide(total, Decimal(_SECONDS_PER_DEG[axis])))
    return -angle if whole.startswith("-") else angle
