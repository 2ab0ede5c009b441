"""Measurement Sets that are not what they should be: one sentence with what was measured, from the command too."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from casacore import tables
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources
from typer.testing import CliRunner, Result

from dsa110_contimg.cli.image import image
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.visibilities import SkyPosition, Visibilities

Contimg = Callable[[Visibilities, list[str]], Result]
BRIGHT_JY = 300.0
"""Brighter than anything in the sky of the telescope but the Sun."""


def observed(n_antennas: int = 10) -> Visibilities:
    vis = replace(empty_tile(Tile(n_antennas=n_antennas, n_times=3)), aberration=1.0)
    add_noise(vis, 0.5, seed=4)
    return vis


@pytest.fixture
def contimg(tmp_path: Path) -> Contimg:
    """Save visibilities as a set and image it by the command."""

    def run(vis: Visibilities, further: list[str]) -> Result:
        command = typer.Typer()
        command.command()(image)
        path = measurement_set.save(tmp_path / "tile.ms", vis)
        if "--column" not in further:
            measurement_set.write_calibrated(path, vis)
        words = [str(path), "--out", str(tmp_path / "out"), "--size", "128", "--threads", "1", "--json"]
        return CliRunner().invoke(command, [*words, *further])

    return run


def all_flagged(vis: Visibilities) -> Visibilities:
    return replace(vis, flags=np.ones_like(vis.flags))


def no_weight(vis: Visibilities) -> Visibilities:
    return replace(vis, weights=np.zeros_like(vis.weights))


def one_baseline(vis: Visibilities) -> Visibilities:
    flags = vis.flags.copy()
    flags[(vis.antenna1 != 2) | (vis.antenna2 != 7)] = True
    return replace(vis, flags=flags)


def elsewhere(vis: Visibilities) -> Visibilities:
    return replace(vis, phase_center=SkyPosition(vis.phase_center.ra_deg, vis.phase_center.dec_deg - 3.0))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (all_flagged, "every visibility of synthetic is flagged, or without a weight: 135 rows of 8 channels"),
        (no_weight, "every visibility of synthetic is flagged, or without a weight: 135 rows of 8 channels"),
        (one_baseline, "synthetic has one baseline with unflagged data, of antennas 2 and 7"),
        (elsewhere, "deg from where the dishes looked"),
    ],
)
def test_a_set_of_which_no_image_can_be_made(
    contimg: Contimg, spoil: Callable[[Visibilities], Visibilities], says: str, tmp_path: Path
) -> None:
    ended = contimg(spoil(observed()), [])
    assert ended.exit_code == 1
    assert says in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "Traceback" not in ended.output
    assert not (tmp_path / "out").exists(), "nothing is left half-made"


def test_two_antennas_are_one_baseline(contimg: Contimg) -> None:
    ended = contimg(observed(n_antennas=2), [])
    assert ended.exit_code == 1
    assert "of antennas 0 and 1: no image can be made of fewer than 3 antennas" in ended.stderr


def test_a_set_without_corrected_data_says_what_is_imaged(tmp_path: Path, contimg: Contimg) -> None:
    command = typer.Typer()
    command.command()(image)
    path = measurement_set.save(tmp_path / "raw.ms", observed())
    words = [str(path), "--out", str(tmp_path), "--size", "128", "--niter", "0", "--threads", "1", "--json"]
    ended = CliRunner().invoke(command, words)
    assert ended.exit_code == 0, ended.output
    assert "raw.ms has no CORRECTED_DATA: its DATA are imaged as they are" in ended.stderr
    assert json.loads(ended.stdout)["column"] == "DATA"
    calibrated = contimg(observed(), ["--niter", "0"])
    assert json.loads(calibrated.stdout)["column"] == "CORRECTED_DATA"
    assert calibrated.stderr == ""
    missing = CliRunner().invoke(command, [*words, "--column", "MODEL_DATA"])
    assert missing.exit_code == 1
    assert "has no column MODEL_DATA" in missing.stderr


def test_a_set_that_is_calibrated_in_part_is_refused(tmp_path: Path) -> None:
    path = measurement_set.save(tmp_path / "half.ms", observed())
    with tables.table(str(path), readonly=False, ack=False) as table:
        table.addcols(tables.maketabdesc([tables.makearrcoldesc("CORRECTED_DATA", 0j, ndim=2, valuetype="complex")]))
        table.putcell("CORRECTED_DATA", 0, table.getcell("DATA", 0))
    command = typer.Typer()
    command.command()(image)
    ended = CliRunner().invoke(command, [str(path), "--out", str(tmp_path / "out")])
    assert ended.exit_code == 1
    assert "is calibrated in part only: calibrate it again" in ended.stderr


def test_a_source_outside_that_is_brighter_than_anything_is_reported_with_figures(
    contimg: Contimg, caplog: pytest.LogCaptureFixture
) -> None:
    vis = empty_tile(Tile(n_antennas=14, n_times=3, n_channels=48, channel_width_hz=187.5e6 / 48))
    vis = replace(vis, aberration=1.0)
    add_noise(vis, 0.5, seed=4)
    add_sources(vis, sources(vis, np.array([[1.3, -0.6]]), np.array([BRIGHT_JY])))
    ended = contimg(vis, ["--cell-arcsec", "7"])
    assert ended.exit_code == 0, ended.output
    (told,) = (record.getMessage() for record in caplog.records if "outside the image" in record.getMessage())
    print(told)
    figures = [float(word) for word in told.split() if word.replace(".", "").replace("e+", "").isdigit()]
    assert figures[0] > 3.0 * figures[1] > 0.0
    assert json.loads(ended.stdout)["noise_jy"] == pytest.approx(1e-3 * figures[0], rel=0.01)
