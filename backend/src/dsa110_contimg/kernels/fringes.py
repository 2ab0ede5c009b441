r"""Moving visibilities from one phase center to another.

Data stopped toward s0 are moved to s by

    V ← V · exp(+2πi f/c · b·(s0 − s))

A row whose antennas are named in the other order holds the complex conjugate.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

SPEED_OF_LIGHT = 299792458.0


@njit(parallel=True, cache=True)
def rotate_into(
    raw: NDArray[np.complex64],
    bad: NDArray[np.bool_],
    path_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    conjugate: NDArray[np.bool_],
    out: NDArray[np.complex64],
    flags: NDArray[np.bool_],
) -> None:
    """Rotate one subband and write it, channels reversed if need be, into its place in the tile.

    Parameters
    ----------
    raw, bad
        (n_row, n_chan, n_pol), as in the file; what is bad becomes zero.
    path_m
        (n_row,), b·(s0 − s) in metres for the file's order of antennas.
    freq_hz
        (n_chan,), evenly spaced, in the order of `raw`: ascending or descending.
    conjugate
        (n_row,), True where the row's antennas change places.
    out, flags
        (n_row, n_chan, n_pol), written in ascending order of frequency.
    """
    n_row, n_chan, n_pol = raw.shape
    descending = n_chan > 1 and freq_hz[1] < freq_hz[0]
    for row in prange(n_row):
        first = 2.0 * np.pi * path_m[row] * freq_hz[0] / SPEED_OF_LIGHT
        turn = complex(np.cos(first), np.sin(first))
        step = 2.0 * np.pi * path_m[row] * (freq_hz[-1] - freq_hz[0]) / max(1, n_chan - 1) / SPEED_OF_LIGHT
        advance = complex(np.cos(step), np.sin(step))
        for chan in range(n_chan):
            target = n_chan - 1 - chan if descending else chan
            for pol in range(n_pol):
                flags[row, target, pol] = bad[row, chan, pol]
                value = np.complex64(0.0) if bad[row, chan, pol] else np.complex64(raw[row, chan, pol] * turn)
                out[row, target, pol] = np.conj(value) if conjugate[row] else value
            turn *= advance
