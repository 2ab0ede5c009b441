r"""The primary beam of an unblocked, evenly lit dish.

    P(θ, f) = (2 J1(x) / x)²        x = π D sin θ f / c

P(0) = 1; half power at θ = 0.514 c/(f D) (Airy 1835). The sky drifts through it during a tile, so the beam of a
tile's image is its mean over pointings t and channels f with the weights that these have in the image:

    B(s) = Σ_tf W(t, f) P(|s − s_t|, f) / Σ_tf W(t, f)

A measured beam (`BeamMap`) can take the place of the Airy disk; it is stretched with the wavelength.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import map_coordinates
from scipy.special import j1

from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines

SPEED_OF_LIGHT = 299792458.0
COARSE_POINTS = 81
MAX_BANDS = 32


class BeamMap(NamedTuple):
    """A measured power beam, seen from the pointing."""

    power: NDArray[np.float64]
    """(ny, nx), 1 toward the pointing at (ny // 2, nx // 2); east is against x, north is with y; 0 outside."""
    cell_rad: float
    freq_hz: float
    """At which it was measured; NaN if it shall not be stretched."""


Dish = float | BeamMap
"""A diameter in metres, of an evenly lit dish, or what was measured."""


def beam_power(lmn: NDArray[np.float64], freq_hz: NDArray[np.float64], dish: Dish) -> NDArray[np.float64]:
    """Return the power response at direction cosines seen from the pointing; 0 behind it.

    Parameters
    ----------
    lmn
        (..., 3), toward east, north and the pointing.
    freq_hz
        (n_freq,).
    dish
        Diameter, or a map.

    Returns
    -------
    NDArray
        (..., n_freq).
    """
    if not isinstance(dish, BeamMap):
        angle = np.arctan2(np.hypot(lmn[..., 0], lmn[..., 1]), lmn[..., 2])[..., None]
        return np.where(angle > 0.5 * np.pi, 0.0, airy_power(angle, freq_hz, dish))
    stretch = np.ones_like(freq_hz) if np.isnan(dish.freq_hz) else freq_hz / dish.freq_hz
    pixels = np.where(lmn[..., 2:] > 0.0, lmn[..., :2], np.inf)[..., None] * stretch / dish.cell_rad
    ny, nx = dish.power.shape
    places = np.stack([pixels[..., 1, :] + ny // 2, nx // 2 - pixels[..., 0, :]])
    return np.asarray(map_coordinates(dish.power, places, order=3, cval=0.0))


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
    dish: Dish,
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
    dish
        Diameter in metres, or a map.
    """
    bands, joined = join_channels(freq_hz, weight)
    total = np.zeros(directions_rad.shape[0])
    for pointing, share in zip(pointings_rad, joined, strict=True):
        if np.any(share > 0.0):
            lmn = direction_cosines(directions_rad[:, 0], directions_rad[:, 1], pointing[0], pointing[1])
            total += beam_power(lmn, bands, dish) @ share
    return np.asarray(total / joined.sum())


def mean_beam_image(
    size: int,
    cell_rad: float,
    center_rad: tuple[float, float],
    pointings_rad: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    weight: NDArray[np.float64],
    dish: Dish,
) -> NDArray[np.float32]:
    """Return the drift- and band-averaged beam on a SIN grid, shape (size, size); NaN beyond the horizon.

    It is computed at 81 x 81 points and carried to the pixels by cubic splines: the beam is far smoother than
    that, and the error stays below 1e-5.
    """
    nodes, directions = image_nodes(size, COARSE_POINTS)
    east, north = (directions * cell_rad).T
    ra, dec = from_direction_cosines(east, north, *center_rad)
    coarse = mean_beam(np.stack([ra, dec], axis=1), pointings_rad, freq_hz, weight, dish)
    return from_nodes(nodes, coarse, size)


def image_nodes(size: int, n_node: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return evenly spaced nodes over an image: pixels from its center, and their (east, north), (n_node², 2)."""
    nodes = np.linspace(-(size // 2), size - 1 - size // 2, n_node)
    east, north = np.meshgrid(-nodes, nodes)
    return nodes, np.stack([east.ravel(), north.ravel()], axis=1)


def from_nodes(nodes: NDArray[np.float64], values: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Carry values at nodes, (n_node²,), to all pixels by cubic splines, shape (size, size)."""
    spline = make_interp_spline(nodes, np.eye(nodes.size), k=3)
    matrix = np.asarray(spline(np.arange(size) - size // 2), np.float32)
    image: NDArray[np.float32] = matrix @ values.reshape(nodes.size, nodes.size).astype(np.float32) @ matrix.T
    return image
