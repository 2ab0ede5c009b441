r"""Moving visibilities from one phase center to another.

Data stopped toward s0 are moved to s by

    V ← V · exp(+2πi f/c · b·(s0 − s))

A row whose antennas are named in the other order holds the complex conjugate. The kernel holds no lock, so that one
thread can move each subband of a tile.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled

SPEED_OF_LIGHT = 299792458.0


@compiled
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
        (n_row, n_chan, n_pol), as in the file; what is bad, exactly zero or no number becomes zero and flagged.
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
    for row in range(n_row):
        first = 2.0 * np.pi * path_m[row] * freq_hz[0] / SPEED_OF_LIGHT
        turn = complex(np.cos(first), np.sin(first))
        step = 2.0 * np.pi * path_m[row] * (freq_hz[-1] - freq_hz[0]) / max(1, n_chan - 1) / SPEED_OF_LIGHT
        advance = complex(np.cos(step), np.sin(step))
        sign = -1.0 if conjugate[row] else 1.0
        for chan in range(n_chan):
            target = n_chan - 1 - chan if descending else chan
            for pol in range(n_pol):
                real, imag = raw[row, chan, pol].real, raw[row, chan, pol].imag
                # The sum of the parts' magnitudes is finite and positive just where the visibility is good.
                size = abs(np.float64(real)) + abs(np.float64(imag))
                good = not bad[row, chan, pol] and 0.0 < size < np.inf
                flags[row, target, pol] = not good
                if good:
                    turned_real = real * turn.real - imag * turn.imag
                    turned_imag = sign * (real * turn.imag + imag * turn.real)
                    out[row, target, pol] = complex(turned_real, turned_imag)
                else:
                    out[row, target, pol] = 0.0
            turn *= advance
