r"""Calibration tables on disk, as CASA writes and reads them.

One folder per `Gains`: a main table of type "Calibration", one row per solution time and antenna, and subtables
ANTENNA, FIELD, SPECTRAL_WINDOW, OBSERVATION and HISTORY, as `casatasks.applycal` expects them.

    K             subtype "K Jones", FPARAM: delay in ns; zero phase at the SPECTRAL_WINDOW's REF_FREQUENCY
    BP            subtype "B Jones", CPARAM
    G, GP, 2G     subtype "G Jones", CPARAM

Gains corrupt: V_corrected = V / (g_ANTENNA1 conj(g_ANTENNA2)), which is ours too. ANTENNA2 of a row is the reference
antenna. PARAMERR is `Gains.errors`, zero where no error is known. What CASA has no place for (kind, source, flux
anchor, strip, metadata) is in keywords that start with CONTIMG_; tables without them load as well: their source is the
name of the field, their strip is not known. On disk parameters are single precision, and zero where flagged; channels
that descend, as those of a lower sideband, are turned around when read.

A table is written beside its place under a name that ends in `.partial`, flushed to disk, and then renamed.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, CalibrationError
from dsa110_contimg.formats.caltable_layout import create_main, create_subtables
from dsa110_contimg.formats.scratch import scratch_path
from dsa110_contimg.visibilities import Gains

DAY_S = 86400.0
SUBTYPES = {"K": "K Jones", "BP": "B Jones", "G": "G Jones", "GP": "G Jones", "2G": "G Jones"}
KINDS = {"K Jones": "K", "B Jones": "BP", "G Jones": "G"}


def save(path: Path, gains: Gains) -> None:
    """Write a caltable; it appears under its name complete or not at all.

    Raises
    ------
    CalibrationError
        If the path exists already (a registered table is never overwritten), or the kind has no CASA form.
    """
    if path.exists():
        raise CalibrationError(f"{path} exists already: a solve gets a new name, tables are never overwritten")
    if gains.kind not in SUBTYPES:
        raise CalibrationError(f"{path}: a caltable of kind {gains.kind} cannot be written; known are {list(SUBTYPES)}")
    scratch = scratch_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with create_main(scratch, gains, SUBTYPES[gains.kind]) as main:
            _put_rows(main, gains)
            create_subtables(main, scratch, gains)
            for name, value in _keywords(gains).items():
                main.putkeyword(name, value)
        _sync(scratch)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def load(path: Path, spectral_window: int | None = None) -> Gains:
    """Read a caltable, ours or CASA's.

    Parameters
    ----------
    path
        The table's folder.
    spectral_window
        Which one, for tables with several; None takes the only one.

    Raises
    ------
    BadInputError
        If it is no caltable of a kind we know.
    CalibrationError
        If the table has several spectral windows and none was named.
    """
    with _opened(path) as main:
        windows = _windows(main)
        if spectral_window is None and len(windows) != 1:
            raise CalibrationError(f"{path} holds spectral windows {windows}: name one")
        window = windows[0] if spectral_window is None else spectral_window
        if window not in windows:
            raise CalibrationError(f"{path} has no solutions of spectral window {window}: it holds {windows}")
        kind, keywords = KINDS[main.info()["subType"]], main.getkeywords()
        with main.query(f"SPECTRAL_WINDOW_ID == {window}") as rows:
            return _assemble(path, kind, window, keywords, rows)


def spectral_windows(path: Path) -> list[int]:
    """Return the spectral windows that a caltable has solutions of.

    Raises
    ------
    BadInputError
        If it is no caltable of a kind we know.
    """
    with _opened(path) as main:
        return _windows(main)


@contextmanager
def _opened(path: Path) -> Iterator[tables.table]:
    """Open a table for reading and see that it is a caltable of a kind we know; what is damaged is bad input."""
    try:
        with tables.table(str(path), ack=False) as main:
            if main.info().get("type") != "Calibration" or main.info().get("subType") not in KINDS:
                raise BadInputError(f"{path} is not a K, B or G caltable but {main.info()}")
            if not main.nrows():
                raise BadInputError(f"{path} is a caltable without solutions: solve it again")
            yield main
    except RuntimeError as error:
        raise BadInputError(f"{path} is not a readable caltable: {error}") from error


def _windows(main: tables.table) -> list[int]:
    return [int(window) for window in np.unique(main.getcol("SPECTRAL_WINDOW_ID"))]


def _put_rows(main: tables.table, gains: Gains) -> None:
    """Write one row per time and antenna."""
    n_time, n_ant, n_freq, n_pol = gains.values.shape
    n_row = n_time * n_ant
    # Without a reference antenna (delays that a correlator set) CASA has -1.
    names = gains.antenna_names
    reference = names.index(gains.reference_antenna) if gains.reference_antenna in names else -1
    main.addrows(n_row)
    main.putcol("TIME", np.repeat(gains.time_mjd * DAY_S, n_ant))
    main.putcol("INTERVAL", np.zeros(n_row))
    main.putcol("ANTENNA1", np.tile(np.arange(n_ant, dtype=np.int32), n_time))
    main.putcol("ANTENNA2", np.full(n_row, reference, np.int32))
    for column in ("FIELD_ID", "SPECTRAL_WINDOW_ID", "OBSERVATION_ID"):
        main.putcol(column, np.zeros(n_row, np.int32))
    main.putcol("SCAN_NUMBER", np.ones(n_row, np.int32))
    flags = gains.flags.reshape(n_row, n_freq, n_pol)
    values = np.where(flags, 0.0, gains.values.reshape(n_row, n_freq, n_pol))
    snr = gains.snr.reshape(n_row, n_freq, n_pol)
    main.putcol("FLAG", flags)
    main.putcol("SNR", snr.astype(np.float32))
    error = np.where(flags, 0.0, np.nan_to_num(gains.errors.reshape(n_row, n_freq, n_pol)))
    main.putcol("PARAMERR", error.astype(np.float32))
    main.putcol("WEIGHT", np.ones(values.shape, np.float32))
    if gains.kind == "K":
        main.putcol("FPARAM", values.real.astype(np.float32))
    else:
        main.putcol("CPARAM", values.astype(np.complex64))


def _keywords(gains: Gains) -> dict[str, str | float]:
    return {
        "ParType": "Float" if gains.kind == "K" else "Complex",
        "MSName": gains.metadata.get("ms_name", ""),
        "VisCal": SUBTYPES[gains.kind],
        "PolBasis": "unknown",
        "CONTIMG_KIND": gains.kind,
        "CONTIMG_REFERENCE_ANTENNA": gains.reference_antenna,
        "CONTIMG_SOURCE": gains.source,
        "CONTIMG_FLUX_ANCHOR": gains.flux_anchor,
        "CONTIMG_DEC_DEG": gains.dec_deg,
        "CONTIMG_METADATA": json.dumps(gains.metadata, sort_keys=True),
    }


def _assemble(path: Path, kind: str, window: int, keywords: dict[str, str | float], rows: tables.table) -> Gains:
    """Return the rows of one spectral window as gains on the grid of their times and the antenna table."""
    with tables.table(str(path / "ANTENNA"), ack=False) as antennas:
        names = list(antennas.getcol("NAME"))
        positions = np.asarray(antennas.getcol("POSITION"), float).reshape(-1, 3)
    with tables.table(str(path / "SPECTRAL_WINDOW"), ack=False) as windows:
        freq_hz = np.asarray(windows.getcell("CHAN_FREQ", window), float)
        reference_hz = float(windows.getcell("REF_FREQUENCY", window))
    times, row_time = np.unique(rows.getcol("TIME"), return_inverse=True)
    antenna = rows.getcol("ANTENNA1")
    if np.unique(row_time * len(names) + antenna).size != antenna.size:
        raise BadInputError(f"{path} has several solutions of one antenna at one time in spectral window {window}")
    raw = np.asarray(rows.getcol("FPARAM" if kind == "K" else "CPARAM"), np.complex128)
    flag = rows.getcol("FLAG").astype(bool)
    error = np.asarray(rows.getcol("PARAMERR"), np.float64)
    # Channels ascend in what we hand out, whatever the sideband.
    upward = slice(None) if kind == "K" else np.argsort(freq_hz)

    def spread(values: NDArray[Any], empty: complex) -> NDArray[Any]:
        grid = np.full((times.size, len(names), *values.shape[1:]), empty, values.dtype)
        grid[row_time, antenna] = values
        return np.asarray(grid[:, :, upward])

    reference = rows.getcol("ANTENNA2")
    fallback = names[reference[0]] if reference.size and reference[0] >= 0 else ""
    return Gains(
        kind=str(keywords.get("CONTIMG_KIND", kind)),
        time_mjd=times / DAY_S,
        freq_hz=np.array([reference_hz]) if kind == "K" else freq_hz[upward],
        values=spread(np.where(flag, complex(np.nan, np.nan), raw), complex(np.nan, np.nan)),
        flags=spread(flag, True),
        snr=spread(np.asarray(rows.getcol("SNR"), np.float64), 0.0),
        errors=spread(np.where(flag | (error <= 0.0), np.nan, error), np.nan),
        reference_antenna=str(keywords.get("CONTIMG_REFERENCE_ANTENNA", fallback)),
        antenna_names=names,
        antenna_itrf_m=_unknown_as_nan(positions),
        source=str(keywords.get("CONTIMG_SOURCE", _field_names(path, rows))),
        flux_anchor=str(keywords.get("CONTIMG_FLUX_ANCHOR", "unknown")),
        dec_deg=float(keywords.get("CONTIMG_DEC_DEG", np.nan)),
        metadata=json.loads(str(keywords.get("CONTIMG_METADATA", "{}"))),
    )


def _field_names(path: Path, rows: tables.table) -> str:
    """Return the names of the fields that solutions were solved on, joined by commas."""
    with tables.table(str(path / "FIELD"), ack=False) as fields:
        names = fields.getcol("NAME")
    found = np.unique(rows.getcol("FIELD_ID"))
    return ",".join(names[field] for field in found if 0 <= field < len(names))


def _unknown_as_nan(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions with (0, 0, 0), the center of the Earth, as what it means: unknown."""
    return np.where((positions == 0.0).all(axis=1, keepdims=True), np.nan, positions)


def _sync(folder: Path) -> None:
    """Flush every file and folder below to disk, so that the rename cannot outlive the data."""
    for parent, _folders, files in os.walk(folder):
        for name in (*files, "."):
            handle = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
