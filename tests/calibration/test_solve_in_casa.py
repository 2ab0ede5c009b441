"""casatasks.bandpass and gaincal on the same set with the same model: the same gains."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.casa import casa, needs_casa

from dsa110_contimg.calibration.problem import Prediction
from dsa110_contimg.calibration.reference import referenced
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.formats import caltable, measurement_set
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Visibilities

N_ANT, N_TIME, N_CHAN = 12, 20, 48
FLUX_JY, NOISE_JY = 16.0, 2.6
REFERENCE = 2
OPTIONS = CalibrationOptions(reference_antenna=str(REFERENCE + 1))
MODEL = 'setjy(vis=ms, field="0", standard="manual", fluxdensity=[flux, 0, 0, 0], usescratch=False)\n'
BANDPASS = (
    "from casatasks import bandpass, setjy\n" + MODEL + "bandpass(vis=ms, caltable=table, refant=reference, "
    'solint="inf", minsnr=3.0, minblperant=4)\n'
)
GAINCAL = (
    "from casatasks import gaincal, setjy\n" + MODEL + "gaincal(vis=ms, caltable=table, refant=reference, "
    'solint="inf", minsnr=3.0, minblperant=4, calmode=mode)\n'
)
pytestmark = needs_casa


def calibrator(
    make_tile: Callable[..., Visibilities], gains: NDArray[np.complex128], *, seed: int = 21
) -> tuple[Visibilities, Prediction]:
    """Return raw visibilities of a calibrator at the center, with right weights, and its model."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    vis = make_tile(n_ant=N_ANT, n_time=N_TIME, n_chan=N_CHAN, noise_jy=0.0)
    noise = rng.normal(0.0, NOISE_JY, (*vis.vis.shape, 2))
    factor = gains[vis.antenna1] * np.conj(gains[vis.antenna2])
    vis.vis[:] = factor * (FLUX_JY + noise[..., 0] + 1j * noise[..., 1])
    vis.weights[:] = 1.0 / (np.abs(factor) ** 2).mean(axis=1) / NOISE_JY**2
    vis.flags[vis.antenna1 == vis.antenna2] = True
    # CASA averages the channels of a row for gaincal and then forgets how many were flagged, so that it loses accuracy
    # where they are flagged here and there: both sides get whole rows and whole channels.
    vis.flags[rng.random(vis.time_mjd.size) < 0.05] = True
    vis.flags[:, 20:23] = True
    return vis, Prediction(np.full(vis.vis.shape[:2], FLUX_JY, np.complex64), 1, FLUX_JY)


def in_casa(code: str, tmp_path: Path, vis: Visibilities, **values: str) -> NDArray[np.complex128]:
    """Run a solver of CASA and return its gains, phases referred to our reference, NaN where flagged."""
    ms = measurement_set.save(tmp_path / "tile.ms", vis)
    casa(code, ms=ms, table=tmp_path / "casa", flux=FLUX_JY, reference=str(REFERENCE + 1), **values)
    table = caltable.load(tmp_path / "casa")
    values_or_zero = np.where(table.flags, 0.0, table.values)[:, :N_ANT]
    turned = referenced(values_or_zero, REFERENCE)
    return np.where(turned == 0.0, np.nan, turned)


def distance(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> float:
    """Return the rms relative difference over antennas but the reference, (n_time, n_antenna, ...); NaN is left out."""
    there = np.isfinite(one) & np.isfinite(other)
    there[:, REFERENCE] = False
    return float(np.sqrt(np.mean(np.abs(one[there] / other[there] - 1.0) ** 2)))


def test_bandpasses_are_equal_within_a_tenth_of_their_noise(
    tmp_path: Path, make_tile: Callable[..., Visibilities], make_gains: Callable[..., NDArray[np.complex128]]
) -> None:
    truth = make_gains(N_ANT, N_CHAN, delays_ns=20.0)
    vis, model = calibrator(make_tile, truth)
    k, bp = solve_bandpass(vis, model, OPTIONS, source="3C286", flux_anchor="3C286")
    turns = k.values.real * 1e-9 * (bp.freq_hz - k.freq_hz[0])[None, None, :, None]
    ours = (bp.values * np.exp(2j * np.pi * turns))[:, :N_ANT]
    theirs = in_casa(BANDPASS, tmp_path, vis)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    want = referenced(truth[None], REFERENCE)
    ours_off, theirs_off = distance(ours, want), distance(theirs, want)
    between = distance(ours, theirs)
    print(f"to the truth: ours {ours_off:.5f}, CASA {theirs_off:.5f}; between them {between:.5f}")
    assert between < 0.1 * theirs_off
    assert ours_off < 1.05 * theirs_off


@pytest.mark.parametrize(("kind", "mode"), [("G", "ap"), ("GP", "p")])
def test_gains_are_equal_within_a_tenth_of_their_noise(
    kind: str, mode: str, tmp_path: Path, make_tile: Callable[..., Visibilities]
) -> None:
    rng = np.random.default_rng(4)
    size = rng.uniform(0.9, 1.1, (N_ANT, 1, 2)) if kind == "G" else 1.0
    truth = np.broadcast_to(size * np.exp(1j * rng.uniform(-3.0, 3.0, (N_ANT, 1, 2))), (N_ANT, N_CHAN, 2))
    vis, model = calibrator(make_tile, truth)
    ours = solve_gains(vis, model, OPTIONS, kind=kind, source="3C286", flux_anchor="3C286")  # type: ignore[arg-type]
    theirs = in_casa(GAINCAL, tmp_path, vis, mode=mode)
    between = distance(ours.values[:, :N_ANT], theirs)
    noise = distance(ours.values[:, :N_ANT], referenced(truth[None, :, :1], REFERENCE))
    print(f"to the truth {noise:.6f}, between them {between:.6f}")
    assert between < 0.1 * noise
