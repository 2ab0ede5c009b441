"""What one tile gives a solver: data summed into cells, a sky model, and its present antennas.

A cell is a baseline, a channel, a polarization and about a minute, in which gains hold still
(`kernels.normal_equations`). Whatever gains are solved, the data are read once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.calibration.reference import choose_reference
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.kernels.baselines import BaselineRows, baseline_rows
from dsa110_contimg.kernels.gains import Rules, solve_antennas
from dsa110_contimg.kernels.normal_equations import Equations, accumulate, combine, drop_absurd, noise_power
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities, predict

SHORT_INTERVAL_S = 60.0
ROUGH = 1e-5
FINE = 1e-6


@dataclass(frozen=True)
class Prediction:
    """A sky model as one tile sees it: several solves of the tile share it."""

    vis: NDArray[np.complex64]
    """(n_row, n_chan), Jy."""
    n_sources: int
    flux_jy: float
    """Of all sources, before the primary beam."""
    names: frozenset[str] = frozenset()
    """Of the sources."""

    @classmethod
    def of(cls, vis: Visibilities, sky: SkyModel) -> "Prediction":
        """Predict a sky model."""
        return cls(predict(vis, sky), len(sky), float(sky.flux_jy.sum()), frozenset(sky.names))


@dataclass(frozen=True)
class Problem:
    """Cells, model and baselines, with the present antennas numbered from zero."""

    vis: Visibilities
    model: Prediction
    cells: Equations
    minute: NDArray[np.int64]
    """The interval of the cells that each row is in, (n_row,)."""
    rows: BaselineRows
    antennas: NDArray[np.int64]
    """Table indices of the present antennas."""
    options: CalibrationOptions

    @classmethod
    def of(cls, vis: Visibilities, sky: SkyModel | Prediction, options: CalibrationOptions) -> "Problem":
        """Predict the model where needed, leave short baselines out, and sum the data.

        Raises
        ------
        CalibrationError
            If there are no cross-correlations, or the model is empty or no number.
        """
        name = vis.field_name or "the tile"
        rows = baseline_rows(vis.antenna1, vis.antenna2)
        antennas = np.union1d(rows.first, rows.second)
        if not antennas.size:
            raise CalibrationError(f"{name} has no cross-correlations: nothing can be solved")
        model = Prediction.of(vis, sky) if isinstance(sky, SkyModel) else sky
        if not np.isfinite(model.vis[rows.order[:: max(1, rows.order.size // 1000)]]).all():
            raise CalibrationError(f"the sky model of {name} is no number somewhere: look at its fluxes and spectra")
        first, second = np.searchsorted(antennas, rows.first), np.searchsorted(antennas, rows.second)
        rows = BaselineRows(rows.order, rows.start, first, second)
        weights = np.array(vis.weights, np.float32)
        weights[~(np.isfinite(weights) & (weights > 0.0))] = 0.0
        if options.min_uv_m > 0.0:
            weights[np.hypot(vis.uvw_m[:, 0], vis.uvw_m[:, 1]) < options.min_uv_m] = 0.0
        minute = short_intervals(vis)
        cells = accumulate(vis.vis, vis.flags, weights, model.vis, rows, minute)
        if options.robust:
            drop_absurd(cells)
        if not model.vis.any():
            raise CalibrationError(f"the sky model of {name} is empty: without a known source nothing can be solved")
        return cls(vis, model, cells, minute, rows, antennas, options)

    @property
    def n_minutes(self) -> int:
        """Intervals of the cells."""
        return int(self.cells.power.shape[1])

    def solve(
        self,
        slots: tuple[NDArray[np.int64], NDArray[np.int64]],
        *,
        known: NDArray[np.complex64] | None = None,
        total: NDArray[np.complex64] | None = None,
        start: NDArray[np.complex128] | None = None,
        phase_only: bool = False,
        tolerance: float = FINE,
    ) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
        """Solve gains on top of known ones.

        Parameters
        ----------
        slots
            The solution interval of each minute, and the channel group of each channel.
        known
            (n_minute or 1, n_present, n_chan or 1, n_pol); None is one.
        total
            The whole gains roughly, shaped likewise: from what is left, the noise of each baseline is measured and
            its weight set, and cells that misfit lose theirs. None takes the weights as they are.
        start
            Gains to begin with, shaped as the result.
        phase_only
            Hold the amplitudes at one.
        tolerance
            Relative change at which the iteration ends.

        Returns
        -------
        tuple
            Gains and signal-to-noise ratios, (n_interval, n_present, n_group, n_pol). Zero gains are missing
            solutions; those below the least signal-to-noise ratio are missing too.
        """
        n_ant, robust = self.antennas.size, self.options.robust
        judged = None if total is None else (total, noise_power(self.cells, total, self.rows))
        equations = combine(self.cells, known, self.rows, slots, judged=judged, robust=robust)
        if start is None:
            start = np.zeros((equations[0].shape[1], n_ant, *equations[0].shape[2:]), np.complex128)
        rules = Rules(phase_only, self.options.min_baselines, robust, tolerance)
        gains, snr = solve_antennas(equations, (self.rows.first, self.rows.second), start, rules)
        gains[snr < self.options.min_snr] = 0.0
        return gains, snr

    def choose_reference(self, gains: NDArray[np.complex128], snr: NDArray[np.float64]) -> int:
        """Return the reference antenna, as an index into the present ones."""
        return choose_reference(self.vis, self.antennas, gains != 0.0, snr, self.options.reference_antenna)


def short_intervals(vis: Visibilities) -> NDArray[np.int64]:
    """Return the minute of each row, without empty ones, the last not a sliver of the others, (n_row,)."""
    elapsed = (vis.time_mjd - vis.time_mjd.min()) * 86400.0
    n_interval = max(1, round((float(elapsed.max()) + vis.integration_s) / SHORT_INTERVAL_S))
    width = (float(elapsed.max()) + vis.integration_s) / n_interval
    index = np.minimum((elapsed + 0.5 * vis.integration_s) // width, n_interval - 1).astype(np.int64)
    return np.unique(index, return_inverse=True)[1].astype(np.int64)
