"""The provenance document, read back by the `prov` package, against the chain of products that was put in."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prov import model
from tests.api.conftest import Add

from dsa110_contimg import provenance
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.prov_json import prov_document

Document = model.ProvDocument
Read = Callable[[str], Document]


@pytest.fixture
def read(client: TestClient) -> Read:
    """Ask for a product's document and read it as somebody else's program does."""

    def ask(data_id: str) -> Document:
        answer = client.get(f"/api/v1/data-registry/{data_id}/provenance")
        assert answer.status_code == 200, answer.text
        return Document.deserialize(content=answer.text, format="json")

    return ask


def ends(document: Document, kind: type[Any]) -> list[tuple[str, ...]]:
    """Return the ends of each relation of a kind, without the prefix."""
    told = [tuple(str(value).removeprefix("dsa110:") for value in one.args[:2]) for one in document.get_records(kind)]
    return sorted(told)


def facts(document: Document, name: str) -> dict[str, object]:
    """Return what a document states about one thing."""
    (thing,) = document.get_record(f"dsa110:{name}")
    return {str(key): value for key, value in thing.attributes}


def test_the_graph_of_a_published_product(add: Add, read: Read, installation: Path) -> None:
    add("m1", published=True)
    document = read("m1")
    inputs = [f"input/m1-tile{n}.fits" for n in range(3)] + ["input/tile_bpcal"]
    assert ends(document, model.ProvGeneration) == [("product/m1", "mosaic/m1")]
    assert ends(document, model.ProvUsage) == sorted(
        [("mosaic/m1", name) for name in inputs] + [("publication/m1", "product/m1")]
    )
    assert ends(document, model.ProvDerivation) == sorted(("product/m1", name) for name in inputs)
    program = "-".join(str(provenance.software()[key]) for key in ("name", "version", "commit"))
    assert ends(document, model.ProvAssociation) == [
        ("mosaic/m1", f"software/{program}"),
        ("publication/m1", "person/ada"),
    ]
    product = facts(document, "product/m1")
    assert product["prov:location"] == str(installation / "products" / "mosaics" / "m1.fits")
    assert facts(document, "input/m1-tile2.fits")["dsa110:sha256"] == f"{2:064x}"
    making = facts(document, "mosaic/m1")
    assert making["prov:startTime"] == datetime.fromtimestamp(1.75e9, tz=UTC)
    assert "mosaic" in json.loads(str(making["dsa110:options"]))


def test_a_product_in_staging_was_not_published_and_nobody_is_named(add: Add, read: Read) -> None:
    add("m1")
    document = read("m1")
    assert not list(document.get_record("dsa110:publication/m1"))
    assert [end for end in ends(document, model.ProvAssociation) if end[1].startswith("person")] == []


def test_versions_and_what_a_product_was_made_from(add: Add, read: Read) -> None:
    add("tile", data_type="image")
    add("m1", derived_from=["tile"])
    add("m2", supersedes="m1")
    document = read("m1")
    own = [end for end in ends(document, model.ProvDerivation) if end[1].startswith("product/")]
    assert own == [("product/m1", "product/tile"), ("product/m2", "product/m1")]
    revisions = {
        str(one.args[0]): [str(value) for key, value in one.attributes if str(key) == "prov:type"]
        for one in document.get_records(model.ProvDerivation)
        if str(one.args[1]).startswith("dsa110:product/")
    }
    assert revisions == {"dsa110:product/m1": [], "dsa110:product/m2": ["prov:Revision"]}


def test_an_input_that_is_a_registered_product_is_that_product(read: Read, installation: Path) -> None:
    record = provenance.record(activity="mosaic", inputs=[{"id": "tile", "role": "tile"}], options=ImagingOptions())
    with closing(ensure_data_registry_db(installation / "state" / "data_registry.sqlite3")) as conn:
        register_data_instance(conn, "image", "tile", installation / "stage" / "images" / "tile.fits")
        path = installation / "stage" / "mosaics" / "m1.fits"
        register_data_instance(conn, "mosaic", "m1", path, True, {"provenance": record}, derived_from=["tile"])
    document = read("m1")
    assert ends(document, model.ProvUsage) == [("mosaic/m1", "product/tile")]
    assert ends(document, model.ProvDerivation) == [("product/m1", "product/tile")]


def test_a_retraction_invalidates(add: Add, read: Read, installation: Path) -> None:
    add("m1", published=True)
    with closing(ensure_data_registry_db(installation / "state" / "data_registry.sqlite3")) as conn:
        tombstone = retract(conn, "m1", reason="a wrong calibrator", by="grace")
    document = read("m1")
    assert ends(document, model.ProvInvalidation) == [("product/m1", "retraction/m1")]
    assert ("retraction/m1", "person/grace") in ends(document, model.ProvAssociation)
    assert facts(document, "retraction/m1")["dsa110:reason"] == "a wrong calibrator"
    assert facts(document, "product/m1")["prov:location"] == str(tombstone)


def test_a_product_without_a_record_tells_what_its_row_does_and_no_more(read: Read, installation: Path) -> None:
    with closing(ensure_data_registry_db(installation / "state" / "data_registry.sqlite3")) as conn:
        register_data_instance(conn, "image", "i1", installation / "stage" / "images" / "i1.fits")
    document = read("i1")
    assert [str(one.identifier) for one in document.get_records()] == ["dsa110:product/i1"]


def test_names_with_any_character_survive() -> None:
    name = 'a b/c:d#ü"{}'
    record = provenance.record(activity="image", inputs=[{"path": name}], options=ImagingOptions())
    columns = ("data_type", "status", "sha256", "size_bytes", "qa_status", "validation_status", "published_path",
               "published_at", "retracted_at", "publish", "retract")  # fmt: skip
    description = dict.fromkeys(columns) | {"data_id": "x", "stage_path": name, "provenance": record, "links": []}
    document = Document.deserialize(content=json.dumps(prov_document(description)), format="json")
    (used,) = document.get_records(model.ProvUsage)
    (entity,) = document.get_record(str(used.args[1]))
    assert {str(key): value for key, value in entity.attributes}["prov:location"] == name
