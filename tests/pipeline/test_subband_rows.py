"""Fluxes in parts of the band through the database: tiles, mosaics, and a source's epochs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.pipeline.conftest import photometry_row
from typer.testing import CliRunner

from dsa110_contimg.cli.main import app
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.models import Photometry, Source, SubbandFlux
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.repositories import ImageRepository, PhotometryRepository, ms_index_upsert
from dsa110_contimg.imaging.subbands import SubbandFluxes
from dsa110_contimg.pipeline.subband_rows import mosaic_rows, source_spectra, tile_rows

SEED = 3
FREQ = np.array([1.334e9, 1.381e9, 1.428e9, 1.475e9])
SOURCE = "NVSS J013741.2+330935"
EPOCHS, LENSED, FAULTY = 12, 5, 9


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()


def found(flux: list[list[float]], error: float = 0.01) -> SubbandFluxes:
    names = [SOURCE, "B"][: len(flux)]
    return SubbandFluxes(names, FREQ, np.array(flux), np.full((len(flux), 4), error))


def test_tiles_make_a_mosaic_and_what_a_part_lacks_has_no_row() -> None:
    with get_session("products") as session:
        for name in ("a", "b", "m"):
            ms_index_upsert(session, f"/{name}.ms", stage="imaged")
            ImageRepository.add(session, path=f"/{name}", ms_path=f"/{name}.ms", type="image", created_at=0.0)
        first = tile_rows("/a", found([[1.0, 0.9, np.nan, 0.7], [0.2] * 4]))
        assert len(first) == 7
        PhotometryRepository.store_subbands(session, "/a", first)
        PhotometryRepository.store_subbands(session, "/b", tile_rows("/b", found([[1.1, 0.9, 0.8, 0.7]], 0.02)))
        PhotometryRepository.store_subbands(session, "/m", mosaic_rows(session, "/m", ["/a", "/b"]))
        session.flush()
        rows = {
            row.subband_idx: row
            for row in PhotometryRepository.list_subbands(session, SOURCE)
            if row.image_path == "/m"
        }
        assert rows[0].flux_jy == pytest.approx((4.0 * 1.0 + 1.1) / 5.0)
        assert rows[0].flux_err_jy == pytest.approx(1.0 / np.sqrt(1e4 + 2500.0))
        assert rows[2].flux_jy == pytest.approx(0.8)
        assert rows[3].freq_ghz == pytest.approx(1.475)
        PhotometryRepository.store_subbands(session, "/a", tile_rows("/a", found([[1.0] * 4])))
        PhotometryRepository.store_subbands(session, "/b", tile_rows("/b", None))
        stored = session.execute(select(SubbandFlux.image_path, SubbandFlux.source_id)).all()
        assert sum(row == ("/a", "B") for row in stored) == 0, "rows of an image that was made again are its own"
        assert sum(row.image_path == "/b" for row in stored) == 0


def fill() -> None:
    """Twelve epochs, eight days apart: a lens in one, all gains 12 % low in another, one retracted."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    with get_session("products") as session:
        for epoch in range(EPOCHS):
            path, ms, mjd = f"/m/{epoch:02d}", f"/ms/{epoch:02d}", 60000.0 + 8.0 * epoch
            change = {LENSED: np.linspace(0.5, 0.9, 4), FAULTY: np.full(4, 0.88)}.get(epoch, np.ones(4))
            flux = (FREQ / 1.4e9) ** -0.7 * change + rng.normal(scale=0.01, size=4)
            ms_index_upsert(session, ms, stage="imaged", mid_mjd=mjd)
            MosaicRepository.store(
                session, path=path, name=f"m{epoch}", reference_ms=ms, created_at=0.0, start_mjd=mjd, end_mjd=mjd
            )
            PhotometryRepository.store(session, [photometry_row(path, SOURCE, 24.4, float(flux.mean()), mjd)])
            PhotometryRepository.store_subbands(session, path, tile_rows(path, found([list(flux)])))
        session.flush()
        for row in session.scalars(select(Photometry)):
            row.in_lightcurve, row.retracted_at = 1, 1.0 if row.image_path == "/m/11" else None


def test_a_lens_has_a_slope_and_a_gain_error_has_none() -> None:
    fill()
    with get_session("products", read_only=True) as session:
        epochs = source_spectra(session, SOURCE, 20.0)
        assert source_spectra(session, "nobody", 20.0) == []
    assert [epoch.mjd for epoch in epochs] == [60000.0 + 8.0 * i for i in range(EPOCHS - 1)]
    for place, epoch in enumerate(epochs):
        assert epoch.slope is not None
        assert epoch.slope_err is not None
        assert epoch.change is not None
        assert (abs(epoch.slope) > 5.0 * epoch.slope_err) == (place == LENSED)
    assert epochs[FAULTY].change == pytest.approx(0.88, abs=0.04)
    assert epochs[0].index == pytest.approx(-0.7, abs=4.0 * (epochs[0].index_err or 0.0))


def test_one_epoch_has_an_index_and_nothing_to_be_compared_with() -> None:
    fill()
    with get_session("products", read_only=True) as session:
        alone = source_spectra(session, SOURCE, 1e6)
    assert all(epoch.change is None and epoch.slope is None and epoch.index is not None for epoch in alone)


def test_the_command() -> None:
    fill()
    with get_session("master_sources") as session:
        session.add(Source(source_id=SOURCE, ra_deg=24.4221, dec_deg=33.1598, s_nvss=16.0))
        session.add(Source(source_id="NVSS J100000.0+100000", ra_deg=150.0, dec_deg=10.0, s_nvss=1.0))
    runner = CliRunner()
    shown = runner.invoke(app, ["spectrum", "3C48"])
    assert shown.exit_code == 0
    assert shown.output.count(" ± ") == 7 * (EPOCHS - 1) - 2, "the middle epoch has none to be compared with"
    told = json.loads(runner.invoke(app, ["spectrum", "24.4221", "33.1598", "--json"]).output)
    assert told["source_id"] == SOURCE
    assert len(told["epochs"]) == EPOCHS - 1
    nothing = runner.invoke(app, ["spectrum", "J1000+1000"])
    assert nothing.exit_code != 0
