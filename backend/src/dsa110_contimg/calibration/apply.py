r"""Apply gains: V_pq / (g_p conj(g_q)), g the product of all tables given.

Between its entries a table is read as follows; amplitude and phase are interpolated apart, so that a table of phases
stays one of phases.

* Time: before the first and after the last solution that one; in between, linearly (or the nearest, on request).
* Frequency: a table of one channel holds for the band. Otherwise the table's channel within half a channel of the
  data's is taken as it is, and failing that its two neighbors are interpolated, unless more than a subband lies
  between them. Data outside the table's band are flagged.
* K is a delay τ (ns) with zero phase at the table's own frequency: g = exp(2πi τ (ν − ν0)).
* Antennas are matched by name. A missing or flagged solution flags the data; nothing passes uncorrected.

Weights follow the gains, w / ⟨|g_p g_q|⁻²⟩ over channels, which leaves them right relative to each other. Their
scale is then set by the data: one factor per polarization, the median over baselines of 1/(w σ²), with σ from
differences of neighbors in time and frequency, so that w = 1/σ² in 1/Jy², σ being the noise of the real part of one
channel.
"""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.kernels.baselines import baseline_rows
from dsa110_contimg.kernels.correct import correct, noise_variance
from dsa110_contimg.kernels.sphere import mean_direction
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import SUBBAND_WIDTH_HZ
from dsa110_contimg.visibilities import Gains, Visibilities

logger = logging.getLogger(__name__)

SAME_MOMENT = 1e-4
"""An entry this near, in parts of an interval, is taken alone: dates are rounded to 0.1 ms, and the next entry may
be of quite another size."""


def apply(
    vis: Visibilities,
    gains: Sequence[Gains],
    options: CalibrationOptions,
    *,
    nearest_in_time: bool = False,
    measure_weights: bool = True,
) -> None:
    """Calibrate a tile in place: visibilities, flags and weights.

    Parameters
    ----------
    vis
        The visibilities; afterwards in Jy if a BP table is among the gains.
    gains
        Tables, in any order: they commute.
    options
        `dec_tolerance_deg` guards against another strip's tables.
    nearest_in_time
        Take the nearest solution interval instead of interpolating.
    measure_weights
        Set the weights' scale from the noise; False leaves them as the gains make them.

    Raises
    ------
    CalibrationError
        If there is no table, or one belongs to another strip, array, band or number of polarizations.
    """
    if not gains:
        raise CalibrationError(f"no calibration table for {vis.field_name or 'the tile'}: solve or register one first")
    for table in gains:
        _refuse_foreign(vis, table, options)
    times = vis.times_mjd
    steady = all(table.time_mjd.size == 1 for table in gains)
    when = np.zeros(vis.time_mjd.size, np.int64) if steady else np.searchsorted(times, vis.time_mjd)
    total = np.ones((1, 1, 1, 1), np.complex128)
    for table in gains:
        total = total * _resampled(table, vis, times, nearest_in_time=nearest_in_time)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / total
    inverse[~np.isfinite(inverse)] = 0.0
    shape = (inverse.shape[0], vis.n_antennas, vis.freq_hz.size, vis.vis.shape[2])
    full = np.ascontiguousarray(np.broadcast_to(inverse, shape), np.complex64)
    correct(vis.vis, vis.flags, vis.weights, vis.antenna1, vis.antenna2, when, full)
    if measure_weights:
        scale_weights(vis)


def scale_weights(vis: Visibilities) -> NDArray[np.float64]:
    """Scale the weights to 1/σ² by the measured noise, in place; return the factor of each polarization.

    The factor is NaN, and the weights stay, where noise cannot be measured: fewer than three integrations, a single
    channel, or no noise.
    """
    rows = baseline_rows(vis.antenna1, vis.antenna2)
    sigma2 = noise_variance(vis.vis, vis.flags, rows.order, rows.start)
    factors = np.full(vis.vis.shape[2], np.nan)
    for pol in range(factors.size):
        weight = (
            np.add.reduceat(vis.weights[rows.order, pol].astype(float), rows.start[:-1]) if rows.order.size else 0.0
        )
        mean_weight = weight / np.maximum(np.diff(rows.start), 1)
        good = np.isfinite(sigma2[:, pol]) & (sigma2[:, pol] > 0.0) & (mean_weight > 0.0)
        if not good.any():
            logger.warning(
                "noise of %s, polarization %d, cannot be measured: weights keep their scale", vis.field_name, pol
            )
            continue
        factors[pol] = float(np.median(1.0 / (mean_weight[good] * sigma2[good, pol])))
        vis.weights[:, pol] *= np.float32(factors[pol])
    return factors


