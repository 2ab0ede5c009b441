r"""Our own search for interference: the shape of the band, the reach of the sky, and the search itself.

Antennas shape the band: with m(f) the median amplitude of a baseline over time, over its median over the band,

    m_pq = β_p β_q,   b_p = mean over q of m_pq,   β_p = b_p / √(mean over p of b_p)

so that edges of subbands and notches are taken out before neighbors are compared. A rise of b_p above its surroundings
that no filter makes is a carrier that is there all of the time: it is not taken out but flagged.

How far neighbors are alike follows from the baseline b: over 2h + 1 channels of width Δf a source at an angle θ turns
(2h + 1) Δf (b sin θ / c + τ) times, τ for what cables leave, and over 2k + 1 integrations of length Δt it turns
(2k + 1) Δt ω b sin θ / λ times.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from dsa110_contimg.kernels.baselines import BaselineRows
from dsa110_contimg.kernels.common_interference import antenna_power, find_common
from dsa110_contimg.kernels.flags import antenna_means, enter_common
from dsa110_contimg.kernels.interference import POWER_STEPS, find_interference
from dsa110_contimg.kernels.medians import MAD_TO_SIGMA
from dsa110_contimg.kernels.residuals import LEAST_REACH
from dsa110_contimg.telescope import SPEED_OF_LIGHT
from dsa110_contimg.visibilities import Visibilities

logger = logging.getLogger(__name__)

FIELD_SINE = 0.02
CABLE_S = 5e-9
EARTH_TURN_RAD_S = 7.2921159e-5
MOST_TURN = 0.12
SHORT_TURN = 0.045
"""Where a channel or an integration turns no more than this, the nearest two to either side are still compared."""
MOST_CHANNELS = 16
MOST_INTEGRATIONS = 8
SURROUNDINGS_HZ = 24e6
CARRIER_RISE = 0.25
CARRIER_SCATTERS = 7.0
FEWEST_CHANNELS = 9
LEAST_POWER = 5.0
"""Σ |D|²/σ² that a baseline must show where its antennas stand out; two in seven samples of noise do."""
FEWEST_ANTENNAS = 6
"""Fewer antennas have too few baselines each for a mean that tells anything."""


@dataclass(frozen=True)
class Band:
    """The shape of each antenna's band."""

    level: NDArray[np.float32]
    """(n_antenna, n_chan, n_pol), β; 0 where no baseline has data."""
    carriers: NDArray[np.bool_]
    """(n_antenna, n_chan): interference that is there all of the time."""


def search(
    vis: Visibilities,
    reasons: NDArray[np.uint8],
    rows: BaselineRows,
    middles: NDArray[np.float32],
    how: tuple[float, int, int],
) -> None:
    """Enter interference into *reasons*.

    Parameters
    ----------
    vis
        Raw or calibrated visibilities; they are not changed, and their flags are not looked at.
    reasons
        (n_row, n_chan, n_pol); samples with a reason do not take part.
    rows
        Rows by baseline.
    middles
        Median amplitudes, as `kernels.flags.first_look` returns them.
    how
        χ_1 in units of the scatter; codes of what a baseline shows alone, and of what antennas share.
    """
    band = band_shape(middles, rows, vis.n_antennas, abs(vis.channel_width_hz))
    n_time = np.diff(rows.start)
    baselines = (rows.order, rows.start, rows.first, rows.second)
    power = np.zeros((n_time.size, int(n_time.max(initial=0)), vis.freq_hz.size), np.uint8)
    find_interference(vis.vis, reasons, baselines, band.level, neighbors(vis, rows), (how[0], how[1]), power)
    common = np.zeros((vis.n_antennas, power.shape[1], power.shape[2]), bool)
    aligned = n_time.size > 0 and bool((n_time == n_time[0]).all())
    if aligned and np.unique(np.concatenate([rows.first, rows.second])).size >= FEWEST_ANTENNAS:
        common = find_common(antenna_power(power, rows.first, rows.second, vis.n_antennas))
    enter_common(reasons, baselines, common, band.carriers, (power, int(1 + POWER_STEPS * LEAST_POWER), how[2]))


def neighbors(vis: Visibilities, rows: BaselineRows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return over how many channels and integrations to either side a baseline sees the same sky.

    Beside it by how many radians that sky may turn from one to the next, both (n_baseline, 2).
    """
    length = np.linalg.norm(vis.uvw_m[rows.order[rows.start[:-1]]], axis=1)
    per_channel = abs(vis.channel_width_hz) * (length * FIELD_SINE / SPEED_OF_LIGHT + CABLE_S)
    per_time = vis.integration_s * EARTH_TURN_RAD_S * length * FIELD_SINE * vis.freq_hz.max() / SPEED_OF_LIGHT
    turn = np.stack([per_channel, per_time], axis=1)
    wide = np.floor((MOST_TURN / np.maximum(turn, 1e-9) - 1.0) / 2.0).clip(0, [MOST_CHANNELS, MOST_INTEGRATIONS])
    half = np.where(wide >= LEAST_REACH, wide, np.where(turn <= SHORT_TURN, LEAST_REACH, 0)).astype(np.int64)
    # Sums over channels are made by doubling.
    half[:, 0] = np.where(half[:, 0] > 0, 1 << np.frexp(half[:, 0])[1] >> 1, 0)
    return half, 2.0 * np.pi * turn


def band_shape(middles: NDArray[np.float32], rows: BaselineRows, n_antenna: int, channel_hz: float) -> Band:
    """Return the shapes of the band from the baselines' median amplitudes, (n_baseline, n_chan, n_pol)."""
    mean = antenna_means(middles, rows.first, rows.second, n_antenna)
    width = 2 * int(SURROUNDINGS_HZ / (2.0 * channel_hz)) + 1
    carriers = np.zeros(mean.shape[:2], bool)
    if FEWEST_CHANNELS <= width <= mean.shape[1]:
        present = np.flatnonzero(mean.any(axis=(1, 2)))
        # What is missing takes the level of the band, so that the surroundings of a gap are not pulled down by it.
        filled = np.where(mean[present] > 0.0, mean[present], 1.0)
        lines = np.moveaxis(filled, 1, 2).reshape(-1, filled.shape[1])
        around = np.stack([median_filter(line, width, mode="mirror") for line in lines])
        around = np.moveaxis(around.reshape(*filled.shape[::2], -1), 2, 1).clip(1e-3)
        rise = filled / around - 1.0
        scatter = MAD_TO_SIGMA * np.median(np.abs(rise), axis=1, keepdims=True)
        high = rise > np.maximum(CARRIER_RISE, CARRIER_SCATTERS * scatter)
        carriers[present] = high.any(axis=2)
        mean[present] = np.where(high & (mean[present] > 0.0), around, mean[present])
    known = mean > 0.0
    average = np.divide(
        mean.sum(axis=0), known.sum(axis=0), out=np.ones(mean.shape[1:], np.float32), where=known.any(axis=0)
    )
    return Band(np.asarray(mean / np.sqrt(average), np.float32), carriers)
