r"""Solve for antenna gains: delays K, bandpass BP, gains G, GP and 2G.

A gain corrupts as V_pq = g_p M conj(g_q), p = antenna1. The whole correction of a tile is g = K · BP · G with

    K(ν)   exp(2πi τ (ν − ν0)), ν0 = `Gains.freq_hz[0]`, the middle of the band; τ in ns
    BP(ν)  one complex number per channel; its amplitude turns raw units into Jy: the model is in Jy
    G      amplitude and phase of a whole tile, on the calibrator only
    GP     phase of a whole tile, amplitude exactly one: it cannot move the flux scale
    2G     phase of each minute

A bandpass needs delays and must not be smeared by phases that drift during the tile, and each needs the other first:
a rough bandpass (each channel over the whole tile) gives the delays and the shape; with the shape known, the whole
band gives the phase of each minute; with delays and drift known, each channel is solved again. That is BP. The drift
is not handed on: it belongs to this tile.

A solution below `min_snr` is flagged and NaN, never one.
"""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.calibration.reference import choose_reference, referenced
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import POSITIONS, STEADY
from dsa110_contimg.kernels.baselines import BaselineRows, baseline_rows
from dsa110_contimg.kernels.gains import fit_delays, normal_equations, solve_antennas, unwrap_delays
from dsa110_contimg.kernels.sphere import mean_direction
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.stopwatch import timed
from dsa110_contimg.visibilities import Gains, SkyModel, Visibilities, predict

logger = logging.getLogger(__name__)

SHORT_INTERVAL_S = 60.0
MAX_DELAY_NS = 2000.0
SLOW_ANCHOR_SYSTEMATIC = 0.03


@dataclass(frozen=True)
class Prediction:
    """A sky model as one tile sees it: several solves of the tile share it."""

    vis: NDArray[np.complex64]
    """(n_row, n_chan), Jy."""
    n_sources: int
    flux_jy: float
    """Of all sources, before the primary beam."""

    @classmethod
    def of(cls, vis: Visibilities, sky: SkyModel) -> "Prediction":
        """Predict a sky model."""
        return cls(predict(vis, sky), len(sky), float(sky.flux_jy.sum()))


Sky = SkyModel | Prediction


def solve_bandpass(
    vis: Visibilities,
    sky: Sky,
    options: CalibrationOptions,
    *,
    source: str,
    flux_anchor: str,
    dec_deg: float | None = None,
) -> list[Gains]:
    """Solve delays and bandpass of a tile.

    Parameters
    ----------
    vis
        Raw, flagged visibilities in one phase center.
    sky
        Everything in the field (`sky_model.field_model`).
    options
        Signal-to-noise, baseline and reference choices.
    source
        The calibrator's name, or 'catalogue'.
    flux_anchor
        What sets the flux scale.
    dec_deg
        Declination of the strip; None takes it from the pointings.

    Returns
    -------
    list of Gains
        K, then BP; both are needed to calibrate.

    Raises
    ------
    CalibrationError
        If no antenna can be solved.
    """
    with timed("K"):
        problem = _Problem.of(vis, sky, options)
        channels, whole = np.arange(vis.freq_hz.size), np.zeros(vis.time_mjd.size, np.int64)
        rough, rough_snr = problem.solve(whole, channels)
        reference = problem.choose_reference(rough, rough_snr)
        rough = referenced(rough, reference)
        delay_ns, delay_snr, middle_hz = _delays(vis.freq_hz, rough, reference)
    with timed("BP"):
        minute = _short_intervals(vis)
        drift = _drift(problem, np.where(rough_snr >= options.min_snr, rough, 0.0), minute, reference)
        slope = _delay_gains(delay_ns, vis.freq_hz, middle_hz)
        band, snr = problem.solve(whole, channels, known=slope * drift, when=minute)
        band = referenced(band, reference)
    band[np.broadcast_to(~np.isfinite(delay_ns)[None, :, None, :], band.shape)] = 0.0
    frame = _Frame(problem, reference, source, flux_anchor, _strip_dec(vis) if dec_deg is None else dec_deg)
    middle, mid_time = np.array([middle_hz]), np.array([vis.mid_mjd])
    delays = np.nan_to_num(delay_ns)[None, :, None, :].astype(np.complex128)
    delay_snr = np.where(np.isfinite(delay_ns), delay_snr, 0.0)[None, :, None, :]
    return [
        frame.gains("K", mid_time, middle, delays, delay_snr),
        frame.gains("BP", mid_time, vis.freq_hz.copy(), band, np.where(np.abs(band) > 0.0, snr, 0.0)),
    ]


