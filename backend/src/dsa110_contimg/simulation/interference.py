r"""Interference of known strength, put into visibilities that have none.

A transmitter in the direction d, with the field e_p at antenna p in units of √σ_p (the noise of a baseline is
σ_pq = σ_p σ_q), adds

    R_pq = σ_pq e_p e_q* c_pol exp(2πi ν τ_pq) sinc(Δν τ_pq) sinc(Δt ν dτ_pq/dt)
    τ_pq = (r_p − r_q)·(d − s(t)) / c

where s(t) is the phase center that the sky is followed toward: what stands still on the Earth turns, and smears on long
baselines. The kinds are

    line        one to three channels, all of the time, a ground station
    burst       one or two integrations, a whole band or part of it, a ground station
    broadband   40 to 120 channels for several integrations
    satellite   one or two channels that drift, seen by every antenna
    spark       one sample on one baseline

The truth is |R|/σ of every sample, in tenths, and which samples belong to structures of 16 and more on their baseline.
"""

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel

SPEED_OF_LIGHT = 299792458.0
EARTH_TURN_RAD_S = 7.2921159e-5
KINDS = ("line", "burst", "broadband", "satellite", "spark")
LARGE_STRUCTURE = 16


@dataclass(frozen=True)
class Transmitter:
    """One source of interference."""

    kind: str
    direction: NDArray[np.float64]
    """(3,), unit vector, ITRS."""
    field: NDArray[np.float64]
    """(n_antenna,), |e|; zero where it is not seen."""
    polarization: NDArray[np.float64]
    """(n_pol,), share of its amplitude in each."""
    where: NDArray[np.bool_]
    """(n_time, n_chan)."""


@dataclass(frozen=True)
class Geometry:
    """What interference needs to know of the observation."""

    antenna_m: NDArray[np.float64]
    """(n_antenna, 3), ITRS."""
    toward: NDArray[np.float64]
    """(3,), unit vector to the phase center in the middle of the observation, ITRS."""
    freq_hz: NDArray[np.float64]
    channel_hz: float
    integration_s: float
    n_time: int
    n_pol: int = 2


@dataclass(frozen=True)
class InterferenceTruth:
    """What was put in."""

    tenths: NDArray[np.uint8]
    """(n_row, n_chan, n_pol), ten times |R|/σ, at most 255."""
    large: NDArray[np.bool_]
    """(n_row, n_chan): part of a structure of 16 samples and more."""


def draw_transmitters(
    geometry: Geometry, counts: dict[str, int], sigmas: tuple[float, float], seed: int
) -> list[Transmitter]:
    """Draw transmitters.

    Parameters
    ----------
    geometry
        The observation.
    counts
        How many of each kind; sparks are drawn by `inject`.
    sigmas
        Range of strengths |R|/σ on a typical baseline that sees it, drawn evenly in the logarithm.
    seed
        Of everything that is random.
    """
    rng = np.random.default_rng([seed, 11])
    drawn = []
    for kind, count in counts.items():
        for _ in range(count if kind != "spark" else 0):
            strength = np.exp(rng.uniform(*np.log(sigmas)))
            angle = rng.uniform(0.0, 2.0 * np.pi)
            drawn.append(
                Transmitter(
                    kind=kind,
                    direction=_direction(geometry, 40.0 if kind == "satellite" else 0.0, rng),
                    field=_field(geometry.antenna_m.shape[0], kind, rng) * np.sqrt(strength),
                    polarization=np.abs([np.cos(angle), np.sin(angle)])[: geometry.n_pol] * np.sqrt(2.0),
                    where=_where(kind, geometry.n_time, geometry.freq_hz.size, rng),
                )
            )
    return drawn


