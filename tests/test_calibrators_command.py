"""`contimg calibrators`: what a person types, what a program reads, and what is refused in one sentence."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, reset_engines
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.errors import BadInputError, CalibrationError, ConfigurationError, PipelineError
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.calibrator_transits import list_transits

DATA = os.environ.get("CONTIMG_DATA")
START = ("--start", "2025-12-24")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    reset_engines()
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    yield Settings()
    reset_engines()


def call(*words: object) -> str:
    result = CliRunner().invoke(app, ["calibrators", *map(str, words)])
    if isinstance(result.exception, PipelineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("root")
def test_the_standard_calibrators_are_there_and_say_how_well_they_are_known() -> None:
    listed = {entry["calibrator"]: entry for entry in json.loads(call("list", "--json"))}
    assert {name: entry["anchor"] for name, entry in listed.items()} == {
        **dict.fromkeys(("3C196", "3C286", "3C295"), "steady"),
        **dict.fromkeys(("3C48", "3C138", "3C147"), "within 3%"),
    }
    strip = call("list", "--dec", "33.2")
    assert "3C48" in strip
    assert "3C286" not in strip


@pytest.mark.usefixtures("root")
def test_an_added_calibrator_is_listed_and_sets_no_scale() -> None:
    words = ("add", "0834+555", "--ra", 128.7287, "--dec", 55.5725, "--flux", 8.3, "--freq", 1.4, "--alpha", -0.4)
    assert "+54.07 to +57.07" in call(*words)
    (entry,) = [e for e in json.loads(call("list", "--json")) if e["calibrator"] == "0834+555"]
    assert (entry["flux_jy"], entry["anchor"]) == (8.3, "no")
    (transit,) = json.loads(call("transits", "--dec", 55.5, *START, "--days", 1, "--json"))
    assert transit["calibrator"] == "0834+555"
    assert transit["apparent_jy"] > 5.0
    assert (transit["solves"], transit["systematic"]) == (False, None)
    assert transit["flux_jy"] == pytest.approx(8.3 * (1.405 / 1.4) ** -0.4)


def test_transits_name_the_tile_that_holds_them(root: Settings) -> None:
    (first, second) = json.loads(call("transits", "3C48", "--dec", 33.2, *START, "--json"))
    assert first["solves"] is True
    assert first["tile"] is None
    mjd, path = first["mjd"], str(root.stage / "t.ms")
    with get_session("products") as session:
        columns = {"start_mjd": mjd - 0.001, "end_mjd": mjd + 0.002, "mid_mjd": mjd + 0.0005}
        ms_index_upsert(
            session,
            path,
            group_id="g",
            stage="converted",
            status="ok",
            pointing_ra_deg=24.0,
            pointing_dec_deg=33.1,
            **columns,
        )
    shown = call("transits", "3C48", "--dec", 33.2, *START)
    assert [line.split()[-1] for line in shown.splitlines()[1:3]] == ["g", "yes"]
    assert second["mjd"] - mjd == pytest.approx(0.99727, abs=1e-5)
    # Without a strip, that of the newest tile.
    assert "3C48" in call("transits", *START)


@pytest.mark.usefixtures("root")
def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="no tile yet whose strip"):
        call("transits", *START)
    with pytest.raises(ConfigurationError, match="no active calibrator is called 3C999"):
        call("transits", "3C999", "--dec", 33.2)
    with pytest.raises(CalibrationError, match="declination -80 never rises"):
        call("transits", "--dec", -80, *START)
    with pytest.raises(CalibrationError, match="span of 0 days"):
        call("transits", "--dec", 33.2, "--days", 0)
    with pytest.raises(ConfigurationError, match="south at declination -70 never rises at the telescope"):
        call("add", "south", "--ra", 10, "--dec", -70)
    assert "south" not in call("list")


@pytest.mark.usefixtures("root")
def test_a_calibrator_below_the_horizon_that_an_older_version_registered_is_named() -> None:
    from dsa110_contimg.database.calibrators import register_bandpass_calibrator

    register_bandpass_calibrator("deep south", 10.0, -70.0, flux_jy=20.0, flux_freq_ghz=1.4)
    with pytest.raises(CalibrationError, match="deep south never rises"):
        list_transits(16.0, 60700.0, 60701.0, CalibrationOptions(), ["deep south"])
    assert list_transits(16.0, 60700.0, 60701.0, CalibrationOptions())


@pytest.mark.usefixtures("root")
def test_a_table_that_nobody_uses_cannot_be_redone(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no tile on disk is calibrated with"):
        call("redo", tmp_path / "none_bpcal")


@pytest.mark.skipif(DATA is None, reason="CONTIMG_DATA (real CASA caltables) is not set")
def test_a_casa_table_is_drawn(tmp_path: Path) -> None:
    with tarfile.open(Path(str(DATA)) / "calibration" / "sma.ms.bcal.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    real, out = tmp_path / "sma.ms.bcal", tmp_path / "page.png"
    with pytest.raises(CalibrationError, match=r"holds spectral windows \[0, 1, .*: name one"):
        call("plot", real, "--out", out)
    with pytest.raises(CalibrationError, match="has no solutions of spectral window 40"):
        call("plot", real, "--out", out, "--window", 40)
    assert "page.png: " in call("plot", real, "--out", out, "--window", 3)
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadInputError, match="not a readable caltable"):
        call("plot", tmp_path / "missing", "--out", out)
