"""A calibrator's tile with everything wrong at once: what is left is solved as well as its data allow."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.calibration.conftest import blank_tile

from dsa110_contimg.calibration.flagging import flag
from dsa110_contimg.calibration.problem import Prediction
from dsa110_contimg.calibration.reference import referenced
from dsa110_contimg.calibration.solve import solve_bandpass
from dsa110_contimg.options import CalibrationOptions, FlaggingOptions
from dsa110_contimg.simulation.interference import Geometry, draw_transmitters, inject
from dsa110_contimg.telescope import tangent_basis_itrs
from dsa110_contimg.visibilities import Gains, Visibilities

FLUX_JY, NOISE_JY = 16.0, 2.6
N_TIME, N_CHAN = 24, 768
SUBBAND = N_CHAN // 16
LOST_SUBBANDS = (3, 11)
SPARKS = 0.01
MakeGains = Callable[..., NDArray[np.complex128]]


@dataclass(frozen=True)
class Spoiled:
    """A tile, its true gains (n_antenna, n_chan, 2), what is wrong with it, and its interference in tenths of σ."""

    vis: Visibilities
    gains: NDArray[np.complex128]
    dead: NDArray[np.int64]
    half_dead: NDArray[np.int64]
    tenths: NDArray[np.uint8]


def spoiled_tile(n_ant: int, n_dead: int, n_half: int, gains: NDArray[np.complex128], transit: float) -> Spoiled:
    """Return 16 Jy at the center with a tenth of the samples under interference, dead antennas and lost subbands."""
    print("seed 61")
    rng = np.random.default_rng(61)
    vis = blank_tile(n_ant, N_TIME, N_CHAN, rng, transit)
    vis.antenna_itrf_m[:] += 3e6
    chosen = rng.permutation(n_ant)[: n_dead + n_half]
    dead, half = chosen[:n_dead], chosen[n_dead:]
    seen = gains.astype(np.complex64)
    # Of the dead antennas one half gives zeros and the other noise.
    mute = dead[: n_dead // 2]
    seen[dead] = 0.0
    level = (np.abs(gains) * np.sqrt(NOISE_JY)).astype(np.float32)
    moment = np.searchsorted(vis.times_mjd, vis.time_mjd)
    for now in range(N_TIME):
        rows = np.flatnonzero(moment == now)
        one, two = vis.antenna1[rows], vis.antenna2[rows]
        noise = rng.standard_normal((*vis.vis[rows].shape, 2), np.float32).view(np.complex64)[..., 0]
        vis.vis[rows] = np.float32(FLUX_JY) * seen[one] * np.conj(seen[two]) + noise * level[one] * level[two]
    center = tangent_basis_itrs(*vis.phase_center, np.array([vis.mid_mjd]))[0][2]
    geometry = Geometry(
        vis.antenna_itrf_m[:n_ant], center, vis.freq_hz, vis.channel_width_hz, vis.integration_s, N_TIME
    )
    counts = {"line": 40, "burst": 6, "broadband": 10, "satellite": 20}
    transmitters = draw_transmitters(geometry, counts, (2.0, 60.0), 61)
    truth = inject(vis.vis, (vis.antenna1, vis.antenna2, moment), level, geometry, transmitters, (SPARKS, 7.0, 61))
    vis.vis[np.isin(vis.antenna1, mute) | np.isin(vis.antenna2, mute)] = 0.0
    vis.vis[np.isin(vis.antenna1, half) | np.isin(vis.antenna2, half), :, 1] = 0.0
    for subband in LOST_SUBBANDS:
        vis.vis[:, subband * SUBBAND : (subband + 1) * SUBBAND] = 0.0
        vis.flags[:, subband * SUBBAND : (subband + 1) * SUBBAND] = True
    return Spoiled(vis, gains, dead, half, truth.tenths)


def bounds(tile: Spoiled, good: NDArray[np.int64], reference: int) -> NDArray[np.float64]:
    """Return the Cramér-Rao bound of the relative error of each gain, (n_good, n_chan, 2), from the clean samples.

    A baseline tells a_p + a_q of the logarithmic amplitudes and φ_p − φ_q of the phases, each with the information
    (S/σ)² of every clean sample. Infinite where there is none.
    """
    vis = tile.vis
    counts = np.zeros((vis.n_antennas, vis.n_antennas, N_CHAN, 2), np.float32)
    clean = tile.tenths < 10
    clean[:, [c for s in LOST_SUBBANDS for c in range(s * SUBBAND, (s + 1) * SUBBAND)]] = False
    per_time = clean.shape[0] // N_TIME
    summed = clean.reshape(N_TIME, per_time, N_CHAN, 2).sum(axis=0)
    first, second = vis.antenna1[:per_time], vis.antenna2[:per_time]
    cross = first != second
    counts[first[cross], second[cross]] = counts[second[cross], first[cross]] = summed[cross]
    power = counts[np.ix_(good, good)].transpose(2, 3, 0, 1) * (FLUX_JY / NOISE_JY) ** 2
    own = power.sum(axis=3)
    there = own.min(axis=2) > 0.0
    diagonal = own[..., None] * np.eye(good.size)
    place = int(np.flatnonzero(good == reference)[0])
    others = np.delete(np.arange(good.size), place)
    variance = np.full(own.shape, np.inf)
    amplitude = np.linalg.inv((diagonal + power)[there])
    phase = np.linalg.inv((diagonal - power)[there][:, others][:, :, others])
    found = np.diagonal(amplitude, axis1=1, axis2=2).copy()
    found[:, others] += np.diagonal(phase, axis1=1, axis2=2)
    variance[there] = found
    return np.sqrt(variance).transpose(2, 0, 1)


def product(k: Gains, bp: Gains) -> NDArray[np.complex128]:
    """Return the whole gain, (n_antenna, n_chan, n_pol); NaN where either is flagged."""
    turns = k.values[0].real * 1e-9 * (bp.freq_hz - k.freq_hz[0])[None, :, None]
    return np.asarray(bp.values[0] * np.exp(2j * np.pi * turns))


def check(tile: Spoiled, limit: float) -> None:
    """Flag, solve, and hold the rms error of every antenna against the bound."""
    vis = tile.vis
    share = (tile.tenths[vis.antenna1 != vis.antenna2] > 10).mean()
    print(f"interference above the noise in {share:.1%} of the samples")
    assert share == pytest.approx(0.1, abs=0.02)
    # Antennas at random places may stand in each other's way.
    report = flag(vis, FlaggingOptions(shadow_m=0.0))
    model = Prediction(np.full(vis.vis.shape[:2], FLUX_JY, np.complex64), 1, FLUX_JY)
    k, bp = solve_bandpass(vis, model, CalibrationOptions(), source="3C48", flux_anchor="3C48")
    reference = int(bp.reference_antenna) - 1
    good = np.setdiff1d(np.arange(len(tile.gains)), [*tile.dead, *tile.half_dead])
    assert reference in good
    others = good != reference
    bound = bounds(tile, good, reference)[others]
    want = referenced(tile.gains[None], reference)[0][good[others]]
    error = np.abs(product(k, bp)[good[others]] / want - 1.0) / bound
    there = np.isfinite(bound) & np.isfinite(error)
    by_antenna = np.sqrt((np.where(there, error, 0.0) ** 2).sum(axis=(1, 2)) / there.sum(axis=(1, 2)))
    print(f"flagged {report.total:.1%}; solved {there.sum() / np.isfinite(bound).sum():.2%} of what can be")
    print(f"rms error {np.sqrt((error[there] ** 2).mean()):.3f} of the bound, worst antenna {by_antenna.max():.3f}")
    assert by_antenna.max() < limit
    assert there.sum() > 0.97 * np.isfinite(bound).sum()
    for table in (k, bp):
        assert table.flags[0, [*tile.dead, *tile.half_dead]].all()
    for subband in LOST_SUBBANDS:
        assert bp.flags[:, :, subband * SUBBAND : (subband + 1) * SUBBAND].all()


def test_a_bad_tile_is_solved_as_well_as_its_clean_samples_allow(make_gains: MakeGains, transit: float) -> None:
    check(spoiled_tile(20, 2, 1, make_gains(20, N_CHAN, delays_ns=10.0), transit), 1.12)


@pytest.mark.slow
def test_the_whole_array_with_eight_dead_antennas_and_three_half_dead(make_gains: MakeGains, transit: float) -> None:
    check(spoiled_tile(96, 8, 3, make_gains(96, N_CHAN, delays_ns=10.0), transit), 1.2)
