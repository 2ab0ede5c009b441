"""What a calibration table says of each antenna, as numbers to draw: read once, kept for the next who asks.

A table is never overwritten, so that its path and time of change name its content. casacore's tables are not made for
several threads at once: one reads at a time.
"""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.calibration.quality import present_antennas
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import caltable
from dsa110_contimg.telescope import TEE_LATITUDE_RAD, TEE_LONGITUDE_RAD
from dsa110_contimg.visibilities import Gains

KEPT_TABLES = 8
_READING = threading.Lock()
Numbers = list[float | None]


@dataclass(frozen=True)
class AntennaFigures:
    """The solutions of one antenna in a few numbers, one of each for each polarization; None: nothing unflagged."""

    antenna: str
    east_m: float | None
    """From the middle of the array; None where the table has no positions."""
    north_m: float | None
    flagged: float
    """Fraction of its solutions."""
    amplitude: Numbers
    """Median."""
    phase_deg: Numbers
    """Of the mean direction."""
    phase_scatter_deg: Numbers
    """Around it."""
    snr: Numbers
    """Median."""
    delay_ns: Numbers
    """Of a table of delays; empty for others."""


@dataclass(frozen=True)
class TableFigures:
    """A whole table in a few numbers for each antenna."""

    kind: str
    source: str
    reference_antenna: str
    times: int
    channels: int
    polarizations: int
    start_mjd: float
    end_mjd: float
    flagged: float
    antennas: list[AntennaFigures]


@dataclass(frozen=True)
class AntennaSolutions:
    """The solutions of one antenna along the band, or along time where there is one channel."""

    antenna: str
    axis: str
    """'frequency_mhz' or 'time_mjd'."""
    x: list[float]
    amplitude: list[Numbers]
    """One list for each polarization; None where flagged."""
    phase_deg: list[Numbers]
    snr: list[Numbers]
    delay_ns: list[Numbers]


def summarize(path: Path) -> TableFigures:
    """Return a table in a few numbers for each antenna that was in the data.

    Raises
    ------
    BadInputError
        If the table is not on disk or cannot be read.
    """
    return _summary(*_key(path))


def antenna_solutions(path: Path, antenna: str) -> AntennaSolutions | None:
    """Return the solutions of one antenna, or None if the table has no such antenna.

    Raises
    ------
    BadInputError
        If the table is not on disk or cannot be read.
    """
    gains = _gains(*_key(path))
    if antenna not in gains.antenna_names:
        return None
    index = gains.antenna_names.index(antenna)
    values = np.where(gains.flags, complex(np.nan, np.nan), gains.values)[:, index]
    snr = np.where(gains.flags, np.nan, gains.snr)[:, index]
    along_band = values.shape[1] > 1
    # Along the band the solutions of several times are averaged; there is one in all tables of ours.
    lines = _mean(values) if along_band else values[:, 0]
    ratios = _mean(snr).real if along_band else snr[:, 0]
    x = gains.freq_hz / 1e6 if along_band else gains.time_mjd
    delays = gains.kind == "K"
    return AntennaSolutions(
        antenna=antenna,
        axis="frequency_mhz" if along_band else "time_mjd",
        x=[float(one) for one in x],
        amplitude=[] if delays else _columns(np.abs(lines)),
        phase_deg=[] if delays else _columns(np.degrees(np.angle(lines))),
        snr=_columns(ratios),
        delay_ns=_columns(lines.real) if delays else [],
    )


def _key(path: Path) -> tuple[Path, int]:
    try:
        return path, path.stat().st_mtime_ns
    except OSError as error:
        raise BadInputError(f"calibration table {path.name} is not on disk any more: solve it again") from error


@functools.lru_cache(maxsize=KEPT_TABLES)
def _gains(path: Path, _changed_ns: int) -> Gains:
    with _READING:
        return caltable.load(path)


@functools.lru_cache(maxsize=8 * KEPT_TABLES)
def _summary(path: Path, changed_ns: int) -> TableFigures:
    gains = _gains(path, changed_ns)
    places = _places(gains)
    n_time, _n_ant, n_freq, n_pol = gains.values.shape
    present = present_antennas(gains)
    chosen = present if present.size else np.arange(len(gains.antenna_names))
    return TableFigures(
        kind=gains.kind,
        source=gains.source,
        reference_antenna=gains.reference_antenna,
        times=n_time,
        channels=n_freq,
        polarizations=n_pol,
        start_mjd=float(gains.time_mjd[0]),
        end_mjd=float(gains.time_mjd[-1]),
        flagged=float(gains.flags[:, chosen].mean()),
        antennas=[_antenna(gains, int(index), places[index]) for index in chosen],
    )


def _antenna(gains: Gains, index: int, place: NDArray[np.float64]) -> AntennaFigures:
    flags = gains.flags[:, index]
    values = [gains.values[:, index, :, pol][~flags[..., pol]] for pol in range(flags.shape[-1])]
    ratios = [gains.snr[:, index, :, pol][~flags[..., pol]] for pol in range(flags.shape[-1])]
    delays = gains.kind == "K"
    known = bool(np.isfinite(place).all())
    return AntennaFigures(
        antenna=gains.antenna_names[index],
        east_m=float(place[0]) if known else None,
        north_m=float(place[1]) if known else None,
        flagged=float(flags.mean()),
        amplitude=[] if delays else [_median(np.abs(one)) for one in values],
        phase_deg=[] if delays else [_direction(one) for one in values],
        phase_scatter_deg=[] if delays else [_scatter(one) for one in values],
        snr=[_median(one) for one in ratios],
        delay_ns=[_median(one.real) for one in values] if delays else [],
    )


def _places(gains: Gains) -> NDArray[np.float64]:
    """Return (east, north) of each antenna from the middle of those that are known, shape (n_antenna, 2), in m."""
    lon, lat = TEE_LONGITUDE_RAD, TEE_LATITUDE_RAD
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    places = gains.antenna_itrf_m @ np.stack([east, north], axis=1)
    known = np.isfinite(places).all(axis=1)
    return np.asarray(places - (places[known].mean(axis=0) if known.any() else 0.0))


def _median(values: NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if values.size else None


def _direction(values: NDArray[np.complex128]) -> float | None:
    size = np.abs(values)
    good = values[size > 0.0] / size[size > 0.0]
    return float(np.degrees(np.angle(good.mean()))) if good.size else None


def _scatter(values: NDArray[np.complex128]) -> float | None:
    """Return the rms of phases around their mean direction."""
    middle = _direction(values)
    if middle is None:
        return None
    turned = np.degrees(np.angle(values * np.exp(-1j * np.radians(middle))))
    return float(np.sqrt(np.mean(turned**2)))


def _mean(lines: NDArray[np.complex128] | NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the mean over times of what is not flagged, shape (n_freq, n_pol); NaN where nothing is."""
    good = np.isfinite(lines)
    number = good.sum(axis=0)
    total = np.where(good, lines, 0.0).sum(axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(np.complex128)


def _columns(lines: NDArray[np.float64]) -> list[Numbers]:
    """Return an array (n, n_pol) as lists, one for each polarization, without what is not a number."""
    return [_plain(lines[:, pol]) for pol in range(lines.shape[1])]


def _plain(values: Sequence[float] | NDArray[np.float64]) -> Numbers:
    return [float(one) if np.isfinite(one) else None for one in values]
