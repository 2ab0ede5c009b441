r"""The primary beam of an unblocked, evenly lit dish.

    P(θ, f) = (2 J1(x) / x)²        x = π D sin θ f / c

P(0) = 1; half power at θ = 0.514 c/(f D) (Airy 1835). The sky drifts through it during a tile, so the beam of a
tile's image is its mean over pointings t and channels f with the weights that these have in the image:

    B(s) = Σ_tf W(t, f) P(|s − s_t|, f) / Σ_tf W(t, f)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline
from scipy.special import j1

from dsa110_contimg.kernels.sphere import from_direction_cosines, separation

SPEED_OF_LIGHT = 299792458.0
COARSE_POINTS = 81
MAX_BANDS = 32


def airy_power(theta: ArrayLike, freq_hz: ArrayLike, diameter_m: float) -> NDArray[np.float64]:
    """Return the power response at angles (rad) and frequencies (Hz), broadcast against each other."""
    x = np.pi * diameter_m * np.sin(theta) * np.asarray(freq_hz) / SPEED_OF_LIGHT
    small = np.abs(x) < 1e-6
    safe = np.where(small, 1.0, x)
    return np.asarray(np.where(small, 1.0, (2.0 * j1(safe) / safe) ** 2))


def airy_radius(level: float, freq_hz: NDArray[np.float64], diameter_m: float) -> float:
    """Return the angle (rad) at which the band-averaged main lobe has fallen to a level between 0.05 and 1."""
    edge = np.arcsin(min(1.0, 1.2 * SPEED_OF_LIGHT / (diameter_m * float(np.mean(freq_hz)))))
    angle = np.linspace(0.0, edge, 2001)
    power = airy_power(angle[:, None], np.asarray(freq_hz)[None, :], diameter_m).mean(axis=1)
    return float(angle[np.argmax(power < level)])


def join_channels(
    freq_hz: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most 32 bands and their weights: the beam changes so slowly that more cost time only.

    Parameters
    ----------
    freq_hz
        (n_chan,).
    weight
        (n_pointing, n_chan).
    """
    if freq_hz.size <= MAX_BANDS:
        return freq_hz, weight
    starts = np.linspace(0, freq_hz.size, MAX_BANDS, endpoint=False).astype(np.int64)
    joined = np.add.reduceat(weight, starts, axis=1)
    moment = np.add.reduceat(weight.sum(axis=0) * freq_hz, starts)
    plain = np.add.reduceat(freq_hz, starts) / np.add.reduceat(np.ones_like(freq_hz), starts)
    total = joined.sum(axis=0)
    return np.where(total > 0.0, moment / np.where(total > 0.0, total, 1.0), plain), joined


def mean_beam(
    directions_rad: NDArray[np.float64],
    pointings_rad: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    weight: NDArray[np.float64],
    diameter_m: float,
) -> NDArray[np.float64]:
    """Return the drift- and band-averaged beam toward directions, shape (n_direction,).

    Parameters
    ----------
    directions_rad
        (n_direction, 2), right ascension and declination.
    pointings_rad
        (n_pointing, 2).
    freq_hz
        (n_chan,).
    weight
        (n_pointing, n_chan), the sum of imaging weights of each.
    diameter_m
        Of the dishes.
    """
    bands, joined = join_channels(freq_hz, weight)
    total = np.zeros(directions_rad.shape[0])
    for pointing, share in zip(pointings_rad, joined, strict=True):
        if np.any(share > 0.0):
            angle = separation(directions_rad[:, 0], directions_rad[:, 1], pointing[0], pointing[1])
            total += airy_power(angle[:, None], bands[None, :], diameter_m) @ share
    return np.asarray(total / joined.sum())


def mean_beam_image(
    size: int,
    cell_rad: float,
    center_rad: tuple[float, float],
    pointings_rad: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    weight: NDArray[np.float64],
    diameter_m: float,
) -> NDArray[np.float32]:
    """Return the drift- and band-averaged beam on a SIN grid, shape (size, size); NaN beyond the horizon.

    It is computed at 81 x 81 points and carried to the pixels by cubic splines: the beam is far smoother than
    that, and the error stays below 1e-5.
    """
    nodes = np.linspace(-(size // 2), size - 1 - size // 2, COARSE_POINTS)
    east, north = np.meshgrid(-nodes * cell_rad, nodes * cell_rad)
    ra, dec = from_direction_cosines(east.ravel(), north.ravel(), *center_rad)
    coarse = mean_beam(np.stack([ra, dec], axis=1), pointings_rad, freq_hz, weight, diameter_m)
    spline = make_interp_spline(nodes, np.eye(COARSE_POINTS), k=3)
    matrix = np.asarray(spline(np.arange(size) - size // 2), np.float32)
    values: NDArray[np.float32] = matrix @ coarse.reshape(COARSE_POINTS, COARSE_POINTS).astype(np.float32) @ matrix.T
    return values
