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
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.calibration.problem import ROUGH, Prediction, Problem
from dsa110_contimg.calibration.reference import anchors, referenced
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import anchor_systematic
from dsa110_contimg.kernels.delays import fit_delays, unwrap_delays
from dsa110_contimg.kernels.gains import amplitude_errors, phase_errors
from dsa110_contimg.kernels.sphere import mean_direction
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.stopwatch import timed
from dsa110_contimg.visibilities import Gains, SkyModel, Visibilities

logger = logging.getLogger(__name__)

MAX_DELAY_NS = 2000.0
NO_ANCHOR = ("none", "catalogue")
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
        If no antenna can be solved, or the anchor is not in the sky model.
    """
    with timed("K"):
        problem = Problem.of(vis, sky, options)
        _require_anchor(problem, flux_anchor)
        every = np.zeros(problem.n_minutes, np.int64), np.arange(vis.freq_hz.size)
        rough, rough_snr = problem.solve(every, tolerance=ROUGH)
        reference = problem.choose_reference(rough, rough_snr)
        rough = referenced(rough, reference)
        delay = _delays(vis.freq_hz, rough, reference)
    with timed("BP"):
        drift = _drift(problem, rough, reference)
        slope = _delay_gains(delay.ns, vis.freq_hz, delay.middle_hz)
        total = rough.astype(np.complex64) * drift
        band, snr = problem.solve(every, known=slope * drift, total=total, start=rough * np.conj(slope))
        errors = amplitude_errors(band, snr)
        band = referenced(band, reference)
    band[np.broadcast_to(~np.isfinite(delay.ns)[None, :, None, :], band.shape)] = 0.0
    frame = _Frame(problem, reference, source, flux_anchor, _strip_dec(vis) if dec_deg is None else dec_deg)
    middle, mid_time = np.array([delay.middle_hz]), np.array([vis.mid_mjd])
    bandpass = _Solutions(band, np.where(np.abs(band) > 0.0, snr, 0.0), errors)
    return [
        frame.gains("K", mid_time, middle, _of_delays(delay)),
        frame.gains("BP", mid_time, vis.freq_hz.copy(), bandpass),
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
        G (amplitude and phase) where a flux calibrator dominates the model; GP and 2G elsewhere. A G without an
        anchor has amplitudes of geometric mean one over antennas.
    source
        The calibrator's name, or 'catalogue'.
    flux_anchor
        What sets the flux scale; phases set none, so it is 'none' for GP and 2G whatever is given.
    dec_deg
        Declination of the strip; None takes it from the pointings.

    Raises
    ------
    CalibrationError
        If no antenna can be solved, or the anchor of G is not in the sky model.
    """
    phase_only = kind != "G"
    with timed("G"):
        problem = Problem.of(vis, sky, options)
        if not phase_only:
            _require_anchor(problem, flux_anchor)
        minutes = np.arange(problem.n_minutes)
        slots = minutes if kind == "2G" else np.zeros_like(minutes), np.zeros(vis.freq_hz.size, np.int64)
        # Amplitudes are free in this first look, so that a wrong flux scale is not taken for noise.
        rough, _snr = problem.solve(slots, tolerance=ROUGH)
        total = rough[slots[0]].astype(np.complex64)
        values, snr = problem.solve(slots, total=total, phase_only=phase_only)
    reference = problem.choose_reference(values, snr)
    values = referenced(values, reference)
    errors = phase_errors(values, snr, reference) if phase_only else amplitude_errors(values, snr)
    if phase_only:
        values = np.where(np.abs(values) > 0.0, values / np.where(values == 0.0, 1.0, np.abs(values)), 0.0)
    elif flux_anchor in NO_ANCHOR:
        scale = _geometric_mean(values)
        values, errors = values / scale, errors / scale
    anchor = "none" if phase_only or flux_anchor in NO_ANCHOR else flux_anchor
    times = np.array([vis.time_mjd[slots[0][problem.minute] == i].mean() for i in range(slots[0].max() + 1)])
    frame = _Frame(problem, reference, source, anchor, _strip_dec(vis) if dec_deg is None else dec_deg)
    middle = np.array([0.5 * (vis.freq_hz[0] + vis.freq_hz[-1])])
    return frame.gains(kind, times, middle, _Solutions(values, np.where(np.abs(values) > 0.0, snr, 0.0), errors))


@dataclass(frozen=True)
class _Solutions:
    """Values, signal-to-noise ratios and errors, (n_interval, n_present, n_group, n_pol)."""

    values: NDArray[np.complex128]
    snr: NDArray[np.float64]
    errors: NDArray[np.float64]


