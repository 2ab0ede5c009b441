"""Caltables come back as they were written, and look like CASA's own."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from casacore import tables

from dsa110_contimg.errors import BadInputError, CalibrationError
from dsa110_contimg.formats import caltable
from dsa110_contimg.visibilities import Gains

DATA = os.environ.get("CONTIMG_DATA")
CASA = {"K": "sma.ms.dcal", "BP": "sma.ms.bcal", "G": "sma.ms.amp.gcal"}


def random_gains(kind: str, n_time: int, n_freq: int) -> Gains:
    rng = np.random.default_rng(n_freq)
    shape = (n_time, 17, n_freq, 2)
    values = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    if kind == "K":
        values = rng.uniform(-200.0, 200.0, shape).astype(complex)
    flags = rng.random(shape) < 0.1
    flags[:, 4] = True
    values[flags] = np.nan + 1j * np.nan
    position = rng.normal(size=(17, 3)) * 1e3
    position[16] = np.nan
    return Gains(
        kind=kind,
        time_mjd=60700.25 + np.arange(n_time) / 1440.0,
        freq_hz=np.array([1.405e9]) if n_freq == 1 else 1.3114e9 + 244140.625 * np.arange(n_freq, dtype=np.float64),
        values=values,
        flags=flags,
        snr=np.where(flags, 0.0, rng.uniform(3.0, 90.0, shape)),
        reference_antenna="5",
        antenna_names=[str(i + 1) for i in range(17)],
        antenna_itrf_m=position,
        source="3C48",
        flux_anchor="3C48",
        dec_deg=33.21,
        metadata={"present_antennas": "1,2,3", "note": "ünïcode, 'quotes'"},
        errors=np.where(flags | (rng.random(shape) < 0.1), np.nan, rng.uniform(0.01, 0.1, shape)),
    )


@pytest.mark.parametrize(
    ("kind", "n_time", "n_freq"), [("K", 1, 1), ("BP", 1, 48), ("G", 1, 1), ("GP", 1, 1), ("2G", 5, 1)]
)
def test_round_trip(kind: str, n_time: int, n_freq: int, tmp_path: Path) -> None:
    gains = random_gains(kind, n_time, n_freq)
    path = tmp_path / "tables" / "2025-01-15T12:30:00_cal"
    caltable.save(path, gains)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing half-written stays"
    again = caltable.load(path)
    assert np.any(np.abs(gains.values[~gains.flags]) > 0.1)
    np.testing.assert_allclose(again.values, gains.values, rtol=3e-7)
    np.testing.assert_array_equal(again.flags, gains.flags)
    np.testing.assert_allclose(again.snr, gains.snr, rtol=1e-6)
    assert np.isfinite(gains.errors).any()
    np.testing.assert_allclose(again.errors, gains.errors, rtol=1e-6)
    np.testing.assert_allclose(again.time_mjd, gains.time_mjd, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(again.freq_hz, gains.freq_hz)
    np.testing.assert_array_equal(again.antenna_itrf_m, gains.antenna_itrf_m)
    for name in ("kind", "reference_antenna", "antenna_names", "source", "flux_anchor", "dec_deg", "metadata"):
        assert getattr(again, name) == getattr(gains, name)


def test_a_table_is_never_overwritten(tmp_path: Path) -> None:
    gains = random_gains("G", 1, 1)
    caltable.save(tmp_path / "cal", gains)
    with pytest.raises(CalibrationError, match="never overwritten"):
        caltable.save(tmp_path / "cal", gains)


def test_a_leftover_of_a_killed_writer_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "cal.partial" / "ANTENNA").mkdir(parents=True)
    caltable.save(tmp_path / "cal", random_gains("G", 1, 1))
    assert caltable.load(tmp_path / "cal").kind == "G"


def test_what_is_no_caltable_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not a readable caltable"):
        caltable.load(tmp_path / "missing")
    column = tables.maketabdesc([tables.makescacoldesc("X", 0.0)])
    tables.table(str(tmp_path / "other"), column, ack=False).close()
    with pytest.raises(BadInputError, match="not a K, B or G caltable"):
        caltable.load(tmp_path / "other")


def test_a_table_that_is_empty_or_contradicts_itself_is_bad_input(tmp_path: Path) -> None:
    for name in ("twice", "cut"):
        caltable.save(tmp_path / name, random_gains("G", 1, 1))
    with tables.table(str(tmp_path / "cut"), ack=False) as main, main.query("ANTENNA1 < 0") as nothing:
        nothing.copy(str(tmp_path / "empty"), deep=True).close()
    (tmp_path / "cut" / "table.f0").write_bytes(b"")
    with pytest.raises(BadInputError, match="cut is not a readable caltable"):
        caltable.load(tmp_path / "cut")
    with pytest.raises(BadInputError, match="empty is a caltable without solutions"):
        caltable.load(tmp_path / "empty")
    with tables.table(str(tmp_path / "twice"), readonly=False, ack=False) as main:
        main.putcell("ANTENNA1", 3, 2)
    with pytest.raises(BadInputError, match="several solutions of one antenna at one time"):
        caltable.load(tmp_path / "twice")
    with pytest.raises(CalibrationError, match=r"no solutions of spectral window 7: it holds \[0\]"):
        caltable.load(tmp_path / "twice", 7)


def layout(path: Path) -> dict[str, dict[str, tuple[object, ...]]]:
    """Return type, rank, shape and units of every column of a table and its subtables."""
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    with tables.table(str(path), ack=False) as main:
        subtables = [name for name, value in main.getkeywords().items() if str(value).startswith("Table: ")]
    for name in ("", *subtables):
        with tables.table(str(path / name), ack=False) as table:
            found[name] = {}
            for column in table.colnames():
                about = table.getcoldesc(column)
                keywords = about["keywords"]
                measure = {k: str(v) for k, v in keywords.get("MEASINFO", {}).items()}
                units = list(keywords.get("QuantumUnits", []))
                found[name][column] = (about["valueType"], about.get("ndim"), about["option"], units, measure)
    return found


@pytest.mark.skipif(DATA is None, reason="CONTIMG_DATA (real CASA caltables) is not set")
@pytest.mark.parametrize("kind", ["K", "BP", "G"])
def test_the_layout_is_that_of_a_casa_table(kind: str, tmp_path: Path) -> None:
    archive = Path(str(DATA)) / "calibration" / f"{CASA[kind]}.tar.gz"
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    real, ours = tmp_path / CASA[kind], tmp_path / "ours"
    caltable.save(ours, random_gains(kind, 1, 48 if kind == "BP" else 1))
    assert layout(ours) == layout(real)
    with tables.table(str(real), ack=False) as a, tables.table(str(ours), ack=False) as b:
        assert a.info() == b.info()
        assert set(a.getkeywords()) - {"CASA_Version"} <= set(b.getkeywords())
        assert (a.getkeyword("ParType"), a.getkeyword("VisCal")) == (b.getkeyword("ParType"), b.getkeyword("VisCal"))
    loaded = caltable.load(real, spectral_window=0)
    assert loaded.kind == kind
    assert loaded.values.shape[1:] == (9, 512 if kind == "BP" else 1, 2)
    assert np.abs(loaded.values[~loaded.flags]).max() > 0.0
    with pytest.raises(CalibrationError, match="name one"):
        caltable.load(real)