def _refuse_foreign(vis: Visibilities, table: Gains, options: CalibrationOptions) -> None:
    """Raise CalibrationError unless the table belongs to this strip, array, band and set of polarizations."""
    dec_deg = vis.phase_center.dec_deg
    if vis.pointing_mjd.size:
        dec_deg = float(np.degrees(mean_direction(*np.radians(vis.pointing_icrs_deg).T)[1]))
    name = f"the {table.kind} table of {table.source}"
    apart = abs(table.dec_deg - dec_deg)
    if not apart <= options.dec_tolerance_deg:
        raise CalibrationError(
            f"{name} was solved at declination {table.dec_deg:.2f} deg and {vis.field_name or 'the tile'} lies at "
            f"{dec_deg:.2f} deg: solve one on this strip (dec_tolerance_deg is {options.dec_tolerance_deg})"
        )
    if table.values.shape[3] not in (1, vis.vis.shape[2]):
        raise CalibrationError(
            f"{name} has {table.values.shape[3]} polarizations and the visibilities {vis.vis.shape[2]}: "
            "solve it on the same polarizations"
        )
    low, high = table.freq_hz[0] - 0.5 * vis.channel_width_hz, table.freq_hz[-1] + 0.5 * vis.channel_width_hz
    if table.freq_hz.size > 1 and not ((vis.freq_hz >= low) & (vis.freq_hz <= high)).any():
        raise CalibrationError(
            f"{name} covers {low / 1e6:.2f} to {high / 1e6:.2f} MHz and {vis.field_name or 'the tile'} "
            f"{vis.freq_hz[0] / 1e6:.2f} to {vis.freq_hz[-1] / 1e6:.2f} MHz: solve one in this band"
        )
    if not set(table.antenna_names) & set(vis.antenna_names):
        raise CalibrationError(f"{name} shares no antenna name with {vis.field_name or 'the tile'}: another array's?")


def _resampled(
    table: Gains, vis: Visibilities, times: NDArray[np.float64], *, nearest_in_time: bool
) -> NDArray[np.complex128]:
    """Return a table's gains at the data's times, antennas and channels; NaN where there is none.

    Axes are (n_time or 1, n_antenna, n_chan or 1, n_pol).
    """
    values = np.where(table.flags, np.nan + 1j * np.nan, table.values)
    column = {name: i for i, name in enumerate(table.antenna_names)}
    known = np.array([column.get(name, -1) for name in vis.antenna_names])
    values = values[:, known]
    values[:, known < 0] = np.nan + 1j * np.nan
    if table.kind == "K":
        turns = values.real * 1e-9 * (vis.freq_hz - table.freq_hz[0])[None, None, :, None]
        values = np.exp(2j * np.pi * turns)
    elif table.freq_hz.size > 1:
        values = _in_frequency(values, table.freq_hz, vis.freq_hz, vis.channel_width_hz)
    if table.time_mjd.size == 1:
        return np.asarray(values)
    low, high, share = bracket(times, table.time_mjd)
    if nearest_in_time:
        return np.asarray(values[np.where(share > 0.5, high, low)])
    return mix(values[low], values[high], share[:, None, None, None])


def _in_frequency(
    values: NDArray[np.complex128], have_hz: NDArray[np.float64], want_hz: NDArray[np.float64], width_hz: float
) -> NDArray[np.complex128]:
    """Return values at other channels, along axis 2; NaN outside the table's band and in gaps wider than a subband."""
    step = float(np.median(np.diff(have_hz)))
    low, high, share = bracket(want_hz, have_hz)
    nearest = np.where(share > 0.5, high, low)
    out = mix(values[:, :, low], values[:, :, high], share[None, None, :, None])
    exact = np.abs(have_hz[nearest] - want_hz) <= 0.5 * width_hz
    out[:, :, exact] = values[:, :, nearest[exact]]
    outside = (want_hz < have_hz[0] - 0.5 * step) | (want_hz > have_hz[-1] + 0.5 * step)
    gap = ~exact & (have_hz[high] - have_hz[low] > SUBBAND_WIDTH_HZ)
    out[:, :, outside | gap] = np.nan + 1j * np.nan
    return out


def bracket(
    want: NDArray[np.float64], have: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the entries of ascending *have* on either side, and the share of the upper; constant beyond the ends."""
    high = np.clip(np.searchsorted(have, want), 1, have.size - 1)
    low = high - 1
    share = np.clip((want - have[low]) / (have[high] - have[low]), 0.0, 1.0)
    whole = np.round(share)
    return low, high, np.where(np.abs(share - whole) < SAME_MOMENT, whole, share)


def mix(
    low: NDArray[np.complex128], high: NDArray[np.complex128], share: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Interpolate amplitude linearly and phase along the shorter arc; NaN where a needed end is NaN."""
    with np.errstate(invalid="ignore"):
        amplitude = (1.0 - share) * np.abs(low) + share * np.abs(high)
        phase = np.angle(low) + share * np.angle(high * np.conj(low))
    out = amplitude * np.exp(1j * phase)
    return np.where(share == 0.0, low, np.where(share == 1.0, high, out))
