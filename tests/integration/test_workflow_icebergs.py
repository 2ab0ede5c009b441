"""The icebergs of the workflow document that need the pipeline, by number; the registry's are in tests/database."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from casacore import tables
from sqlalchemy import func, select
from tests.integration.conftest import QUICK, FinishedRun

from dsa110_contimg import conversion, naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import Caltable, Image, Mosaic, MSIndex, SubbandFile, get_session, reset_engines
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.data_registration import MOSAIC_METADATA
from dsa110_contimg.database.models import QACheck
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.registry_rows import ProductRow, ensure_data_registry_db, list_data
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import CalibrationOptions, ConversionOptions, MosaicOptions, PipelineOptions
from dsa110_contimg.pipeline.ingest import bootstrap_directory, close_groups
from dsa110_contimg.pipeline.jobs import Job, MosaicState, Stage, State, next_jobs
from dsa110_contimg.pipeline.runner import execute
from dsa110_contimg.pipeline.streaming_converter import convert_subband_groups_to_ms
from dsa110_contimg.pipeline.streaming_mosaic import (
    PipelineConfig,
    PipelineContext,
    apply_calibration_to_group,
    check_for_new_group,
    create_mosaic,
    image_group,
)

Tiny = Callable[[], list[Path]]


def context_of(run: FinishedRun) -> PipelineContext:
    return PipelineContext(PipelineConfig(options=QUICK), run.settings)


def product_of(run: FinishedRun) -> ProductRow:
    connection = ensure_data_registry_db(run.settings.database("data_registry"))
    try:
        (row,) = list_data(connection)
        return row
    finally:
        connection.close()


def group_of(run: FinishedRun) -> str:
    return naming.mosaic_group_id(run.truth.groups[0].group_id)


def tiles_of(_run: FinishedRun) -> list[MSIndex]:
    with get_session("products", read_only=True) as session:
        return list(session.scalars(select(MSIndex).order_by(MSIndex.mid_mjd)))


def convert_all(settings: Settings) -> list[Path]:
    bootstrap_directory(settings.incoming)
    close_groups()
    return convert_subband_groups_to_ms("0", "9", settings=settings)


def test_iceberg_01_a_scan_skips_what_is_registered(finished: FinishedRun) -> None:
    report = bootstrap_directory(finished.settings.incoming)
    assert (len(report.known), report.recorded, report.repeated, report.quarantined) == (48, [], [], [])


def test_iceberg_02_what_is_known_outlives_the_process(house: Settings, tiny: Tiny) -> None:
    files = tiny()
    late = files[20:]
    hidden = house.stage / "later"
    hidden.mkdir()
    for path in late:
        path.rename(hidden / path.name)
    assert len(bootstrap_directory(house.incoming).recorded) == 20
    reset_engines()  # as in another process: only the database is left
    for path in late:
        (hidden / path.name).rename(path)
    report = bootstrap_directory(house.incoming)
    assert (len(report.known), sorted(report.recorded)) == (20, sorted(late))
    with get_session("ingest", read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(SubbandFile)) == 32


def test_iceberg_03_a_measurement_set_that_is_gone_fails_by_name(house: Settings, tiny: Tiny) -> None:
    tiny()
    paths = convert_all(house)
    shutil.rmtree(paths[0])
    group_id = naming.group_id_of_ms(paths[0])
    outcome = execute(Job(Stage.CALIBRATE, group_id), this_process(), house, QUICK)
    assert outcome.result == "failed"
    assert f"{paths[0]} is not a Measurement Set" in outcome.error


def test_iceberg_04_one_phase_center_per_tile_on_the_meridian_at_mid_time(finished: FinishedRun) -> None:
    for tile, truth in zip(tiles_of(finished), finished.truth.groups, strict=True):
        with tables.table(f"{tile.path}/FIELD", ack=False) as field:
            assert field.nrows() == 1
            center = np.degrees(field.getcell("PHASE_DIR", 0)[0])
        east = (center[0] - truth.ra_deg + 180.0) % 360.0 - 180.0
        assert abs(east) * 3600.0 < 0.05
        assert abs(center[1] - truth.dec_deg) * 3600.0 < 0.05
        assert tile.pointing_ra_deg == pytest.approx(center[0] % 360.0, abs=1e-9)
        with tables.table(tile.path, ack=False) as table:
            assert np.all(table.getcol("FIELD_ID") == 0)
            uvw, time = table.getcol("UVW"), table.getcol("TIME")
        times = np.unique(time)
        change = np.abs(uvw[time == times[0]] - uvw[time == times[-1]]).max()
        assert change > 1.0, "uvw follow the phase center while the Earth turns"


def test_iceberg_05_tiles_that_are_gone_from_disk_form_no_group(house: Settings, tiny: Tiny) -> None:
    tiny()
    paths = convert_all(house)
    context = PipelineContext(PipelineConfig(options=PipelineOptions(mosaic=MosaicOptions(tiles=2, overlap=0))), house)
    away = paths[1].with_name("away")
    paths[1].rename(away)
    assert check_for_new_group(context) is None
    away.rename(paths[1])
    assert check_for_new_group(context) == naming.mosaic_group_id(naming.group_id_of_ms(paths[0]))
    with get_session("products", read_only=True) as session:
        order = [row.path for row in session.scalars(select(MSIndex).order_by(MSIndex.mid_mjd))]
    assert order == [str(path) for path in paths]


def test_iceberg_06_calibration_tables_exist_on_disk(finished: FinishedRun) -> None:
    with get_session("cal_registry", read_only=True) as session:
        rows = CaltableRepository.list_all(session)
    assert {row.source_ms_path for row in rows} == {tile.path for tile in tiles_of(finished)}
    assert {row.table_type for row in rows} == {"K", "BP", "G", "GP"}
    assert all((Path(row.path) / "table.dat").is_file() for row in rows)
    with get_session("cal_registry") as session, pytest.raises(CalibrationError, match="is not on disk"):
        CaltableRepository.register(
            session, path="gone_bpcal", table_type="BP", set_name="x", mid_mjd=60949.0, half_width_days=1.0
        )


def test_iceberg_07_a_look_up_offers_only_tables_that_are_there(finished: FinishedRun) -> None:
    tile = tiles_of(finished)[0]
    with get_session("cal_registry", read_only=True) as session:
        (table,) = CaltableRepository.find_valid_for_mjd(session, tile.mid_mjd or 0.0, table_type="BP")
        path = Path(table.path)
        path.rename(path.with_name("away"))
        try:
            assert CaltableRepository.find_valid_for_mjd(session, tile.mid_mjd or 0.0, table_type="BP") == []
        finally:
            path.with_name("away").rename(path)
        assert CaltableRepository.find_valid_for_mjd(session, tile.mid_mjd or 0.0, table_type="BP")


def test_iceberg_08_calibration_is_applied_once_and_starts_from_raw_data(finished: FinishedRun) -> None:
    tiles = tiles_of(finished)
    before = [measurement_set.load(Path(tile.path)).vis for tile in tiles]
    with get_session("cal_registry", read_only=True) as session:
        n_tables = session.scalar(select(func.count()).select_from(Caltable))
    assert apply_calibration_to_group(group_of(finished), context_of(finished)) == []
    for tile, corrected, truth in zip(tiles, before, finished.truth.groups, strict=True):
        assert tile.cal_applied == 1
        np.testing.assert_array_equal(measurement_set.load(Path(tile.path)).vis, corrected)
        files = [finished.settings.incoming / name for name in truth.files]
        fresh = conversion.load_group(files, ConversionOptions())
        raw = measurement_set.load_raw(Path(tile.path))
        np.testing.assert_array_equal(raw.vis, fresh.vis)
        np.testing.assert_array_equal(raw.flags, fresh.flags)
        assert np.abs(corrected).mean() > 10.0 * np.abs(fresh.vis).mean(), "gains of 0.068 are out"
    with get_session("cal_registry", read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(Caltable)) == n_tables


def test_iceberg_09_imaging_is_done_once_and_its_files_are_there(finished: FinishedRun) -> None:
    with get_session("products", read_only=True) as session:
        images = list(session.scalars(select(Image).where(Image.type.in_(["image", "pbcor", "residual", "beam"]))))
    assert len(images) == 12
    written = {row.path: Path(row.path).stat().st_mtime_ns for row in images}
    assert image_group(group_of(finished), context_of(finished)) == []
    assert {path: Path(path).stat().st_mtime_ns for path in written} == written
    assert all(tile.imagename in written for tile in tiles_of(finished))


def test_iceberg_10_a_mosaic_is_made_once(finished: FinishedRun) -> None:
    with get_session("products", read_only=True) as session:
        (mosaic,) = session.scalars(select(Mosaic))
    written = Path(mosaic.path).stat().st_mtime_ns
    assert create_mosaic(group_of(finished), context_of(finished)) == mosaic.name
    assert Path(mosaic.path).stat().st_mtime_ns == written
    with get_session("products", read_only=True) as session:
        assert session.scalar(select(func.count()).select_from(Mosaic)) == 1


def test_iceberg_11_the_mosaic_is_registered(finished: FinishedRun) -> None:
    product = product_of(finished)
    assert (product.data_type, product.data_id) == ("mosaic", naming.mosaic_id(finished.truth.groups[0].group_id))
    assert str(product.stage_path) == str(naming.mosaic_path(finished.settings.stage, product.data_id))


def test_iceberg_12_the_mosaic_is_finalized(finished: FinishedRun) -> None:
    product = product_of(finished)
    assert (product.finalization_status, product.photometry_status) == ("finalized", "completed")


def test_iceberg_13_the_mosaic_is_moved_to_the_products(finished: FinishedRun) -> None:
    product, settings = product_of(finished), finished.settings
    assert product.status == "published"
    published = Path(product.published_path or "")
    assert published == settings.products / "mosaics" / f"{product.data_id}.fits"
    assert published.is_file()
    assert not Path(str(product.stage_path)).exists()
    with get_session("products", read_only=True) as session:
        (mosaic,) = session.scalars(select(Mosaic))
        rows = set(session.scalars(select(Image.path).where(Image.type.in_(["mosaic", "noise", "weight"]))))
    companions = {mosaic.path, mosaic.noise_path, mosaic.weight_path}
    assert mosaic.path == str(published)
    assert rows == companions
    assert all(Path(str(path)).is_file() for path in [*companions, mosaic.thumbnail_path])
    assert list(naming.mosaic_path(settings.stage, product.data_id).parent.glob("*.fits")) == []


def test_iceberg_14_qa_and_validation_come_before_publication(finished: FinishedRun) -> None:
    product = product_of(finished)
    assert (product.qa_status, product.validation_status) == ("passed", "validated")
    with get_session("products", read_only=True) as session:
        checks = list(session.scalars(select(QACheck).where(QACheck.subject == product.data_id)))
    assert len(checks) >= 5
    assert all(finished.began < check.measured_at < (product.published_at or 0.0) for check in checks)


def test_iceberg_16_a_mosaic_without_registry_row_is_a_job_to_do(finished: FinishedRun) -> None:
    lost = State(mosaics=[MosaicState("mosaic_2025-10-01_08-49-00")])
    assert next_jobs(lost, CalibrationOptions(), MosaicOptions()) == [Job(Stage.REGISTER, "mosaic_2025-10-01_08-49-00")]
    with get_session("products", read_only=True) as session:
        assert [product_of(finished).data_id] == list(session.scalars(select(Mosaic.name)))


def test_iceberg_17_qa_is_stored_with_what_was_measured(finished: FinishedRun) -> None:
    with get_session("products", read_only=True) as session:
        rows = session.scalars(select(QACheck).where(QACheck.subject == product_of(finished).data_id))
        checks = {check.name: check for check in rows}
    assert {check.verdict for check in checks.values()} == {"passed"}
    assert all(check.value is not None for check in checks.values())
    assert checks["flux_ratio"].value == pytest.approx(1.0, abs=0.08)


def test_iceberg_18_the_registry_says_what_a_mosaic_was_made_of(finished: FinishedRun) -> None:
    details = product_of(finished).details
    assert set(MOSAIC_METADATA) <= set(details)
    assert (details["group_id"], details["n_images"]) == (group_of(finished), 3)
    assert details["calibrator_name"] == "3C48"
    assert details["ms_paths"] == [tile.path for tile in tiles_of(finished)]
    assert details["image_paths"] == [tile.imagename for tile in tiles_of(finished)]
    span = details["time_range"]
    assert isinstance(span, dict)
    assert span["start_mjd"] == pytest.approx(finished.truth.groups[0].start_mjd, abs=1e-8)
    assert span["end_mjd"] > finished.truth.groups[2].mid_mjd


def test_iceberg_24_validation_of_the_tiles_is_stored(finished: FinishedRun) -> None:
    with get_session("products", read_only=True) as session:
        (mosaic,) = session.scalars(select(Mosaic))
    assert json.loads(mosaic.validation_issues or "null") == []
    assert product_of(finished).details["validation_issues"] == []
