"""When a product is published, by itself or on a person's word, and what is said about it."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import or_

from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.criteria import (
    AUTO_CRITERIA,
    MAX_ATTEMPTS,
    Criterion,
    due,
    may_be_retried,
    objection,
    publish_blockers,
    publish_criteria,
)
from dsa110_contimg.database.data_registration import (
    finalize_data,
    publish_data_instance,
    set_photometry_status,
    update_qa_status,
)
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.product_entries import link_data, register_data_instance, tag_data
from dsa110_contimg.database.product_page import product_page
from dsa110_contimg.database.product_report import describe_product, next_step
from dsa110_contimg.database.registry_rows import (
    ProductRow,
    ensure_data_registry_db,
    find_rows,
    get_data,
    list_data,
)
from dsa110_contimg.database.repositories import QARepository
from dsa110_contimg.errors import PublishError, UnknownProductError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

NOW = 1_800_000_000.0
GONE = "nowhere:1:1"
CHECKS = [
    ("flux_ratio", 1.12, 0.1, 0.2, "warning", "1.12 is the median flux ratio of 33 isolated sources"),
    ("dynamic_range", 310.0, None, 50.0, "passed", "the peak is 310 times the noise"),
    ("completeness", None, 0.9, 0.7, "unmeasured", "no reference catalogue covers the mosaic"),
    ("tile_noise_ratio", 1.3, None, 3.0, "passed", "the noisiest tile has 1.30 times the median noise"),
]


def measure(subject: str, **changed: float) -> None:
    """Store checks of a product in the configured products database."""
    names = ("name", "value", "threshold_warning", "threshold_failure", "verdict", "reason")
    rows = [dict(zip(names, check, strict=True)) | {"subject": subject, "measured_at": NOW} for check in CHECKS]
    with get_session("products") as session:
        QARepository.store(session, [row | {"value": changed.get(str(row["name"]), row["value"])} for row in rows])


def judged(registry: Registry, qa: str, validation: str = "validated", data_id: str = "m1") -> Path:
    source = registry.add(data_id)
    finalize_data(registry.conn, data_id, qa, validation, roots=registry.roots)
    return source


def disk(registry: Registry) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in registry.root.rglob("*") if path.suffix in {".fits", ".partial"}}


def row_of(registry: Registry, **columns: object) -> ProductRow:
    """Return the row of a product that is ready but for some columns."""
    ready = {"qa_status": "passed", "validation_status": "validated", "finalization_status": "finalized"}
    return replace(get_data(registry.conn, "m1"), **{**ready, **columns})  # type: ignore[arg-type]


def test_the_six_in_the_order_of_the_specification(registry_file: Registry) -> None:
    registry_file.add()
    assert publish_criteria(row_of(registry_file)) == [
        Criterion("status", "staging", "staging", True),
        Criterion("auto_publish_enabled", 1, 1, True),
        Criterion("qa_status", "passed", "passed", True),
        Criterion("validation_status", "validated", "validated", True),
        Criterion("finalization_status", "finalized", "finalized", True),
        Criterion("photometry_status", None, "completed", True),
    ]
    unjudged = row_of(registry_file, qa_status=None, validation_status=None, finalization_status=None)
    assert [one.value for one in publish_criteria(unjudged)[2:5]] == ["pending"] * 3
    assert publish_blockers(row_of(registry_file, auto_publish_enabled=None)) == ["auto-publish is off"]


def test_what_is_due_agrees_with_what_people_are_told(registry: Registry) -> None:
    registry.add()
    values = itertools.product(
        ("staging", "validated", "failed", "published"),
        ("passed", "warning"),
        (1, 0),
        (None, "failed"),
        (MAX_ATTEMPTS - 1, MAX_ATTEMPTS),
        (None, NOW, NOW + 1),
    )
    tried = 0
    registry.sql("UPDATE data_registry SET validation_status = 'validated', finalization_status = 'finalized'")
    for status, qa, auto, photometry, attempts, retry_at in values:
        registry.sql(
            "UPDATE data_registry SET status=?, qa_status=?, auto_publish_enabled=?, photometry_status=?,"
            " publish_attempts=?, retry_at=?",
            *(status, qa, auto, photometry, attempts, retry_at),
        )
        row = get_data(registry.conn, "m1")
        found = find_rows(registry.conn, or_(AUTO_CRITERIA, due(NOW)))
        chosen = [one for one in found if one.status == "staging" or may_be_retried(one)]
        gates = qa == "passed" and auto == 1 and photometry != "failed"
        time_has_come = attempts < MAX_ATTEMPTS and (retry_at is None or retry_at <= NOW)
        expected = gates and (status == "staging" or (status == "failed" and time_has_come))
        assert bool(chosen) == expected, row
        if status in {"staging", "failed"}:
            by_itself = "contimg run" in next_step(row, NOW)
            assert by_itself == expected, next_step(row, NOW)
        tried += expected
    # In staging with every count and time, failed with one count and two times.
    assert tried == 2 * 3 + 2


@pytest.mark.parametrize(
    ("qa", "validation", "sentence"),
    [
        ("warning", "validated", "its QA is 'warning'"),
        ("failed", "validated", "its QA is 'failed'"),
        ("passed", "invalid", "its validation is 'invalid'"),
    ],
)
def test_against_an_objection_a_person_signs(registry: Registry, qa: str, validation: str, sentence: str) -> None:
    source = judged(registry, qa, validation)
    content = source.read_bytes()
    before, files = get_data(registry.conn, "m1"), disk(registry)
    assert objection(before) == sentence
    for signature in (
        {},
        {"by": "ana"},
        {"reason": "looked at it"},
        {"by": " ", "reason": "x"},
        {"by": "a", "reason": ""},
    ):
        with pytest.raises(PublishError, match=rf"m1 is not published because {sentence}: say who wants it and why"):
            publish_data_instance(registry.conn, "m1", roots=registry.roots, **signature)
        assert (get_data(registry.conn, "m1"), disk(registry)) == (before, files)
    start = time.time()
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots, by="ana", reason="looked at it")
    row = get_data(registry.conn, "m1")
    assert Path(row.published_path or "").read_bytes() == content
    kept = {"by": "ana", "reason": "looked at it", "despite": sentence, "automatic": False}
    assert kept.items() <= row.noted.items()
    assert start <= float(str(row.noted["asked_at"])) <= time.time()


def test_a_rejected_product_needs_a_signature_though_it_was_judged_anew(registry: Registry) -> None:
    judged(registry, "failed")
    update_qa_status(registry.conn, "m1", "passed")
    with pytest.raises(PublishError, match="because it was rejected"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots)


def test_a_signature_holds_for_another_attempt_until_the_judgment_changes(registry: Registry) -> None:
    source = judged(registry, "warning")
    content = source.read_bytes()
    source.unlink()
    with pytest.raises(PublishError, match="does not exist"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots, by="ana", reason="calibrator field")
    assert may_be_retried(get_data(registry.conn, "m1"))
    source.write_bytes(content)
    update_qa_status(registry.conn, "m1", "failed")
    assert not may_be_retried(get_data(registry.conn, "m1"))
    with pytest.raises(PublishError, match="its QA is 'failed': say who"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots)
    update_qa_status(registry.conn, "m1", "warning")
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots)
    noted = get_data(registry.conn, "m1").noted
    assert (noted["by"], noted["reason"]) == ("ana", "calibrator field")


def test_what_meets_the_gates_needs_no_signature(registry: Registry) -> None:
    registry.add()
    registry.sql("UPDATE data_registry SET auto_publish_enabled = 0")
    finalize_data(registry.conn, "m1", "passed", "validated", roots=registry.roots)
    assert objection(get_data(registry.conn, "m1")) is None
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots)


def test_each_verdict_stands_beside_its_figures(registry: Registry) -> None:
    registry.add()
    judged(registry, "warning", data_id="m2")
    measure("m1")
    measure("m2", flux_ratio=1.15)
    update_qa_status(registry.conn, "m1", "warning", "validated")
    told = describe_product(registry.conn, "m1", now=NOW)
    assert json.loads(json.dumps(told)) == told
    criteria = {str(one["name"]): one for one in criteria_of(told)}
    assert list(criteria) == [one.name for one in publish_criteria(get_data(registry.conn, "m1"))]
    assert {figure["name"]: figure["value"] for figure in criteria["qa_status"]["figures"]} == {
        "flux_ratio": 1.12,
        "dynamic_range": 310.0,
        "completeness": None,
    }
    (tiles,) = criteria["validation_status"]["figures"]
    assert tiles == {
        "name": "tile_noise_ratio",
        "value": 1.3,
        "threshold_warning": None,
        "threshold_failure": 3.0,
        "verdict": "passed",
        "reason": "the noisiest tile has 1.30 times the median noise",
        "measured_at": NOW,
    }
    assert (criteria["qa_status"]["value"], criteria["qa_status"]["holds"]) == ("warning", False)
    assert told["blockers"] == ["QA is 'warning', not 'passed'", "finalization is 'pending', not 'finalized'"]
    assert told["objection"] == "its QA is 'warning'"


def criteria_of(told: dict[str, Any]) -> list[dict[str, Any]]:
    return list(told["criteria"])


def test_a_verdict_without_figures_says_so(registry: Registry) -> None:
    registry.add()
    registry.sql(
        "UPDATE data_registry SET metadata_json = ?", json.dumps({"validation_issues": ["tile 3 is noisy", "gap"]})
    )
    criteria = {one["name"]: one for one in criteria_of(describe_product(registry.conn, "m1"))}
    assert criteria["qa_status"]["remark"] == "no figures: nothing was measured on m1"
    assert criteria["validation_status"]["remark"] == "tile 3 is noisy; gap"
    assert criteria["photometry_status"]["remark"] == "not asked for"


def test_figures_come_from_the_installation_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, ratio in (("one", 1.01), ("two", 1.02)):
        monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path / name))
        reset_engines()
        init_databases()
        measure("m1", flux_ratio=ratio)
    for name, ratio in (("one", 1.01), ("two", 1.02)):
        with closing(ensure_data_registry_db(tmp_path / name / "state" / "data_registry.sqlite3")) as conn:
            register_data_instance(conn, "mosaic", "m1", tmp_path / "m1.fits")
            figures = criteria_of(describe_product(conn, "m1"))[2]["figures"]
        assert [figure["value"] for figure in figures if figure["name"] == "flux_ratio"] == [ratio]
    with closing(ensure_data_registry_db(tmp_path / "three" / "data_registry.sqlite3")) as conn:
        register_data_instance(conn, "mosaic", "m1", tmp_path / "m1.fits")
        missing = criteria_of(describe_product(conn, "m1"))[2]
        assert (missing["figures"], missing["remark"]) == (
            [],
            f"no figures: there is no products database {tmp_path / 'three' / 'products.sqlite3'}",
        )
        (tmp_path / "three" / "products.sqlite3").write_bytes(b"no database" * 1000)
        assert "is not a SQLite database" in criteria_of(describe_product(conn, "m1"))[2]["remark"]
    reset_engines()


def test_who_asked_links_tags_and_provenance_are_told(registry: Registry) -> None:
    judged(registry, "warning")
    registry.add("m2")
    registry.sql(
        "UPDATE data_registry SET metadata_json = ? WHERE data_id = 'm1'", json.dumps({"provenance": {"a": 1}, "n": 2})
    )
    link_data(registry.conn, "m1", "m2", "supersedes")
    tag_data(registry.conn, "m1", "paper1")
    publish_data_instance(registry.conn, "m1", roots=registry.roots, by="ana", reason="calibrator field")
    told = describe_product(registry.conn, "m1")
    assert told["links"] == [{"parent_id": "m1", "child_id": "m2", "relationship_type": "supersedes"}]
    assert (told["tags"], told["provenance"], told["metadata"]) == (["paper1"], {"a": 1}, {"n": 2})
    assert told["publish"]["by"] == "ana"  # type: ignore[index]
    assert (told["blockers"], told["next_step"], told["retract"]) == ([], "nothing", None)
    assert told["published_path"] == str(registry.roots.products / "mosaics" / "m1.fits")
    assert "metadata_json" not in told
    with pytest.raises(UnknownProductError, match="no product 'm9'"):
        describe_product(registry.conn, "m9")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, "the next `contimg run` publishes it, or `contimg registry publish m1`"),
        ({"qa_status": "pending"}, "it waits: QA is 'pending', not 'passed'"),
        ({"photometry_status": "running"}, "it waits: photometry is 'running', not 'completed'"),
        ({"auto_publish_enabled": 0, "status": "validated"}, "a person publishes it: `contimg registry publish m1`"),
        ({"qa_status": "warning"}, "its QA is 'warning': look at the figures, then `contimg registry publish m1 --by"),
        (
            {"status": "failed", "retry_at": NOW + 60},
            "it is tried again by itself after 2027-01-15 08:01:00 UTC, or now",
        ),
        ({"status": "failed", "retry_at": NOW}, "the next `contimg run` tries again"),
        ({"status": "failed", "publish_attempts": 3}, "it is not tried again by itself: mend what publish_error says"),
        ({"status": "failed", "photometry_status": "failed"}, "it is not tried again by itself"),
        ({"status": "publishing", "owner": GONE, "lease_expires_at": NOW - 1}, "a process stopped in the middle"),
        ({"status": "publishing", "owner": GONE, "lease_expires_at": NOW + 1}, f"wait: {GONE} works on it"),
        ({"status": "publishing", "owner": this_process(), "lease_expires_at": NOW + 1}, "wait: "),
        ({"status": "published", "owner": GONE, "lease_expires_at": None}, "a process stopped in the middle"),
        ({"status": "published", "superseded_by": "m2"}, "use m2, which replaces it"),
        ({"status": "published"}, "nothing"),
        ({"status": "retracted"}, "nothing: what is made anew is registered under a new id"),
    ],
)
def test_what_to_do_next(registry_file: Registry, columns: dict[str, object], sentence: str) -> None:
    registry_file.add()
    assert next_step(row_of(registry_file, **columns), NOW).startswith(sentence)


def test_the_page_marks_what_holds_and_shows_the_figures(registry: Registry) -> None:
    judged(registry, "warning")
    measure("m1")
    told = describe_product(registry.conn, "m1")
    lines = [line.plain for line in product_page(told)]
    assert lines[0] == "m1: staging mosaic"
    marks = [line[13:].split()[:2] for line in lines if "[x] " in line]
    assert [mark[1] for mark in marks] == ["status", "auto-publish", "validation", "finalization", "photometry"]
    (open_line,) = [line for line in lines if "[ ] " in line]
    assert open_line.split() == ["[", "]", "QA", "warning"]
    (ratio,) = [line for line in lines if "flux_ratio" in line]
    for part in ("1.12", "warning", "warns at 0.1, fails at 0.2", "33 isolated sources"):
        assert part in ratio
    assert lines.index(ratio) > lines.index(open_line)
    source = Path(get_data(registry.conn, "m1").stage_path)
    source.unlink()
    with pytest.raises(PublishError):
        publish_data_instance(registry.conn, "m1", roots=registry.roots, by="ana", reason="calibrator field")
    page = "\n".join(line.plain for line in product_page(describe_product(registry.conn, "m1")))
    for part in (
        "1 failed",
        "does not exist",
        "again by itself after",
        "publication: ana",
        "although its QA is 'warning'",
    ):
        assert part in page, page


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_damaged_metadata_are_named(registry: Registry, text: str) -> None:
    source = registry.add()
    registry.add("m2")
    registry.sql("UPDATE data_registry SET metadata_json = ? WHERE data_id = 'm1'", text)
    with pytest.raises(
        PublishError, match=r"the metadata_json of product m1 is no JSON.*: correct it in data_registry"
    ):
        describe_product(registry.conn, "m1")
    assert [row.data_id for row in list_data(registry.conn)] == ["m1", "m2"]
    assert source.exists()


def test_photometry_blocks_until_it_has_ended(registry: Registry) -> None:
    registry.add()
    for status in ("pending", "running", "failed"):
        set_photometry_status(registry.conn, "m1", status, "photometry:m1")
        assert not finalize_data(registry.conn, "m1", "passed", "validated", roots=registry.roots)
        criterion = criteria_of(describe_product(registry.conn, "m1"))[5]
        assert (criterion["value"], criterion["holds"], criterion["remark"]) == (status, False, "photometry:m1")
    set_photometry_status(registry.conn, "m1", "completed")
    assert finalize_data(registry.conn, "m1", "passed", "validated", roots=registry.roots)
