"""A light curve is the same in CSV, VOTable and Parquet, and its gaps stay gaps."""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from astropy.table import Table

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats.lightcurve_files import COLUMNS, save_lightcurve_table

POINTS: dict[str, list[float | int | str | None]] = {
    **{name: [1.0 + index / 7.0, None, 3.0 + index] for index, name in enumerate(COLUMNS)},
    "mjd": [60000.123456789, 60001.5, 60002.25],
    "flags": [0, 8, 16],
    "image_path": ["/m/a.fits", "/m/b,c.fits", "/m/é.fits"],
}


@pytest.mark.parametrize("ending", [".csv", ".vot", ".parquet"])
def test_every_format_holds_every_digit(tmp_path: Path, ending: str) -> None:
    path = save_lightcurve_table(tmp_path / f"curve{ending}", "NVSS J012345.6+123456", POINTS)
    if ending == ".parquet":
        read = pyarrow.parquet.read_table(path)
        assert read.schema.metadata[b"source_id"] == b"NVSS J012345.6+123456"
        assert read.schema.field("mjd").metadata[b"unit"] == b"d"
        columns = read.to_pydict()
    else:
        table = Table.read(path, format="ascii.csv" if ending == ".csv" else "votable")
        columns = {name: np.ma.filled(table[name], np.nan) if name != "image_path" else table[name] for name in COLUMNS}
        if ending == ".vot":
            assert str(table["normalized_flux_jy"].unit) == "Jy"
    for name, values in POINTS.items():
        if name == "image_path":
            assert list(columns[name]) == values
        else:
            expected = np.array([np.nan if value is None else value for value in values], np.float64)
            np.testing.assert_array_equal(np.array(columns[name], np.float64), expected)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"curve\.xlsx ends in none of \.csv, \.vot"):
        save_lightcurve_table(tmp_path / "curve.xlsx", "S", POINTS)
    assert list(tmp_path.iterdir()) == []
