"""WSClean as an engine: the same fluxes, beam and noise as our own, errors in one sentence, the printed comparison."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources
from typer.testing import CliRunner

from dsa110_contimg.cli.image import image as image_command
from dsa110_contimg.errors import ConfigurationError, ImagingError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.imaging.image import ImagingResult
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities

OPTIONS = ImagingOptions(size=480, cell_arcsec=12.0, threads=1, smearing=False)
OFFSETS_DEG = np.array([[0.31, 0.22], [-0.42, 0.11], [0.12, -0.47], [-0.18, -0.26]])
FLUX_JY = np.array([2.0, 0.12, 0.2, 0.1])
needs_wsclean = pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")


@pytest.fixture(scope="module")
def tile() -> tuple[Visibilities, SkyModel]:
    vis = empty_tile(Tile(n_antennas=16, n_times=4))
    sky = sources(vis, OFFSETS_DEG, FLUX_JY)
    add_sources(vis, sky)
    add_noise(vis, 0.05, 5)
    return vis, sky


@pytest.fixture(scope="module")
def both(tile: tuple[Visibilities, SkyModel]) -> dict[str, ImagingResult]:
    vis, sky = tile
    return {engine: make_image(vis, replace(OPTIONS, engine=engine), bright=sky) for engine in ("own", "wsclean")}


@needs_wsclean
def test_an_engine_makes_the_same_tile(both: dict[str, ImagingResult], tile: tuple[Visibilities, SkyModel]) -> None:
    own, other = both["own"], both["wsclean"]
    for index in range(len(FLUX_JY)):
        one, two = (peak_near(made.image, tile[1], index) for made in (own, other))
        assert two.flux_jy == pytest.approx(one.flux_jy, rel=0.02)
        assert np.hypot(one.dx - two.dx, one.dy - two.dy) < 0.05
    ratio = other.summary.noise_jy / own.summary.noise_jy
    print(f"noise, WSClean's over ours: {ratio:.3f}")
    assert ratio == pytest.approx(1.0, abs=0.15), "WSClean stops a little earlier with the same thresholds"
    assert other.summary.beam.major_arcsec == pytest.approx(own.summary.beam.major_arcsec, rel=0.03)
    assert other.summary.beam.minor_arcsec == pytest.approx(own.summary.beam.minor_arcsec, rel=0.03)


@needs_wsclean
def test_an_engine_fills_what_the_rows_take(both: dict[str, ImagingResult]) -> None:
    own, other = both["own"], both["wsclean"]
    for kind in ("image", "pbcor", "residual", "beam", "psf", "model", "dirty"):
        one, two = getattr(own, kind), getattr(other, kind)
        assert two.data.shape == one.data.shape, kind
        assert (two.kind, two.unit, two.center, two.cell_deg) == (one.kind, one.unit, one.center, one.cell_deg)
        assert two.freq_hz == one.freq_hz
    assert other.image.header["ENGINE"] == "wsclean"
    assert other.summary.iterations > 10
    assert 1 <= other.summary.major_cycles <= OPTIONS.max_major
    assert other.summary.reached_threshold
    assert other.summary.bright is not None, "the bright source goes through the drifting beam with either engine"


@needs_wsclean
def test_the_visibilities_stay_as_they_were(tile: tuple[Visibilities, SkyModel]) -> None:
    vis, sky = tile
    before = vis.vis.copy()
    make_image(vis, replace(OPTIONS, engine="wsclean", niter=5), bright=sky)
    assert np.array_equal(vis.vis, before)


def test_a_missing_program_is_one_sentence(
    tile: tuple[Visibilities, SkyModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="wsclean is not installed"):
        make_image(tile[0], replace(OPTIONS, engine="wsclean"))
    with pytest.raises(ConfigurationError, match="no imaging engine 'tclean': choose own or wsclean"):
        make_image(tile[0], replace(OPTIONS, engine="tclean"))


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program named wsclean before all others."""
    program = folder / "wsclean"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_program_that_fails_is_quoted(
    tile: tuple[Visibilities, SkyModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(tmp_path, monkeypatch, "echo 'out of luck' >&2; exit 3")
    with pytest.raises(ImagingError, match="wsclean failed on synthetic: out of luck"):
        make_image(tile[0], replace(OPTIONS, engine="wsclean"))
    pretend(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(ImagingError, match=r"wsclean left no w-image\.fits"):
        make_image(tile[0], replace(OPTIONS, engine="wsclean"))


def test_settings_are_told(
    tile: tuple[Visibilities, SkyModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/told; exit 1')
    with pytest.raises(ImagingError):
        make_image(tile[0], replace(OPTIONS, engine="wsclean", robust=-0.25, niter=77, auto_mask=4.0))
    told = (tmp_path / "told").read_text()
    for words in ("-size 480 480", "-scale 1", "-weight briggs -0.25", "-niter 77", "-auto-mask 4.0", "-j 1"):
        assert words in told, told
    assert "scratch.ms" in told
    with pytest.raises(ImagingError):
        make_image(tile[0], replace(OPTIONS, engine="wsclean", weighting="natural"))
    assert "-weight natural" in (tmp_path / "told").read_text()
    changed = replace(OPTIONS, engine="wsclean", taper_arcsec=90.0, uv_min_wavelengths=300.0, uv_max_wavelengths=4e3)
    with pytest.raises(ImagingError):
        make_image(tile[0], changed)
    assert "-taper-gaussian 90asec -minuv-l 300.0 -maxuv-l 4000.0" in (tmp_path / "told").read_text()
    with pytest.raises(ImagingError):
        make_image(tile[0], replace(OPTIONS, engine="wsclean", mask="catalog"), bright=tile[1])
    assert "mask.fits" in (tmp_path / "told").read_text()


@needs_wsclean
def test_the_comparison_is_printed(tmp_path: Path) -> None:
    vis = empty_tile(Tile(n_antennas=16, n_times=4))
    add_sources(vis, sources(vis, OFFSETS_DEG[1:], FLUX_JY[1:]))
    add_noise(vis, 0.05, 5)
    path = measurement_set.save(tmp_path / "tile.ms", vis)
    command = typer.Typer()
    command.command()(image_command)
    words = [str(path), "--out", str(tmp_path), "--size", "480", "--cell-arcsec", "12", "--column", "DATA"]
    made = CliRunner().invoke(command, [*words, "--threads", "1", "--compare", "wsclean", "--json"])
    assert made.exit_code == 0, made.output
    compared = json.loads(made.stdout)["comparison"]
    assert (compared["first"]["engine"], compared["second"]["engine"]) == ("own", "wsclean")
    summary = compared["summary"]
    assert summary["n_sources"] == 3
    assert summary["flux_ratio_median"] == pytest.approx(1.0, abs=0.02)
    assert summary["beam_major_ratio"] == pytest.approx(1.0, abs=0.03)
    assert compared["sources"][0]["first_jy"] == pytest.approx(0.18, rel=0.05)
    few = [*words, "--threads", "1", "--niter", "40", "--compare", "wsclean"]
    table = CliRunner().invoke(command, few, env={"COLUMNS": "120"})
    assert "wsclean/own" in table.stdout
    assert "beam, major axis" in table.stdout
    assert "isolated sources: flux ratio" in table.stdout
    refused = CliRunner().invoke(command, [*words, "--niter", "0", "--compare", "casa"])
    assert refused.exit_code == 1
    assert "no imaging engine 'casa'" in refused.stderr
