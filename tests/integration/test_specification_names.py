"""The specification's function names, called one after the other: the same rows and pixels as `contimg run`."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import select
from tests.integration.conftest import QUICK, FinishedRun, below, install

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import Job as JobRow
from dsa110_contimg.database import Mosaic, get_session
from dsa110_contimg.database.registry_rows import get_data, open_registry
from dsa110_contimg.errors import ConfigurationError, MosaicError, PipelineError
from dsa110_contimg.pipeline import streaming_converter as converter
from dsa110_contimg.pipeline import streaming_mosaic as mosaic
from dsa110_contimg.pipeline.ingest import close_groups


@pytest.fixture
def house_of_good_files(tmp_path: Path, good_incoming: Path) -> Iterator[Settings]:
    with below(tmp_path) as settings:
        install(settings, good_incoming)
        yield settings


def test_called_by_name_the_pixels_are_those_of_the_run(house_of_good_files: Settings, _finished: FinishedRun) -> None:
    settings = house_of_good_files
    context = mosaic.PipelineContext(mosaic.PipelineConfig(options=QUICK), settings)
    converter.bootstrap_directory(settings.incoming)
    close_groups()
    with pytest.raises(ConfigurationError, match="not where path_mapper puts it"):
        converter.convert_subband_groups_to_ms("0", "9", lambda stage, name: stage / name, options=QUICK)
    paths = converter.convert_subband_groups_to_ms("2025-10-01T00:00:00", "2025-10-01T23:59:59", options=QUICK)
    assert [path.name for path in paths] == [f"{group.group_id}.ms" for group in _finished.truth.groups]
    group_id = mosaic.check_for_new_group(context)
    assert group_id == naming.mosaic_group_id(_finished.truth.groups[0].group_id)
    with pytest.raises(PipelineError, match="calibrate it first"):
        mosaic.image_ms(paths[0], context)
    assert len(mosaic.solve_calibration_for_group(group_id, context)) == 1
    assert len(mosaic.apply_calibration_to_group(group_id, context)) == 3
    first = mosaic.image_ms(paths[0], context)
    assert len(mosaic.image_group(group_id, context)) == 2
    mosaic_id = mosaic.create_mosaic(group_id, context)
    with get_session("products", read_only=True) as session:
        path = Path(session.scalars(select(Mosaic.path)).one())
    ours, theirs = fits.getdata(path), fits.getdata(_finished.settings.products / "mosaics" / path.name)
    np.testing.assert_array_equal(ours, theirs)
    tile = fits.getdata(first)
    np.testing.assert_array_equal(tile, fits.getdata(_finished.settings.stage / "images" / first.name))
    qa = mosaic.run_qa_checks(path)
    assert (qa.passed, qa.valid) == (True, True), [check.reason for check in qa.checks]
    summary = converter._worker_loop(settings, QUICK, once=True)
    assert summary.exit_code == 0
    assert (settings.products / "mosaics" / f"{mosaic_id}.fits").is_file()
    assert mosaic.check_for_new_group(context) is None


def test_crossmatch_finds_the_catalogue_and_can_be_turned_off(finished: FinishedRun) -> None:
    with get_session("products", read_only=True) as session:
        path = Path(session.scalars(select(Mosaic.path)).one())
    result = mosaic.run_crossmatch_for_mosaic(path)
    assert result is not None
    assert len(result.catalogue_index) > 20
    off = mosaic.PipelineConfig(crossmatch=mosaic.CrossMatchConfig(enabled=False))
    assert mosaic.run_crossmatch_for_mosaic(path, mosaic.PipelineContext(off, finished.settings)) is None
    with pytest.raises(MosaicError, match="names no mosaic"):
        mosaic.CrossMatchStage(mosaic.PipelineContext()).execute()


@pytest.mark.usefixtures("finished")
def test_a_submitted_photometry_job_is_the_one_that_ran() -> None:
    with get_session("products", read_only=True) as session:
        name = session.scalars(select(Mosaic.name)).one()
    job_id = mosaic.submit_photometry_job(name)
    with get_session("products", read_only=True) as session:
        row = session.get(JobRow, job_id)
    assert row is not None
    assert (row.stage, row.subject, row.state) == ("photometry", name, "completed")
    with open_registry() as connection:
        assert get_data(connection, name).photometry_status == "completed"


def test_unknown_things_are_named(house: Settings) -> None:
    with pytest.raises(MosaicError, match="there is no mosaic group mg_x"):
        mosaic.image_group("mg_x")
    with pytest.raises(PipelineError, match="is not in ms_index"):
        mosaic.image_ms(house.stage / "x.ms")
    assert mosaic.check_for_new_group() is None


def test_the_polling_loop_scans_until_it_is_told_to_stop(house: Settings) -> None:
    stop = Event()
    thread = Thread(target=converter._polling_loop, args=(house, QUICK, stop, 0.01))
    thread.start()
    stop.set()
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_stamp_is_only_a_hint() -> None:
    assert converter.parse_subband_info(Path("2025-10-01T08:49:01_sb07.hdf5")) == ("2025-10-01T08:49:01", 7)
    assert converter.parse_subband_info(Path("2025-10-01T08:49:01_sb07_incomplete.hdf5")) is None
    assert converter.parse_subband_info(Path("notes.txt")) is None
