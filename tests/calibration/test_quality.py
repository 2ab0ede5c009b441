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
        assert all(check.value is None for check in checks if check.name != f"{table.kind}.flagged_fraction")


def test_a_catalogue_anchor_is_a_warning(tables: list[Gains]) -> None:
    checks = assess([replace(tables[1], source="catalogue", flux_anchor="catalogue")], OPTIONS)
    assert worst(checks) == "warning"


def test_phases_of_one_interval_are_judged_by_their_polarizations(make_tile: MakeTile, sky: SkyModel) -> None:
    gp = solve_gains(make_tile(), sky, OPTIONS, kind="GP", source="3C48")
    check = by_name(assess([gp], OPTIONS))["GP.phase_scatter_deg"]
    assert check.verdict == "passed"
    assert check.value is not None
    assert check.value < 1.0
