"""What a run leaves of a mosaic for people and atlases: pictures, coverage and HiPS, registered, sound, in place."""

import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from matplotlib.image import imread
from tests.integration.conftest import FinishedRun

from dsa110_contimg import naming
from dsa110_contimg.database.data_registry import list_data
from dsa110_contimg.database.registry_rows import ProductRow, open_registry
from dsa110_contimg.formats import fits_image, hips_tiles, moc
from dsa110_contimg.pipeline.coverage import standing_mosaics, update_coverage


def mosaic_of(finished: FinishedRun) -> tuple[ProductRow, Path]:
    """Return the run's mosaic and where it lies; it may wait for a person."""
    with open_registry(finished.settings.database("data_registry")) as connection:
        (row,) = list_data(connection, data_type="mosaic")
    return row, Path(row.published_path or row.stage_path)


def test_companions_are_registered_and_lie_beside_the_mosaic(finished: FinishedRun) -> None:
    row, path = mosaic_of(finished)
    kinds = [kind for kind in naming.MOSAIC_SUFFIXES if kind not in ("mosaic", "qa")]
    assert {Path(name).name for name in row.companions} == {naming.beside_mosaic(path, kind).name for kind in kinds}
    assert all(naming.beside_mosaic(path, kind).exists() for kind in kinds)
    assert sorted(imread(naming.beside_mosaic(path, "thumbnail")).shape[:2])[-1] in range(180, 257)


def test_the_hips_shows_the_calibrator_where_the_mosaic_does(finished: FinishedRun) -> None:
    _, path = mosaic_of(finished)
    folder, image = naming.beside_mosaic(path, "hips"), fits_image.load(path)
    order = int(hips_tiles.load_properties(folder)["hips_order"])
    peaks = [
        np.nanmax(hips_tiles.load_tile(hips_tiles.tile_path(folder, order, tile))[0])
        for tile in hips_tiles.tiles_of(folder, order)
    ]
    # Its pixels are larger and lie elsewhere on the peak.
    assert 0.8 < max(peaks) / np.nanmax(image.data) < 1.02


def test_the_coverage_is_that_of_the_mosaic_and_known_to_the_survey(finished: FinishedRun) -> None:
    _, path = mosaic_of(finished)
    image, covered = fits_image.load(path), moc.load(naming.beside_mosaic(path, "moc"))
    assert moc.area_deg2(covered) == pytest.approx(np.isfinite(image.data).sum() * image.cell_deg**2, rel=0.06)
    survey = update_coverage(finished.settings)
    assert survey.mosaics == set(standing_mosaics())
    assert not survey.mosaics or survey.covered == covered


@pytest.mark.skipif(which("fitsverify") is None, reason="fitsverify is not installed")
def test_fitsverify_has_nothing_to_say_about_any_file_of_a_run(finished: FinishedRun) -> None:
    settings = finished.settings
    files = [str(path) for area in (settings.stage, settings.products) for path in sorted(area.rglob("*.fits"))]
    done = subprocess.run(["fitsverify", "-q", *files], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if not line.startswith("verification OK")] == []
    assert done.stdout.count("verification OK") == len(files) > 15
