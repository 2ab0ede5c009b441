"""Bad tables fail by the number that is bad."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.quality import SolutionCheck, assess, phase_scatter_deg, worst
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import Gains, SkyModel, Visibilities

MakeTile = Callable[..., Visibilities]
MakeGains = Callable[..., NDArray[np.complex128]]
OPTIONS = CalibrationOptions()


@pytest.fixture(scope="module")
def tables(make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel) -> list[Gains]:
    vis = make_tile(make_gains(delays_ns=20.0))
    return solve_bandpass(vis, sky, OPTIONS, source="3C48", flux_anchor="3C48")


def by_name(checks: list[SolutionCheck]) -> dict[str, SolutionCheck]:
    return {check.name: check for check in checks}


def test_good_tables_pass_although_the_array_lacks_antennas(tables: list[Gains]) -> None:
    checks = assess(tables, OPTIONS)
    assert worst(checks) == "passed", [check for check in checks if check.verdict != "passed"]
    assert by_name(checks)["BP.flagged_fraction"].value == 0.0
    assert by_name(checks)["BP.median_snr"].value == pytest.approx(np.median(tables[1].snr[:, :14]))
    assert {check.name.split(".")[0] for check in checks} == {"K", "BP"}


def test_many_flags_fail(tables: list[Gains]) -> None:
    flags = tables[1].flags.copy()
    flags[:, :7] = True
    check = by_name(assess([replace(tables[1], flags=flags)], OPTIONS))["BP.flagged_fraction"]
    assert (check.value, check.verdict) == (0.5, "failed")
    assert check.failure == OPTIONS.max_flagged


def test_an_outlying_antenna_and_a_low_ratio_are_told(tables: list[Gains]) -> None:
    values = tables[1].values.copy()
    values[:, 2] *= 20.0
    checks = by_name(assess([replace(tables[1], values=values, snr=tables[1].snr * 0 + 5.0)], OPTIONS))
    assert checks["BP.amplitude_range"].verdict == "failed"
    assert checks["BP.median_snr"].verdict == "warning"
    assert checks["BP.flagged_fraction"].verdict == "passed"


def test_noise_in_phase_is_measured(tables: list[Gains]) -> None:
    rng = np.random.default_rng(6)
    values = np.exp(1j * np.radians(rng.normal(0.0, 12.0, (1, 40, 200, 2))))
    assert phase_scatter_deg(values) == pytest.approx(12.0, rel=0.05)
    rough = tables[1].values * np.exp(1j * rng.uniform(-np.pi, np.pi, tables[1].values.shape))
    assert by_name(assess([replace(tables[1], values=rough)], OPTIONS))["BP.phase_scatter_deg"].verdict == "failed"


def test_a_table_without_solutions_fails_and_invents_nothing(tables: list[Gains]) -> None:
    for table in tables:
        checks = assess([replace(table, flags=np.ones_like(table.flags))], OPTIONS)
        assert worst(checks) == "failed"
        told = {f"{table.kind}.{what}" for what in ("flagged_fraction", "source_offset_deg", "flux_anchor")}
        assert all(check.value is None for check in checks if check.name not in told)


def test_a_catalogue_anchor_is_a_warning(tables: list[Gains]) -> None:
    checks = assess([replace(tables[1], source="catalogue", flux_anchor="catalogue")], OPTIONS)
    assert worst(checks) == "warning"


def test_phases_of_one_interval_are_judged_by_their_polarizations(make_tile: MakeTile, sky: SkyModel) -> None:
    gp = solve_gains(make_tile(), sky, OPTIONS, kind="GP", source="3C48")
    check = by_name(assess([gp], OPTIONS))["GP.phase_scatter_deg"]
    assert check.verdict == "passed"
    assert check.value is not None
    assert check.value < 1.0


def bandpass(seed: int = 11, *, n_ant: int = 40, n_chan: int = 768, noise: float = 0.03) -> Gains:
    """Return a bandpass with ripple, subband edges and dips, as the telescope has, and noise of a realistic solve."""
    print(f"bandpass seed {seed}")
    rng = np.random.default_rng(seed)
    freq = np.linspace(1311.4e6, 1498.6e6, n_chan)
    edge = np.minimum(np.arange(n_chan) % 48, 47 - np.arange(n_chan) % 48)
    shape = 1.0 - 0.3 * np.exp(-edge / 1.5)
    for dip_mhz in (1350.0, 1395.0, 1405.0, 1422.0, 1475.0):
        shape = shape * (1.0 - 0.2 * np.exp(-(((freq / 1e6 - dip_mhz) / 0.8) ** 2)))
    ripple = rng.uniform(0.0, 6.28, (2, n_ant, 1, 2))
    turn = np.linspace(0.0, 1.0, n_chan)[:, None]
    amplitude = (
        0.068 * rng.uniform(0.8, 1.25, (n_ant, 1, 2)) * shape[:, None] * (1 + 0.1 * np.sin(ripple[0] + 9 * turn))
    )
    phase = rng.uniform(-np.pi, np.pi, (n_ant, 1, 2)) + 0.4 * np.sin(ripple[1] + 7 * turn)
    true = amplitude * np.exp(1j * phase)
    error = noise * np.abs(true)
    values = true + error / np.sqrt(2.0) * (rng.normal(size=true.shape) + 1j * rng.normal(size=true.shape))
    flags = np.zeros((1, n_ant, n_chan, 2), bool)
    flags[:, :, 100:148] = True
    values = np.where(flags, complex(np.nan, np.nan), values[None])
    return Gains(
        kind="BP",
        time_mjd=np.array([60700.0]),
        freq_hz=freq,
        values=values,
        flags=flags,
        snr=np.where(flags, 0.0, 1.0 / noise),
        reference_antenna="1",
        antenna_names=[str(i + 1) for i in range(n_ant)],
        antenna_itrf_m=np.zeros((n_ant, 3)),
        source="3C48",
        flux_anchor="3C48",
        dec_deg=33.2,
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_real_bandpass_with_its_edges_dips_and_a_lost_subband_passes(seed: int) -> None:
    for noise in (0.003, 0.03, 0.08):
        checks = by_name(assess([bandpass(seed, noise=noise)], OPTIONS))
        bad = {name: check for name, check in checks.items() if check.verdict != "passed"}
        assert not bad
    assert checks["BP.roughness"].value == pytest.approx(0.08 / np.sqrt(2.0), rel=0.1)


def verdicts(table: Gains) -> dict[str, str]:
    return {name: c.verdict for name, c in by_name(assess([table], OPTIONS)).items() if c.verdict != "passed"}


@pytest.mark.parametrize(("share", "verdict"), [(0.15, "warning"), (0.4, "failed")])
def test_noisy_antennas_are_named_and_many_of_them_fail_the_table(share: float, verdict: str) -> None:
    table = bandpass()
    rng = np.random.default_rng(5)
    n_bad = round(share * 40)
    values = table.values.copy()
    part = values[:, :n_bad]
    part += 0.25 * np.abs(part) * (rng.normal(size=part.shape) + 1j * rng.normal(size=part.shape))
    check = by_name(assess([replace(table, values=values)], OPTIONS))["BP.noisy_antennas"]
    assert check.value == pytest.approx(share, abs=0.05)
    assert check.verdict == verdict
    assert "antennas 1, 2, 3, 4, 5, 6" in check.reason


@pytest.mark.parametrize(("share", "verdict"), [(0.2, "warning"), (0.5, "failed")])
def test_jumps_of_phase_are_seen(share: float, verdict: str) -> None:
    """A subband of some antennas is off by 90 deg, as after a correlator node was started anew."""
    table = bandpass()
    values = table.values.copy()
    values[:, : round(share * 40), 480:] *= 1j
    assert verdicts(replace(table, values=values)) == {"BP.phase_jumps": verdict}


@pytest.mark.parametrize(("share", "verdict"), [(0.02, "warning"), (0.1, "failed")])
def test_interference_in_the_bandpass_is_seen(share: float, verdict: str) -> None:
    table = bandpass()
    rng = np.random.default_rng(7)
    values = table.values.copy()
    lines = rng.choice(768, round(share * 768), replace=False)
    values[:, :, lines] *= rng.uniform(1.5, 8.0, lines.size)[None, None, :, None]
    found = verdicts(replace(table, values=values))
    assert found["BP.interference"] == verdict
    assert set(found) <= {"BP.interference", "BP.phase_jumps", "BP.noisy_antennas", "BP.roughness"}


def test_a_rough_bandpass_fails() -> None:
    found = verdicts(bandpass(noise=0.5))
    assert found["BP.roughness"] == "failed"
    assert found["BP.median_snr"] == "failed"


def test_the_table_of_another_strip_fails() -> None:
    """No strip 17 degrees away sees 3C48: what says so is wrong about its strip or its calibrator."""
    assert verdicts(replace(bandpass(), dec_deg=16.1)) == {"BP.source_offset_deg": "failed"}
    assert verdicts(replace(bandpass(), dec_deg=35.0)) == {"BP.source_offset_deg": "warning"}


@pytest.mark.parametrize(("factor", "verdict"), [(1.5, "warning"), (2.5, "failed"), (0.4, "failed")])
def test_an_antenna_whose_gain_is_off_is_seen(factor: float, verdict: str, make_tile: MakeTile, sky: SkyModel) -> None:
    """Antenna 5 of the calibrator's tile has another gain than its bandpass says."""
    gains = np.ones((14, 1, 2), complex)
    gains[4] = factor
    g = solve_gains(make_tile(gains), sky, OPTIONS, kind="G", source="3C48", flux_anchor="3C48")
    check = by_name(assess([g], OPTIONS))["G.amplitude_range"]
    assert check.verdict == verdict
    assert check.value == pytest.approx(max(factor, 1.0 / factor), rel=0.05)


