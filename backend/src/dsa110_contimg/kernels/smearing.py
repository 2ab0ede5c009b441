r"""What averaging in time and frequency leaves of sources away from the phase center.

A row whose path toward a direction is b·(s − s0) = c τ, and changes by ρ = b·k during an integration
(`kernels.predict.motion_axis`), sees a source there weaker by

    D = sinc(f ρ) · sinc(Δf τ) · sin(n x)/(n sin x)        x = π Δf τ        sinc x = sin πx / πx

through the integration, the channel of width Δf, and our own mean of n channels. The peak of a point source in an
image falls by the mean of D with the weights of the image.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel
from dsa110_contimg.kernels.predict import SPEED_OF_LIGHT, along_axis, sinc


@compiled_parallel
def mean_loss(
    uvw_m: NDArray[np.float64],
    rows: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]],
    spacing_hz: float,
    lmn: NDArray[np.float64],
    motion: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the mean of D toward directions, shape (n_direction,).

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    rows
        Frequency (Hz), weight and averaged channels n of each row, (n_row,) each.
    spacing_hz
        Δf.
    lmn
        (n_direction, 3).
    motion
        k of each direction, (n_direction, 3), seconds per metre; zeros leave averaging by the correlator out.
    """
    freq_hz, weight, n_average = rows
    out = np.empty(lmn.shape[0])
    for s in prange(lmn.shape[0]):
        total, moving = 0.0, np.any(motion[s] != 0.0)
        for row in range(weight.size):
            u, v, w = uvw_m[row, 0], uvw_m[row, 1], uvw_m[row, 2]
            delay = (u * lmn[s, 0] + v * lmn[s, 1] + w * (lmn[s, 2] - 1.0)) / SPEED_OF_LIGHT
            x, n = spacing_hz * delay, n_average[row]
            left = sinc(n * x) / sinc(x) if n > 1 and abs(x) < 0.9 else 1.0
            if moving:
                left *= sinc(freq_hz[row] * along_axis(motion[s], u, v, w)) * sinc(x)
            total += weight[row] * left
        out[s] = total / weight.sum()
    return out
