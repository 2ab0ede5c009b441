"""The icebergs of the workflow document that live in the registry, by number."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dsa110_contimg import naming
from dsa110_contimg.database.data_registration import (
    MOSAIC_METADATA,
    finalize_data,
    finalize_mosaic,
    get_data,
    list_data,
    publish_data_instance,
    recover_publishing,
    register_mosaic_in_data_registry,
    retry_failed,
    update_qa_status,
)
from dsa110_contimg.database.data_registry import register_data_instance
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.errors import PublishError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

MOSAIC = naming.mosaic_id("2025-11-18T12:00:00")


def metadata(**changes: object) -> dict[str, object]:
    complete: dict[str, object] = {
        "group_id": "mg_2025-11-18T12:00:00",
        "n_images": 10,
        "time_range": {"start_mjd": 60997.5, "end_mjd": 60997.54},
        "calibrator_name": "3C48",
        "image_paths": ["/stage/images/a.fits"],
        "ms_paths": ["/stage/ms/a.ms"],
        "validation_issues": [],
    }
    return complete | changes


def make_mosaic(registry: Registry, **changes: object) -> Path:
    path = naming.mosaic_path(registry.roots.stage, MOSAIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"SIMPLE  =                    T" * 50)
    register_mosaic_in_data_registry(registry.conn, MOSAIC, path, metadata(**changes))
    return path


def test_iceberg_15_paths_are_absolute_resolved_and_keep_their_folders(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registry.root)
    nested = Path("stage/mosaics/2025/../2026/deep/x.fits")
    (registry.root / nested).parent.mkdir(parents=True)
    (registry.root / "stage/mosaics/2025").mkdir(exist_ok=True)
    nested.write_bytes(b"x")
    register_data_instance(registry.conn, "mosaic", "x", nested)
    row = get_data(registry.conn, "x")
    assert row.stage_path == str(registry.roots.stage / "mosaics" / "2026" / "deep" / "x.fits")
    assert publish_data_instance(registry.conn, "x", "products/mosaics", roots=registry.roots)
    published = get_data(registry.conn, "x").published_path
    assert published == str(registry.roots.products / "mosaics" / "2026" / "deep" / "x.fits")


def test_iceberg_16_registration_is_one_transaction_that_can_be_repeated(registry: Registry) -> None:
    path = naming.mosaic_path(registry.roots.stage, MOSAIC)
    registry.refuse("INSERT", "no")
    with pytest.raises(Exception, match="no"):
        register_mosaic_in_data_registry(registry.conn, MOSAIC, path, metadata())
    assert list_data(registry.conn) == []
    assert registry.idle
    registry.mend()
    for _ in range(2):
        register_mosaic_in_data_registry(registry.conn, MOSAIC, path, metadata())
    assert [row.data_id for row in list_data(registry.conn)] == [MOSAIC]


def test_iceberg_17_qa_is_stored_and_decides(registry: Registry) -> None:
    make_mosaic(registry)
    assert get_data(registry.conn, MOSAIC).qa_status == "pending"
    assert not finalize_mosaic(registry.conn, MOSAIC, None, "validated", roots=registry.roots)
    assert get_data(registry.conn, MOSAIC).status == "staging"
    update_qa_status(registry.conn, MOSAIC, qa_status="passed")
    assert finalize_mosaic(registry.conn, MOSAIC, roots=registry.roots)
    row = get_data(registry.conn, MOSAIC)
    assert (row.qa_status, row.status) == ("passed", "published")


@pytest.mark.parametrize("key", MOSAIC_METADATA)
def test_iceberg_18_a_mosaic_without_metadata_is_refused(registry: Registry, key: str) -> None:
    path = naming.mosaic_path(registry.roots.stage, MOSAIC)
    with pytest.raises(PublishError, match=f"lack {key}"):
        register_mosaic_in_data_registry(
            registry.conn, MOSAIC, path, {name: value for name, value in metadata().items() if name != key}
        )
    make_mosaic(registry)
    stored = registry.sql("SELECT metadata_json FROM data_registry")[0][0]
    assert json.loads(stored) == metadata()
    finalize_mosaic(registry.conn, MOSAIC, "passed", "validated", roots=registry.roots)
    assert metadata().items() <= get_data(registry.conn, MOSAIC).details.items(), "publishing keeps them"


def test_iceberg_19_a_failed_publication_says_why_and_can_be_retried(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_mosaic(registry)
    registry.roots.products.write_text("a file stands where the folder should be")
    with caplog.at_level(logging.CRITICAL):
        assert not finalize_mosaic(registry.conn, MOSAIC, "passed", "validated", roots=registry.roots)
    row = get_data(registry.conn, MOSAIC)
    assert (row.status, row.publish_attempts) == ("failed", 1)
    assert "products" in (row.publish_error or "")
    assert path.exists()
    registry.roots.products.unlink()
    assert retry_failed(registry.conn, roots=registry.roots) == {MOSAIC: True}
    assert get_data(registry.conn, MOSAIC).status == "published"


def test_iceberg_20_a_move_loses_nothing_when_the_row_cannot_follow(registry: Registry) -> None:
    path = make_mosaic(registry)
    content = path.read_bytes()
    registry.refuse("UPDATE", "disk full", "NEW.status = 'published'")
    with pytest.raises(PublishError, match="disk full"):
        publish_data_instance(registry.conn, MOSAIC, roots=registry.roots)
    assert path.read_bytes() == content
    assert not list(registry.roots.products.rglob("*.fits"))
    path.unlink()
    with pytest.raises(PublishError, match="does not exist"):
        publish_data_instance(registry.conn, MOSAIC, roots=registry.roots)


def test_iceberg_21_of_many_that_publish_one_does(registry: Registry) -> None:
    path = make_mosaic(registry)
    content, outcomes, barrier = path.read_bytes(), list[bool](), threading.Barrier(6)

    def work() -> None:
        with open_registry() as conn:
            barrier.wait()
            outcomes.append(publish_data_instance(conn, MOSAIC, roots=registry.roots))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 6, "nobody met an error"
    row = get_data(registry.conn, MOSAIC)
    assert (row.status, row.attempt, row.publish_attempts) == ("published", 1, 0)
    assert [p.read_bytes() for p in registry.roots.products.rglob("*") if p.is_file()] == [content]
    with pytest.raises(PublishError, match="registered already"):
        register_data_instance(registry.conn, "mosaic", MOSAIC, registry.roots.stage / "other.fits")


def test_iceberg_22_paths_outside_the_areas_are_refused(registry: Registry) -> None:
    outside = registry.root / "out.fits"
    outside.write_bytes(b"x")
    register_data_instance(registry.conn, "mosaic", "out", outside)
    with pytest.raises(PublishError, match="is not inside"):
        publish_data_instance(registry.conn, "out", roots=registry.roots)
    make_mosaic(registry)
    for folder in (registry.root, registry.roots.stage / "mosaics", registry.roots.products / ".." / "x"):
        with pytest.raises(PublishError, match="is not inside the products area"):
            publish_data_instance(registry.conn, MOSAIC, folder, roots=registry.roots)
    assert outside.exists()


def test_iceberg_23_one_name_everywhere(registry: Registry) -> None:
    path = make_mosaic(registry)
    assert naming.parse_mosaic_id(MOSAIC) == ("2025-11-18T12:00:00", 1)
    assert path.stem == MOSAIC == get_data(registry.conn, MOSAIC).data_id
    with pytest.raises(PublishError, match="its name must begin with the id"):
        register_mosaic_in_data_registry(
            registry.conn, "mosaic_2025-11-18_13-00-00", path.with_name("mosaic_other.fits"), metadata()
        )


def test_iceberg_24_validation_is_stored_and_decides(registry: Registry) -> None:
    make_mosaic(registry, validation_issues=["tile 3 is 7 times noisier than the median"])
    assert not finalize_data(registry.conn, MOSAIC, "passed", "invalid", roots=registry.roots)
    row = get_data(registry.conn, MOSAIC)
    assert (row.validation_status, row.finalization_status, row.status) == ("invalid", "rejected", "staging")
    assert row.details["validation_issues"] == ["tile 3 is 7 times noisier than the median"]
    assert finalize_data(registry.conn, MOSAIC, "passed", "validated", roots=registry.roots)
    assert recover_publishing(registry.conn, roots=registry.roots) == []
