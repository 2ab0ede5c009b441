r"""Directions on the sphere, in radians, and their SIN (orthographic) direction cosines.

    l = cos δ sin(α − α0)
    m = sin δ cos δ0 − cos δ sin δ0 cos(α − α0)
    n = sin δ sin δ0 + cos δ cos δ0 cos(α − α0)

l points east, m north; n < 0 behind the tangent plane (Calabretta & Greisen 2002, 5.1.5).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def direction_cosines(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> NDArray[np.float64]:
    """Return (l, m, n) of directions seen from a center, shape (..., 3)."""
    ra, dec = np.asarray(ra, dtype=float), np.asarray(dec, dtype=float)
    east = np.cos(dec) * np.sin(ra - ra0)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)
    toward = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
    return np.stack([east, north, toward], axis=-1)


def from_direction_cosines(
    lcos: ArrayLike, mcos: ArrayLike, ra0: float, dec0: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (ra in [0, 2π), dec) of direction cosines in front of the tangent plane; NaN outside it."""
    east, north = np.asarray(lcos, dtype=float), np.asarray(mcos, dtype=float)
    square = 1.0 - east**2 - north**2
    toward = np.sqrt(np.where(square >= 0.0, square, np.nan))
    dec = np.arcsin(north * np.cos(dec0) + toward * np.sin(dec0))
    ra = ra0 + np.arctan2(east, toward * np.cos(dec0) - north * np.sin(dec0))
    return ra % (2.0 * np.pi), dec


def separation(ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> NDArray[np.float64]:
    """Return great-circle distances (Vincenty's formula: accurate at every distance)."""
    ra1, dec1 = np.asarray(ra1, dtype=float), np.asarray(dec1, dtype=float)
    ra2, dec2 = np.asarray(ra2, dtype=float), np.asarray(dec2, dtype=float)
    delta = ra2 - ra1
    across = np.hypot(
        np.cos(dec2) * np.sin(delta),
        np.cos(dec1) * np.sin(dec2) - np.sin(dec1) * np.cos(dec2) * np.cos(delta),
    )
    along = np.sin(dec1) * np.sin(dec2) + np.cos(dec1) * np.cos(dec2) * np.cos(delta)
    return np.asarray(np.arctan2(across, along))


def mean_direction(ra: ArrayLike, dec: ArrayLike) -> tuple[float, float]:
    """Return the direction of the mean unit vector: right across RA 0, where a mean of angles is not."""
    ra, dec = np.asarray(ra, dtype=float), np.asarray(dec, dtype=float)
    x, y, z = np.mean(np.cos(dec) * np.cos(ra)), np.mean(np.cos(dec) * np.sin(ra)), np.mean(np.sin(dec))
    return float(np.arctan2(y, x) % (2.0 * np.pi)), float(np.arctan2(z, np.hypot(x, y)))
