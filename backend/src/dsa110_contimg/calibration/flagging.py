"""What is thrown away before solving, and why.

In this order, each on what the ones before left over:

1. autocorrelations;
2. samples that are zero or not finite, and the edges of each subband;
3. dead antennas: more than a fraction of an antenna's cross-correlations is flagged, in both polarizations;
4. single polarizations: a baseline that lost one polarization wholly loses the other too, because half of the
   Stokes I flux would look like a fainter source;
5. outliers (`kernels.flags`), and once more step 4.

Antennas of the table that have no rows at all (21 of 117 at the DSA-110) are not part of the observation: present
antennas are those with at least one cross-correlation, and only they count in any fraction.
"""

import logging
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.kernels.baselines import BaselineRows, baseline_rows
from dsa110_contimg.kernels.flags import count_flags, flag_empty, flag_outliers
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.telescope import BAND_LOW_HZ, SUBBAND_WIDTH_HZ
from dsa110_contimg.visibilities import Visibilities

logger = logging.getLogger(__name__)

OUTLIER_PASSES = 2


@dataclass(frozen=True)
class FlagReport:
    """What flagging found; fractions are of the cross-correlation samples unless said otherwise."""

    total: float
    """Fraction flagged at the end."""
    by_reason: dict[str, float]
    """Fraction that each reason added: before, empty, edges, dead_antennas, single_polarization, outliers."""
    autocorrelations: float
    """Fraction of all rows that are autocorrelations."""
    by_antenna: dict[str, float]
    """Fraction flagged of each present antenna's cross-correlations."""
    present_antennas: list[str]
    """Antennas with rows."""
    dead_antennas: list[str]
    """Present antennas that gave no usable data in either polarization."""
    half_dead_antennas: list[str]
    """Present antennas that gave no usable data in one polarization, and are therefore lost to Stokes I."""

    def to_dict(self) -> dict[str, float | dict[str, float] | list[str]]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def flag(vis: Visibilities, options: FlaggingOptions) -> FlagReport:
    """Flag a tile in place and say what was flagged.

    Parameters
    ----------
    vis
        Raw or calibrated visibilities; only `flags` change, and they only grow.
    options
        Thresholds.
    """
    autos = vis.antenna1 == vis.antenna2
    rows = baseline_rows(vis.antenna1, vis.antenna2)
    tally = _Tally(vis, ~autos)
    tally.close("before")
    vis.flags[autos] = True
    flag_empty(vis.vis, vis.flags)
    tally.close("empty")
    vis.flags[:, edge_channels(vis.freq_hz, options.edge_channels), :] = True
    tally.close("edges")
    dead = np.asarray(_antenna_fractions(vis, count_flags(vis.flags), rows) > options.dead_fraction)
    lost = np.asarray(dead.all(axis=1))
    vis.flags[lost[vis.antenna1] | lost[vis.antenna2]] = True
    tally.close("dead_antennas")
    _pair_polarizations(vis, rows, options.dead_fraction)
    tally.close("single_polarization")
    flag_outliers(vis.vis, vis.flags, rows.order, rows.start, options.outlier_mad, OUTLIER_PASSES)
    tally.close("outliers")
    _pair_polarizations(vis, rows, options.dead_fraction)
    tally.close("single_polarization")
    report = _report(vis, rows, tally, dead)
    logger.info("flagged %.2f%% of %s; dead antennas: %s", 100 * report.total, vis.field_name, report.dead_antennas)
    return report


class _Tally:
    """Counts flags of cross-correlations and books each growth under a reason."""

    def __init__(self, vis: Visibilities, cross: NDArray[np.bool_]) -> None:
        self._vis, self._cross = vis, cross
        self._size = max(int(cross.sum()) * vis.flags.shape[1] * vis.flags.shape[2], 1)
        self.total, self.by_reason = 0.0, dict[str, float]()

    def close(self, reason: str) -> None:
        total = float(count_flags(self._vis.flags)[self._cross].sum() / self._size)
        self.by_reason[reason] = self.by_reason.get(reason, 0.0) + total - self.total
        self.total = total


def edge_channels(freq_hz: NDArray[np.float64], width: int) -> NDArray[np.bool_]:
    """Return which channels are among the outermost *width* of their subband, (n_chan,)."""
    subband = np.floor((freq_hz - BAND_LOW_HZ) / SUBBAND_WIDTH_HZ).astype(int)
    edge = np.zeros(freq_hz.size, bool)
    for index in np.unique(subband) if width > 0 else []:
        members = np.flatnonzero(subband == index)
        edge[members[:width]] = True
        edge[members[-width:]] = True
    return edge


def _antenna_fractions(vis: Visibilities, counts: NDArray[np.int64], rows: BaselineRows) -> NDArray[np.float64]:
    """Return the flagged fraction of each antenna's cross-correlations, (n_antenna, n_pol); 0 where it has no rows."""
    flagged, total = np.zeros((vis.n_antennas, counts.shape[1])), np.zeros(vis.n_antennas)
    for antenna in (vis.antenna1[rows.order], vis.antenna2[rows.order]):
        np.add.at(flagged, antenna, counts[rows.order])
        np.add.at(total, antenna, vis.flags.shape[1])
    return np.asarray(flagged / np.maximum(total, 1.0)[:, None])


def _pair_polarizations(vis: Visibilities, rows: BaselineRows, dead_fraction: float) -> None:
    """Flag both polarizations of baselines on which one of them is dead."""
    n_time = np.diff(rows.start)
    if not n_time.size:
        return
    per_baseline = np.add.reduceat(count_flags(vis.flags)[rows.order], rows.start[:-1], axis=0)
    fraction = per_baseline / (n_time * vis.flags.shape[1])[:, None]
    half = (fraction > dead_fraction).any(axis=1) & (fraction < 1.0).any(axis=1)
    vis.flags[rows.order[np.repeat(half, n_time)]] = True


def _report(vis: Visibilities, rows: BaselineRows, tally: _Tally, dead: NDArray[np.bool_]) -> FlagReport:
    names = vis.antenna_names
    present = np.union1d(rows.first, rows.second)
    fraction = _antenna_fractions(vis, count_flags(vis.flags), rows).mean(axis=1)
    return FlagReport(
        total=tally.total,
        by_reason=tally.by_reason,
        autocorrelations=float(np.mean(vis.antenna1 == vis.antenna2)) if vis.antenna1.size else 0.0,
        by_antenna={names[i]: float(fraction[i]) for i in present},
        present_antennas=[names[i] for i in present],
        dead_antennas=[names[i] for i in present if dead[i].all()],
        half_dead_antennas=[names[i] for i in present if dead[i].any() and not dead[i].all()],
    )
