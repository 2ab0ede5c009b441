r"""The primary beam of an unblocked, evenly lit dish.

    P(θ, f) = (2 J1(x) / x)²        x = π D sin θ f / c

P(0) = 1; half power at θ = 0.514 c/(f D) (Airy 1835). The sky drifts through it during a tile, so the beam of a
tile's image is its mean over pointings and channels.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j1

SPEED_OF_LIGHT = 299792458.0


def airy_power(theta: ArrayLike, freq_hz: ArrayLike, diameter_m: float) -> NDArray[np.float64]:
    """Return the power response at angles (rad) and frequencies (Hz), broadcast against each other."""
    x = np.pi * diameter_m * np.sin(theta) * np.asarray(freq_hz) / SPEED_OF_LIGHT
    small = np.abs(x) < 1e-6
    safe = np.where(small, 1.0, x)
    return np.asarray(np.where(small, 1.0, (2.0 * j1(safe) / safe) ** 2))
