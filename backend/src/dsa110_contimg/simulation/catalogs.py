"""Catalogues in and out: a sky from somebody's table, and the list that a survey would have made of ours.

A survey's list has errors that are independent of the truth: fluxes 3 % and 0.5 mJy, positions 0.3 arcsec for
bright sources and 12 arcsec over the flux in mJy for faint ones, as the NVSS has them (Condon et al. 1998).
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.naming import source_name

FLUX_FRACTION, FLUX_FLOOR_JY = 0.03, 5e-4
POSITION_FLOOR_ARCSEC, POSITION_ARCSEC_MJY = 0.3, 12.0
Column = list[str] | NDArray[Any]
_RA = ("ra_deg", "ra(2000)", "ra", "raj2000")
_DEC = ("dec_deg", "dec(2000)", "dec", "dej2000")
_FLUX = ("flux_jy", "peak int", "flux")


@dataclass(frozen=True)
class SourceTable:
    """Sources of a file; `alpha` is NaN where the file says nothing."""

    names: tuple[str, ...]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    alpha: NDArray[np.float64]


def load_catalog(path: Path) -> SourceTable:
    """Read a CSV or FITS table with ra_deg, dec_deg, flux_jy and perhaps alpha, name; or the NVSS table.

    Raises
    ------
    ConfigurationError
        If the file is missing, is no table, or lacks a column.
    """
    if not path.is_file():
        raise ConfigurationError(f"the sky catalogue {path} does not exist: give --sky a file, or 'counts'")
    try:
        columns = _read_csv(path) if ".csv" in path.suffixes else _read_fits(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is neither a CSV nor a FITS table: {error}") from error
    ra, dec, flux = (_column(columns, names, path) for names in (_RA, _DEC, _FLUX))
    alpha = _numbers(columns["alpha"], path) if "alpha" in columns else np.full(ra.size, np.nan)
    names = columns.get("name", [])
    listed = [str(n).strip() for n in names] if len(names) else [""] * ra.size
    prefix = "NVSS" if "peak int" in columns else "SIM"
    full = tuple(name or source_name(ra[i], dec[i], prefix) for i, name in enumerate(listed))
    good = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(flux) & (flux > 0)
    index = np.flatnonzero(good)
    return SourceTable(tuple(full[i] for i in index), ra[index] % 360.0, dec[index], flux[index], alpha[index])


def _read_csv(path: Path) -> dict[str, Column]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    if not rows:
        raise ValueError("it has no rows")
    return {str(key).strip().lower(): [row[key] or "" for row in rows] for key in rows[0]}


def _read_fits(path: Path) -> dict[str, Column]:
    with fits.open(path) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
        if table is None:
            raise ValueError("it holds no table")
        data = table.data
        return {name.strip().lower(): np.asarray(data[name]) for name in table.columns.names}


def _numbers(values: Column, path: Path) -> NDArray[np.float64]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        return values.astype(np.float64)
    try:
        return np.array([float(v) if str(v).strip() else np.nan for v in values])
    except ValueError as error:
        raise ConfigurationError(f"{path} holds a value that is no number: {error}") from error


def _column(columns: dict[str, Column], names: tuple[str, ...], path: Path) -> NDArray[np.float64]:
    for name in names:
        if name in columns:
            return _numbers(columns[name], path)
    raise ConfigurationError(f"{path} has no column {names[0]}; its columns are {', '.join(columns)}")


def as_surveyed(table: SourceTable, limit_jy: float, *, perfect: bool, rng: np.random.Generator) -> list[list[str]]:
    """Return the rows name, ra_deg, dec_deg, flux_jy, flux_err_jy of sources that a survey would list."""
    n = table.flux_jy.size
    sigma = np.hypot(FLUX_FRACTION * table.flux_jy, FLUX_FLOOR_JY)
    flux = table.flux_jy + (0.0 if perfect else 1.0) * sigma * rng.standard_normal(n)
    place = np.hypot(POSITION_FLOOR_ARCSEC, POSITION_ARCSEC_MJY / (table.flux_jy * 1e3)) / 3600.0
    offset = (0.0 if perfect else 1.0) * place * rng.standard_normal((2, n))
    dec = table.dec_deg + offset[0]
    ra = (table.ra_deg + offset[1] / np.cos(np.radians(dec))) % 360.0
    rows = [
        [table.names[i], f"{ra[i]:.7f}", f"{dec[i]:.7f}", f"{flux[i]:.6f}", f"{sigma[i]:.6f}"]
        for i in np.argsort(ra)
        if flux[i] >= limit_jy
    ]
    return [["name", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy"], *rows]
