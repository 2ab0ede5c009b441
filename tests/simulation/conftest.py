"""One small observation, simulated once and read by many tests."""

from pathlib import Path

import pytest

from dsa110_contimg.simulation import SimulationOptions, Truth, simulate

SMALL = SimulationOptions(
    antennas=12,
    channels=6,
    integrations=4,
    tiles=2,
    subbands=(0, 1, 15),
    transit="3C48",
    min_flux_jy=0.05,
    missing_subbands=("1:1",),
    dead_stations=(28,),
    single_pol_stations=(114,),
    ese="auto",
    control="auto",
    days=(0, 7),
    seed=11,
)


@pytest.fixture(scope="session")
def observation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("observation")
    return folder, simulate(folder, SMALL)
