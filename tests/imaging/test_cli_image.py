"""`contimg image`: flags from the options, files, figures and errors in one sentence."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.imaging.synthetic import Tile, add_sources, empty_tile, sources
from typer.testing import CliRunner

from dsa110_contimg.cli.image import image
from dsa110_contimg.cli.options import flags_from
from dsa110_contimg.formats import fits_image, measurement_set
from dsa110_contimg.options import ImagingOptions, option

RUNNER = CliRunner()


def app() -> typer.Typer:
    command = typer.Typer()
    command.command()(image)
    return command


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    vis = replace(empty_tile(Tile(n_antennas=10, n_times=3)), aberration=1.0)
    add_sources(vis, sources(vis, np.array([[0.1, 0.2]]), np.array([2.0])))
    return measurement_set.save(tmp_path / "tile.ms", vis)


def test_a_set_becomes_files_and_figures(tile: Path, tmp_path: Path) -> None:
    arguments = [str(tile), "--out", str(tmp_path / "out"), "--size", "256", "--cell-arcsec", "10", "--json"]
    result = RUNNER.invoke(app(), [*arguments, "--column", "DATA", "--threads", "1", "--niter", "300"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert set(figures["files"]) == {"image", "pbcor", "residual", "beam", "rms", "background", "psf"}
    saved = fits_image.load(Path(figures["files"]["image"]))
    assert saved.data.shape == (256, 256)
    assert float(saved.data.max()) == pytest.approx(figures["peak_jy"], rel=1e-6)
    assert figures["peak_jy"] == pytest.approx(2.0, rel=0.05)
    assert saved.beam is not None
    assert saved.beam.major_arcsec == pytest.approx(figures["beam_major_arcsec"])


def test_a_table_for_people(tile: Path, tmp_path: Path) -> None:
    arguments = [str(tile), "-o", str(tmp_path), "--size", "128", "--column", "DATA", "--niter", "10"]
    result = RUNNER.invoke(app(), arguments)
    assert result.exit_code == 0, result.output
    assert "noise_jy" in result.stdout
    assert "-image.fits" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nowhere.ms"], "is not a Measurement Set"), (["TILE", "--size", "33"], "size must be even")],
)
def test_bad_input_is_one_sentence(tile: Path, arguments: list[str], says: str) -> None:
    result = RUNNER.invoke(app(), [str(tile) if word == "TILE" else word for word in arguments])
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_every_option_has_a_flag_with_its_sentence() -> None:
    help_text = RUNNER.invoke(app(), ["--help"], terminal_width=400, env={"COLUMNS": "400"}).stdout
    for item in fields(ImagingOptions):
        assert "--" + item.name.replace("_", "-") in help_text
    assert "Briggs robustness" in help_text
    assert "Example: contimg image" in help_text


@dataclass(frozen=True, kw_only=True)
class SmallOptions:
    count: int = option(3, "How many.")
    loud: bool = option(True, "Whether to shout.")


def test_flags_fill_the_options_object() -> None:
    seen: list[tuple[str, SmallOptions]] = []

    @flags_from(SmallOptions)
    def command(name: str, *, options: SmallOptions) -> None:
        seen.append((name, options))

    tiny = typer.Typer()
    tiny.command()(command)
    assert RUNNER.invoke(tiny, ["a", "--count", "7", "--no-loud"]).exit_code == 0
    assert RUNNER.invoke(tiny, ["b"]).exit_code == 0
    assert seen == [("a", SmallOptions(count=7, loud=False)), ("b", SmallOptions())]
    assert RUNNER.invoke(tiny, ["c", "--count", "many"]).exit_code == 2


def test_a_command_without_a_place_for_its_options_is_refused() -> None:
    def command(name: str) -> None:
        """Take no options."""

    with pytest.raises(TypeError, match="no parameter 'options'"):
        flags_from(SmallOptions)(command)
