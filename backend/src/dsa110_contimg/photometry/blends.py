r"""Sources that reach into each other's beam, and their fluxes.

The estimator of source i reads w_i·d = Σ_j A_ij f_j + noise, with A_ij = w_i·K(x − x_j) and A_ii = 1. The fluxes of all
sources follow from A, of which few elements are not zero, and their errors from the noise that neighboring
estimators share. Two entries deeper than 0.9 in one beam cannot be told apart: only the brighter is solved for, and
the other's row says what its own position reads once the rest is taken away.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve
from scipy.sparse import csc_matrix, identity
from scipy.sparse.linalg import splu

from dsa110_contimg.kernels.close_sources import Links, link, local_variance
from dsa110_contimg.kernels.fluxes import (
    BeamShape,
    Estimator,
    beam_kernel,
    cutouts,
    estimator_weights,
    noise_factors,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

REACH_LEVEL = 1e-5
"""Sources are solved together where one beam is above this at the other (two widths; of 16 Jy, 0.2 mJy)."""
TWIN_LEVEL = 0.9
AT_ONCE = 2000
"""Sources or links: their pixels stay in the cache."""


@dataclass(frozen=True)
class Reading:
    """What one linear estimator reads at every source; arrays (n_source,) and (n_source, n_pixel)."""

    estimator: Estimator
    shape: BeamShape
    x: FloatArray
    y: FloatArray
    weights: FloatArray
    value: FloatArray
    """Background-free, neighbors included."""
    factor: FloatArray
    """Error over the local rms."""
    correlation: FloatArray

    def responses(self, links: Links) -> FloatArray:
        """Return what the estimator of each link's source reads of one unit of the other, (n_link,)."""
        source, other, offsets = links.source, links.other, self.estimator.offsets
        result = np.empty(other.size)
        for start in range(0, other.size, AT_ONCE):
            here, there = source[start : start + AT_ONCE], other[start : start + AT_ONCE]
            dx = (np.rint(self.x[here]) - self.x[there])[:, None] + offsets[:, 0]
            dy = (np.rint(self.y[here]) - self.y[there])[:, None] + offsets[:, 1]
            kernel = beam_kernel(dx, dy, self.shape)
            result[start : start + AT_ONCE] = np.einsum("lp,lp->l", self.weights[here], kernel)
        return result

    def covariances(self, links: Links) -> FloatArray:
        """Return the noise covariance of the estimates of each link over the local variance, (n_link,).

        That of two sources in the middles of their pixels, Σ w_a w_b R(Δ + a − b), interpolated at their distance.
        """
        offsets = self.estimator.offsets
        kernel = beam_kernel(offsets[None, :, 0], offsets[None, :, 1], self.shape)
        half = int(np.abs(offsets).max())
        weights = np.zeros((2 * half + 1, 2 * half + 1))
        weights[offsets[:, 1] + half, offsets[:, 0] + half] = estimator_weights(
            self.estimator, kernel, np.ones(kernel.shape, np.bool_)
        )[0]
        shared = fftconvolve(fftconvolve(self.correlation, weights), weights[::-1, ::-1])
        middle = shared.shape[0] // 2
        apart = [axis[links.source] - axis[links.other] + middle for axis in (self.y, self.x)]
        return np.asarray(map_coordinates(shared, apart, order=3, mode="constant"))


def read(
    plane: NDArray[np.floating],
    positions: tuple[FloatArray, FloatArray],
    background: FloatArray,
    estimator: Estimator,
    shape: BeamShape,
    correlation: FloatArray,
) -> Reading:
    """Apply an estimator at every position (x, y), blank pixels left out."""
    parts = [slice(start, start + AT_ONCE) for start in range(0, background.size, AT_ONCE)]
    weights, value = [], []
    for part in parts:
        values, dx, dy = cutouts(plane, positions[0][part], positions[1][part], estimator.offsets)
        good = np.isfinite(values)
        weights.append(estimator_weights(estimator, beam_kernel(dx, dy, shape), good))
        value.append(np.sum(weights[-1] * np.where(good, values - background[part, None], 0.0), axis=1))
    factor = np.concatenate([noise_factors(some, estimator.offsets, correlation) for some in weights])
    return Reading(estimator, shape, *positions, np.concatenate(weights), np.concatenate(value), factor, correlation)


