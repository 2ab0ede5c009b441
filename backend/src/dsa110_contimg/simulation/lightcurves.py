r"""Light curves of sources that change.

An extreme scattering event (Fiedler et al. 1987, Nature 326, 675): a plasma lens crosses the line of sight. The
flux is flat, rises in a caustic spike, drops for weeks while the lens spreads the rays, rises in a second spike
and is flat again. With x = 2 (t − t0)/T,

    F(t)/F0 = 1 − d · ½[tanh((x + 1)/w) − tanh((x − 1)/w)] + s [ e^{−((x + 1 + 2w)/w)²} + 0.8 e^{−((x − 1 − 2w)/w)²} ]

T is the width of the dip at half depth d; the spikes of height s stand just outside its edges.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

EDGE = 0.12
SPIKE_OVER_DEPTH = 0.5


def extreme_scattering_event(day: ArrayLike, middle_day: float, width_days: float, depth: float) -> NDArray[np.float64]:
    """Return the factor on the flux at each day."""
    x = 2.0 * (np.asarray(day, dtype=float) - middle_day) / width_days
    dip = 0.5 * (np.tanh((x + 1.0) / EDGE) - np.tanh((x - 1.0) / EDGE))
    first = np.exp(-(((x + 1.0 + 2.0 * EDGE) / EDGE) ** 2))
    second = 0.8 * np.exp(-(((x - 1.0 - 2.0 * EDGE) / EDGE) ** 2))
    return np.asarray(1.0 - depth * dip + SPIKE_OVER_DEPTH * depth * (first + second))
