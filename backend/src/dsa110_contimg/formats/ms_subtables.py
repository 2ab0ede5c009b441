"""The subtables of a Measurement Set that we write: what MSv2 requires, and the pointings.

Directions are ICRS; times are MJD in seconds (UTC).
"""

from pathlib import Path

import numpy as np
from casacore import tables

from dsa110_contimg.telescope import TELESCOPE_NAME
from dsa110_contimg.visibilities import Visibilities

SECONDS_PER_DAY = 86400.0
XX_YY = (9, 12)
TOPOCENTRIC = 5
INTENT = "OBSERVE_TARGET#ON_SOURCE"


def write_subtables(path: Path, vis: Visibilities) -> None:
    """Fill the subtables of a new Measurement Set."""
    _write_antennas(path, vis)
    _write_spectrum(path, vis)
    _write_field(path, vis)
    _write_source(path, vis)
    _write_observation(path, vis)
    _write_pointing(path, vis)
    _fill(path, "STATE", 1, SIG=[True], REF=[False], CAL=np.zeros(1), LOAD=np.zeros(1), OBS_MODE=[INTENT])
    _fill(path, "PROCESSOR", 1, TYPE=["CORRELATOR"], SUB_TYPE=[vis.telescope])


def _fill(path: Path, name: str, rows: int, **values: object) -> None:
    """Append rows to a subtable; each value is one column's array of rows."""
    with tables.table(str(path / name), readonly=False, ack=False) as table:
        table.addrows(rows)
        for column, content in values.items():
            table.putcol(column, content)


def _write_antennas(path: Path, vis: Visibilities) -> None:
    n_ant, ours = vis.n_antennas, vis.telescope == TELESCOPE_NAME
    _fill(
        path,
        "ANTENNA",
        n_ant,
        NAME=vis.antenna_names,
        STATION=[f"DSA-{name.zfill(3)}" if ours else name for name in vis.antenna_names],
        TYPE=["GROUND-BASED"] * n_ant,
        MOUNT=["ALT-AZ"] * n_ant,
        POSITION=vis.antenna_itrf_m,
        OFFSET=np.zeros((n_ant, 3)),
        DISH_DIAMETER=np.full(n_ant, np.nan_to_num(vis.dish_diameter_m)),
    )
    start, stop = vis.time_mjd.min() * SECONDS_PER_DAY, vis.time_mjd.max() * SECONDS_PER_DAY
    _fill(
        path,
        "FEED",
        n_ant,
        ANTENNA_ID=np.arange(n_ant, dtype=np.int32),
        SPECTRAL_WINDOW_ID=np.full(n_ant, -1, np.int32),
        NUM_RECEPTORS=np.full(n_ant, 2, np.int32),
        BEAM_ID=np.full(n_ant, -1, np.int32),
        TIME=np.full(n_ant, 0.5 * (start + stop)),
        INTERVAL=np.full(n_ant, stop - start + vis.integration_s),
        POSITION=np.zeros((n_ant, 3)),
        BEAM_OFFSET=np.zeros((n_ant, 2, 2)),
        POLARIZATION_TYPE={"shape": [n_ant, 2], "array": ["X", "Y"] * n_ant},
        POL_RESPONSE=np.tile(np.eye(2, dtype=np.complex64), (n_ant, 1, 1)),
        RECEPTOR_ANGLE=np.zeros((n_ant, 2)),
    )


def _write_spectrum(path: Path, vis: Visibilities) -> None:
    n_chan = vis.freq_hz.size
    widths = np.full((1, n_chan), vis.channel_width_hz)
    _fill(
        path,
        "SPECTRAL_WINDOW",
        1,
        NAME=["BAND"],
        NUM_CHAN=np.array([n_chan], np.int32),
        CHAN_FREQ=vis.freq_hz[None, :],
        CHAN_WIDTH=widths,
        EFFECTIVE_BW=widths,
        RESOLUTION=widths,
        REF_FREQUENCY=np.array([vis.freq_hz[0]]),
        TOTAL_BANDWIDTH=np.array([n_chan * vis.channel_width_hz]),
        MEAS_FREQ_REF=np.array([TOPOCENTRIC], np.int32),
        NET_SIDEBAND=np.ones(1, np.int32),
        IF_CONV_CHAIN=np.zeros(1, np.int32),
        FREQ_GROUP=np.zeros(1, np.int32),
        FREQ_GROUP_NAME=["GROUP"],
    )
    n_pol = vis.vis.shape[2]
    _fill(
        path,
        "POLARIZATION",
        1,
        NUM_CORR=np.array([n_pol], np.int32),
        CORR_TYPE=np.array([XX_YY[:n_pol]], np.int32),
        CORR_PRODUCT=np.array([[[0, 0], [1, 1]][:n_pol]], np.int32),
    )
    _fill(
        path,
        "DATA_DESCRIPTION",
        1,
        SPECTRAL_WINDOW_ID=np.zeros(1, np.int32),
        POLARIZATION_ID=np.zeros(1, np.int32),
    )


