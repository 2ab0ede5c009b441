"""UVH5 of other telescopes: read as pyuvdata reads them, joined in frequency, and refused by name."""

import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.casa import casa, needs_casa
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import BadInputError, InconsistentGroupError, UnreadableDataError
from dsa110_contimg.formats import measurement_set, uvh5_phased
from dsa110_contimg.formats.uvh5_file import read_parts
from dsa110_contimg.imaging.image import image
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.simulation import faults
from dsa110_contimg.visibilities import Visibilities

pyuvdata = pytest.importorskip("pyuvdata")
DATA = Path(os.environ.get("CONTIMG_DATA") or "/nowhere") / "uvh5"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="CONTIMG_DATA is not set: no files of other telescopes")
PAIR = sorted(DATA.glob("ata.*.uvh5"))
HERA = DATA / "zen.2458432.34569.uvh5"
POSITION = (1.5, -0.5)


def reading_of(path: Path) -> Any:
    """Return what pyuvdata reads, a UVData."""
    peer = pyuvdata.UVData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.read(path, file_type="uvh5", run_check=False)
    return peer


def check_against(vis: Visibilities, peer: Any, channels: slice) -> None:
    """Compare values, flags, UVW, times and antennas with pyuvdata's, row by row."""
    table = list(peer.telescope.antenna_numbers)
    ant_1, ant_2 = (np.array([table.index(n) for n in numbers]) for numbers in (peer.ant_1_array, peer.ant_2_array))
    swap = ant_2 > ant_1
    assert 0 < swap.sum() < swap.size, "rows of both orders, or the test says little"
    np.testing.assert_array_equal(vis.antenna1, np.where(swap, ant_1, ant_2))
    np.testing.assert_array_equal(vis.antenna2, np.where(swap, ant_2, ant_1))
    np.testing.assert_array_equal(vis.uvw_m, np.where(swap[:, None], -peer.uvw_array, peer.uvw_array))
    np.testing.assert_allclose(vis.time_mjd, peer.time_array - 2400000.5, atol=1e-9)
    np.testing.assert_array_equal(vis.freq_hz[channels], peer.freq_array)
    hands = [list(peer.polarization_array).index(code) for code in (-5, -6)]
    theirs = peer.data_array[..., hands].astype(np.complex64)
    theirs = np.where(swap[:, None, None], theirs.conj(), theirs)
    bad = peer.flag_array[..., hands] | (peer.nsample_array[..., hands] == 0) | (theirs == 0)
    np.testing.assert_array_equal(vis.flags[:, channels], bad)
    np.testing.assert_array_equal(vis.vis[:, channels], np.where(bad, 0, theirs))
    np.testing.assert_allclose(
        vis.antenna_itrf_m, peer.telescope.antenna_positions + peer.telescope._location.xyz(), atol=1e-6
    )


def test_the_pair_is_joined_as_pyuvdata_reads_it() -> None:
    vis = uvh5_phased.load(PAIR[::-1])
    assert vis.vis.shape == (406, 32, 2)
    assert (vis.telescope, vis.field_name, vis.dish_diameter_m) == ("ATA", "3c286", 6.1)
    assert vis.phase_center == pytest.approx((202.784529, 30.5091553), abs=1e-7)
    for number, path in enumerate(PAIR):
        check_against(vis, reading_of(path), slice(16 * number, 16 * number + 16))


def test_one_set_that_other_programs_read(tmp_path: Path) -> None:
    ms = tmp_path / "3c286.ms"
    done = CliRunner().invoke(app, ["convert", *map(str, PAIR), "--out", str(ms), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["telescope"], told["rows"], told["channels"]) == ("ATA", 406, 32)
    vis, read = uvh5_phased.load(PAIR), measurement_set.load(ms, "DATA")
    np.testing.assert_array_equal(read.vis, vis.vis)
    np.testing.assert_array_equal(read.uvw_m, vis.uvw_m)
    assert (read.dish_diameter_m, read.antenna_names) == (6.1, vis.antenna_names)
    again = CliRunner().invoke(app, ["convert", *map(str, PAIR), "--out", str(ms)])
    assert again.exit_code == 1
    assert "exists already and is not replaced" in again.output


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")
def test_wsclean_reads_it(tmp_path: Path) -> None:
    ms = measurement_set.save(tmp_path / "ata.ms", uvh5_phased.load(PAIR))
    command = f"wsclean -quiet -j 1 -size 128 128 -scale 20asec -name w -data-column DATA {ms}"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "w-dirty.fits").is_file()
    ours = image(measurement_set.load(ms, "DATA"), ImagingOptions(size=128, cell_arcsec=20.0, niter=0))
    assert np.isfinite(ours.image.data).all()


