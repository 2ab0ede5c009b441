r"""Judge solutions before anything is calibrated with them.

Every check is one measured number against two limits. Fractions count present antennas only (those that had rows in
the data: an antenna that the array lacks is no fault of the table). Amplitudes are those of antennas: their median
over everything else. Roughness of phase is measured between neighbors, channels for a bandpass, intervals for
G over time, and the two polarizations for a single interval, where both look through the same sky:

    scatter = 1.4826 · MAD(φ_{i+1} − φ_i) / √2
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains

Verdict = Literal["passed", "warning", "failed"]

FLAGGED_WARNING = 0.1
SNR_WARNING = 10.0
AMPLITUDE_SCATTER = (0.5, 1.0)
AMPLITUDE_RANGE = {"BP": (5.0, 10.0), "G": (1.3, 2.0)}
PHASE_SCATTER_DEG = (30.0, 90.0)
DELAY_NS = (500.0, 1500.0)


@dataclass(frozen=True)
class SolutionCheck:
    """One measured value of a table and what it means."""

    name: str
    value: float | None
    """The measurement; None where it cannot be made."""
    warning: float | None
    failure: float | None
    verdict: Verdict
    reason: str


def assess(gains: Sequence[Gains], options: CalibrationOptions) -> list[SolutionCheck]:
    """Return the checks of all tables, each named `<kind>.<quantity>`."""
    return [check for table in gains for check in _assess_one(table, options)]


def worst(checks: Sequence[SolutionCheck]) -> Verdict:
    """Return the worst verdict of several checks; passed if there are none."""
    order: tuple[Verdict, ...] = ("passed", "warning", "failed")
    return max((check.verdict for check in checks), key=order.index, default="passed")


def _assess_one(table: Gains, options: CalibrationOptions) -> list[SolutionCheck]:
    present = present_antennas(table)
    values = np.where(table.flags, np.nan + 1j * np.nan, table.values)[:, present]
    good = ~table.flags[:, present]
    snr = table.snr[:, present][good]
    limit = options.max_flagged
    checks = [
        _judge(table, "flagged_fraction", float(1.0 - good.mean()) if good.size else None, (limit / 3.0, limit)),
        _judge(table, "median_snr", _median(snr), (max(SNR_WARNING, options.min_snr), options.min_snr), rising=False),
    ]
    if table.kind == "K":
        delay = float(np.nanmax(np.abs(values.real))) if good.any() else None
        checks.append(_judge(table, "largest_delay_ns", delay, DELAY_NS))
    elif table.kind in ("BP", "G"):
        amplitude = _antenna_amplitudes(values)
        checks.append(_judge(table, "amplitude_scatter", _fractional_scatter(amplitude), AMPLITUDE_SCATTER))
        checks.append(_judge(table, "amplitude_range", _range(amplitude), AMPLITUDE_RANGE[table.kind]))
    if table.kind != "K":
        checks.append(_judge(table, "phase_scatter_deg", phase_scatter_deg(values), PHASE_SCATTER_DEG))
    if table.kind == "BP" and table.flux_anchor in ("catalogue", "none"):
        reason = f"flux scale set by '{table.flux_anchor}', not by a calibrator"
        checks.append(SolutionCheck(f"{table.kind}.flux_anchor", None, None, None, "warning", reason))
    return checks


def present_antennas(table: Gains) -> NDArray[np.int64]:
    """Return indices of the antennas that were in the data; where the table does not say, those with solutions."""
    names = set(table.metadata.get("present_antennas", "").split(",")) - {""}
    if names:
        return np.array([i for i, name in enumerate(table.antenna_names) if name in names], dtype=np.int64)
    return np.flatnonzero((~table.flags).any(axis=(0, 2, 3)))


def phase_scatter_deg(values: NDArray[np.complex128]) -> float | None:
    """Return the roughness of phase between neighbors of (n_time, n_antenna, n_freq, n_pol), NaN where flagged."""
    axis = 2 if values.shape[2] > 1 else 0 if values.shape[0] > 1 else 3
    if values.shape[axis] < 2:
        return None
    ahead = np.take(values, range(1, values.shape[axis]), axis)
    behind = np.take(values, range(values.shape[axis] - 1), axis)
    step = np.degrees(np.angle(ahead * np.conj(behind)))
    step = step[np.isfinite(step)]
    return None if step.size < 2 else float(1.4826 * np.median(np.abs(step - np.median(step))) / np.sqrt(2.0))


def _judge(
    table: Gains, quantity: str, value: float | None, limits: tuple[float, float], *, rising: bool = True
) -> SolutionCheck:
    """Return the check of a value that is bad above its limits (*rising*) or below them."""
    warning, failure = limits
    name = f"{table.kind}.{quantity}"
    if value is None or not np.isfinite(value):
        return SolutionCheck(name, None, warning, failure, "failed", "no solution to measure it on")
    sign, side = (1.0, "above") if rising else (-1.0, "below")
    if sign * value > sign * failure:
        return SolutionCheck(name, value, warning, failure, "failed", f"{value:.4g} is {side} {failure:.4g}")
    if sign * value > sign * warning:
        return SolutionCheck(name, value, warning, failure, "warning", f"{value:.4g} is {side} {warning:.4g}")
    return SolutionCheck(name, value, warning, failure, "passed", f"{value:.4g} is within {warning:.4g}")


def _median(values: NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if values.size else None


def _antenna_amplitudes(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the median amplitude of each antenna and polarization that has solutions."""
    amplitude = np.abs(values).transpose(1, 3, 0, 2).reshape(values.shape[1] * values.shape[3], -1)
    amplitude = amplitude[np.isfinite(amplitude).any(axis=1)]
    return np.nanmedian(amplitude, axis=1) if amplitude.size else np.empty(0)


def _fractional_scatter(amplitude: NDArray[np.float64]) -> float | None:
    if not amplitude.size:
        return None
    middle = np.median(amplitude)
    return float(1.4826 * np.median(np.abs(amplitude - middle)) / middle)


def _range(amplitude: NDArray[np.float64]) -> float | None:
    """Return the largest factor, up or down, between an antenna's amplitude and the median one."""
    if not amplitude.size:
        return None
    ratio = amplitude / np.median(amplitude)
    return float(max(ratio.max(), 1.0 / ratio.min()))
