"""What a run does about products first: recovery, what may be published, failures whose time has come, and status."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, leases, reset_engines
from dsa110_contimg.database.data_registry import (
    ensure_data_registry_db,
    finalize_data,
    register_data_instance,
    reset_failed,
)
from dsa110_contimg.database.master_sources import CatalogRow, replace_catalog
from dsa110_contimg.database.models import Mosaic
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.registry_rows import ProductRow, get_data
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.options import PhotometryOptions, PipelineOptions
from dsa110_contimg.pipeline import runner
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.pipeline.reconcile import reconcile
from dsa110_contimg.pipeline.status import overview

NAME = "mosaic_2025-10-01_08-49-00"


@pytest.fixture
def root(empty_databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(empty_databases, tmp_path / "state")
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    for folder in ("incoming", "products", "stage/mosaics"):
        (tmp_path / folder).mkdir(parents=True)
    with get_session("master_sources") as session:
        replace_catalog(session, [CatalogRow("NVSS J000000.0+000000", 0.0, 0.0, 1.0, None)])
    yield tmp_path
    reset_engines()


@pytest.fixture
def staged(root: Path) -> Path:
    """A mosaic that meets all criteria but the last word."""
    path = root / "stage" / "mosaics" / f"{NAME}.fits"
    path.write_bytes(b"pixels")
    with get_session("products") as session:
        ms_index_upsert(session, "/ms/1.ms", stage="photometry_complete")
        MosaicRepository.store(
            session, path=str(path), name=NAME, reference_ms="/ms/1.ms", created_at=0.0, start_mjd=1.0, end_mjd=2.0
        )
        for stage in (Stage.REGISTER, Stage.CHECK, Stage.PHOTOMETRY, Stage.PUBLISH, Stage.VARIABILITY):
            job = leases.ensure_job(session, stage, NAME, now=0.0)
            leases.complete_job(session, job, leases.claim_job(session, job, "x", 9.0, now=0.0) or 0, now=0.0)
    change("UPDATE data_registry SET qa_status = 'passed', validation_status = 'validated'", register=path)
    return path


def change(statement: str, *, register: Path | None = None) -> None:
    with closing(ensure_data_registry_db(Settings().database("data_registry"))) as connection:
        if register is not None:
            register_data_instance(connection, "mosaic", NAME, register)
        connection.execute(statement)


def product() -> ProductRow:
    with closing(ensure_data_registry_db(Settings().database("data_registry"))) as connection:
        return get_data(connection, NAME)


def mosaic() -> Mosaic:
    with get_session("products", read_only=True) as session:
        row = MosaicRepository.get_by_name(session, NAME)
    assert row is not None
    return row


def finalize() -> None:
    with closing(ensure_data_registry_db(Settings().database("data_registry"))) as connection:
        finalize_data(connection, NAME, "passed", "validated")


def run_once() -> None:
    assert runner.run(Settings(), PipelineOptions(), once=True).exit_code == 0


def test_what_meets_the_criteria_is_published_by_the_next_run(staged: Path) -> None:
    """As after a reset: nobody calls finalize again."""
    change("UPDATE data_registry SET finalization_status = 'finalized'")
    run_once()
    assert product().status == "published"
    assert mosaic().path == product().published_path
    assert not staged.exists()


def test_a_failed_publication_is_tried_again_when_its_time_has_come(staged: Path, root: Path) -> None:
    in_the_way = root / "products" / "mosaics" / f"{NAME}.fits"
    in_the_way.parent.mkdir()
    in_the_way.write_bytes(b"of somebody else")
    finalize()
    failed = product()
    assert (failed.status, failed.publish_attempts) == ("failed", 1)
    assert failed.retry_at is not None
    assert failed.retry_at > time.time()
    in_the_way.unlink()
    run_once()
    assert product().publish_attempts == 1, "its time has not come"
    told = overview().not_published[NAME]
    assert "failed 1 of 3 times" in told
    assert str(in_the_way) in told
    assert "tried again by itself after" in told
    change("UPDATE data_registry SET retry_at = 1.0")
    run_once()
    assert product().status == "published"
    assert mosaic().path == str(in_the_way)
    assert overview().not_published == {}
    assert not staged.exists()


def test_what_failed_too_often_waits_for_a_person(staged: Path, root: Path) -> None:
    in_the_way = root / "products" / "mosaics" / f"{NAME}.fits"
    in_the_way.parent.mkdir()
    in_the_way.write_bytes(b"of somebody else")
    finalize()
    for attempts in (2, 3, 3):
        change("UPDATE data_registry SET retry_at = 1.0")
        run_once()
        assert product().publish_attempts == attempts
    told = overview(NAME).not_published[NAME]
    assert "failed 3 of 3 times" in told
    assert f"contimg registry retry {NAME}" in told
    in_the_way.unlink()
    with closing(ensure_data_registry_db(Settings().database("data_registry"))) as connection:
        reset_failed(connection, NAME)
    run_once()
    assert product().status == "published"
    assert staged.parent.exists()


def test_a_row_that_somebody_damaged_is_named_and_blocks_nobody_else(staged: Path, root: Path) -> None:
    """The damaged one comes first, and its time to be tried again has come."""
    in_the_way = root / "products" / "mosaics" / f"{NAME}.fits"
    in_the_way.parent.mkdir()
    in_the_way.write_bytes(b"of somebody else")
    finalize()
    change("UPDATE data_registry SET retry_at = 1.0, metadata_json = '{\"publish\": '")
    other = staged.with_name("mosaic_2025-10-02_08-49-00.fits")
    other.write_bytes(b"other pixels")
    with closing(ensure_data_registry_db(Settings().database("data_registry"))) as connection:
        register_data_instance(connection, "mosaic", other.stem, other)
    change(
        "UPDATE data_registry SET qa_status = 'passed', validation_status = 'validated', "
        f"finalization_status = 'finalized' WHERE data_id = '{other.stem}'"
    )
    run_once()
    assert (root / "products" / "mosaics" / other.name).read_bytes() == b"other pixels"
    assert list(overview().not_published) == [NAME]
    assert f"the metadata_json of product {NAME} is no JSON" in overview().not_published[NAME]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE data_registry SET finalization_status = 'pending'", ("finalization", "waits")),
        ("UPDATE data_registry SET qa_status = 'warning'", ("QA is 'warning'", "--reason")),
        ("UPDATE data_registry SET auto_publish_enabled = 0", ("auto-publish is off", "contimg registry publish")),
    ],
    ids=["not finalized", "warning", "auto-publish off"],
)
def test_status_says_what_blocks_a_product_and_what_to_do(staged: Path, statement: str, words: tuple[str, ...]) -> None:
    change("UPDATE data_registry SET finalization_status = 'finalized'")
    change(statement)
    run_once()
    assert product().status == "staging"
    assert staged.exists()
    told = overview().not_published[NAME]
    assert [word for word in words if word not in told] == []


def test_a_lease_that_cannot_be_true_holds_nobody_up(staged: Path, root: Path) -> None:
    """A clock that was set back leaves leases that seem to end next year."""
    change(
        "UPDATE data_registry SET status = 'publishing', owner = 'elsewhere.example:7:12345', attempt = 1,"
        f" finalization_status = 'finalized', lease_expires_at = {time.time() + 3.2e7}"
    )
    reconcile(PhotometryOptions())
    assert product().status == "published"
    assert not staged.exists()
    assert (root / "products" / "mosaics" / staged.name).read_bytes() == b"pixels"


def test_a_retraction_that_was_interrupted_is_finished_by_the_next_run(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finalize()
    published = Path(product().published_path or "")
    with (
        closing(ensure_data_registry_db(Settings().database("data_registry"))) as connection,
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
    ):
        patch.setattr("dsa110_contimg.database.retraction._settle", _die)
        retract(connection, NAME, reason="bad gains", by="anna")
    change("UPDATE data_registry SET lease_expires_at = 1.0")
    assert published.exists()
    reconcile(PhotometryOptions())
    tombstone = staged.parents[2] / "products" / "retracted" / NAME / "mosaics" / f"{NAME}.fits"
    assert (published.exists(), tombstone.read_bytes()) == (False, b"pixels")
    assert (mosaic().path, mosaic().status) == (str(tombstone), "retracted")
    view = overview(NAME)
    assert view.not_published == {}
    assert any("bad gains" in line for line in view.details)


def _die(*_args: object) -> None:
    raise KeyboardInterrupt
