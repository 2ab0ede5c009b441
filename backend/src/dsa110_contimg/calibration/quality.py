r"""Judge solutions before anything is calibrated with them.

Every check is one measured number against two limits. Fractions count present antennas only (those that had rows in
the data: an antenna that the array lacks is no fault of the table). Amplitudes are those of antennas: their median
over everything else. Roughness of phase is measured between neighbors, channels for a bandpass, intervals for
G over time, and the two polarizations for a single interval, where both look through the same sky. `defects` says
what a noisy antenna, a jump and a spike are; a few are an antenna's matter, and many the table's.

A check that fails keeps the table, and those solved with it, from being used. One that warns lets a person look.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.calibration import defects
from dsa110_contimg.flux_scale import POSITIONS, anchor_systematic
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains

Verdict = Literal["passed", "warning", "failed"]

FLAGGED_WARNING = 0.1
SNR_WARNING = 10.0
AMPLITUDE_SCATTER = (0.5, 1.0)
AMPLITUDE_RANGE = {"BP": (5.0, 10.0), "G": (1.3, 2.0)}
PHASE_SCATTER_DEG = (30.0, 90.0)
DELAY_NS = (500.0, 1500.0)
ANTENNAS_WITH_DEFECTS = (0.1, 0.25)
SPIKES = (0.01, 0.05)
ROUGHNESS = (0.1, 0.3)
SOURCE_OFFSET_DEG = (1.35, 2.7)
"""Half the beam's width, and all of it: no strip farther away sees the calibrator."""
NAMED = 6


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
        checks += _defects(table, values, present)
    return [*checks, *_anchor(table)]


def _defects(table: Gains, values: NDArray[np.complex128], present: NDArray[np.int64]) -> list[SolutionCheck]:
    """Return the checks of single antennas and channels, each naming those that are not right."""
    solved = np.asarray(np.isfinite(values.real).any(axis=(0, 2)))
    names = [table.antenna_names[antenna] for antenna in present]
    checks = [_counted(table, "noisy_antennas", defects.noisy(values, table.snr[:, present]), solved, names)]
    if values.shape[2] < defects.AROUND:
        return checks
    spikes = defects.spikes(values)
    known = int(np.isfinite(values.real).sum())
    return [
        *checks,
        _counted(table, "phase_jumps", defects.jumps(values), solved, names),
        _judge(table, "interference", float(spikes.sum() / known) if known else None, SPIKES),
        _judge(table, "roughness", defects.roughness(values), ROUGHNESS),
    ]


def _counted(
    table: Gains, quantity: str, bad: NDArray[np.bool_], solved: NDArray[np.bool_], names: Sequence[str]
) -> SolutionCheck:
    """Return the check of the fraction of antennas with a defect; its reason names them."""
    fraction = float((bad & solved).sum() / solved.sum()) if solved.any() else None
    check = _judge(table, quantity, fraction, ANTENNAS_WITH_DEFECTS)
    hit = np.asarray((bad & solved).any(axis=1))
    which = [name for name, found in zip(names, hit, strict=True) if found]
    if not which:
        return check
    more = f" and {len(which) - NAMED} more" if len(which) > NAMED else ""
    return replace(check, reason=f"{check.reason}: antennas {', '.join(which[:NAMED])}{more}")


def _anchor(table: Gains) -> list[SolutionCheck]:
    """Return what can be said about what sets the scale: whether the strip can see it, and how well it is known."""
    anchor = table.flux_anchor
    if anchor not in POSITIONS:
        reason = f"flux scale set by '{anchor}', not by a calibrator"
        doubtful = table.kind == "BP"
        return [SolutionCheck("BP.flux_anchor", None, None, None, "warning", reason)] if doubtful else []
    offset = abs(POSITIONS[anchor].dec_deg - table.dec_deg)
    checks = [_judge(table, "source_offset_deg", offset, SOURCE_OFFSET_DEG)]
    if table.kind == "BP":
        error = anchor_systematic(anchor)
        reason = f"{anchor} is known within {error:.0%} on the scale of Perley & Butler 2017" if error else "steady"
        checks.append(SolutionCheck("BP.flux_anchor", error, None, None, "passed", reason))
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