def test_a_slow_anchor_is_recorded_with_its_systematic_error() -> None:
    slow, steady = (by_name(assess([replace(bandpass(), flux_anchor=name)], OPTIONS)) for name in ("3C48", "3C286"))
    assert (slow["BP.flux_anchor"].value, steady["BP.flux_anchor"].value) == (0.03, 0.0)


def noisy(vis: Visibilities, rng: np.random.Generator) -> None:
    """Make the receivers of four antennas eighty times as noisy as the others: their gains by ten degrees a channel."""
    rows = (vis.antenna1 < 4) | (vis.antenna2 < 4)
    shape = vis.vis[rows].shape
    vis.vis[rows] += 0.005 * 40.0 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))


def jumped(vis: Visibilities, _rng: np.random.Generator) -> None:
    """Turn the upper half of the band of five antennas by 90 degrees."""
    for antenna, turn in ((vis.antenna1, 1j), (vis.antenna2, -1j)):
        vis.vis[antenna < 5, 16:] *= turn


def disturbed(vis: Visibilities, _rng: np.random.Generator) -> None:
    """Put a transmitter that all antennas hear into two of 32 channels."""
    vis.vis[:, 10:12] += 0.6


DEFECTS = {"noisy_antennas": noisy, "phase_jumps": jumped, "interference": disturbed}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_the_data_shows_in_the_check_of_its_name(
    defect: str, make_tile: MakeTile, make_gains: MakeGains, sky: SkyModel
) -> None:
    vis = make_tile(make_gains(delays_ns=20.0))
    print("seed 12")
    DEFECTS[defect](vis, np.random.default_rng(12))
    tables = solve_bandpass(vis, sky, OPTIONS, source="3C48", flux_anchor="3C48")
    found = {check.name: check.verdict for check in assess(tables, OPTIONS) if check.verdict != "passed"}
    print(found)
    assert found.get(f"BP.{defect}") == "failed"


def test_delays_that_no_cable_has_and_amplitudes_of_no_array_fail(tables: list[Gains]) -> None:
    far = tables[0].values.copy()
    far[:, 3] = 1800.0
    assert by_name(assess([replace(tables[0], values=far)], OPTIONS))["K.largest_delay_ns"].verdict == "failed"
    uneven = tables[1].values * np.resize([0.2, 1.0, 3.0], tables[1].values.shape[1])[:, None, None]
    assert by_name(assess([replace(tables[1], values=uneven)], OPTIONS))["BP.amplitude_scatter"].verdict == "failed"