def solve_gains(
    vis: Visibilities,
    sky: Sky,
    options: CalibrationOptions,
    *,
    kind: Literal["G", "GP", "2G"],
    source: str,
    flux_anchor: str = "none",
    dec_deg: float | None = None,
) -> Gains:
    """Solve frequency-independent gains of a tile to which K and BP have been applied.

    Parameters
    ----------
    vis
        Visibilities in Jy, flagged.
    sky
        Everything in the field.
    options
        Signal-to-noise, baseline and reference choices.
    kind
        G (amplitude and phase) only where a flux calibrator dominates the model; GP and 2G elsewhere.
    source
        The calibrator's name, or 'catalogue'.
    flux_anchor
        What sets the flux scale; phases set none, so it is 'none' for GP and 2G whatever is given.
    dec_deg
        Declination of the strip; None takes it from the pointings.

    Raises
    ------
    CalibrationError
        If no antenna can be solved, or G is asked for without an anchor.
    """
    phase_only = kind != "G"
    if not phase_only and flux_anchor == "none":
        raise CalibrationError("amplitude gains (G) need a flux anchor: solve GP on a tile without a calibrator")
    with timed("G"):
        problem = _Problem.of(vis, sky, options)
        interval = _short_intervals(vis) if kind == "2G" else np.zeros(vis.time_mjd.size, np.int64)
        values, snr = problem.solve(interval, np.zeros(vis.freq_hz.size, np.int64), phase_only=phase_only)
    reference = problem.choose_reference(values, snr)
    values = referenced(values, reference)
    if phase_only:
        values = np.where(np.abs(values) > 0.0, values / np.where(values == 0.0, 1.0, np.abs(values)), 0.0)
    times = np.array([vis.time_mjd[interval == i].mean() for i in range(interval.max() + 1)])
    anchor = "none" if phase_only else flux_anchor
    frame = _Frame(problem, reference, source, anchor, _strip_dec(vis) if dec_deg is None else dec_deg)
    middle = np.array([0.5 * (vis.freq_hz[0] + vis.freq_hz[-1])])
    return frame.gains(kind, times, middle, values, np.where(np.abs(values) > 0.0, snr, 0.0))


@dataclass(frozen=True)
class _Problem:
    """Visibilities, model and the rows of each baseline, with the present antennas numbered from zero."""

    vis: Visibilities
    model: Prediction
    weights: NDArray[np.float32]
    rows: BaselineRows
    antennas: NDArray[np.int64]
    options: CalibrationOptions

    @classmethod
    def of(cls, vis: Visibilities, sky: Sky, options: CalibrationOptions) -> "_Problem":
        """Predict the model where needed and leave short baselines out."""
        rows = baseline_rows(vis.antenna1, vis.antenna2)
        antennas = np.union1d(rows.first, rows.second)
        if not antennas.size:
            raise CalibrationError(f"{vis.field_name or 'the tile'} has no cross-correlations: nothing can be solved")
        first, second = np.searchsorted(antennas, rows.first), np.searchsorted(antennas, rows.second)
        weights = np.ascontiguousarray(vis.weights, np.float32).copy()
        weights[~np.isfinite(weights)] = 0.0
        if options.min_uv_m > 0.0:
            weights[np.hypot(vis.uvw_m[:, 0], vis.uvw_m[:, 1]) < options.min_uv_m] = 0.0
        model = Prediction.of(vis, sky) if isinstance(sky, SkyModel) else sky
        return cls(vis, model, weights, BaselineRows(rows.order, rows.start, first, second), antennas, options)

    def solve(
        self,
        interval: NDArray[np.int64],
        group: NDArray[np.int64],
        *,
        known: NDArray[np.complex64] | None = None,
        when: NDArray[np.int64] | None = None,
        phase_only: bool = False,
    ) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
        """Return gains and signal-to-noise ratios, (n_interval, n_present, n_group, n_pol), on top of known ones.

        Zero gains are missing solutions; those below the least signal-to-noise ratio are missing too.
        """
        n_ant, vis = self.antennas.size, self.vis
        if known is None:
            known = np.ones((1, n_ant, vis.freq_hz.size, vis.vis.shape[2]), np.complex64)
        if when is None:
            when = np.zeros(vis.time_mjd.size, np.int64)
        cross, power = normal_equations(
            vis.vis, vis.flags, self.weights, self.model.vis, known, self.rows, (interval, group, when)
        )
        fewest = self.options.min_baselines
        gains, snr = solve_antennas(cross, power, self.rows.first, self.rows.second, n_ant, phase_only, fewest)
        gains[snr < self.options.min_snr] = 0.0
        return gains, snr

    def choose_reference(self, gains: NDArray[np.complex128], snr: NDArray[np.float64]) -> int:
        """Return the reference antenna, as an index into the present ones."""
        return choose_reference(self.vis, self.antennas, gains != 0.0, snr, self.options.reference_antenna)


