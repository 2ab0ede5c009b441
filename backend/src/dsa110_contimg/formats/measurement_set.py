r"""Measurement Sets (MSv2), written and read with python-casacore.

One tile is one field in one spectral window of ascending channels. Ours carry a POINTING table with the direction
of the dishes at each integration, which the primary beam follows. Sets of other telescopes are read too: the
parallel hands of one field and one spectral window.

A set is written, or written anew, under a scratch name beside its final one, flushed to disk, and renamed: a set with
its final name is whole. A set that lost a part all the same is named, whichever part it is.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, UnreadableDataError
from dsa110_contimg.formats import ms_reading
from dsa110_contimg.formats.ms_subtables import SECONDS_PER_DAY, write_subtables
from dsa110_contimg.formats.scratch import exchange, flush, flushing, scratch_path
from dsa110_contimg.kernels.flags import rows_with_data
from dsa110_contimg.visibilities import Visibilities

OVERHEAD_BYTES = 8_000_000
"""What a set takes beside visibilities and flags, generously."""
VIS_BYTES = 8
TILED_FILES = "*_TSM*"
"""The large ones of a set's files."""
Block = tuple[NDArray[np.complex64], NDArray[np.bool_]]


def save(path: Path, vis: Visibilities) -> Path:
    """Write a Measurement Set with its DATA column: see `save_blocks`."""
    return save_blocks(path, vis, [(vis.vis, vis.flags)])


def save_blocks(path: Path, frame: Visibilities, blocks: Iterable[Block]) -> Path:
    """Write a Measurement Set with its DATA column, beside and renamed; calibration adds CORRECTED_DATA.

    Parameters
    ----------
    path
        The set.
    frame
        Everything but the visibilities and flags, which are not looked at.
    blocks
        Those, (n_row, n_chan, n_pol) each, in the order of rows; a block is needed no longer when the next is asked.

    Raises
    ------
    FileExistsError
        If the path is taken: a set is never replaced.
    OSError
        If the disk is full or refuses what is written.
    BadInputError
        If what is read back is not what was written.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not replaced")
    path.parent.mkdir(parents=True, exist_ok=True)
    n_vis = frame.time_mjd.size * frame.freq_hz.size * frame.weights.shape[1]
    require_space(path.parent, OVERHEAD_BYTES + n_vis * (2 * VIS_BYTES + 1))
    scratch = scratch_path(path)
    try:
        with flushing(scratch, TILED_FILES):
            last_cell = _write(scratch, frame, blocks)
        verify(scratch, frame, last_cell)
        flush_folder(scratch)
        scratch.rename(path)
        flush(path.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return path


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what does not fit: casacore ends the process when the disk runs full while it writes.

    Raises
    ------
    OSError
        If the folder's file system has less room.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OSError(errno.ENOSPC, f"{n_bytes / 1e6:.0f} MB are needed but {free / 1e6:.0f} MB are free", str(folder))


def flush_folder(folder: Path) -> None:
    """Flush every file below a folder, and the folders themselves, to disk."""
    for root, _dirs, files in os.walk(folder, topdown=False):
        for name in [*files, "."]:
            flush(Path(root) / name)


def load(path: Path, column: str = "CORRECTED_DATA", *, field: int | None = None) -> Visibilities:
    """Read the parallel hands of a Measurement Set.

    Parameters
    ----------
    path
        The set.
    column
        Column of visibilities; CORRECTED_DATA falls back to DATA where a set has never been calibrated.
    field
        Row of the FIELD table; needed only where there are several.

    Raises
    ------
    BadInputError
        If it is no Measurement Set, or holds several fields or spectral windows to choose from.
    UnreadableDataError
        If a part of it is missing, cut off or damaged.
    """
    with _reading(path) as table:
        rows = ms_reading.choose_rows(path, table, field)
        return ms_reading.read(path, rows, ms_reading.choose_column(path, rows, column))


def load_raw(path: Path) -> Visibilities:
    """Read DATA of one of our sets as conversion left it: flagged where it is zero, with weights of one.

    What calibration wrote into FLAG and WEIGHT is not looked at, so that calibrating again starts anew.
    """
    vis = load(path, "DATA")
    np.equal(vis.vis, 0.0, out=vis.flags)
    vis.weights[:] = 1.0
    return vis


def verify(path: Path, frame: Visibilities, last_cell: NDArray[np.complex64]) -> None:
    """Read back the shape of a set that has just been written, and the visibilities of its last row.

    Raises
    ------
    BadInputError
        If rows, columns or these visibilities are not those that were written.
    """
    with _reading(path) as table:
        last = table.nrows() - 1
        whole = {"DATA", "FLAG", "WEIGHT", "UVW"} <= set(table.colnames())
        if not whole or last + 1 != len(frame.time_mjd) or not np.array_equal(table.getcell("DATA", last), last_cell):
            raise BadInputError(f"{path} is not what was written to it; remove it and convert the group again")


def columns(path: Path) -> list[str]:
    """Return the names of the main table's columns."""
    with _open(path) as table:
        return list(table.colnames())


