"""The columns of a CASA caltable and of its subtables: names, types, units and measures."""

from pathlib import Path
from typing import Any

import numpy as np
from casacore import tables

from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.telescope import BAND_HIGH_HZ, BAND_LOW_HZ, DISH_DIAMETER_M, TELESCOPE_NAME
from dsa110_contimg.visibilities import Gains, SkyPosition

DAY_S = 86400.0
TOPO = 5
DIRECT = 5
FREQUENCY_FRAMES = ["REST", "LSRK", "LSRD", "BARY", "GEO", "TOPO", "GALACTO", "LGROUP", "CMB", "Undefined"]
FREQUENCY_CODES = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 64], dtype=np.uint32)
UTC = {"QuantumUnits": ["s"], "MEASINFO": {"type": "epoch", "Ref": "UTC"}}
SECONDS = {"QuantumUnits": ["s"]}
METRES = {"QuantumUnits": ["m", "m", "m"], "MEASINFO": {"type": "position", "Ref": "ITRF"}}
J2000 = {"QuantumUnits": ["rad", "rad"], "MEASINFO": {"type": "direction", "Ref": "J2000"}}
HERTZ = {"QuantumUnits": ["Hz"]}
FREQUENCY = {
    "QuantumUnits": ["Hz"],
    "MEASINFO": {
        "type": "frequency",
        "VarRefCol": "MEAS_FREQ_REF",
        "TabRefTypes": FREQUENCY_FRAMES,
        "TabRefCodes": FREQUENCY_CODES,
    },
}

Keywords = dict[str, Any]


def _scalar(name: str, kind: str, keywords: Keywords | None = None, *, direct: bool = False) -> Keywords:
    """Describe a scalar column; CASA stores those of the main table directly (option 5)."""
    description: Keywords = tables.makescacoldesc(
        name, None, valuetype=kind, keywords=keywords or {}, options=DIRECT if direct else 0
    )
    return description


def _array(name: str, kind: str, ndim: int, keywords: Keywords | None = None) -> Keywords:
    description: Keywords = tables.makearrcoldesc(name, None, valuetype=kind, ndim=ndim, keywords=keywords or {})
    return description


def _fixed(name: str, kind: str, size: int, keywords: Keywords) -> Keywords:
    description: Keywords = tables.makearrcoldesc(
        name, None, valuetype=kind, ndim=1, shape=[size], options=DIRECT, keywords=keywords
    )
    return description


def _main_columns(parameter: str, kind: str) -> list[Keywords]:
    integers = ("FIELD_ID", "SPECTRAL_WINDOW_ID", "ANTENNA1", "ANTENNA2")
    return [
        _scalar("TIME", "double", UTC, direct=True),
        *(_scalar(name, "int", direct=True) for name in integers),
        _scalar("INTERVAL", "double", SECONDS, direct=True),
        _scalar("SCAN_NUMBER", "int", direct=True),
        _scalar("OBSERVATION_ID", "int", direct=True),
        _array(parameter, kind, -1),
        _array("PARAMERR", "float", -1),
        _array("FLAG", "boolean", -1),
        _array("SNR", "float", -1),
        _array("WEIGHT", "float", -1),
    ]