@dataclass(frozen=True)
class _Frame:
    """What all tables of one solve share: reference, source, anchor, strip."""

    problem: _Problem
    reference: int
    source: str
    flux_anchor: str
    dec_deg: float

    def gains(
        self,
        kind: str,
        time_mjd: NDArray[np.float64],
        freq_hz: NDArray[np.float64],
        values: NDArray[np.complex128],
        snr: NDArray[np.float64],
    ) -> Gains:
        """Spread solutions of the present antennas over the antenna table; what is missing or weak is flagged."""
        vis, antennas = self.problem.vis, self.problem.antennas
        shape = (values.shape[0], vis.n_antennas, *values.shape[2:])
        full, full_snr = np.full(shape, np.nan + 1j * np.nan), np.zeros(shape)
        good = snr >= self.problem.options.min_snr
        full[:, antennas], full_snr[:, antennas] = np.where(good, values, np.nan + 1j * np.nan), snr
        flags = np.isnan(full.real)
        if flags.all():
            raise CalibrationError(
                f"no {kind} solution of {vis.field_name or 'the tile'} reaches a signal-to-noise ratio of "
                f"{self.problem.options.min_snr}: look at its flags and at its sky model"
            )
        missing = float(flags[:, antennas].mean())
        logger.info("solved %s on %s: %.1f%% of present antennas flagged", kind, self.source, 100 * missing)
        return Gains(
            kind=kind,
            time_mjd=time_mjd,
            freq_hz=freq_hz,
            values=full,
            flags=flags,
            snr=full_snr,
            reference_antenna=vis.antenna_names[antennas[self.reference]],
            antenna_names=list(vis.antenna_names),
            antenna_itrf_m=vis.antenna_itrf_m.copy(),
            source=self.source,
            flux_anchor=self.flux_anchor,
            dec_deg=self.dec_deg,
            metadata=self._metadata(),
        )

    def _metadata(self) -> dict[str, str]:
        vis, problem = self.problem.vis, self.problem
        steady = self.flux_anchor in STEADY or self.flux_anchor not in POSITIONS
        half_s = 0.5 * vis.integration_s / 86400.0
        return {
            "present_antennas": ",".join(vis.antenna_names[i] for i in problem.antennas),
            "start_mjd": f"{vis.time_mjd.min() - half_s:.9f}",
            "end_mjd": f"{vis.time_mjd.max() + half_s:.9f}",
            "field": vis.field_name,
            "telescope": vis.telescope,
            **({} if steady else {"flux_systematic": str(SLOW_ANCHOR_SYSTEMATIC)}),
            "model_sources": str(problem.model.n_sources),
            "model_flux_jy": f"{problem.model.flux_jy:.4f}",
        }


def _delays(
    freq_hz: NDArray[np.float64], rough: NDArray[np.complex128], reference: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return delays in ns and their signal-to-noise ratios, (n_antenna, n_pol), and the frequency of zero phase."""
    middle_hz = 0.5 * float(freq_hz[0] + freq_hz[-1])
    lines = rough[0].transpose(0, 2, 1).reshape(-1, freq_hz.size)
    fitted, snr = fit_delays(lines, freq_hz, middle_hz, MAX_DELAY_NS)
    shape = (rough.shape[1], rough.shape[3])
    period_ns = 1e9 / float(np.diff(freq_hz).min()) if freq_hz.size > 1 else np.inf
    delay_ns = unwrap_delays(fitted, period_ns).reshape(shape) if np.isfinite(period_ns) else fitted.reshape(shape)
    return delay_ns - delay_ns[reference], snr.reshape(shape), middle_hz


def _delay_gains(
    delay_ns: NDArray[np.float64], freq_hz: NDArray[np.float64], reference_hz: float
) -> NDArray[np.complex64]:
    """Return exp(2πi τ (ν − ν0)), (1, n_antenna, n_chan, n_pol); one where there is no delay."""
    turns = np.nan_to_num(delay_ns)[None, :, None, :] * 1e-9 * (freq_hz - reference_hz)[None, None, :, None]
    return np.asarray(np.exp(2j * np.pi * turns), np.complex64)


def _drift(
    problem: _Problem, shape: NDArray[np.complex128], minute: NDArray[np.int64], reference: int
) -> NDArray[np.complex64]:
    """Return the phase of each minute on top of a bandpass, (n_minute, n_antenna, 1, n_pol); one where it is lost."""
    phases, _snr = problem.solve(
        minute, np.zeros(shape.shape[2], np.int64), known=shape.astype(np.complex64), phase_only=True
    )
    phases = referenced(phases, reference)
    return np.where(phases == 0.0, 1.0, phases).astype(np.complex64)


def _short_intervals(vis: Visibilities) -> NDArray[np.int64]:
    """Return the minute of each row, without empty ones, the last not a sliver of the others, (n_row,)."""
    elapsed = (vis.time_mjd - vis.time_mjd.min()) * 86400.0
    n_interval = max(1, round((float(elapsed.max()) + vis.integration_s) / SHORT_INTERVAL_S))
    width = (float(elapsed.max()) + vis.integration_s) / n_interval
    index = np.minimum((elapsed + 0.5 * vis.integration_s) // width, n_interval - 1).astype(np.int64)
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def _strip_dec(vis: Visibilities) -> float:
    """Return the declination on which the dishes looked; the phase center's where there are no pointings."""
    if not vis.pointing_mjd.size:
        return vis.phase_center.dec_deg
    return float(np.degrees(mean_direction(*np.radians(vis.pointing_icrs_deg).T)[1]))
