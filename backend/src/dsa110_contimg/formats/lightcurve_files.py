"""Light curves as files for other programs: CSV, VOTable and Parquet, told apart by the file's ending.

Every file has the same columns, units and descriptions; what was not measured is empty (NaN). Times are UTC.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from astropy import units
from astropy.table import Table

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats.scratch import replacing

COLUMNS: dict[str, tuple[str, str]] = {
    "mjd": ("d", "transit of the source in the image (UTC)"),
    "normalized_flux_jy": ("Jy", "flux on the scale of the epoch's reference sources"),
    "normalized_flux_err_jy": ("Jy", "its error, that of the scale included"),
    "upper_limit_jyb": ("Jy/beam", "upper limit, where the source is not detected"),
    "peak_jyb": ("Jy/beam", "image at the position, as measured"),
    "peak_err_jyb": ("Jy/beam", "its error"),
    "local_rms_jyb": ("Jy/beam", "noise around the source"),
    "snr": ("", "signal-to-noise ratio on the flat-noise image"),
    "flags": ("", "bits: 1 edge, 2 low beam, 4 confused, 8 negative, 16 near a bright source"),
    "image_path": ("", "image on which it was measured"),
}
"""Unit and description of each column."""


def save_lightcurve_table(path: Path, source_id: str, columns: Mapping[str, list[float | int | str | None]]) -> Path:
    """Write a light curve.

    Parameters
    ----------
    path
        Ends in .csv, .vot (or .xml) or .parquet; it appears only when it is whole.
    source_id
        Name of the source, kept in VOTable and Parquet.
    columns
        Those of `COLUMNS`, each (n,).

    Raises
    ------
    ConfigurationError
        If the ending is another one.
    """
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise ConfigurationError(f"{path} ends in none of {', '.join(WRITERS)}: the ending chooses the format")
    table = Table()
    table.meta["source_id"] = source_id
    for name, (unit, description) in COLUMNS.items():
        text = name == "image_path"
        values = np.array(columns[name], str if text else np.float64)
        table[name] = values if text or not unit else values * units.Unit(unit)
        table[name].description = description
    with replacing(path) as scratch:
        write(table, scratch)
    return path


def _write_csv(table: Table, path: Path) -> None:
    table.write(path, format="ascii.csv", overwrite=True, fill_values=[("nan", "")])


def _write_votable(table: Table, path: Path) -> None:
    table.write(path, format="votable", overwrite=True)


def _write_parquet(table: Table, path: Path) -> None:
    described = [
        pyarrow.field(name, pyarrow.array(table[name].data.tolist()).type, metadata={"unit": unit, "description": text})
        for name, (unit, text) in COLUMNS.items()
    ]
    schema = pyarrow.schema(described, metadata={"source_id": table.meta["source_id"]})
    arrays = [
        pyarrow.array(table[name].data.tolist(), type=field.type)
        for name, field in zip(COLUMNS, described, strict=True)
    ]
    pyarrow.parquet.write_table(pyarrow.table(arrays, schema=schema), path)


WRITERS: dict[str, Callable[[Table, Path], None]] = {
    ".csv": _write_csv,
    ".vot": _write_votable,
    ".xml": _write_votable,
    ".parquet": _write_parquet,
}
"""How each ending is written."""
