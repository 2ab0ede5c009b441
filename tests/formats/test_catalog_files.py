"""Every survey is read as it is published, and what is wrong with a row is said with its number."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.catalog_files import SurveyTable, load
from dsa110_contimg.kernels.match import mutual_nearest

HEADER = "name,ra_deg,dec_deg,flux_jy,flux_err_jy"
RACS_LOW = (
    "Source_Name,Source_ID,RA,Dec,E_RA,E_Dec,Total_flux_Source,E_Total_flux_Source,Peak_flux,DC_Maj,DC_Min,PA,Noise\n"
    "RACS-DR1 J150000.1-301502,RACS_1450-31A_12,225.0005,-30.25,0.3,0.4,12.5,1.1,11.0,3.2,1.1,45.0,0.25\n"
    "RACS-DR1 J150010.1-301502,RACS_1450-31A_13,225.0422,-30.25,0.3,0.4,-2.0,1.1,11.0,3.2,1.1,45.0,0.25\n"
)
RACS_MID = (
    "Name,RA,Dec,E_RA,E_Dec,Total_flux,E_Total_flux,Peak_flux,Noise\n"
    "RACS-MID1 J150000.1-301502,225.0005,-30.25,0.6,0.3,8.0,0.6,7.5,0.15\n"
)


def real(name: str) -> Path:
    path = Path(os.environ.get("CONTIMG_DATA") or ".") / "catalogs" / name
    if not path.exists():
        pytest.skip(f"CONTIMG_DATA does not hold catalogs/{name}")
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def reasons(table: SurveyTable) -> list[tuple[int, str]]:
    return [(bad.number, bad.reason) for bad in table.bad_rows]


def write_bright(path: Path, ra: list[float], flux: list[float], quality: list[int]) -> Path:
    columns = [
        fits.Column("RA(2000)", "1D", "DEGREE", array=ra),
        fits.Column("DEC(2000)", "1D", "DEGREE", array=[10.0] * len(ra)),
        fits.Column("PEAK INT", "1E", "JY/BEAM", array=flux),
        fits.Column("QUAL", "1J", array=quality),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


def test_our_own_table(tmp_path: Path) -> None:
    text = f"{HEADER},spectral_index\n# A,10,20,1,,-0.8\nB,359.999999999,89.5,0.002,0.0001,\n"
    table = load(written(tmp_path / "a.csv", text), "CSV")
    assert table.names == ["# A", "B"]
    assert table.ra_deg.tolist() == [10.0, 359.999999999]
    assert table.flux_jy.tolist() == [1.0, 0.002]
    np.testing.assert_array_equal(table.flux_uncertainty, [np.nan, 0.0001])
    np.testing.assert_allclose(table.snr, [np.nan, 20.0])
    np.testing.assert_array_equal(table.spectral_index, [-0.8, np.nan])
    assert table.freq_ghz == 1.4
    assert table.bad_rows == ()


def test_bad_rows_are_left_out_with_line_and_reason(tmp_path: Path) -> None:
    bad = {
        ",1,2,3,0": "the source has no name",
        "good,1,2,3,0": "good is already on line 2; names must differ",
        "A,1,north,3,0": "dec_deg is 'north', not a number",
        "B,1,2": "flux_jy has no value",
        "C,1,95,3,0": "dec_deg is 95, which no source can have",
        "D,nan,5,3,0": "ra_deg has no value",
        "E,-1,5,3,0": "ra_deg is -1, which no source can have",
        "F,1,5,inf,0": "flux_jy is inf, which no source can have",
        "G,1,5,-0.1,0": "flux_jy is -0.1, which no source can have",
        "H,1,5,0,0": "flux_jy is 0, which no source can have",
        "I,1,5,1,-1": "flux_err_jy is -1, which no source can have",
    }
    path = written(tmp_path / "bad.csv", "\n".join([HEADER, "good,1,2,3,0", *bad, "last,360,2,3,"]))
    table = load(path, "CSV")
    assert reasons(table) == list(enumerate(bad.values(), start=3))
    assert table.names == ["good", "last"]
    assert table.ra_deg.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("survey", "text", "words"),
    [
        ("CSV", "ra_deg,dec_deg\n1,2\n", "lacks the columns name, flux_jy of a table of our own"),
        ("NVSS", "RAJ2000,DEJ2000,flux\n1,2,3\n", r"lacks the column S1.4 of the NVSS catalogue of VizieR"),
        ("FIRST", "RA,DEC\n1,2\n", "lacks the columns FINT, FPEAK"),
        ("VLASS", "RA,DEC,Total_flux\n1,2,3\n", "lacks the columns E_Total_flux, Peak_flux"),
        ("RACS", "RA,Dec\n1,2\n", "lacks the column Total_flux_Source of the RACS-low"),
        ("CSV", HEADER + "\n", "holds no usable row"),
        ("CSV", HEADER + "\nA,1,2,x,\n", "holds no usable row of a table of our own: line 2: flux_jy is 'x'"),
        ("SUMSS", HEADER + "\n", "SUMSS is no survey that can be imported"),
    ],
)
def test_a_file_without_its_columns_is_refused(tmp_path: Path, survey: str, text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        load(written(tmp_path / "a.csv", text), survey)
    assert "\n" not in str(caught.value)


def test_bright_nvss_names_scale_and_flags(tmp_path: Path) -> None:
    """Entries whose names truncate alike get different ids."""
    path = write_bright(
        tmp_path / "vz.fits", [10.0, 10.0001, 10.0001, 359.99999, 370.0], [1.027, 0.2, 0.2, 0.1, 1.0], [0, 3, 0, 0, 0]
    )
    table = load(path, "NVSS")
    assert table.flux_jy[0] == pytest.approx(1.0)
    assert table.names[:3] == ["NVSS J004000.0+100000", "NVSS J004000.0+100000b", "NVSS J004000.0+100000c"]
    assert table.is_confused.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert table.flux_uncertainty[0] == pytest.approx(np.hypot(0.03, 0.00045))
    assert table.snr[0] == pytest.approx(1.027 / 0.00045)
    assert reasons(table) == [(5, "RA(2000) is 370, which no source can have")]


def test_nvss_of_vizier_in_sexagesimal(tmp_path: Path) -> None:
    """Columns as VIII/65 has them; a size with < is an upper limit."""
    table = Table(
        {
            "NVSS": ["000000-040242", "133108+303032"],
            "RAJ2000": ["00 00 00.16", "13 31 08.29"],
            "DEJ2000": ["-04 02 42.4", "+30 30 32.9"],
            "e_DEJ2000": [0.7, 0.6],
            "S1.4": [110.5, 14903.1],
            "e_S1.4": [3.3, 447.1],
            "l_MajAxis": ["<", ""],
            "MajAxis": [18.1, 25.2],
        }
    )
    table.write(tmp_path / "nvss.vot", format="votable")
    table.write(tmp_path / "nvss.fits")
    for name in ("nvss.vot", "nvss.fits"):
        read = load(tmp_path / name, "NVSS")
        assert read.names == ["NVSS J000000.1-040242", "NVSS J133108.2+303032"]
        np.testing.assert_allclose(read.ra_deg, [0.16 / 240.0, 202.784541667])
        np.testing.assert_allclose(read.flux_jy, [0.1105, 14.9031])
        np.testing.assert_allclose(read.flux_uncertainty, [0.0033, 0.4471])
        assert read.is_extended.tolist() == [0.0, 1.0]
        assert read.position_uncertainty_arcsec.tolist() == [0.7, 0.6]


def test_racs_in_both_bands(tmp_path: Path) -> None:
    low = load(written(tmp_path / "low.csv", RACS_LOW), "RACS")
    assert low.names == ["RACS-DR1 J150000.1-301502"]
    assert low.freq_ghz == 0.8875
    assert low.flux_jy[0] == pytest.approx(0.0125)
    assert low.snr[0] == pytest.approx(44.0)
    assert low.position_uncertainty_arcsec[0] == pytest.approx(np.hypot(0.4, 1.0))
    assert reasons(low) == [(3, "Total_flux_Source is -2, which no source can have")]
    lowercase = RACS_LOW.split("\n", 1)[0].lower() + "\n" + RACS_LOW.split("\n", 1)[1]
    assert load(written(tmp_path / "casda.csv", lowercase), "RACS").flux_jy.tolist() == low.flux_jy.tolist()
    mid = load(written(tmp_path / "mid.csv", RACS_MID), "RACS")
    assert mid.freq_ghz == 1.3675
    assert mid.flux_uncertainty[0] == pytest.approx(0.0006)


def test_real_nvss_bright_table() -> None:
    table = load(real("NVSSVZ.FIT.gz"), "NVSS")
    assert len(table) == len(set(table.names)) == 125_309
    assert table.bad_rows == ()
    near_3c48 = np.hypot((table.ra_deg - 24.4221) * np.cos(0.5787), table.dec_deg - 33.1598) < 0.005
    assert table.flux_jy[near_3c48].max() == pytest.approx(16.0, rel=0.03)


def test_real_nvss_tables_agree_where_both_have_a_source() -> None:
    """Unresolved sources of the deep patch against the bright table: fluxes within 2 % in the median."""
    bright, deep = load(real("NVSSVZ.FIT.gz"), "NVSS"), load(real("patch_nvss.fits"), "NVSS")
    assert len(deep) == 562
    positions = [np.radians(values) for sky in (deep, bright) for values in (sky.ra_deg, sky.dec_deg)]
    here, there, _apart = mutual_nearest(*positions, radius=np.radians(10.0 / 3600.0))
    assert here.size == 44
    compact = deep.is_extended[here] == 0
    ratio = bright.flux_jy[there[compact]] / deep.flux_jy[here[compact]]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)


def test_real_first_and_vlass_without_artifacts() -> None:
    first, vlass = load(real("patch_first.fits"), "FIRST"), load(real("patch_vlass_components.csv"), "VLASS")
    assert len(first) + first.set_aside == 998
    assert len(vlass) + vlass.set_aside == 1255
    assert len(vlass) == 658
    assert vlass.names[0].startswith("VLASS1QLCIR J")
    positions = [np.radians(values) for sky in (first, vlass) for values in (sky.ra_deg, sky.dec_deg)]
    here, there, apart = mutual_nearest(*positions, radius=np.radians(2.5 / 3600.0))
    bright = first.flux_jy[here] > 0.02
    assert np.count_nonzero(bright) > 50
    # Stated position errors must cover what is seen: half of the pairs within 1.18 of them, in two dimensions.
    error = np.hypot(first.position_uncertainty_arcsec[here], vlass.position_uncertainty_arcsec[there])
    assert 0.3 < np.median(np.degrees(apart) * 3600.0 / error) < 1.5
