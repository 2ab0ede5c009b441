"""The page of a table shows each antenna's own solutions, and says what is missing."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.qa.checks import Check, Verdict
from dsa110_contimg.qa.solution_plots import COLUMNS, solutions_page
from dsa110_contimg.visibilities import Gains

N_ANT, N_CHAN = 30, 96
CHECKS = [Check("BP.median_snr", 33.0, 10.0, 3.0, Verdict.PASSED, "33 is within 10")]


def table(kind: str = "BP", n_time: int = 1) -> Gains:
    rng = np.random.default_rng(2)
    shape = (n_time, N_ANT, N_CHAN if kind == "BP" else 1, 2)
    values = rng.uniform(0.9, 1.1, shape) * np.exp(0.2j * rng.normal(size=shape))
    return Gains(
        kind=kind,
        time_mjd=60700.0 + np.arange(n_time) / 1440.0,
        freq_hz=np.linspace(1311e6, 1499e6, shape[2]),
        values=np.abs(values).astype(complex) if kind == "K" else values,
        flags=np.zeros(shape, bool),
        snr=rng.uniform(20.0, 40.0, shape),
        reference_antenna="1",
        antenna_names=[str(i + 1) for i in range(N_ANT)],
        antenna_itrf_m=np.zeros((N_ANT, 3)),
        source="3C48",
        flux_anchor="3C48",
        dec_deg=33.2,
    )


def drawn(path: Path, gains: Gains, checks: list[Check] | None = None) -> NDArray[np.float32]:
    page = solutions_page(path, gains, checks or [], present=range(N_ANT), title="a table")
    assert page == path
    return np.asarray(matplotlib.image.imread(page))


@pytest.mark.parametrize(("kind", "n_time"), [("K", 1), ("BP", 1), ("G", 1), ("GP", 1), ("2G", 5)])
def test_every_kind_has_a_page_with_both_polarizations(kind: str, n_time: int, tmp_path: Path) -> None:
    picture = drawn(tmp_path / "page.png", table(kind, n_time), CHECKS)[..., :3]
    assert picture.shape[1] == 1500
    for color in ((0x2B, 0x6C, 0xB0), (0xD9, 0x82, 0x2B)):
        near = np.abs(picture - np.array(color) / 255.0).max(axis=-1) < 0.25
        assert near.sum() > 200, f"{kind} shows no {color}"


@pytest.mark.parametrize("antenna", [0, 11, 17, 29])
def test_a_change_of_one_antenna_shows_in_its_cell_and_in_no_other(antenna: int, tmp_path: Path) -> None:
    """Each cell is one antenna's: drawing one of them in all cells would look just as tidy."""
    good = table()
    values = good.values.copy()
    values[:, antenna] *= 1j
    before, after = (drawn(tmp_path / "page.png", gains) for gains in (good, replace(good, values=values)))
    y, x = np.nonzero(np.abs(before - after).max(axis=-1) > 0.05)
    assert y.size > 50
    width = 0.94 * before.shape[1] / COLUMNS
    cell = 0.03 * before.shape[1] + width * (antenna % COLUMNS)
    assert cell - 2 <= x.min() <= x.max() <= cell + width + 2
    assert y.max() - y.min() < 60, "the phases of one row of cells"


def test_a_table_without_solutions_still_has_a_page(tmp_path: Path) -> None:
    for kind in ("BP", "GP"):
        empty = table(kind)
        lost = replace(empty, flags=np.ones_like(empty.flags))
        picture = drawn(tmp_path / f"{kind}.png", lost, CHECKS)
        assert np.isfinite(picture).all()
    assert solutions_page(tmp_path / "none.png", table(), CHECKS, present=[]).exists()
