"""`contimg candidates` and `contimg lightcurve` on a small house."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.conftest import photometry_row
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import PhotometryRepository, ms_index_upsert
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.variability import update_variability
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event

SEED = 3
EPOCHS, SOURCES = 40, 12
NAMES = [
    f"NVSS J0{index % 10}4530.1+33000{index % 10}" if index < 10 else f"NVSS J1{index % 10}4530.1+330000"
    for index in range(SOURCES)
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty epochs, three days apart; the third source dims by 40 % for 40 days."""
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    truth = np.geomspace(0.05, 1.0, SOURCES)
    with get_session("products") as session:
        for epoch in range(EPOCHS):
            path, mjd = f"/m/{epoch:02d}.fits", 60000.0 + 3.0 * epoch
            ms_index_upsert(session, f"{path}.ms", stage="photometry_complete", mid_mjd=mjd)
            MosaicRepository.store(
                session,
                path=path,
                name=f"m{epoch:02d}",
                reference_ms=f"{path}.ms",
                created_at=0.0,
                start_mjd=mjd,
                end_mjd=mjd,
            )
            flux = truth * (1.0 + 0.01 * rng.normal(size=SOURCES))
            flux[2] *= float(extreme_scattering_event(mjd, 60060.0, 40.0, 0.4))
            rows = [photometry_row(path, NAMES[i], 20.0 + 0.2 * i, float(flux[i]), mjd) for i in range(SOURCES)]
            PhotometryRepository.store(session, rows)
        update_variability(session, PhotometryOptions())
    return tmp_path


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_event_is_listed_with_its_reason_and_what_people_did(root: Path) -> None:
    assert root
    (row,) = json.loads(run("candidates", "list", "--json"))
    assert (row["source_id"], row["flag_type"], row["status"]) == (NAMES[2], "ese", "active")
    assert row["reason"].startswith("fell by 4")
    assert "neighbors constant" in row["reason"]
    number = str(row["id"])
    run("candidates", "note", number, "also low at 3 GHz", "--by", "ada")
    assert "is investigated" in run("candidates", "investigate", number, "--note", "VLBI asked for", "--by", "bob")
    assert "0 candidates" in run("candidates", "list")
    told = run("candidates", "list", "--status", "all")
    assert "noted by ada: also low at 3 GHz" in told
    assert "investigated by bob: VLBI asked for" in told
    with get_session("products") as session:
        update_variability(session, PhotometryOptions())
    assert "0 candidates" in run("candidates", "list")


def test_a_person_flags_and_dismisses(root: Path) -> None:
    assert root
    assert NAMES[5] in run("candidates", "flag", NAMES[5].replace(" ", "_"), "--note", "odd", "--by", "ada")
    with pytest.raises(PipelineError, match="is a candidate already"):
        run("candidates", "flag", NAMES[5])
    with pytest.raises(PipelineError, match="fits 0 sources"):
        run("candidates", "flag", "NVSS J000000+000000")
    rows = json.loads(run("candidates", "list", "--json"))
    assert [(row["flag_type"], row["flagged_by"]) for row in rows] == [("ese", "auto"), ("user", "ada")]
    assert "is dismissed" in run("candidates", "dismiss", NAMES[5], "--note", "no")
    with pytest.raises(PipelineError, match="is dismissed already"):
        run("candidates", "dismiss", NAMES[5])


def test_a_light_curve_is_printed_drawn_and_written(root: Path) -> None:
    plot, out = root / "curve.png", root / "curve.parquet"
    told = json.loads(run("lightcurve", NAMES[2], "--json", "--structure", "--plot", str(plot), "--out", str(out)))
    assert len(told["points"]) == EPOCHS
    assert told["statistics"]["n_obs"] == EPOCHS
    assert told["structure_function"][0][3] > 0
    assert plot.stat().st_size > 10_000
    assert out.stat().st_size > 1_000
    text = run("lightcurve", NAMES[2].replace("NVSS ", ""), "--structure")
    assert f"{NAMES[2]}: {EPOCHS} epochs" in text
    assert "structure" in text
    with pytest.raises(PipelineError, match="fits no source of the catalogue"):
        run("lightcurve", "nothing")


def test_completeness_is_measured_in_the_light_curves_of_the_database(root: Path) -> None:
    out = root / "report"
    figures = json.loads(run("report", "completeness", "--real", "--trials", "4", "--out", str(out), "--json"))
    assert figures["kind"] == f"{SOURCES} light curves of the database"
    deep = next(cell for cell in figures["cells"] if (cell["depth"], cell["days"]) == (0.5, 40.0))
    assert deep["found"] >= 0.75
    assert (out / "completeness.png").stat().st_size > 20_000
