"""The real bright sky through the whole pipeline: ten full-array tiles of the NVSS around 3C48, and what comes out."""

import os
from pathlib import Path

import pytest

from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import use_root
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.runner import run
from dsa110_contimg.pipeline.truth_report import compare
from dsa110_contimg.simulation import SimulationOptions, simulate

SEED = 7


@pytest.mark.slow
def test_ten_tiles_of_the_real_sky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gains, phases and delays are corrupted at random and noise is on; the catalogue has errors of its own."""
    nvss = Path(os.environ.get("CONTIMG_DATA", "")) / "catalogs" / "NVSSVZ.FIT.gz"
    if not nvss.is_file():
        pytest.skip("CONTIMG_DATA names no folder with the NVSS table")
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    settings = use_root(tmp_path)
    initialize(settings)
    options = SimulationOptions(
        channels=6, tiles=10, transit="3C48", sky=str(nvss), gain_scatter=0.2, delay_ns=20.0, seed=SEED
    )
    truth = simulate(settings.incoming, options, overwrite=True)
    import_catalog(settings.incoming / "catalog.csv")
    summary = run(settings, PipelineOptions(), once=True)
    report = compare(truth)
    print(f"seed {SEED}: {report}")
    assert summary.exit_code == 0
    assert report.published == 1
    assert report.n_fluxes >= 30
    assert report.flux_ratio_median == pytest.approx(1.0, abs=0.02)
    assert report.flux_ratio_scatter is not None
    assert report.flux_ratio_scatter < 0.06
    assert report.offset_east_arcsec == pytest.approx(0.0, abs=0.5)
    assert report.offset_north_arcsec == pytest.approx(0.0, abs=0.5)
    assert report.noise_map_ratio is not None
    assert all(abs(ratio - 1.0) < 0.15 for ratio in report.noise_map_ratio)
