"""What is thrown away before solving, and why.

The steps, in this order, each on what the ones before left over; a sample keeps the first reason that it gets:

| reason | what |
|---|---|
| empty | zero, or not finite |
| before | other flags that came with the data |
| autocorrelations | an antenna with itself |
| edges | the outermost channels of each subband, and of the band |
| shadowed | baselines of an antenna that another one stands in front of |
| dead_antennas | more than a fraction of an antenna's cross-correlations is flagged, in both polarizations |
| single_polarization | a baseline that lost one polarization loses the other too: half of Stokes I is no flux |
| interference | what a baseline shows by itself (`interference`), or what AOFlagger found |
| common_interference | what all baselines of two antennas show together |
| gaps | between interference (scale-invariant rank operator) |
| given_up | the rest of a baseline of which interference left hardly anything |
| calibration | samples without a solution; entered by `book` after gains have been applied |

Antennas of the table that have no rows at all (21 of 117 at the DSA-110) are not part of the observation: present
antennas are those with at least one cross-correlation, and only they count in any fraction.
"""

import logging
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dsa110_contimg.calibration import aoflagger, interference
from dsa110_contimg.errors import CalibrationError, ConfigurationError
from dsa110_contimg.kernels import flags as kernels
from dsa110_contimg.kernels.baselines import BaselineRows, baseline_rows
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.telescope import BAND_LOW_HZ, SUBBAND_WIDTH_HZ
from dsa110_contimg.visibilities import Visibilities

logger = logging.getLogger(__name__)

REASONS = (
    "good",
    "empty",
    "before",
    "autocorrelations",
    "edges",
    "shadowed",
    "dead_antennas",
    "single_polarization",
    "interference",
    "common_interference",
    "gaps",
    "given_up",
    "calibration",
)
"""Names of the values of `FlagReport.reasons`."""
_CODE = {name: code for code, name in enumerate(REASONS)}
NOT_OF_CROSS = ("good", "autocorrelations")
Reasons = NDArray[np.uint8]


@dataclass(frozen=True)
class FlagReport:
    """What flagging found; fractions are of the cross-correlation samples unless said otherwise."""

    total: float
    """Fraction flagged at the end."""
    by_reason: dict[str, float]
    """Fraction that each reason took; REASONS without the good and the autocorrelations."""
    autocorrelations: float
    """Fraction of all rows that are autocorrelations."""
    by_antenna: dict[str, float]
    """Fraction flagged of each present antenna's cross-correlations."""
    antenna_reasons: dict[str, dict[str, float]]
    """The same by reason; reasons that took nothing are left out."""
    by_channel: list[float]
    """Fraction flagged of each channel."""
    channel_reasons: dict[str, list[float]]
    """The same by reason; reasons that took nothing are left out."""
    present_antennas: list[str]
    """Antennas with rows."""
    dead_antennas: list[str]
    """Present antennas that gave no usable data in either polarization."""
    half_dead_antennas: list[str]
    """Present antennas that gave no usable data in one polarization, and are therefore lost to Stokes I."""
    waterfall: NDArray[np.float64] = field(repr=False, compare=False)
    """Fraction flagged of each integration and channel, (n_time, n_chan)."""
    reasons: Reasons = field(repr=False, compare=False)
    """Why each sample is flagged, a place in REASONS; the shape of the flags."""

    def to_dict(self) -> dict[str, float | dict[str, float] | dict[str, dict[str, float]] | list[str] | list[float]]:
        """Return plain values, ready for JSON; the arrays are left out."""
        return {name: value for name, value in asdict(self).items() if name not in ("waterfall", "reasons")}


