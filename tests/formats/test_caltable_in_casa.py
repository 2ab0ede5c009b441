"""CASA applies our caltables as we do, and reads them; the SMA's own tables survive reading, writing and reading."""

import copy
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.calibration.conftest import blank_tile
from tests.casa import casa, needs_casa

from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.formats import caltable, measurement_set
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains, Visibilities

DATA = os.environ.get("CONTIMG_DATA")
SMA = {"sma.ms.bcal": 12, "sma.ms.amp.gcal": 12, "sma.ms.pha.gcal": 2, "sma.ms.dcal": 12}
"""Tables of the Submillimeter Array, and how many spectral windows each has solutions of."""
needs_data = pytest.mark.skipif(DATA is None, reason="CONTIMG_DATA (real CASA caltables) is not set")
EQUAL = 1e-5
N_ANT, N_TIME, N_CHAN = 8, 10, 16


@pytest.fixture(scope="module")
def tile() -> Visibilities:
    rng = np.random.default_rng(3)
    vis = blank_tile(N_ANT, N_TIME, N_CHAN, rng, 60700.2)
    vis.vis[:] = rng.normal(size=vis.vis.shape) + 1j * rng.normal(size=vis.vis.shape)
    vis.flags[:] = rng.random(vis.flags.shape) < 0.05
    return vis


def gains_for(vis: Visibilities, kind: str, seed: int = 5) -> Gains:
    """Return random gains on the tile's antennas; one solution in twenty is flagged, and all of antenna 3."""
    print(f"gains seed {seed}")
    rng = np.random.default_rng(seed)
    n_time, n_freq = (4 if kind == "2G" else 1), (vis.freq_hz.size if kind == "BP" else 1)
    shape = (n_time, vis.n_antennas, n_freq, 2)
    phase = rng.uniform(-np.pi, np.pi, (1, *shape[1:])) + 0.3 * rng.normal(size=shape)
    values = (1.0 if kind in ("GP", "2G") else rng.uniform(0.05, 0.09, shape)) * np.exp(1j * phase)
    if kind == "K":
        values = rng.uniform(-80.0, 80.0, shape).astype(complex)
    flags = rng.random(shape) < (0.05 if kind == "BP" else 0.0)
    flags[:, 3] = True
    flags[:, -1] = True
    values[flags] = complex(np.nan, np.nan)
    span = np.linspace(vis.time_mjd.min(), vis.time_mjd.max(), n_time) if n_time > 1 else np.array([vis.mid_mjd])
    middle = np.array([0.5 * (vis.freq_hz[0] + vis.freq_hz[-1])])
    return Gains(
        kind=kind,
        time_mjd=span,
        freq_hz=vis.freq_hz if kind == "BP" else middle,
        values=values,
        flags=flags,
        snr=np.where(flags, 0.0, 50.0),
        reference_antenna="1",
        antenna_names=list(vis.antenna_names),
        antenna_itrf_m=vis.antenna_itrf_m,
        source="3C48",
        flux_anchor="3C48",
        dec_deg=33.2,
        errors=np.where(flags, np.nan, 0.02),
    )


def assert_equal(again: Gains, gains: Gains) -> None:
    """Check that two tables are the same, to the precision of the disk."""
    assert not gains.flags.all()
    np.testing.assert_array_equal(again.flags, gains.flags)
    np.testing.assert_array_equal(again.values, gains.values)
    np.testing.assert_array_equal(again.snr, gains.snr)
    np.testing.assert_array_equal(again.errors, gains.errors)
    np.testing.assert_array_equal(again.freq_hz, gains.freq_hz)
    np.testing.assert_allclose(again.time_mjd, gains.time_mjd, rtol=0, atol=2e-11)
    np.testing.assert_array_equal(again.antenna_itrf_m, gains.antenna_itrf_m)
    for name in ("kind", "reference_antenna", "antenna_names", "source", "flux_anchor", "metadata"):
        assert getattr(again, name) == getattr(gains, name)


