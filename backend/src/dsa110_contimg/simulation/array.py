"""The array as built: stations, correlator order, channels.

A station's position is its geodetic latitude, longitude and height (WGS84) of `stations.csv`; the correlator
takes 96 of the 117 stations in an order of its own. Products run over the lower triangle of that order,
(0,0) (0,1) (1,1) (0,2) ..., autocorrelations included: a row (ant_1, ant_2) holds conj(E_ant1) E_ant2.

The 250 MHz below 1530 MHz are cut into 8192 fine channels that descend in frequency; a subband takes 384 of
them, from 1024 + 384 k on, and averages neighbours. A label is the mean of its fine channels' centers.
"""

import csv
import functools
from importlib import resources

import astropy.units as u
import numpy as np
from astropy.coordinates import EarthLocation
from numpy.typing import NDArray

N_STATIONS = 117
TOP_HZ = 1530e6
FINE_WIDTH_HZ = 250e6 / 8192
FIRST_FINE, FINE_PER_SUBBAND = 1024, 384
HEADER_LATITUDE_DEG, HEADER_LONGITUDE_DEG, HEADER_ALTITUDE_M = 37.2339, -118.2825, 1222.0
EAST_WEST, NORTH_SOUTH, OUTRIGGERS = range(1, 52), range(52, 103), range(103, 118)

CORRELATOR_STATIONS: tuple[int, ...] = (
    *range(1, 10),
    *range(11, 21),
    *range(24, 52),
    102,
    116,
    *range(68, 102),
    *range(103, 116),
)


@functools.cache
def station_positions() -> NDArray[np.float64]:
    """Return the ITRF position of each station in metres, shape (117, 3); row i is station i + 1."""
    text = resources.files(__package__).joinpath("stations.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    lat, lon, height = (np.array([float(row[key]) for row in rows]) for key in ("latitude", "longitude", "elevation"))
    place = EarthLocation.from_geodetic(lon * u.deg, lat * u.deg, height * u.m)
    return np.stack([axis.to_value(u.m) for axis in (place.x, place.y, place.z)], axis=-1)


def header_position() -> NDArray[np.float64]:
    """Return the ITRF position of the header's latitude, longitude and altitude, shape (3,)."""
    place = EarthLocation.from_geodetic(
        HEADER_LONGITUDE_DEG * u.deg, HEADER_LATITUDE_DEG * u.deg, HEADER_ALTITUDE_M * u.m
    )
    return np.array([axis.to_value(u.m) for axis in (place.x, place.y, place.z)])


@functools.cache
def choose_stations(n_antenna: int) -> tuple[int, ...]:
    """Return the stations of a correlator with fewer antennas, in correlator order.

    The arms and the outriggers keep their shares. Within these, antennas join one by one, each time the one
    whose new baselines fill the most empty 6 m cells of the horizontal plane, and of equals the most remote:
    regular gaps would give grating lobes inside the primary beam.
    """
    if n_antenna >= len(CORRELATOR_STATIONS):
        return CORRELATOR_STATIONS
    positions = station_positions()
    center = header_position()
    east, north = _horizontal_axes()
    plane = {s: (positions[s - 1] - center) @ np.stack([east, north], axis=1) for s in CORRELATOR_STATIONS}
    room = _shares(n_antenna)
    chosen: list[int] = []
    filled: set[tuple[int, int]] = set()
    while len(chosen) < n_antenna:
        open_stations = [s for s in CORRELATOR_STATIONS if s not in chosen and room[_arm(s)] > 0]
        cells = {s: _new_cells(plane[s], [plane[other] for other in chosen]) - filled for s in open_stations}
        remoteness = {s: _nearest(plane[s], [plane[other] for other in chosen]) for s in open_stations}
        best = max(open_stations, key=lambda s: (len(cells[s]), remoteness[s], -s))
        filled |= cells[best]
        room[_arm(best)] -= 1
        chosen.append(best)
    return tuple(s for s in CORRELATOR_STATIONS if s in chosen)


def _arm(station: int) -> int:
    return 0 if station in EAST_WEST else 1 if station in NORTH_SOUTH else 2


def _shares(n_antenna: int) -> list[int]:
    """Split antennas over east-west arm, north-south arm and outriggers as the full correlator does."""
    total = [sum(_arm(s) == arm for s in CORRELATOR_STATIONS) for arm in range(3)]
    share = [n_antenna * count // len(CORRELATOR_STATIONS) for count in total]
    for arm in (1, 0, 2, 0, 1):
        share[arm] += sum(share) < n_antenna
    return share


def _horizontal_axes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lon, lat = np.radians(HEADER_LONGITUDE_DEG), np.radians(HEADER_LATITUDE_DEG)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    return east, north


def _nearest(place: NDArray[np.float64], others: list[NDArray[np.float64]]) -> float:
    return float(np.linalg.norm(place - np.array(others), axis=1).min()) if others else 0.0


def _new_cells(place: NDArray[np.float64], others: list[NDArray[np.float64]]) -> set[tuple[int, int]]:
    if not others:
        return set()
    cells = np.round((place - np.array(others)) / 6.0).astype(int).tolist()
    return {(x, y) if (x, y) > (0, 0) else (-x, -y) for x, y in cells}


def baselines(n_antenna: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (first, second) correlator indices of each product: (0,0) (0,1) (1,1) (0,2) ..."""
    second, first = np.tril_indices(n_antenna)
    return first.astype(np.int64), second.astype(np.int64)


def subband_frequencies(subband: int, channels: int) -> NDArray[np.float64]:
    """Return the channel labels of a subband in Hz, descending, shape (channels,)."""
    width = FINE_PER_SUBBAND / channels
    fine = FIRST_FINE + FINE_PER_SUBBAND * subband + width * np.arange(channels) + (width - 1.0) / 2.0
    return np.asarray(TOP_HZ - fine * FINE_WIDTH_HZ, np.float64)


def channel_width(channels: int) -> float:
    """Return the width of a channel in Hz: 244140.625 with 48 channels."""
    return FINE_WIDTH_HZ * FINE_PER_SUBBAND / channels
