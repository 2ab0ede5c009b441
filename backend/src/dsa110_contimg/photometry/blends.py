r"""Sources that reach into each other's beam, and their fluxes.

The estimator of source i reads w_i·d = Σ_j A_ij f_j + noise, with A_ij = w_i·K(x − x_j) and A_ii = 1. Within a group of
sources that reach each other the fluxes follow from A, and their covariance from the noise that the estimators
share. Two entries deeper than 0.9 in one beam cannot be told apart: only the brighter is solved for, and the
other's row says what its own position reads once the rest of the group is taken away.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dsa110_contimg.kernels.fluxes import (
    BeamShape,
    Estimator,
    beam_kernel,
    cutouts,
    estimator_weights,
    noise_factors,
    solve_blends,
)
from dsa110_contimg.kernels.noise import correlation_at

FloatArray = NDArray[np.float64]

REACH_LEVEL = 1e-5
"""Sources are grouped where one beam is above this at the other (two widths; of 16 Jy, 0.2 mJy)."""
TWIN_LEVEL = 0.9


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

    def response(self, i: int, j: int) -> float:
        """Return what estimator i reads of a source of unit flux at position j."""
        dx = np.rint(self.x[i]) + self.estimator.offsets[:, 0] - self.x[j]
        dy = np.rint(self.y[i]) + self.estimator.offsets[:, 1] - self.y[j]
        return float(self.weights[i] @ beam_kernel(dx, dy, self.shape))

    def covariance(self, i: int, j: int) -> float:
        """Return the noise covariance of estimators i and j over the local variance."""
        apart = np.array([np.rint(self.x[i]) - np.rint(self.x[j]), np.rint(self.y[i]) - np.rint(self.y[j])], np.int64)
        lag = self.estimator.offsets[:, None, :] - self.estimator.offsets[None, :, :] + apart
        return float(self.weights[i] @ correlation_at(self.correlation, lag) @ self.weights[j])


def read(
    plane: NDArray[np.floating],
    positions: tuple[FloatArray, FloatArray],
    background: FloatArray,
    estimator: Estimator,
    shape: BeamShape,
    correlation: FloatArray,
) -> Reading:
    """Apply an estimator at every position (x, y), blank pixels left out."""
    values, dx, dy = cutouts(plane, *positions, estimator.offsets)
    good = np.isfinite(values)
    weights = estimator_weights(estimator, beam_kernel(dx, dy, shape), good)
    value = np.sum(weights * np.where(good, values - background[:, None], 0.0), axis=1)
    factor = noise_factors(weights, estimator.offsets, correlation)
    return Reading(estimator, shape, *positions, weights, value, factor, correlation)


def groups(x: FloatArray, y: FloatArray, shape: BeamShape) -> list[NDArray[np.int64]]:
    """Return the groups of two and more sources that reach each other, directly or through others."""
    radius = shape.major_px * np.sqrt(np.log(1.0 / REACH_LEVEL) / (4.0 * np.log(2.0)))
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(radius, output_type="ndarray")
    if pairs.size:
        first, second = pairs.T
        pairs = pairs[beam_kernel(x[first] - x[second], y[first] - y[second], shape) > REACH_LEVEL]
    if not pairs.size:
        return []
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(x.size, x.size))
    _count, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return [np.sort(part).astype(np.int64) for part in parts if part.size > 1]


def deblend(
    reading: Reading, rms: FloatArray, brightness: FloatArray, systematic: float
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
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

    Returns
    -------
    tuple
        Fluxes, errors, and True for a twin that was not solved for, each (n_source,).
    """
    flux, error = reading.value.copy(), rms * reading.factor
    twin = np.zeros(flux.size, np.bool_)
    for members in groups(reading.x, reading.y, reading.shape):
        kept = _without_twins(reading, members, brightness)
        twin[np.setdiff1d(members, kept)] = True
        response = np.array([[reading.response(i, j) for j in kept] for i in members])
        own = np.searchsorted(members, kept)
        shared = np.array([[reading.covariance(i, j) * rms[i] * rms[j] for j in kept] for i in kept])
        flux[kept], solved_error = solve_blends(reading.value[kept], response[own], shared)
        error[kept] = solved_error
        share = response * flux[kept]
        share[own, np.arange(kept.size)] = 0.0
        for row in np.setdiff1d(np.arange(members.size), own):
            apart = beam_kernel(
                reading.x[kept] - reading.x[members[row]], reading.y[kept] - reading.y[members[row]], reading.shape
            )
            share[row, apart > TWIN_LEVEL] = 0.0
            flux[members[row]] = reading.value[members[row]] - share[row].sum()
        error[members] = np.hypot(error[members], systematic * np.abs(share).sum(axis=1))
    return flux, error, twin


def _without_twins(reading: Reading, members: NDArray[np.int64], brightness: FloatArray) -> NDArray[np.int64]:
    """Return the members of a group without those that a brighter one hides, ascending."""
    kept: list[int] = []
    for member in members[np.argsort(-brightness[members], kind="stable")]:
        dx, dy = reading.x[kept] - reading.x[member], reading.y[kept] - reading.y[member]
        if not np.any(beam_kernel(dx, dy, reading.shape) > TWIN_LEVEL):
            kept.append(int(member))
    return np.sort(np.array(kept, np.int64))
