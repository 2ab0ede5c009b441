"""Calibrators as S4 prints them, and what must never be stored as one."""

import itertools
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, SkyCoord
from sqlalchemy import text

from dsa110_contimg.database import get_session
from dsa110_contimg.database.calibrators import (
    get_bandpass_calibrators,
    get_gain_calibrators,
    register_bandpass_calibrator,
    register_gain_calibrator,
    register_standard_calibrators,
)
from dsa110_contimg.database.vla_calibrators import import_vla_list
from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.formats import vla_list

pytestmark = pytest.mark.usefixtures("root")

VLA_TABLES = ("vla_calibrators", "vla_flux_info", "catalog_sources")
LIST = """\
IAU NAME EQUINOX  PC RA(hh,mm,ss)    DEC(ddd,mm,ss)   POS.REF ALT.NAME
===================================================================

0003-174   J2000  T 00h03m21.9969s   -17d27'11.781"             3C1
0000-177   B1950  T 00h00m48.4200s   -17d43'54.000"
-----------------------------------------------------
BAND        A B C D    FLUX(Jy)    UVMIN(kL)  UVMAX(kL)
=====================================================
 90cm    P  X S S S          7                        7
 20cm    L  X ? s P        2.2           .5           7 visplot
  6cm    C  P P P P       ?
  2cm    U  P P P P       0.00

0004+2O3   J2000  B 00h04m35.7576s    20d19'42.249"     May01  JVAS
 20cm    L  X X X X       9.99
2359-003   J2000  A 23h59m59.5s    -00d30'00.0"     May01
 20cm L  S S X X       0.56            15         visplot
0.7cm    Q  W W W W      -0.18
3.6cm    X  P P P P       0.4
"""


def real_list() -> Path:
    path = Path(os.environ.get("CONTIMG_DATA") or ".") / "catalogs" / "vlacalibrators.txt"
    if not path.is_file():
        pytest.skip("CONTIMG_DATA does not hold catalogs/vlacalibrators.txt")
    return path


def names(dec_deg: float | None = None, status: str | None = "active") -> list[str]:
    return [row.calibrator_name for row in get_bandpass_calibrators(dec_deg=dec_deg, status=status)]


