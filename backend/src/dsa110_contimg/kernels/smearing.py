r"""What averaging in time and frequency leaves of sources away from where the dishes look.

A row whose path toward a direction moves by ρ = b·k during an integration, and is longer by τ = b·d than that toward
the direction which the correlator follows (`kernels.predict.smearing_axes`), sees a source there weaker by

    D = sinc(f ρ) · sinc(Δf τ) · sin(n x)/(n sin x)        x = π Δf b·(s − s0)/c        sinc x = sin πx / πx

through the integration, the channel of width Δf, and our own mean of n channels around the phase center s0. The peak
of a point source in an image falls by the mean of D with the weights of the image.

Over an image D varies as smoothly as over the uv plane: it is a sum of a few products,

    D(row, s)/⟨D(s)⟩ = Σ_k ψ_k(row) φ_k(s)

with φ the leading singular vectors of some rows and directions, and ψ the projection of any row on them.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel
from dsa110_contimg.kernels.predict import SPEED_OF_LIGHT, along_axis, sinc, smearing_at


@compiled_parallel
def averaging_loss(
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int64],
    rows: tuple[NDArray[np.float64], NDArray[np.int64]],
    spacing_hz: float,
    lmn: NDArray[np.float64],
    axes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return D of rows toward directions, (n_row, n_direction).

    Parameters
    ----------
    uvw_m
        (n_row, 3), metres.
    time_index
        (n_row,), integration of each row.
    rows
        Frequency (Hz) and averaged channels n of each row, (n_row,) each.
    spacing_hz
        Δf.
    lmn
        (n_direction, 3).
    axes
        (n_direction, n_axis, 3), as `kernels.predict` takes them; two axes leave averaging by the correlator out.
    """
    freq_hz, n_average = rows
    out = np.empty((uvw_m.shape[0], lmn.shape[0]))
    for row in prange(uvw_m.shape[0]):
        u, v, w = uvw_m[row, 0], uvw_m[row, 1], uvw_m[row, 2]
        for s in range(lmn.shape[0]):
            delay = (u * lmn[s, 0] + v * lmn[s, 1] + w * (lmn[s, 2] - 1.0)) / SPEED_OF_LIGHT
            x, n, at = spacing_hz * delay, n_average[row], smearing_at(axes[s], time_index[row])
            left = sinc(n * x) / sinc(x) if n > 1 and abs(x) < 0.9 else 1.0
            if at:
                left *= sinc(freq_hz[row] * along_axis(axes[s, at], u, v, w))
                left *= sinc(spacing_hz * along_axis(axes[s, at + 1], u, v, w))
            out[row, s] = left
    return out


def separated(loss: NDArray[np.float64], weight: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Return φ, of which the mean of φ_j φ_k over the directions is one or zero, (n_term, n_direction).

    Parameters
    ----------
    loss
        D/⟨D⟩ of some rows, (n_row, n_direction).
    weight
        (n_row,).
    tolerance
        rms of what may be left out.
    """
    n_direction = loss.shape[1]
    share = np.sqrt(weight / (weight.sum() * n_direction))
    _left, sizes, vectors = np.linalg.svd(share[:, None] * loss, full_matrices=False)
    beyond = np.sqrt(np.cumsum(sizes[::-1] ** 2)[::-1])
    n_term = max(1, int(np.count_nonzero(beyond > tolerance)))
    return np.asarray(vectors[:n_term] * np.sqrt(n_direction))
