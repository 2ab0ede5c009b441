r"""Which entry of another survey is the same source: separation against both errors, and chance by the local density.

With σ² = σ₁² + σ₂² + structure, a counterpart lies at a separation r with the density exp(−r²/2σ²)/2πσ², an unrelated
entry with the local density ρ of the other survey. The likelihood ratio of candidate j of a source is

    L_j = exp(−r²/2σ²) / (2πσ²ρ)                  P_j = Q L_j / (Q Σ_k L_k + 1 − Q)

(Sutherland & Saunders 1992, MNRAS 259, 413). Q, the fraction of sources that have a counterpart at all, is the mean of
Σ P over the sources that the survey covers, found by iteration. A source and an entry belong together if each
is the likeliest for the other and P is above one half.

Angles in radians.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dsa110_contimg.kernels.match import DE_RUITER_LIMIT, count_within, unit_vectors

FloatArray = NDArray[np.float64]

CANDIDATES = 6
DENSITY_RADIUS = np.radians(0.25)
ROUNDS = 8
LIKELY = 0.5
RIVAL = 0.05
Q_RANGE = (0.05, 0.98)


class Places(NamedTuple):
    """Positions of a list; arrays (n,)."""

    ra: FloatArray
    dec: FloatArray
    error: FloatArray
    """1σ of each axis, structure included."""


class Identified(NamedTuple):
    """What another survey has for each source of a list; arrays (n,)."""

    entry: NDArray[np.int64]
    """Index into the other list; −1: none."""
    probability: FloatArray
    """Of the likeliest candidate, taken or not; zero without one."""
    rivals: NDArray[np.int64]
    """Candidates of a probability above 0.05 beside the likeliest one."""


def identify(sources: Places, survey: Places) -> Identified:
    """Find the counterpart of each source in a survey.

    Parameters
    ----------
    sources
        The list that names sources.
    survey
        Entries of the other survey; each belongs to one source at most.
    """
    n_source, n_entry = sources.ra.size, survey.ra.size
    nobody = Identified(np.full(n_source, -1), np.zeros(n_source), np.zeros(n_source, np.int64))
    if not n_source or not n_entry:
        return nobody
    index, ratio, covered = _likelihood_ratios(sources, survey)
    probability = _probabilities(ratio, covered)
    best = np.argmax(probability, axis=1)
    rows = np.arange(n_source)
    entry, likely = index[rows, best], probability[rows, best]
    chosen = _mutual(index, ratio, entry) & (likely > LIKELY)
    rivals = np.count_nonzero(probability > RIVAL, axis=1) - (likely > RIVAL)
    return Identified(np.where(chosen, entry, -1), likely, rivals)


def _likelihood_ratios(sources: Places, survey: Places) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.bool_]]:
    """Return entries near each source and their likelihood ratios, (n, k), and which sources the survey covers."""
    widest = DE_RUITER_LIMIT * float(np.hypot(sources.error.max(), survey.error.max()))
    tree = cKDTree(unit_vectors(survey.ra, survey.dec))
    most = min(CANDIDATES, survey.ra.size)
    chord, index = tree.query(
        unit_vectors(sources.ra, sources.dec),
        k=list(range(1, most + 1)),
        distance_upper_bound=2.0 * np.sin(widest / 2.0),
    )
    there = np.isfinite(chord)
    index = np.where(there, index, 0)
    angle = 2.0 * np.arcsin(np.where(there, chord, 0.0) / 2.0)
    variance = sources.error[:, None] ** 2 + survey.error[index] ** 2
    there &= angle**2 < DE_RUITER_LIMIT**2 * variance
    count = count_within(sources.ra, sources.dec, survey.ra, survey.dec, radius=float(DENSITY_RADIUS))
    density = np.maximum(count, 1) / (np.pi * DENSITY_RADIUS**2)
    ratio = np.exp(-0.5 * angle**2 / variance) / (2.0 * np.pi * variance * density[:, None])
    return index, np.where(there, ratio, 0.0), count > 0


def _probabilities(ratio: FloatArray, covered: NDArray[np.bool_]) -> FloatArray:
    """Return the probability that each candidate is the counterpart, (n, k)."""
    total, fraction = ratio.sum(axis=1, keepdims=True), 0.7
    probability = np.zeros_like(ratio)
    for _ in range(ROUNDS):
        probability = fraction * ratio / (fraction * total + 1.0 - fraction)
        if covered.any():
            fraction = float(np.clip(probability[covered].sum(axis=1).mean(), *Q_RANGE))
    return probability


def _mutual(index: NDArray[np.int64], ratio: FloatArray, entry: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the sources that are the likeliest ones of the entry that is likeliest for them, (n,)."""
    largest = np.zeros(int(index.max()) + 1)
    np.maximum.at(largest, index.ravel(), ratio.ravel())
    own = np.max(ratio, axis=1)
    return np.asarray((own > 0.0) & (own >= largest[entry]))
