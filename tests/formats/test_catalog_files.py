"""Catalogues are read right, and what is wrong with one is said with its row."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.catalog_files import CatalogFlag, CatalogTable, load, load_csv, write_csv
from dsa110_contimg.kernels.match import mutual_nearest
from dsa110_contimg.visibilities import SkyModel

HEADER = "name,ra_deg,dec_deg,flux_jy,flux_err_jy"


def real(name: str) -> Path:
    path = Path(os.environ.get("CONTIMG_DATA") or ".") / "catalogs" / name
    if not path.exists():
        pytest.skip(f"CONTIMG_DATA does not hold catalogs/{name}")
    return path


def table() -> CatalogTable:
    sky = SkyModel(
        ["A", "NVSS J000000.1-040242, b"],
        np.array([0.1 + 0.2, 359.999999999]),
        np.array([-4.0, 89.5]),
        np.array([1.0 / 3.0, 2e-3]),
        np.array([[-0.7], [0.0]]),
    )
    return CatalogTable(sky, np.array([0.01, np.nan]), np.zeros(2, np.int64))


def test_csv_round_trip_to_the_last_bit(tmp_path: Path) -> None:
    back = load(write_csv(tmp_path / "sky.csv", table()))
    assert back.sky.names == table().sky.names
    for name in ("ra_deg", "dec_deg", "flux_jy", "spectrum"):
        np.testing.assert_array_equal(getattr(back.sky, name), getattr(table().sky, name))
    np.testing.assert_array_equal(back.flux_err_jy, table().flux_err_jy)
    assert [path.name for path in tmp_path.iterdir()] == ["sky.csv"]


def test_csv_without_rows_or_spectral_index(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "\n")
    assert len(load(path)) == 0
    path.write_text(HEADER + "\nA,10,20,1,\n")
    result = load(path)
    assert result.sky.spectrum.tolist() == [[0.0]]
    assert np.isnan(result.flux_err_jy[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ra_deg,dec_deg\n", "lacks the column name"),
        (HEADER + "\n,1,2,3,0\n", "line 2: the source has no name"),
        (HEADER + "\nA,1,2,3,0\nA,1,2,3,0\n", "line 3: A is already on line 2"),
        (HEADER + "\nA,1,north,3,0\n", "line 2: dec_deg is 'north', not a number"),
        (HEADER + "\nA,1,2\n", "line 2: flux_jy is '', not a number"),
        (HEADER + "\nA,1,95,3,0\n", "line 2: dec_deg is 95"),
        (HEADER + "\nA,nan,5,3,0\n", "line 2: ra_deg is nan"),
        (HEADER + "\nA,1,5,inf,0\n", "line 2: flux_jy is inf"),
        (HEADER + "\nA,1,5,1,-1\n", "line 2: flux_err_jy is -1"),
    ],
)
def test_bad_csv_names_file_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(BadInputError, match=words) as caught:
        load_csv(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_catalogue(tmp_path: Path) -> None:
    binary = tmp_path / "a.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BadInputError, match="cannot be read as CSV"):
        load(binary)
    with pytest.raises(BadInputError, match="cannot be read as CSV"):
        load(tmp_path / "absent.csv")
    with pytest.raises(BadInputError, match="cannot be read as FITS"):
        load(tmp_path / "absent.fits")
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(image)
    with pytest.raises(BadInputError, match="holds no table"):
        load(image)
    truncated = tmp_path / "short.fits.gz"
    truncated.write_bytes(b"\x1f\x8b\x08\x00rubbish")
    with pytest.raises(BadInputError, match="cannot be read as FITS"):
        load(truncated)


def write_bright(path: Path, ra: list[float], flux: list[float], quality: list[int]) -> None:
    columns = [
        fits.Column("RA(2000)", "1D", "DEGREE", array=ra),
        fits.Column("DEC(2000)", "1D", "DEGREE", array=[10.0] * len(ra)),
        fits.Column("PEAK INT", "1E", "JY/BEAM", array=flux),
        fits.Column("QUAL", "1J", array=quality),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)


def test_bright_table_names_scale_and_flags(tmp_path: Path) -> None:
    """Two entries whose names truncate alike get different ids."""
    path = tmp_path / "vz.fits"
    write_bright(path, [10.0, 10.0001, 359.99999], [1.027, 0.2, 0.1], [0, 3, 0])
    result = load(path)
    assert result.sky.flux_jy[0] == pytest.approx(1.0)
    assert result.sky.names[:2] == ["NVSS J004000.0+100000", "NVSS J004000.0+100000b"]
    assert (result.flags & CatalogFlag.NOT_ISOLATED).astype(bool).tolist() == [False, True, False]
    assert result.flux_err_jy[0] == pytest.approx(np.hypot(0.03, 0.00045))
    assert result.sky.ra_deg.dtype == np.dtype("=f8")
    assert len(result.select(result.flags == 0)) == 2


def test_bad_row_of_a_fits_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vz.fits"
    write_bright(path, [10.0, 370.0], [1.0, 0.2], [0, 0])
    with pytest.raises(BadInputError, match=r"row 2: 'RA\(2000\)' is 370"):
        load(path)


def test_real_nvss_bright_table() -> None:
    result = load(real("NVSSVZ.FIT.gz"))
    assert len(result) == 125_309
    assert len(set(result.sky.names)) == 125_309
    near_3c48 = np.hypot((result.sky.ra_deg - 24.4221) * np.cos(0.5787), result.sky.dec_deg - 33.1598) < 0.005
    assert result.sky.flux_jy[near_3c48].max() == pytest.approx(16.0, rel=0.03)


def test_real_nvss_tables_agree_where_both_have_a_source() -> None:
    """Unresolved sources of the deep patch against the bright table: fluxes within 2 % in the median."""
    bright, deep = load(real("NVSSVZ.FIT.gz")), load(real("patch_nvss.fits"))
    assert len(deep) == 562
    positions = [np.radians(values) for sky in (deep.sky, bright.sky) for values in (sky.ra_deg, sky.dec_deg)]
    here, there, _apart = mutual_nearest(*positions, radius=np.radians(10.0 / 3600.0))
    assert here.size == 44
    compact = (deep.flags[here] & CatalogFlag.RESOLVED) == 0
    ratio = bright.sky.flux_jy[there[compact]] / deep.sky.flux_jy[here[compact]]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
