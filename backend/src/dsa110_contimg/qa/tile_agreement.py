r"""Whether the tiles of a mosaic agree on the fluxes of the sources that they share.

For tiles a and b in a row, and the sources that the catalogue says must be bright on both,

    r = weighted median(S_b/S_a),  w = 1/((σ_a/S)² + (σ_b/S)² + f²)        σ_r = √(π/2) / √Σw

is one when their gains agree; catalogue errors cancel. f is the scatter that residuals and beam leave in one source. A
coadd hides a tile whose gains are off behind its neighbors, and the catalogue sees only what is wrong on average. A
pair says something when σ_r is a third of the warning at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.variability import MEDIAN_ERROR
from dsa110_contimg.options import QAOptions
from dsa110_contimg.qa.checks import RATIO_SNR, Check, near_one, unmeasured

FloatArray = NDArray[np.float64]
ERRORS_IN_WARNING = 3.0
SOURCE_SCATTER = 0.02


@dataclass(frozen=True)
class TileFluxes:
    """What photometry found on one tile at the positions of a catalogue; arrays (n,), NaN where nothing was found."""

    name: str
    flux_jy: FloatArray
    """Corrected for the primary beam."""
    flux_err_jy: FloatArray
    reference_jy: FloatArray
    """Catalogue flux; NaN also for sources that are blended here, or near the border or a bright one."""


class _Pair(NamedTuple):
    names: tuple[str, str]
    ratio: float
    error: float
    n: int


def flux_agreement_check(tiles: Sequence[TileFluxes], options: QAOptions) -> Check:
    """Judge the largest disagreement between tiles in a row, which hold the same sources in the same order."""
    limits = options.flux_agreement_warning, options.flux_agreement_failure
    pairs = [_compare(before, after) for before, after in pairwise(tiles)]
    telling = [p for p in pairs if p.n >= options.min_reference_sources and p.error <= limits[0] / ERRORS_IN_WARNING]
    if not telling:
        most = max((pair.n for pair in pairs), default=0)
        reason = f"no two tiles in a row share sources enough for a ratio to {limits[0] / ERRORS_IN_WARNING:.1%}"
        return unmeasured("flux_agreement", *limits, f"{reason}; the most are {most}")
    worst = max(telling, key=lambda pair: abs(pair.ratio - 1.0))
    what = (
        f"± {worst.error:.3f} is the flux ratio of {worst.n} sources on {worst.names[1]} and {worst.names[0]}, "
        f"farthest from one of {len(telling)} of {len(pairs)} pairs"
    )
    return near_one("flux_agreement", worst.ratio, *limits, what)


def _compare(before: TileFluxes, after: TileFluxes) -> _Pair:
    """Return the flux ratio of two tiles; sources are chosen by what the catalogue says, not by what was measured."""
    reference = before.reference_jy
    with np.errstate(invalid="ignore", divide="ignore"):
        bright = (reference >= RATIO_SNR * before.flux_err_jy) & (after.reference_jy >= RATIO_SNR * after.flux_err_jy)
        errors = np.hypot(before.flux_err_jy, after.flux_err_jy)[bright] / reference[bright]
        ratios = (after.flux_jy / before.flux_jy)[bright]
    if not bright.any():
        return _Pair((before.name, after.name), np.nan, np.inf, 0)
    weights = 1.0 / (errors**2 + SOURCE_SCATTER**2)
    order = np.argsort(ratios)
    running = np.cumsum(weights[order])
    middle = float(ratios[order][np.searchsorted(running, 0.5 * running[-1])])
    return _Pair((before.name, after.name), middle, float(MEDIAN_ERROR / np.sqrt(running[-1])), ratios.size)
