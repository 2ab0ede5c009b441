"""All sources of a strip judged together: a candidate is what its neighbors do not share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate, judge, shared
from dsa110_contimg.photometry.dips import NEIGHBORS, against_neighbors, search_dips, search_rises
from dsa110_contimg.photometry.lightcurves import LightCurve, LightCurveStats

FloatArray = NDArray[np.float64]

NEIGHBOR_DEG = 3.0
NEIGHBOR_SNR = 10.0
BESIDE = 8
"""Nearest neighbors that show whether an epoch is bad where the source is."""


class Neighborhood:
    """Light curves by place, of which those that are bright enough tell what the telescope did."""

    def __init__(self, curves: Sequence[LightCurve], places: FloatArray) -> None:
        """Take light curves and their unit vectors, (n_source, 3)."""
        self._curves, self._places = curves, places
        bright = [len(curve) > 0 and _snr(curve) >= NEIGHBOR_SNR for curve in curves]
        self._chosen = np.flatnonzero(bright)
        self._tree = cKDTree(places[self._chosen]) if self._chosen.size else None

    def of(self, source: int, number: int) -> list[LightCurve]:
        """Return the light curves nearest to a source, its own left out."""
        if self._tree is None:
            return []
        reach = 2.0 * np.sin(0.5 * np.radians(NEIGHBOR_DEG))
        _apart, found = self._tree.query(self._places[source], k=number + 1, distance_upper_bound=reach)
        near = self._chosen[found[found < self._chosen.size]]
        return [self._curves[i] for i in near if i != source][:number]


def _snr(curve: LightCurve) -> float:
    return float(np.median(curve.flux_jy / curve.flux_err_jy))


def judge_together(
    curves: Sequence[LightCurve],
    stats: Sequence[LightCurveStats],
    places: FloatArray,
    options: PhotometryOptions,
    judged: Sequence[int] | None = None,
) -> dict[str, Candidate]:
    """Return the candidates among many sources, by source.

    Parameters
    ----------
    curves, stats
        Light curves and their statistics, (n_source,).
    places
        Unit vectors, (n_source, 3).
    options
        Thresholds.
    judged
        Indices of the sources that may become candidates, the others being neighbors; None: all.
    """
    chosen = list(range(len(curves)) if judged is None else judged)
    around, own = Neighborhood(curves, places), [curves[i] for i in chosen]
    candidates = {}
    for source, *found in zip(chosen, search_dips(own, options), search_rises(own, options), strict=True):
        dip, rise = (
            against_neighbors(one, curves[source], around.of(source, NEIGHBORS))
            if one is not None and one.significance >= options.dip_sigma
            else None
            for one in found
        )
        candidate = judge(stats[source], curves[source], options, dip, rise)
        if candidate is None:
            continue
        # What rose or fell for weeks was held against its neighbors already.
        if candidate.metric not in {"dip", "rise"} and shared(candidate, around.of(source, BESIDE), options):
            continue
        candidates[candidate.source_id] = candidate
    return candidates
