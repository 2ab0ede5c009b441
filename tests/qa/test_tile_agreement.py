"""Tiles that agree pass; a tile whose gains are off by five percent, or which is mirrored, does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dsa110_contimg.options import QAOptions
from dsa110_contimg.qa.checks import Verdict, verdict_of
from dsa110_contimg.qa.tile_agreement import TileFluxes, flux_agreement_check

SEED, N, NOISE = 5, 40, 0.001
OPTIONS = QAOptions()


@pytest.fixture
def strip() -> list[TileFluxes]:
    """Five tiles over one sky, whose catalogue is off by a tenth in each source; NaN where a source is not seen."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    truth = rng.pareto(1.2, N) * 0.08 + 0.06
    catalog = truth * rng.normal(1.0, 0.1, N)
    tiles = []
    for index in range(5):
        seen = np.abs(np.arange(N) - 8 * index - 4) < 16
        flux = np.where(seen, truth + rng.normal(0.0, NOISE, N), np.nan)
        tiles.append(TileFluxes(f"t{index}", flux, np.where(seen, NOISE, np.nan), np.where(seen, catalog, np.nan)))
    return tiles


def scaled(tile: TileFluxes, gain: float) -> TileFluxes:
    return replace(tile, flux_jy=gain * tile.flux_jy, flux_err_jy=gain * tile.flux_err_jy)


def mirrored(tile: TileFluxes) -> TileFluxes:
    """Nothing is where the catalogue says: noise at every position."""
    return replace(tile, flux_jy=np.random.default_rng(1).normal(0.0, NOISE, N) + 0.0 * tile.flux_jy)


def test_tiles_of_one_sky_agree_though_the_catalogue_is_off(strip: list[TileFluxes]) -> None:
    check = flux_agreement_check(strip, OPTIONS)
    assert check.verdict is Verdict.PASSED, check
    assert check.value == pytest.approx(1.0, abs=0.03)
    assert "4 of 4 pairs" in check.reason


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda tile: scaled(tile, 0.95), Verdict.WARNING),
        (lambda tile: scaled(tile, 1.05), Verdict.WARNING),
        (lambda tile: scaled(tile, 0.7), Verdict.FAILED),
        (mirrored, Verdict.FAILED),
    ],
    ids=["5 % low", "5 % high", "30 % low", "mirrored"],
)
@pytest.mark.parametrize("place", range(5))
def test_one_tile_that_is_off_is_found_wherever_it_lies(
    strip: list[TileFluxes], place: int, spoil: Callable[[TileFluxes], TileFluxes], verdict: Verdict
) -> None:
    strip[place] = spoil(strip[place])
    check = flux_agreement_check(strip, OPTIONS)
    assert check.verdict is verdict, check
    assert strip[place].name in check.reason


def test_the_limits_come_from_the_options(strip: list[TileFluxes]) -> None:
    strip[2] = scaled(strip[2], 0.9)
    lenient = QAOptions(flux_agreement_warning=0.15, flux_agreement_failure=0.3)
    strict = QAOptions(flux_agreement_failure=0.05)
    assert flux_agreement_check(strip, lenient).verdict is Verdict.PASSED
    assert flux_agreement_check(strip, strict).verdict is Verdict.FAILED


@pytest.mark.parametrize("n_tiles", [0, 1, 2])
def test_nothing_passes_where_nothing_is_shared(strip: list[TileFluxes], n_tiles: int) -> None:
    check = flux_agreement_check([strip[0], strip[4]][:n_tiles], OPTIONS)
    assert (check.verdict, check.value) == (Verdict.UNMEASURED, None)
    assert verdict_of([check]) is Verdict.WARNING


def test_faint_sources_cannot_judge(strip: list[TileFluxes]) -> None:
    """Many sources near ten sigma leave a ratio that is too uncertain for a limit of four percent."""
    faint = [replace(t, flux_err_jy=t.reference_jy / 11.0, flux_jy=t.reference_jy) for t in strip]
    check = flux_agreement_check(faint, OPTIONS)
    assert check.verdict is Verdict.UNMEASURED, check