def _direction(geometry: Geometry, least_elevation_deg: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a direction on the horizon, or above an elevation."""
    up = geometry.antenna_m.mean(axis=0) / np.linalg.norm(geometry.antenna_m.mean(axis=0))
    east = np.array([-up[1], up[0], 0.0]) / np.hypot(up[0], up[1])
    azimuth = rng.uniform(0.0, 2.0 * np.pi)
    elevation = np.radians(rng.uniform(least_elevation_deg, 80.0)) if least_elevation_deg else 0.0
    flat = np.cos(azimuth) * np.cross(up, east) + np.sin(azimuth) * east
    return np.asarray(np.cos(elevation) * flat + np.sin(elevation) * up)


def _field(n_antenna: int, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw which antennas see a transmitter, and how well: satellites all, others from four to all of them."""
    field = rng.lognormal(0.0, 0.3, n_antenna)
    if kind != "satellite":
        seen = int(rng.integers(min(4, n_antenna), n_antenna + 1))
        field[rng.permutation(n_antenna)[seen:]] = 0.0
    return field


def _where(kind: str, n_time: int, n_chan: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    where = np.zeros((n_time, n_chan), bool)
    chan, t = int(rng.integers(n_chan)), int(rng.integers(n_time))
    if kind == "line":
        where[:, chan : chan + int(rng.integers(1, 4))] = True
    elif kind == "burst":
        width = n_chan if rng.random() < 0.5 else n_chan // 4
        where[t : t + int(rng.integers(1, 3)), chan - chan % width :][:, :width] = True
    elif kind == "broadband":
        width, last = int(rng.integers(n_chan // 20, n_chan // 6)), int(rng.integers(3, max(4, n_time // 3)))
        where[t : t + last, chan : chan + width] = True
    else:
        slope, width = rng.uniform(-2.0, 2.0), int(rng.integers(1, 3))
        for now in range(n_time):
            first = round(chan + slope * (now - n_time // 2))
            where[now, max(first, 0) : max(first + width, 0)] = True
    return where


def inject(
    vis: NDArray[np.complex64],
    rows: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]],
    noise: NDArray[np.float32],
    geometry: Geometry,
    transmitters: list[Transmitter],
    sparks: tuple[float, float, int],
) -> InterferenceTruth:
    """Add transmitters and sparks to visibilities, in place, and return the truth.

    Parameters
    ----------
    vis
        (n_row, n_chan, n_pol); autocorrelations stay as they are.
    rows
        First antenna, second antenna and integration of each row.
    noise
        σ_p of each antenna, (n_antenna, n_chan, n_pol): the noise of a baseline's real part is σ_p σ_q.
    geometry
        The observation.
    transmitters
        What is added.
    sparks
        Fraction of samples that are sparks, their strength in σ, the seed.
    """
    tenths = np.zeros(vis.shape, np.uint8)
    large = np.zeros(vis.shape[:2], bool)
    for one in transmitters:
        chans = np.flatnonzero(one.where.any(axis=0))
        delays = np.stack([_delays(geometry, one.direction, t) for t in range(geometry.n_time + 1)])
        shares = (one.field, one.polarization, one.where, int(one.where.sum()) >= LARGE_STRUCTURE)
        _add(vis, rows, noise, (geometry.freq_hz, geometry.channel_hz), (delays, chans), shares, (tenths, large))
    _add_sparks(vis, rows, noise, sparks, tenths)
    return InterferenceTruth(tenths, large)


def _delays(geometry: Geometry, direction: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Return the delay of each antenna behind the phase center's, s, (n_antenna,); half an integration early."""
    turn = EARTH_TURN_RAD_S * geometry.integration_s * (t - 0.5 * geometry.n_time)
    cos, sin = np.cos(turn), np.sin(turn)
    x, y, z = geometry.toward
    center = np.array([cos * x + sin * y, cos * y - sin * x, z])
    return np.asarray(geometry.antenna_m @ (direction - center) / SPEED_OF_LIGHT)


@compiled
def _sinc(turns: float) -> float:
    return np.sin(np.pi * turns) / (np.pi * turns) if abs(turns) > 1e-6 else 1.0


@compiled_parallel
def _add(
    vis: NDArray[np.complex64],
    rows: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]],
    noise: NDArray[np.float32],
    band: tuple[NDArray[np.float64], float],
    path: tuple[NDArray[np.float64], NDArray[np.int64]],
    source: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], bool],
    truth: tuple[NDArray[np.uint8], NDArray[np.bool_]],
) -> None:
    """Add one transmitter; strengths of several on one sample are added."""
    antenna1, antenna2, moment = rows
    freq, channel_hz = band
    delays, chans = path
    field, polarization, where, is_large = source
    tenths, large = truth
    for row in prange(vis.shape[0]):
        one, two, t = antenna1[row], antenna2[row], moment[row]
        strength = field[one] * field[two]
        if one == two or strength == 0.0:
            continue
        begin, end = delays[t, one] - delays[t, two], delays[t + 1, one] - delays[t + 1, two]
        tau = 0.5 * (begin + end)
        for chan in chans:
            if not where[t, chan]:
                continue
            size = strength * _sinc(channel_hz * tau) * _sinc(freq[chan] * (end - begin))
            wave = np.exp(2j * np.pi * freq[chan] * tau)
            large[row, chan] |= is_large
            for pol in range(vis.shape[2]):
                sigma = noise[one, chan, pol] * noise[two, chan, pol]
                vis[row, chan, pol] += np.complex64(size * polarization[pol] * sigma * wave)
                tenth = 10.0 * abs(size) * polarization[pol]
                tenths[row, chan, pol] = np.uint8(min(255.0, tenths[row, chan, pol] + tenth + 0.5))


@compiled
def _add_sparks(
    vis: NDArray[np.complex64],
    rows: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]],
    noise: NDArray[np.float32],
    sparks: tuple[float, float, int],
    tenths: NDArray[np.uint8],
) -> None:
    """Add single samples, the same in every polarization up to its phase."""
    antenna1, antenna2, _moment = rows
    fraction, sigmas, seed = sparks
    np.random.seed(seed)  # noqa: NPY002 - compiled code has no generators of its own
    for _ in range(int(fraction * vis.shape[0] * vis.shape[1])):
        row, chan = np.random.randint(vis.shape[0]), np.random.randint(vis.shape[1])  # noqa: NPY002
        one, two = antenna1[row], antenna2[row]
        if one == two or tenths[row, chan].max() > 0:
            continue
        for pol in range(vis.shape[2]):
            sigma = noise[one, chan, pol] * noise[two, chan, pol]
            wave = np.exp(2j * np.pi * np.random.random())  # noqa: NPY002
            vis[row, chan, pol] += np.complex64(sigmas * sigma * wave)
            tenths[row, chan, pol] = np.uint8(min(255.0, 10.0 * sigmas + 0.5))