def _write_field(path: Path, vis: Visibilities) -> None:
    direction = np.radians(np.array([[list(vis.phase_center)]]))
    _fill(
        path,
        "FIELD",
        1,
        NAME=[vis.field_name],
        TIME=np.array([vis.mid_mjd * SECONDS_PER_DAY]),
        NUM_POLY=np.zeros(1, np.int32),
        PHASE_DIR=direction,
        DELAY_DIR=direction,
        REFERENCE_DIR=direction,
        SOURCE_ID=np.zeros(1, np.int32),
    )
    with tables.table(str(path / "FIELD"), readonly=False, ack=False) as table:
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            table.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": "ICRS"})


def _write_source(path: Path, vis: Visibilities) -> None:
    """Add the optional table in which CASA looks for a field's source."""
    with tables.default_ms_subtable("SOURCE", str(path / "SOURCE")) as table:
        table.putcolkeyword("DIRECTION", "MEASINFO", {"type": "direction", "Ref": "ICRS"})
        source = f"Table: {path / 'SOURCE'}"
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putkeyword("SOURCE", source)
    span = np.ptp(vis.time_mjd) * SECONDS_PER_DAY + vis.integration_s
    _fill(
        path,
        "SOURCE",
        1,
        SOURCE_ID=np.zeros(1, np.int32),
        TIME=np.array([vis.mid_mjd * SECONDS_PER_DAY]),
        INTERVAL=np.array([span]),
        SPECTRAL_WINDOW_ID=np.full(1, -1, np.int32),
        NUM_LINES=np.zeros(1, np.int32),
        NAME=[vis.field_name],
        CALIBRATION_GROUP=np.zeros(1, np.int32),
        CODE=[""],
        DIRECTION=np.radians(np.array([list(vis.phase_center)])),
        PROPER_MOTION=np.zeros((1, 2)),
    )


def _write_observation(path: Path, vis: Visibilities) -> None:
    half = 0.5 * vis.integration_s
    span = np.array([[vis.time_mjd.min() * SECONDS_PER_DAY - half, vis.time_mjd.max() * SECONDS_PER_DAY + half]])
    _fill(
        path,
        "OBSERVATION",
        1,
        TELESCOPE_NAME=[vis.telescope],
        TIME_RANGE=span,
        OBSERVER=["DSA-110" if vis.telescope == TELESCOPE_NAME else vis.telescope],
        PROJECT=["continuum"],
        RELEASE_DATE=np.zeros(1),
    )


def _write_pointing(path: Path, vis: Visibilities) -> None:
    n_time, n_ant = vis.pointing_mjd.size, vis.n_antennas
    if n_time == 0:
        return
    rows = n_time * n_ant
    direction = np.repeat(np.radians(vis.pointing_icrs_deg), n_ant, axis=0)[:, None, :]
    _fill(
        path,
        "POINTING",
        rows,
        ANTENNA_ID=np.tile(np.arange(n_ant, dtype=np.int32), n_time),
        TIME=np.repeat(vis.pointing_mjd * SECONDS_PER_DAY, n_ant),
        INTERVAL=np.full(rows, vis.integration_s),
        NAME=[vis.field_name] * rows,
        NUM_POLY=np.zeros(rows, np.int32),
        TIME_ORIGIN=np.repeat(vis.pointing_mjd * SECONDS_PER_DAY, n_ant),
        DIRECTION=direction,
        TARGET=direction,
        TRACKING=np.ones(rows, bool),
    )
    with tables.table(str(path / "POINTING"), readonly=False, ack=False) as table:
        for column in ("DIRECTION", "TARGET"):
            table.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": "ICRS"})
