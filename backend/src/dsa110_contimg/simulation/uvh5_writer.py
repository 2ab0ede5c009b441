"""A subband file as the correlator's nodes write it: HDF5 without attributes, uncompressed, two groups.

Every field, type and shape is the telescope's: frequencies descend, uvw are float32 and constant, positions are
ECEF offsets from the header's place, texts are bytes but for one. While it is written a file is called
`..._incomplete.hdf5`; only a finished file has its final name.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.naming import subband_name
from dsa110_contimg.simulation import array
from dsa110_contimg.simulation.geometry import meridian

SAMPLE_S = 0.134217728
SAMPLES_PER_INTEGRATION = 96
STEP_S = SAMPLE_S * SAMPLES_PER_INTEGRATION
FILE_INTEGRATION_S = float(np.float32(STEP_S))
DISH_DIAMETER_M = 4.65
BYTES_PER_VALUE = 8 + 4 + 1
BYTES_PER_ROW = 8 * 4 + 12


@dataclass(frozen=True)
class Layout:
    """What all the files of an observation have in common."""

    stations: tuple[int, ...]
    dec_app_deg: float
    channels: int
    n_times: int

    @property
    def n_baselines(self) -> int:
        """Products of one integration, autocorrelations included."""
        return len(self.stations) * (len(self.stations) + 1) // 2

    @property
    def file_bytes(self) -> int:
        """Size of one file, nearly."""
        rows = self.n_baselines * self.n_times
        return rows * (self.channels * 2 * BYTES_PER_VALUE + BYTES_PER_ROW) + 60_000

    def antenna_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (ant_1, ant_2) of one integration's products: station numbers less one."""
        first, second = array.baselines(len(self.stations))
        numbers = np.array(self.stations, np.int64) - 1
        return numbers[first], numbers[second]

    def uvw_m(self) -> NDArray[np.float32]:
        """Return the uvw (n_baseline, 3) of hour angle 0, of r(ant_2) − r(ant_1)."""
        ant_1, ant_2 = self.antenna_numbers()
        positions = array.station_positions()
        toward = meridian(self.dec_app_deg)
        east = np.cross([0.0, 0.0, 1.0], toward)
        east /= np.linalg.norm(east)
        basis = np.stack([east, np.cross(toward, east), toward], axis=1)
        return np.asarray((positions[ant_2] - positions[ant_1]) @ basis, np.float32)


def write_subband(
    folder: Path,
    stamp: str,
    subband: int,
    layout: Layout,
    times_jd: NDArray[np.float64],
    vis: NDArray[np.complex64],
) -> Path:
    """Write one subband file, then give it its final name.

    Parameters
    ----------
    stamp
        Wall clock of the node (UTC, to the second).
    times_jd
        (n_time,), centers of the integrations.
    vis
        (n_time, n_baseline, n_chan, 2), raw units, channels descending in frequency.

    Raises
    ------
    ConfigurationError
        If the folder cannot be written, or the disk is full.
    """
    target = folder / subband_name(stamp, subband)
    scratch = folder / subband_name(stamp, subband, unfinished=True)
    try:
        with h5py.File(scratch, "w") as file:
            _write_header(file.create_group("Header"), layout, subband, times_jd)
            _write_data(file.create_group("Data"), vis)
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ConfigurationError(f"cannot write {target}: {error}; give another folder or free some space") from error
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return target


def _growing(group: h5py.Group, name: str, values: NDArray[np.generic]) -> None:
    group.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=True)


def _write_header(header: h5py.Group, layout: Layout, subband: int, times_jd: NDArray[np.float64]) -> None:
    n_times, n_baselines = times_jd.size, layout.n_baselines
    ant_1, ant_2 = layout.antenna_numbers()
    now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    scalars: dict[str, object] = {
        "latitude": array.HEADER_LATITUDE_DEG,
        "longitude": array.HEADER_LONGITUDE_DEG,
        "altitude": array.HEADER_ALTITUDE_M,
        "telescope_name": np.bytes_("OVRO_MMA"),
        "instrument": np.bytes_("DSA"),
        "object_name": np.bytes_("search"),
        "history": np.bytes_(f"written by dsa110-meridian-fringestopping on {now} (simulated: contimg simulate)"),
        "phase_type": np.bytes_("drift"),
        "phase_center_app_dec": np.radians(layout.dec_app_deg),
        "Nants_data": len(layout.stations),
        "Nants_telescope": array.N_STATIONS,
        "Nbls": n_baselines,
        "Nblts": n_baselines * n_times,
        "Ntimes": n_times,
        "Nfreqs": layout.channels,
        "Npols": 2,
        "Nspws": 1,
        "channel_width": array.channel_width(layout.channels),
    }
    for name, value in scalars.items():
        header[name] = value
    header["antenna_diameters"] = np.full(array.N_STATIONS, DISH_DIAMETER_M)
    header["antenna_names"] = np.array([str(n + 1) for n in range(array.N_STATIONS)], dtype="S4")
    header["antenna_numbers"] = np.arange(array.N_STATIONS)
    header["antenna_positions"] = array.station_positions() - array.header_position()
    header["freq_array"] = array.subband_frequencies(subband, layout.channels)[None, :]
    header["spw_array"] = np.array([1])
    header["polarization_array"] = np.array([-5, -6])
    _growing(header, "ant_1_array", np.tile(ant_1, n_times))
    _growing(header, "ant_2_array", np.tile(ant_2, n_times))
    _growing(header, "uvw_array", np.tile(layout.uvw_m(), (n_times, 1)))
    _growing(header, "time_array", np.repeat(times_jd, n_baselines))
    _growing(header, "integration_time", np.full(n_baselines * n_times, FILE_INTEGRATION_S))
    _write_extra_keywords(header.create_group("extra_keywords"), layout)


def _write_extra_keywords(extra: h5py.Group, layout: Layout) -> None:
    extra["phase_center_dec"] = np.radians(layout.dec_app_deg)
    extra["ha_phase_center"] = 0.0
    extra["phase_center_epoch"] = "HADEC"
    extra["fs_table"] = np.bytes_("fringestopping_table.npz")
    extra["applied_delays_ns"] = np.bytes_(" ".join(["0"] * (2 * array.N_STATIONS)))


def _write_data(data: h5py.Group, vis: NDArray[np.complex64]) -> None:
    rows = vis.reshape(-1, 1, *vis.shape[2:])
    _growing(data, "visdata", rows)
    _growing(data, "flags", np.zeros(rows.shape, bool))
    _growing(data, "nsamples", np.full(rows.shape, SAMPLES_PER_INTEGRATION, np.float32))
