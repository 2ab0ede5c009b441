r"""Normal equations of the fluxes and positions of point sources, from visibilities.

With the model M = Σ_s F_s U_s, where U is a source of unit flux seen through the drifting beam and F a factor,

    U(row, f) = A_s(t, f) D exp(iφ)        φ = 2π f/c (u l + v m + w (n − 1))

and D the loss by averaging n channels, the residuals r = V − M answer to small changes of F, l and m as

    r ≈ Σ_s U δF + i ∂φ/∂l (F U) δl + i ∂φ/∂m (F U) δm        ∂φ/∂l = 2π f/c (u − w l/n)

and weighted least squares ask for N = Σ W Re(B* B) and y = Σ W Re(B* r) over these 3 S columns B. All of the
sources are solved at once, so that the sidelobes of one do not enter the flux of another.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

SPEED_OF_LIGHT = 299792458.0
PARTS = 64


@njit(parallel=True, cache=True)
def source_normal_equations(
    samples: tuple[NDArray[np.complex64], NDArray[np.float32]],
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int64],
    channels: tuple[NDArray[np.float64], int, float],
    lmn: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    factor: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the normal equations over the samples of one block.

    Parameters
    ----------
    samples
        Stokes I and weights, (n_row, n_sample) each.
    uvw_m
        (n_row, 3), metres.
    time_index
        (n_row,), pointing of each row.
    channels
        (n_sample,) frequencies in Hz, the number of channels that each averages, and the channel spacing.
    lmn
        (n_source, 3).
    amplitude
        (n_time, n_source, n_sample), Jy: flux times beam.
    factor
        (n_source,), what multiplies the amplitudes so far.

    Returns
    -------
    tuple
        N (3 n_source, 3 n_source) and y (3 n_source,), ordered (δF, δl, δm) source by source.
    """
    vis, weights = samples
    freq_hz, n_average, spacing_hz = channels
    n_row, n_source = uvw_m.shape[0], lmn.shape[0]
    n_column = 3 * n_source
    matrices = np.zeros((PARTS, n_column, n_column))
    vectors = np.zeros((PARTS, n_column))
    # A fixed number of parts, summed in order: the same bits whatever the number of threads.
    for part in prange(PARTS):
        re, im = np.empty(n_column), np.empty(n_column)
        for row in range(part * n_row // PARTS, (part + 1) * n_row // PARTS):
            u, v, w = uvw_m[row, 0], uvw_m[row, 1], uvw_m[row, 2]
            for chan in range(freq_hz.size):
                weight = weights[row, chan]
                if weight <= 0.0:
                    continue
                wave = 2.0 * np.pi * freq_hz[chan] / SPEED_OF_LIGHT
                left_re, left_im = vis[row, chan].real, vis[row, chan].imag
                for s in range(n_source):
                    n = lmn[s, 2]
                    tilt_l, tilt_m = lmn[s, 0] / n, lmn[s, 1] / n
                    path = u * lmn[s, 0] + v * lmn[s, 1] + w * (n - 1.0)
                    x = np.pi * spacing_hz * path / SPEED_OF_LIGHT
                    loss = 1.0
                    if n_average > 1 and abs(x) > 1e-9:
                        loss = np.sin(n_average * x) / (n_average * np.sin(x))
                    strength = amplitude[time_index[row], s, chan] * loss
                    cos, sin = strength * np.cos(wave * path), strength * np.sin(wave * path)
                    left_re -= factor[s] * cos
                    left_im -= factor[s] * sin
                    slope_l, slope_m = factor[s] * wave * (u - w * tilt_l), factor[s] * wave * (v - w * tilt_m)
                    re[3 * s], im[3 * s] = cos, sin
                    re[3 * s + 1], im[3 * s + 1] = -slope_l * sin, slope_l * cos
                    re[3 * s + 2], im[3 * s + 2] = -slope_m * sin, slope_m * cos
                for i in range(n_column):
                    vectors[part, i] += weight * (re[i] * left_re + im[i] * left_im)
                    for j in range(i + 1):
                        matrices[part, i, j] += weight * (re[i] * re[j] + im[i] * im[j])
    matrix, vector = np.zeros((n_column, n_column)), np.zeros(n_column)
    for part in range(PARTS):
        matrix += matrices[part]
        vector += vectors[part]
    for i in range(n_column):
        for j in range(i):
            matrix[j, i] = matrix[i, j]
    return matrix, vector