def flag(vis: Visibilities, options: FlaggingOptions) -> FlagReport:
    """Flag a tile in place and say what was flagged.

    Parameters
    ----------
    vis
        Raw or calibrated visibilities; only `flags` change, and they only grow.
    options
        Thresholds, and what finds interference.

    Raises
    ------
    ConfigurationError
        If there is no such engine, or it is not installed.
    CalibrationError
        If the visibilities have no cross-correlations.
    """
    if options.engine not in ENGINES:
        raise ConfigurationError(f"flagging engine {options.engine!r} is not one of {', '.join(ENGINES)}")
    rows = baseline_rows(vis.antenna1, vis.antenna2)
    if not rows.order.size:
        raise CalibrationError(
            f"{vis.field_name or 'the set'} has no cross-correlations: there is nothing to calibrate"
        )
    autos = vis.antenna1 == vis.antenna2
    reasons = vis.flags.view(np.uint8) * np.uint8(_CODE["before"])
    kernels.enter_rows(reasons, _coded(autos, "autocorrelations"))
    middles, bad = kernels.first_look(vis.vis, reasons, rows.order, rows.start, (_CODE["empty"], _CODE["before"]))
    edges = edge_channels(vis.freq_hz, options.edge_channels)
    edges |= band_edges(vis.freq_hz.size, options.band_edge_channels)
    kernels.enter_channels(reasons, _coded(edges, "edges"))
    dead = np.asarray(_antenna_fractions(vis, bad, rows) > options.dead_fraction)
    kernels.enter_rows(reasons, _lost_rows(vis, rows, bad, dead, options))
    ENGINES[options.engine](vis, reasons, rows, middles, options)
    codes = (_CODE["interference"], _CODE["common_interference"], _CODE["gaps"], _CODE["given_up"])
    kernels.finish_baselines(reasons, rows.order, rows.start, codes, (options.gap_fraction, options.dead_fraction))
    kernels.set_flags(vis.flags, reasons, len(REASONS))
    report = summarize(vis, reasons, options.dead_fraction)
    logger.info("flagged %.2f%% of %s; dead antennas: %s", 100 * report.total, vis.field_name, report.dead_antennas)
    return report


def book(flags: NDArray[np.bool_], reasons: Reasons, step: str) -> None:
    """Give *step* as the reason of flags that have none yet; in place."""
    kernels.enter_flags(reasons, flags, _CODE[step])


def restore(vis: Visibilities, reasons: Reasons, step: str) -> None:
    """Set the flags to what they were after a step, in place.

    Raises
    ------
    ConfigurationError
        If there is no such step.
    """
    if step not in _CODE:
        raise ConfigurationError(f"{step!r} is not a step of flagging: {', '.join(REASONS)} are")
    kernels.set_flags(vis.flags, reasons, _CODE[step])


def edge_channels(freq_hz: NDArray[np.float64], width: int) -> NDArray[np.bool_]:
    """Return which channels are among the outermost *width* of their subband, (n_chan,)."""
    subband = np.floor((freq_hz - BAND_LOW_HZ) / SUBBAND_WIDTH_HZ).astype(int)
    edge = np.zeros(freq_hz.size, bool)
    for index in np.unique(subband) if width > 0 else []:
        members = np.flatnonzero(subband == index)
        edge[members[:width]] = True
        edge[members[-width:]] = True
    return edge


def band_edges(n_chan: int, width: int) -> NDArray[np.bool_]:
    """Return which channels are among the outermost *width* of all, (n_chan,)."""
    place = np.arange(n_chan)
    return np.minimum(place, n_chan - 1 - place) < width


def shadowed(vis: Visibilities, diameter_m: float) -> NDArray[np.bool_]:
    """Return whether each antenna is shadowed in each integration, (n_time, n_antenna).

    Of two antennas whose distance across the line of sight is below a diameter, the one behind is shadowed: with
    w = (r₁ − r₂)·s that is `antenna2` where w is positive.
    """
    moment = np.searchsorted(vis.times_mjd, vis.time_mjd)
    out = np.zeros((vis.times_mjd.size, vis.n_antennas), bool)
    close = (np.hypot(vis.uvw_m[:, 0], vis.uvw_m[:, 1]) < diameter_m) & (vis.antenna1 != vis.antenna2)
    behind = np.where(vis.uvw_m[:, 2] > 0.0, vis.antenna2, vis.antenna1)
    out[moment[close], behind[close]] = True
    return out