ANTENNA = [
    _fixed("OFFSET", "double", 3, METRES),
    _fixed("POSITION", "double", 3, METRES),
    _scalar("TYPE", "string"),
    _scalar("DISH_DIAMETER", "double", {"QuantumUnits": ["m"]}),
    _scalar("FLAG_ROW", "boolean"),
    _scalar("MOUNT", "string"),
    _scalar("NAME", "string"),
    _scalar("STATION", "string"),
]
FIELD = [
    *(_array(name, "double", 2, J2000) for name in ("DELAY_DIR", "PHASE_DIR", "REFERENCE_DIR")),
    _scalar("CODE", "string"),
    _scalar("FLAG_ROW", "boolean"),
    _scalar("NAME", "string"),
    _scalar("NUM_POLY", "int"),
    _scalar("SOURCE_ID", "int"),
    _scalar("TIME", "double", UTC),
]
SPECTRAL_WINDOW = [
    _scalar("MEAS_FREQ_REF", "int"),
    _array("CHAN_FREQ", "double", 1, FREQUENCY),
    _scalar("REF_FREQUENCY", "double", FREQUENCY),
    *(_array(name, "double", 1, HERTZ) for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION")),
    _scalar("FLAG_ROW", "boolean"),
    _scalar("FREQ_GROUP", "int"),
    _scalar("FREQ_GROUP_NAME", "string"),
    _scalar("IF_CONV_CHAIN", "int"),
    _scalar("NAME", "string"),
    _scalar("NET_SIDEBAND", "int"),
    _scalar("NUM_CHAN", "int"),
    _scalar("TOTAL_BANDWIDTH", "double", HERTZ),
]
OBSERVATION = [
    _fixed("TIME_RANGE", "double", 2, UTC),
    _array("LOG", "string", 1),
    _array("SCHEDULE", "string", 1),
    _scalar("FLAG_ROW", "boolean"),
    _scalar("OBSERVER", "string"),
    _scalar("PROJECT", "string"),
    _scalar("RELEASE_DATE", "double", UTC),
    _scalar("SCHEDULE_TYPE", "string"),
    _scalar("TELESCOPE_NAME", "string"),
]
HISTORY = [
    _array("APP_PARAMS", "string", 1),
    _array("CLI_COMMAND", "string", 1),
    *(_scalar(name, "string") for name in ("APPLICATION", "MESSAGE")),
    *(_scalar(name, "int") for name in ("OBJECT_ID", "OBSERVATION_ID")),
    *(_scalar(name, "string") for name in ("ORIGIN", "PRIORITY")),
    _scalar("TIME", "double", UTC),
]


def create_main(path: Path, gains: Gains, subtype: str) -> tables.table:
    """Create the main table without rows and return it open for writing."""
    columns = _main_columns("FPARAM", "float") if gains.kind == "K" else _main_columns("CPARAM", "complex")
    main = tables.table(str(path), tables.maketabdesc(columns), ack=False)
    main.putinfo({"type": "Calibration", "subType": subtype, "readme": ""})
    return main


def create_subtables(main: tables.table, path: Path, gains: Gains) -> None:
    """Write the five subtables and link them to the main table."""
    _subtable(main, path, "OBSERVATION", OBSERVATION, _observation(gains))
    _subtable(main, path, "ANTENNA", ANTENNA, _antennas(gains))
    _subtable(main, path, "FIELD", FIELD, _field(gains))
    _subtable(main, path, "SPECTRAL_WINDOW", SPECTRAL_WINDOW, _spectral_window(gains))
    _subtable(main, path, "HISTORY", HISTORY, {})


def _subtable(main: tables.table, path: Path, name: str, columns: list[Keywords], values: dict[str, Any]) -> None:
    """Create a subtable, one row per entry of its values; columns that are not given stay at their defaults."""
    with tables.table(str(path / name), tables.maketabdesc(columns), ack=False) as table:
        table.addrows(len(next(iter(values.values()))) if values else 0)
        for column, entries in values.items():
            for row, entry in enumerate(entries):
                table.putcell(column, row, entry)
        main.putkeyword(name, table, makesubrecord=False)


def _antennas(gains: Gains) -> dict[str, Any]:
    n_ant = len(gains.antenna_names)
    return {
        "NAME": gains.antenna_names,
        "STATION": gains.antenna_names,
        "TYPE": ["GROUND-BASED"] * n_ant,
        "MOUNT": ["ALT-AZ"] * n_ant,
        "DISH_DIAMETER": [DISH_DIAMETER_M] * n_ant,
        "FLAG_ROW": [False] * n_ant,
        "OFFSET": np.zeros((n_ant, 3)),
        "POSITION": np.nan_to_num(gains.antenna_itrf_m),
    }


def _field(gains: Gains) -> dict[str, Any]:
    position = POSITIONS.get(gains.source, SkyPosition(0.0, gains.dec_deg))
    direction = np.nan_to_num(np.radians([position]))
    return {
        "NAME": [gains.source],
        "CODE": [""],
        "NUM_POLY": [0],
        "SOURCE_ID": [0],
        "FLAG_ROW": [False],
        "TIME": [float(gains.time_mjd[0]) * DAY_S],
        **{name: [direction] for name in ("DELAY_DIR", "PHASE_DIR", "REFERENCE_DIR")},
    }


def _spectral_window(gains: Gains) -> dict[str, Any]:
    n_chan = gains.freq_hz.size
    width = float(np.median(np.diff(gains.freq_hz))) if n_chan > 1 else BAND_HIGH_HZ - BAND_LOW_HZ
    widths = np.full(n_chan, width)
    return {
        "NUM_CHAN": [n_chan],
        "NAME": [""],
        "MEAS_FREQ_REF": [TOPO],
        "REF_FREQUENCY": [float(gains.freq_hz[0])],
        "CHAN_FREQ": [gains.freq_hz],
        "CHAN_WIDTH": [widths],
        "EFFECTIVE_BW": [widths],
        "RESOLUTION": [widths],
        "TOTAL_BANDWIDTH": [width * n_chan],
        "NET_SIDEBAND": [1],
        "FREQ_GROUP": [0],
        "FREQ_GROUP_NAME": [""],
        "IF_CONV_CHAIN": [0],
        "FLAG_ROW": [False],
    }


def _observation(gains: Gains) -> dict[str, Any]:
    span = np.array([gains.time_mjd[0], gains.time_mjd[-1]]) * DAY_S
    return {
        "TIME_RANGE": [span],
        "TELESCOPE_NAME": [gains.metadata.get("telescope", TELESCOPE_NAME)],
        "OBSERVER": [""],
        "PROJECT": [""],
        "SCHEDULE_TYPE": [""],
        "RELEASE_DATE": [0.0],
        "FLAG_ROW": [False],
    }
