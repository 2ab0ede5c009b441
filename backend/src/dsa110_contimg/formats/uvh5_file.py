r"""What every UVH5 file holds, whoever wrote it: a header of named entries and three datasets of visibilities.

A row (blt) is one baseline at one time; a row (ant_1, ant_2) holds conj(E_ant1)·E_ant2 and its baseline is
b = r(ant_2) − r(ant_1), so that a source at offset (l, m) from the phase center has the phase +2π(ul + vm + …)f/c.
Memo: "UVH5 file format", RadioAstronomySoftwareGroup/pyuvdata.

Every defect is named in one sentence.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import erfa
import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, UnreadableDataError
from dsa110_contimg.formats.hdf5_rows import Rows

DATA = ("visdata", "flags", "nsamples")
WGS84 = 1


@contextmanager
def open_uvh5(path: Path) -> Iterator[h5py.File]:
    """Open a file to read its header; whatever is wrong with it becomes one sentence.

    Raises
    ------
    BadInputError
        If it cannot be opened, is no UVH5, or an entry that is read is missing or of the wrong kind.
    """
    try:
        with h5py.File(path, "r") as file:
            if "Header" not in file or "Data" not in file:
                raise BadInputError(f"{path} is an HDF5 file but not UVH5: it has no Header and Data groups")
            yield file
    except OSError as error:
        kind = "truncated" if "truncated" in str(error) else "not a readable HDF5 file"
        raise BadInputError(f"{path} is {kind}: {error}") from error
    except KeyError as error:
        raise BadInputError(f"{path} lacks an entry that UVH5 files have: {error.args[0]}") from error
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise BadInputError(f"{path} holds an entry of the wrong kind: {error}") from error


def scalar(group: h5py.Group, key: str) -> float:
    """Return a number; of an array its first, as writers disagree which entries are arrays."""
    return float(np.ravel(group[key][()])[0])


def text(group: h5py.Group, key: str) -> str:
    """Return a string, of fixed or variable length."""
    value = group[key][()]
    return value.decode() if isinstance(value, bytes) else str(value)


def check_lengths(path: Path, file: h5py.File) -> int:
    """Return the number of rows; refuse a file whose entries disagree in it, or in channels and polarizations."""
    head, shape = file["Header"], file["Data/visdata"].shape
    n_blts = int(scalar(head, "Nblts"))
    lengths = {key: head[key].shape[0] for key in ("time_array", "ant_1_array", "ant_2_array")}
    lengths |= {name: file["Data"][name].shape[0] for name in DATA}
    wrong = {key: length for key, length in lengths.items() if length != n_blts}
    if wrong or n_blts == 0:
        raise BadInputError(f"{path} is inconsistent: Nblts is {n_blts}, but {wrong or 'there are no rows'}")
    n_chan, n_pol = int(scalar(head, "Nfreqs")), int(scalar(head, "Npols"))
    alike = all(file["Data"][name].shape == shape for name in DATA)
    if not alike or shape[1:] not in ((n_chan, n_pol), (1, n_chan, n_pol)) or np.size(head["freq_array"]) != n_chan:
        raise BadInputError(f"{path} is inconsistent: visdata is {shape}, the header says {n_chan} x {n_pol}")
    return n_blts


def antennas(path: Path, head: h5py.Group) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the names of the antenna table and its ITRF positions (n_antenna, 3) in metres."""
    names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(head["antenna_names"]))
    offsets = np.asarray(head["antenna_positions"], float)
    if offsets.shape != (len(names), 3) or np.size(head["antenna_numbers"]) != len(names):
        raise BadInputError(f"{path} is inconsistent: {len(names)} antennas have positions of shape {offsets.shape}")
    origin = erfa.gd2gc(
        WGS84, np.radians(scalar(head, "longitude")), np.radians(scalar(head, "latitude")), scalar(head, "altitude")
    )
    return names, np.asarray(origin) + offsets


def antenna_rows(
    path: Path, head: h5py.Group, itrf_m: NDArray[np.float64], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rows of the antenna table that belong to antenna numbers; each must have a position."""
    table = np.ravel(np.asarray(head["antenna_numbers"], np.int64))
    order = np.argsort(table)
    found = np.clip(np.searchsorted(table, numbers, sorter=order), 0, table.size - 1)
    unknown = numbers[table[order][found] != numbers]
    if unknown.size:
        raise BadInputError(f"{path} holds antenna number {unknown[0]}, which its table lacks")
    rows = order[found]
    lost = numbers[~np.isfinite(itrf_m[rows]).all(axis=1)]
    if lost.size:
        raise BadInputError(f"{path} holds antenna number {lost[0]}, whose position is no number")
    return np.asarray(rows)


class Data:
    """The visibilities and flags of an open file.

    The order of rows and channels is the file's; `planes` picks polarizations. Flagged is what the file flags or has
    no samples of. `chunk_rows` rows at a time, from a multiple of it, are read without reading anything twice.
    """

    def __init__(self, file: h5py.File, path: Path, shape: tuple[int, int], planes: Sequence[int]) -> None:
        self.path = path
        self._vis, self._flags, self._samples = (Rows(file["Data"][name], planes) for name in DATA)
        parts = (self._vis, self._flags, self._samples)
        if any((rows.n_row, rows.n_chan) != shape for rows in parts):
            raise UnreadableDataError(path, f"its data are not the {shape[0]} rows x {shape[1]} channels of its header")
        self.chunk_rows = max(rows.chunk_rows for rows in parts)

    def read(self, first: int, last: int) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
        """Return rows [first, last): visibilities and flags, each (rows, n_chan, n_plane).

        Raises
        ------
        UnreadableDataError
            If the data are damaged behind a sound header.
        """
        with _naming(self.path):
            bad = self._flags.read(first, last)
            bad |= self._samples.read(first, last) == 0
            return self._vis.read(first, last), bad


@contextmanager
def open_data(path: Path, shape: tuple[int, int], planes: Sequence[int]) -> Iterator[Data]:
    """Open a file for its data, which are to be the (rows, channels) that its header told of.

    Raises
    ------
    UnreadableDataError
        If they are others, or are not to be found.
    """
    with ExitStack() as stack:
        with _naming(path):
            file = stack.enter_context(h5py.File(path, "r"))
            data = Data(file, path, shape, planes)
        yield data


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file whose data cannot be read."""
    try:
        yield
    except (OSError, KeyError) as error:
        raise UnreadableDataError(path, error) from error


def read_parts(
    path: Path, shape: tuple[int, int], planes: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.complex64], NDArray[np.bool_]]]:
    """Yield a file's data part by part: the first row, and what `Data.read` returns of the rows from there."""
    with open_data(path, shape, planes) as data:
        for first in range(0, shape[0], data.chunk_rows):
            yield first, *data.read(first, min(first + data.chunk_rows, shape[0]))