@needs_casa
def test_casa_reads_it(tmp_path: Path) -> None:
    vis = uvh5_phased.load(PAIR)
    told = casa(
        "import casatasks, casatools, pathlib\ncasatasks.listobs(ms, listfile='l')\nms_ = casatools.ms()\n"
        "ms_.open(ms)\ncolumns = ms_.getdata(['data', 'uvw'])\nms_.close()\n"
        "result = [pathlib.Path('l').read_text(), columns['data'].shape, float(abs(columns['data']).sum()),"
        " columns['uvw'].T.tolist(), pathlib.Path(log_path).read_text()]",
        ms=measurement_set.save(tmp_path / "ata.ms", vis),
    )
    assert "Observation: ATA" in told[0]
    assert told[1] == [2, 32, 406]
    assert told[2] == pytest.approx(np.abs(vis.vis).sum(dtype=float), rel=1e-4)
    np.testing.assert_array_equal(told[3], vis.uvw_m)
    assert "\tWARN\t" not in told[4]


@pytest.fixture
def phased(tmp_path: Path) -> Path:
    """HERA's drift scan as pyuvdata phases it to a position: integer visibilities, four polarizations."""
    peer, path = reading_of(HERA), tmp_path / "phased.uvh5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.phase(lon=POSITION[0], lat=POSITION[1], phase_frame="icrs", epoch=2000.0, cat_name="there")
        # Its rows have no samples and would all be flagged.
        peer.nsample_array[1:] = 1.0
        peer.write_uvh5(path, run_check=False, data_write_dtype=np.dtype([("r", "<i4"), ("i", "<i4")]))
    return path


def with_older_axes(path: Path) -> Path:
    """Give the datasets an axis of spectral windows, as files before 2023 have it."""
    with h5py.File(path, "r+") as file:
        for name in ("visdata", "flags", "nsamples"):
            values = file["Data"][name][()][:, None]
            del file["Data"][name]
            file["Data"][name] = values
        freq_hz, width_hz = file["Header/freq_array"][()][None], float(file["Header/channel_width"][0])
        for name, value in {"freq_array": freq_hz, "channel_width": width_hz}.items():
            del file["Header"][name]
            file["Header"][name] = value
    return path


@pytest.mark.parametrize("older", [False, True], ids=["new axes", "old axes"])
def test_integers_and_both_axis_shapes(phased: Path, older: bool) -> None:
    peer = reading_of(phased)
    vis = uvh5_phased.load([with_older_axes(phased) if older else phased])
    assert vis.phase_center == pytest.approx(np.degrees(POSITION), abs=1e-9)
    assert not vis.flags.all()
    check_against(vis, peer, slice(None))


def test_one_polarization_stays_one(phased: Path, tmp_path: Path) -> None:
    peer = reading_of(phased)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.select(polarizations=[-5])
        peer.write_uvh5(tmp_path / "xx.uvh5", run_check=False)
    vis, both = uvh5_phased.load([tmp_path / "xx.uvh5"]), uvh5_phased.load([phased])
    np.testing.assert_array_equal(vis.vis, both.vis[..., :1])
    read = measurement_set.load(measurement_set.save(tmp_path / "xx.ms", vis), "DATA")
    np.testing.assert_array_equal(read.vis, vis.vis)


@pytest.mark.parametrize("path", sorted(DATA.glob("zen.*.uvh5")), ids=lambda path: path.name[4:20])
def test_drift_scans_are_refused_by_name(path: Path) -> None:
    with pytest.raises(BadInputError, match=r"of the type '(drift|unprojected)'.*phase it to one sidereal position"):
        uvh5_phased.read_header(path)


