"""`contimg flags`: what it reports is what is in the set, and a restored step is what it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from dsa110_contimg.calibration.flagging import REASONS, FlagReport, book, flag
from dsa110_contimg.cli.main import app
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import flag_history, measurement_set
from dsa110_contimg.options import FlaggingOptions
from dsa110_contimg.visibilities import Visibilities

MakeTile = Callable[..., Visibilities]


def contimg(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def flagged(make_tile: MakeTile, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Visibilities, FlagReport]:
    """A set on disk with a dead antenna, a carrier, and samples without a solution."""
    vis = make_tile(n_ant=8, n_time=24, n_chan=48, noise_jy=1.0, seed=31)
    dead = (vis.antenna1 == 2) | (vis.antenna2 == 2)
    vis.vis[dead] = 0.0
    vis.vis[~dead, 20] += (
        60.0 * np.exp(2j * np.pi * np.random.default_rng(31).random((int((~dead).sum()), 2)))
    ).astype(np.complex64)
    report = flag(vis, FlaggingOptions())
    vis.flags[:, 5] = True
    book(vis.flags, report.reasons, "calibration")
    path = measurement_set.save(tmp_path_factory.mktemp("flags") / "tile.ms", vis)
    flag_history.save(path, report.reasons, REASONS)
    return path, vis, report


def test_the_report_says_who_lost_how_much_and_why(
    flagged: tuple[Path, Visibilities, FlagReport], tmp_path: Path
) -> None:
    path, vis, _report = flagged
    out = tmp_path / "flags.png"
    report = json.loads(contimg("flags", "report", str(path), "--json", "--out", str(out)))
    cross = vis.antenna1 != vis.antenna2
    assert report["total"] == pytest.approx(vis.flags[cross].mean())
    assert report["dead_antennas"] == ["3"]
    assert report["by_antenna"]["3"] == 1.0
    assert sum(report["by_reason"].values()) == pytest.approx(report["total"])
    assert report["antenna_reasons"]["1"]["calibration"] == pytest.approx(6 / 7 / 48, rel=0.05)
    np.testing.assert_allclose(report["by_channel"], vis.flags[cross].mean(axis=(0, 2)))
    picture = imread(out)
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.1
    text = contimg("flags", "report", str(path))
    assert "dead: 3" in text
    assert "interference" in text


def test_steps_are_listed_and_restored(flagged: tuple[Path, Visibilities, FlagReport]) -> None:
    path, vis, report = flagged
    steps = json.loads(contimg("flags", "list", str(path), "--json"))
    assert [step["step"] for step in steps if step["in_flag_column"]] == ["calibration"]
    assert steps[-1]["flagged"] == pytest.approx(vis.flags.mean())
    assert "empty" in contimg("flags", "restore", str(path), "--step", "empty")
    np.testing.assert_array_equal(
        measurement_set.load(path, "DATA").flags, (report.reasons > 0) & (report.reasons <= REASONS.index("empty"))
    )
    steps = json.loads(contimg("flags", "list", str(path), "--json"))
    assert [step["step"] for step in steps if step["in_flag_column"]] == ["empty"]
    contimg("flags", "restore", str(path), "--step", "calibration")
    np.testing.assert_array_equal(measurement_set.load(path, "DATA").flags, vis.flags)


def test_a_history_of_another_set_is_refused(flagged: tuple[Path, Visibilities, FlagReport], tmp_path: Path) -> None:
    path, vis, _report = flagged
    other = Path(shutil.copytree(path, tmp_path / "other.ms"))
    flag_history.save(other, np.zeros((3, 4, 2), np.uint8), REASONS)
    for words in (["report", str(other)], ["restore", str(other), "--step", "empty"]):
        with pytest.raises(BadInputError, match="another set"):
            contimg("flags", *words)
    flag_history.history_path(other).unlink()
    with pytest.raises(BadInputError, match="no history"):
        contimg("flags", "list", str(other))
    np.testing.assert_array_equal(measurement_set.load(other, "DATA").flags, vis.flags)