def summarize(vis: Visibilities, reasons: Reasons, dead_fraction: float) -> FlagReport:
    """Return how much each reason took.

    Parameters
    ----------
    vis
        Whose rows; flags and visibilities are not looked at.
    reasons
        Of the visibilities' shape.
    dead_fraction
        An antenna with a larger fraction of data that were flagged before or are empty is dead.
    """
    cross = vis.antenna1 != vis.antenna2
    moment = np.where(cross, np.searchsorted(vis.times_mjd, vis.time_mjd), -1)
    by_row, by_moment = kernels.count_reasons(reasons, moment, vis.times_mjd.size, len(REASONS))
    # A row counts for both of its antennas.
    places = (np.concatenate([vis.antenna1[cross], vis.antenna2[cross]]), np.tile(np.flatnonzero(cross), 2))
    sums = sparse.csr_array((np.ones(places[0].size), places), shape=(vis.n_antennas, cross.size))
    by_antenna = (sums @ by_row.reshape(cross.size, -1)).reshape(vis.n_antennas, *by_row.shape[1:])
    present = np.flatnonzero(by_antenna.any(axis=(1, 2)))
    names = [vis.antenna_names[i] for i in present]
    by_pol = by_antenna[present] / by_antenna[present].sum(axis=2, keepdims=True)
    dead = by_pol[:, :, [_CODE["before"], _CODE["empty"]]].sum(axis=2) > dead_fraction
    parts, channels = by_pol.mean(axis=1), _fractions(by_moment.sum(axis=0))
    whole = _fractions(by_moment.sum(axis=(0, 1)))
    taken = [code for code in range(1, len(REASONS)) if whole[code] > 0.0]
    return FlagReport(
        total=float(1.0 - whole[0]),
        by_reason={name: float(whole[code]) for name, code in _CODE.items() if name not in NOT_OF_CROSS},
        autocorrelations=float(np.mean(~cross)),
        by_antenna=dict(zip(names, (1.0 - parts[:, 0]).tolist(), strict=True)),
        antenna_reasons={n: {REASONS[c]: float(p[c]) for c in taken} for n, p in zip(names, parts, strict=True)},
        by_channel=(1.0 - channels[:, 0]).tolist(),
        channel_reasons={REASONS[code]: channels[:, code].tolist() for code in taken},
        present_antennas=names,
        dead_antennas=[name for name, lost in zip(names, dead, strict=True) if lost.all()],
        half_dead_antennas=[name for name, lost in zip(names, dead, strict=True) if lost.any() and not lost.all()],
        waterfall=1.0 - _fractions(by_moment)[:, :, 0],
        reasons=reasons,
    )


def _fractions(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))


def _coded(which: NDArray[np.bool_], step: str) -> Reasons:
    return np.where(which, np.uint8(_CODE[step]), np.uint8(0))


def _antenna_fractions(vis: Visibilities, bad: NDArray[np.int64], rows: BaselineRows) -> NDArray[np.float64]:
    """Return the flagged fraction of each antenna's cross-correlations, (n_antenna, n_pol); 0 where it has no rows."""
    flagged, total = np.zeros((vis.n_antennas, bad.shape[1])), np.zeros(vis.n_antennas)
    for antenna in (rows.first, rows.second):
        np.add.at(flagged, antenna, bad)
        np.add.at(total, antenna, np.diff(rows.start) * vis.freq_hz.size)
    return np.asarray(flagged / np.maximum(total, 1.0)[:, None])


def _lost_rows(
    vis: Visibilities, rows: BaselineRows, bad: NDArray[np.int64], dead: NDArray[np.bool_], options: FlaggingOptions
) -> Reasons:
    """Return the reason for which a row is lost as a whole, (n_row,); 0 for none."""
    behind = shadowed(vis, options.shadow_m)
    moment = np.searchsorted(vis.times_mjd, vis.time_mjd)
    codes = _coded(behind[moment, vis.antenna1] | behind[moment, vis.antenna2], "shadowed")
    lost = np.asarray(dead.all(axis=1))
    codes[(codes == 0) & (lost[vis.antenna1] | lost[vis.antenna2])] = _CODE["dead_antennas"]
    n_time = np.diff(rows.start)
    fraction = bad / (n_time * vis.freq_hz.size)[:, None]
    half = (fraction > options.dead_fraction).any(axis=1) & (fraction < 1.0).any(axis=1)
    of_half = rows.order[np.repeat(half, n_time)]
    codes[of_half] = np.where(codes[of_half] == 0, _CODE["single_polarization"], codes[of_half])
    return codes


def _own(
    vis: Visibilities,
    reasons: Reasons,
    rows: BaselineRows,
    middles: NDArray[np.float32],
    options: FlaggingOptions,
) -> None:
    how = (options.interference_sigma, _CODE["interference"], _CODE["common_interference"])
    interference.search(vis, reasons, rows, middles, how)


def _aoflagger(
    vis: Visibilities,
    reasons: Reasons,
    _rows: BaselineRows,
    _middles: NDArray[np.float32],
    _options: FlaggingOptions,
) -> None:
    book(aoflagger.find_interference(vis, reasons != 0), reasons, "interference")


ENGINES = {"own": _own, "aoflagger": _aoflagger}
