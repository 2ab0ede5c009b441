"""A product's provenance as a W3C PROV-JSON document.

    input, calibration table ◀─used─ making ◀─wasGeneratedBy─ product ◀─used─ publication ─wasAssociatedWith─▶ person
                                        └─wasAssociatedWith─▶ program         product ─wasInvalidatedBy─▶ retraction

The product is also `wasDerivedFrom` each input and each product it was made from; from one that it supersedes with
`prov:type` `prov:Revision`. Names are `dsa110:<kind>/<id or path>`. What is not known has no entry, and no time is
invented: a product without a record has the parts that its row tells.
Standard: PROV-DM and PROV-JSON (W3C, 2013).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from dsa110_contimg.errors import BadInputError

_RECORD = ("activity", "software", "inputs", "calibration_tables", "options", "options_sha256")
PREFIX, NAMESPACE = "dsa110", "urn:dsa110-contimg:"
_PRODUCT_FACTS = ("data_type", "status", "sha256", "size_bytes", "qa_status", "validation_status")

Statements = dict[str, dict[str, dict[str, Any]]]


def prov_document(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the PROV-JSON document of a product, from what `product_report.describe_product` says about it.

    Raises
    ------
    BadInputError
        If the row holds a record that `provenance.record` did not make.
    """
    told = _Document()
    product = told.name("product", description["data_id"])
    told.entity(product, {name: description[name] for name in _PRODUCT_FACTS}, place=_place(description))
    if description["provenance"]:
        _made(told, product, description["provenance"], description)
    _linked(told, description)
    _published(told, product, description)
    _retracted(told, product, description)
    return {"prefix": {PREFIX: NAMESPACE}, **told.statements}


class _Document:
    """Statements by kind; relations are numbered in the order in which they are made."""

    def __init__(self) -> None:
        self.statements: Statements = {}

    @staticmethod
    def name(kind: str, identity: object) -> str:
        return f"{PREFIX}:{kind}/{quote(str(identity), safe='/:+@')}"

    def entity(self, name: str, facts: Mapping[str, object], *, place: object = None) -> None:
        own = {f"{PREFIX}:{key}": value for key, value in facts.items() if value is not None}
        if place is not None:
            own["prov:location"] = str(place)
        self.statements.setdefault("entity", {}).setdefault(name, {}).update(own)

    def activity(self, name: str, facts: Mapping[str, object], started: object = None, ended: object = None) -> None:
        times = {"prov:startTime": _moment(started), "prov:endTime": _moment(ended)}
        own = {f"{PREFIX}:{key}": value for key, value in facts.items() if value is not None}
        self.statements.setdefault("activity", {})[name] = {k: v for k, v in times.items() if v is not None} | own

    def agent(self, name: str, kind: str, facts: Mapping[str, object]) -> None:
        own = {f"{PREFIX}:{key}": value for key, value in facts.items() if value is not None}
        self.statements.setdefault("agent", {})[name] = {"prov:type": _qualified(f"prov:{kind}"), **own}

    def relate(self, relation: str, **parts: object) -> None:
        standing = self.statements.setdefault(relation, {})
        number = sum(map(len, self.statements.values()))
        standing[f"_:{relation}{number}"] = {f"prov:{key}": value for key, value in parts.items() if value is not None}


def _made(told: _Document, product: str, record: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """State what made the product: the program, with its options, from its inputs."""
    missing = [key for key in _RECORD if key not in record]
    if missing:
        raise BadInputError(
            f"the provenance of product {description['data_id']} lacks {', '.join(missing)}: correct its metadata_json"
        )
    making, program = told.name(record["activity"], description["data_id"]), record["software"]
    texts = {key: json.dumps(record[key], sort_keys=True) for key in ("options", "input_options") if key in record}
    facts = {**texts, "options_sha256": record["options_sha256"]}
    told.activity(making, facts, record.get("started_at"), record.get("ended_at"))
    agent = told.name("software", "-".join(str(program[key]) for key in ("name", "version", "commit") if program[key]))
    told.agent(agent, "SoftwareAgent", program)
    told.relate("wasAssociatedWith", activity=making, agent=agent)
    told.relate("wasGeneratedBy", entity=product, activity=making, time=_moment(record.get("ended_at")))
    parents = {link["parent_id"] for link in description["links"]}
    for one in [*record["inputs"], *record["calibration_tables"]]:
        registered = one.get("id") in parents
        source = told.name("product" if registered else "input", one.get("id") or one["path"])
        facts = {key: value for key, value in one.items() if key not in {"id", "path", "role"}}
        told.entity(source, facts, place=one.get("path"))
        told.relate("used", activity=making, entity=source, role=one.get("role"))
        if not registered:
            told.relate("wasDerivedFrom", generatedEntity=product, usedEntity=source, activity=making)


def _linked(told: _Document, description: Mapping[str, Any]) -> None:
    """State the products from which this one or others were made, and those that supersede each other."""
    for link in description["links"]:
        older, newer = (told.name("product", link[end]) for end in ("parent_id", "child_id"))
        told.entity(older, {})
        told.entity(newer, {})
        revision = _qualified("prov:Revision") if link["relationship_type"] == "supersedes" else None
        told.relate("wasDerivedFrom", generatedEntity=newer, usedEntity=older, type=revision)


def _published(told: _Document, product: str, description: Mapping[str, Any]) -> None:
    if description["published_at"] is None:
        return
    signed = description["publish"] or {}
    act = told.name("publication", description["data_id"])
    facts = {"mode": description["publish_mode"], "reason": signed.get("reason"), "automatic": signed.get("automatic")}
    told.activity(act, facts, ended=description["published_at"])
    told.relate("used", activity=act, entity=product)
    _signed(told, act, signed)


def _retracted(told: _Document, product: str, description: Mapping[str, Any]) -> None:
    if description["retracted_at"] is None:
        return
    act = told.name("retraction", description["data_id"])
    told.activity(act, {"reason": description["retract_reason"]}, ended=description["retracted_at"])
    told.relate("wasInvalidatedBy", entity=product, activity=act, time=_moment(description["retracted_at"]))
    _signed(told, act, description["retract"] or {})


def _signed(told: _Document, act: str, signed: Mapping[str, Any]) -> None:
    if signed.get("by"):
        person = told.name("person", signed["by"])
        told.agent(person, "Person", {})
        told.relate("wasAssociatedWith", activity=act, agent=person)


def _place(description: Mapping[str, Any]) -> object:
    return description["published_path"] or description["stage_path"]


def _qualified(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}


def _moment(unix: object) -> str | None:
    """Return a unix time as ISO 8601; None stays unknown."""
    return datetime.fromtimestamp(float(unix), tz=UTC).isoformat() if isinstance(unix, int | float) else None
