"""Why each sample of a Measurement Set is flagged: one file inside the set's folder, from which any step comes back.

The reasons (`calibration.flagging.REASONS`) are bytes of the visibilities' shape, 0 for a good sample, else the number
of the first step that flagged it. The flags after step k are the samples whose reason lies between 1 and k. On disk
they are runs of equal bytes (`kernels.runs`): some megabytes for a tile. The file moves, and goes, with its set.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.kernels.runs import count_runs, decode, encode

FILE_NAME = "flag_history.h5"


class FlagHistory(NamedTuple):
    """What the file holds."""

    reasons: NDArray[np.uint8]
    """(n_row, n_chan, n_pol)."""
    names: list[str]
    """Names of the reasons, in the order of the steps."""


def history_path(ms: Path) -> Path:
    """Return where a set's history lies."""
    return ms / FILE_NAME


def save(ms: Path, reasons: NDArray[np.uint8], names: Sequence[str]) -> Path:
    """Write the reasons into a Measurement Set's folder, whole or not at all; an earlier history is replaced.

    Parameters
    ----------
    ms
        The set.
    reasons
        (n_row, n_chan, n_pol).
    names
        Name of each value.

    Raises
    ------
    BadInputError
        If there is no set of that name.
    """
    if not ms.is_dir():
        raise BadInputError(f"{ms} is not a Measurement Set, so that its flags have no history")
    rows = np.ascontiguousarray(reasons).reshape(reasons.shape[0], -1)
    offsets = count_runs(rows)
    values, lengths = encode(rows, offsets)
    small = lengths.astype(np.uint16) if rows.shape[1] <= np.iinfo(np.uint16).max else lengths
    path = history_path(ms)
    with replacing(path) as scratch, h5py.File(scratch, "w") as file:
        file.attrs["shape"] = reasons.shape
        file.attrs["names"] = json.dumps(list(names))
        for name, column in {"values": values, "lengths": small, "runs": np.diff(offsets).astype(np.uint32)}.items():
            file.create_dataset(name, data=column, compression="gzip", compression_opts=1, shuffle=True)
    return path


def load(ms: Path) -> FlagHistory:
    """Read a set's history.

    Raises
    ------
    BadInputError
        If there is none, or it cannot be read, or contradicts itself.
    """
    path = history_path(ms)
    if not path.is_file():
        raise BadInputError(f"{ms} has no history of its flags: it has not been flagged since it was converted")
    try:
        with h5py.File(path) as file:
            n_row, n_chan, n_pol = (int(n) for n in file.attrs["shape"])
            names = json.loads(file.attrs["names"])
            values, lengths = file["values"][:], file["lengths"][:].astype(np.uint32)
            offsets = np.concatenate([[0], np.cumsum(file["runs"][:], dtype=np.int64)])
    except (OSError, KeyError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read ({error}): remove it and calibrate the tile again") from error
    sums = np.add.reduceat(lengths, offsets[:-1]) if lengths.size else np.zeros(n_row)
    if offsets.size != n_row + 1 or offsets[-1] != lengths.size or (sums != n_chan * n_pol).any():
        raise BadInputError(f"{path} contradicts itself: remove it and calibrate the tile again")
    reasons = decode(values, lengths, offsets, n_chan * n_pol).reshape(n_row, n_chan, n_pol)
    return FlagHistory(reasons, names)
