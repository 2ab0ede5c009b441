r"""Take gains out of visibilities, and measure the noise that is left.

    V_pq → V_pq / (g_p conj(g_q))        w_pq → w_pq / mean_f |g_p g_q|⁻²

The noise comes from differences of neighbors, the second in time of the first in frequency,

    e(t) = V(t, f + 1) − V(t, f)        d = e(t − 1) − 2 e(t) + e(t + 1)        ⟨|d|²⟩ = 24 σ²

with σ the noise of the real (or imaginary) part: whatever of the sky changes slowly along either axis drops out.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel, is_finite


@compiled_parallel
def correct(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    weights: NDArray[np.float32],
    antenna1: NDArray[np.int32],
    antenna2: NDArray[np.int32],
    when: NDArray[np.int64],
    inverse: NDArray[np.complex64],
) -> None:
    """Correct in place; what is no number becomes zero and flagged.

    Parameters
    ----------
    vis, flags
        (n_row, n_chan, n_pol).
    weights
        (n_row, n_pol), zero where the whole row is lost.
    antenna1, antenna2, when
        (n_row,), into `inverse`.
    inverse
        (n_time, n_antenna, n_chan, n_pol), 1/g; zero where there is no solution, which flags the sample.
    """
    n_row, n_chan, n_pol = vis.shape
    for row in prange(n_row):
        p, q, epoch = antenna1[row], antenna2[row], when[row]
        for pol in range(n_pol):
            power, count = 0.0, 0
            for chan in range(n_chan):
                factor = inverse[epoch, p, chan, pol] * np.conj(inverse[epoch, q, chan, pol])
                square = factor.real * factor.real + factor.imag * factor.imag
                value = vis[row, chan, pol] * factor
                if not (is_finite(value.real) and is_finite(value.imag)):
                    vis[row, chan, pol], flags[row, chan, pol] = 0.0, True
                elif square > 0.0:
                    vis[row, chan, pol] = value
                    if not flags[row, chan, pol]:
                        power += square
                        count += 1
                else:
                    flags[row, chan, pol] = True
            weights[row, pol] *= np.float32(count / power) if count else np.float32(0.0)


@compiled_parallel
def noise_variance(
    vis: NDArray[np.complex64],
    flags: NDArray[np.bool_],
    order: NDArray[np.int64],
    start: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return σ² of each baseline and polarization, (n_baseline, n_pol); NaN where nothing could be differenced.

    Parameters
    ----------
    vis, flags
        (n_row, n_chan, n_pol).
    order, start
        Rows by baseline, as `baselines.baseline_rows` gives them.
    """
    n_base, n_chan, n_pol = start.size - 1, vis.shape[1], vis.shape[2]
    out = np.full((n_base, n_pol), np.nan)
    for base in prange(n_base):
        for pol in range(n_pol):
            total, count = 0.0, 0
            for i in range(start[base] + 1, start[base + 1] - 1):
                before, now, after = order[i - 1], order[i], order[i + 1]
                for chan in range(n_chan - 1):
                    if (
                        flags[before, chan, pol]
                        or flags[before, chan + 1, pol]
                        or flags[now, chan, pol]
                        or flags[now, chan + 1, pol]
                        or flags[after, chan, pol]
                        or flags[after, chan + 1, pol]
                    ):
                        continue
                    low = vis[before, chan, pol] - 2.0 * vis[now, chan, pol] + vis[after, chan, pol]
                    high = vis[before, chan + 1, pol] - 2.0 * vis[now, chan + 1, pol] + vis[after, chan + 1, pol]
                    d = high - low
                    total += d.real * d.real + d.imag * d.imag
                    count += 1
            if count:
                out[base, pol] = total / (24.0 * count)
    return out