def dump(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, and what the tables are."""
    with closing(sqlite3.connect(root / "state" / "calibrators.sqlite3")) as connection:
        schema = connection.execute("SELECT name, type, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for name, kind, _sql in schema if kind == "table"]
        return {"": schema, **{name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}}


def query(statement: str) -> list[tuple[object, ...]]:
    with get_session("calibrators", read_only=True) as session:
        return [tuple(row) for row in session.execute(text(statement))]


def test_as_printed(root: Path) -> None:
    register_bandpass_calibrator(
        calibrator_name="3C286",
        ra_deg=202.7845,
        dec_deg=30.5092,
        dec_range_min=25.0,
        dec_range_max=35.0,
    )
    calibrators = get_bandpass_calibrators(dec_deg=30.0, status="active")
    assert [row.calibrator_name for row in calibrators] == ["3C286"]
    assert (root / "state" / "calibrators.sqlite3").exists()
    assert names(24.9) == []
    assert names(25.0) == names(35.0) == ["3C286"]
    assert abs(calibrators[0].registered_at - time.time()) < 60.0


@pytest.mark.usefixtures("backend")
def test_registering_again_keeps_what_is_not_told() -> None:
    register_bandpass_calibrator("a", 10.0, 30.0, flux_jy=8.0, notes="steady", dec_range_min=29.0, dec_range_max=31.0)
    (before,) = get_bandpass_calibrators()
    register_bandpass_calibrator("a", 10.5, 30.0, status="retired")
    (row,) = get_bandpass_calibrators(status=None)
    assert (row.ra_deg, row.flux_jy, row.notes, row.status, row.dec_range_min) == (10.5, 8.0, "steady", "retired", 29.0)
    assert (row.id, row.registered_at) == (before.id, before.registered_at)
    assert names() == []
    register_bandpass_calibrator("a", 10.5, 30.0, notes=None)
    assert get_bandpass_calibrators(status="retired")[0].notes is None


@pytest.mark.usefixtures("backend")
def test_the_brightest_first_then_the_nearest_to_the_center_of_the_strip() -> None:
    register_bandpass_calibrator("far", 1.0, 32.0, flux_jy=10.0, dec_range_min=30.0, dec_range_max=35.0)
    register_bandpass_calibrator("near", 1.0, 31.0, flux_jy=10.0, dec_range_min=29.0, dec_range_max=33.0)
    register_bandpass_calibrator("bright", 1.0, 40.0, flux_jy=20.0, dec_range_min=20.0, dec_range_max=60.0)
    register_bandpass_calibrator("unknown", 1.0, 31.0, dec_range_min=30.0, dec_range_max=32.0)
    assert names(31.0) == ["bright", "near", "far", "unknown"]


@pytest.mark.usefixtures("backend")
def test_the_primary_calibrators() -> None:
    assert "3C48" in register_standard_calibrators()
    register_standard_calibrators()
    (row,) = get_bandpass_calibrators(dec_deg=33.2)
    assert row.calibrator_name == "3C48"
    # Perley & Butler 2017 at 1.4 GHz.
    assert row.flux_jy == pytest.approx(16.2, abs=0.3)
    assert row.spectral_index == pytest.approx(-0.8, abs=0.1)
    assert row.flux_freq_ghz == 1.4
    assert row.dec_range_max == pytest.approx(34.66, abs=0.01)
    assert len(get_bandpass_calibrators()) == 6


NONSENSE: dict[str, tuple[Callable[[], None], str]] = {
    "ra": (lambda: register_bandpass_calibrator("x", 400.0, 30.0), r"calibrator x: ra_deg is 400\.0"),
    "dec": (lambda: register_bandpass_calibrator("x", 40.0, -90.1), r"calibrator x: dec_deg is -90\.1"),
    "nan": (lambda: register_bandpass_calibrator("x", float("nan"), 30.0), "ra_deg is nan; input should be a finite"),
    "flux": (lambda: register_bandpass_calibrator("x", 4.0, 30.0, flux_jy=float("inf")), "flux_jy is inf"),
    "empty": (
        lambda: register_bandpass_calibrator("x", 40.0, 30.0, dec_range_min=31.0, dec_range_max=29),
        r"calibrator x: the declination range 31\.0 to 29\.0 is empty",
    ),
    "empty with the other limit of the row": (
        lambda: register_bandpass_calibrator("a", 10.0, 30.0, dec_range_min=31.5),
        r"calibrator a: the declination range 31\.5 to 31\.0 is empty",
    ),
    "status": (lambda: register_bandpass_calibrator("x", 4.0, 30.0, status="great"), "status is 'great'; .*'retired'"),
    "column": (lambda: register_bandpass_calibrator("x", 4.0, 30.0, flux=3.0), "there is no column flux; .*flux_jy"),
    "name": (lambda: register_bandpass_calibrator("", 4.0, 30.0), "calibrator_name is ''"),
    "gain": (lambda: register_gain_calibrator("f", "s", 4.0, 91.0), r"gain calibrator s of field f: dec_deg is 91\.0"),
    "search": (lambda: print(get_bandpass_calibrators(dec_deg=float("nan"))), "dec_deg is nan"),
    "search by status": (lambda: print(get_bandpass_calibrators(status="great")), "status is 'great'"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused_and_changes_nothing(root: Path, case: str) -> None:
    register_bandpass_calibrator("a", 10.0, 30.0, dec_range_min=29.0, dec_range_max=31.0)
    before = dump(root)
    call, sentence = NONSENSE[case]
    with pytest.raises(ConfigurationError, match=sentence) as told:
        call()
    assert "\n" not in str(told.value)
    assert dump(root) == before


def test_looking_makes_no_database(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist: run `contimg init`"):
        get_bandpass_calibrators()
    assert not (root / "state").exists()


@pytest.mark.usefixtures("backend")
def test_a_session_of_the_caller_decides() -> None:
    with pytest.raises(KeyboardInterrupt), get_session("calibrators") as session:
        register_bandpass_calibrator("a", 10.0, 30.0, session=session)
        assert [row.calibrator_name for row in get_bandpass_calibrators(session=session)] == ["a"]
        raise KeyboardInterrupt
    assert names() == []


@pytest.mark.usefixtures("backend")
def test_gain_calibrators_of_a_field() -> None:
    register_gain_calibrator("f1", "faint", 10.0, 30.0, flux_jy=0.3, notes="steady")
    register_gain_calibrator("f1", "bright", 10.1, 30.0, flux_jy=0.9, catalog_source="NVSS")
    register_gain_calibrator("f1", "unknown", 10.1, 30.0)
    register_gain_calibrator("f2", "faint", 10.0, 30.0, flux_jy=5.0)
    register_gain_calibrator("f1", "faint", 10.0, 30.1, flux_jy=0.4)
    rows = get_gain_calibrators("f1")
    assert [(row.source_name, row.flux_jy) for row in rows] == [("bright", 0.9), ("faint", 0.4), ("unknown", None)]
    assert (rows[1].dec_deg, rows[1].notes) == (30.1, "steady")
    assert get_gain_calibrators("nowhere") == []


def test_a_small_list_is_read_as_it_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LIST)
    listed = vla_list.load(path)
    first, second = listed.sources
    assert (first.name, first.position_code, first.aliases) == ("0003-174", "T", ("0000-177", "3C1"))
    assert first.ra_deg == pytest.approx(15 * (3 / 60 + 21.9969 / 3600), abs=1e-12)
    assert first.dec_deg == pytest.approx(-(17 + 27 / 60 + 11.781 / 3600), abs=1e-12)
    assert [(b.band, b.codes, b.flux_jy, b.uv_min_klambda, b.uv_max_klambda) for b in first.bands] == [
        ("P", "XSSS", 7.0, None, 7.0),
        ("L", "X?SP", 2.2, 0.5, 7.0),
    ]
    # A declination between 0 and -1 deg keeps its sign; a name with a letter for a digit is no name.
    assert (second.name, second.dec_deg) == ("2359-003", -0.5)
    assert [(b.band, b.uv_min_klambda) for b in second.bands] == [("L", 15.0), ("X", None)]
    assert [bad.line for bad in listed.bad_lines] == [11, 12, 14, 18]
    assert [bad.reason.split(" ")[0] for bad in listed.bad_lines] == ["the", "the", "not", "not"]


def test_what_is_no_list_is_refused_and_the_rows_stay(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LIST)
    import_vla_list(path)
    before = dump(root)
    for content, sentence in ((b"\xff\xfe\x00", "cannot be read as text"), (b"Dear all,\n", "names no calibrator")):
        bad = tmp_path / "bad.txt"
        bad.write_bytes(content)
        with pytest.raises(BadInputError, match=sentence):
            import_vla_list(bad)
    with pytest.raises(BadInputError, match="No such file"):
        import_vla_list(tmp_path / "missing.txt")
    assert dump(root) == before


@pytest.mark.usefixtures("backend")
def test_a_new_list_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LIST)
    report = import_vla_list(path)
    assert (report.n_rows, report.n_fluxes, len(report.bad_lines)) == (2, 4, 4)
    before = [query(f"SELECT * FROM {table} ORDER BY id") for table in VLA_TABLES]
    assert import_vla_list(path) == report
    assert [query(f"SELECT * FROM {table} ORDER BY id") for table in VLA_TABLES] == before
    path.write_text(LIST[: LIST.index("2359-003")].replace(" 90cm    P  X", "6cm    C  X").replace("2.2", "3.3"))
    assert import_vla_list(path).n_rows == 1
    assert query("SELECT id, name, flux_jy, code_20_cm FROM vla_calibrators") == [(1, "0003-174", 3.3, "X?SP")]
    fluxes = query("SELECT vla_calibrator_id, band, flux_jy FROM vla_flux_info ORDER BY band")
    assert fluxes == [(1, "C", 7.0), (1, "L", 3.3)]
    catalog = query("SELECT catalog, catalog_id, flux_jy, flux_freq_ghz FROM catalog_sources")
    assert catalog == [("VLA", "0003-174", 3.3, 1.45)]


def test_the_whole_list() -> None:
    report = import_vla_list(real_list())
    # 1,865 entries; two sources are in it twice.
    assert report.n_rows == 1863
    assert report.n_fluxes == 5381
    # 1,042 sources have a 20 cm line; 14 of those lines tell no flux.
    assert query("SELECT count(flux_jy) FROM vla_calibrators") == [(1028,)]
    named = query(
        "SELECT f.frequency_ghz, f.flux_jy FROM vla_flux_info f JOIN vla_calibrators c ON c.id = vla_calibrator_id"
        " WHERE c.name = '1331+305' ORDER BY 1"
    )
    fluxes = {float(str(freq)): float(str(flux)) for freq, flux in named}
    # 3C286 falls with frequency: a reader that mixed up bands would see it elsewhere.
    assert fluxes[1.45] == pytest.approx(14.9, abs=0.5)
    assert all(low > high for low, high in itertools.pairwise(fluxes.values()))


def test_the_positions_of_both_epochs_agree() -> None:
    """The list gives each place twice; precessed with astropy both are one."""
    listed = vla_list.load(real_list())
    ours = {source.name: source for source in listed.sources}
    pairs = []
    lines = real_list().read_text().splitlines()
    for line, after in itertools.pairwise(lines):
        words = after.split()
        if " J2000 " in line and " B1950 " in after and line.split()[0] in ours:
            pairs.append((ours[line.split()[0]], words[3], words[4].rstrip('"').replace("'", "m") + "s"))
    old = SkyCoord([p[1] for p in pairs], [p[2] for p in pairs], frame=FK4(equinox="B1950", obstime="B1979.9"))
    new = SkyCoord([p[0].ra_deg for p in pairs], [p[0].dec_deg for p in pairs], unit=u.deg, frame=FK5(equinox="J2000"))
    apart = old.transform_to(FK5(equinox="J2000")).separation(new).arcsec
    assert len(pairs) > 1850
    # A few entries of the list itself disagree; a reader's mistake would move all, or all southern ones.
    print("arcsec apart: median", float(sorted(apart)[len(apart) // 2]), "above 3:", int((apart > 3.0).sum()))
    assert sorted(apart)[len(apart) // 2] < 0.05
    assert (apart > 3.0).sum() <= 10
