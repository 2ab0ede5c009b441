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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, UnreadableDataError
from dsa110_contimg.formats.ms_subtables import SECONDS_PER_DAY, write_subtables
from dsa110_contimg.formats.scratch import exchange, flush, scratch_path
from dsa110_contimg.kernels.flags import rows_with_data
from dsa110_contimg.telescope import TELESCOPE_NAME, aberration_scale
from dsa110_contimg.visibilities import SkyPosition, Visibilities

ROWS_AT_ONCE = 8192
PARALLEL_HANDS = ((5, 8), (9, 12))
OVERHEAD_BYTES = 8_000_000
"""What a set takes beside visibilities and flags, generously."""


def save(path: Path, vis: Visibilities) -> Path:
    """Write a Measurement Set with its DATA column, beside and renamed; calibration adds CORRECTED_DATA.

    Raises
    ------
    FileExistsError
        If the path is taken: a set is never replaced.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not replaced")
    path.parent.mkdir(parents=True, exist_ok=True)
    require_space(path.parent, OVERHEAD_BYTES + 2 * vis.vis.nbytes + vis.flags.nbytes)
    scratch = scratch_path(path)
    try:
        _write(scratch, vis)
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
        rows = _choose_rows(path, table, field)
        return _read(path, rows, _choose_column(path, rows, column))


def _choose_column(path: Path, table: tables.table, column: str) -> str:
    """Return the column to read; refuse one that is missing, or that a killed calibration has half filled."""
    there = column in table.colnames()
    filled = [there and table.iscelldefined(column, row) for row in (0, table.nrows() - 1)]
    if all(filled):
        return column
    if any(filled):
        raise BadInputError(f"{path} is calibrated in part only: calibrate it again")
    if column != "CORRECTED_DATA" or "DATA" not in table.colnames():
        raise BadInputError(f"{path} has no column {column}")
    return "DATA"


def load_raw(path: Path) -> Visibilities:
    """Read DATA of one of our sets as conversion left it: flagged where it is zero, with weights of one.

    What calibration wrote into FLAG and WEIGHT is not looked at, so that calibrating again starts anew.
    """
    vis = load(path, "DATA")
    np.equal(vis.vis, 0.0, out=vis.flags)
    vis.weights[:] = 1.0
    return vis


def verify(path: Path, vis: Visibilities) -> None:
    """Read back the shape of a set that has just been written.

    Raises
    ------
    BadInputError
        If rows, columns or the last visibility are not those that were written.
    """
    with _reading(path) as table:
        last = table.nrows() - 1
        whole = {"DATA", "FLAG", "WEIGHT", "UVW"} <= set(table.colnames())
        if not whole or last + 1 != len(vis.time_mjd) or not np.array_equal(table.getcell("DATA", last), vis.vis[last]):
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
        _put_flags_and_weights(table, vis)


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
        with _open(scratch, readonly=False) as table:
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


def _subtable(path: Path, name: str) -> tables.table:
    return tables.table(str(path / name), ack=False)


def _choose_rows(path: Path, table: tables.table, field: int | None) -> tables.table:
    windows = np.unique(table.getcol("DATA_DESC_ID"))
    if windows.size > 1:
        raise BadInputError(f"{path} holds {windows.size} spectral windows; split out one of them first")
    fields = np.unique(table.getcol("FIELD_ID"))
    if field is None and fields.size > 1:
        raise BadInputError(f"{path} holds fields {fields.tolist()}; choose one (--field)")
    if field is not None and field not in fields:
        raise BadInputError(f"{path} has no field {field}; it holds {fields.tolist()}")
    return table if field is None else table.query(f"FIELD_ID == {field}")


def _read(path: Path, table: tables.table, column: str) -> Visibilities:
    window = int(table.getcell("DATA_DESC_ID", 0))
    with _subtable(path, "DATA_DESCRIPTION") as description:
        spw = int(description.getcell("SPECTRAL_WINDOW_ID", window))
        polarization = int(description.getcell("POLARIZATION_ID", window))
    with _subtable(path, "POLARIZATION") as pol:
        correlations = [int(code) for code in pol.getcell("CORR_TYPE", polarization)]
    hands = _parallel_hands(path, correlations)
    with _subtable(path, "SPECTRAL_WINDOW") as spectral:
        freq_hz = np.asarray(spectral.getcell("CHAN_FREQ", spw), float)
        width_hz = float(np.abs(spectral.getcell("CHAN_WIDTH", spw)).mean())
    with _subtable(path, "ANTENNA") as antenna:
        names = [str(name) for name in antenna.getcol("NAME")]
        itrf = np.asarray(antenna.getcol("POSITION"), float)
        diameters = np.unique(antenna.getcol("DISH_DIAMETER"))
    with _subtable(path, "OBSERVATION") as observation:
        telescope = str(observation.getcell("TELESCOPE_NAME", 0))
    with _subtable(path, "FIELD") as fields:
        row = int(table.getcell("FIELD_ID", 0))
        center = _position(np.ravel(fields.getcell("PHASE_DIR", row)))
        field_name = str(fields.getcell("NAME", row))
    time_mjd = np.asarray(table.getcol("TIME"), float) / SECONDS_PER_DAY
    pointing_mjd, pointing = _pointings(path) if telescope == TELESCOPE_NAME else (np.empty(0), np.empty((0, 2)))
    order = slice(None) if freq_hz.size < 2 or freq_hz[1] > freq_hz[0] else slice(None, None, -1)
    step = hands[-1] - hands[0] or 1
    pick = (slice(None), order, slice(hands[0], hands[-1] + step if hands[-1] + step >= 0 else None, step))
    flags = _cells(table, "FLAG", bool)[pick]
    flags[table.getcol("FLAG_ROW")] = True
    mid_mjd = 0.5 * (time_mjd.min() + time_mjd.max())
    return Visibilities(
        vis=_cells(table, column, np.complex64)[pick],
        flags=flags,
        weights=np.asarray(table.getcol("WEIGHT"), np.float32)[:, pick[2]],
        uvw_m=np.asarray(table.getcol("UVW"), float),
        antenna1=np.asarray(table.getcol("ANTENNA1"), np.int32),
        antenna2=np.asarray(table.getcol("ANTENNA2"), np.int32),
        time_mjd=time_mjd,
        freq_hz=freq_hz[order],
        channel_width_hz=width_hz,
        integration_s=float(table.getcell("EXPOSURE", 0)),
        phase_center=center,
        antenna_names=names,
        antenna_itrf_m=itrf,
        telescope=telescope,
        pointing_mjd=pointing_mjd,
        pointing_icrs_deg=pointing,
        field_name=field_name,
        aberration=aberration_scale(*center, mid_mjd) if telescope == TELESCOPE_NAME else 1.0,
        dish_diameter_m=float(diameters[0]) if diameters.size == 1 and diameters[0] > 0.0 else float("nan"),
    )


def _cells(table: tables.table, column: str, dtype: type) -> NDArray[Any]:
    """Return a column of (n_chan, n_pol) cells; getcol would copy them once more, which takes six times as long."""
    cells = np.empty((table.nrows(), *table.getcell(column, 0).shape), dtype)
    for start in range(0, len(cells), ROWS_AT_ONCE):
        part = cells[start : start + ROWS_AT_ONCE]
        table.getcolnp(column, part, start, len(part))
    return cells


def _put_cells(table: tables.table, column: str, values: NDArray[Any]) -> None:
    """Write a column of cells part by part, as casacore copies what it is given."""
    for start in range(0, len(values), ROWS_AT_ONCE):
        part = values[start : start + ROWS_AT_ONCE]
        table.putcol(column, part, start, len(part))


def _parallel_hands(path: Path, correlations: Sequence[int]) -> list[int]:
    for hands in PARALLEL_HANDS:
        present = [correlations.index(code) for code in hands if code in correlations]
        if present:
            return present
    raise BadInputError(f"{path} has correlations {list(correlations)}, none of them RR, LL, XX or YY")


def _position(direction: NDArray[np.float64]) -> SkyPosition:
    return SkyPosition(float(np.degrees(direction[0]) % 360.0), float(np.degrees(direction[1])))


def _pointings(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with _subtable(path, "POINTING") as pointing:
        if pointing.nrows() == 0:
            return np.empty(0), np.empty((0, 2))
        times, first = np.unique(pointing.getcol("TIME"), return_index=True)
        direction = np.asarray(pointing.getcol("DIRECTION")).reshape(-1, 2)[first]
    return times / SECONDS_PER_DAY, np.degrees(direction) % 360.0 * [1, 0] + np.degrees(direction) * [0, 1]


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


def _write(path: Path, vis: Visibilities) -> None:
    n_row, n_chan, n_pol = vis.vis.shape
    data = tables.makearrcoldesc("DATA", 0.0 + 0.0j, shape=[n_chan, n_pol], options=4, valuetype="complex")
    flag = tables.makearrcoldesc("FLAG", False, shape=[n_chan, n_pol], options=4, valuetype="boolean")
    description = tables.required_ms_desc()
    description.update(tables.maketabdesc([data, flag]))
    managers = _tiled("TiledData", ["DATA"], (n_chan, n_pol), 8)
    managers["*2"] = _tiled("TiledFlag", ["FLAG"], (n_chan, n_pol), 1)["*1"]
    with tables.default_ms(str(path), description, managers) as table:
        table.addrows(n_row)
        times = vis.time_mjd * SECONDS_PER_DAY
        exposure = np.full(n_row, vis.integration_s)
        zeros = np.zeros(n_row, np.int32)
        table.putcol("UVW", vis.uvw_m)
        table.putcol("ANTENNA1", vis.antenna1)
        table.putcol("ANTENNA2", vis.antenna2)
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
        _put_cells(table, "DATA", vis.vis)
        _put_flags_and_weights(table, vis)
    write_subtables(path, vis)


def _put_flags(table: tables.table, flags: NDArray[np.bool_]) -> None:
    _put_cells(table, "FLAG", flags)
    table.putcol("FLAG_ROW", ~rows_with_data(flags))


def _put_flags_and_weights(table: tables.table, vis: Visibilities) -> None:
    _put_flags(table, vis.flags)
    table.putcol("WEIGHT", vis.weights)
    with np.errstate(divide="ignore"):
        sigma = np.where(vis.weights > 0, 1.0 / np.sqrt(vis.weights), 0.0).astype(np.float32)
    table.putcol("SIGMA", sigma)
