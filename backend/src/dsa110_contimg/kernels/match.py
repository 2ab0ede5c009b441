r"""Nearest neighbors on the sphere.

Positions become unit vectors, whose distance c and angle θ are tied by c = 2 sin(θ/2): no seam at RA 0 and no
singular pole. The de Ruiter radius weighs an offset with the errors of both positions,

    r = √((Δα cos δ)²/(σ_α1² + σ_α2²) + Δδ²/(σ_δ1² + σ_δ2²))

and r < 5.68 keeps all but 1e-7 of the true pairs (Scheers 2011). Angles in radians.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]

DE_RUITER_LIMIT = 5.68


def unit_vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Return unit vectors, shape (n, 3)."""
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def nearest(
    ra: FloatArray, dec: FloatArray, ra_other: FloatArray, dec_other: FloatArray, *, radius: float = np.pi
) -> tuple[NDArray[np.int64], FloatArray]:
    """Find the nearest entry of another list.

    Returns
    -------
    tuple
        Index into the other list (−1: none within the radius) and separation (inf where none), each (n,).
    """
    if ra.size == 0 or ra_other.size == 0:
        return np.full(ra.size, -1), np.full(ra.size, np.inf)
    tree = cKDTree(unit_vectors(ra_other, dec_other))
    limit = np.inf if radius >= np.pi else 2.0 * np.sin(radius / 2.0) * (1.0 + 1e-12)
    chord, index = tree.query(unit_vectors(ra, dec), distance_upper_bound=limit)
    found = np.isfinite(chord)
    angle = np.where(found, 2.0 * np.arcsin(np.clip(np.where(found, chord, 0.0) / 2.0, 0.0, 1.0)), np.inf)
    return np.where(found, index, -1).astype(np.int64), angle


def mutual_nearest(
    ra: FloatArray, dec: FloatArray, ra_other: FloatArray, dec_other: FloatArray, *, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Pair entries that are each other's nearest within a radius: no entry is used twice.

    Returns
    -------
    tuple
        Indices into both lists and separations, each (n_pair,).
    """
    forward, angle = nearest(ra, dec, ra_other, dec_other, radius=radius)
    backward, _angle = nearest(ra_other, dec_other, ra, dec, radius=radius)
    here = np.flatnonzero(forward >= 0)
    here = here[backward[forward[here]] == here]
    return here, forward[here], angle[here]


def count_within(
    ra: FloatArray, dec: FloatArray, ra_other: FloatArray, dec_other: FloatArray, *, radius: float
) -> NDArray[np.int64]:
    """Count the entries of another list within a radius of each entry, (n,)."""
    if ra.size == 0 or ra_other.size == 0:
        return np.zeros(ra.size, dtype=np.int64)
    chord = 2.0 * np.sin(min(radius, np.pi) / 2.0) * (1.0 + 1e-12)
    tree = cKDTree(unit_vectors(ra_other, dec_other))
    return np.asarray(tree.query_ball_point(unit_vectors(ra, dec), chord, return_length=True), dtype=np.int64)


def neighbor_separation(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Return the distance of each entry to its nearest neighbor in the same list (inf if alone), (n,)."""
    if ra.size < 2:
        return np.full(ra.size, np.inf)
    vectors = unit_vectors(ra, dec)
    chord, _index = cKDTree(vectors).query(vectors, k=2)
    return np.asarray(2.0 * np.arcsin(np.clip(chord[:, 1] / 2.0, 0.0, 1.0)))


def de_ruiter(offsets: FloatArray, errors: FloatArray, errors_other: FloatArray) -> FloatArray:
    """Return de Ruiter radii of offsets (east, north) with errors of both sides, each (n, 2)."""
    return np.asarray(np.sqrt(np.sum(offsets**2 / (errors**2 + errors_other**2), axis=1)))
