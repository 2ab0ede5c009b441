"""Good files made bad: the inputs that a pipeline must survive, each from a file that `simulate` wrote.

Each function changes one file in place, or puts one beside it, and returns the path that now holds the fault.
"""

import shutil
from pathlib import Path

import h5py
import numpy as np

from dsa110_contimg.naming import parse_subband, stamp_unix, subband_name

JD_MINUS_MJD = 2400000.5


def truncate(path: Path, fraction: float = 0.5) -> Path:
    """Cut a file off, as a broken copy does."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * fraction))
    return path


def make_empty(path: Path) -> Path:
    """Leave a file of no bytes."""
    return truncate(path, 0.0)


def make_foreign(path: Path) -> Path:
    """Replace a file by text that is no HDF5."""
    path.write_text("this is not an HDF5 file\n" * 40)
    return path


def make_other_hdf5(path: Path) -> Path:
    """Replace a file by HDF5 that is no UVH5."""
    with h5py.File(path, "w") as file:
        file["spectrum"] = np.arange(10.0)
    return path


def remove_field(path: Path, name: str = "Header/time_array") -> Path:
    """Delete one field."""
    with h5py.File(path, "r+") as file:
        del file[name]
    return path


def shift_times(path: Path, seconds: float) -> Path:
    """Move all times, so that the file contradicts its group."""
    with h5py.File(path, "r+") as file:
        file["Header/time_array"][...] += seconds / 86400.0
    return path


def shift_times_to_mjd(path: Path, mjd: float = 55000.0) -> Path:
    """Move the first time to an MJD: 55000 is what the writer uses when it knows no start."""
    with h5py.File(path, "r+") as file:
        times = file["Header/time_array"]
        times[...] += mjd + JD_MINUS_MJD - times[0]
    return path


def break_nblts(path: Path, extra: int = 7) -> Path:
    """Make Nblts contradict the data."""
    with h5py.File(path, "r+") as file:
        file["Header/Nblts"][...] = file["Header/Nblts"][()] + extra
    return path


def lose_integrations(path: Path, kept: int = 3) -> Path:
    """Cut the growing datasets to fewer integrations while the counts stay: a writer that died."""
    with h5py.File(path, "r+") as file:
        rows = int(file["Header/Nbls"][()]) * kept
        for name in ("visdata", "flags", "nsamples"):
            file[f"Data/{name}"].resize(rows, axis=0)
    return path


def move_band(path: Path, offset_hz: float = 50e6) -> Path:
    """Move the channels to frequencies that the telescope does not receive."""
    with h5py.File(path, "r+") as file:
        file["Header/freq_array"][...] += offset_hz
    return path


def move_pointing(path: Path, dec_deg: float) -> Path:
    """Give one file another declination than its group."""
    with h5py.File(path, "r+") as file:
        file["Header/phase_center_app_dec"][...] = np.radians(dec_deg)
        file["Header/extra_keywords/phase_center_dec"][...] = np.radians(dec_deg)
    return path


def poison(path: Path, value: complex = complex(np.nan, np.nan), rows: int = 10) -> Path:
    """Put a value that is no number into the first rows."""
    with h5py.File(path, "r+") as file:
        file["Data/visdata"][:rows] = value
    return path


def mark_unfinished(path: Path) -> Path:
    """Give a file the name that it has while it is written."""
    parsed = _parsed(path)
    return path.rename(path.with_name(subband_name(parsed[0], parsed[1], unfinished=True)))


def repeat(path: Path, later_s: int = 20) -> Path:
    """Copy a file under a later stamp: the same subband of the same group, twice."""
    stamp, subband = _parsed(path)
    later = str(np.datetime64(round(stamp_unix(stamp)) + later_s, "s"))
    return Path(shutil.copyfile(path, path.with_name(subband_name(later, subband))))


def rewrite_modern(path: Path) -> Path:
    """Rewrite a file with the shapes that newer programs use; its content stays good.

    No axis of spectral windows, channel_width and freq_array per channel, uvw in double precision.
    """
    with h5py.File(path, "r+") as file:
        header, data = file["Header"], file["Data"]
        changed = {
            "freq_array": header["freq_array"][0],
            "channel_width": np.full(header["freq_array"].shape[1], header["channel_width"][()]),
            "uvw_array": header["uvw_array"][...].astype(np.float64),
        }
        for name, values in changed.items():
            del header[name]
            header[name] = values
        for name in ("visdata", "flags", "nsamples"):
            values = data[name][:, 0]
            del data[name]
            data[name] = values
    return path


def _parsed(path: Path) -> tuple[str, int]:
    parsed = parse_subband(path)
    if parsed is None:
        raise ValueError(f"{path.name} is not the name of a subband file")
    return parsed.stamp, parsed.index
