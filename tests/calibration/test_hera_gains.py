"""Gains of another telescope, applied by us: raw, gains and calibrated visibilities of HERA, all three published."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains, SkyPosition, Visibilities

FOLDER = Path(os.environ.get("CONTIMG_DATA", "/nowhere")) / "calibration"
NAME = "zen.2458043.40141.xx.HH.XRAA"
DEC_DEG = -30.72
MJD_OF_JD = 2400000.5
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the HERA files are not here: set CONTIMG_DATA")


def load(path: Path) -> Visibilities:
    """Read visibilities without a frame: calibration needs none."""
    with h5py.File(path) as file:
        header, data = file["Header"], file["Data"]
        numbers = header["antenna_numbers"][()]
        row_of = {int(number): row for row, number in enumerate(numbers)}
        n_row = header["ant_1_array"].size
        return Visibilities(
            vis=data["visdata"][:, 0],
            flags=data["flags"][:, 0],
            weights=np.ones((n_row, 1), np.float32),
            uvw_m=header["uvw_array"][()].astype(float),
            antenna1=np.array([row_of[int(number)] for number in header["ant_1_array"]], np.int32),
            antenna2=np.array([row_of[int(number)] for number in header["ant_2_array"]], np.int32),
            time_mjd=header["time_array"][()] - MJD_OF_JD,
            freq_hz=header["freq_array"][0],
            channel_width_hz=float(header["channel_width"][()]),
            integration_s=float(header["integration_time"][0]),
            phase_center=SkyPosition(0.0, DEC_DEG),
            antenna_names=[name.decode() for name in header["antenna_names"]],
            antenna_itrf_m=header["antenna_positions"][()],
            telescope="HERA",
            pointing_mjd=np.empty(0),
            pointing_icrs_deg=np.empty((0, 2)),
        )


def load_gains(path: Path, vis: Visibilities) -> Gains:
    """Read gains of calfits: axes (antenna, window, channel, time, polarization, (real, imaginary, flag, quality))."""
    with fits.open(path) as file:
        cube = file[0].data[:, 0, :, :, 0, :].astype(float)
        first_jd, step = file[0].header["CRVAL3"], file[0].header["CDELT3"]
        names = [str(name) for name in file["ANTENNAS"].data["ANTNAME"]]
    parts = np.moveaxis(cube, (2, 0, 1), (0, 1, 2))[:, :, :, None, :]
    values = parts[..., 0] + 1j * parts[..., 1]
    return Gains(
        kind="G",
        time_mjd=first_jd - MJD_OF_JD + step * np.arange(values.shape[0]),
        freq_hz=vis.freq_hz,
        values=values,
        flags=parts[..., 2] > 0,
        snr=np.full(values.shape, 100.0),
        reference_antenna=names[0],
        antenna_names=names,
        antenna_itrf_m=np.zeros((len(names), 3)),
        source="sky",
        flux_anchor="none",
        dec_deg=DEC_DEG,
    )


@pytest.fixture
def raw() -> Visibilities:
    return load(FOLDER / f"{NAME}.uncalibrated.uvh5")


def largest_difference(vis: Visibilities) -> tuple[float, float]:
    """Return the largest relative difference from what HERA published, and the fraction of samples compared."""
    theirs: NDArray[np.complex64] = load(FOLDER / f"{NAME}.uvh5").vis
    good = ~vis.flags & (theirs != 0.0)
    return float((np.abs(vis.vis - theirs)[good] / np.abs(theirs[good])).max()), float(good.mean())


def test_calibrated_visibilities_are_reproduced(raw: Visibilities) -> None:
    gains = load_gains(FOLDER / f"{NAME}.abs.calfits", raw)
    apply(raw, [gains], CalibrationOptions(), measure_weights=False)
    difference, compared = largest_difference(raw)
    assert difference < 1e-6
    assert compared > 0.5


def test_a_conjugated_table_is_told(raw: Visibilities) -> None:
    gains = load_gains(FOLDER / f"{NAME}.abs.calfits", raw)
    gains.values = gains.values.conj()
    apply(raw, [gains], CalibrationOptions(), measure_weights=False)
    assert largest_difference(raw)[0] > 0.1
