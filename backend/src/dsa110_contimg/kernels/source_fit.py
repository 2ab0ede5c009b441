r"""Normal equations of the fluxes and positions of points and Gaussians, from visibilities.

With the model M = Σ_s F_s U_s, where U is a source of unit flux seen through the drifting beam and F a factor,

    U(row, f) = A_s(t, f) T D exp(iφ)        φ = 2π f/c (u l + v m + w (n − 1))

T the taper of a Gaussian (`kernels.predict`) and D the loss by averaging n channels, the residuals r = V − M answer to
small changes of F, l and m as

    r ≈ Σ_s U δF + i ∂φ/∂l (F U) δl + i ∂φ/∂m (F U) δm        ∂φ/∂l = 2π f/c (u − w l/n)

and weighted least squares ask for N = Σ W Re(B* B) and y = Σ W Re(B* r) over these 3 S columns B. All of the
sources are solved at once, so that the sidelobes of one do not enter the flux of another.

The vector is summed over all samples; the matrix, which costs the square of the number of sources and only steers
the step, over every k-th row of a large block. Repeated steps converge to the same answer.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled, compiled_parallel
from dsa110_contimg.kernels.predict import UNRESOLVED, along_axis, exponent, sinc, smearing_at

SPEED_OF_LIGHT = 299792458.0
PARTS = 64
MATRIX_SAMPLES = 300_000


@compiled_parallel
def source_normal_equations(
    samples: tuple[NDArray[np.complex64], NDArray[np.float32]],
    uvw_m: NDArray[np.float64],
    time_index: NDArray[np.int64],
    channels: tuple[NDArray[np.float64], int, float],
    sources: tuple[NDArray[np.float64], NDArray[np.float64]],
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
        (n_sample,) evenly spaced frequencies in Hz, channels averaged in each, and the spacing of channels.
    sources
        Directions l, m, n, (n_source, 3), and axes as in `predict.predict_evenly_spaced`.
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
    freq_hz, (lmn, axes) = channels[0], sources
    n_row, n_source = uvw_m.shape[0], lmn.shape[0]
    n_column = 3 * n_source
    stride = max(1, n_row * freq_hz.size // MATRIX_SAMPLES)
    matrices, vectors = np.zeros((PARTS, n_column, n_column)), np.zeros((PARTS, n_column))
    covered = np.zeros((PARTS, 2))
    # A fixed number of parts, summed in order: the same bits whatever the number of threads.
    for part in prange(PARTS):
        re, im = np.empty(n_column), np.empty(n_column)
        fringe, turn = np.empty(n_source, np.complex128), np.empty(n_source, np.complex128)
        loss, extent = np.ones(n_source), np.zeros(n_source)
        for row in range(part * n_row // PARTS, (part + 1) * n_row // PARTS):
            u, v, w = uvw_m[row, 0], uvw_m[row, 1], uvw_m[row, 2]
            _start_fringes(u, v, w, lmn, channels, fringe, turn, loss)
            _smear(axes, time_index[row], (u, v, w), channels, loss)
            _fill_exponents(axes, u, v, w, extent)
            for chan in range(freq_hz.size):
                weight = weights[row, chan]
                if weight > 0.0:
                    left = complex(vis[row, chan])
                    wave = 2.0 * np.pi * freq_hz[chan] / SPEED_OF_LIGHT
                    for s in range(n_source):
                        size = amplitude[time_index[row], s, chan] * loss[s] * _taper(extent[s], freq_hz[chan])
                        unit = size * fringe[s]
                        left -= factor[s] * unit
                        slope_l = factor[s] * wave * (u - w * lmn[s, 0] / lmn[s, 2])
                        slope_m = factor[s] * wave * (v - w * lmn[s, 1] / lmn[s, 2])
                        re[3 * s], im[3 * s] = unit.real, unit.imag
                        re[3 * s + 1], im[3 * s + 1] = -slope_l * unit.imag, slope_l * unit.real
                        re[3 * s + 2], im[3 * s + 2] = -slope_m * unit.imag, slope_m * unit.real
                    for i in range(n_column):
                        vectors[part, i] += weight * (re[i] * left.real + im[i] * left.imag)
                    covered[part, 0] += weight
                    if row % stride == 0:
                        covered[part, 1] += weight
                        for i in range(n_column):
                            for j in range(i + 1):
                                matrices[part, i, j] += weight * (re[i] * re[j] + im[i] * im[j])
                for s in range(n_source):
                    fringe[s] *= turn[s]
    return _joined(matrices, vectors, covered)


@compiled
def _fill_exponents(axes: NDArray[np.float64], u: float, v: float, w: float, extent: NDArray[np.float64]) -> None:
    for s in range(extent.size):
        extent[s] = exponent(axes[s], u, v, w)


@compiled
def _taper(exponent_s2: float, freq_hz: float) -> float:
    """Return T; one, without an exponential, for what is a point to the baseline."""
    fading = exponent_s2 * freq_hz * freq_hz
    return float(np.exp(-fading)) if fading > UNRESOLVED else 1.0


@compiled
def _start_fringes(  # noqa: PLR0913 - scalars and scratch of the loop above, inlined by the compiler
    u: float,
    v: float,
    w: float,
    lmn: NDArray[np.float64],
    channels: tuple[NDArray[np.float64], int, float],
    fringe: NDArray[np.complex128],
    turn: NDArray[np.complex128],
    loss: NDArray[np.float64],
) -> None:
    """Set each source's phasor in the first sample of a row, its turn from one to the next, and D."""
    freq_hz, n_average, spacing_hz = channels
    for s in range(lmn.shape[0]):
        delay = (u * lmn[s, 0] + v * lmn[s, 1] + w * (lmn[s, 2] - 1.0)) / SPEED_OF_LIGHT
        fringe[s] = np.exp(2j * np.pi * delay * freq_hz[0])
        turn[s] = np.exp(2j * np.pi * delay * spacing_hz * n_average)
        x = np.pi * spacing_hz * delay
        loss[s] = 1.0
        if n_average > 1 and abs(x) > 1e-9:
            loss[s] = np.sin(n_average * x) / (n_average * np.sin(x))


@compiled
def _smear(
    axes: NDArray[np.float64],
    time: int,
    uvw: tuple[float, float, float],
    channels: tuple[NDArray[np.float64], int, float],
    loss: NDArray[np.float64],
) -> None:
    """Multiply D by what averaging over an integration and a channel took away, at the middle of the band."""
    at = smearing_at(axes[0], time) if axes.shape[0] else 0
    if not at:
        return
    freq_hz, _n_average, spacing_hz = channels
    middle_hz, (u, v, w) = freq_hz[freq_hz.size // 2], uvw
    for s in range(loss.size):
        delay = along_axis(axes[s, at + 1], u, v, w)
        loss[s] *= sinc(middle_hz * along_axis(axes[s, at], u, v, w)) * sinc(spacing_hz * delay)


@compiled
def _joined(
    matrices: NDArray[np.float64], vectors: NDArray[np.float64], covered: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the parts, scale the matrix to all of the weight and fill its other half."""
    n_column = vectors.shape[1]
    matrix, vector = np.zeros((n_column, n_column)), np.zeros(n_column)
    for part in range(PARTS):
        matrix += matrices[part]
        vector += vectors[part]
    if covered[:, 1].sum() > 0.0:
        matrix *= covered[:, 0].sum() / covered[:, 1].sum()
    for i in range(n_column):
        for j in range(i):
            matrix[j, i] = matrix[i, j]
    return matrix, vector