def unpack(name: str, folder: Path) -> Path:
    with tarfile.open(Path(str(DATA)) / "calibration" / f"{name}.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    return folder / name


@needs_data
@pytest.mark.parametrize("name", SMA)
def test_tables_of_the_sma_are_read_written_and_read_again(name: str, tmp_path: Path) -> None:
    real = unpack(name, tmp_path)
    windows = caltable.spectral_windows(real)
    assert len(windows) == SMA[name]
    for window in windows:
        gains = caltable.load(real, window)
        assert {"Ant1", "Ant8"} < set(gains.antenna_names)
        assert gains.source
        assert (np.diff(gains.freq_hz) > 0).all()
        caltable.save(tmp_path / f"again{window}", gains)
        assert_equal(caltable.load(tmp_path / f"again{window}"), gains)


READ = """
from casatools import table
reader = table()
reader.open(path)
parameter = "FPARAM" if "FPARAM" in reader.colnames() else "CPARAM"
values, flags = reader.getcol(parameter), reader.getcol("FLAG")
numbers = {"real": values.real, "imag": values.imag, "flag": flags.astype(int), "snr": reader.getcol("SNR"),
           "error": reader.getcol("PARAMERR"), "antenna": reader.getcol("ANTENNA1"), "time": reader.getcol("TIME")}
reader.close()
reader.open(path + "/SPECTRAL_WINDOW")
numbers["freq"] = reader.getcol("CHAN_FREQ")[:, 0]
reader.close()
result = {name: array.tolist() for name, array in numbers.items()}
"""


@needs_data
@needs_casa
def test_casa_reads_what_we_wrote_of_the_sma(tmp_path: Path) -> None:
    gains = caltable.load(unpack("sma.ms.bcal", tmp_path), 3)
    caltable.save(tmp_path / "ours", gains)
    seen = {name: np.array(values) for name, values in casa(READ, path=tmp_path / "ours").items()}
    n_ant = len(gains.antenna_names)
    shape = (2, gains.freq_hz.size, n_ant)
    assert seen["real"].shape == shape
    ours = gains.values[0].transpose(2, 1, 0)
    good = ~gains.flags[0].transpose(2, 1, 0)
    np.testing.assert_array_equal(seen["flag"].astype(bool), ~good)
    np.testing.assert_array_equal((seen["real"] + 1j * seen["imag"])[good], ours[good])
    np.testing.assert_allclose(seen["error"][good], np.nan_to_num(gains.errors[0].transpose(2, 1, 0)[good]), rtol=1e-6)
    np.testing.assert_array_equal(seen["freq"], gains.freq_hz)
    np.testing.assert_array_equal(seen["antenna"], np.arange(n_ant))


APPLY = """
import shutil
from casatasks import applycal
result = {}
for kind, tables in sets.items():
    copy = f"{ms}.{kind}"
    shutil.copytree(ms, copy)
    applycal(vis=copy, gaintable=tables, interp=["linear,linearflag"] * len(tables), calwt=False, applymode="calflag",
             flagbackup=False)
    result[kind] = copy
"""


@needs_casa
def test_applycal_corrects_as_we_do(tile: Visibilities, tmp_path: Path) -> None:
    measurement_set.save(tmp_path / "tile.ms", tile)
    # CASA writes into a column that has cells, and leaves the flags that are there.
    measurement_set.write_calibrated(tmp_path / "tile.ms", tile)
    tables = {kind: gains_for(tile, kind) for kind in ("K", "BP", "G", "GP", "2G")}
    for kind, gains in tables.items():
        caltable.save(tmp_path / f"{kind}.cal", gains)
    sets: dict[str, list[str]] = {kind: [str(tmp_path / f"{kind}.cal")] for kind in tables}
    sets["all"] = [str(tmp_path / f"{kind}.cal") for kind in ("K", "BP", "G", "2G")]
    for kind, corrected in casa(APPLY, ms=tmp_path / "tile.ms", sets=sets).items():
        ours = copy.deepcopy(tile)
        used = [caltable.load(Path(path)) for path in sets[kind]]
        apply(ours, used, CalibrationOptions(), measure_weights=False)
        casas = measurement_set.load(Path(corrected), "CORRECTED_DATA")
        cross = ours.antenna1 != ours.antenna2
        np.testing.assert_array_equal(casas.flags[cross], ours.flags[cross], err_msg=kind)
        good = ~ours.flags & cross[:, None, None]
        assert 0.4 < good.mean() < 0.9
        far = np.abs(casas.vis[good] - ours.vis[good]) / np.abs(ours.vis[good])
        print(kind, f"largest relative difference {far.max():.1e}")
        assert far.max() < EQUAL, kind
        assert np.abs(ours.vis[good] - tile.vis[good]).mean() > 0.1, "the table did something"
