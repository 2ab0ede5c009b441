"""Injected sources through tiles and a mosaic: right fluxes pass, gains 5 % off fail; the command's page and files.

The sky is bright and small so that a few seconds tell something: the full range of fluxes is `contimg report truth`.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.imaging import synthetic
from tests.imaging.synthetic import Tile, add_noise, empty_tile

from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import ImagingOptions, QAOptions
from dsa110_contimg.pipeline import injection
from dsa110_contimg.pipeline.blank_tiles import BlankOptions, simulate_blank_tiles
from dsa110_contimg.pipeline.injection import InjectionOptions, InjectionReport, run_injection
from dsa110_contimg.qa.checks import Check, Verdict
from dsa110_contimg.simulation.injection import inject
from dsa110_contimg.visibilities import SkyModel, Visibilities

BLANK = BlankOptions(tiles=1, antennas=8, channels=2, integrations=2, seed=6)
SMALL = Tile(n_antennas=26, n_times=6, n_channels=16, extent_m=420.0, channel_width_hz=187.5e6 / 16)
NOISE_JY = 0.35
# The image reaches to where the beam is 0.15, so that no source outside of it leaves its sidelobes inside.
IMAGING = ImagingOptions(size=720, cell_arcsec=16.0, threads=1, smearing=False)
INJECTED = InjectionOptions(sources=90, faintest_mjy=10.0, brightest_jy=1.0, separation_beams=3.0, smear=False)
Load = Callable[[], Visibilities]


def noise_alone(number: int) -> Visibilities:
    """Return a tile of noise; each begins when the one before it ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "MID_MJD", synthetic.MID_MJD + number * 309.24 / 86400.0)
        vis = empty_tile(SMALL)
    add_noise(vis, NOISE_JY, 7 + number)
    return vis


@pytest.fixture(scope="module")
def tiles() -> list[Load]:
    return [partial(noise_alone, number) for number in range(2)]


@pytest.fixture(scope="module")
def report(tiles: list[Load]) -> InjectionReport:
    return run_injection(tiles, IMAGING, INJECTED, blank=True)


def by_name(report: InjectionReport) -> dict[str, Check]:
    return {check.name: check for check in report.checks(QAOptions())}


def test_fluxes_come_back(report: InjectionReport) -> None:
    checks = by_name(report)
    for check in checks.values():
        print(check.name, check.verdict.value, check.reason)
    for kind in ("tile", "mosaic"):
        for figure in ("flux", "completeness", "reliability"):
            assert checks[f"{kind}_{figure}"].verdict is Verdict.PASSED, checks[f"{kind}_{figure}"]


def test_both_images_know_every_source(report: InjectionReport) -> None:
    assert [rows.image for rows, _found in report.tiles] == ["tile 1", "tile 2"]
    assert report.mosaic is not None
    for rows, _found in (*report.tiles, report.mosaic):
        assert 30 < rows.true_jy.size <= 90
        assert rows.true_jy.size == rows.flux_jy.size == rows.found.size == rows.distance_deg.size
        assert np.all((rows.response > 0.0) & (rows.response < 1.01))
    assert report.mosaic.sources.true_jy.size > report.tiles[0].sources.true_jy.size, "the mosaic is wider than a tile"


def test_gains_5_percent_off_fail(tiles: list[Load], monkeypatch: pytest.MonkeyPatch) -> None:
    """The antennas' gains stand 5 % too low in calibration: what is injected appears 10 % brighter."""

    def wrong(vis: Visibilities, sky: SkyModel, *, smear: bool) -> None:
        inject(vis, sky, smear=smear)
        vis.vis *= np.float32(1.05**2)

    monkeypatch.setattr(injection, "inject", wrong)
    check = by_name(run_injection(tiles[:1], IMAGING, INJECTED, blank=True))["tile_flux"]
    assert check.verdict is Verdict.FAILED
    assert check.value == pytest.approx(1.05**2, abs=0.02)


def test_what_is_there_already_is_no_false_detection(tiles: list[Load]) -> None:
    """A tile with sources of its own: nothing is put near them, and they are not held against the reliability."""

    def with_its_own() -> Visibilities:
        vis = tiles[0]()
        east = np.array([0.2, -0.3, 0.05]) / np.cos(np.radians(vis.phase_center.dec_deg))
        own = SkyModel(
            ["a", "b", "c"],
            vis.phase_center.ra_deg + east,
            vis.phase_center.dec_deg + np.array([0.3, 0.1, -0.4]),
            np.array([0.3, 0.2, 0.25]),
            np.zeros((3, 1)),
        )
        inject(vis, own, smear=False)
        return vis

    made = run_injection([with_its_own], IMAGING, INJECTED)
    found = made.tiles[0].detections
    assert found.real[found.response > 0.3].mean() > 0.9
    assert by_name(made)["tile_flux"].verdict is Verdict.PASSED
    assert made.mosaic is None


def calibrated(folder: Path, load: Load, number: int) -> Path:
    vis = load()
    path = measurement_set.save(folder / f"tile{number}.ms", vis)
    measurement_set.write_calibrated(path, vis)
    return path


def test_the_command_writes_page_and_figures(tiles: list[Load], tmp_path: Path) -> None:
    sets = [str(calibrated(tmp_path, load, number)) for number, load in enumerate(tiles[:1])]
    words = ["--size", "720", "--cell-arcsec", "16", "--threads", "1", "--sources", "40", "--faintest-mjy", "10"]
    words += ["--brightest-jy", "1", "--separation-beams", "3", "--no-smear", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["report", "truth", *sets, *words, "--json"])
    figures = json.loads(done.stdout)
    verdicts = {check["name"]: check["verdict"] for check in figures["checks"]}
    assert done.exit_code == int("failed" in verdicts.values())
    assert set(verdicts) == {
        f"tile_{name}"
        for name in ("flux", "flux_scatter", "flux_errors", "position_scatter", "completeness", "reliability")
    }
    stored = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert [image["image"] for image in stored["images"]] == ["tile 1"]
    assert len(stored["images"][0]["true_jy"]) == len(stored["images"][0]["flux_jy"]) > 10
    assert (tmp_path / "out" / "truth.png").stat().st_size > 50_000


def test_a_set_that_is_not_calibrated_is_refused(tiles: list[Load], tmp_path: Path) -> None:
    path = measurement_set.save(tmp_path / "raw.ms", tiles[0]())
    done = CliRunner().invoke(app, ["report", "truth", str(path), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, BadInputError)
    assert "has no CORRECTED_DATA: calibrate it" in str(done.exception)


def test_simulated_tiles_are_noise_alone(tmp_path: Path) -> None:
    (load,) = simulate_blank_tiles(tmp_path, BLANK)
    vis = load()
    cross = vis.antenna1 != vis.antenna2
    expected = 6500.0 / np.sqrt(2.0 * vis.channel_width_hz * vis.integration_s)
    assert vis.vis[cross].real.std() == pytest.approx(expected, rel=0.05)
    assert np.array_equal(load().vis, vis.vis), "read anew each time"