@dataclass(frozen=True)
class Solved:
    """Fluxes with the neighbors' shares taken away; arrays (n_source,)."""

    flux: FloatArray
    error: FloatArray
    twin: NDArray[np.bool_]
    """True for an entry that a brighter one in the same beam stands for: its flux is that of both."""
    links: Links
    """Who reaches whom."""


def deblend(reading: Reading, rms: FloatArray, brightness: FloatArray, systematic: float) -> Solved:
    """Return fluxes and errors on the plane, neighbors' shares taken away.

    Parameters
    ----------
    reading
        What the estimator reads at every source.
    rms
        Local noise, (n_source,).
    brightness
        Catalogue flux on the plane, (n_source,): of twins the brighter is solved for.
    systematic
        Fraction of what the neighbors put at a position that counts as error.
    """
    own = rms * reading.factor
    links = link(reading.x, reading.y, reading.shape, REACH_LEVEL)
    if not links.other.size:
        return Solved(reading.value, own, np.zeros(rms.size, np.bool_), links)
    deep = _deep(reading, links)
    twin = _twins(links, deep, brightness)
    response = np.nan_to_num(reading.responses(links))
    # A twin has no flux of its own, for itself or for anybody else.
    source, other = links.source, links.other
    solving = ~twin[source] & ~twin[other]
    flux = _solve(reading.value, (source, other, np.where(solving, response, 0.0)))
    shares = np.where(twin[other] | (twin[source] & deep), 0.0, response * flux[other])
    flux[twin] -= np.bincount(source, shares, minlength=rms.size)[twin]
    covariance = reading.covariances(links) * rms[source] * rms[other]
    variance = local_variance(
        links, np.where(solving, response, 0.0), np.where(solving, covariance, 0.0), np.asarray(own**2)
    )
    taken = np.bincount(source, np.abs(shares), minlength=rms.size)
    return Solved(flux, np.sqrt(np.maximum(variance, 0.0) + (systematic * taken) ** 2), twin, links)


def _solve(value: FloatArray, links: tuple[IntArray, IntArray, FloatArray]) -> FloatArray:
    """Return the fluxes of all sources at once; that of a twin is what its position reads."""
    source, other, response = links
    matrix = csc_matrix((response, (source, other)), shape=(value.size, value.size)) + identity(value.size)
    finite = np.isfinite(value)
    flux = np.asarray(splu(csc_matrix(matrix)).solve(np.where(finite, value, 0.0)))
    return np.where(finite, flux, np.nan)


def _deep(reading: Reading, links: Links) -> NDArray[np.bool_]:
    """Return the links between entries that cannot be told apart, (n_link,)."""
    source, other = links.source, links.other
    apart = reading.x[source] - reading.x[other], reading.y[source] - reading.y[other]
    return np.asarray(beam_kernel(*apart, reading.shape) > TWIN_LEVEL)


def _twins(links: Links, deep: NDArray[np.bool_], brightness: FloatArray) -> NDArray[np.bool_]:
    """Return the entries that a brighter one stands for, (n_source,)."""
    near: dict[int, list[int]] = {}
    for source, other in zip(links.source[deep].tolist(), links.other[deep].tolist(), strict=True):
        near.setdefault(source, []).append(other)
    standing: set[int] = set()
    for source in sorted(near, key=lambda source: -brightness[source]):
        if not standing.intersection(near[source]):
            standing.add(source)
    twin = np.zeros(brightness.size, np.bool_)
    twin[[source for source in near if source not in standing]] = True
    return twin
