"""Turn a single-source, single-band UVFITS file into a Measurement Set, without CASA.

A UVFITS baseline is 256 a + b with (u, v, w) from the second antenna toward the first and the phase of the
opposite sign to ours, so a row becomes ANTENNA1 = a, ANTENNA2 = b with uvw and data as they are: the
conjugation and the swap cancel (AIPS Memo 117; the jet of 3C273 lies south-west, which a mirrored set misses).
"""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from casacore.tables import default_ms, makearrcoldesc, maketabdesc, table
from numpy.typing import NDArray

SPEED_OF_LIGHT = 299792458.0
STOKES_RR, STOKES_LL = 5, 8


def measurement_set_from_uvfits(uvfits: Path, ms: Path) -> Path:
    """Write the parallel hands of a UVFITS file as a Measurement Set with CORRECTED_DATA."""
    with fits.open(uvfits) as hdus:
        group, antennas = hdus[0], hdus["AIPS AN"]
        header, rows = group.header, group.data
        cube = rows["DATA"].reshape(len(rows), header["NAXIS3"], 3)[:, :2]
        uvw = np.stack([rows.par(name) for name in ("UU---SIN", "VV---SIN", "WW---SIN")], axis=1)
        times = (rows.par("DATE") - 2400000.5) * 86400.0
        baseline = np.rint(rows.par("BASELINE")).astype(int)
        names = [str(name) for name in antennas.data["ANNAME"]]
        array_center = np.array([antennas.header[f"ARRAY{axis}"] for axis in "XYZ"], float)
        columns = {
            "TIME": times,
            "TIME_CENTROID": times,
            "EXPOSURE": np.full(len(rows), 10.0),
            "INTERVAL": np.full(len(rows), 10.0),
            "ANTENNA1": (baseline // 256 - 1).astype(np.int32),
            "ANTENNA2": (baseline % 256 - 1).astype(np.int32),
            "UVW": np.asarray(uvw, float) * SPEED_OF_LIGHT,
            "DATA": (cube[..., 0] + 1j * cube[..., 1]).astype(np.complex64)[:, None, :],
            "FLAG": (cube[..., 2] <= 0.0)[:, None, :],
            "WEIGHT": np.abs(cube[..., 2]).astype(np.float32),
            "SIGMA": np.ones((len(rows), 2), np.float32),
        }
        _write(ms, columns)
        _antennas(ms, names, array_center + np.asarray(antennas.data["STABXYZ"], float))
        direction = np.radians([header["CRVAL6"], header["CRVAL7"]])
        _subtables(ms, direction, float(header["CRVAL4"]), float(header["CDELT4"]), str(header["OBJECT"]), times)
    return ms


def _write(ms: Path, columns: dict[str, NDArray[Any]]) -> None:
    shape = list(columns["DATA"].shape[1:])
    wanted = maketabdesc(
        [
            makearrcoldesc("DATA", 0j, ndim=2, shape=shape, valuetype="complex"),
            makearrcoldesc("CORRECTED_DATA", 0j, ndim=2, shape=shape, valuetype="complex"),
        ]
    )
    with default_ms(str(ms), wanted) as main:
        main.addrows(len(columns["TIME"]))
        for name, values in columns.items():
            main.putcol(name, values)
        main.putcol("CORRECTED_DATA", columns["DATA"])
        main.putcol("FLAG_ROW", columns["FLAG"].all(axis=(1, 2)))


def _antennas(ms: Path, names: list[str], positions: NDArray[np.float64]) -> None:
    with table(f"{ms}::ANTENNA", readonly=False, ack=False) as sub:
        sub.addrows(len(names))
        sub.putcol("NAME", names)
        sub.putcol("STATION", names)
        sub.putcol("POSITION", positions)
        sub.putcol("OFFSET", np.zeros((len(names), 3)))
        sub.putcol("DISH_DIAMETER", np.full(len(names), 25.0))
        sub.putcol("MOUNT", ["ALT-AZ"] * len(names))
        sub.putcol("TYPE", ["GROUND-BASED"] * len(names))


def _subtables(
    ms: Path, direction: NDArray[np.float64], freq: float, width: float, name: str, times: NDArray[np.float64]
) -> None:
    one: dict[str, dict[str, Any]] = {
        "SPECTRAL_WINDOW": {
            "NUM_CHAN": 1, "REF_FREQUENCY": freq, "TOTAL_BANDWIDTH": width, "NAME": "one", "MEAS_FREQ_REF": 5,
            "CHAN_FREQ": np.array([freq]), "CHAN_WIDTH": np.array([width]), "EFFECTIVE_BW": np.array([width]),
            "RESOLUTION": np.array([width]), "NET_SIDEBAND": 1,
        },
        "POLARIZATION": {
            "NUM_CORR": 2, "CORR_TYPE": np.array([STOKES_RR, STOKES_LL], np.int32),
            "CORR_PRODUCT": np.array([[0, 0], [1, 1]], np.int32),
        },
        "DATA_DESCRIPTION": {"SPECTRAL_WINDOW_ID": 0, "POLARIZATION_ID": 0},
        "FIELD": {
            "NAME": name, "TIME": float(times[0]), "NUM_POLY": 0, "SOURCE_ID": -1, "PHASE_DIR": direction[None],
            "DELAY_DIR": direction[None], "REFERENCE_DIR": direction[None],
        },
        "OBSERVATION": {
            "TELESCOPE_NAME": "VLA", "OBSERVER": "AO88", "PROJECT": "AO88",
            "TIME_RANGE": np.array([times.min(), times.max()]),
        },
    }  # fmt: skip
    for subtable, cells in one.items():
        with table(f"{ms}::{subtable}", readonly=False, ack=False) as sub:
            sub.addrows(1)
            for column, value in cells.items():
                sub.putcell(column, 0, value)
