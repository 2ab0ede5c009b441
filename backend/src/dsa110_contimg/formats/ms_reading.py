r"""What one field and one spectral window of a Measurement Set hold, read into arrays.

Sets of other telescopes are read too: the parallel hands, in ascending order of frequency. The POINTING table is
followed for our own sets only: elsewhere it tells where single dishes looked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats.ms_subtables import SECONDS_PER_DAY
from dsa110_contimg.telescope import TELESCOPE_NAME, aberration_scale
from dsa110_contimg.visibilities import SkyPosition, Visibilities

ROWS_AT_ONCE = 8192
PARALLEL_HANDS = ((5, 8), (9, 12))


def choose_column(path: Path, table: tables.table, column: str) -> str:
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


def _subtable(path: Path, name: str) -> tables.table:
    return tables.table(str(path / name), ack=False)


def choose_rows(path: Path, table: tables.table, field: int | None) -> tables.table:
    """Return the rows of one field; refuse a set of several windows, or of several fields of which none is chosen."""
    windows = np.unique(table.getcol("DATA_DESC_ID"))
    if windows.size > 1:
        raise BadInputError(f"{path} holds {windows.size} spectral windows; split out one of them first")
    fields = np.unique(table.getcol("FIELD_ID"))
    if field is None and fields.size > 1:
        raise BadInputError(f"{path} holds fields {fields.tolist()}; choose one (--field)")
    if field is not None and field not in fields:
        raise BadInputError(f"{path} has no field {field}; it holds {fields.tolist()}")
    return table if field is None else table.query(f"FIELD_ID == {field}")


def read(path: Path, table: tables.table, column: str) -> Visibilities:
    """Read the parallel hands of rows of one field and one spectral window."""
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