def write_calibrated(path: Path, vis: Visibilities) -> None:
    """Write CORRECTED_DATA, FLAG, WEIGHT and SIGMA of one of our sets; a kill leaves the set as it was."""
    require_space(path, OVERHEAD_BYTES + vis.vis.nbytes + vis.flags.nbytes)
    with _rewriting(path) as table:
        if "CORRECTED_DATA" not in table.colnames():
            # Until now its absence told CASA and WSClean that there is only DATA.
            description = tables.makearrcoldesc("CORRECTED_DATA", 0j, ndim=2, valuetype="complex")
            manager = _tiled("TiledCorrected", ["CORRECTED_DATA"], vis.vis.shape[1:], 8, "TiledShapeStMan")
            table.addcols(tables.maketabdesc([description]), manager)
        _put_cells(table, "CORRECTED_DATA", vis.vis)
        _put_flags(table, vis.flags)
        _put_weights(table, vis)


@contextmanager
def _rewriting(path: Path) -> Iterator[tables.table]:
    """Yield the main table of a copy, which shares the DATA on disk and takes the set's place when it is whole.

    casacore truncates its files before it writes them anew: a set that is changed in place does not survive a kill.
    """
    with _open(path) as table:
        managers = table.getdminfo().values()
        data = next(f"table.f{manager['SEQNR']}" for manager in managers if "DATA" in manager["COLUMNS"])

    def copy(source: str, target: str) -> None:
        if Path(source).parent == path and Path(source).name.partition("_")[0] == data:
            os.link(source, target)
        else:
            shutil.copyfile(source, target)

    scratch = scratch_path(path)
    try:
        shutil.copytree(path, scratch, copy_function=copy)
        with flushing(scratch, TILED_FILES), _open(scratch, readonly=False) as table:
            yield table
            table.flush()
        flush_folder(scratch)
        exchange(scratch, path)
        flush(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_flags(path: Path, flags: NDArray[np.bool_]) -> None:
    """Write FLAG and FLAG_ROW of one of our sets; a kill leaves the set as it was."""
    require_space(path, OVERHEAD_BYTES + flags.nbytes)
    with _rewriting(path) as table:
        _put_flags(table, flags)


def _open(path: Path, *, readonly: bool = True) -> tables.table:
    if not (path / "table.dat").is_file():
        raise BadInputError(f"{path} is not a Measurement Set: there is no table.dat in it")
    try:
        table = tables.table(str(path), readonly=readonly, ack=False)
    except RuntimeError as error:
        raise BadInputError(f"{path} cannot be opened as a Measurement Set: {error}") from error
    if "UVW" not in table.colnames():
        table.close()
        raise BadInputError(f"{path} is a table but not a Measurement Set: it has no UVW column")
    return table


@contextmanager
def _reading(path: Path) -> Iterator[tables.table]:
    """Yield the main table; whatever casacore cannot read, of it or of its subtables, becomes one sentence."""
    try:
        with _open(path) as table:
            yield table
    except RuntimeError as error:
        raise UnreadableDataError(path, str(error).splitlines()[0]) from error


def _put_cells(table: tables.table, column: str, values: NDArray[Any], first: int = 0) -> None:
    """Write cells from a first row on, part by part, as casacore copies what it is given."""
    for start in range(0, len(values), ms_reading.ROWS_AT_ONCE):
        part = values[start : start + ms_reading.ROWS_AT_ONCE]
        table.putcol(column, part, first + start, len(part))


def _tiled(
    name: str, names: list[str], cell: tuple[int, ...], item_bytes: int, manager: str = "TiledColumnStMan"
) -> dict[str, object]:
    """Describe tiles of about one megabyte that span all polarizations and channels."""
    n_chan, n_pol = cell
    rows = max(1, (1 << 20) // (n_chan * n_pol * item_bytes))
    info = {
        "TYPE": manager,
        "NAME": name,
        "SEQNR": 0,
        "SPEC": {"DEFAULTTILESHAPE": [n_pol, n_chan, rows]},
        "COLUMNS": names,
    }
    return {"*1": info}


def _write(path: Path, frame: Visibilities, blocks: Iterable[Block]) -> NDArray[np.complex64]:
    """Write a whole set; return the visibilities of its last row."""
    n_row, n_chan, n_pol = frame.time_mjd.size, frame.freq_hz.size, frame.weights.shape[1]
    data = tables.makearrcoldesc("DATA", 0.0 + 0.0j, shape=[n_chan, n_pol], options=4, valuetype="complex")
    flag = tables.makearrcoldesc("FLAG", False, shape=[n_chan, n_pol], options=4, valuetype="boolean")
    description = tables.required_ms_desc()
    description.update(tables.maketabdesc([data, flag]))
    managers = _tiled("TiledData", ["DATA"], (n_chan, n_pol), 8)
    managers["*2"] = _tiled("TiledFlag", ["FLAG"], (n_chan, n_pol), 1)["*1"]
    with tables.default_ms(str(path), description, managers) as table:
        table.addrows(n_row)
        times = frame.time_mjd * SECONDS_PER_DAY
        exposure = np.full(n_row, frame.integration_s)
        zeros = np.zeros(n_row, np.int32)
        table.putcol("UVW", frame.uvw_m)
        table.putcol("ANTENNA1", frame.antenna1)
        table.putcol("ANTENNA2", frame.antenna2)
        for name, values in {"TIME": times, "TIME_CENTROID": times, "EXPOSURE": exposure, "INTERVAL": exposure}.items():
            table.putcol(name, values)
        for name in (
            "DATA_DESC_ID",
            "FIELD_ID",
            "SCAN_NUMBER",
            "ARRAY_ID",
            "OBSERVATION_ID",
            "STATE_ID",
            "PROCESSOR_ID",
        ):
            table.putcol(name, zeros if name != "SCAN_NUMBER" else zeros + 1)
        for name in ("FEED1", "FEED2"):
            table.putcol(name, zeros)
        _put_weights(table, frame)
        first = 0
        for vis, flags in blocks:
            _put_cells(table, "DATA", vis, first)
            _put_flags(table, flags, first)
            first += len(vis)
        last_cell: NDArray[np.complex64] = vis[-1].copy()
    write_subtables(path, frame)
    return last_cell


def _put_flags(table: tables.table, flags: NDArray[np.bool_], first: int = 0) -> None:
    _put_cells(table, "FLAG", flags, first)
    table.putcol("FLAG_ROW", ~rows_with_data(flags), first, len(flags))


def _put_weights(table: tables.table, vis: Visibilities) -> None:
    table.putcol("WEIGHT", vis.weights)
    with np.errstate(divide="ignore"):
        sigma = np.where(vis.weights > 0, 1.0 / np.sqrt(vis.weights), 0.0).astype(np.float32)
    table.putcol("SIGMA", sigma)