def edit(**entries: object) -> Callable[[Path], None]:
    """Return a fault that sets header entries; a key's double underscore is a slash."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            for key, value in entries.items():
                name = "Header/" + key.replace("__", "/")
                if name in file:
                    del file[name]
                file[name] = value

    return change


DEFECTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (faults.truncate, "is truncated"),
    "half written": (lambda path: faults.remove_field(path, "Data/nsamples"), "lacks an entry"),
    "rows": (edit(Nblts=405), "Nblts is 405"),
    "centers": (edit(phase_center_id_array=np.arange(406) % 2), "has 2 phase centers"),
    "driftscan": (edit(phase_center_catalog__0__cat_type=b"driftscan"), "of the type 'driftscan'"),
    "planet": (edit(phase_center_catalog__0__cat_type=b"ephem"), "of the type 'ephem'"),
    "frame": (edit(phase_center_catalog__0__cat_frame=b"galactic"), "ICRS or FK5 J2000 is needed"),
    "motion": (edit(phase_center_catalog__0__cat_pm_ra=3.0), "proper motion"),
    "windows": (edit(Nspws=2), "has 2 spectral windows"),
    "circular": (edit(polarization_array=[-1, -3, -4, -2]), r"has polarizations \[-1, -3, -4, -2\]; XX"),
    "uneven": (edit(freq_array=1.25e9 + 5e5 * np.arange(16.0) ** 1.1), "has uneven channels"),
    "absurd": (edit(freq_array=np.full(16, np.nan)), "has absurd frequencies"),
    "uvw": (edit(uvw_array=np.ones((406, 3))), "its UVW differ from its baselines"),
    "durations": (edit(integration_time=np.arange(1.0, 407.0)), "must be alike"),
    "order": (edit(time_array=2460648.0 - np.arange(406.0)), "is not in the order of time"),
    "antenna": (edit(antenna_numbers=np.arange(1000, 1042)), "which its table lacks"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_named(defect: str, tmp_path: Path) -> None:
    path = Path(shutil.copyfile(PAIR[0], tmp_path / "copy.uvh5"))
    break_it, sentence = DEFECTS[defect]
    break_it(path)
    with pytest.raises(BadInputError, match=sentence) as caught:
        uvh5_phased.read_header(path)
    assert "copy.uvh5" in str(caught.value)


def test_older_headers_with_one_center_are_read(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(PAIR[0], tmp_path / "older.uvh5"))
    with h5py.File(path, "r+") as file:
        del file["Header/phase_center_catalog"]
    edit(
        phase_type=b"phased", phase_center_ra=3.5, phase_center_dec=0.5, phase_center_frame=b"fk5",
        phase_center_epoch=2000.0, object_name=b"somewhere",
    )(path)  # fmt: skip
    header = uvh5_phased.read_header(path)
    assert header.field_name == "somewhere"
    assert header.phase_center == pytest.approx((np.degrees(3.5), np.degrees(0.5)), abs=0.1 / 3600.0)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InconsistentGroupError, match=r"do not continue each other: 1259\.500000 MHz is followed by 1252"
    ):
        uvh5_phased.load([PAIR[0], PAIR[0]])
    gap = Path(shutil.copyfile(PAIR[1], tmp_path / "gap.uvh5"))
    edit(freq_array=1.261e9 + 5e5 * np.arange(16.0))(gap)
    with pytest.raises(InconsistentGroupError, match=r"1259\.500000 MHz is followed by 1261\.000000"):
        uvh5_phased.load([PAIR[0], gap])
    later = Path(shutil.copyfile(PAIR[1], tmp_path / "later.uvh5"))
    edit(time_array=np.full(406, 2460648.5))(later)
    with pytest.raises(InconsistentGroupError, match="differ in time_mjd"):
        uvh5_phased.load([PAIR[0], later])


def test_damaged_data_are_named(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(PAIR[0], tmp_path / "damaged.uvh5"))
    header = uvh5_phased.read_header(path)
    faults.truncate(path)
    with pytest.raises(UnreadableDataError, match="cannot be read to its end"):
        list(read_parts(path, (406, 16), header.pol_index))


def test_no_numbers_infinities_and_zeros_are_kept_as_flags(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(PAIR[0], tmp_path / "nan.uvh5"))
    with h5py.File(path, "r+") as file:
        file["Data/visdata"][5, :3, 0] = [np.nan, np.inf, 0.0]
    vis, whole = uvh5_phased.load([path]), uvh5_phased.load(PAIR[:1])
    assert vis.flags[5, :3, 0].all()
    assert (vis.vis[5, :3, 0] == 0.0).all()
    np.testing.assert_array_equal(vis.vis[6:], whole.vis[6:])