@dataclass(frozen=True)
class _Frame:
    """What all tables of one solve share: reference, source, anchor, strip."""

    problem: Problem
    reference: int
    source: str
    flux_anchor: str
    dec_deg: float

    def gains(
        self,
        kind: str,
        time_mjd: NDArray[np.float64],
        freq_hz: NDArray[np.float64],
        found: _Solutions,
    ) -> Gains:
        """Spread solutions of the present antennas over the antenna table; what is missing or weak is flagged."""
        vis, antennas = self.problem.vis, self.problem.antennas
        shape = (found.values.shape[0], vis.n_antennas, *found.values.shape[2:])
        full, snr, errors = np.full(shape, np.nan + 1j * np.nan), np.zeros(shape), np.full(shape, np.nan)
        good = found.snr >= self.problem.options.min_snr
        full[:, antennas], snr[:, antennas] = np.where(good, found.values, np.nan + 1j * np.nan), found.snr
        errors[:, antennas] = np.where(good, found.errors, np.nan)
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
            snr=snr,
            errors=errors,
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
        systematic = anchor_systematic(self.flux_anchor)
        half_s = 0.5 * vis.integration_s / 86400.0
        return {
            "present_antennas": ",".join(vis.antenna_names[i] for i in problem.antennas),
            "start_mjd": f"{vis.time_mjd.min() - half_s:.9f}",
            "end_mjd": f"{vis.time_mjd.max() + half_s:.9f}",
            "field": vis.field_name,
            "telescope": vis.telescope,
            **({"flux_systematic": str(systematic)} if systematic else {}),
            "model_sources": str(problem.model.n_sources),
            "model_flux_jy": f"{problem.model.flux_jy:.4f}",
        }


class _Delays(NamedTuple):
    """Delays (ns) with their signal-to-noise ratios and errors, (n_antenna, n_pol); zero phase at the middle."""

    ns: NDArray[np.float64]
    snr: NDArray[np.float64]
    error_ns: NDArray[np.float64]
    middle_hz: float


def _delays(freq_hz: NDArray[np.float64], rough: NDArray[np.complex128], reference: int) -> _Delays:
    """Fit delays to the channels of a rough bandpass in which the reference has a solution."""
    middle_hz = 0.5 * float(freq_hz[0] + freq_hz[-1])
    anchor, pols = anchors(rough, reference), np.arange(rough.shape[3])
    there = (rough[0][anchor, :, pols] != 0.0).T
    lines = np.where(there, rough[0], 0.0).transpose(0, 2, 1).reshape(-1, freq_hz.size)
    fitted, snr, error_ns = fit_delays(lines, freq_hz, middle_hz, MAX_DELAY_NS)
    shape = (rough.shape[1], rough.shape[3])
    period_ns = 1e9 / float(np.diff(freq_hz).min()) if freq_hz.size > 1 else np.inf
    delay_ns = unwrap_delays(fitted, period_ns).reshape(shape) if np.isfinite(period_ns) else fitted.reshape(shape)
    return _Delays(delay_ns - delay_ns[anchor, pols], snr.reshape(shape), error_ns.reshape(shape), middle_hz)


def _of_delays(delay: _Delays) -> _Solutions:
    """Return delays as solutions of one interval and one group."""
    return _Solutions(
        np.nan_to_num(delay.ns)[None, :, None, :].astype(np.complex128),
        np.where(np.isfinite(delay.ns), delay.snr, 0.0)[None, :, None, :],
        delay.error_ns[None, :, None, :],
    )


def _delay_gains(
    delay_ns: NDArray[np.float64], freq_hz: NDArray[np.float64], reference_hz: float
) -> NDArray[np.complex64]:
    """Return exp(2πi τ (ν − ν0)), (1, n_antenna, n_chan, n_pol); one where there is no delay."""
    turns = np.nan_to_num(delay_ns)[None, :, None, :] * 1e-9 * (freq_hz - reference_hz)[None, None, :, None]
    return np.asarray(np.exp(2j * np.pi * turns), np.complex64)


def _drift(problem: Problem, shape: NDArray[np.complex128], reference: int) -> NDArray[np.complex64]:
    """Return the phase of each minute on top of a bandpass, (n_minute, n_antenna, 1, n_pol); one where it is lost."""
    slots = np.arange(problem.n_minutes), np.zeros(shape.shape[2], np.int64)
    phases, _snr = problem.solve(slots, known=shape.astype(np.complex64), phase_only=True)
    phases = referenced(phases, reference)
    return np.where(phases == 0.0, 1.0, phases).astype(np.complex64)


def _require_anchor(problem: Problem, flux_anchor: str) -> None:
    """Raise CalibrationError unless the calibrator that sets the flux scale is in the sky model."""
    names = problem.model.names
    if flux_anchor not in NO_ANCHOR and names and flux_anchor not in names:
        raise CalibrationError(
            f"{flux_anchor} is to set the flux scale of {problem.vis.field_name or 'the tile'} but is not among the "
            f"{len(names)} sources of its sky model: it is outside the field, or below model_min_flux_jy"
        )


def _geometric_mean(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the geometric mean amplitude over antennas, (n_interval, 1, n_group, n_pol); one where there is none."""
    there = values != 0.0
    logs = np.where(there, np.log(np.abs(np.where(there, values, 1.0))), 0.0).sum(axis=1, keepdims=True)
    return np.asarray(np.exp(logs / np.maximum(there.sum(axis=1, keepdims=True), 1)))


def _strip_dec(vis: Visibilities) -> float:
    """Return the declination on which the dishes looked; the phase center's where there are no pointings."""
    if not vis.pointing_mjd.size:
        return vis.phase_center.dec_deg
    return float(np.degrees(mean_direction(*np.radians(vis.pointing_icrs_deg).T)[1]))
