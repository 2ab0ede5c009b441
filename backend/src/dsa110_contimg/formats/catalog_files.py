r"""Source catalogues on disk, read into one shape.

    NVSS bright table   NVSSVZ.FIT(.gz)      RA(2000), DEC(2000), PEAK INT, QUAL: sources above 50 mJy
    NVSS full table     *.fits               the AIPS VL table: peaks, fitted sizes, I RMS
    ours                *.csv                name, ra_deg, dec_deg, flux_jy, flux_err_jy [, spectral_index]

The bright table's peaks stand 2.7 % above the catalogue's flux densities and are divided by that. The VL table holds
raw Gaussian fits (peak P, axes M x m, in a 45" beam): a source that is not resolved has S = P √(M m)/45", the
least noisy product of both; a resolved one S = P M m/45"² (Condon et al. 1998, AJ 115, 1693; Condon 1997).
Errors of both are the survey's own, √((0.03 S)² + (0.45 mJy)²), with the table's rms where it has one.
"""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.naming import source_name
from dsa110_contimg.visibilities import SkyModel

FloatArray = NDArray[np.float64]

BRIGHT_TABLE_EXCESS = 1.027
NVSS_BEAM_DEG = 45.0 / 3600.0
NVSS_RMS_JY = 0.45e-3
NVSS_SCALE_ERROR = 0.03
RESOLVED_SIGMA = 3.0
CSV_COLUMNS = ("name", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy")


class CatalogFlag(IntFlag):
    """What a catalogue says about a source beside its flux."""

    RESOLVED = 1
    """Larger than the survey's beam."""
    NOT_ISOLATED = 2
    """The survey's table marks neighbors."""


@dataclass(frozen=True)
class CatalogTable:
    """A catalogue: sources, the errors of their fluxes, and flags."""

    sky: SkyModel
    flux_err_jy: FloatArray
    """(n_source,); NaN where the catalogue has none."""
    flags: NDArray[np.int64]
    """(n_source,), bits of `CatalogFlag`."""

    def __len__(self) -> int:
        return len(self.sky)

    def select(self, keep: NDArray[np.bool_]) -> "CatalogTable":
        """Return the sources that a mask picks."""
        return CatalogTable(self.sky.select(keep), self.flux_err_jy[keep], self.flags[keep])


def load(path: Path) -> CatalogTable:
    """Read a catalogue of any kind above, told apart by its content.

    Raises
    ------
    BadInputError
        If the file is none of them, or a row cannot be used; the sentence names file, column and row.
    """
    if path.suffix.lower() == ".csv":
        return load_csv(path)
    columns = _fits_columns(path)
    return _nvss_bright(path, columns) if "QUAL" in columns else _nvss_full(path, columns)


def load_csv(path: Path) -> CatalogTable:
    """Read our own table; `spectral_index` is optional and zero where it is absent or blank."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _parse_csv(path, csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"catalogue {path} cannot be read as CSV ({error}): check the path and the file") from error


def _parse_csv(path: Path, reader: "csv.DictReader[str]") -> CatalogTable:
    """Check every row of our table."""
    missing = [column for column in CSV_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise BadInputError(
            f"catalogue {path} lacks the column {missing[0]}: its first line must name {', '.join(CSV_COLUMNS)}"
        )
    names: dict[str, int] = {}
    values: list[tuple[float, ...]] = []
    for row in reader:
        line = reader.line_num
        name = (row["name"] or "").strip()
        if not name:
            raise BadInputError(f"catalogue {path}, line {line}: the source has no name")
        if name in names:
            raise BadInputError(
                f"catalogue {path}, line {line}: {name} is already on line {names[name]}; names must differ"
            )
        names[name] = line
        values.append(tuple(_csv_numbers(path, line, row)))
    table = np.array(values, dtype=np.float64).reshape(-1, 5)
    sky = SkyModel(list(names), table[:, 0] % 360.0, table[:, 1], table[:, 2], table[:, 4:])
    return CatalogTable(sky, table[:, 3], np.zeros(len(names), np.int64))


def _csv_numbers(path: Path, line: int, row: dict[str, str]) -> Iterator[float]:
    """Yield the numbers of one row, checked, spectral index last."""
    accepted: dict[str, Callable[[float], bool]] = {
        "ra_deg": lambda value: -360.0 <= value <= 360.0,
        "dec_deg": lambda value: -90.0 <= value <= 90.0,
        "flux_jy": math.isfinite,
        "flux_err_jy": lambda value: math.isnan(value) or 0.0 <= value < math.inf,
        "spectral_index": math.isfinite,
    }
    blank = {"flux_err_jy": math.nan, "spectral_index": 0.0}
    for column, accept in accepted.items():
        text = (row.get(column) or "").strip()
        try:
            value = blank[column] if not text and column in blank else float(text)
        except ValueError:
            raise BadInputError(f"catalogue {path}, line {line}: {column} is {text!r}, not a number") from None
        if not accept(value):
            raise BadInputError(f"catalogue {path}, line {line}: {column} is {text}, which no source can have")
        yield value


def write_csv(path: Path, table: CatalogTable) -> Path:
    """Write our table, such that `load_csv` returns the same numbers to the last bit; flags have no column."""
    scratch = path.with_name(path.name + ".partial")
    sky = table.sky
    index = sky.spectrum[:, 0] if sky.spectrum.shape[1] else np.zeros(len(sky))
    with scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*CSV_COLUMNS, "spectral_index"))
        columns = (sky.ra_deg, sky.dec_deg, sky.flux_jy, table.flux_err_jy, index)
        for name, *numbers in zip(sky.names, *columns, strict=True):
            writer.writerow((name, *("" if np.isnan(number) else repr(float(number)) for number in numbers)))
    scratch.replace(path)
    return path


def _fits_columns(path: Path) -> dict[str, FloatArray]:
    """Read the numeric columns of a FITS file's first table, in native byte order."""
    try:
        with fits.open(path, memmap=False) as hdus:
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
            if not tables:
                raise BadInputError(f"catalogue {path} holds no table: give the survey's catalogue, not an image")
            data = tables[0].data
            names = [column.name for column in tables[0].columns if column.format.strip("1") in {"D", "E", "J"}]
            return {name: np.asarray(data[name], dtype=np.float64) for name in names}
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise BadInputError(f"catalogue {path} cannot be read as FITS ({error}): copy it again") from error


def _column(path: Path, columns: dict[str, FloatArray], name: str, low: float, high: float) -> FloatArray:
    """Return a column whose values all lie between limits."""
    if name not in columns:
        raise BadInputError(f"catalogue {path} lacks the column {name!r}: it is not a table of the NVSS")
    values = columns[name]
    bad = np.flatnonzero(~((values >= low) & (values <= high)))
    if bad.size:
        raise BadInputError(
            f"catalogue {path}, row {bad[0] + 1}: {name!r} is {values[bad[0]]}, which no source can have"
        )
    return values


def _nvss_bright(path: Path, columns: dict[str, FloatArray]) -> CatalogTable:
    """Return the bright table; QUAL 0 is isolated."""
    ra, dec = _column(path, columns, "RA(2000)", 0.0, 360.0), _column(path, columns, "DEC(2000)", -90.0, 90.0)
    flux = _column(path, columns, "PEAK INT", 0.0, 1e5) / BRIGHT_TABLE_EXCESS
    flags = np.where(columns["QUAL"] > 0, int(CatalogFlag.NOT_ISOLATED), 0)
    return CatalogTable(_nvss_sky(ra, dec, flux), np.hypot(NVSS_SCALE_ERROR * flux, NVSS_RMS_JY), flags)


def _nvss_full(path: Path, columns: dict[str, FloatArray]) -> CatalogTable:
    """Return the VL table with flux densities from peaks and sizes."""
    ra, dec = _column(path, columns, "RA(2000)", 0.0, 360.0), _column(path, columns, "DEC(2000)", -90.0, 90.0)
    peak, rms = _column(path, columns, "PEAK INT", 0.0, 1e5), _column(path, columns, "I RMS", 0.0, 1e3)
    axes = [_column(path, columns, f"{axis} AX", 0.0, 10.0) / NVSS_BEAM_DEG for axis in ("MAJOR", "MINOR")]
    snr = peak / np.maximum(rms, 1e-12)
    # Condon's error of a fitted axis for a source of about the beam's size, √2/SNR, beside 1 % of the beam.
    resolved = axes[0] > 1.0 + RESOLVED_SIGMA * np.hypot(np.sqrt(2.0) / snr, 0.01)
    area = np.maximum(axes[0] * axes[1], 1e-6)
    flux = peak * np.where(resolved, area, np.sqrt(area))
    flags = np.where(resolved, int(CatalogFlag.RESOLVED), 0)
    return CatalogTable(_nvss_sky(ra, dec, flux), np.hypot(NVSS_SCALE_ERROR * flux, rms), flags)


def _nvss_sky(ra_deg: FloatArray, dec_deg: FloatArray, flux_jy: FloatArray) -> SkyModel:
    """Return a sky model with IAU names; entries that truncate to one name get a letter behind it."""
    seen: dict[str, int] = {}
    names = []
    for ra, dec in zip(ra_deg.tolist(), dec_deg.tolist(), strict=True):
        name = source_name(ra, dec)
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}{chr(ord('a') + seen[name] - 1)}")
    return SkyModel(names, ra_deg % 360.0, dec_deg, flux_jy, np.zeros((ra_deg.size, 1)))
